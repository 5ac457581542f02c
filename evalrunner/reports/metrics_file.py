"""`metrics.json`: every metric with its counts and interval, every gate with its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evalrunner.domain import BaselineResult, GateResult, Metric
from evalrunner.engine.result import RunResult
from evalrunner.middleware.usage import Usage
from evalrunner.reports.comparison_file import comparison_data

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
