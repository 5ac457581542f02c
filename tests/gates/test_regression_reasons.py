"""What a gate on a baseline says: the change, what is missing, the first baseline, and how many samples would decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, metric_key
from evalrunner.domain import Declaration, GateResult
from evalrunner.gates.evidence import gather_evidence
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.regression import origin_drop
from evalrunner.stats.hypothesis_tests import non_inferiority
from evalrunner.stats.summary import Design, Measure, summarize
from evalrunner.suite.schema import GateSpec
from tests.gates.builders import judge, provenance_of, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADE = Measure("grade", Declaration(low=0.0, high=10.0, unit="grades"))
DOWN, REFUSED = "server: 503", "no_answer: refused"
DROP = "{metric: exact_match, baseline: main, max_drop: %s}"
BETTER = "{metric: exact_match, baseline: main, improved: true}"
Score = float | str | None


def compare(
    before: Sequence[Score], now: Sequence[Score], gate: str = DROP % 0.05, measure: Measure = EXACT
) -> GateResult:
    (result,) = judge(gate, measure, rows(now, measure.name), before=rows(before, measure.name))
    return result


def ones(count: int, n: int = 100) -> list[Score]:
    return [1.0] * count + [0.0] * (n - count)


@pytest.mark.parametrize(
    ("worse", "better", "gate", "reason"),
    [
        (5, 0, DROP % 0.2, "5.0 points worse (90% CI LOW–HIGH); allowed 20; 5 samples got worse, 0 got better"),
        (0, 5, DROP % 0.2, "5.0 points better (90% CI LOW–HIGH); allowed drop 20; 0 samples got worse, 5 got better"),
        (0, 0, DROP % 0.2, "no change (90% CI LOW to HIGH); allowed drop 20"),
        (20, 0, DROP % 0.05, "20.0 points worse (90% CI LOW–HIGH); allowed 5; 20 samples got worse, 0 got better"),
        (0, 10, BETTER, "10.0 points better (90% CI LOW–HIGH); 0 samples got worse, 10 got better"),
        (
            10,
            0,
            BETTER,
            "10.0 points worse (90% CI LOW–HIGH); an improvement is required; 10 samples got worse, 0 got better",
        ),
        (0, 1, BETTER, "1.0 points better (90% CI LOW to HIGH): not significant"),
    ],
)
def test_the_change_is_named_in_its_direction_with_both_ends(worse: int, better: int, gate: str, reason: str) -> None:
    result = compare(ones(60 + worse), ones(60 + better), gate)
    ends = non_inferiority(
        [float(worse > better)] * worse + [-1.0] * better + [0.0] * (100 - worse - better), max_drop=0.05
    )
    assert ends.low is not None and ends.high is not None
    low, high = sorted((ends.low, ends.high) if worse >= better else (-ends.low, -ends.high))
    assert result.reason == reason.replace("LOW", f"{100 * low:.1f}").replace("HIGH", f"{100 * high:.1f}")


def test_a_graded_change_has_the_unit_of_its_metric() -> None:
    gate = "{metric: grade, baseline: main, max_drop: 1.5, confidence: 0.9}"
    before: list[Score] = [float(place % 5 + 5) for place in range(60)]
    now: list[Score] = [float(place % 5 + 5) - 0.25 * (place % 2) for place in range(60)]
    result = compare(before, now, gate, GRADE)
    assert result.reason.startswith("0.125 grades worse (80% CI ")
    assert result.reason.endswith("; allowed 1.5; 30 samples got worse, 0 got better")


def test_samples_that_got_worse_or_better_are_counted_over_pairs_with_both_scores() -> None:
    before: list[Score] = [*ones(60, 96), *[1.0] * 4]
    now: list[Score] = [*[0.0] * 3, *ones(57, 57), *[1.0] * 2, *[0.0] * 34, *[DOWN] * 4]
    result = compare(before, now, DROP % 0.3)
    assert result.baseline is not None
    assert (result.baseline.worse, result.baseline.better) == (3, 2)
    assert "3 samples got worse, 2 got better" in result.full_reason


def test_counts_of_changed_samples_leave_the_reason_of_an_inconclusive_gate_to_the_samples_needed() -> None:
    result = compare([*ones(50), *ones(50)], [*ones(46, 46), *ones(54 - 6, 154)], DROP % 0.03)
    assert result.verdict == "inconclusive"
    assert "got worse" not in result.reason
    assert "got worse" in result.details[0]


@pytest.mark.parametrize(
    ("before", "now", "missing"),
    [
        (
            [*ones(50, 90), *[DOWN] * 10],
            ones(50),
            "compared 90 of 100 samples of 'main': 10 without a score in the baseline",
        ),
        (
            ones(50),
            [*ones(50, 90), *[DOWN] * 10],
            "compared 90 of 100 samples of 'main': the provider failed on 10 (server)",
        ),
        (
            [*ones(50, 90), *[DOWN] * 9, 1.0],
            [*ones(50, 90), *[1.0] * 9, DOWN],
            "compared 90 of 100 samples of 'main': 9 without a score in the baseline; the provider failed on 1 (server)",
        ),
        (ones(50), [*ones(50, 90), *[None] * 10], "compared 90 of 100 samples of 'main': its scorer skipped them"),
    ],
)
def test_what_is_missing_is_named_by_side(before: Sequence[Score], now: Sequence[Score], missing: str) -> None:
    result = compare(before, now, DROP % 0.3)
    assert (result.verdict, result.reason.partition("; 0.5")[0]) == ("untrusted", missing)
    assert " → " in result.reason


def test_the_unpaired_difference_needs_a_value_on_both_sides() -> None:
    lost = compare([DOWN] * 10, ones(5, 10))
    assert (lost.verdict, lost.reason) == (
        "untrusted",
        (
            "compared 0 of 10 samples of 'main': 10 without a score in the baseline; "
            "a drop of -50.0 to 50.0 points with the rest"
        ),
    )
    assert "→" not in compare(ones(5, 10), [DOWN] * 10).reason


def test_a_verdict_that_missing_pairs_could_change_names_both_ends_and_the_interval() -> None:
    result = compare(ones(100), [*ones(96, 96), *[DOWN] * 4], DROP % 0.05)
    assert (result.verdict, result.details) == ("untrusted", ())
    assert result.reason.startswith("no change (90% CI ")
    assert "on 96 of 100 samples of 'main', a drop of 0.0 to 4.0 points with the rest" in result.reason
    assert "the provider failed on 4 (server)" in result.reason
    assert result.gate_low is not None and result.gate_high is not None
    assert result.gate_low == pytest.approx(-result.gate_high)


def changed(count: int, *, removed: int = 0) -> GateResult:
    now = rows(ones(300 - removed, 300 - removed), "exact_match")
    now = [replace(row, sample=replace(row.sample, input="q ")) if row.sample.index < count else row for row in now]
    (result,) = judge(DROP % 0.03, EXACT, now, before=rows(ones(300, 300), "exact_match"))
    return result


@pytest.mark.parametrize("result", [changed(12), changed(0, removed=12), changed(120), changed(0, removed=120)])
def test_changed_data_is_untrusted_with_what_to_do_about_it(result: GateResult) -> None:
    assert result.verdict == "untrusted"
    assert "changed_data=ignore" in result.details[0]


def test_missing_answers_alone_need_no_advice_about_data() -> None:
    for lost in (120, 12):
        result = compare(ones(300, 300), [*ones(300 - lost, 300 - lost), *[DOWN] * lost], DROP % 0.03)
        assert (result.verdict, any("changed_data" in detail for detail in result.details)) == ("untrusted", False)


def test_an_inconclusive_drop_says_how_many_samples_decide_if_as_many_change() -> None:
    drops = compare(ones(90), [0.0] * 4 + [1.0] * 86 + [1.0] * 2 + [0.0] * 8, DROP % 0.03)
    assert drops.verdict == "inconclusive"
    assert "samples are needed to decide, if 6% of them change" in drops.reason
    none = compare(ones(30, 30), ones(30, 30), DROP % 0.03)
    assert "samples are needed to decide, if none of them changes" in none.reason
    graded = compare([5.0, 6.0] * 15, [5.0, 5.5] * 15, "{metric: grade, baseline: main, max_drop: 0.3}", GRADE)
    assert graded.verdict == "inconclusive"
    assert "if" not in graded.reason


def test_ignored_pairs_are_named_and_not_filled_in() -> None:
    gate = "{metric: exact_match, baseline: main, max_drop: 0.05, missing: ignore}"
    result = compare(ones(100), [*ones(96, 96), *[DOWN] * 4], gate)
    assert result.verdict == "pass"
    assert "what is missing is ignored: compared 96 of 100 samples of 'main': the provider failed on 4" in result.reason


def test_a_verdict_that_holds_anyway_names_what_is_missing_in_its_details() -> None:
    result = compare(ones(100), [*ones(96, 96), *[DOWN] * 4], DROP % 0.3)
    assert (result.verdict, result.details) == (
        "pass",
        ("compared 96 of 100 samples of 'main': the provider failed on 4 (server); the verdict holds for every score of the rest",),
    )  # fmt: skip


@pytest.mark.parametrize(("higher", "drop"), [(True, 0.25), (False, -0.25)])
def test_the_drop_from_the_first_baseline_is_unpaired(*, higher: bool, drop: float) -> None:
    measure = Measure("exact_match", Declaration(binary=True, higher_is_better=higher))
    spec = GateSpec("g", "exact_match", ">=", 0.1, kind="max_drop", baseline="main", confidence=0.95)
    gate = Gate(spec, measure, "mean", "exact_match/v1")
    evidence = gather_evidence(gate, summarize(rows(ones(2, 4), "exact_match"), [measure], ["m"], design=Design()), "m")
    key = metric_key(gate.metric, None)

    def origin(origin: object) -> tuple[str | None, float | None]:
        head = BaselineHead("main", "run-5", None, provenance_of(measure, 1))
        object.__setattr__(head, "origin", origin)
        return origin_drop(gate, evidence, Baseline(head, "main", {}), "m")

    first = {"run_id": "run-0", "values": {"m": {key: 0.75}}}
    assert origin({"exact_match": first}) == ("run-0", drop)
    assert origin({"exact_match": {**first, "run_id": "run-5"}}) == ("run-5", None)  # the baseline is the first one
    assert origin({"exact_match": {"run_id": "run-0", "values": {"other": {key: 0.75}}}}) == ("run-0", None)
    assert origin({"exact_match": {"run_id": "run-0"}}) == ("run-0", None)
    assert origin({}) == (None, None)


def test_a_result_has_the_numbers_of_its_comparison() -> None:
    before = rows([*ones(80, 96), DOWN, DOWN, DOWN, 1.0], "exact_match")
    now = rows([*ones(70, 96), 1.0, 1.0, DOWN, DOWN, 1.0, 1.0], "exact_match")
    (result,) = judge(DROP % 0.3, EXACT, now, before=before)
    against = result.baseline
    assert against is not None
    assert (against.name, against.value, against.n, against.excluded, against.missing, against.coverage) == (
        "main", 80 / 96, 96, 2, 4, 0.96,
    )  # fmt: skip
    assert (against.drop, against.method, against.origin_drop, against.differs) == (
        pytest.approx(10 / 96),
        "tango",
        None,
        (),
    )
    assert against.p_value == pytest.approx(2 / 2**10)


def test_a_graded_p_value_is_two_sided() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    gate = "{metric: grade, baseline: main, max_drop: 5}"
    before = [float(place % 5 + 3) for place in range(60)]
    for change in (0.4, -0.4):
        now = [score + change * (place % 3) for place, score in enumerate(before)]
        against = compare(before, now, gate, GRADE).baseline
        assert against is not None
        drops = [then - after for then, after in zip(before, now, strict=True)]
        expected = scipy_stats.ttest_1samp([*drops, 10.0, -10.0], 0.0).pvalue
        assert (against.p_value, against.method) == (pytest.approx(expected), "t-padded")
    same = compare(before, before, gate, GRADE).baseline
    assert same is not None and same.p_value == 1.0
    few = compare(before[:5], before[:5], gate, GRADE).baseline
    assert few is not None and few.p_value is None


def test_coverage_at_the_least_share_is_enough() -> None:
    gate = "{metric: exact_match, baseline: main, max_drop: 0.4, min_coverage: %s}"
    before, now = ones(100), [*ones(90, 90), *[DOWN] * 10]
    assert [compare(before, now, gate % share).verdict for share in (0.9, 0.91)] == ["pass", "untrusted"]


def test_a_drop_that_holms_correction_holds_back_says_so() -> None:
    before, now = rows(ones(90), "exact_match"), rows(ones(80), "exact_match")  # ten worse, none better
    sure = [f"{{metric: exact_match, min: {bound}, confidence: 0.95}}" for bound in (0.79, 0.8, 0.81)]
    alone = judge(DROP % 0.055, EXACT, now, before=before)[0]
    held = judge(", ".join([DROP % 0.055, *sure]), EXACT, now, before=before)[0]
    assert (alone.verdict, held.verdict) == ("fail", "inconclusive")
    assert "Holm" not in alone.reason
    assert "; allowed 5.5 (not significant after Holm's correction for 4 gates)" in held.reason
    undecided = judge(", ".join([DROP % 0.08, *sure]), EXACT, now, before=before)[0]
    assert (undecided.verdict, "Holm" in undecided.reason) == ("inconclusive", False)
    assert not undecided.reason.endswith(".")


def test_an_inconclusive_drop_with_missing_pairs_does_not_claim_to_hold() -> None:
    gate = "{metric: exact_match, baseline: main, max_drop: 0.03, min_coverage: 0.9}"
    result = compare(ones(30, 30), [*ones(28, 28), DOWN, DOWN], gate)
    assert result.verdict == "inconclusive"
    assert result.details[0] == "compared 28 of 30 samples of 'main': the provider failed on 2 (server)"
