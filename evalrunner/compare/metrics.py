"""What can be compared of a suite's measures: means of one number a sample, each with the name of its metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalrunner.errors import nearest
from evalrunner.stats.aggregates import MEAN, Estimand, Reducer, find_aggregate
from evalrunner.stats.measures import ALL_BUILTIN_MEASURES, Measure
from evalrunner.stats.summary import Summary

OURS = frozenset(measure.name for measure in ALL_BUILTIN_MEASURES)  # what a row takes, not how good it is


class NotComparable(ValueError):
    """A metric that is not in the suite, or that no test of differences belongs to. The message says which."""


@dataclass(frozen=True, slots=True)
class ComparableMetric:
    """One way to read a measure: its scores reduced over epochs, then averaged, or the share of them that counts."""

    measure: Measure
    reducer: Reducer
    aggregate: str
    name: str

    def values(self, summary: Summary, target: str) -> dict[int, float]:
        """The number of each scored sample by its place in the dataset."""
        reduced = summary.reduced(target, self.measure.name, reducer=self.reducer)
        found = dict(zip(reduced.samples, reduced.values, strict=True))
        estimand = self.estimand(summary)
        return {place: estimand.of_sample(value) for place, value in found.items()}

    def estimand(self, summary: Summary) -> Estimand:
        """What the metric estimates."""
        return summary.estimand(self.measure, self.aggregate, reducer=self.reducer)

    def binary(self, summary: Summary) -> bool:
        """Whether the number of every sample is 0 or 1 by construction."""
        return self.estimand(summary).is_share

    def width(self, summary: Summary) -> float | None:
        """How wide the range of the numbers is; None where it is open."""
        return self.estimand(summary).sample_width


def quality_metrics(summary: Summary) -> tuple[ComparableMetric, ...]:
    """Each scorer by its headline where that is a mean, else by its mean, and by every further reducer of the suite."""
    found: list[ComparableMetric] = []
    for measure in summary.measures:
        if measure.name not in OURS:
            plain = {reading.aggregate: reading for reading in _plain(summary, measure)}
            wanted = (measure.declaration.headline, MEAN.name, *plain)
            found.extend(plain[name] for name in [name for name in wanted if name in plain][:1])
            found.extend(_further(summary, measure))
    return tuple(found)


def cost_metrics(summary: Summary) -> tuple[ComparableMetric, ...]:
    """What a row takes: latency, tokens, money, each by its mean."""
    return tuple(
        ComparableMetric(measure, summary.reducer_of(measure.name), MEAN.name, measure.metric_name(MEAN.name))
        for measure in summary.measures
        if measure.name in OURS
    )


def find_metrics(wanted: Sequence[str], summary: Summary) -> tuple[ComparableMetric, ...]:
    """The readings that `exact_match`, `exact_match/v1`, `toxicity/ratio` … name. Raises NotComparable."""
    by_name: dict[str, ComparableMetric] = {}
    for reading in quality_metrics(summary):  # a bare name is the scorer's main one
        by_name.setdefault(reading.measure.name, reading)
        by_name.setdefault(_bare(reading), reading)
    for measure in summary.measures:
        for reading in (*_plain(summary, measure), *_further(summary, measure)) if measure.name not in OURS else ():
            by_name[reading.name] = by_name[_bare(reading)] = reading
    found: dict[str, ComparableMetric] = {}
    for text in wanted:
        if text not in by_name:
            known = sorted({reading.name for reading in by_name.values()})
            hint = nearest(text, by_name) or f"; it can be {', '.join(known)}"
            raise NotComparable(f"no metric {text!r} whose differences can be tested{hint}")
        found[by_name[text].name] = by_name[text]
    return tuple(found.values())


def _plain(summary: Summary, measure: Measure) -> Iterator[ComparableMetric]:
    for name in measure.declaration.aggregates:
        if find_aggregate(name).paired:
            yield ComparableMetric(measure, summary.reducer_of(measure.name), name, measure.metric_name(name))


def _further(summary: Summary, measure: Measure) -> Iterator[ComparableMetric]:
    for reducer in summary.design.other_reducers:
        yield ComparableMetric(measure, reducer, MEAN.name, measure.reducer_name(reducer))


def _bare(reading: ComparableMetric) -> str:
    """The metric's name without the version."""
    version = reading.measure.declaration.version
    return reading.name.replace(f"/{version}", "", 1) if version else reading.name
