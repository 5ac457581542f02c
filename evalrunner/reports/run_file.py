"""`run.json`: what was run, with what, when, and what it took."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evalrunner.engine.definition import definition_of
from evalrunner.engine.fingerprints import hashes, scorer_data
from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.engine.result import RunResult
from evalrunner.reports.metrics_file import usage_data
from evalrunner.runs.source_control import source_of
from evalrunner.suite.options import RunOptions, options_data

SCHEMA_VERSION = 1
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
    if result.exit_code == 130:
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
