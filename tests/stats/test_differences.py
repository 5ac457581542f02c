"""Two-sided differences: known values, agreement with scipy and statsmodels, symmetry, false positive rate."""

from __future__ import annotations

import random

import pytest

from evalrunner.stats.hypothesis_tests import newcombe, paired_difference, shares_p, tango, two_sample_difference


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ],
)
def test_newcombes_interval_has_its_known_values(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    assert newcombe(*counts) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_binary_pairs_use_mcnemar_and_tango() -> None:
    from scipy.stats import binomtest

    differences = [1.0] * 209 + [-1.0] * 152 + [0.0] * 958
    result = paired_difference(differences)
    assert (result.low, result.high) == tango(209, 152, 1319)
    assert result.p_value == pytest.approx(binomtest(152, 361).pvalue, rel=1e-9)
    assert (result.estimate, result.n, result.method) == (57 / 1319, 1319, "mcnemar")


def test_graded_pairs_use_students_t_with_a_pseudo_pair_at_each_end() -> None:
    from scipy.stats import t, ttest_1samp

    differences = [random.Random(3).uniform(-0.4, 0.6) for _ in range(60)]
    result = paired_difference(differences, span=1.0)
    padded = ttest_1samp([*differences, 1.0, -1.0], 0.0)
    assert result.p_value == pytest.approx(padded.pvalue, rel=1e-9)
    assert (result.low, result.high) == pytest.approx(tuple(padded.confidence_interval(0.95)), rel=1e-9)
    assert result.estimate == pytest.approx(sum(differences) / 60)
    assert t.ppf(0.975, 61) > 1.99


@pytest.mark.parametrize("span", [None, 1.0])
@pytest.mark.parametrize("clusters", [None, [place // 4 for place in range(80)]])
def test_swapping_the_sides_of_a_pair_mirrors_the_difference(span: float | None, clusters: list[int] | None) -> None:
    chance = random.Random(5)
    differences = [float(chance.choice([-1, 0, 0, 0, 1, 1])) for _ in range(80)]
    there = paired_difference(differences, span=span, clusters=clusters)
    back = paired_difference([-item for item in differences], span=span, clusters=clusters)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.low, there.high) == (pytest.approx(-(back.high or 0)), pytest.approx(-(back.low or 0)))


def test_too_few_pairs_give_no_p_value() -> None:
    result = paired_difference([0.5] * 19, span=1.0)
    assert (result.estimate, result.p_value, result.method) == (0.5, None, None)
    assert result.note == "19 pairs; at least 20 are needed"
    assert paired_difference([0.5], span=1.0).note == "1 pair; at least 20 are needed"
    few = paired_difference([1.0] * 40, clusters=[place % 4 for place in range(40)])
    assert (few.p_value, few.note) == (None, "4 clusters; at least 10 are needed")
    assert paired_difference([]).note == "no pairs"


def test_two_sample_shares_use_the_n_minus_1_test() -> None:
    from scipy.stats import chi2, chi2_contingency, fisher_exact

    table = [[30, 40], [48, 32]]
    plain = chi2_contingency(table, correction=False).statistic
    assert shares_p(30, 70, 48, 80) == pytest.approx(chi2.sf(plain * 149 / 150, 1), rel=1e-9)
    assert shares_p(3, 30, 0, 10) == pytest.approx(fisher_exact([[3, 27], [0, 10]]).pvalue)
    assert shares_p(5, 5, 9, 9) == shares_p(0, 5, 0, 9) == 1.0


def test_two_sample_graded_scores_use_welchs_t_with_padded_errors() -> None:
    from scipy.stats import ttest_ind

    chance = random.Random(7)
    first, second = [chance.gauss(0.6, 0.2) for _ in range(4000)], [chance.gauss(0.59, 0.3) for _ in range(3000)]
    result = two_sample_difference(first, second, span=1.0)
    plain = ttest_ind(first, second, equal_var=False)
    assert result.p_value is not None and plain.pvalue < result.p_value < 1.1 * plain.pvalue
    assert two_sample_difference(first[:19], second, span=1.0).p_value is None


@pytest.mark.parametrize("sizes", [(30, 30), (25, 200)])
def test_false_positive_rate_of_two_equal_samples_with_rare_low_scores(sizes: tuple[int, int]) -> None:
    chance = random.Random(11)
    alarms = 0
    for _ in range(2000):
        first, second = ([0.0 if chance.random() < 0.05 else 1.0 for _ in range(n)] for n in sizes)
        result = two_sample_difference(first, second, span=1.0)
        alarms += result.p_value is not None and result.p_value < 0.05
    assert alarms <= 2000 * 0.065  # the band for graded pairs


def test_clusters_widen_two_sample_intervals() -> None:
    first, second = [float(place % 8 < 6) for place in range(80)], [float(place % 8 < 3) for place in range(80)]
    groups = [place // 8 for place in range(80)], [place % 10 for place in range(80)]
    plain = two_sample_difference(first, second)
    result = two_sample_difference(first, second, clusters=groups)
    assert plain.p_value is not None and result.p_value is not None and result.p_value > plain.p_value
    assert result.method == "welch-clustered"
    assert two_sample_difference(first, second, clusters=([0] * 80, [1] * 80)).p_value is None
