"""`metrics.json`: every metric with its counts and interval, every gate with its verdict."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evalrunner.compare.result import Candidate, ComparedMetric, Comparison, Pair, ParetoFront, Ranking
from evalrunner.domain import BaselineResult, GateResult, Metric
from evalrunner.engine.definition import definition_of
from evalrunner.engine.fingerprints import hashes, scorer_data
from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.engine.result import RunResult
from evalrunner.middleware.usage import Usage
from evalrunner.runs.source_control import source_of
from evalrunner.suite.options import RunOptions, options_data
from evalrunner.verdicts import INTERRUPTED

SCHEMA_VERSION = 1


def metrics_data(result: RunResult) -> dict[str, Any]:
    """The whole of a run's numbers as JSON has it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": result.run_id,
        "suite": result.suite,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "targets": {
            name: {
                "metrics": [metric_data(metric) for metric in target.metrics],
                "usage": usage_data(target.usage),
            }
            for name, target in result.targets.items()
        },
        "gates": [gate_data(gate) for gate in result.gates],
        **({"comparison": comparison_data(result.comparison)} if result.comparison is not None else {}),
    }


def metric_data(metric: Metric) -> dict[str, Any]:
    """One metric as JSON has it."""
    return {
        "name": metric.name,
        "scorer": metric.scorer,
        "version": metric.version,
        "aggregate": metric.aggregate,
        "reducer": metric.reducer,
        "slice": metric.slice,
        "value": metric.value,
        "low": metric.low,
        "high": metric.high,
        "level": metric.level,
        "method": metric.method,
        "n": metric.n,
        "n_effective": metric.n_effective,
        "skipped": metric.skipped,
        "unscored": metric.unscored,
        "errors": metric.errors,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "trusted": metric.trusted,
        "detail": metric.detail,
    }


def gate_data(gate: GateResult) -> dict[str, Any]:
    """One verdict as JSON has it: the fields of GateResult, `baseline` with those of BaselineResult."""
    return asdict(gate)


def gate_from_data(data: Mapping[str, Any]) -> GateResult:
    """The verdict of one entry of `gates`; fields that are not there have their defaults."""
    said = data.get("baseline")
    baseline = None if said is None else BaselineResult(**{**said, "differs": tuple(said["differs"])})
    rows = data.get("rows_to_decide")
    return GateResult(**{**data, "baseline": baseline, "rows_to_decide": None if rows is None else (rows[0], rows[1])})


def usage_data(usage: Usage) -> Mapping[str, Any]:
    """What calls took: `cost_usd` is None where nobody told the cost of any call."""
    known = usage.calls - usage.failures - usage.unpriced
    return {
        "calls": usage.calls,
        "failures": usage.failures,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd if known else None,
        "unpriced_calls": usage.unpriced,
    }


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


PACKAGES = ("evalrunner", "autoevals", "litellm", "xllamacpp", "alt-profanity-check", "scikit-learn")


def run_data(
    plan: Plan, options: RunOptions, *, run_id: str, started_at: datetime, result: RunResult | None = None
) -> dict[str, Any]:
    """What is written at the start of a run (status `running`) and again at its end."""
    suite = plan.suite
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "suite": suite.name,
        "suite_file": str(suite.path),
        "status": "running" if result is None else status_of(result),
        "started_at": _stamp(started_at),
        "seed": suite.run.seed,
        "epochs": suite.run.epochs,
        "streaming": suite.streaming,
        "reducers": [reducer.name for reducer in plan.design.reducers],
        "cluster": plan.design.cluster,
        "slices": list(plan.design.slices),
        "rows_planned": plan.rows,
        "resolved": json.loads(json.dumps(suite.resolved, default=str)),
        "options": options_data(options),
        "definition": definition_of(plan),
        "hashes": hashes(plan),
        "columns": list(plan.scan.columns),
        "versions": versions(),
        "source": source_of(suite.folder, os.environ),
        "targets": {target.name: _target(target) for target in plan.targets},
        "scorers": {scorer.bound.name: scorer_data(scorer, plan.suite.folder) for scorer in plan.scorers},
        "judges": {scorer.bound.name: judge for scorer in plan.scorers if (judge := _judge(scorer)) is not None},
        "notices": list(plan.scan.notices),
    }
    if plan.dataset.origin is not None:
        data["dataset_from"] = dict(plan.dataset.origin)
    if plan.stored is not None:
        come = plan.stored
        data["scored_from"] = {"run_id": come.run_id, "path": come.shown, "targets": dict(come.provenance["targets"])}
        if come.judged is not None:
            data["scored_from"]["started_at"] = _stamp(come.judged.started_at)
    if result is not None:
        data["finished_at"] = _stamp(result.finished_at)
        data["duration_s"] = round(result.duration_s, 3)
        data["rows"] = result.rows
        data["verdict"] = result.verdict
        data["exit_code"] = result.exit_code
        data["stopped"] = result.stopped
        data["notices"] = list(result.notices)
    return data


def status_of(result: RunResult) -> str:
    """`finished`, `stopped` where it gave up early, or `interrupted`."""
    if result.exit_code == INTERRUPTED:
        return "interrupted"
    return "finished" if result.stopped is None else "stopped"


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _target(target: PlannedTarget) -> dict[str, Any]:
    return {
        "type": target.kind,
        "model": target.model,
        "host": target.host,
        "params": dict(target.params),
        "served_models": sorted(target.calls.usage.served_models),
        "usage": usage_data(target.calls.usage),
    }


def _judge(scorer: PlannedScorer) -> Mapping[str, Any] | None:
    desk = scorer.judge
    if desk is None:
        return None
    check = None
    if desk.check is not None:
        check = {
            "right": desk.check.right,
            "total": desk.check.total,
            "needed": desk.check.needed,
            "passed": desk.check.passed,
            "failure": str(desk.check.failure) if desk.check.failure is not None else None,
            "wrong": list(desk.check.wrong),
        }
    return {
        "name": desk.name,
        "model": desk.model,
        "host": desk.host,
        "mode": desk.mode,
        "params": dict(desk.params),
        "self_check": check,
        "served_models": sorted(desk.calls.usage.served_models),
        "usage": usage_data(desk.calls.usage),
    }
