"""Differences of unrelated samples at their bounds, against formulas computed anew."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest

from evalrunner.stats.hypothesis_tests import newcombe, shares_p, two_sample_difference
from evalrunner.stats.intervals import mean_error

scipy_stats = pytest.importorskip("scipy.stats")
DRAW = random.Random(5)
FIRST = [DRAW.gauss(6.0, 2.0) for _ in range(24)]
SECOND = [DRAW.gauss(4.0, 3.0) for _ in range(37)]


def padded_error(values: Sequence[float], span: float) -> float:
    """The standard error with one more deviation as large as the range."""
    n, mean = len(values), statistics.fmean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in [*values, mean + span]) / n / n)


def welch(errors: Sequence[float], freedoms: Sequence[float], *, level: float) -> tuple[float, float]:
    """The half-width of the interval and the p-value of the difference of the two samples."""
    error = math.sqrt(sum(one**2 for one in errors))
    df = error**4 / sum(one**4 / free for one, free in zip(errors, freedoms, strict=True))
    gap = statistics.fmean(FIRST) - statistics.fmean(SECOND)
    return scipy_stats.t.ppf(0.5 + level / 2, df) * error, 2 * scipy_stats.t.sf(abs(gap) / error, df)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_welchs_test_has_satterthwaites_degrees_of_freedom(level: float) -> None:
    result = two_sample_difference(FIRST, SECOND, span=10.0, level=level)
    half, p_value = welch([padded_error(each, 10.0) for each in (FIRST, SECOND)], [23, 36], level=level)
    gap = statistics.fmean(FIRST) - statistics.fmean(SECOND)
    assert (result.estimate, result.method, result.n, result.note) == (pytest.approx(gap), "welch", 61, None)
    assert (result.low, result.high) == (pytest.approx(gap - half), pytest.approx(gap + half))
    assert result.p_value == pytest.approx(p_value)


def test_clustered_samples_have_the_error_and_degrees_of_freedom_of_their_clusters() -> None:
    clusters = [place // 2 for place in range(24)], [place % 11 for place in range(37)]
    spreads = [mean_error(each, of) for each, of in zip((FIRST, SECOND), clusters, strict=True)]
    result = two_sample_difference(FIRST, SECOND, span=0.001, clusters=clusters, level=0.9)
    padded = [padded_error(each, 0.001) for each in (FIRST, SECOND)]
    assert padded[0] > spreads[0].cautious_error and padded[1] < spreads[1].cautious_error
    freedoms = [spread.limited_df(one_sided=True) for spread in spreads]
    half, p_value = welch([padded[0], spreads[1].cautious_error], freedoms, level=0.9)
    gap = statistics.fmean(FIRST) - statistics.fmean(SECOND)
    assert (result.low, result.high) == (pytest.approx(gap - half), pytest.approx(gap + half))
    assert (result.p_value, result.method) == (pytest.approx(p_value), "welch-clustered")


def test_clustered_shares_vary_at_least_as_much_as_unrelated_ones() -> None:
    shares = [float(place % 2) for place in range(40)]
    apart = two_sample_difference(shares, shares, clusters=(list(range(40)), list(range(40))))
    alternating = two_sample_difference(shares, shares, clusters=([place // 2 for place in range(40)],) * 2)
    error = math.sqrt(2) * padded_error(shares, 1.0)
    assert alternating.high is not None  # each cluster has the mean of all, so its own error is zero
    assert alternating.high == pytest.approx(scipy_stats.t.ppf(0.975, 38) * error)
    assert (apart.p_value, alternating.p_value) == (1.0, 1.0)


def test_equal_means_have_a_p_value_of_one() -> None:
    assert two_sample_difference(FIRST, FIRST, span=10.0).p_value == 1.0
    assert shares_p(5, 10, 10, 20) == 1.0
    assert shares_p(1, 2, 1, 2) == 1.0


@pytest.mark.parametrize(
    ("first", "second", "note"),
    [
        (FIRST, [], "no values on one side"),
        ([], SECOND, "no values on one side"),
        ([], [], "no values on one side"),
        (FIRST[:19], SECOND, "fewer than 20 values on one side"),
        (FIRST, SECOND[:19], "fewer than 20 values on one side"),
        (FIRST[:20], SECOND[:20], None),
    ],
)
def test_twenty_graded_values_are_needed_on_each_side(
    first: list[float], second: list[float], note: str | None
) -> None:
    result = two_sample_difference(first, second, span=10.0)
    assert (result.note, result.p_value is None, result.method is None) == (note, note is not None, note is not None)
    assert (result.estimate is None) == (not first or not second)


def test_ten_clusters_are_needed_on_each_side() -> None:
    def clustered(first: int, second: int) -> str | None:
        groups = [place % first for place in range(24)], [place % second for place in range(37)]
        return two_sample_difference(FIRST, SECOND, span=10.0, clusters=groups).note

    assert clustered(10, 10) is None
    assert clustered(9, 12) == clustered(12, 9) == "fewer than 10 clusters on one side"


def test_shares_have_newcombes_interval_at_the_level() -> None:
    first, second = [1.0] * 6 + [0.0] * 4, [1.0] * 3 + [0.0] * 17
    for level in (0.8, 0.95):
        result = two_sample_difference(first, second, level=level)
        assert (result.low, result.high) == newcombe(6, 10, 3, 20, level=level)
        assert (result.p_value, result.n) == (shares_p(6, 10, 3, 20), 30)
    narrow, wide = newcombe(6, 10, 3, 20, level=0.8), newcombe(6, 10, 3, 20)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("counts", "exact"),
    [
        ((3, 30, 0, 10), True),  # the least expected count is .75
        ((0, 10, 3, 30), True),
        ((27, 30, 10, 10), True),
        ((4, 30, 0, 10), False),  # and here 1
        ((26, 30, 10, 10), False),
        ((1, 1, 10, 20), True),
    ],
)
def test_fishers_test_takes_over_where_an_expected_count_is_below_one(
    counts: tuple[int, int, int, int], *, exact: bool
) -> None:
    first, first_n, second, second_n = counts
    table = [[first, first_n - first], [second, second_n - second]]
    if exact:
        expected = scipy_stats.fisher_exact(table).pvalue
    else:
        n = first_n + second_n
        plain = scipy_stats.chi2_contingency(table, correction=False).statistic
        expected = scipy_stats.chi2.sf(plain * (n - 1) / n, 1)
    assert shares_p(*counts) == pytest.approx(expected, rel=1e-9)


def test_one_success_is_not_the_end_of_the_table() -> None:
    assert shares_p(1, 5, 0, 5) == pytest.approx(1.0)
    assert shares_p(1, 2, 0, 60) == pytest.approx(scipy_stats.fisher_exact([[1, 1], [0, 60]]).pvalue)
    assert shares_p(2, 2, 59, 60) == pytest.approx(1.0)
