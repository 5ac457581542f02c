"""What is said of a run in MLflow: parameters, tags and metrics, from `run.json` and `metrics.json`. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evalrunner.domain import GateResult, Metric
from evalrunner.mlflow.names import cut, legal_step, metric_key, param_value, plain_markdown, tag_value
from evalrunner.mlflow.settings import Settings
from evalrunner.runs.record import MetricsRecord, RunRecord, UsageRecord

RUN_TAG = "evalrun.run_id"
TARGET_TAG = "evalrun.target"
KEY_TAG = "evalrun.key"
STATUSES = {"finished": "FINISHED", "interrupted": "KILLED", "stopped": "FAILED"}
DIGEST_LENGTH = 36  # what MLflow takes of a dataset's digest

Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's folder with what its two files say."""

    folder: Path
    run: RunRecord
    metrics: MetricsRecord

    @property
    def id(self) -> str:
        return self.run.run_id

    @property
    def targets(self) -> list[str]:
        return list(self.metrics.targets)

    @property
    def status(self) -> str:
        """As MLflow has it."""
        return STATUSES.get(self.run.status, "FAILED")

    @property
    def started_ms(self) -> int:
        return _milliseconds(self.run.started_at)

    @property
    def finished_ms(self) -> int:
        return _milliseconds(self.run.finished_at or self.run.started_at)

    @property
    def epochs(self) -> int:
        return self.run.epochs


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def target_metrics(metrics: Sequence[Metric]) -> Values:
    """The metrics of a target that have a value, each with its interval and the number of samples behind it."""
    found: Values = {}
    for metric in metrics:
        if metric.value is None or not math.isfinite(metric.value):
            continue
        key = metric_key(metric.name, metric.slice)
        found[key] = float(metric.value)
        for end in ("low", "high", "n"):
            value = getattr(metric, end)
            if value is not None and math.isfinite(value):
                found[f"{key}/{end}"] = float(value)
    return found


def run_metrics(stored: StoredRun) -> Values:
    """What the run of the suite shows: the metrics of its targets, with the target's name in front where there are several."""
    several = len(stored.targets) > 1
    found: Values = {}
    for name, target in stored.metrics.targets.items():
        whole = [metric for metric in target.metrics if metric.slice is None]
        prefix = f"{legal_step(name)}/" if several else ""
        found.update((f"{prefix}{key}"[-250:], value) for key, value in target_metrics(whole).items())
    found.update(_usage("usage/targets", [target.usage for target in stored.run.targets.values()]))
    found.update(_usage("usage/judges", [judge.usage for judge in stored.run.judges.values()]))
    found["duration_s"] = stored.run.duration_s or 0.0
    found["rows"] = float(stored.run.rows or 0)
    return found


def usage_metrics(stored: StoredRun, target: str) -> Values:
    """Calls, tokens and cost of one target."""
    return _usage("usage", [stored.run.targets[target].usage])


def _usage(prefix: str, parts: Iterable[UsageRecord]) -> Values:
    found: Values = {}
    for part in parts:
        for name in ("calls", "failures", "input_tokens", "output_tokens", "cost_usd"):
            value = getattr(part, name)
            if value is not None:
                found[f"{prefix}/{name}"] = found.get(f"{prefix}/{name}", 0.0) + float(value)
    return found


def run_params(stored: StoredRun) -> dict[str, str]:
    """What defines the suite's run. Nothing that a resume may change: MLflow never changes a parameter."""
    run = stored.run
    return _texts({
        "suite": run.suite,
        "targets": ", ".join(stored.targets),
        "dataset.digest": run.dataset.digest,
        "dataset.mlflow": (run.dataset_from or {}).get("mlflow"),
        "seed": run.seed,
        **_scorer_params(run),
    })  # fmt: skip


def target_params(stored: StoredRun, name: str) -> dict[str, str]:
    """What defines one target's run: the model, its parameters and prompt, the scorers and judges."""
    run = stored.run
    target = run.targets[name]
    return _texts({
        "target": name,
        "type": target.type,
        "model": target.model,
        "model_uri": (target.options or {}).get("model_uri"),
        "host": target.host,
        **{f"params.{legal_step(str(key))}": value for key, value in target.params.items()},
        "prompt.sha256": target.prompt_digest,
        "dataset.digest": run.dataset.digest,
        "dataset.mlflow": (run.dataset_from or {}).get("mlflow"),
        "seed": run.seed,
        **_scorer_params(run),
    })  # fmt: skip


def _scorer_params(run: RunRecord) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, scorer in run.scorers.items():
        version = scorer.version or "unversioned"
        found[f"scorer.{legal_step(name)}"] = version + (f" ({scorer.backend})" if scorer.backend else "")
    for name, judge in run.judges.items():
        found[f"judge.{legal_step(name)}"] = judge.model
    return found


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    return {cut(name, 250): param_value(value) for name, value in data.items() if value is not None}


def run_tags(stored: StoredRun, settings: Settings) -> dict[str, str]:
    """The tags of the suite's run: of the user, of git and CI, of the verdict, and a tag a gate."""
    run = stored.run
    return _tags({
        **{"/".join(map(legal_step, name.split("/"))): value for name, value in settings.tags.items()},
        **common_tags(stored),
        "mlflow.note.content": plain_markdown(str(run.resolved.get("description") or "")) or None,
        "evalrun.verdict": run.verdict,
        "evalrun.exit_code": run.exit_code,
        "evalrun.stopped": run.stopped,
        "evalrun.epochs": run.epochs,
        "evalrun.rows": f"{run.rows} of {run.rows_planned}",
        "evalrun.version": run.versions.get("evalrunner"),
        **_gate_tags(stored.metrics.gates, named=True),
    })  # fmt: skip


def target_tags(stored: StoredRun, name: str, settings: Settings) -> dict[str, str]:
    """The tags of one target's run, with its gates and the metrics that are not to be trusted."""
    target = stored.metrics.targets[name]
    gates = [gate for gate in stored.metrics.gates if gate.target == name]
    doubtful = [
        metric.name
        for metric in target.metrics
        if not metric.trusted and metric.slice is None and metric.value is not None
    ]
    return _tags({
        **{"/".join(map(legal_step, key.split("/"))): value for key, value in settings.tags.items()},
        **common_tags(stored),
        "evalrun.untrusted_metrics": ", ".join(doubtful) or None,
        "evalrun.served_models": ", ".join(stored.run.targets[name].served_models) or None,
        **_gate_tags(gates, named=False),
    })  # fmt: skip


def common_tags(stored: StoredRun) -> dict[str, Any]:
    """Where the run comes from, in the names that MLflow shows."""
    source = stored.run.source
    return {
        "evalrun.suite": stored.run.suite,
        RUN_TAG: stored.id,
        "mlflow.source.name": str(stored.run.suite_file),
        "mlflow.source.type": "JOB" if source.get("ci_url") else "LOCAL",
        "mlflow.source.git.commit": source.get("commit"),
        "mlflow.source.git.branch": source.get("branch"),
        "evalrun.ci_url": source.get("ci_url"),
    }


def _gate_tags(gates: Sequence[GateResult], *, named: bool) -> dict[str, str]:
    """`evalrun.gate.1`: the gate, its verdict and why; their texts have signs that names of tags may not have."""
    found: dict[str, str] = {}
    for place, gate in enumerate(gates, 1):
        value = "no value" if gate.value is None else f"{gate.value:.6g}"
        of = f" [{gate.target}]" if named else ""
        found[f"evalrun.gate.{place}"] = f"{gate.verdict}: {gate.gate}{of}: {value}, {gate.reason}"
    return found


def _tags(data: Mapping[str, Any]) -> dict[str, str]:
    return {cut(name, 250): tag_value(value) for name, value in data.items() if value is not None}
