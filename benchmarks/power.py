"""The power that `evalrun plan` states, against simulation of the same tests: part of benchmarks/coverage.py.

python benchmarks/coverage.py power
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy
from bands import SEED, Line, between
from sequential import crossings

from evalrunner.stats.aggregates import Estimand, gate_bounds
from evalrunner.stats.betting_power import BettingPower, Side
from evalrunner.stats.enumeration import (
    DISCORDANCES,
    Outcome,
    PairedTest,
    least_count,
    share_for_at_least,
    share_for_at_most,
)
from evalrunner.stats.hypothesis_tests import ALPHA, non_inferiority
from evalrunner.stats.power import design_effect, smallest_drop

SIZES = (50, 100, 200, 500, 1000)
MAX_DROP, FAMILY = 0.05, 4
OUTCOMES: tuple[Outcome, ...] = ("pass", "worse", "fail")
NAMES = {"pass": "passes", "worse": "called worse", "fail": f"fails, {FAMILY} gates in the family"}
BINARY = Estimand(binary=True)


@cache
def verdict(b: int, c: int, n: int) -> frozenset[str]:
    """What the gate says of `b` samples that got worse and `c` that got better."""
    result = non_inferiority([1.0] * b + [-1.0] * c + [0.0] * (n - b - c), max_drop=MAX_DROP)
    assert result.p_pass is not None and result.p_fail is not None
    if result.p_pass <= ALPHA:
        return frozenset({"pass"})
    if result.p_fail <= ALPHA / FAMILY:
        return frozenset({"worse", "fail"})
    return frozenset({"worse"} if result.worse else ())


def paired_power(repeats: int) -> Iterator[Line]:
    """0/1 scores: how often the gate does what is stated for 80% of runs, at the drop that is stated."""
    generator = numpy.random.default_rng(SEED)
    for outcome in OUTCOMES:
        measured = []
        for n in SIZES:
            test = PairedTest(n, MAX_DROP, fail_alpha=ALPHA / FAMILY)
            for psi in DISCORDANCES:
                drop = test.drop_for(outcome, discordance=psi)
                assert drop is not None
                differing = max(psi, abs(drop))
                shares = [(differing + drop) / 2, (differing - drop) / 2, 1 - differing]
                counts = generator.multinomial(n, shares, size=repeats).tolist()
                measured.append(sum(outcome in verdict(b, c, n) for b, c, _ in counts) / repeats)
        yield Line(
            f"stated 80% power, max_drop .05, {NAMES[outcome]}, n = 50 to 1,000, 5 to 30% of samples change",
            between(measured), "77 to 83%", min(measured) >= 0.77 and max(measured) <= 0.83,
        )  # fmt: skip


def share_power(repeats: int) -> Iterator[Line]:
    """A gate with confidence on a share: the same."""
    generator = numpy.random.default_rng(SEED)
    for outcome in ("pass", "fail"):
        measured = []
        for n in SIZES:
            bounds = [
                gate_bounds(BINARY, [1.0] * count + [0.0] * (n - count), confidence=0.95) for count in range(n + 1)
            ]
            passes = [(each.low or 0.0) >= 0.8 for each in bounds]
            fails = [(each.high if each.high is not None else 1.0) < 0.8 for each in bounds]
            right = passes if outcome == "pass" else fails
            share = (
                share_for_at_least(least_count(n, passes.__getitem__), n)
                if outcome == "pass"
                else share_for_at_most(least_count(n, lambda count: not fails[count]) - 1, n)  # noqa: B023
            )
            assert share is not None
            measured.append(sum(right[count] for count in generator.binomial(n, share, repeats).tolist()) / repeats)
        yield Line(
            f"stated 80% power, share at least .8 at 95% confidence, {NAMES[outcome].split(',')[0]}, n = 50 to 1,000",
            between(measured), "77 to 83%", min(measured) >= 0.77 and max(measured) <= 0.83,
        )  # fmt: skip


def sequential_power(repeats: int) -> Iterator[Line]:
    """Sequential gates: a share at least .8, and max_drop .05 with 5 to 30% of the samples changing."""
    generator = numpy.random.default_rng(SEED)
    measured: list[float] = []
    for n in SIZES[1:]:
        share = BettingPower((1.0, 0.0), 0.8, n, alpha=ALPHA, fail_alpha=ALPHA / FAMILY)
        for side, ends in (("pass", (1.0, 0.8)), ("fail", (0.0, 0.8))):
            value = share.value_for(side, lambda each: (each, 1 - each), ends)
            assert value is not None
            values = (generator.random((repeats, n)) < value).astype(float)
            measured.append(_decided(values, 0.8, side))
    yield Line(
        "stated 80% power, sequential, share at least .8, n = 100 to 1,000", between(measured), "77 to 83%",
        min(measured) >= 0.77 and max(measured) <= 0.83,
    )  # fmt: skip
    measured = []
    null = (1 - MAX_DROP) / 2
    for n in SIZES[1:]:
        for psi in DISCORDANCES:
            drops = BettingPower((0.0, 0.5, 1.0), null, n, alpha=ALPHA, fail_alpha=ALPHA / FAMILY)
            for side, ends in (("pass", (-1.0, MAX_DROP)), ("fail", (1.0, MAX_DROP))):

                def shares(drop: float, psi: float = psi) -> tuple[float, float, float]:
                    differing = max(psi, abs(drop))
                    return (differing + drop) / 2, 1 - differing, (differing - drop) / 2

                drop = drops.value_for(side, shares, ends)
                assert drop is not None
                values = generator.choice([0.0, 0.5, 1.0], p=shares(drop), size=(repeats, n))
                measured.append(_decided(values, null, side))
    yield Line(
        "stated 80% power, sequential, max_drop .05, n = 100 to 1,000, 5 to 30% of samples change", between(measured),
        "77 to 83%", min(measured) >= 0.77 and max(measured) <= 0.83,
    )  # fmt: skip


def _decided(values: numpy.ndarray, null: float, side: Side) -> float:
    """The share of runs in which the sequential test takes this decision."""
    n = values.shape[1]
    if side == "pass":
        return float((crossings(values, null, alpha=ALPHA) <= n).mean())
    return float((crossings(1 - values, 1 - null, alpha=ALPHA / FAMILY) <= n).mean())


def power(repeats: int) -> Iterator[Line]:
    yield from paired_power(repeats)
    yield from share_power(repeats)
    yield from sequential_power(min(repeats, 4000))
    generator = numpy.random.default_rng(SEED)
    measured = []
    for n in (50, 200):
        for spread in (0.1, 0.3):
            drop = smallest_drop(n=n, variance=spread**2, span=1.0)
            drops = generator.normal(drop, spread, (repeats, n))
            measured.append(sum(_worse(each, None) for each in drops.tolist()) / repeats)
    yield Line(
        "stated 80% power, graded, called worse, n = 50 and 200", between(measured), "77 to 83%",
        min(measured) >= 0.77 and max(measured) <= 0.83,
    )  # fmt: skip
    measured = []
    for count, icc in ((40, 0.1), (100, 0.3)):
        drop = smallest_drop(n=5 * count, variance=0.09, span=1.0, deff=design_effect([5] * count, icc), df=count - 1)
        clusters = [place // 5 for place in range(5 * count)]
        hits = 0
        for _ in range(repeats):
            common = generator.normal(0, 0.3 * math.sqrt(icc), count)[clusters]
            drops = drop + common + generator.normal(0, 0.3 * math.sqrt(1 - icc), 5 * count)
            hits += _worse(drops.tolist(), clusters)
        measured.append(hits / repeats)
    yield Line(
        "stated 80% power, graded in 40 and 100 clusters, called worse", between(measured), "77 to 83%",
        min(measured) >= 0.77 and max(measured) <= 0.83,
    )  # fmt: skip


def _worse(drops: list[float], clusters: list[int] | None) -> bool:
    return non_inferiority(drops, max_drop=0.0, span=1.0, clusters=clusters).decision == "fail"
