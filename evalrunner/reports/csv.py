"""`table.csv`: a row for every answer, in the order of target, sample and epoch.

Rows arrive in any order, so their lines go to a temporary file as they come, and are put in order at the end:
nothing but a place and an offset is held for each.
"""

from __future__ import annotations

import csv
import json
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from evalrunner.domain import Completion, Row
from evalrunner.engine.plan import Plan
from evalrunner.errors import RunError
from evalrunner.redact import redact
from evalrunner.runs.folder import TABLE_FILE
from evalrunner.stats.measures import Measure, output_rate

OWN_COLUMNS = ("id", "target", "epoch", "input")
END_COLUMNS = ("latency", "token_count", "cost_usd", "finish_reason")
STREAMED_COLUMNS = ("ttft", "output_rate")  # only where answers are streamed
FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
)  # what spreadsheets take for the start of a formula, or skip before one


class TableShape:
    """The columns of a run's table: ours first, a sample's own column that has one of our names gets a prefix."""

    def __init__(self, sample_columns: Sequence[str], measures: Sequence[Measure], *, streaming: bool = False) -> None:
        self.measures = tuple(measures)
        self.streaming = streaming
        self.cells = [
            (measure.name, *(f"{prefix}/{part}" for part in ("score", "state", "justification")))
            for measure, prefix in zip(self.measures, self.prefixes(), strict=True)
        ]
        ending = (*STREAMED_COLUMNS, *END_COLUMNS) if streaming else END_COLUMNS
        scores = [column for _, *columns in self.cells for column in columns]
        taken = {*OWN_COLUMNS, "expected", "output", *scores, *ending}
        plain = [name for name in sample_columns if name not in ("id", "input", "expected")]
        self.samples = {name: f"sample.{name}" if name in taken else name for name in plain}
        self.columns = (*OWN_COLUMNS, *self.samples.values(), "expected", "output", *scores, *ending)

    def prefixes(self) -> Iterator[str]:
        """`exact_match/v1` for each scorer."""
        for measure in self.measures:
            version = measure.declaration.version
            yield f"{measure.name}/{version}" if version else measure.name

    def record(self, row: Row) -> dict[str, Any]:
        """The row by column: numbers as numbers, None where there is nothing."""
        sample, answer = row.sample, row.answer
        record: dict[str, Any] = {
            "id": sample.id, "target": row.target, "epoch": row.epoch, "input": plain_text(sample.input),
        }  # fmt: skip
        for name, column in self.samples.items():
            record[column] = _plain(sample.metadata.get(name))
        record["expected"] = expected_text(sample.expected)
        record["output"] = answer.text if isinstance(answer, Completion) else None
        for name, score, state, justification in self.cells:
            cell = row.cells[name]
            record[score] = cell.value
            record[state] = cell.state
            record[justification] = cell.message or (cell.detail or {}).get("explanation")
        if self.streaming:
            streamed = answer if isinstance(answer, Completion) else Completion("")
            record.update(ttft=streamed.ttft_s, output_rate=output_rate(streamed))
        if isinstance(answer, Completion):
            record["latency"] = answer.latency_s
            record["token_count"] = answer.output_tokens
            record["cost_usd"] = answer.cost_usd
            record["finish_reason"] = answer.finish_reason
        else:
            record.update(latency=None, token_count=None, cost_usd=None, finish_reason=f"error: {answer.kind}")
        return record


def expected_text(expected: Sequence[str]) -> str | None:
    """One accepted answer as it is, several as a JSON list, None where there is none."""
    if not expected:
        return None
    return expected[0] if len(expected) == 1 else json.dumps(list(expected), ensure_ascii=False)


def plain_text(value: Any) -> str:
    """A value as text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return plain_text(value)


def guard_formula(value: Any) -> Any:
    """The value as a spreadsheet may see it: text that would be a formula gets an apostrophe, numbers do not."""
    if not isinstance(value, str):
        return value
    text = value.replace("\0", "")  # readers of CSV stop at a NUL
    if text.startswith(FORMULA) and not _is_number(text):
        return "'" + text
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text


class TableWriter:
    """Takes rows in any order and writes `table.csv` of a run folder when it is closed."""

    def __init__(self, folder: Path, shape: TableShape, targets: Sequence[str]) -> None:
        self.path = folder / TABLE_FILE
        self.shape = shape
        self.order = {name: place for place, name in enumerate(targets)}
        self.keys = array("Q")  # target, sample and epoch in one number, so that a million of them stay small
        self.offsets = array("q", [0])
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix=".table.")  # noqa: SIM115  lives with the run

    def add(self, row: Row) -> None:
        """Take one row."""
        line = encode_line(self.shape.record(row).values())
        self.file.write(line)
        self.keys.append(self.order[row.target] << 52 | row.sample.index << 16 | row.epoch)
        self.offsets.append(self.offsets[-1] + len(line))

    def finish(self) -> None:
        """Write the table in order, under a temporary name, and rename it."""
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with part.open("wb") as table:
                table.write(encode_line(self.shape.columns))
                for place in sorted(range(len(self.keys)), key=self.keys.__getitem__):
                    self.file.seek(self.offsets[place])
                    table.write(self.file.read(self.offsets[place + 1] - self.offsets[place]))
            part.replace(self.path)
        except OSError as refused:
            raise RunError(f"cannot write {str(self.path)!r}: {refused.strerror}") from None
        finally:
            self.file.close()


class _Line:
    """A file that keeps nothing: its writer hands back what it wrote, so that one writer serves every line."""

    def write(self, text: str, /) -> str:
        return text


_WRITER: Any = csv.writer(_Line(), lineterminator="\n")


def encode_line(values: Any) -> bytes:
    """One line of CSV, keys redacted, formulas disarmed."""
    line: str = _WRITER.writerow([guard_formula(value) if isinstance(value, str) else value for value in values])
    return redact(line).encode("utf-8", errors="backslashreplace")


def shape_of(plan: Plan) -> TableShape:
    """The columns of a run's table."""
    return TableShape(plan.scan.columns, plan.measures, streaming=plan.suite.streaming)


def table_frame(rows: Iterator[Row], shape: TableShape, targets: Sequence[str]) -> Any:
    """The table as a pandas DataFrame, with the texts as they are: no guard against spreadsheets."""
    import pandas

    order = {name: place for place, name in enumerate(targets)}
    ordered = sorted(rows, key=lambda row: (order[row.target], row.sample.index, row.epoch))
    return pandas.DataFrame.from_records([shape.record(row) for row in ordered], columns=list(shape.columns))
