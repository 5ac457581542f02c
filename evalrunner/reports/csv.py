"""Tables of a run's rows: CSV written while rows arrive, Parquet and Excel at the end."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import accumulate, repeat
from pathlib import Path
from typing import IO, Any

from evalrunner.datasets.columns import CHECKS
from evalrunner.datasets.json import parse_list
from evalrunner.datasets.records import TABLE_END, TABLE_START
from evalrunner.domain import Completion, Row
from evalrunner.formatting import FORMULA, counted, escape_controls, guard_formula, plain_text
from evalrunner.redact import redact
from evalrunner.reports.view import RunView
from evalrunner.runs.folder import TABLE_FILE
from evalrunner.runs.row_log import read_rows
from evalrunner.spelling import Spelled
from evalrunner.stats.summary import Measure, output_rate
from evalrunner.storage import replacing, sorted_places

XLSX_CELL = 32_767  # UTF-16 units that a cell of Excel holds
XLSX_ROWS = 1_048_576  # rows of a sheet, with the header
XLSX_DIGITS = 15  # that Excel keeps of a number
# XML 1.0 §2.2 forbids them, and its parsers read \r as \n
XLSX_ILLEGAL = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
XLSX_ESCAPED = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")  # a text that Excel would take for an escape
CONVERSATION_COLUMN = "conversation"  # only where targets were asked conversations
STREAMED_COLUMNS = ("ttft", "output_rate")  # only where answers are streamed
EXTRACTED_COLUMN = "extracted"  # only where the `extract` of a target takes a part of its answers
INT64 = 2**63
GUARDED = FORMULA | {"'"}  # what a text begins with that may need a guard


def conversation_of(row: Row) -> str:
    """The messages of a conversation with the last answer as JSON; of a failed one those up to the turn that failed."""
    messages = [dict(message) for message in row.answer.messages or ()]
    if isinstance(row.answer, Completion):
        messages.append({"role": "assistant", "content": row.answer.text})
    return plain_text(messages)


class TableShape:
    """The columns of a run's table. A sample column with the name of another column, or without one, gets the prefix `sample.`."""

    def __init__(
        self,
        sample_columns: Sequence[str],
        measures: Sequence[Measure],
        *,
        streaming: bool = False,
        extracting: bool = False,
        conversing: bool = False,
    ) -> None:
        self.measures = tuple(measures)
        self.streaming = streaming
        outputs = ("output", EXTRACTED_COLUMN) if extracting else ("output",)
        outputs = (*outputs, CONVERSATION_COLUMN) if conversing else outputs
        self.cells = [
            (measure.name, *(f"{measure.versioned_name}/{part}" for part in ("score", "state", "justification")))
            for measure in self.measures
        ]
        ending = (*STREAMED_COLUMNS, *TABLE_END) if streaming else TABLE_END
        scores = [column for _, *columns in self.cells for column in columns]
        taken = {*TABLE_START, "expected", *outputs, *scores, *ending}
        plain = [name for name in sample_columns if name not in ("id", "input", "expected")]
        self.samples = {
            name: _free_name(name, taken, plain) if name in taken or not name.strip() else name for name in plain
        }
        self.numbers = {*(score for _, score, *_ in self.cells), *STREAMED_COLUMNS, "latency", "cost_usd"} - set(
            self.samples.values()
        )
        self.columns = (*TABLE_START, *self.samples.values(), "expected", *outputs, *scores, *ending)
        self.extracting = extracting
        self.conversing = conversing

    def record(self, row: Row) -> dict[str, Any]:
        """The row by column: numbers as numbers, None for missing values."""
        sample, answer = row.sample, row.answer
        record: dict[str, Any] = {
            "id": sample.id, "target": row.target, "epoch": row.epoch, "input": sample.input if isinstance(sample.input, str) else plain_text(sample.input),
        }  # fmt: skip
        for name, column in self.samples.items():
            own = sample.checks if name == CHECKS else None
            record[column] = _plain(sample.metadata.get(name, own))
        record["expected"] = expected_text(sample.expected)
        record["output"] = answer.text if isinstance(answer, Completion) else None
        if self.extracting:
            record[EXTRACTED_COLUMN] = answer.extracted if isinstance(answer, Completion) else None
        if self.conversing:
            record[CONVERSATION_COLUMN] = conversation_of(row)
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


def _free_name(name: str, *taken: Collection[str]) -> str:
    """The name with `sample.` before it, as often as it takes to differ from those taken."""
    while any(name in names for names in taken):
        name = f"sample.{name}"
    return name


def expected_text(expected: Sequence[str]) -> str | None:
    """One expected answer as it is, several, or one that could be read as such, as a JSON list, None for none."""
    if not expected:
        return None
    if len(expected) == 1 and parse_list(expected[0]) is None:
        return expected[0]
    return json.dumps(list(expected), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as a cell: lists and mappings as JSON."""
    return value if value is None or isinstance(value, str | int | float) else plain_text(value)


class SpooledLines:
    """Encoded lines of rows that arrive in any order, read back by target, sample and epoch.

    The lines are in a temporary file: only a key and the length of each are held in memory.
    """

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.order = {name: place for place, name in enumerate(targets)}
        self.keys = array("Q")  # target, sample and epoch in one number, so that a million of them stay small
        self.lengths = array("I")
        folder.mkdir(parents=True, exist_ok=True)
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix=".rows.")  # noqa: SIM115  closed by its owner

    def add(self, row: Row, line: bytes) -> None:
        """Add the line of one row."""
        self.file.write(line)
        self.keys.append(self.order[row.target] << 52 | row.sample.index << 16 | row.epoch)
        self.lengths.append(len(line))

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """The lines in order, each with the place of its target."""
        offsets = array("q", accumulate(self.lengths, initial=0))
        for place in sorted_places(self.keys):
            self.file.seek(offsets[place])
            yield self.keys[place] >> 52, self.file.read(self.lengths[place])

    def close(self) -> None:
        """Remove the temporary file."""
        self.file.close()


class CsvReporter:
    """Writes `.csv`: a row for every answer that passes `only`, ordered by target, sample and epoch."""

    def __init__(self, path: Path, *, only: Callable[[Row], bool] | None = None) -> None:
        self.path, self.only = path, only

    def on_start(self, run: RunView, /) -> None:
        self.shape = table_shape(run)
        self.lines = SpooledLines(self.path.parent, list(run.targets))

    def on_row(self, row: Row, /) -> None:
        if self.only is None or self.only(row):
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

    def __init__(self, path: Path, *, only: Callable[[Row], bool] | None = None) -> None:
        self.path, self.only = path, only

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        import pyarrow
        import pyarrow.parquet

        shape = table_shape(run)
        records = [shape.record(row) for row in _ordered(run, self.only)]
        columns = {
            _utf8(redact(name)): _typed([record[name] for record in records], number=name in shape.numbers)
            for name in shape.columns
        }
        with replacing(self.path) as part:
            pyarrow.parquet.write_table(pyarrow.table(columns), part)


def _typed(values: Sequence[Any], *, number: bool) -> Any:
    """A column of one type that shows every value as it is: integers, floats, booleans, else text."""
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if number:
        return pyarrow.array(values, pyarrow.float64())
    if kinds == {int} and all(value is None or abs(value) < INT64 for value in values):
        return pyarrow.array(values, pyarrow.int64())
    if kinds == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds == {float}:
        return pyarrow.array(values, pyarrow.float64())
    texts = [None if value is None else _utf8(redact(plain_text(value))) for value in values]
    return pyarrow.array(texts, pyarrow.string())


class XlsxReporter:
    """Writes `.xlsx`: the same table as a sheet of Excel. Needs openpyxl. `notices` says what does not fit into a sheet."""

    requires = ("openpyxl", "xlsx")

    def __init__(self, path: Path, *, only: Callable[[Row], bool] | None = None) -> None:
        self.path, self.only = path, only
        self.notices: tuple[str, ...] = ()

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        import openpyxl

        shape = table_shape(run)
        book = openpyxl.Workbook(write_only=True)
        sheet = RowSheet(book.create_sheet("rows"))
        sheet.append(shape.columns)
        for row in _ordered(run, self.only):
            record = shape.record(row)
            sheet.append(record.values(), numbers=[name in shape.numbers for name in record])
        self.notices = tuple(f"{str(self.path)!r}: {notice}" for notice in sheet.notices())
        with replacing(self.path) as part:
            book.save(part)


class RowSheet:
    """A sheet that is written row by row. Texts are cells of text, never formulas or errors; `cut` counts those too long."""

    def __init__(self, sheet: Any) -> None:
        self.sheet = sheet
        self.rows = self.cut = 0

    def append(self, values: Collection[Any], numbers: Iterable[bool] = repeat(False)) -> None:
        """Add a row, unless the sheet is full. `numbers` says which values are numbers however Excel shows them."""
        self.rows += 1
        if self.rows <= XLSX_ROWS:
            self.sheet.append(
                [value if number else self._cell(value) for value, number in zip(values, numbers, strict=False)]
            )

    def _cell(self, value: Any) -> Any:
        if value is None or isinstance(value, bool) or _is_excel_number(value):
            return value
        from openpyxl.cell import WriteOnlyCell

        text = escape_xml_controls(self._fit(redact(plain_text(value))))
        cell = WriteOnlyCell(self.sheet)
        cell._value = text  # noqa: SLF001  its setter takes "=…" for a formula, "#N/A" for an error, and cuts escapes
        cell.data_type = "s"
        cell.quotePrefix = text[:1] in FORMULA or text[:1] == "'"  # stays text when it is edited in Excel
        return cell

    def _fit(self, text: str) -> str:
        """The text, cut with a mark where it exceeds a cell. Excel counts UTF-16 units."""
        units = text.encode("utf-16-le", errors="surrogatepass")
        if len(units) <= 2 * XLSX_CELL:
            return text
        self.cut += 1
        mark = f" … [cut: {len(text):,} characters]"
        kept = units[: 2 * (XLSX_CELL - len(mark))].decode("utf-16-le", errors="ignore")  # no half of a pair
        return kept + mark

    def notices(self) -> Iterator[str]:
        if self.cut:
            yield (
                f"{counted(self.cut, 'cell')} cut to the {XLSX_CELL:,} characters that Excel allows; "
                f"{TABLE_FILE} has the whole texts"
            )
        if self.rows > XLSX_ROWS:
            yield (
                f"{self.rows - XLSX_ROWS:,} rows left out: a sheet of Excel has {XLSX_ROWS:,}; {TABLE_FILE} has all rows"
            )


def _is_excel_number(value: Any) -> bool:
    """Whether Excel shows a number as it is written: it keeps 15 digits, and 1.0 is 1 there."""
    if isinstance(value, Spelled) or not isinstance(value, int | float):
        return False
    return len(str(value)) <= XLSX_DIGITS and str(value) == f"{Decimal(f'{value:.{XLSX_DIGITS}g}'):f}"


def escape_xml_controls(text: str) -> str:
    r"""Text for a cell of Excel: what XML cannot hold as `_x0001_`, direction and invisible characters as `\u202e`."""
    text = XLSX_ESCAPED.sub("_x005F_", text)
    text = XLSX_ILLEGAL.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return escape_controls(text)


def _ordered(run: RunView, only: Callable[[Row], bool] | None) -> list[Row]:
    """The rows that pass `only`, by target, sample and epoch."""
    return ordered_rows(filter(only, read_rows(run.folder)) if only else read_rows(run.folder), list(run.targets))


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="backslashreplace").decode()


class _Line:
    """A file that returns what is written to it, so that one CSV writer serves every line."""

    def write(self, text: str, /) -> str:
        return text


_WRITER: Any = csv.writer(_Line(), lineterminator="\r\n")  # it quotes what the line terminator has: also a lone \r


def encode_line(values: Iterable[Any]) -> bytes:
    """One line of CSV, keys redacted, formulas disarmed, control characters escaped."""
    line: str = _WRITER.writerow([_csv_cell(value) for value in values])
    return escape_controls(redact(line[:-2])).encode() + b"\n"


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return guard_formula(value) if value[:1] in GUARDED else value
    return plain_text(value) if isinstance(value, bool) else value


def table_shape(run: RunView) -> TableShape:
    """The columns of a run's table."""
    return TableShape(
        run.columns, run.measures, streaming=run.streaming, extracting=run.extracting, conversing=run.conversing
    )


def ordered_rows(rows: Iterable[Row], targets: Sequence[str]) -> list[Row]:
    """Rows by target, sample and epoch."""
    order = {name: place for place, name in enumerate(targets)}
    return sorted(rows, key=lambda row: (order[row.target], row.sample.index, row.epoch))


def table_frame(rows: Iterable[Row], shape: TableShape, targets: Sequence[str]) -> Any:
    """The table as a pandas DataFrame, with texts unchanged: no guard against formulas."""
    import pandas

    records = [shape.record(row) for row in ordered_rows(rows, targets)]
    return pandas.DataFrame.from_records(records, columns=list(shape.columns))
