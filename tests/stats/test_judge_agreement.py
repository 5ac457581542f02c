import math
from pathlib import Path

import pytest

from evalrunner.stats.judge_agreement import JudgedPairs, auc, best_threshold

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "openqa_eval"


def test_kappa_of_the_textbook_table() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: κ = (.7 − .5)/(1 − .5)
    labels, verdicts = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    pairs = JudgedPairs(labels, verdicts)
    kappa = pairs.kappa()
    assert kappa.value == pytest.approx(0.4) and kappa.low is not None and kappa.high is not None
    assert kappa.low < 0.4 < kappa.high and (pairs.agreement().value, pairs.sensitivity().value) == (0.7, 0.8)
    assert pairs.specificity().value == 0.6
    assert pairs.kappa() == kappa, "seeded"


def test_a_judge_that_always_says_yes_has_no_kappa_above_zero() -> None:
    pairs = JudgedPairs([1] * 60 + [0] * 40, [1] * 100)
    assert pairs.kappa().value == 0 and pairs.specificity().value == 0 and pairs.sensitivity().value == 1


def test_perfect_agreement_does_not_prove_a_perfect_judge() -> None:
    kappa = JudgedPairs([0, 1] * 25, [0, 1] * 25).kappa()
    assert kappa.value == 1 and kappa.low is not None and 0.8 < kappa.low < 0.9


def test_kappa_has_no_interval_below_twenty_labels_and_no_value_without_both_verdicts() -> None:
    assert JudgedPairs([0, 1] * 5, [0, 1] * 5).kappa().low is None
    nothing = JudgedPairs([1] * 30, [1] * 30).kappa()
    assert nothing.value is None and "chance" in (nothing.note or "")


def test_weights_undo_unequal_drawing() -> None:
    # errors were drawn with probability 1, the others with .1: 10 wrong and 10 right of 110 rows
    weights = [1.0] * 10 + [10.0] * 10
    rate = JudgedPairs([0, 1] * 10, [1, 0] * 5 + [0, 1] * 5, weights).agreement()
    assert rate.value == pytest.approx(100 / 110) and rate.low is not None and rate.low < 0.9


def test_clusters_widen_the_interval_of_agreement() -> None:
    labels, verdicts = [1] * 100, [1] * 75 + [0] * 25
    alone = JudgedPairs(labels, verdicts).agreement()
    grouped = JudgedPairs(labels, verdicts, clusters=[place // 5 for place in range(100)]).agreement()
    assert alone.low is not None and grouped.low is not None and grouped.low < alone.low - 0.05


def test_auc_counts_ties_half_and_threshold_maximizes_informedness() -> None:
    scores, labels = [0.1, 0.4, 0.4, 0.8] * 10, [0, 0, 1, 1] * 10
    assert auc(scores, labels).value == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    best = best_threshold(scores, labels)
    assert best is not None and (best.score, best.informedness) in {(0.4, 0.5), (0.8, 0.5)}
    assert best_threshold([1.0], [1]) is None and auc([1.0], [1]).value is None
    assert math.isclose(auc([1, 2, 3], [0, 0, 1]).value or 0, 1)


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded judges are not here")
def test_recorded_judges_are_reproduced() -> None:
    from benchmarks.recorded_judges import read_judges

    judges = read_judges(RECORDED)
    gpt, davinci = judges["gpt-4"].pairs, judges["text-davinci-003"].pairs
    assert (len(gpt.labels), len(davinci.labels)) == (1481, 1483)
    assert (gpt.agreement().value, gpt.kappa().value) == pytest.approx((0.848, 0.695), abs=0.0005)
    assert (davinci.agreement().value, davinci.kappa().value) == pytest.approx((0.837, 0.674), abs=0.0006)
