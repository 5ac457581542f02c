"""How often intervals cover and gates err: the measured table of docs/statistics.md.

    python benchmarks/coverage.py                      # everything, about ten minutes
    python benchmarks/coverage.py shares paired        # some of it
    python benchmarks/coverage.py clustered --repeats 2000

Exact enumeration where outcomes can be counted, else simulation with a fixed seed. Needs the extra `dev` (numpy, scipy).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy
from scipy import stats

from evalrun.stats.distributions import beta_quantile, normal_quantile
from evalrun.stats.intervals import Estimand, clopper_pearson, metric_interval, wilson
from evalrun.stats.paired import ALPHA, holm, non_inferiority, tango_score
from evalrun.stats.planning import design_effect, smallest_drop, smallest_drop_binary

SEED = 20_240
Z = normal_quantile(1 - ALPHA)
GRADED = Estimand(low=0.0, high=1.0)


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    measured: str
    asked: str
    met: bool | None  # None: nothing was asked for

    def __str__(self) -> str:
        met = "–" if self.met is None else "yes" if self.met else "**no**"
        return f"| {self.what} | {self.measured} | {self.asked} | {met} |"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def between(values: Sequence[float]) -> str:
    return f"{percent(min(values))} to {percent(max(values))}"


def at_most(hits: int, repeats: int, bound: float) -> bool:
    """Whether "the rate is at most the bound" is not refuted: a one-sided binomial test at .01."""
    return float(stats.binom.sf(hits - 1, repeats, bound)) >= 0.01


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
        met = True
        for n, least in LEAST.items():
            ends = numpy.array([way(k, n) for k in range(n + 1)])
            inside = (ends[:, 0] <= SHARES[:, None]) & (SHARES[:, None] <= ends[:, 1])
            covered = (chances[n] * inside).sum(axis=1)
            most = 0.985 if n < 200 else 0.97
            good = 0.945 <= covered.mean() <= 0.96 and covered.min() >= least and covered.max() <= most
            met = met and good
            if name == "Wilson":
                asked = f"mean 94.5 to 96 %, all {percent(least)} to {percent(most)}"
                shown = f"mean {percent(covered.mean())}, {between(list(covered))}"
                yield Line(f"0/1, Wilson, n = {n:,}", shown, asked, good)
        if name != "Wilson":
            yield Line(f"0/1, {name}", "misses the bands" if not met else "meets them", "misses them", not met)
    for name, way in ("Clopper-Pearson", exact_bound), ("Wilson", wilson_bound):
        worst = 0.0
        for n in (20, 50, 100, 200, 500, 1000):
            low = numpy.array([way(k, n) for k in range(n + 1)])
            worst = max(worst, float((chances[n] * (low >= SHARES[:, None])).sum(axis=1).max()))
        yield Line(
            f"gate at 95 % confidence, model at the bound passes, {name}", f"at most {percent(worst)}",
            "at most 5.0 %" if name != "Wilson" else "more", (worst <= 0.05) == (name != "Wilson"),
        )  # fmt: skip


def exact_bound(k: int, n: int) -> float:
    return clopper_pearson(k, n, confidence=0.95)[0]


def wilson_bound(k: int, n: int) -> float:
    return wilson(k, n, level=0.9)[0]


# ---- graded means ----------------------------------------------------------------------------------------------

Draw = Callable[[numpy.random.Generator, tuple[int, ...]], numpy.ndarray]
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "90 % at 1, the rest Beta(2, 2)": (lambda g, s: numpy.where(g.random(s) < 0.9, 1.0, g.beta(2, 2, s)), 0.95),
    "uniform": (lambda g, s: g.random(s), 0.5),
    "Beta(8, 2)": (lambda g, s: g.beta(8, 2, s), 0.8),
    "0, ½, 1 with .2, .3, .5": (lambda g, s: g.choice([0.0, 0.5, 1.0], s, p=[0.2, 0.3, 0.5]), 0.65),
    "bimodal, Beta(½, ½)": (lambda g, s: g.beta(0.5, 0.5, s), 0.5),
    "rare low: 5 % uniform below ½, else 1": (
        lambda g, s: numpy.where(g.random(s) < 0.05, g.uniform(0, 0.5, s), 1.0), 0.9625,
    ),
}  # fmt: skip
HARDER: dict[str, tuple[Draw, float]] = {
    "90 % at 1, the rest uniform": (lambda g, s: numpy.where(g.random(s) < 0.9, 1.0, g.random(s)), 0.95),
    "rare low below a spread: 5 % Beta(2, 8), else Beta(20, 2)": (
        lambda g, s: numpy.where(g.random(s) < 0.05, g.beta(2, 8, s), g.beta(20, 2, s)), 0.05 * 0.2 + 0.95 * 20 / 22,
    ),
}  # fmt: skip
"""Shapes of which 20 rows can hide what matters; shown so that nobody is surprised."""


def graded(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    for name, (draw, mean) in DISTRIBUTIONS.items():
        found = [_graded_coverage(draw(generator, (repeats, n)), mean) for n in (20, 50, 100, 200, 500)]
        good = min(found) >= 0.93 and max(found) <= 0.98
        yield Line(f"graded, {name}, n = 20 to 500", between(found), "93 to 98 %", good)
    for name, (draw, mean) in HARDER.items():
        found = [_graded_coverage(draw(generator, (repeats, n)), mean) for n in (20, 50, 100, 200, 500)]
        shown = ", ".join(percent(share) for share in found)
        yield Line(f"graded, {name}, n = 20, 50, 100, 200, 500", shown, "–", None)


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
                covered = [_clustered_coverage(generator, count, icc, p, sizes, repeats) for sizes in (False, True)]
                (easy if count >= 20 and icc <= 0.1 else hard).extend(covered)
                print(f"clusters {count}, ICC {icc}, p {p}: {[percent(each) for each in covered]}", file=sys.stderr)
    good = min(easy) >= 0.92 and max(easy) <= 0.97 and 0.94 <= numpy.mean(easy) <= 0.96
    yield Line(
        "clustered, 20 and 50 clusters, ICC ≤ .1", f"mean {percent(float(numpy.mean(easy)))}, {between(easy)}",
        "mean 94 to 96 %, all 92 to 97 %", bool(good),
    )  # fmt: skip
    yield Line(
        "clustered, 5 and 10 clusters, or ICC .3", f"mean {percent(float(numpy.mean(hard)))}, {between(hard)}",
        "mean at least 93 %, all at least 87 %", bool(min(hard) >= 0.87 and numpy.mean(hard) >= 0.93),
    )  # fmt: skip


def _clustered_coverage(
    generator: numpy.random.Generator, count: int, icc: float, p: float, unequal: bool, repeats: int
) -> float:
    sizes = [2 + 3 * (place % 3) for place in range(count)] if unequal else [5] * count
    clusters = [place for place, size in enumerate(sizes) for _ in range(size)]
    share = Estimand(binary=True)
    covered = 0
    for _ in range(repeats):
        centres = generator.beta(p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc, count) if icc else numpy.full(count, p)
        values = (generator.random(len(clusters)) < centres[clusters]).astype(float).tolist()
        interval = metric_interval(share, values, clusters=clusters)
        covered += interval.low <= p <= interval.high
    return covered / repeats


# ---- max_drop --------------------------------------------------------------------------------------------------


def paired(repeats: int) -> Iterator[Line]:
    """Models that sit exactly at the margin, by enumeration of every (b, c)."""
    for n in (50, 200, 1000):
        most = 0.0
        for margin in (0.01, 0.02, 0.03, 0.04, 0.05):
            for discordance in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
                most = max(most, _passing_at_margin(n, margin, discordance))
        yield Line(
            f"max_drop, 0/1, at the margin passes, n = {n:,}",
            f"at most {percent(most)}",
            "at most 5.5 %",
            most <= 0.055,
        )
    yield from _clustered_paired(repeats)
    yield from _graded_paired(repeats)
    yield from _several_gates(repeats)


def _passing_at_margin(n: int, margin: float, discordance: float) -> float:
    """`tango_score` at most −z is what `decision == "pass"` comes to; the rest of the way is too slow for 500,000 cells."""
    worse, better = (discordance + margin) / 2, (discordance - margin) / 2
    found = 0.0
    c = numpy.arange(n + 1)
    for b in range(n + 1):
        outer = float(stats.binom.pmf(b, n, worse))
        if outer < 1e-9:
            continue
        inner = stats.binom.pmf(c[: n - b + 1], n - b, better / (1 - worse))
        found += outer * sum(
            float(chance)
            for other, chance in enumerate(inner)
            if chance > 1e-9 and tango_score(b, other, n, margin) <= -Z
        )
    return found


def _clustered_paired(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    worst, met = 0.0, True
    for count in (20, 50):
        for icc in (0.0, 0.1, 0.3):
            for margin in (0.02, 0.05):
                clusters = [place // 5 for place in range(5 * count)]
                hits = 0
                for _ in range(repeats):
                    alone = _three_valued(generator, len(clusters), margin)
                    common = _three_valued(generator, count, margin)[clusters]
                    shared = generator.random(len(clusters)) < math.sqrt(icc)
                    drops = numpy.where(shared, common, alone).tolist()
                    hits += non_inferiority(drops, max_drop=margin, clusters=clusters).decision == "pass"
                worst, met = max(worst, hits / repeats), met and at_most(hits, repeats, 0.065)
    yield Line(
        "max_drop, clustered 0/1, 20 and 50 clusters, ICC ≤ .3", f"at most {percent(worst)}", "at most 6.5 %", met
    )


def _three_valued(
    generator: numpy.random.Generator, size: int, margin: float, discordance: float = 0.2
) -> numpy.ndarray:
    return generator.choice(
        [1.0, -1.0, 0.0], size, p=[(discordance + margin) / 2, (discordance - margin) / 2, 1 - discordance]
    )


DROPS: dict[str, Draw] = {
    "rare large drops": lambda g, s: numpy.where(g.random(s) < 0.05, 1.0, 0.0),
    "rare large drops in noise": lambda g, s: numpy.where(g.random(s) < 0.05, 0.81, 0.01) + g.normal(0, 0.02, s),
    "drops and gains of a half": lambda g, s: g.choice([0.5, -0.5, 0.0], s, p=[0.2, 0.1, 0.7]),
    "noise on every pair": lambda g, s: numpy.clip(g.normal(0.05, 0.15, s), -1, 1),
    "two uniform scores": lambda g, s: g.uniform(0.05, 1, s) - g.uniform(0, 0.95, s) + 0.0,
    "small steady drop": lambda g, s: g.uniform(0, 0.1, s),
}  # each of mean .05


def _graded_paired(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    for name, draw in DROPS.items():
        found, met = [], True
        for n in (20, 50, 200):
            hits = sum(
                non_inferiority(drops, max_drop=0.05, span=1.0).decision == "pass"
                for drops in draw(generator, (repeats, n)).tolist()
            )
            found.append(hits / repeats)
            met = met and at_most(hits, repeats, 0.065)
        yield Line(
            f"max_drop .05, graded, {name}, n = 20, 50, 200", f"at most {percent(max(found))}", "at most 6.5 %", met
        )


def _several_gates(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    n, margin, discordance = 500, 0.03, 0.2
    at_border = [(discordance + margin) / 2, (discordance - margin) / 2, 1 - discordance]
    alike = [discordance / 2, discordance / 2, 1 - discordance]
    plain = corrected = all_pass = 0
    for _ in range(repeats):
        counts = generator.multinomial(n, at_border, size=5)
        p_values = [float(stats.norm.sf(tango_score(int(b), int(c), n, margin))) for b, c, _ in counts]
        plain += min(p_values) <= ALPHA
        corrected += min(holm(p_values)) <= ALPHA
        fine = generator.multinomial(n, alike, size=4)
        scores = [tango_score(int(b), int(c), n, 0.2) for b, c, _ in fine] + [
            tango_score(int(counts[0][0]), int(counts[0][1]), n, margin)
        ]
        all_pass += max(scores) <= -Z
    yield Line(
        "five gates at the border, any fails, with Holm",
        percent(corrected / repeats),
        "at most 5.5 %",
        at_most(corrected, repeats, 0.055),
    )
    yield Line(
        "five gates at the border, any fails, without", percent(plain / repeats), "about 22 %", plain / repeats > 0.15
    )
    yield Line(
        "one of five gates at its margin, all pass",
        percent(all_pass / repeats),
        "at most 5.5 %",
        at_most(all_pass, repeats, 0.055),
    )


# ---- the smallest detectable drop ------------------------------------------------------------------------------


def power(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    found = []
    for n in (200, 500, 1000):
        for psi in (0.1, 0.2, 0.3):
            drop = smallest_drop_binary(n=n, discordance=psi)
            counts = generator.multinomial(n, [(psi + drop) / 2, (psi - drop) / 2, 1 - psi], size=repeats)
            found.append(sum(tango_score(int(b), int(c), n, 0.0) >= Z for b, c, _ in counts) / repeats)
    yield Line(
        "power at the smallest drop, 0/1, n = 200 to 1,000",
        between(found),
        "77 to 86 %",
        min(found) >= 0.77 and max(found) <= 0.86,
    )
    found = []
    for n in (50, 200):
        drop = smallest_drop(n=n, variance=0.09, span=1.0)
        for drops in [generator.normal(drop, 0.3, (repeats, n))]:
            found.append(sum(_worse(each, None) for each in drops.tolist()) / repeats)
    yield Line(
        "power at the smallest drop, graded, n = 50 and 200",
        between(found),
        "77 to 86 %",
        min(found) >= 0.77 and max(found) <= 0.86,
    )
    found = []
    for count, icc in ((40, 0.1), (100, 0.3)):
        drop = smallest_drop(n=5 * count, variance=0.09, span=1.0, deff=design_effect([5] * count, icc), df=count - 1)
        clusters = [place // 5 for place in range(5 * count)]
        hits = 0
        for _ in range(repeats):
            common = generator.normal(0, 0.3 * math.sqrt(icc), count)[clusters]
            drops = drop + common + generator.normal(0, 0.3 * math.sqrt(1 - icc), 5 * count)
            hits += _worse(drops.tolist(), clusters)
        found.append(hits / repeats)
    yield Line(
        "power at the smallest drop, graded in 40 and 100 clusters",
        between(found),
        "77 to 86 %",
        min(found) >= 0.77 and max(found) <= 0.86,
    )


def _worse(drops: list[float], clusters: list[int] | None) -> bool:
    """Whether the drop is proven, the range taken as what normal differences keep to."""
    return non_inferiority(drops, max_drop=0.0, span=1.0, clusters=clusters).decision == "fail"


SECTIONS = {"shares": shares, "graded": graded, "clustered": clustered, "paired": paired, "power": power}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--repeats", type=int, default=10_000, help="repeats of a simulated cell")
    options = parser.parse_args()
    print("| what | measured | asked for | met |\n|---|---|---|---|")
    met = True
    for name in options.sections or SECTIONS:
        for line in SECTIONS[name](options.repeats):
            print(line, flush=True)
            met = met and line.met is not False
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
