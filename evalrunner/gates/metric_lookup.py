"""Looks up the metric of a gate among the measures of a suite, before the first call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evalrunner.errors import nearest
from evalrunner.stats.aggregates import MEAN, MEAN_REDUCER, Estimand, Reducer, parse_reducer
from evalrunner.stats.corrected import JUDGE_STATISTICS, has_statistics
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, STREAMING_MEASURES, Measure
from evalrunner.suite.schema import GateSpec


class UnknownMetric(ValueError):
    """A metric that the suite does not have. The message names the nearest one."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate with its metric: the measure, one of its aggregates by name, and the reducer of epochs.

    `metric` is the full name without the slice. A `per_sample` gate has its own reducer. `epochs` are those of the run.
    `estimand` is what the metric estimates, which determines its interval. `binary`: the scores turned out to be 0 or 1.
    """

    spec: GateSpec
    measure: Measure
    aggregate: str
    metric: str
    reducer: Reducer = MEAN_REDUCER
    epochs: int = 1
    binary: bool = False
    estimand: Estimand = field(init=False, compare=False)

    def __post_init__(self) -> None:
        measure = self.measure.as_binary() if self.binary else self.measure
        aggregate = MEAN.name if self.judged else self.aggregate
        estimand = measure.estimand(aggregate, reducer=self.reducer, epochs=self.epochs)
        object.__setattr__(self, "estimand", estimand)

    @property
    def judged(self) -> bool:
        """Whether the metric is one of people's labels: `factuality.corrected`, `factuality.kappa` …"""
        return self.aggregate in JUDGE_STATISTICS

    @property
    def higher_is_better(self) -> bool:
        """The direction of the metric."""
        return self.reducer.counts or self.measure.declaration.higher_is_better


def find_metric(
    text: str, measures: Sequence[Measure], reducers: Sequence[Reducer] = (MEAN_REDUCER,)
) -> tuple[Measure, str, Reducer]:
    """The measure, aggregate and reducer behind `exact_match`, `json/total`, `toxicity/v1/p90` or `exact_match/pass_at_2`.

    `reducers` are the suite's, the primary one first. A bare name means the headline aggregate. A part comes before an
    aggregate of its scorer. Raises UnknownMetric.
    """
    if (judged := _judge_statistic(text, measures)) is not None:
        return *judged, MEAN_REDUCER
    name, *rest = text.split("/")
    by_name = {measure.name: measure for measure in measures}
    if rest and f"{name}/{rest[0]}" in by_name:
        name, rest = f"{name}/{rest[0]}", rest[1:]
    if name not in by_name:
        if name in {measure.name for measure in STREAMING_MEASURES}:
            raise UnknownMetric(f"metric {text!r} needs streamed answers; set stream: true in run:")
        raise UnknownMetric(f"no metric {text!r} in this suite{nearest(name, by_name) or _known(by_name)}")
    measure = by_name[name]
    if rest and rest[0] == measure.declaration.version:
        rest = rest[1:]
    builtin = measure in ALL_BUILTIN_MEASURES
    reducer = MEAN_REDUCER if builtin else reducers[0]
    if rest and not builtin and (named := _reducer(rest[0], reducers)) is not None:
        reducer, rest = named, rest[1:]
        if not rest:
            return measure, MEAN.name, reducer
    if not rest:
        return measure, measure.declaration.headline, reducer
    aggregates = measure.declaration.aggregates
    if len(rest) > 1 or rest[0] not in aggregates:
        parts = [one.name for one in measures if one.part_of == name and one.name.startswith(f"{name}/")]
        full = [*parts, *(f"{name}/{one}" for one in (*aggregates, *(known.name for known in reducers[1:])))]
        if measure.declaration.version in rest:
            others = [part for part in rest if part != measure.declaration.version]
            hint = f"; the version comes first: {'/'.join((name, measure.declaration.version, *others))}"
        elif rest[0] in {*aggregates, *(known.name for known in reducers)}:
            hint = f"; a metric ends with one aggregate or reducer: {name}/{rest[0]}"
        else:
            hint = _not_listed(rest[0]) or nearest(text, full) or _known(full)
        raise UnknownMetric(f"no metric {text!r} in this suite{hint}")
    return measure, rest[0], reducer


def _judge_statistic(text: str, measures: Sequence[Measure]) -> tuple[Measure, str] | None:
    """The measure and the statistic of `factuality.corrected`; None for another metric. Raises UnknownMetric."""
    name, _, statistic = text.rpartition(".")
    measure = next((one for one in measures if name in (one.name, one.versioned_name)), None)
    if measure is None or not statistic:
        return None
    if statistic not in JUDGE_STATISTICS:
        hint = nearest(statistic, JUDGE_STATISTICS) or _known(JUDGE_STATISTICS)
        raise UnknownMetric(f"no metric {text!r} in this suite{hint}")
    if not has_statistics(measure.declaration):
        raise UnknownMetric(f"metric {text!r} needs scores in a known range; {name!r} has none")
    if not measure.labeled:
        raise UnknownMetric(f"metric {text!r} needs labels; add `labels: labels.csv` to the scorer {name!r}")
    return measure, statistic


def _reducer(text: str, reducers: Sequence[Reducer]) -> Reducer | None:
    return next((reducer for reducer in reducers if reducer.name == text and reducer != MEAN_REDUCER), None)


def _not_listed(text: str) -> str | None:
    """A hint for a reducer that the suite does not list; None if the text is not a reducer."""
    try:
        parse_reducer(text)
    except ValueError:
        return None
    return f"; add the reducer {text!r} to 'reducer:'"


def _known(names: Iterable[str]) -> str:
    return f"; it has {', '.join(names)}"
