"""Intervals of each metric: known values and coverage."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from evalrunner.stats.aggregates import Estimand, find_aggregate, gate_bounds, metric_interval
from evalrunner.stats.distributions import beta_quantile
from evalrunner.stats.intervals import Interval, clopper_pearson, mean_error, quantile_ranks, wilson

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
        (OPEN, 40, "t"),
        (OPEN, 20, "bca"),
        (Estimand(aggregate=find_aggregate("p50")), 40, "order-statistics"),
        (Estimand(aggregate=find_aggregate("ratio"), low=0.0, high=1.0), 40, "wilson"),
        (Estimand(aggregate=find_aggregate("variance")), 40, "bca"),
        (Estimand(aggregate=find_aggregate("variance")), 6000, "moments"),
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


def test_students_interval_matches_scipy() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    values = draws(50, lambda draw: draw.gauss(5, 2))
    other = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    result = metric_interval(Estimand(), values)
    assert (result.low, result.high) == (pytest.approx(other.low, abs=1e-9), pytest.approx(other.high, abs=1e-9))


def test_effective_sample_size_of_a_graded_mean() -> None:
    values = [0.0, 0.5, 1.0, 1.0, 0.5] * 8
    result = metric_interval(GRADED, values)
    mean, error = 0.6, math.sqrt(0.14 / 39)  # population variance .14
    assert result.n_effective == pytest.approx(mean * (1 - mean) / error**2)
    other_scale = metric_interval(Estimand(low=0.0, high=10.0), [10 * value for value in values])
    assert result.low is not None and result.high is not None
    assert (other_scale.low, other_scale.high) == (pytest.approx(10 * result.low), pytest.approx(10 * result.high))


def test_equal_values_carry_a_warning() -> None:
    graded = metric_interval(GRADED, [1.0] * 20)
    assert graded.n_effective == 20
    assert graded.low is not None and 0.75 < graded.low < 0.9
    assert graded.high == 1.0
    for estimand in (OPEN, Estimand(aggregate=find_aggregate("variance"))):
        for n in (20, 40):
            result = metric_interval(estimand, [0.1] * n)
            assert result.low == result.high
            assert result.note == "all values are equal: the interval cannot show what was not observed"


def test_a_single_value_has_an_interval_only_if_binary() -> None:
    assert metric_interval(GRADED, [0.5]).method is None
    assert metric_interval(Estimand(aggregate=find_aggregate("variance")), [0.5]).low is None
    assert metric_interval(SHARE, [1.0]).low == pytest.approx(0.2065, abs=1e-4)


def test_bca_matches_scipy_except_for_the_resamples() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    numpy = pytest.importorskip("numpy")
    for n in (25, 300):
        values = draws(n, lambda draw: draw.expovariate(1))
        for estimand, statistic in ((OPEN, numpy.mean), (Estimand(aggregate=find_aggregate("variance")), numpy.var)):
            if n >= 30 and estimand is OPEN:
                continue
            other = scipy_stats.bootstrap(
                (values,), statistic, n_resamples=20_000, method="BCa", rng=numpy.random.default_rng(1)
            ).confidence_interval
            result = metric_interval(estimand, values, seed=7)
            assert result.method == "bca"
            assert (result.low, result.high) == (
                pytest.approx(other.low, rel=0.06),
                pytest.approx(other.high, rel=0.06),
            )
            assert metric_interval(estimand, values, seed=7) == result


@pytest.mark.parametrize("values", [(0.6735480531105029, 1.7414238118768908), (0.1, 0.3), (1 / 3, 2 / 3)])
def test_bootstrap_of_two_values_spans_both(values: tuple[float, float]) -> None:
    result = metric_interval(OPEN, values)
    assert (result.low, result.high) == (pytest.approx(values[0]), pytest.approx(values[1]))
    assert metric_interval(Estimand(aggregate=find_aggregate("variance")), values).low == 0.0


def test_quantile_ranks_match_the_binomial() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for n in (12, 36, 100, 999):
        for share in (0.5, 0.9, 0.99):
            low, high = quantile_ranks(n, share)
            fits = [rank for rank in range(1, n + 1) if binom.cdf(rank - 1, n, share) <= 0.025]
            above = [rank for rank in range(1, n + 1) if binom.sf(rank - 1, n, share) <= 0.025]
            assert (low, high) == (max(fits, default=None), min(above, default=None))


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
    for count in (4, 5, 19, 20):
        result = metric_interval(SHARE, values, clusters=[place % count for place in range(60)])
        notes[count] = (result.method, result.note)
    assert notes == {
        4: (None, "no interval: 4 clusters, at least 5 are needed"),
        5: ("wilson-clustered", "only 5 clusters: the interval may be too narrow"),
        19: ("wilson-clustered", "only 19 clusters: the interval may be too narrow"),
        20: ("wilson-clustered", None),
    }


@pytest.mark.parametrize("aggregate", ["mean", "variance", "ratio", "p50"])
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
    assert graded == metric_interval(GRADED, values, level=0.9)
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
