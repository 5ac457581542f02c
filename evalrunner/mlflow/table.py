"""The evaluation table: a row for every answer under the names that `mlflow.evaluate` gave its columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evalrunner.domain import Completion, Row
from evalrunner.mlflow.names import clean
from evalrunner.runs.record import RunRecord
from evalrunner.stats.measures import Measure, output_rate

TABLE = "eval_results_table"
FRONT = ("id", "epoch", "inputs")
ANSWERS = ("ground_truth", "outputs")
ENDS = ("latency", "token_count", "cost_usd", "finish_reason")
STREAMING_MEASURES = ("ttft", "output_rate")
OURS = ("id", "input", "expected")  # columns of a sample that stand under MLflow's name already


def evaluation_frame(rows: Iterable[Row], run: RunRecord, targets: Sequence[str]) -> Any:
    """The rows of `targets` as a pandas DataFrame, in the order of target, sample and epoch.

    Columns: `inputs`, those of the sample, `ground_truth`, `outputs`, then `{scorer}/v1/score`, `/justification` and
    `/state`, then `latency`, `token_count`, `cost_usd`. `run` is the record of the run.
    """
    import pandas

    order = {name: place for place, name in enumerate(targets)}
    chosen = [row for row in rows if row.target in order]
    chosen.sort(key=lambda row: (order[row.target], row.sample.index, row.epoch))
    shape = _Shape(run, several=len(targets) > 1)
    return pandas.DataFrame.from_records([shape.record(row) for row in chosen], columns=shape.columns)


def write_table(frame: Any, path: Path) -> None:
    """Write a frame as MLflow's `log_table` does."""
    frame.to_json(path, orient="split", index=False, date_format="iso")


class _Shape:
    def __init__(self, run: RunRecord, *, several: bool) -> None:
        self.measures = run.measures
        self.ends = (*STREAMING_MEASURES, *ENDS) if run.streaming else ENDS
        front = ("target", *FRONT) if several else FRONT
        scores = [
            f"{prefix(measure)}/{part}" for measure in self.measures for part in ("score", "justification", "state")
        ]
        taken = {*front, *ANSWERS, *scores, *self.ends}
        plain = [name for name in run.columns if name not in OURS and name not in _sources(run)]
        self.samples = {name: f"sample.{name}" if name in taken else name for name in plain}
        self.columns = [*front, *self.samples.values(), *ANSWERS, *scores, *self.ends]

    def record(self, row: Row) -> dict[str, Any]:
        sample, answer = row.sample, row.answer
        record: dict[str, Any] = {
            "target": row.target, "id": sample.id, "epoch": row.epoch, "inputs": _text(sample.input),
            **{column: _plain(sample.metadata.get(name)) for name, column in self.samples.items()},
            "ground_truth": _expected(sample.expected), "outputs": None,
        }  # fmt: skip
        for measure in self.measures:
            cell = row.cells[measure.name]
            name, why = prefix(measure), cell.message or (cell.detail or {}).get("explanation")
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
    """The columns that stand under MLflow's name already: those that input and expected are, whole."""
    chosen = run.dataset.columns
    found = [chosen[name] for name in ("input", "expected") if name in chosen]
    return {said["column"] for said in found if isinstance(said["column"], str) and "split" not in said}


def prefix(measure: Measure) -> str:
    """`exact_match/v1` for a scorer."""
    version = measure.declaration.version
    return f"{measure.name}/{version}" if version else measure.name


def rows_of(rows: Iterable[Row], target: str) -> Iterator[Row]:
    """Those of one target."""
    return (row for row in rows if row.target == target)


def _expected(expected: Sequence[str]) -> str | None:
    if not expected:
        return None
    return clean(expected[0]) if len(expected) == 1 else clean(json.dumps(list(expected), ensure_ascii=False))


def _text(value: Any) -> str:
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else _text(value)
