"""A comparison as JSON has it, in `metrics.json` and from `evalrun compare --json`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalrunner.compare.result import Candidate, ComparedMetric, Comparison, Pair, ParetoFront, Ranking
from evalrunner.domain import Metric

NUMBERS = ("value", "low", "high", "n", "skipped", "unscored", "errors", "trusted")


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison: metrics of the family first, then what stands outside of it."""
    return {
        "paired": comparison.paired,
        "alpha": comparison.alpha,
        "family": comparison.family,
        "candidates": [asdict(item) for item in comparison.candidates],
        "metrics": [_metric_data(item) for item in comparison.metrics],
        "costs": [_metric_data(item) for item in comparison.costs],
        "slices": [_metric_data(item) for item in comparison.slices],
        "pareto_fronts": [asdict(item) for item in comparison.pareto_fronts],
        "warnings": list(comparison.warnings),
        "notes": list(comparison.notes),
    }


def stored_comparison(data: Mapping[str, Any]) -> Comparison:
    """The comparison that this was made of, without the samples that differ most. Raises KeyError, TypeError."""
    return Comparison(
        candidates=tuple(Candidate(**_frozen(item)) for item in data["candidates"]),
        metrics=_metrics(data["metrics"]),
        costs=_metrics(data["costs"]),
        slices=_metrics(data["slices"]),
        pareto_fronts=tuple(ParetoFront(**_frozen(item)) for item in data["pareto_fronts"]),
        paired=data["paired"],
        alpha=data["alpha"],
        family=data["family"],
        warnings=tuple(data["warnings"]),
        notes=tuple(data["notes"]),
    )


def _metric_data(metric: ComparedMetric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "scorer": metric.scorer,
        "aggregate": metric.aggregate,
        "reducer": metric.reducer,
        "slice": metric.slice,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "values": {name: {key: getattr(value, key) for key in NUMBERS} for name, value in metric.values.items()},
        "pairs": [asdict(pair) for pair in metric.pairs],
        "ranking": None if metric.ranking is None else asdict(metric.ranking),
    }


def _metrics(items: Sequence[Mapping[str, Any]]) -> tuple[ComparedMetric, ...]:
    return tuple(_metric(item) for item in items)


def _metric(item: Mapping[str, Any]) -> ComparedMetric:
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
        ranking=None if ranking is None else Ranking(**{**_frozen(ranking), "differing": differing}),
    )


def _frozen(item: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as the tuples that they were."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
