"""What is said of a run in MLflow: parameters, tags and metrics, from `run.json` and `metrics.json`. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evalrunner.mlflow.names import cut, legal_step, metric_key, param_value, plain_markdown, tag_value
from evalrunner.mlflow.settings import Settings
from evalrunner.runs.folder import METRICS_FILE, RUN_FILE, read_json

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
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.run["run_id"])

    @property
    def targets(self) -> list[str]:
        return list(self.metrics["targets"])

    @property
    def status(self) -> str:
        """As MLflow has it."""
        return STATUSES.get(str(self.run["status"]), "FAILED")

    @property
    def started_ms(self) -> int:
        return _milliseconds(self.run["started_at"])

    @property
    def finished_ms(self) -> int:
        return _milliseconds(self.run["finished_at"])

    @property
    def epochs(self) -> int:
        return int(self.run["epochs"])


def read_stored(folder: Path) -> StoredRun:
    """The run in a folder. Raises RunNotFoundError where its files are missing or broken."""
    return StoredRun(folder, read_json(folder / RUN_FILE), read_json(folder / METRICS_FILE))


def _milliseconds(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def target_metrics(metrics: Sequence[Mapping[str, Any]]) -> Values:
    """The metrics of a target that have a value, each with its interval and the number of samples behind it."""
    found: Values = {}
    for metric in metrics:
        if metric["value"] is None or not math.isfinite(metric["value"]):
            continue
        key = metric_key(metric["name"], metric["slice"])
        found[key] = float(metric["value"])
        for end in ("low", "high", "n"):
            if metric[end] is not None and math.isfinite(metric[end]):
                found[f"{key}/{end}"] = float(metric[end])
    return found


def run_metrics(stored: StoredRun) -> Values:
    """What the run of the suite shows: the metrics of its targets, with the target's name in front where there are several."""
    several = len(stored.targets) > 1
    found: Values = {}
    for name, target in stored.metrics["targets"].items():
        whole = [metric for metric in target["metrics"] if metric["slice"] is None]
        prefix = f"{legal_step(name)}/" if several else ""
        found.update((f"{prefix}{key}"[-250:], value) for key, value in target_metrics(whole).items())
    found.update(_usage("usage/targets", stored.run["targets"].values()))
    found.update(_usage("usage/judges", stored.run["judges"].values()))
    found["duration_s"] = float(stored.run["duration_s"])
    found["rows"] = float(stored.run["rows"])
    return found


def usage_metrics(stored: StoredRun, target: str) -> Values:
    """Calls, tokens and cost of one target."""
    return _usage("usage", [stored.run["targets"][target]])


def _usage(prefix: str, parts: Any) -> Values:
    found: Values = {}
    for part in parts:
        for name in ("calls", "failures", "input_tokens", "output_tokens", "cost_usd"):
            value = part["usage"].get(name)
            if value is not None:
                found[f"{prefix}/{name}"] = found.get(f"{prefix}/{name}", 0.0) + float(value)
    return found


def run_params(stored: StoredRun) -> dict[str, str]:
    """What defines the suite's run. Nothing that a resume may change: MLflow never changes a parameter."""
    run = stored.run
    return _texts({
        "suite": run["suite"],
        "targets": ", ".join(stored.targets),
        "dataset.digest": run["hashes"]["dataset"],
        "dataset.mlflow": (run.get("dataset_from") or {}).get("mlflow"),
        "seed": run["seed"],
        **_scorer_params(run),
    })  # fmt: skip


def target_params(stored: StoredRun, name: str) -> dict[str, str]:
    """What defines one target's run: the model, its parameters and prompt, the scorers and judges."""
    run = stored.run
    said = run["targets"][name]
    return _texts({
        "target": name,
        "type": said["type"],
        "model": said["model"],
        "model_uri": _asked_for(run, name),
        "host": said["host"],
        **{f"params.{legal_step(str(key))}": value for key, value in said["params"].items()},
        "prompt.sha256": run["hashes"]["prompts"].get(name),
        "dataset.digest": run["hashes"]["dataset"],
        "dataset.mlflow": (run.get("dataset_from") or {}).get("mlflow"),
        "seed": run["seed"],
        **_scorer_params(run),
    })  # fmt: skip


def _asked_for(run: Mapping[str, Any], name: str) -> Any:
    """The address that the suite gives a logged model: an alias, where `model` is the version that it meant."""
    options = run["definition"]["targets"].get(name, {}).get("options") or {}
    return options.get("model_uri")


def _scorer_params(run: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, said in run["scorers"].items():
        version = said["version"] or "unversioned"
        found[f"scorer.{legal_step(name)}"] = version + (f" ({said['backend']})" if said["backend"] else "")
    for name, judge in run["judges"].items():
        found[f"judge.{legal_step(name)}"] = judge["model"]
    return found


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    return {cut(name, 250): param_value(value) for name, value in data.items() if value is not None}


def run_tags(stored: StoredRun, settings: Settings) -> dict[str, str]:
    """The tags of the suite's run: of the user, of git and CI, of the verdict, and a tag a gate."""
    run = stored.run
    return _tags({
        **{"/".join(map(legal_step, name.split("/"))): value for name, value in settings.tags.items()},
        **common_tags(stored),
        "mlflow.note.content": plain_markdown(str(run["resolved"].get("description") or "")) or None,
        "evalrun.verdict": run["verdict"],
        "evalrun.exit_code": run["exit_code"],
        "evalrun.stopped": run["stopped"],
        "evalrun.epochs": run["epochs"],
        "evalrun.rows": f"{run['rows']} of {run['rows_planned']}",
        "evalrun.version": run["versions"].get("evalrunner"),
        **_gate_tags(stored.metrics["gates"], named=True),
    })  # fmt: skip


def target_tags(stored: StoredRun, name: str, settings: Settings) -> dict[str, str]:
    """The tags of one target's run, with its gates and the metrics that are not to be trusted."""
    target = stored.metrics["targets"][name]
    gates = [gate for gate in stored.metrics["gates"] if gate["target"] == name]
    doubtful = [
        metric["name"]
        for metric in target["metrics"]
        if not metric["trusted"] and metric["slice"] is None and metric["value"] is not None
    ]
    return _tags({
        **{"/".join(map(legal_step, key.split("/"))): value for key, value in settings.tags.items()},
        **common_tags(stored),
        "evalrun.untrusted_metrics": ", ".join(doubtful) or None,
        "evalrun.served_models": ", ".join(stored.run["targets"][name]["served_models"]) or None,
        **_gate_tags(gates, named=False),
    })  # fmt: skip


def common_tags(stored: StoredRun) -> dict[str, Any]:
    """Where the run comes from, in the names that MLflow shows."""
    source = stored.run.get("source") or {}
    return {
        "evalrun.suite": stored.run["suite"],
        RUN_TAG: stored.id,
        "mlflow.source.name": stored.run["suite_file"],
        "mlflow.source.type": "JOB" if source.get("ci_url") else "LOCAL",
        "mlflow.source.git.commit": source.get("commit"),
        "mlflow.source.git.branch": source.get("branch"),
        "evalrun.ci_url": source.get("ci_url"),
    }


def _gate_tags(gates: Sequence[Mapping[str, Any]], *, named: bool) -> dict[str, str]:
    """`evalrun.gate.1`: the gate, its verdict and why; their texts have signs that names of tags may not have."""
    found: dict[str, str] = {}
    for place, gate in enumerate(gates, 1):
        value = "no value" if gate["value"] is None else f"{gate['value']:.6g}"
        of = f" [{gate['target']}]" if named else ""
        found[f"evalrun.gate.{place}"] = f"{gate['verdict']}: {gate['gate']}{of}: {value}, {gate['reason']}"
    return found


def _tags(data: Mapping[str, Any]) -> dict[str, str]:
    return {cut(name, 250): tag_value(value) for name, value in data.items() if value is not None}
