"""Intervals of each metric: known values and coverage."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from evalrunner.stats.aggregates import Estimand, find_aggregate, gate_bounds, metric_interval
from evalrunner.stats.distributions import beta_quantile
from evalrunner.stats.intervals import (
    ALL_EQUAL,
    Interval,
    clopper_pearson,
    inner_ranks,
    mean_error,
    quantile_ranks,
    skewed_t,
    wilson,
)

SHARE = Estimand(binary=True)
GRADED = Estimand(low=0.0, high=1.0)
OPEN = Estimand(low=0.0)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (5, 10), (10, 10), (81, 100), (1, 1000), (4999, 5000)])
def test_wilson_and_clopper_pearson_agree_with_scipy_and_statsmodels(successes: int, n: int) -> None:
    binomtest = pytest.importorskip("scipy.stats").binomtest
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    other = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == (pytest.approx(other.low, abs=1e-12), pytest.approx(other.high, abs=1e-12))
    assert wilson(successes, n) == pytest.approx(proportion.proportion_confint(successes, n, method="wilson"), abs=1e-9)
    exact = proportion.proportion_confint(successes, n, alpha=0.1, method="beta")
    assert clopper_pearson(successes, n, confidence=0.95) == pytest.approx(exact, abs=1e-9)


def test_wilson_interval_of_8_of_10_matches_its_formula() -> None:
    low, high = wilson(8, 10, level=0.95)  # (0.8 + 0.19207 ± 1.96·√(0.016 + 0.0096)) / 1.38415
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_wilson_of_no_rows_is_zero_to_one() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(0, 0, confidence=0.95) == (0.0, 1.0)
    assert metric_interval(SHARE, []) == Interval(None, None, 0.95, None, 0)


def draws(n: int, make: Callable[[random.Random], float], seed: int = 1) -> list[float]:
    draw = random.Random(seed)
    return [make(draw) for _ in range(n)]


@pytest.mark.parametrize(
    ("estimand", "n", "method"),
    [
        (SHARE, 40, "wilson"),
        (GRADED, 40, "wilson-effective"),
        (OPEN, 40, "t-skewness"),
        (Estimand(aggregate=find_aggregate("p50")), 40, "order-statistics"),
        (Estimand(aggregate=find_aggregate("ratio"), low=0.0, high=1.0), 40, "wilson"),
        (Estimand(aggregate=find_aggregate("variance"), low=0.0, high=1.0), 200, "wilson-effective"),
        (Estimand(aggregate=find_aggregate("variance"), low=0.0, high=1.0), 199, None),
        (Estimand(aggregate=find_aggregate("variance"), low=0.0), 6000, None),
        (Estimand(aggregate=find_aggregate("total")), 40, None),
    ],
)
def test_interval_method_of_each_metric(estimand: Estimand, n: int, method: str | None) -> None:
    values = draws(n, (lambda draw: float(draw.random() < 0.7)) if estimand.binary else random.Random.random)
    result = metric_interval(estimand, values)
    assert (result.method, result.n, result.level) == (method, n, 0.95)
    wider = metric_interval(estimand, values, level=0.99)
    if method is not None:
        assert result.low is not None and result.high is not None and wider.low is not None and wider.high is not None
        assert wider.low <= result.low < result.high <= wider.high
    assert metric_interval(estimand, values[::-1]) == result  # the order of rows changes nothing


def test_symmetric_values_have_students_interval() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    values = [float(place) for place in range(50)]
    other = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    result = metric_interval(Estimand(), values)
    assert (result.low, result.high) == (pytest.approx(other.low, abs=1e-9), pytest.approx(other.high, abs=1e-9))


def test_skewed_values_widen_the_end_of_their_tail() -> None:
    t = 2.0452296421327034  # of .975 with 29 degrees of freedom
    low, high = skewed_t(10.0, 1.0, 0.2, level=0.95, df=29)
    skew = 1.75 * 0.2
    assert low == pytest.approx(10 - t)
    # Hall's transformation of the end must be the quantile again: T + k T²/3 + k² T³/27 + k/6
    end = 10 - high
    assert end + skew * end**2 / 3 + skew**2 * end**3 / 27 + skew / 6 == pytest.approx(-t)
    mirrored = skewed_t(-10.0, 1.0, -0.2, level=0.95, df=29)
    assert mirrored == (pytest.approx(-high), pytest.approx(-low))
    extreme = 0 - skewed_t(0.0, 1.0, 1.0, level=0.95, df=29)[1]  # one value far from all others
    assert extreme + 1.75 * extreme**2 / 3 + 1.75**2 * extreme**3 / 27 + 1.75 / 6 == pytest.approx(-t)


def test_the_mean_of_an_open_range_has_no_interval_below_30_values() -> None:
    for values, n in ((draws(29, random.Random.random), 29), (draws(30, random.Random.random), 30)):
        for estimand in (OPEN, Estimand(high=5.0), Estimand()):
            result = metric_interval(estimand, values)
            assert (result.method is None) == (n < 30)
            if n < 30:
                assert result.note == (
                    "no interval: 29 values, at least 30 are needed (20 if the scorer declares low and high)"
                )
    assert metric_interval(GRADED, draws(19, random.Random.random)).note == (
        "no interval: 19 values, at least 20 are needed"
    )
    assert metric_interval(GRADED, draws(20, random.Random.random)).method == "wilson-effective"


def test_an_interval_ends_where_its_range_does() -> None:
    values = [0.0] * 35 + [100.0]
    assert metric_interval(OPEN, values).low == 0.0
    assert (metric_interval(Estimand(), values).low or 0) < 0
    assert metric_interval(Estimand(high=0.0), [-value for value in values]).high == 0.0


def test_effective_sample_size_of_a_graded_mean() -> None:
    values = [0.0, 0.5, 1.0, 1.0, 0.5] * 8
    mean, squares = 0.6, 0.14 * 40  # population variance .14
    weight = 0.5 * (40 / 60) ** 1.2
    for one_sided, added in ((False, weight), (True, 1.0)):
        error = (squares + added * (0.36 + 0.16)) / (39 + 2 * added) / 40
        result = metric_interval(GRADED, values, one_sided=one_sided)
        assert result.n_effective == pytest.approx(mean * (1 - mean) / error)
        other = metric_interval(Estimand(low=0.0, high=10.0), [10 * value for value in values], one_sided=one_sided)
        assert result.low is not None and result.high is not None
        assert (other.low, other.high) == (pytest.approx(10 * result.low), pytest.approx(10 * result.high))


def test_equal_values_of_an_open_range_have_no_interval() -> None:
    graded = metric_interval(GRADED, [1.0] * 20)
    assert graded.n_effective == 20
    assert graded.low is not None and 0.75 < graded.low < 0.9
    assert graded.high == 1.0
    for estimand in (OPEN, Estimand()):
        result = metric_interval(estimand, [0.1] * 40)
        assert (result.method, result.low, result.high, result.note) == (None, None, None, ALL_EQUAL)
        spread = metric_interval(estimand, [0.1] * 400, clusters=[place % 40 for place in range(400)])
        assert (spread.method, spread.note) == (None, ALL_EQUAL)


def test_a_single_value_has_an_interval_only_if_binary() -> None:
    assert metric_interval(GRADED, [0.5]).method is None
    assert metric_interval(Estimand(aggregate=find_aggregate("variance"), low=0.0, high=1.0), [0.5]).low is None
    assert metric_interval(SHARE, [1.0]).low == pytest.approx(0.2065, abs=1e-4)


def test_the_variance_interval_scales_with_the_square_of_the_range() -> None:
    values = draws(300, random.Random.random)
    variance = find_aggregate("variance")
    unit = metric_interval(Estimand(aggregate=variance, low=0.0, high=1.0), values)
    ten = metric_interval(Estimand(aggregate=variance, low=-5.0, high=5.0), [10 * value - 5 for value in values])
    assert unit.low is not None and unit.high is not None
    assert 0.06 < unit.low < 1 / 12 < unit.high < 0.11
    assert (ten.low, ten.high) == (pytest.approx(100 * unit.low), pytest.approx(100 * unit.high))
    assert unit.n_effective is None
    equal = metric_interval(Estimand(aggregate=variance, low=0.0, high=1.0), [0.5] * 300)
    assert equal.low == 0.0 and equal.high is not None and 0 < equal.high < 0.01


def test_quantile_ranks_match_the_binomial() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for n in (12, 36, 100, 999):
        for share in (0.5, 0.9, 0.99):
            low, high = quantile_ranks(n, share)
            fits = [rank for rank in range(1, n + 1) if binom.cdf(rank - 1, n, share) <= 0.025]
            above = [rank for rank in range(1, n + 1) if binom.sf(rank - 1, n, share) <= 0.025]
            assert (low, high) == (max(fits, default=None), min(above, default=None))


def test_inner_ranks_leave_at_most_five_percent_outside() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    assert (quantile_ranks(8, 0.5), inner_ranks(8, 0.5)) == ((1, 8), (1, 7))
    for n in range(6, 60):
        for share in (0.5, 0.9):
            low, high = inner_ranks(n, share)
            if low is None or high is None:
                assert (low, high) == quantile_ranks(n, share)
                continue
            assert binom.cdf(low - 1, n, share) + binom.sf(high - 1, n, share) <= 0.05
            assert binom.cdf(low, n, share) + binom.sf(high - 1, n, share) > 0.05


def test_p90_has_no_upper_end_below_36_rows() -> None:
    for n, open_end in ((35, True), (36, False)):
        result = metric_interval(Estimand(aggregate=find_aggregate("p90")), draws(n, random.Random.random))
        assert (result.high is None) == open_end
        assert result.note == ("no upper end from so few values" if open_end else None)


def inspects_error(values: Sequence[float], clusters: Sequence[int]) -> float:
    """Inspect's clustered standard error, written from its formula."""
    mean = sum(values) / len(values)
    names = set(clusters)
    sums = [sum(v - mean for v, c in zip(values, clusters, strict=True) if c == name) for name in names]
    return math.sqrt(sum(total**2 for total in sums) * len(names) / (len(names) - 1)) / len(values)


def test_the_jackknife_matches_inspect_for_equal_clusters() -> None:
    values = draws(120, random.Random.random)
    clusters = [place // 4 for place in range(120)]
    assert mean_error(values, clusters).error == pytest.approx(inspects_error(values, clusters), rel=1e-12)
    assert mean_error(values, clusters).effective == 30


def test_few_clusters_carry_a_warning_and_fewer_have_no_interval() -> None:
    values = draws(60, lambda draw: float(draw.random() < 0.7))
    notes = {}
    for count in (9, 10, 19, 20):
        result = metric_interval(SHARE, values, clusters=[place % count for place in range(60)])
        notes[count] = (result.method, result.note)
    assert notes == {
        9: (None, "no interval: 9 clusters, at least 10 are needed"),
        10: ("wilson-clustered", "only 10 clusters: the interval is wide"),
        19: ("wilson-clustered", "only 19 clusters: the interval is wide"),
        20: ("wilson-clustered", None),
    }
    for count, method in ((29, None), (30, "t-skewness-clustered")):
        lengths = draws(120, lambda draw: draw.expovariate(1))
        result = metric_interval(OPEN, lengths, clusters=[place % count for place in range(120)])
        assert result.method == method
    assert metric_interval(OPEN, lengths, clusters=[place % 29 for place in range(120)]).note == (
        "no interval: 29 clusters, at least 30 are needed (10 if the scorer declares low and high)"
    )
    variance = Estimand(aggregate=find_aggregate("variance"), low=0.0, high=1.0)
    assert metric_interval(variance, values * 5, clusters=[place % 30 for place in range(300)]).method is None


def test_clusters_of_one_have_the_bounds_of_unclustered_skewed_values() -> None:
    values = draws(60, lambda draw: draw.expovariate(1) ** 2)
    alone = metric_interval(Estimand(), values, one_sided=True)
    clustered = metric_interval(Estimand(), values, clusters=list(range(60)))
    assert alone.low is not None and alone.high is not None and clustered.low is not None and clustered.high is not None
    mean, error = sum(values) / 60, mean_error(values, list(range(60)))
    assert error.skewness > 0.3
    df = error.limited_df(one_sided=False)
    assert (clustered.low, clustered.high) == pytest.approx(
        skewed_t(mean, error.error, error.skewness, level=0.95, df=df)
    )
    assert alone.high - mean > 1.5 * (mean - alone.low)
    assert clustered.high - mean > 1.5 * (mean - clustered.low)


def test_equal_values_count_as_one_for_each_cluster() -> None:
    for estimand in (SHARE, GRADED):
        result = metric_interval(estimand, [1.0] * 200, clusters=[place % 10 for place in range(200)])
        assert result.n_effective == pytest.approx(10)
        assert result.low == pytest.approx(wilson(10, 10, df=9)[0])
    median = Estimand(aggregate=find_aggregate("p50"))
    assert metric_interval(median, [1.0] * 200, clusters=[place % 10 for place in range(200)]).n_effective < 10  # type: ignore[operator]


def test_an_error_from_one_of_ten_clusters_is_not_trusted_as_from_ten() -> None:
    clusters = [place % 10 for place in range(200)]
    one = [float(not (place % 10 == 0 and place < 40)) for place in range(200)]  # four wrong, all in one cluster
    spread = [float(place not in (0, 21, 42, 63)) for place in range(200)]  # four wrong in four clusters
    errors = [mean_error(values, clusters) for values in (one, spread)]
    assert [each.contributing for each in errors] == [pytest.approx(1.233, abs=1e-3), pytest.approx(8.571, abs=1e-3)]
    assert [each.limited_df(one_sided=True) for each in errors] == [each.contributing for each in errors]
    assert errors[0].limited_df(one_sided=False) == pytest.approx(1.25 * errors[0].contributing ** 1.5)
    assert errors[1].limited_df(one_sided=False) == 9
    lows = [metric_interval(SHARE, values, clusters=clusters).low or 0 for values in (one, spread)]
    assert lows[0] < 0.9 < lows[1]


def test_unequal_clusters_have_at_least_the_error_of_their_correlation() -> None:
    sizes = [40, 40, *[4] * 20]
    clusters = [cluster for cluster, size in enumerate(sizes) for _ in range(size)]
    values = [float(cluster < 2 or cluster % 2 == 0) for cluster in clusters]  # related, but the large ones agree
    spread = mean_error(values, clusters)
    n, p = len(values), sum(values) / len(values)
    whole = math.sqrt(p * (1 - p) / n * sum(size * size for size in sizes) / n)  # if every cluster is one answer
    assert spread.error < 0.9 * whole
    assert spread.balanced_error == pytest.approx(whole)
    mixed = [float(place % 2) for place in range(n)]  # as many right as wrong in each cluster
    unrelated = mean_error(mixed, clusters)
    assert unrelated.error < 0.1 * unrelated.cautious_error
    assert unrelated.cautious_error == pytest.approx(math.sqrt(0.25 / n))


@pytest.mark.parametrize("aggregate", ["mean", "ratio", "p50"])
def test_clustered_samples_widen_the_interval(aggregate: str) -> None:
    draw = random.Random(4)
    centres = [draw.random() for _ in range(40)]
    values = [min(1.0, max(0.0, centres[place // 10] + draw.gauss(0, 0.02))) for place in range(400)]
    estimand = Estimand(aggregate=find_aggregate(aggregate), low=0.0, high=1.0)
    alone = metric_interval(estimand, values)
    result = metric_interval(estimand, values, clusters=[place // 10 for place in range(400)])
    assert None not in (alone.low, alone.high, result.low, result.high)
    assert result.high - result.low > 1.5 * (alone.high - alone.low)  # type: ignore[operator]


def test_gate_bounds_are_exact_for_unclustered_shares() -> None:
    values = [1.0] * 17 + [0.0] * 3
    result = gate_bounds(SHARE, values, confidence=0.95)
    assert result.method == "clopper-pearson"
    assert result.low == pytest.approx(beta_quantile(0.05, 17, 4))
    assert result.high == pytest.approx(beta_quantile(0.95, 18, 3))
    graded = gate_bounds(GRADED, values, confidence=0.95)
    assert graded == metric_interval(GRADED, values, level=0.9, one_sided=True)
    clustered = gate_bounds(SHARE, values, confidence=0.95, clusters=list(range(20)))
    assert clustered.method == "wilson-clustered"


@pytest.mark.parametrize("n", [20, 100, 500])
def test_false_pass_rate_of_exact_and_wilson_bounds(n: int) -> None:
    passing = {}
    for name, bound in (
        ("exact", [clopper_pearson(k, n, confidence=0.95)[0] for k in range(n + 1)]),
        ("wilson", [wilson(k, n, level=0.9)[0] for k in range(n + 1)]),
    ):
        passing[name] = max(
            sum(chance for chance, low in zip(chances(n, p / 1000), bound, strict=True) if low >= p / 1000)
            for p in range(500, 981, 4)
        )
    assert passing["exact"] <= 0.05 < passing["wilson"]


def chances(n: int, p: float) -> list[float]:
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    return [math.exp(logs[k] + k * math.log(p) + (n - k) * math.log1p(-p)) for k in range(n + 1)]


def coverages(interval: Callable[[float, int], tuple[float, float]], n: int) -> list[float]:
    """Exact coverage at p = .500 … .980 in steps of .004."""
    ends = [interval(k, n) for k in range(n + 1)]
    result = []
    for step in range(0, 481, 4):
        p = 0.5 + step / 1000
        result.append(sum(c for c, (low, high) in zip(chances(n, p), ends, strict=True) if low <= p <= high))
    return result


def wald(successes: float, n: int) -> tuple[float, float]:
    share = successes / n
    half = 1.959963984540054 * math.sqrt(share * (1 - share) / n)
    return share - half, share + half


def jeffreys(successes: float, n: int) -> tuple[float, float]:
    low = beta_quantile(0.025, successes + 0.5, n - successes + 0.5) if successes else 0.0
    high = beta_quantile(0.975, successes + 0.5, n - successes + 0.5) if successes < n else 1.0
    return low, high


def exact(successes: float, n: int) -> tuple[float, float]:
    return clopper_pearson(round(successes), n, confidence=0.975)


BANDS = {20: (0.895, 0.985), 50: (0.92, 0.985), 200: (0.93, 0.97)}


def accepted(interval: Callable[[float, int], tuple[float, float]]) -> bool:
    """Whether the coverage of an interval for shares is in its band at each n, on average and at worst."""
    result = {n: coverages(interval, n) for n in BANDS}
    return all(
        0.945 <= sum(each) / len(each) <= 0.96 and min(each) >= BANDS[n][0] and max(each) <= BANDS[n][1]
        for n, each in result.items()
    )


def test_coverage_of_wilson_wald_jeffreys_and_clopper_pearson() -> None:
    names = {"wilson": wilson, "wald": wald, "jeffreys": jeffreys, "clopper-pearson": exact}
    assert {name: accepted(interval) for name, interval in names.items()} == {
        "wilson": True,
        "wald": False,
        "jeffreys": False,
        "clopper-pearson": False,
    }
