"""How often a ranking calls a model better than an equal one, and finds a better one, with scores missing.

    python benchmarks/verdicts_ranking.py

What benchmarks/verdicts.py measures for gates. Simulation with fixed seeds, through the function that tests the pairs of a
comparison.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).parent))  # also where a test imports this file

from bands import SEED, Line, at_most, percent

from evalrunner.compare.pairs import CandidateScores, Scale, pair_scores, unpaired_scores
from evalrunner.compare.result import ALPHA, Pair

MISSING = 0.04  # of the rows of one model: below the 5% of `min_coverage`
GAP = 0.1  # by which the better model is better
SIZES = (300, 1000, 3000)
Rates = tuple[float, float]  # share of runs with "better": on the scored pairs alone, and with what is missing

SHARE = Scale(binary=True, low=0.0, high=1.0, higher_is_better=True)
GRADED = Scale(binary=False, low=0.0, high=1.0, higher_is_better=True)
Draw = Callable[[numpy.random.Generator, int, float], tuple[numpy.ndarray, numpy.ndarray]]


@dataclass(frozen=True)
class Loss:
    """Which rows of the first model are missing, `share` of all: the lowest-scored, or any (`at_random`).

    `silent`: the model itself does not answer them, so that they can be left out or count 0, but never 1.
    """

    share: float = MISSING
    at_random: bool = False
    silent: bool = False

    def pick(self, generator: numpy.random.Generator, scores: numpy.ndarray) -> numpy.ndarray:
        count = round(self.share * len(scores))
        if self.at_random:
            return generator.choice(len(scores), count, replace=False)
        shuffled = generator.permutation(len(scores))
        return shuffled[numpy.argsort(scores[shuffled], kind="stable")][:count]


def shares(generator: numpy.random.Generator, n: int, gap: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Two models right on .7 of the samples (the first on `gap` more), which differ in difficulty."""
    easy = generator.beta(1.4, 0.6, n)
    rates = easy + gap / 0.3 * (1 - easy), easy
    first, second = ((generator.random(n) < rate).astype(float) for rate in rates)
    return first, second


def grades(generator: numpy.random.Generator, n: int, gap: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Two models with scores in 0..1 around what a sample allows, .6 on average (the first `gap` more)."""
    easy = generator.beta(3, 2, n)
    levels = easy + gap / 0.4 * (1 - easy), easy
    first, second = (generator.beta(8 * level, 8 * (1 - level)) for level in levels)
    return first, second


def with_loss(scores: numpy.ndarray, missing: numpy.ndarray, *, silent: bool) -> CandidateScores:
    """The scores of a model of which some are missing."""
    lost = set(missing.tolist())
    values = {place: value for place, value in enumerate(scores.tolist()) if place not in lost}
    worst, best = dict.fromkeys(lost, 0.0), dict.fromkeys(lost, math.nan if silent else 1.0)
    return CandidateScores(values, worst, best, dict.fromkeys(lost, 1))


def better_rates(
    draw: Draw, n: int, loss: Loss, repeats: int, *, gap: float = 0.0, clusters: int = 0, paired: bool = True
) -> Rates:
    """How often the first model is called better, in one pair on one metric."""
    generator = numpy.random.default_rng([SEED, n, round(1000 * gap)])
    scale = SHARE if draw is shares else GRADED
    if clusters:
        scale = Scale(scale.binary, 0.0, 1.0, higher_is_better=True, clusters=[place % clusters for place in range(n)])
    scored = robust = 0
    for _ in range(repeats):
        first, second = draw(generator, n, gap)
        if not paired:
            second = draw(generator, n, gap)[1]
        sides = with_loss(first, loss.pick(generator, first), silent=loss.silent), with_loss(second, numpy.array([], int), silent=False)  # fmt: skip
        pair = (pair_scores if paired else unpaired_scores)(("a", "b"), *sides, scale)
        scored += _first_is_better(pair, pair.p_value)
        robust += _first_is_better(pair, pair.p_missing)
    return scored / repeats, robust / repeats


def _first_is_better(pair: Pair, p: float | None) -> bool:
    return p is not None and p < ALPHA and (pair.difference or 0.0) > 0


CELLS: dict[str, dict[str, object]] = {
    "0/1": {"draw": shares},
    "0/1, not answered by the model": {"draw": shares, "silent": True},
    "0/1 in 60 clusters": {"draw": shares, "clusters": 60},
    "0/1, unpaired": {"draw": shares, "paired": False},
    "graded": {"draw": grades},
    "graded in 60 clusters": {"draw": grades, "clusters": 60},
    "graded, unpaired": {"draw": grades, "paired": False},
}


def ranking(repeats: int) -> Iterator[Line]:
    """Equal models with the lowest-scored 4% of one missing; then a better model with 4% missing at random."""
    for name, options in CELLS.items():
        cell = dict(options)
        loss = Loss(silent=bool(cell.pop("silent", False)))
        rates = [better_rates(n=n, loss=loss, repeats=repeats, **cell) for n in SIZES]  # type: ignore[arg-type]
        yield Line(
            f"{name}: equal models, the lowest-scored 4% of one missing",
            _listed(rates),
            "at most 5%",
            all(at_most(round(robust * repeats), repeats, 0.05) for _, robust in rates),
        )
    for name, options in CELLS.items():
        cell = dict(options)
        loss = Loss(at_random=True, silent=bool(cell.pop("silent", False)))
        rates = [better_rates(n=n, loss=loss, repeats=repeats, gap=GAP, **cell) for n in SIZES]  # type: ignore[arg-type]
        yield Line(
            f"{name}: a model 10 points better, 4% of it missing at random",
            _listed(rates), "–", None,
        )  # fmt: skip


def _listed(rates: list[Rates]) -> str:
    robust, scored = (", ".join(percent(rate[place]) for rate in rates) for place in (1, 0))
    return f"{robust} (scored pairs alone: {scored})"


def main() -> int:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    met = True
    print(f"| called better, n = {', '.join(f'{n:,}' for n in SIZES)} | measured | required | met |\n|---|---|---|---|")
    for line in ranking(repeats):
        print(line, flush=True)
        met = met and line.met is not False
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
