"""Error rates of gates with a baseline: part of benchmarks/coverage.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy
from bands import SEED, Draw, Line, at_most, below, percent
from scipy import stats

from evalrunner.stats.distributions import normal_quantile
from evalrunner.stats.hypothesis_tests import ALPHA, holm, margin_p_values, mcnemar, non_inferiority, tango_score

Z = normal_quantile(1 - ALPHA)

# ---- max_drop --------------------------------------------------------------------------------------------------


MARGINS = (0.01, 0.02, 0.03, 0.04, 0.05)
DISCORDANCES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
LEVELS = (0.05, 0.025, 0.01, 0.005)


def paired(repeats: int) -> Iterator[Line]:
    """Models exactly at the margin, by enumeration of every (b, c)."""
    for n in (50, 100, 200, 500, 1000):
        cells = [_deciding_at_margin(n, margin) for margin in MARGINS]
        for name, side in (("passes", 0), ("fails", 1)):
            found = [max(cell[side][level] for cell in cells) for level in range(len(LEVELS))]
            good = all(rate <= 1.1 * level for rate, level in zip(found, LEVELS, strict=True))
            levels = ", ".join(f"{100 * rate:.2f}" for rate in found)
            yield Line(
                f"max_drop .01 to .05, 0/1, at the margin {name}, n = {n:,}, at 5, 2.5, 1 and 0.5%",
                f"at most {levels}%", "at most 5.5, 2.75, 1.1, 0.55%", good,
            )  # fmt: skip
    tango = max(_tango_at_margin(n, margin) for n in (50, 100, 200, 500) for margin in MARGINS)
    yield Line("max_drop, Tango's score alone, at the margin fails, no sample improves", percent(tango), "–", None)
    least, most = _insignificant_at_margin()
    yield Line(
        "“no significant difference” (McNemar) instead, at the margin passes, n = 50 and 200",
        f"{percent(least)} to {percent(most)}", "–", None,
    )  # fmt: skip
    yield from _clustered_paired(repeats)
    clusters = [place // 20 for place in range(400)]
    fewer = max(1, repeats // 5)
    hidden = _drops_in_common(numpy.random.default_rng(SEED), clusters, 0.7, 0.05, 0.05, fewer)
    passed = sum(non_inferiority(drops, max_drop=0.05, clusters=clusters).decision == "pass" for drops in hidden)
    yield Line(
        "max_drop .05, 20 clusters of 20, of which one in twenty gets worse as a whole, passes",
        percent(passed / fewer), "–", None,
    )  # fmt: skip
    yield from _graded_paired(repeats)
    yield from _several_gates(repeats)


def _deciding_at_margin(n: int, margin: float) -> tuple[list[float], list[float]]:
    """The largest rates of pass and fail at each level, over discordances from the margin itself up."""
    known: dict[tuple[int, int], tuple[float, float]] = {}
    worst = ([0.0] * len(LEVELS), [0.0] * len(LEVELS))
    for discordance in {max(margin, each) for each in DISCORDANCES}:
        rates = ([0.0] * len(LEVELS), [0.0] * len(LEVELS))
        for b, c, chance in _outcomes(n, margin, discordance):
            if (b, c) not in known:
                known[b, c] = margin_p_values(b, c, n, margin)
            for side, p_value in enumerate(known[b, c]):
                for place, level in enumerate(LEVELS):
                    rates[side][place] += chance * (p_value <= level)
        for side in (0, 1):
            worst[side][:] = [max(pair) for pair in zip(worst[side], rates[side], strict=True)]
    return worst


def _outcomes(n: int, margin: float, discordance: float) -> Iterator[tuple[int, int, float]]:
    """The counts with a chance above 1e-9 of pairs right in one alone."""
    worse, better = (discordance + margin) / 2, (discordance - margin) / 2
    outer = stats.binom.pmf(numpy.arange(n + 1), n, worse)
    for b in numpy.flatnonzero(outer > 1e-8).tolist():
        inner = outer[b] * stats.binom.pmf(numpy.arange(n - b + 1), n - b, better / (1 - worse))
        for c in numpy.flatnonzero(inner > 1e-9).tolist():
            yield b, c, float(inner[c])


def _tango_at_margin(n: int, margin: float) -> float:
    return sum(chance for b, c, chance in _outcomes(n, margin, margin) if tango_score(b, c, n, margin) >= Z)


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
    fewer = max(1, repeats // 5)
    for count, size in ((10, 5), (10, 20), (20, 5), (20, 20), (50, 5)):
        clusters = [place // size for place in range(size * count)]
        passed, failed = [], []
        for icc in (0.0, 0.3, 0.7):
            for margin in (0.02, 0.05):
                for draw, discordance in ((_drops_in_common, 0.2), (_drops_by_share, margin), (_drops_by_share, 0.2)):
                    drawn = draw(generator, clusters, icc, margin, discordance, fewer)
                    decisions = [non_inferiority(drops, max_drop=margin, clusters=clusters).decision for drops in drawn]
                    passed.append(decisions.count("pass") / fewer)
                    failed.append(decisions.count("fail") / fewer)
        yield Line(
            f"max_drop .02 and .05, clustered 0/1, {count} clusters of {size}, ICC 0 to .7, at the margin",
            f"passes at most {percent(max(passed))}, fails at most {percent(max(failed))}", "at most 6.5%",
            below(passed + failed, fewer, 0.065),
        )  # fmt: skip


def _drops_by_share(
    generator: numpy.random.Generator, clusters: list[int], icc: float, margin: float, discordance: float, repeats: int
) -> list[list[float]]:
    """Drops of pairs of clusters with shares of their own, Dirichlet-distributed."""
    shares = numpy.maximum([(discordance + margin) / 2, (discordance - margin) / 2, 1 - discordance], 1e-12)
    size = (repeats, max(clusters) + 1)
    own = generator.dirichlet(shares * (1 - icc) / icc, size) if icc else numpy.broadcast_to(shares, (*size, 3))
    drawn, limits = generator.random((repeats, len(clusters))), own.cumsum(axis=2)[:, clusters]
    return numpy.select([drawn < limits[:, :, 0], drawn < limits[:, :, 1]], [1.0, -1.0], 0.0).tolist()


def _drops_in_common(
    generator: numpy.random.Generator, clusters: list[int], icc: float, margin: float, discordance: float, repeats: int
) -> list[list[float]]:
    """Drops of pairs that share that of their cluster with probability √ICC."""
    shares = [(discordance + margin) / 2, (discordance - margin) / 2, 1 - discordance]
    size = (repeats, len(clusters))
    alone = generator.choice([1.0, -1.0, 0.0], size, p=shares)
    common = generator.choice([1.0, -1.0, 0.0], (repeats, max(clusters) + 1), p=shares)[:, clusters]
    return numpy.where(generator.random(size) < math.sqrt(icc), common, alone).tolist()


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
        passed, failed = [], []
        for n in (20, 50, 200):
            decisions = [
                non_inferiority(drops, max_drop=0.05, span=1.0).decision
                for drops in draw(generator, (repeats // 2, n)).tolist()
            ]
            passed.append(decisions.count("pass") / len(decisions))
            failed.append(decisions.count("fail") / len(decisions))
        yield Line(
            f"max_drop .05, graded, {name}, n = 20, 50, 200, at the margin",
            f"passes at most {percent(max(passed))}, fails at most {percent(max(failed))}", "at most 6.5%",
            below(passed + failed, repeats // 2, 0.065),
        )  # fmt: skip


def _several_gates(repeats: int) -> Iterator[Line]:
    generator = numpy.random.default_rng(SEED)
    n, margin, discordance = 500, 0.03, 0.2
    at_border = [(discordance + margin) / 2, (discordance - margin) / 2, 1 - discordance]
    alike = [discordance / 2, discordance / 2, 1 - discordance]
    plain = corrected = all_pass = 0
    for _ in range(repeats):
        counts = generator.multinomial(n, at_border, size=5).tolist()
        p_values = [margin_p_values(b, c, n, margin) for b, c, _ in counts]
        fails = [p_fail for _, p_fail in p_values]
        plain += min(fails) <= ALPHA
        corrected += min(holm(fails)) <= ALPHA
        fine = generator.multinomial(n, alike, size=4).tolist()
        passes = [margin_p_values(b, c, n, 0.2)[0] for b, c, _ in fine]
        all_pass += max(*passes, p_values[0][0]) <= ALPHA
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
