"""The data of a run as MLflow takes it: names, parameters, tags, metrics and the evaluation table. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evalrunner.domain import Completion, GateResult, Metric, Row
from evalrunner.formatting import plain_text
from evalrunner.mlflow.destination import Settings
from evalrunner.redact import redact
from evalrunner.runs.record import MetricsRecord, RunRecord, UsageRecord
from evalrunner.stats.summary import output_rate

ILLEGAL_CHARACTERS = re.compile(r"[^\w\-. :]")  # of mlflow.utils.validation; / separates the steps of a name
MARKDOWN_SIGNS = re.compile(r"[\\`<>\[\]]")
MAX_KEY_LENGTH = 250
MAX_TAG_LENGTH = 5000  # the limit of servers before 2.16; 8,000 since
MAX_PARAM_LENGTH = 6000
INTERVAL_SUFFIXES = ("/low", "/high", "/n")
MAX_METRIC_KEY = MAX_KEY_LENGTH - max(map(len, INTERVAL_SUFFIXES))

RUN_TAG = "evalrun.run_id"
TARGET_TAG = "evalrun.target"
KEY_TAG = "evalrun.key"
STATUSES = {"finished": "FINISHED", "interrupted": "KILLED", "stopped": "FAILED"}
MAX_DIGEST_LENGTH = 36  # MLflow's limit

Values = dict[str, float]

TABLE = "eval_results_table"
FIRST_COLUMNS = ("id", "epoch", "inputs")
ANSWER_COLUMNS = ("ground_truth", "outputs")
MEASUREMENTS = ("latency", "token_count", "cost_usd", "finish_reason")
STREAMING_MEASURES = ("ttft", "output_rate")
RENAMED_COLUMNS = ("id", "input", "expected")  # columns of a sample that have another name in MLflow


def metric_key(name: str, where: Mapping[str, str] | None = None) -> str:
    """The name of a metric in MLflow: `exact_match/v1`, for a slice `exact_match/v1/topic/law`.

    Brackets and `=` are not allowed there. A changed name gets the start of its hash, so that names stay distinct.
    """
    steps = [*name.split("/"), *(part for pair in (where or {}).items() for part in pair)]
    key = "/".join(map(legal_step, steps))
    return key if len(key) <= MAX_METRIC_KEY else f"{key[: MAX_METRIC_KEY - 9]}-{_digits('/'.join(steps))}"


def legal_step(text: str) -> str:
    """One step of a name, between two slashes, with legal characters."""
    changed = ILLEGAL_CHARACTERS.sub("_", text)
    if changed.strip(". ") == "":  # empty, or a name of a folder
        changed = f"_{changed.strip('. ')}"
    return changed if changed == text else f"{changed}-{_digits(text)}"


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()[:8]


def tag_value(value: object) -> str:
    """The value of a tag, truncated to the limit of servers."""
    return cut(clean(str(value)), MAX_TAG_LENGTH)


def param_value(value: object) -> str:
    """The value of a parameter, a list or mapping as JSON, truncated to the limit of servers."""
    plain = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | Mapping) else str(value)
    return cut(clean(plain), MAX_PARAM_LENGTH)


def plain_markdown(text: str) -> str:
    """Text for a field that MLflow shows as Markdown, escaped so that it has no images, links or HTML."""
    return MARKDOWN_SIGNS.sub(r"\\\g<0>", text)


def cut(text: str, length: int) -> str:
    """The text, truncated to `length` with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def clean(text: str) -> str:
    """Text for databases and JSON: secrets redacted, without NUL, lone surrogates escaped."""
    return redact(text).replace("\0", "").encode("utf-8", errors="backslashreplace").decode()


def is_safe_json(text: str) -> bool:
    """Whether a server can parse a text as JSON: false for NaN, endless digits and extreme nesting.

    For one such text MLflow refuses all spans of a request.
    """
    try:
        json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError:
        return True  # not JSON, so it stays a text
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse(text)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run's folder with the records of its files."""

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
        """The status in MLflow's terms."""
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
    """The metrics of a target that have a value, each with its interval and number of samples."""
    values: Values = {}
    for metric in metrics:
        if metric.value is None or not math.isfinite(metric.value):
            continue
        key = metric_key(metric.name, metric.slice)
        values[key] = float(metric.value)
        for end in ("low", "high", "n"):
            value = getattr(metric, end)
            if value is not None and math.isfinite(value):
                values[f"{key}/{end}"] = float(value)
    return values


def run_metrics(stored: StoredRun) -> Values:
    """The metrics of the suite's run: those of its targets, prefixed with the target if there are several."""
    several = len(stored.targets) > 1
    values: Values = {}
    for name, target in stored.metrics.targets.items():
        overall = [metric for metric in target.metrics if metric.slice is None]
        prefix = f"{legal_step(name)}/" if several else ""
        values.update((f"{prefix}{key}"[-250:], value) for key, value in target_metrics(overall).items())
    values.update(_usage("usage/targets", [target.usage for target in stored.run.targets.values()]))
    judges = list(stored.run.judges.values())
    values.update(_usage("usage/judges", [judge.usage for judge in judges if judge.role != "user"]))
    if users := [judge.usage for judge in judges if judge.role == "user"]:
        values.update(_usage("usage/user", users))
    values["duration_s"] = stored.run.duration_s or 0.0
    values["rows"] = float(stored.run.rows or 0)
    return values


def usage_metrics(stored: StoredRun, target: str) -> Values:
    """Calls, tokens and cost of one target."""
    return _usage("usage", [stored.run.targets[target].usage])


def _usage(prefix: str, parts: Iterable[UsageRecord]) -> Values:
    values: Values = {}
    for part in parts:
        for name in ("calls", "failures", "input_tokens", "output_tokens", "cost_usd"):
            value = getattr(part, name)
            if value is not None:
                values[f"{prefix}/{name}"] = values.get(f"{prefix}/{name}", 0.0) + float(value)
    return values


def run_params(stored: StoredRun) -> dict[str, str]:
    """The parameters of the suite's run. A resume changes none of them, since MLflow refuses changes of parameters."""
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
    """The parameters of a target's run: the model, its parameters and prompt, the scorers and judges."""
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
    params: dict[str, Any] = {}
    for name, scorer in run.scorers.items():
        if scorer.part_of is not None:
            continue
        version = scorer.version or "unversioned"
        params[f"scorer.{legal_step(name)}"] = version + (f" ({scorer.backend})" if scorer.backend else "")
    for name, judge in run.judges.items():
        params[f"judge.{legal_step(name)}"] = judge.model
    return params


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    return {cut(name, 250): param_value(value) for name, value in data.items() if value is not None}


def run_tags(stored: StoredRun, settings: Settings) -> dict[str, str]:
    """The tags of the suite's run: of the user, of git and CI, of the verdict, and one for each gate."""
    run = stored.run
    return _tags({
        **{"/".join(map(legal_step, name.split("/"))): value for name, value in settings.tags.items()},
        **common_tags(stored),
        "mlflow.note.content": plain_markdown(str(run.resolved.get("description") or "")) or None,
        "evalrun.verdict": run.verdict if run.failed_from is None else None,  # no baseline for later runs
        "evalrun.exit_code": run.exit_code,
        "evalrun.stopped": run.stopped,
        "evalrun.epochs": run.epochs,
        "evalrun.rows": f"{run.rows} of {run.rows_planned}",
        "evalrun.version": run.versions.get("evalrunner"),
        **_gate_tags(stored.metrics.gates, named=True),
    })  # fmt: skip


def target_tags(stored: StoredRun, name: str, settings: Settings) -> dict[str, str]:
    """The tags of a target's run, with its gates and its untrusted metrics."""
    target = stored.metrics.targets[name]
    gates = [gate for gate in stored.metrics.gates if gate.target == name]
    untrusted = [
        metric.name
        for metric in target.metrics
        if not metric.trusted and metric.slice is None and metric.value is not None
    ]
    return _tags({
        **{"/".join(map(legal_step, key.split("/"))): value for key, value in settings.tags.items()},
        **common_tags(stored),
        "evalrun.untrusted_metrics": ", ".join(untrusted) or None,
        "evalrun.served_models": ", ".join(stored.run.targets[name].served_models) or None,
        **_gate_tags(gates, named=False),
    })  # fmt: skip


def common_tags(stored: StoredRun) -> dict[str, Any]:
    """The origin of a run under the names that MLflow shows."""
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
    """`evalrun.gate.1`: the gate, its verdict and reason. Names of gates have characters that tag names must not have."""
    tags: dict[str, str] = {}
    for number, gate in enumerate(gates, 1):
        value = "no value" if gate.value is None else f"{gate.value:.6g}"
        of = f" [{gate.target}]" if named else ""
        tags[f"evalrun.gate.{number}"] = f"{gate.verdict}: {gate.gate}{of}: {value}, {gate.reason}"
    return tags


def _tags(data: Mapping[str, Any]) -> dict[str, str]:
    return {cut(name, 250): tag_value(value) for name, value in data.items() if value is not None}


def evaluation_frame(rows: Iterable[Row], run: RunRecord, targets: Sequence[str]) -> Any:
    """The rows of `targets` as a pandas DataFrame, in the order of target, sample and epoch.

    Columns: `inputs`, those of the sample, `ground_truth`, `outputs`, then `{scorer}/v1/score`, `/justification` and
    `/state`, then `latency`, `token_count`, `cost_usd`. `run` is the record of the run.
    """
    import pandas

    order = {name: index for index, name in enumerate(targets)}
    chosen = [row for row in rows if row.target in order]
    chosen.sort(key=lambda row: (order[row.target], row.sample.index, row.epoch))
    shape = _Shape(run, several=len(targets) > 1)
    return pandas.DataFrame.from_records([shape.record(row) for row in chosen], columns=shape.columns)


def write_table(frame: Any, path: Path) -> None:
    """Write a frame in the format of MLflow's `log_table`."""
    frame.to_json(path, orient="split", index=False, date_format="iso")


class _Shape:
    def __init__(self, run: RunRecord, *, several: bool) -> None:
        self.measures = run.measures
        self.ends = (*STREAMING_MEASURES, *MEASUREMENTS) if run.streaming else MEASUREMENTS
        front = ("target", *FIRST_COLUMNS) if several else FIRST_COLUMNS
        scores = [
            f"{measure.versioned_name}/{part}"
            for measure in self.measures
            for part in ("score", "justification", "state")
        ]
        taken = {*front, *ANSWER_COLUMNS, *scores, *self.ends}
        plain = [name for name in run.columns if name not in RENAMED_COLUMNS and name not in _sources(run)]
        self.samples = {name: f"sample.{name}" if name in taken else name for name in plain}
        self.columns = [*front, *self.samples.values(), *ANSWER_COLUMNS, *scores, *self.ends]

    def record(self, row: Row) -> dict[str, Any]:
        sample, answer = row.sample, row.answer
        record: dict[str, Any] = {
            "target": row.target, "id": sample.id, "epoch": row.epoch, "inputs": _text(sample.input),
            **{column: _plain(sample.metadata.get(name)) for name, column in self.samples.items()},
            "ground_truth": _expected(sample.expected), "outputs": None,
        }  # fmt: skip
        for measure in self.measures:
            cell = row.cells[measure.name]
            name, why = measure.versioned_name, cell.message or (cell.detail or {}).get("explanation")
            record[f"{name}/score"] = cell.value
            record[f"{name}/justification"] = None if why is None else _text(why)
            record[f"{name}/state"] = cell.state
        if isinstance(answer, Completion):
            record.update(
                outputs=_text(answer.text), latency=answer.latency_s, token_count=answer.output_tokens,
                cost_usd=answer.cost_usd, finish_reason=answer.finish_reason, ttft=answer.ttft_s, output_rate=output_rate(answer),
            )  # fmt: skip
        else:
            record["finish_reason"] = f"error: {answer.kind}"
        return record


def _sources(run: RunRecord) -> set[str]:
    """The columns that MLflow's names replace: those that are input and expected, unchanged."""
    chosen = run.dataset.columns
    mapped = [chosen[name] for name in ("input", "expected") if name in chosen]
    return {column["column"] for column in mapped if isinstance(column["column"], str) and "split" not in column}


def rows_of(rows: Iterable[Row], target: str) -> Iterator[Row]:
    """The rows of one target."""
    return (row for row in rows if row.target == target)


def _expected(expected: Sequence[str]) -> str | None:
    if not expected:
        return None
    return clean(expected[0]) if len(expected) == 1 else clean(json.dumps(list(expected), ensure_ascii=False))


def _text(value: Any) -> str:
    return clean(plain_text(value))


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else _text(value)
