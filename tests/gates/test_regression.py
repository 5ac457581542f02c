"""Gates on a baseline, on small hand-written rows: pairs, directions, missing scores, several gates."""

from __future__ import annotations

import pytest

from evalrunner.domain import Declaration
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.hypothesis_tests import non_inferiority
from evalrunner.stats.summary import Design, Measure
from tests.gates.builders import judge, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("quality", Declaration())
TOXIC = Measure(
    "toxicity", Declaration(higher_is_better=False, aggregates=("mean", "ratio"), headline="mean", threshold=0.5)
)  # fmt: skip
DROP = "{metric: %s, baseline: main, max_drop: %s}"


def test_the_drop_is_the_mean_paired_difference_with_tangos_interval() -> None:
    before = rows([1.0] * 90 + [0.0] * 10, "exact_match")
    now = rows([1.0] * 80 + [0.0] * 12 + [1.0] * 8, "exact_match")  # 10 worse, 8 better
    (result,) = judge(DROP % ("exact_match", 0.1), EXACT, now, before=before)
    expected = non_inferiority([1.0] * 10 + [-1.0] * 8 + [0.0] * 82, max_drop=0.1)
    against = result.baseline
    assert against is not None
    assert (against.drop, against.low, against.high, against.n) == (0.02, expected.low, expected.high, 100)
    assert (result.gate_low, result.gate_high, result.bound, against.value) == (expected.low, expected.high, 0.1, 0.9)
    assert (result.verdict, against.method, against.p_value) == ("pass", "tango", pytest.approx(0.8145, abs=1e-4))


def test_a_missing_baseline_names_the_command_that_creates_it() -> None:
    (result,) = judge(DROP % ("exact_match", 0.1), EXACT, rows([1.0], "exact_match"))
    assert (result.verdict, result.blocks, result.reason) == (
        "no_baseline",
        False,
        "no baseline 'main' yet; create it from a good run: evalrun baseline accept",
    )


def test_for_lower_is_better_metrics_an_increase_is_a_drop() -> None:
    low, high = rows([0.1] * 40, "toxicity"), rows([0.3] * 39 + [0.29], "toxicity")
    (worse,) = judge(DROP % ("toxicity", 0.05), TOXIC, high, before=low)
    (better,) = judge(DROP % ("toxicity", 0.05), TOXIC, low, before=high)
    assert worse.baseline is not None and better.baseline is not None
    assert (worse.verdict, worse.baseline.drop) == ("fail", pytest.approx(0.19975))
    assert (better.verdict, better.baseline.drop) == ("pass", pytest.approx(-0.19975))


def test_a_ratio_is_paired_as_binary_scores() -> None:
    before, now = rows([0.6] * 5 + [0.1] * 95, "toxicity"), rows([0.9] * 30 + [0.2] * 70, "toxicity")
    (result,) = judge(DROP % ("toxicity/ratio", 0.1), TOXIC, now, before=before)
    assert result.baseline is not None
    assert (result.verdict, result.baseline.drop, result.baseline.method) == ("fail", 0.25, "tango")


def test_fewer_than_twenty_graded_pairs_are_inconclusive() -> None:
    few = rows([0.5] * 19, "quality")
    (result,) = judge(DROP % ("quality", 0.5), GRADED, few, before=few)
    assert (result.verdict, "19 pairs; at least 20 are needed" in result.reason) == ("inconclusive", True)


def test_missing_candidate_scores_are_set_to_the_worst_value() -> None:
    before = rows([1.0] * 100, "exact_match")
    now = rows([1.0] * 96 + ["no_answer: refused"] * 4, "exact_match")
    (result,) = judge(DROP % ("exact_match", 0.05), EXACT, now, before=before)
    assert (result.verdict, result.reason) == (
        "untrusted",
        (
            "no change (90% CI -2.7 to 2.7) on 96 of 100 samples of 'main', a drop of 0.0 to 4.0 points with the rest: "
            "the model did not answer 4 (refused)"
        ),
    )
    assert judge(DROP % ("exact_match", 0.15), EXACT, now, before=before)[0].verdict == "pass"


def test_skipped_pairs_make_a_regression_gate_untrusted() -> None:
    before = rows([1.0] * 50 + [0.0] * 50, "exact_match")
    now = rows([1.0] * 50 + [None] * 50, "exact_match")
    (result,) = judge(DROP % ("exact_match", 0.2), EXACT, now, before=before)
    assert (result.verdict, result.reason) == (
        "untrusted",
        (
            "compared 50 of 100 samples of 'main': its scorer skipped them; 0.5 → 1 over all samples of each run; "
            "a drop of -50.0 to 0.0 points with the rest"
        ),
    )


def test_too_few_scored_pairs_are_untrusted_with_the_cause() -> None:
    before = rows([1.0] * 100, "exact_match")
    now = rows([1.0] * 60 + ["server: 500"] * 40, "exact_match")
    (result,) = judge(DROP % ("exact_match", 0.05), EXACT, now, before=before)
    assert (result.verdict, result.reason) == (
        "untrusted",
        (
            "compared 60 of 100 samples of 'main': the provider failed on 40 (server); 1 → 1 over all samples of each run; "
            "a drop of 0.0 to 40.0 points with the rest"
        ),
    )


def test_runs_without_a_common_sample_are_untrusted() -> None:
    before = rows([1.0] * 3, "exact_match", [{}] * 3)
    now = [row for row in rows([1.0] * 6, "exact_match") if row.sample.index > 2]
    (result,) = judge(DROP % ("exact_match", 0.05), EXACT, now, before=before)
    assert (result.verdict, result.reason) == (
        "untrusted",
        "compared 0 of 3 samples of 'main': 3 removed; 1 → 1 over all samples of each run; a drop of 0.0 to 100.0 points with the rest",
    )


def test_epochs_are_reduced_before_they_are_paired() -> None:
    before = rows([(1.0, 1.0)] * 50, "exact_match")
    now = rows([(1.0, 0.0, 1.0)] * 50, "exact_match")
    (result,) = judge(DROP % ("exact_match", 0.1), EXACT, now, before=before, epochs=3, epochs_before=2)
    assert result.baseline is not None
    assert (result.verdict, result.baseline.n, result.baseline.drop) == ("fail", 50, pytest.approx(1 / 3))
    assert result.baseline.method == "t-padded"  # thirds are not binary


def test_a_slice_gate_pairs_only_its_samples() -> None:
    topics = [{"topic": "law" if index < 40 else "art"} for index in range(80)]
    before = rows([1.0] * 80, "exact_match", topics)
    now = rows([1.0] * 20 + [0.0] * 20 + [1.0] * 40, "exact_match", topics)
    result = judge(
        ", ".join(DROP % (f"'exact_match[topic={topic}]'", 0.1) for topic in ("law", "art")),
        EXACT,
        now,
        before=before,
        design=Design(slices=("topic",)),
    )
    drops = [(gate.verdict, gate.baseline.n, gate.baseline.drop) for gate in result if gate.baseline is not None]
    assert drops == [("fail", 40, 0.5), ("pass", 40, 0.0)]


def test_an_additional_reducer_can_have_a_baseline() -> None:
    design = Design(reducers=(parse_reducer("mean"), parse_reducer("pass_at_1")))
    before, now = rows([(1.0, 1.0)] * 60, "exact_match"), rows([(1.0, 0.0)] * 60, "exact_match")
    (result,) = judge(DROP % ("exact_match/pass_at_1", 0.1), EXACT, now, before=before, epochs=2, design=design)
    assert (result.metric, result.verdict) == ("exact_match/v1/pass_at_1", "fail")


def test_holm_correction_applies_to_fail_but_not_to_pass() -> None:
    before = rows([1.0] * 200, "exact_match")
    near = rows([1.0] * 189 + [0.0] * 11, "exact_match")  # p = .019 against a margin of .03
    gate = DROP % ("exact_match", 0.03)
    assert [result.verdict for result in judge(gate, EXACT, near, before=before)] == ["fail"]
    assert {result.verdict for result in judge(", ".join([gate] * 3), EXACT, near, before=before)} == {"inconclusive"}
    good = DROP % ("exact_match", 0.12)
    assert {result.verdict for result in judge(", ".join([good] * 3), EXACT, near, before=before)} == {"pass"}


@pytest.mark.parametrize(
    ("right", "verdict", "blocks"), [(110, "pass", True), (101, "inconclusive", False), (90, "inconclusive", True), (60, "fail", True)]
)  # fmt: skip
def test_improved_gates_pass_only_on_significant_gains_and_fail_on_losses(
    right: int, verdict: str, blocks: bool
) -> None:
    before = rows([1.0] * 90 + [0.0] * 60, "exact_match")
    now = rows([1.0] * right + [0.0] * (150 - right), "exact_match")
    if right == 101:
        now = rows([1.0] * 81 + [0.0] * 9 + [1.0] * 12 + [0.0] * 48, "exact_match")
    (result,) = judge("{metric: exact_match, baseline: main, improved: true}", EXACT, now, before=before)
    assert (result.verdict, result.blocks) == (verdict, blocks)


@pytest.mark.parametrize(
    ("policy", "blocks"), [("block", [True, True]), ("block_if_worse", [True, False]), ("warn", [False, False])]
)
def test_the_suite_sets_whether_an_inconclusive_gate_blocks(policy: str, blocks: list[bool]) -> None:
    before = rows([1.0] * 100, "exact_match")
    gate = f"{{metric: exact_match, baseline: main, max_drop: 0.05, inconclusive: {policy}}}"
    worse = rows([1.0] * 94 + [0.0] * 6, "exact_match")
    unclear = rows([1.0] * 97 + [0.0] * 3, "exact_match")
    result = [judge(gate, EXACT, now, before=before)[0] for now in (worse, unclear)]
    assert [gate.verdict for gate in result] == ["inconclusive", "inconclusive"]
    assert [gate.blocks for gate in result] == blocks
