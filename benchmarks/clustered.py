"""Coverage and error rates of clustered shares: part of benchmarks/coverage.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy
from bands import SEED, Line, below, between, percent, within

from evalrunner.stats.aggregates import Estimand, find_aggregate, gate_bounds, metric_interval
from evalrunner.stats.intervals import Interval

CORRELATIONS = (0.0, 0.1, 0.3, 0.5, 0.7)
SHARES = (0.5, 0.8, 0.9, 0.95)
SHARE = Estimand(binary=True)


def clustered(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    fewer = max(1, repeats // 5)
    for count in (10, 20, 50):
        found, missed = _cells(generator, count, fewer)
        low = min(found)
        yield Line(
            f"clustered, {count} clusters, ICC 0 to .7", f"mean {percent(float(numpy.mean(found)))}, {between(found)}",
            "all at least 93%, mean at most 98%",
            within([low], fewer, high=1.0) and float(numpy.mean(found)) <= 0.98,
        )  # fmt: skip
        yield Line(
            f"clustered, {count} clusters: cells of 93 to 98%",
            f"{sum(within([each], fewer) for each in found)} of {len(found)}", "–", None,
        )  # fmt: skip
        yield Line(
            f"gate at 95% confidence, {count} clusters, share at the threshold, passes or fails",
            f"at most {percent(max(missed))}", "at most 6.5%", below(missed, fewer, 0.065),
        )  # fmt: skip
    easy = [
        _coverage(generator, count, icc, p, sizes, 2 * fewer, metric_interval)[0]
        for count in (20, 50)
        for icc in (0.0, 0.1)
        for p in (0.5, 0.8, 0.95)
        for sizes in _sizes(count)[::2]
    ]
    yield Line(
        "clustered, 20 and 50 clusters, ICC ≤ .1", f"mean {percent(float(numpy.mean(easy)))}, {between(easy)}",
        "all 92 to 98%", min(easy) >= 0.92 and max(easy) <= 0.98,
    )  # fmt: skip
    ignored = _coverage(
        generator, 20, 0.3, 0.8, [20] * 20, fewer, lambda share, values, clusters: metric_interval(share, values)
    )
    yield Line("clusters ignored, 20 of 20 samples each, ICC .3", percent(ignored[0]), "–", None)
    yield from _other_metrics(generator, fewer)


def _cells(generator: numpy.random.Generator, count: int, repeats: int) -> tuple[list[float], list[float]]:
    found, missed = [], []
    for icc in CORRELATIONS:
        for p in SHARES:
            for sizes in _sizes(count):
                found.append(_coverage(generator, count, icc, p, sizes, repeats, metric_interval)[0])
                missed.append(max(_coverage(generator, count, icc, p, sizes, repeats, _bounds)[1:]))
    return found, missed


def _bounds(estimand: Estimand, values: Sequence[float], clusters: Sequence[int]) -> Interval:
    return gate_bounds(estimand, values, confidence=0.95, clusters=clusters)


def _sizes(count: int) -> tuple[list[int], list[int], list[int]]:
    """Five samples per cluster; twenty; or two, five and eight."""
    return [5] * count, [20] * count, [2 + 3 * (place % 3) for place in range(count)]


def _coverage(
    generator: numpy.random.Generator,
    count: int,
    icc: float,
    p: float,
    sizes: list[int],
    repeats: int,
    interval: Callable[..., Interval],
) -> tuple[float, float, float]:
    """How often an interval covers, lies above and lies below: Beta-distributed shares of the clusters."""
    shape = (1 - icc) / icc if icc else 0.0
    centres = generator.beta(p * shape, (1 - p) * shape, (repeats, count)) if icc else numpy.full((repeats, count), p)
    rights = generator.binomial(sizes, centres)

    @cache
    def ends(groups: tuple[tuple[int, int], ...]) -> tuple[float, float]:
        values = [float(place < right) for size, right in groups for place in range(size)]
        clusters = [cluster for cluster, (size, _) in enumerate(groups) for _ in range(size)]
        found = interval(SHARE, values, clusters=clusters)
        assert found.low is not None and found.high is not None
        return found.low, found.high

    every = [ends(tuple(sorted(zip(sizes, row, strict=True)))) for row in rights.tolist()]
    above, under = sum(low > p for low, _ in every) / repeats, sum(high < p for _, high in every) / repeats
    return 1 - above - under, above, under


def _other_metrics(generator: numpy.random.Generator, repeats: int) -> Iterator[Line]:
    """Graded scores, the median, and values of an open range, of 30 clusters of five."""
    clusters = [place // 5 for place in range(150)]
    for name, estimand, true, exponential in (
        ("graded mean", Estimand(low=0.0, high=1.0), 0.7, False),
        ("median", Estimand(aggregate=find_aggregate("p50"), low=0.0, high=1.0), None, False),
        ("mean of an open range, lognormal", Estimand(), None, True),
    ):
        found = []
        for icc in (0.0, 0.3, 0.7):
            values = _related(generator, icc, (repeats + 20_000, 150), clusters)
            drawn = numpy.exp(values) if exponential else 1 / (1 + numpy.exp(-values - 1))
            middle = float(drawn.mean()) if true is not None or exponential else float(numpy.median(drawn))
            intervals = [metric_interval(estimand, row, clusters=clusters) for row in drawn[:repeats].tolist()]
            found.append(sum((each.low or 0) <= middle <= (each.high or 0) for each in intervals) / repeats)
        yield Line(
            f"clustered {name}, 30 clusters of five, ICC 0, .3 and .7", between(found), "93 to 98%",
            within(found, repeats),
        )  # fmt: skip


def _related(
    generator: numpy.random.Generator, icc: float, size: tuple[int, int], clusters: list[int]
) -> numpy.ndarray:
    """Standard normal values of which any two in a cluster have this correlation."""
    common = generator.normal(size=(size[0], max(clusters) + 1))[:, clusters]
    return icc**0.5 * common + (1 - icc) ** 0.5 * generator.normal(size=size)
