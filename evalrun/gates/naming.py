"""What a gate's metric means among the measures of a suite, found before anything is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalrun.errors import nearest
from evalrun.stats.summary import STREAMED, Measure
from evalrun.suite.schema import GateSpec


class UnknownMetric(ValueError):
    """A metric that this suite cannot have. The message names the nearest that it has."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate with its metric found: `measure` and the name of one of its aggregates."""

    spec: GateSpec
    measure: Measure
    aggregate: str

    @property
    def metric(self) -> str:
        """The full name of the metric."""
        return self.measure.metric_name(self.aggregate)


def find_metric(text: str, measures: Sequence[Measure]) -> tuple[Measure, str]:
    """The measure and aggregate behind `exact_match`, `exact_match/v1`, `toxicity/p90` or `toxicity/v1/p90`.

    A bare name means the headline aggregate. Raises UnknownMetric.
    """
    name, *rest = text.split("/")
    by_name = {measure.name: measure for measure in measures}
    if name not in by_name:
        if name in {measure.name for measure in STREAMED}:
            raise UnknownMetric(f"no metric {text!r} where answers are not streamed; set stream: true in run:")
        raise UnknownMetric(f"no metric {text!r} in this suite{nearest(name, by_name) or _known(by_name)}")
    measure = by_name[name]
    if rest and rest[0] == measure.declaration.version:
        rest = rest[1:]
    if not rest:
        return measure, measure.declaration.headline
    aggregates = measure.declaration.aggregates
    if len(rest) > 1 or rest[0] not in aggregates:
        full = [f"{name}/{aggregate}" for aggregate in aggregates]
        raise UnknownMetric(f"no metric {text!r} in this suite{nearest(text, full) or _known(full)}")
    return measure, rest[0]


def _known(names: Sequence[str] | dict[str, Measure]) -> str:
    return f"; it has {', '.join(names)}"
