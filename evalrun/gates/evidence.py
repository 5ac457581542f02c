"""What a gate is judged on: one score per sample of its target, its reducer and its slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evalrun.gates.naming import Gate
from evalrun.stats.aggregates import variance
from evalrun.stats.planning import WITHIN_HALF
from evalrun.stats.summary import Summary
from evalrun.stats.tally import SKIPPED, ZEROED, Tally


@dataclass(frozen=True, slots=True)
class SampleScore:
    """One sample: its place in the dataset, its reduced score, or None and the code of its worst state."""

    index: int
    value: float | None
    code: int
    cluster: int = 0
    epochs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """The samples of a gate's slice that its scorer applies to, in order, and those it does not."""

    samples: tuple[SampleScore, ...]
    skips: tuple[SampleScore, ...]
    reasons: Mapping[str, int]
    clustered: bool = False
    seed: int = 0

    @property
    def scored(self) -> list[SampleScore]:
        return [sample for sample in self.samples if sample.value is not None]

    @property
    def skipped(self) -> int:
        return len(self.skips)

    @property
    def missing(self) -> int:
        """Samples that the scorer applies to and that have no value."""
        return sum(1 for sample in self.samples if sample.value is None)

    @property
    def coverage(self) -> float:
        return 1 - self.missing / len(self.samples) if self.samples else 0.0

    def count(self, code: int) -> int:
        """Samples without a value whose worst state has this code."""
        return sum(1 for sample in self.samples if sample.value is None and sample.code == code)

    @property
    def noisy_within(self) -> bool:
        """Whether over half of the variance lies within samples: then more epochs help, else only more samples."""
        spread = [sample for sample in self.scored if len(sample.epochs) > 1]
        values = [sample.value for sample in self.scored if sample.value is not None]
        if not spread or len(values) < 2:
            return False
        inside = math.fsum(
            variance(sample.epochs) / (len(sample.epochs) - 1) for sample in spread
        ) / len(spread)  # fmt: skip
        total = variance(values) * len(values) / (len(values) - 1)
        return total > 0 and inside / total > WITHIN_HALF


def gather(gate: Gate, summary: Summary, target: str) -> Evidence:
    """The evidence of one gate on one target."""
    tally = summary.tallies[target, gate.measure.name]
    inside = _membership(summary, gate.spec.slice)
    clusters = summary.clusters.codes if summary.clusters is not None else None
    found: list[SampleScore] = []
    skips: list[SampleScore] = []
    for index, (scores, worst) in _by_sample(tally).items():
        if not inside(index):
            continue
        value = reduce_scores(gate, scores)
        cluster = clusters[index] if clusters is not None else 0
        where = skips if value is None and worst == SKIPPED and not scores else found
        where.append(SampleScore(index, value, worst, cluster, tuple(scores)))
    return Evidence(tuple(found), tuple(skips), tally.reasons, clusters is not None, summary.design.seed)


def reduce_scores(gate: Gate, scores: Sequence[float]) -> float | None:
    """A sample's score of those of its scored epochs; None where there are too few."""
    if not scores:
        return None
    rule = gate.spec.per_sample
    if rule is not None and rule.operator == "<=":  # counting what is low is counting what is high, turned around
        return gate.reducer.reduce([-score for score in scores])
    return gate.reducer.reduce(scores)


def _by_sample(tally: Tally) -> dict[int, tuple[list[float], int]]:
    """The scores of the scored epochs, in their order, and the worst state of each sample, in the dataset's order."""
    places = range(len(tally.samples))
    epochs = tally.epochs
    if epochs is not None:
        places = sorted(places, key=lambda place: epochs[place])  # type: ignore[assignment]
    scores: dict[int, list[float]] = {}
    worst: dict[int, int] = {}
    for place in places:
        index, code = tally.samples[place], tally.codes[place]
        found = scores.setdefault(index, [])
        if code <= ZEROED:
            found.append(tally.values[place])
        worst[index] = max(worst.get(index, code), code)
    return {index: (scores[index], worst[index]) for index in sorted(scores)}


def _membership(summary: Summary, slice_: Mapping[str, str] | None) -> Callable[[int], bool]:
    """Whether the sample at a place belongs to a slice; to the whole dataset every one does."""
    if slice_ is None:
        return lambda index: True
    ((column, text),) = slice_.items()
    groups = summary.slices[column]
    code = groups.code_of(text)
    return lambda index: code is not None and groups.codes[index] == code
