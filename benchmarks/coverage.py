"""Coverage of intervals and error rates of gates: the measured table of docs/statistics.md.

    python benchmarks/coverage.py                      # all sections, about ten minutes
    python benchmarks/coverage.py shares paired        # some sections
    python benchmarks/coverage.py clustered --repeats 2000

Exact enumeration where possible, otherwise simulation with a fixed seed. Needs the extra `dev` (numpy, scipy).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator

import numpy
from bands import SEED, Draw, Line, between, percent
from gate_errors import paired
from power import power
from scipy import stats

from evalrunner.stats.aggregates import Estimand, metric_interval
from evalrunner.stats.distributions import beta_quantile, normal_quantile, t_quantile
from evalrunner.stats.intervals import clopper_pearson, wilson

GRADED = Estimand(low=0.0, high=1.0)

# ---- one share, by enumeration ---------------------------------------------------------------------------------

LEAST = {20: 0.895, 50: 0.92, 100: 0.925, 200: 0.93, 500: 0.93, 1000: 0.93, 2000: 0.93}
SHARES = numpy.arange(500, 981) / 1000


def wald(k: int, n: int) -> tuple[float, float]:
    half = normal_quantile(0.975) * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def jeffreys(k: int, n: int) -> tuple[float, float]:
    low = beta_quantile(0.025, k + 0.5, n - k + 0.5) if k else 0.0
    return low, beta_quantile(0.975, k + 0.5, n - k + 0.5) if k < n else 1.0


def exact(k: int, n: int) -> tuple[float, float]:
    return clopper_pearson(k, n, confidence=0.975)


def shares(repeats: int) -> Iterator[Line]:
    chances = {n: stats.binom.pmf(numpy.arange(n + 1), n, SHARES[:, None]) for n in LEAST}
    ways: dict[str, Callable[[int, int], tuple[float, float]]] = {
        "Wilson": wilson, "Wald": wald, "Jeffreys": jeffreys, "Clopper-Pearson": exact,
    }  # fmt: skip
    for name, way in ways.items():
        met, label = True, ""
        for n, least in LEAST.items():
            ends = numpy.array([way(k, n) for k in range(n + 1)])
            inside = (ends[:, 0] <= SHARES[:, None]) & (SHARES[:, None] <= ends[:, 1])
            covered = (chances[n] * inside).sum(axis=1)
            most = 0.985 if n < 200 else 0.97
            good = 0.945 <= covered.mean() <= 0.96 and covered.min() >= least and covered.max() <= most
            met = met and good
            found = f"mean {percent(covered.mean())}, {between(list(covered))}"
            label = found if n == 20 else label
            if name == "Wilson":
                asked = f"mean 94.5 to 96%, all {percent(least)} to {percent(most)}"
                yield Line(f"0/1, Wilson, n = {n:,}", found, asked, good)
        if name != "Wilson":
            yield Line(f"0/1, {name}, n = 20", label, "misses these bands at some n", not met)
    for name, way in ("Clopper-Pearson", exact_bound), ("Wilson", wilson_bound):
        worst = 0.0
        for n in (20, 50, 100, 200, 500, 1000):
            low = numpy.array([way(k, n) for k in range(n + 1)])
            worst = max(worst, float((chances[n] * (low >= SHARES[:, None])).sum(axis=1).max()))
        yield Line(
            f"gate at 95% confidence, model at the threshold passes, {name}", f"at most {percent(worst)}",
            "at most 5.0%" if name != "Wilson" else "more", (worst <= 0.05) == (name != "Wilson"),
        )  # fmt: skip


def exact_bound(k: int, n: int) -> float:
    return clopper_pearson(k, n, confidence=0.95)[0]


def wilson_bound(k: int, n: int) -> float:
    return wilson(k, n, level=0.9)[0]


# ---- graded means ----------------------------------------------------------------------------------------------

DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "90% at 1, others Beta(2, 2)": (lambda g, s: numpy.where(g.random(s) < 0.9, 1.0, g.beta(2, 2, s)), 0.95),
    "uniform": (lambda g, s: g.random(s), 0.5),
    "Beta(8, 2)": (lambda g, s: g.beta(8, 2, s), 0.8),
    "0, ½, 1 with .2, .3, .5": (lambda g, s: g.choice([0.0, 0.5, 1.0], s, p=[0.2, 0.3, 0.5]), 0.65),
    "bimodal, Beta(½, ½)": (lambda g, s: g.beta(0.5, 0.5, s), 0.5),
    "rare low: 5% uniform below ½, else 1": (
        lambda g, s: numpy.where(g.random(s) < 0.05, g.uniform(0, 0.5, s), 1.0), 0.9625,
    ),
}  # fmt: skip
HARDER: dict[str, tuple[Draw, float]] = {
    "90% at 1, others uniform": (lambda g, s: numpy.where(g.random(s) < 0.9, 1.0, g.random(s)), 0.95),
    "rare low below a spread: 5% Beta(2, 8), else Beta(20, 2)": (
        lambda g, s: numpy.where(g.random(s) < 0.05, g.beta(2, 8, s), g.beta(20, 2, s)), 0.05 * 0.2 + 0.95 * 20 / 22,
    ),
}  # fmt: skip
"""Distributions whose rare values 20 rows often miss."""


def graded(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    for name, (draw, mean) in DISTRIBUTIONS.items():
        found = [_graded_coverage(draw(generator, (repeats, n)), mean) for n in (20, 50, 100, 200, 500)]
        good = min(found) >= 0.93 and max(found) <= 0.98
        yield Line(f"graded, {name}, n = 20 to 500", between(found), "93 to 98%", good)
    for name, (draw, mean) in HARDER.items():
        found = [_graded_coverage(draw(generator, (repeats, n)), mean) for n in (20, 50, 100, 200, 500)]
        label = ", ".join(percent(share) for share in found)
        yield Line(f"graded, {name}, n = 20, 50, 100, 200, 500", label, "–", None)
    drawn = DISTRIBUTIONS["90% at 1, others Beta(2, 2)"][0](generator, (repeats, 20))
    half = t_quantile(0.975, 19) * drawn.std(axis=1, ddof=1) / math.sqrt(20)
    plain = float((abs(drawn.mean(axis=1) - 0.95) <= half).mean())
    yield Line("graded, Student's t instead, 90% at 1, others Beta(2, 2), n = 20", percent(plain), "–", None)


def _graded_coverage(drawn: numpy.ndarray, mean: float) -> float:
    intervals = [metric_interval(GRADED, values) for values in drawn.tolist()]
    return sum(found.low <= mean <= found.high for found in intervals) / len(intervals)


# ---- clustered shares ------------------------------------------------------------------------------------------


def clustered(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    easy: list[float] = []
    hard: list[float] = []
    for count in (5, 10, 20, 50):
        for icc in (0.0, 0.1, 0.3):
            for p in (0.5, 0.8, 0.95):
                covered = [_clustered_coverage(generator, count, icc, p, sizes, repeats) for sizes in _sizes(count)]
                (easy if count >= 20 and icc <= 0.1 else hard).extend(covered)
                print(f"clusters {count}, ICC {icc}, p {p}: {[percent(each) for each in covered]}", file=sys.stderr)
    good = min(easy) >= 0.92 and max(easy) <= 0.97 and 0.94 <= numpy.mean(easy) <= 0.96
    yield Line(
        "clustered, 20 and 50 clusters, ICC ≤ .1", f"mean {percent(float(numpy.mean(easy)))}, {between(easy)}",
        "mean 94 to 96%, all 92 to 97%", bool(good),
    )  # fmt: skip
    yield Line(
        "clustered, 5 and 10 clusters, or ICC .3", f"mean {percent(float(numpy.mean(hard)))}, {between(hard)}",
        "mean at least 93%, all at least 87%", bool(min(hard) >= 0.87 and numpy.mean(hard) >= 0.93),
    )  # fmt: skip
    ignored = _clustered_coverage(generator, 20, 0.3, 0.8, [20] * 20, repeats, heeded=False)
    yield Line("clusters ignored, 20 of 20 samples each, ICC .3", percent(ignored), "–", None)


def _sizes(count: int) -> tuple[list[int], list[int]]:
    """Five samples per cluster, or two, five and eight."""
    return [5] * count, [2 + 3 * (place % 3) for place in range(count)]


def _clustered_coverage(
    generator: numpy.random.Generator,
    count: int,
    icc: float,
    p: float,
    sizes: list[int],
    repeats: int,
    *,
    heeded: bool = True,
) -> float:
    clusters = [place for place, size in enumerate(sizes) for _ in range(size)]
    share = Estimand(binary=True)
    covered = 0
    for _ in range(repeats):
        centres = generator.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, count) if icc else numpy.full(count, p)
        values = (generator.random(len(clusters)) < centres[clusters]).astype(float).tolist()
        interval = metric_interval(share, values, clusters=clusters if heeded else None)
        covered += interval.low <= p <= interval.high
    return covered / repeats


SECTIONS = {"shares": shares, "graded": graded, "clustered": clustered, "paired": paired, "power": power}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--repeats", type=int, default=10_000, help="repeats of a simulated cell")
    options = parser.parse_args()
    print("| method | measured | required | met |\n|---|---|---|---|")
    met = True
    for name in options.sections or SECTIONS:
        for line in SECTIONS[name](options.repeats):
            print(line, flush=True)
            met = met and line.met is not False
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
