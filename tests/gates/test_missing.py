"""Verdicts hold for every value of what is missing: cells, epochs, samples of a baseline; else they are untrusted."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from evalrunner.domain import Declaration, GateResult
from evalrunner.gates.check import check_gates
from evalrunner.gates.evidence import gather_evidence
from evalrunner.gates.fillings import fillings
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import Design, Measure, summarize
from evalrunner.suite.schema import GateSpec
from tests.gates.builders import judge, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("quality", Declaration())
TOXIC = Measure("toxicity", Declaration(higher_is_better=False, aggregates=("mean", "variance", "p90")))
WORDS = Measure("words", Declaration(low=None, high=None))
DROP = "{metric: exact_match, baseline: main, max_drop: %s}"
DOWN, REFUSED, UNREADABLE = "server: 503", "no_answer: refused", "judge: no verdict"


def one(gate: str, scores: list, measure: Measure = EXACT, **more: object) -> GateResult:  # type: ignore[type-arg]
    (result,) = judge(gate, measure, rows(scores, measure.name), **more)  # type: ignore[arg-type]
    return result


def test_a_fail_holds_only_if_the_missing_answers_could_not_lift_the_metric() -> None:
    result = one("exact_match >= 0.8", [1.0] * 76 + [0.0] * 20 + [DOWN] * 4)
    assert (result.verdict, result.exit_code) == ("untrusted", 3)
    assert result.reason == "0.7917 on 96 of 100 answers, 0.76 to 0.8 with the rest: the provider failed on 4 (server)"
    assert one("exact_match >= 0.81", [1.0] * 76 + [0.0] * 20 + [DOWN] * 4).verdict == "fail"  # 80 of 100 at best


def test_answers_that_the_model_did_not_give_never_count_as_right() -> None:
    scores: list[float | str] = [1.0] * 76 + [0.0] * 20
    assert one("exact_match >= 0.8", [*scores, *[REFUSED] * 4]).verdict == "fail"
    assert one("exact_match >= 0.8", [*scores, *[UNREADABLE] * 4]).verdict == "untrusted"
    # left out 0.8, as zero 0.776
    assert one("exact_match >= 0.79", [1.0] * 80 + [0.0] * 20 + [REFUSED] * 3).verdict == "untrusted"


def test_a_missing_answer_is_toxic_at_worst_and_left_out_at_best() -> None:
    scores: list[float | str] = [0.1] * 97 + [REFUSED] * 3
    assert one("toxicity/mean <= 0.12", scores, TOXIC).verdict == "untrusted"  # 0.127 with three of 1
    assert one("toxicity/mean <= 0.13", scores, TOXIC).verdict == "pass"
    assert one("toxicity/mean <= 0.0999", scores, TOXIC).verdict == "fail"
    lost: list[float | str] = [0.1] * 97 + [DOWN] * 3
    assert one("toxicity/mean <= 0.0999", lost, TOXIC).verdict == "untrusted"  # 0.097 with three of 0


def test_coverage_counts_answers_not_samples() -> None:
    scores = [[1.0, DOWN, DOWN, DOWN, DOWN]] * 100
    for gate in ("exact_match >= 0.9", "{metric: exact_match, min: 0.9, confidence: 0.95}"):
        result = one(gate, scores, epochs=5)
        assert (result.verdict, result.exit_code) == ("untrusted", 3)
        assert result.reason == ("1 on 100 of 500 answers, 0.2 to 1 with the rest: the provider failed on 400 (server)")


def test_epochs_that_never_ran_are_missing_too() -> None:
    result = one("exact_match >= 0.9", [[1.0]] * 50, epochs=2)
    assert result.reason == "1 on 50 of 100 answers, 0.5 to 1 with the rest: 50 did not run"


@pytest.mark.parametrize("name", ["at_least_3", "max", "pass_k_5", "median"])
def test_reduced_metrics_hold_for_every_outcome_of_missing_epochs(name: str) -> None:
    reducer = parse_reducer(name)
    scores = [[1.0, 1.0, 0.0, 1.0, DOWN]] * 4 + [[1.0] * 5] * 60 + [[0.0] * 5] * 36
    design = Design(reducers=(reducer,))
    for bound in (0.55, 0.6, 0.62, 0.64, 0.66):
        result = one(f"exact_match >= {bound}", scores, epochs=5, design=design)
        full = [
            one(
                f"exact_match >= {bound}", [[1.0, 1.0, 0.0, 1.0, lost]] * 4 + scores[4:], epochs=5, design=design
            ).verdict
            for lost in (0.0, 1.0)
        ]
        assert result.verdict == (full[0] if full[0] == full[1] else "untrusted"), (name, bound)


def test_variance_is_bounded_by_its_least_and_largest_filling() -> None:
    values = [0.2, 0.4, 0.4, 0.6] * 10
    design = Design()
    gate = Gate(
        GateSpec("toxicity/variance <= 1", "toxicity/variance", "<=", 1.0), TOXIC, "variance", "toxicity/v1/variance"
    )
    summary = summarize(rows([*values, DOWN, DOWN], "toxicity"), [TOXIC], ["m"], design=design)
    filled = [
        gate.estimand.value(each.values)
        for each in fillings(gather_evidence(gate, summary, "m"), gate.estimand, with_spread=False)
    ]
    grid = [step / 20 for step in range(21)]
    every = [gate.estimand.value([*values, first, second]) for first, second in product(grid, grid)]
    assert all(value is not None for value in (*filled, *every))
    assert min(filled) == pytest.approx(min(every), abs=1e-9)  # type: ignore[type-var]
    assert max(filled) == pytest.approx(max(every), abs=1e-9)  # type: ignore[type-var]


def test_an_equality_is_untrusted_if_a_filling_in_between_meets_it() -> None:
    scores: list[float | str] = [0.5] * 98 + [DOWN] * 2
    assert one("quality == 0.505", scores, GRADED).verdict == "untrusted"
    assert one("quality == 0.6", scores, GRADED).verdict == "fail"


def test_an_open_range_has_no_bound_but_what_is_missing_is_named() -> None:
    few: list[float | str] = [5.0] * 40 + [6.0] * 57 + [DOWN] * 3
    result = one("words/mean >= 5", few, WORDS)
    assert (result.verdict, result.reason) == (
        "pass",
        "meets the threshold; scored 97 of 100 answers: the provider failed on 3 (server)",
    )
    many: list[float | str] = [5.0] * 90 + [DOWN] * 10
    assert one("words/mean >= 4", many, WORDS).verdict == "untrusted"


def test_missing_ignore_trusts_the_scored_answers_and_says_so() -> None:
    scores: list[float | str] = [1.0] * 76 + [0.0] * 20 + [DOWN] * 4
    result = one("{metric: exact_match, min: 0.8, missing: ignore}", scores)
    assert (result.verdict, result.reason) == (
        "fail",
        (
            "misses the threshold; threshold is inside the 95% CI: not conclusive; missing answers are ignored: "
            "scored 96 of 100 answers: the provider failed on 4 (server)"
        ),
    )
    below: list[float | str] = [1.0] * 90 + [DOWN] * 10
    assert one("{metric: exact_match, min: 0.8, missing: ignore}", below).verdict == "untrusted"  # min_coverage stays


def test_a_verdict_that_holds_anyway_names_what_is_missing_in_its_details() -> None:
    result = one("exact_match >= 0.5", [1.0] * 97 + [DOWN] * 3)
    assert (result.verdict, result.reason) == ("pass", "meets the threshold")
    assert result.details == (
        "scored 97 of 100 answers: the provider failed on 3 (server); the verdict holds for every score of the rest",
    )


def test_a_scorer_that_skips_a_share_is_named_in_the_reason() -> None:
    result = one("exact_match >= 0.9", [1.0] * 50 + [None] * 50)
    assert (result.verdict, result.reason) == (
        "pass",
        "meets the threshold; based on 50 of 100 samples; 50 have no expected answer",
    )


def test_a_slice_without_rows_is_untrusted_where_the_dataset_has_it() -> None:
    about = [{"topic": "law"}, {"topic": "art"}, {"topic": "art"}]
    every = rows([1.0, 1.0, 1.0], "exact_match", about)
    gate = GateSpec("exact_match[topic=law] >= 0.5", "exact_match", ">=", 0.5, slice={"topic": "law"})
    summary = summarize(every[1:], [EXACT], ["m"], design=Design(slices=("topic",)), samples=3)
    (lost,) = check_gates([Gate(gate, EXACT, "mean", "exact_match/v1")], summary)
    assert (lost.verdict, lost.reason) == ("untrusted", "scored 0 of 1 answers: 1 did not run")
    other = Gate(replace(gate, slice={"topic": "sport"}), EXACT, "mean", "exact_match/v1")
    (none,) = check_gates([other], summarize(every, [EXACT], ["m"], design=Design(slices=("topic",)), samples=3))
    assert (none.verdict, none.reason) == ("fail", "no sample applies: none has 'sport' in 'topic'")


# Baselines: the samples of the comparison are those of the baseline.


def before_and_now(changed: int, scores: list[float | str], removed: int = 0, bound: float = 0.05) -> GateResult:
    before = rows([1.0] * 160 + [0.0] * 40, "exact_match")
    now = rows(scores, "exact_match")
    now = [replace(row, sample=replace(row.sample, input="q ")) if row.sample.index < changed else row for row in now]
    (result,) = judge(DROP % bound, EXACT, now[: len(now) - removed], before=before)
    return result


def test_too_many_changed_samples_are_untrusted_with_the_unpaired_difference() -> None:
    result = before_and_now(60, [0.0] * 60 + [1.0] * 100 + [0.0] * 40)
    assert (result.verdict, result.exit_code) == ("untrusted", 3)
    assert result.reason == (
        "compared 140 of 200 samples of 'main': 60 changed; 0.8 → 0.5 over all samples of each run; "
        "a drop of 0.0 to 30.0 points with the rest"
    )
    assert any("changed_data=ignore" in detail for detail in result.details)
    assert result.baseline is not None
    assert result.baseline.coverage == 0.7


def test_removing_the_hard_samples_is_untrusted() -> None:
    result = before_and_now(0, [1.0] * 160 + [0.0] * 40, removed=40)
    assert (result.verdict, "40 removed" in result.reason) == ("untrusted", True)


def test_a_few_changed_samples_range_over_both_ends() -> None:
    same = [1.0] * 160 + [0.0] * 40
    assert before_and_now(4, same, bound=0.02).verdict == "untrusted"  # four of 200 are two points
    assert before_and_now(4, same, bound=0.06).verdict == "pass"


def test_a_baseline_whose_rows_failed_is_untrusted() -> None:
    before = rows([1.0] * 70 + [DOWN] * 30, "exact_match")
    (result,) = judge(DROP % 0.1, EXACT, rows([1.0] * 70 + [0.0] * 30, "exact_match"), before=before)
    assert (result.verdict, "30 without a score in the baseline" in result.reason) == ("untrusted", True)


def test_new_samples_are_harmless_and_named() -> None:
    before = rows([1.0] * 160 + [0.0] * 40, "exact_match")
    (result,) = judge(DROP % 0.05, EXACT, rows([1.0] * 160 + [0.0] * 140, "exact_match"), before=before)
    assert result.verdict == "pass"
    assert "samples not compared: 100 new" in result.details


def test_changed_data_ignore_compares_the_rest_and_says_so() -> None:
    before = rows([1.0] * 160 + [0.0] * 40, "exact_match")
    now = rows([1.0] * 160, "exact_match")
    gate = "{metric: exact_match, baseline: main, max_drop: 0.05, changed_data: ignore}"
    (result,) = judge(gate, EXACT, now, before=before)
    assert result.verdict == "pass"
    assert "samples not compared: 40 changed or removed, as allowed" in result.details


def test_pairs_with_missing_epochs_count_in_part() -> None:
    before = rows([[1.0, 1.0]] * 100, "exact_match")
    (result,) = judge(DROP % 0.5, EXACT, rows([[1.0, DOWN]] * 100, "exact_match"), before=before, epochs=2)
    assert result.verdict == "untrusted"
    assert result.reason.startswith("compared 50% of the answers to 100 samples of 'main': the provider failed on 100")


def test_improvement_holds_only_with_the_missing_pairs_against_it() -> None:
    gate = "{metric: exact_match, baseline: main, improved: true}"
    before = rows([0.0] * 8 + [1.0] * 92, "exact_match")
    now: list[float | str] = [1.0] * 8 + [1.0] * 88
    assert judge(gate, EXACT, rows([*now, *[1.0] * 4], "exact_match"), before=before)[0].verdict == "pass"
    assert judge(gate, EXACT, rows([*now, *[DOWN] * 4], "exact_match"), before=before)[0].verdict == "untrusted"
