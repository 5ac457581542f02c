"""Tables of a run's rows: CSV written while rows arrive, Parquet and Excel at the end."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from evalrunner.domain import Completion, Row
from evalrunner.formatting import plain_text
from evalrunner.redact import redact
from evalrunner.reports.view import RunView
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.summary import Measure, output_rate
from evalrunner.storage import replacing

ROW_COLUMNS = ("id", "target", "epoch", "input")
XLSX_CELL = 32_767  # characters that a cell of Excel holds
XLSX_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # XML 1.0 §2.2 forbids them
END_COLUMNS = ("latency", "token_count", "cost_usd", "finish_reason")
STREAMED_COLUMNS = ("ttft", "output_rate")  # only where answers are streamed
FORMULA = frozenset("=+-@\t\r\n")  # characters at which spreadsheets start a formula, or which they skip before one


class TableShape:
    """The columns of a run's table. A sample column with the name of another column gets the prefix `sample.`."""

    def __init__(self, sample_columns: Sequence[str], measures: Sequence[Measure], *, streaming: bool = False) -> None:
        self.measures = tuple(measures)
        self.streaming = streaming
        self.cells = [
            (measure.name, *(f"{measure.versioned_name}/{part}" for part in ("score", "state", "justification")))
            for measure in self.measures
        ]
        ending = (*STREAMED_COLUMNS, *END_COLUMNS) if streaming else END_COLUMNS
        scores = [column for _, *columns in self.cells for column in columns]
        taken = {*ROW_COLUMNS, "expected", "output", *scores, *ending}
        plain = [name for name in sample_columns if name not in ("id", "input", "expected")]
        self.samples = {name: f"sample.{name}" if name in taken else name for name in plain}
        self.columns = (*ROW_COLUMNS, *self.samples.values(), "expected", "output", *scores, *ending)

    def record(self, row: Row) -> dict[str, Any]:
        """The row by column: numbers as numbers, None for missing values."""
        sample, answer = row.sample, row.answer
        record: dict[str, Any] = {
            "id": sample.id, "target": row.target, "epoch": row.epoch, "input": sample.input if isinstance(sample.input, str) else plain_text(sample.input),
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
    """One expected answer as it is, several as a JSON list, None for none."""
    if not expected:
        return None
    return expected[0] if len(expected) == 1 else json.dumps(list(expected), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return plain_text(value)


def guard_formula(text: str) -> str:
    """Text that is safe for spreadsheets: a formula gets an apostrophe, numbers do not."""
    if "\0" in text:  # readers of CSV stop at a NUL
        text = text.replace("\0", "")
    return "'" + text if text[:1] in FORMULA and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip() == text


class SpooledLines:
    """Encoded lines of rows that arrive in any order, read back by target, sample and epoch.

    The lines are in a temporary file: only a key and an offset of each are held in memory.
    """

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.order = {name: place for place, name in enumerate(targets)}
        self.keys = array("Q")  # target, sample and epoch in one number, so that a million of them stay small
        self.offsets = array("q", [0])
        folder.mkdir(parents=True, exist_ok=True)
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix=".rows.")  # noqa: SIM115  closed by its owner

    def add(self, row: Row, line: bytes) -> None:
        """Add the line of one row."""
        self.file.write(line)
        self.keys.append(self.order[row.target] << 52 | row.sample.index << 16 | row.epoch)
        self.offsets.append(self.offsets[-1] + len(line))

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """The lines in order, each with the place of its target."""
        for place in sorted(range(len(self.keys)), key=self.keys.__getitem__):
            self.file.seek(self.offsets[place])
            yield self.keys[place] >> 52, self.file.read(self.offsets[place + 1] - self.offsets[place])

    def close(self) -> None:
        """Remove the temporary file."""
        self.file.close()


class CsvReporter:
    """Writes `.csv`: a row for every answer, ordered by target, sample and epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        self.shape = table_shape(run)
        self.lines = SpooledLines(self.path.parent, list(run.targets))

    def on_row(self, row: Row, /) -> None:
        self.lines.add(row, encode_line(self.shape.record(row).values()))

    def on_end(self, run: RunView, /) -> None:
        try:
            with replacing(self.path) as part, part.open("wb") as table:
                table.write(encode_line(self.shape.columns))
                table.writelines(line for _, line in self.lines)
        finally:
            self.lines.close()


class ParquetReporter:
    """Writes `.parquet`: the same table with typed columns. Needs pyarrow."""

    requires = ("pyarrow", "parquet")

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        frame = _frame(run)
        for name in frame.columns:
            if frame[name].dtype.kind not in "iufb":  # a column of mixed types has no type in Parquet
                frame[name] = [None if value is None else _utf8(str(value)) for value in frame[name]]
        with replacing(self.path) as part:
            frame.to_parquet(part, index=False)


class XlsxReporter:
    """Writes `.xlsx`: the same table as a sheet of Excel. Needs openpyxl."""

    requires = ("openpyxl", "xlsx")

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        with replacing(self.path) as part:
            _frame(run).map(_excel_cell).to_excel(part, sheet_name="rows", index=False, engine="openpyxl")


def _frame(run: RunView) -> Any:
    return table_frame(read_rows(run.folder), table_shape(run), list(run.targets))


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="backslashreplace").decode()


def _excel_cell(value: Any) -> Any:
    return XLSX_ILLEGAL.sub("", guard_formula(value))[:XLSX_CELL] if isinstance(value, str) else value


class _Line:
    """A file that returns what is written to it, so that one CSV writer serves every line."""

    def write(self, text: str, /) -> str:
        return text


_WRITER: Any = csv.writer(_Line(), lineterminator="\n")


def encode_line(values: Any) -> bytes:
    """One line of CSV, keys redacted, formulas disarmed."""
    line: str = _WRITER.writerow([guard_formula(value) if isinstance(value, str) else value for value in values])
    return redact(line).encode("utf-8", errors="backslashreplace")


def table_shape(run: RunView) -> TableShape:
    """The columns of a run's table."""
    return TableShape(run.columns, run.measures, streaming=run.streaming)


def table_frame(rows: Iterator[Row], shape: TableShape, targets: Sequence[str]) -> Any:
    """The table as a pandas DataFrame, with texts unchanged: no guard against formulas."""
    import pandas

    order = {name: place for place, name in enumerate(targets)}
    ordered = sorted(rows, key=lambda row: (order[row.target], row.sample.index, row.epoch))
    return pandas.DataFrame.from_records([shape.record(row) for row in ordered], columns=list(shape.columns))
