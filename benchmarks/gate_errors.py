"""Error rates of gates with a baseline: part of benchmarks/coverage.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy
from bands import SEED, Draw, Line, at_most, percent
from scipy import stats

from evalrunner.stats.distributions import normal_quantile
from evalrunner.stats.hypothesis_tests import ALPHA, holm, mcnemar, non_inferiority, tango_score

Z = normal_quantile(1 - ALPHA)

# ---- max_drop --------------------------------------------------------------------------------------------------


def paired(repeats: int) -> Iterator[Line]:
    """Models exactly at the margin, by enumeration of every (b, c)."""
    for n in (50, 200, 1000):
        most = 0.0
        for margin in (0.01, 0.02, 0.03, 0.04, 0.05):
            for discordance in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
                most = max(most, _passing_at_margin(n, margin, discordance))
        yield Line(
            f"max_drop, 0/1, at the margin passes, n = {n:,}",
            f"at most {percent(most)}",
            "at most 5.5%",
            most <= 0.055,
        )
    least, most = _insignificant_at_margin()
    yield Line(
        "“no significant difference” (McNemar) instead, at the margin passes, n = 50 and 200",
        f"{percent(least)} to {percent(most)}", "–", None,
    )  # fmt: skip
    yield from _clustered_paired(repeats)
    yield from _graded_paired(repeats)
    yield from _several_gates(repeats)


def _passing_at_margin(n: int, margin: float, discordance: float) -> float:
    """`tango_score` ≤ −z, which equals `decision == "pass"`; calling the gate is too slow for 500,000 cells."""
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


def _insignificant_at_margin() -> tuple[float, float]:
    """How often such models show no significant difference at .05, two-sided: minimum and maximum over the same cells."""
    found = []
    for n in (50, 200):
        silent = [[mcnemar(b, c) > 0.05 for c in range(n + 1 - b)] for b in range(n + 1)]
        for margin in (0.01, 0.02, 0.03, 0.04, 0.05):
            for discordance in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
                worse, better = (discordance + margin) / 2, (discordance - margin) / 2
                found.append(
                    sum(
                        float(stats.binom.pmf(b, n, worse))
                        * float(
                            (stats.binom.pmf(numpy.arange(n - b + 1), n - b, better / (1 - worse)) * silent[b]).sum()
                        )
                        for b in range(n + 1)
                    )
                )
    return min(found), max(found)


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
        "max_drop, clustered 0/1, 20 and 50 clusters, ICC ≤ .3", f"at most {percent(worst)}", "at most 6.5%", met
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
            f"max_drop .05, graded, {name}, n = 20, 50, 200", f"at most {percent(max(found))}", "at most 6.5%", met
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
        "five gates at the margin, any fails, with Holm",
        percent(corrected / repeats),
        "at most 5.5%",
        at_most(corrected, repeats, 0.055),
    )
    yield Line(
        "five gates at the margin, any fails, without", percent(plain / repeats), "about 22%", plain / repeats > 0.15
    )
    yield Line(
        "one of five gates at its margin, all pass",
        percent(all_pass / repeats),
        "at most 5.5%",
        at_most(all_pass, repeats, 0.055),
    )
