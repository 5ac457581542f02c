"""What a comparison comes to: pairs, rankings, fronts, and what is to be known beside them, all frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from evalrunner.domain import Metric

JSON_NUMBERS: Final = ("value", "low", "high", "n", "skipped", "unscored", "errors", "trusted")
ALPHA: Final = 0.05  # two-sided, over the whole family


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Who is compared: a target of a run. `run` is None where all are of one run; `differs` is against the first.

    `models` are the names it goes by: as the suite has it, and as it was served.
    """

    name: str
    target: str
    run: str | None = None
    models: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two candidates on one metric: `difference` is first − second in the metric's unit, with its 95 % interval.

    `p_value` is of this test alone, `p_adjusted` after Holm over the family, None outside of it. `better` is the one
    that really is (p_adjusted < .05). `wins` are the samples on which the first did better, `losses` the second.
    `n` pairs; `left_out` samples have a score on one side only. Unpaired, `n` counts the values of both sides.
    """

    first: str
    second: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None = None
    method: str | None = None
    n: int = 0
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    left_out: int = 0
    better: str | None = None
    note: str | None = None

    @property
    def worse(self) -> str | None:
        """The other one of the two, where one is better."""
        return None if self.better is None else self.second if self.better == self.first else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Contestants from best to worst by their mean, then name, and what stands between each two of them.

    `>` only where every one up to there is better than every one after it; else `≈`. Contestants that share a letter
    were not told apart. `best` is better than every other one, or there is none. `differing` are the pairs (better,
    worse) that differ inside a stretch of `≈`, where the signs cannot show it.
    """

    order: tuple[str, ...]
    signs: tuple[str, ...]
    letters: Mapping[str, str]
    best: str | None = None
    differing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of all candidates. Without a `ranking` it stands outside the family: its p-values are unadjusted.

    `values` holds each candidate's own number, over all the samples it was scored on.
    """

    name: str
    scorer: str
    aggregate: str
    reducer: str
    unit: str | None
    higher_is_better: bool
    values: Mapping[str, Metric]
    pairs: tuple[Pair, ...]
    slice: Mapping[str, str] | None = None
    ranking: Ranking | None = None

    def pair(self, one: str, other: str) -> Pair:
        """The pair of two candidates, in whichever order. Raises KeyError."""
        for found in self.pairs:
            if {found.first, found.second} == {one, other}:
                return found
        raise KeyError((one, other))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoFront:
    """Who no other one outdoes in quality and in what it takes at once, by the numbers as they are.

    `missing` are those that have no number on one of the two, and so cannot be placed.
    """

    quality: str
    against: str
    members: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Contestants side by side. `metrics` are the family; `costs` (latency, tokens, money) and `slices` stand outside.

    `family` is how many tests Holm's correction is over. `warnings` say what casts doubt on all of it, `notes` what
    else is to be known. `most_different` are places of samples in the dataset, the most different scores first.
    """

    candidates: tuple[Candidate, ...]
    metrics: tuple[ComparedMetric, ...]
    costs: tuple[ComparedMetric, ...] = ()
    slices: tuple[ComparedMetric, ...] = ()
    pareto_fronts: tuple[ParetoFront, ...] = ()
    paired: bool = True
    alpha: float = ALPHA
    family: int = 0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    most_different: tuple[int, ...] = field(default=(), compare=False)

    def to_json(self) -> dict[str, Any]:
        """The comparison as `metrics.json` and `evalrun compare --json` have it."""
        return {
            "paired": self.paired,
            "alpha": self.alpha,
            "family": self.family,
            "candidates": [asdict(item) for item in self.candidates],
            "metrics": [_metric_to_json(item) for item in self.metrics],
            "costs": [_metric_to_json(item) for item in self.costs],
            "slices": [_metric_to_json(item) for item in self.slices],
            "pareto_fronts": [asdict(item) for item in self.pareto_fronts],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "most_different": list(self.most_different),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The comparison in what `to_json` returned. Raises KeyError and TypeError where it is something else."""
        return cls(
            candidates=tuple(Candidate(**_with_tuples(item)) for item in data["candidates"]),
            metrics=_metrics_from_json(data["metrics"]),
            costs=_metrics_from_json(data["costs"]),
            slices=_metrics_from_json(data["slices"]),
            pareto_fronts=tuple(ParetoFront(**_with_tuples(item)) for item in data["pareto_fronts"]),
            paired=data["paired"],
            alpha=data["alpha"],
            family=data["family"],
            warnings=tuple(data["warnings"]),
            notes=tuple(data["notes"]),
            most_different=tuple(data["most_different"]),
        )


def _metric_to_json(metric: ComparedMetric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "scorer": metric.scorer,
        "aggregate": metric.aggregate,
        "reducer": metric.reducer,
        "slice": metric.slice,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "values": {name: {key: getattr(value, key) for key in JSON_NUMBERS} for name, value in metric.values.items()},
        "pairs": [asdict(pair) for pair in metric.pairs],
        "ranking": None if metric.ranking is None else asdict(metric.ranking),
    }


def _metrics_from_json(items: Sequence[Mapping[str, Any]]) -> tuple[ComparedMetric, ...]:
    return tuple(_metric_from_json(item) for item in items)


def _metric_from_json(item: Mapping[str, Any]) -> ComparedMetric:
    same = {key: item[key] for key in ("name", "scorer", "aggregate", "reducer", "unit", "higher_is_better", "slice")}
    numbers = {
        name: Metric(name=item["name"], scorer=item["scorer"], aggregate=item["aggregate"], **value)
        for name, value in item["values"].items()
    }
    ranking = item["ranking"]
    differing = () if ranking is None else tuple((one, other) for one, other in ranking["differing"])
    return ComparedMetric(
        **same,
        values=numbers,
        pairs=tuple(Pair(**pair) for pair in item["pairs"]),
        ranking=None if ranking is None else Ranking(**{**_with_tuples(ranking), "differing": differing}),
    )


def _with_tuples(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with tuples in place of lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
