"""What a gate is judged on: one score per sample of its target, its reducer and its slice. Arrays, as the tallies are."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.distributions import variance
from evalrunner.stats.measures import BUILTIN_MEASURES
from evalrunner.stats.power import WITHIN_HALF
from evalrunner.stats.summary import ERROR, ZEROED, Reason, ReducedScores, SampleScores, Summary, Tally, reduce_tally


@dataclass(frozen=True, slots=True)
class Evidence:
    """The samples of a gate's slice. `clusters` is by the place of a sample; `reasons` are those of the whole target.

    `calls` is the tally of the target's own calls, which tells their failures from those of scorers.
    """

    per_sample: SampleScores
    reduced: ReducedScores
    clusters: array[int] | None
    tally: Tally
    calls: Tally
    seed: int = 0

    @property
    def values(self) -> array[float]:
        """The scores of the samples that have one."""
        return self.reduced.values

    @property
    def missing(self) -> int:
        """Samples that the scorer applies to and that have no value."""
        return len(self.reduced.absent)

    @property
    def total(self) -> int:
        """Samples that the scorer applies to."""
        return len(self.reduced.values) + self.missing

    @property
    def coverage(self) -> float:
        return len(self.reduced.values) / self.total if self.total else 0.0

    @property
    def reasons(self) -> Mapping[Reason, int]:
        return self.tally.reasons

    def filled(self, end: float) -> tuple[array[float], array[int] | None]:
        """The scores of all samples that the scorer applies to, missing ones at `end`, with their clusters."""
        values = self.reduced.values + array("d", [end]) * self.missing
        if self.clusters is None or self.reduced.clusters is None:
            return values, None
        return values, self.reduced.clusters + array("q", (self.clusters[place] for place in self.reduced.absent))

    def count(self, code: int) -> int:
        """Samples whose state has this code."""
        return Counter(self.per_sample.codes)[code]

    def errors(self) -> tuple[int, int]:
        """Samples in error because a call to the target failed, and those because the scorer did."""
        failed = {place for place, code in zip(self.calls.samples, self.calls.codes, strict=True) if code == ERROR}
        places = zip(self.per_sample.samples, self.per_sample.codes, strict=True)
        found = Counter(place in failed for place, code in places if code == ERROR)
        return found[True], found[False]

    def cluster_of(self, place: int) -> int:
        return self.clusters[place] if self.clusters is not None else 0

    def by_place(self) -> Iterator[tuple[int, float | None]]:
        """Every sample of the slice with its score, or None; those that the scorer skips among them."""
        for place, value, code in zip(
            self.per_sample.samples, self.per_sample.values, self.per_sample.codes, strict=True
        ):
            yield place, value if code <= ZEROED else None

    @property
    def noisy_within(self) -> bool:
        """Whether over half of the variance lies within samples: then more epochs help, else only more samples."""
        values = self.reduced.values
        if self.tally.epochs is None or len(values) < 2:
            return False
        inside = _within(self.tally, set(self.reduced.samples))
        total = variance(values) * len(values) / (len(values) - 1)
        return total > 0 and inside / total > WITHIN_HALF


def gather(gate: Gate, summary: Summary, target: str) -> Evidence:
    """The evidence of one gate on one target."""
    tally = summary.tallies[target, gate.measure.name]
    per_sample = reduce_tally(_turned(tally) if _counts_low(gate) else tally, gate.reducer)
    if gate.spec.slice is not None:
        ((column, text),) = gate.spec.slice.items()
        groups = summary.slices[column]
        code = groups.code_of(text)
        parts = per_sample.split(groups.codes) if code is not None else {}
        per_sample = parts.get(code if code is not None else -1) or SampleScores(array("q"), array("d"), array("b"))
    clusters = summary.clusters.codes if summary.clusters is not None else None
    calls = summary.tallies[target, BUILTIN_MEASURES[0].name]  # every target has a latency, or a reason why not
    return Evidence(per_sample, per_sample.partition_states(clusters), clusters, tally, calls, summary.design.seed)


def value_of(gate: Gate, evidence: Evidence) -> float | None:
    """The metric over the samples that have a score."""
    return gate.estimand.value(evidence.values)


def reduce_scores(gate: Gate, scores: Sequence[float]) -> float | None:
    """A sample's score of those of its scored epochs; None where there are too few."""
    return gate.reducer.reduce(scores) if scores else None


def _counts_low(gate: Gate) -> bool:
    """Whether epochs count by scoring at most the bound: that is counting what is high, turned around."""
    return gate.spec.per_sample is not None and gate.spec.per_sample.operator == "<="


def _turned(tally: Tally) -> Tally:
    return replace(tally, values=array("d", (-value for value in tally.values)))


def _within(tally: Tally, samples: set[int]) -> float:
    """The mean over samples of the variance of their mean over epochs, of samples with several scored ones."""
    scores: dict[int, list[float]] = {}
    for sample, value, code in zip(tally.samples, tally.values, tally.codes, strict=True):
        if code <= ZEROED and sample in samples:
            scores.setdefault(sample, []).append(value)
    spread = [variance(found) / (len(found) - 1) for found in scores.values() if len(found) > 1]
    return math.fsum(spread) / len(spread) if spread else 0.0
