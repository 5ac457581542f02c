"""The row log `rows.jsonl`: append-only, one line for each row, on disk before any reporter sees the row.

Every line carries a checksum, so a truncated or edited line is detected. Lines of events, such as the stop of a run
whose gates are decided, stand between the rows; readers of rows skip them.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, get_args

from evalrunner.domain import EMPTY, Cell, Completion, Failure, FailureKind, JudgeCall, Row, Sample, UnscoredCause
from evalrunner.errors import InvalidRunError, RunError
from evalrunner.redact import redact
from evalrunner.runs.folder import ROWS_FILE
from evalrunner.spelling import exact_json, respell, spellings
from evalrunner.storage import KeyTable, dump_json, load_json, open_file

SYNC_INTERVAL_S = 1.0  # a write survives a crash of the process without fsync; this is for a crash of the machine
MAX_LINE_BYTES = 2**28  # of a row, which may have a record and an answer of 16 MiB, also as messages and for judges
BLOCK_BYTES = 1 << 16  # read at a time in search of the last newline
DECODE_ERRORS = (ValueError, KeyError, AttributeError, TypeError)  # raised for a line that is not a record

VERSION = 2
"""In version 1 the cause of a cell without a score was a prefix of its reason: `judge: unreadable verdict`."""
READABLE_VERSIONS = (1, VERSION)
SPELLED = ("input", "metadata", "checks")  # the fields whose numbers are as written in the dataset
_MARK = b',"sum":"'
_EVENT = b'{"v":%d,"event":' % VERSION
_CAUSES = frozenset(get_args(UnscoredCause) + get_args(FailureKind))
_TAIL = len(_MARK) + 8 + 2  # eight hex digits, a quote and a brace
_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_HEAD = re.compile(rb'\{"v":[12],"id":%b,"target":%b,"epoch":(\d+),"attempt":(\d+),' % (_TEXT, _TEXT))
_FAILURE, _ERROR = b'"failure":{', b'"state":"error"'  # cannot occur in a text, where quotes are escaped

SUCCEEDED, FAILED, SUPERSEDED = 0, 1, 2  # record codes; from FIRST_ERROR_SET on, an index of a set of failed cells
FIRST_ERROR_SET = 3


class RowLog:
    """Appends rows to `rows.jsonl` of a run folder, one write for each line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ROWS_FILE
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._synced = time.monotonic()

    def write(self, row: Row) -> None:
        """Append one row. Raises RunError if the disk refuses."""
        self._append(encode_row(row))

    def write_event(self, name: str, **facts: Any) -> None:
        """Append the line of an event with what is known of it. Raises RunError if the disk refuses."""
        self._append(_line({"v": VERSION, "event": name, **facts}))

    def _append(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a full disk or a signal can cut a write short
                written += os.write(self._file, line[written:])
            if time.monotonic() - self._synced > SYNC_INTERVAL_S:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as refused:
            raise RunError(f"cannot write {str(self.path)!r}: {refused.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.fsync(self._file)
        os.close(self._file)


def remove_truncated_line(folder: Path) -> int:
    """Remove a last line that was truncated while it was written; returns its bytes, 0 if there was none.

    A line that lacks only its newline gets it. The caller holds the lock of the run. Raises RunError.
    """
    path = folder / ROWS_FILE
    try:
        open_file(path).close()  # refuses a device, whose last line has no end
        with path.open("r+b") as file:
            start = _last_line(file)
            size = file.seek(0, os.SEEK_END) - start
            if not size:
                return 0
            file.seek(start)
            if complete := size < MAX_LINE_BYTES and _is_complete(file.read()):
                file.write(b"\n")
            else:
                file.truncate(start)
            file.flush()
            os.fsync(file.fileno())
            return 0 if complete else size
    except FileNotFoundError:
        return 0
    except OSError as refused:
        raise RunError(f"cannot repair {str(path)!r}: {refused.strerror}") from None


def scan_keys(folder: Path) -> FinishedRows:
    """The last record of every key of a run. Each line is read once; no row is built.

    A truncated last line is skipped. Raises InvalidRunError for a file that cannot be read, and for a broken line in the
    middle: something else changed the file.
    """
    path, finished = folder / ROWS_FILE, FinishedRows()
    try:
        with open_file(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                try:
                    if len(line) == MAX_LINE_BYTES:
                        raise InvalidRunError(f"{path}:{number}: has a line of more than {MAX_LINE_BYTES // 2**20} MiB")
                    head = decode_head(line)
                    if head is not None:
                        finished.add(head, finished.size)
                except DECODE_ERRORS as broken:
                    if not line.endswith(b"\n"):  # truncated while it was written
                        break
                    raise InvalidRunError(
                        f"{path}:{number}: {broken}; the row log was edited: "
                        "restore it, or remove the line, and a resumed run repeats its row"
                    ) from None
                finished.size += len(line)
    except FileNotFoundError:
        pass
    except OSError as refused:
        raise InvalidRunError(f"{str(path)!r} cannot be read: {refused.strerror}") from None
    return finished


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows of a run in order of arrival, the last record of each key. A truncated last line is skipped.

    Raises InvalidRunError for a file that cannot be read, and for a broken line in the middle.
    """
    try:
        yield from finished_rows(folder, scan_keys(folder))
    except RunError as broken:
        raise InvalidRunError(str(broken)) from None


def finished_rows(folder: Path, finished: FinishedRows) -> Iterator[Row]:
    """The rows that count, in order of arrival. Lines written after the scan are not read."""
    return _rows_at(folder / ROWS_FILE, finished.offsets())


def row_at(folder: Path, offset: int) -> Row:
    """The row whose line starts at this byte of the log. Raises RunError."""
    (row,) = _rows_at(folder / ROWS_FILE, [offset])
    return row


def _rows_at(path: Path, offsets: Iterable[int]) -> Iterator[Row]:
    try:
        with open_file(path) as file:
            for offset in offsets:
                file.seek(offset)
                try:
                    yield decode_row(file.readline())
                except DECODE_ERRORS as broken:
                    raise RunError(f"{path}: line at byte {offset}: {broken}; the row log was edited") from None
    except FileNotFoundError:
        return
    except OSError as refused:
        raise RunError(f"{str(path)!r} cannot be read: {refused.strerror}") from None


def _last_line(file: BinaryIO) -> int:
    """The position after the last newline."""
    place = file.seek(0, os.SEEK_END)
    while place > 0:
        start = max(0, place - BLOCK_BYTES)
        file.seek(start)
        newline = file.read(place - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        place = start
    return 0


def _is_complete(line: bytes) -> bool:
    try:
        decode_head(line)
    except DECODE_ERRORS:
        return False
    return True


class BrokenRecord(ValueError):
    """A line of a row log that is truncated, edited or of another version."""


def encode_row(row: Row) -> bytes:
    """One line of the row log with its newline, keys redacted."""
    return _line(row_to_record(row))


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        body = redact(dump_json(record))[:-1].encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can express and UTF-8 cannot
        body = redact(exact_json(record, separators=(",", ":"), default=str))[:-1].encode()
    return b'%b%b%08x"}\n' % (body, _MARK, zlib.crc32(body))


def decode_row(line: bytes) -> Row:
    """The row of one line. Raises BrokenRecord."""
    return row_from_record(_record(_body(line)))


def is_event(line: bytes) -> bool:
    """Whether a line is that of an event, which is no row."""
    return line.startswith(_EVENT)


def decode_head(line: bytes) -> RowHead | None:
    """Key and state of the row of one line, None for an event. Raises BrokenRecord.

    A row without errors is not decoded further.
    """
    body = _body(line)
    match = _HEAD.match(body)
    if match is None and is_event(body):
        return None
    if match is None or _FAILURE in body or _ERROR in body:
        return _head_from_record(_record(body))
    id, target, epoch, attempt = match.groups()
    return RowHead(_unescaped(id), _unescaped(target), int(epoch), int(attempt))


def _body(line: bytes) -> bytes:
    """The part of the line that the checksum covers, after checking it."""
    line = line.rstrip(b"\n")
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if tail[: len(_MARK)] != _MARK or tail[len(_MARK) : -2] != b"%08x" % zlib.crc32(body):
        raise BrokenRecord("wrong checksum")
    return body


def _record(body: bytes) -> dict[str, Any]:
    record: dict[str, Any] = load_json(body + b"}")
    if record.get("v") not in READABLE_VERSIONS:
        raise BrokenRecord(f"version {record.get('v')!r}; this evalrun reads versions up to {VERSION}")
    return record


def _head_from_record(record: Mapping[str, Any]) -> RowHead:
    failed = "failure" in record
    errors = frozenset(name for name, cell in record["cells"].items() if cell["state"] == "error")
    id, target = (record[name].encode("utf-8", errors="surrogatepass") for name in ("id", "target"))
    return RowHead(id, target, record["epoch"], record["attempt"], failed, frozenset() if failed else errors)


def _unescaped(text: bytes) -> bytes:
    """The text of the inside of a JSON string."""
    if b"\\" not in text:
        return text
    return str(json.loads(b'"%b"' % text)).encode("utf-8", errors="surrogatepass")


def row_to_record(row: Row) -> dict[str, Any]:
    """The record of a row; None and empty fields of cells are omitted."""
    sample, answer = row.sample, row.answer
    record: dict[str, Any] = {
        "v": VERSION,
        "id": sample.id,
        "target": row.target,
        "epoch": row.epoch,
        "attempt": row.attempt,
        "index": sample.index,
        "input": sample.input,
        "expected": sample.expected,
        "metadata": sample.metadata,
    }
    if sample.checks is not None:
        record["checks"] = sample.checks
    if answer.messages is not None:
        record["messages"] = answer.messages
    if isinstance(answer, Failure):
        record["failure"] = {"kind": answer.kind, "message": answer.message}
        if answer.status is not None:
            record["failure"]["status"] = answer.status
        if answer.of_user:
            record["failure"]["of_user"] = True
    else:
        record["completion"] = _completion_to_record(answer)
    record["cells"] = {name: _cell_to_record(cell) for name, cell in row.cells.items()}
    texts = {name: inner for name in SPELLED if (inner := spellings(record.get(name))) is not None}
    if texts:
        record["spelling"] = texts  # for readers to whom 1.10 is 1.1
    return record


def _completion_to_record(answer: Completion) -> dict[str, Any]:
    record: dict[str, Any] = {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "latency_s": answer.latency_s,
        "ttft_s": answer.ttft_s,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cost_usd": answer.cost_usd,
        "served_model": answer.served_model,
        "cached": answer.cached,
    }
    if answer.tool_calls:
        record["tool_calls"] = answer.tool_calls
    if answer.reasoning is not None:
        record["reasoning"] = answer.reasoning
        record["reasoning_length"] = len(answer.reasoning)  # characters, for readers that do not load the text
    if answer.reasoning_tokens is not None:
        record["reasoning_tokens"] = answer.reasoning_tokens
    if answer.cached_tokens is not None:
        record["cached_input_tokens"] = answer.cached_tokens
    if answer.unknown_finish_reason is not None:
        record["unknown_finish_reason"] = answer.unknown_finish_reason
    if answer.filter_message is not None:
        record["filter_message"] = answer.filter_message
    if answer.extracted is not None:
        record["extracted"] = answer.extracted
    if answer.extract_problem is not None:
        record["extract_problem"] = answer.extract_problem
    if answer.extract_failed:
        record["extract_failed"] = True
    if answer.turns:
        record["turns"] = answer.turns
    if answer.user_calls:
        record["user_calls"] = [_call_to_record(call) for call in answer.user_calls]
    return record


def _cell_to_record(cell: Cell) -> dict[str, Any]:
    record: dict[str, Any] = {"state": cell.state, "value": cell.value}
    if cell.cause is not None:
        record["cause"] = cell.cause
    if cell.reason is not None:
        record["reason"] = cell.reason
    if cell.detail:
        record["detail"] = cell.detail
    if cell.calls:
        record["calls"] = [_call_to_record(call) for call in cell.calls]
    return record


def _call_to_record(call: JudgeCall) -> dict[str, Any]:
    record: dict[str, Any] = {
        "model": call.model,
        "latency_s": call.latency_s,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cost_usd": call.cost_usd,
    }
    if call.cached:
        record["cached"] = True
    return record


def row_from_record(record: Mapping[str, Any]) -> Row:
    """The row of a record of the row log."""
    if "spelling" in record:
        record = respell(record, {name: texts for name, texts in record["spelling"].items() if name in SPELLED})
    sample = Sample(
        id=record["id"],
        input=record["input"],
        expected=tuple(record["expected"]),
        metadata=record["metadata"] or EMPTY,
        index=record["index"],
        checks=record.get("checks"),
    )
    messages = tuple(record["messages"]) if "messages" in record else None
    answer: Completion | Failure
    if "failure" in record:
        failure = record["failure"]
        answer = Failure(
            failure["kind"], failure["message"], failure.get("status"), messages=messages,
            of_user=failure.get("of_user", False),
        )  # fmt: skip
    else:
        completion = dict(record["completion"])
        completion["tool_calls"] = tuple(completion.get("tool_calls", ()))
        completion["turns"] = tuple(completion.get("turns", ()))
        completion["user_calls"] = tuple(JudgeCall(**call) for call in completion.get("user_calls", ()))
        completion.pop("reasoning_length", None)
        completion["cached_tokens"] = completion.pop("cached_input_tokens", None)
        if record["v"] == 1:
            completion["finish_reason"] = completion.pop("ended")
        answer = Completion(**completion, messages=messages)
    read_cell = _cell_from_record if record["v"] > 1 else _cell_from_record_1
    cells = {name: read_cell(cell) for name, cell in record["cells"].items()}
    return Row(sample, record["target"], record["epoch"], answer, cells, record["attempt"])


def _cell_from_record(record: Mapping[str, Any]) -> Cell:
    if len(record) == 2:  # nearly always: state and value
        return Cell(record["state"], record["value"])
    calls = tuple(JudgeCall(**call) for call in record.get("calls", ()))
    return Cell(
        record["state"], record["value"], record.get("reason"), record.get("detail"), calls, record.get("cause")
    )


def _cell_from_record_1(record: Mapping[str, Any]) -> Cell:
    """A cell of version 1, whose cause is split from its reason."""
    cell = _cell_from_record(record)
    cause, colon, reason = (cell.reason or "").partition(": ")
    if cell.state == "skipped" or cause not in _CAUSES:
        return cell
    typed: Any = cause
    if cause == "judge" and reason.startswith("self-check "):
        typed, reason = "judge_check", f"{reason.removeprefix('self-check ')} known answers"
    return replace(cell, cause=typed, reason=reason if colon else None)


class RowHead(NamedTuple):
    """Key and state of a line of the row log, before its row is built. `errors` are the cells in error."""

    id: bytes
    target: bytes
    epoch: int
    attempt: int
    failed: bool = False
    errors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """The last record of one key: where its line starts, and what a retry would run again."""

    offset: int
    attempt: int
    failed: bool
    errors: frozenset[str]


class FinishedRows:
    """The last record of every key, in a few dozen bytes each. A key is 64 bits of a hash salted for each process.

    Two keys of one run share them by chance in 1 of 37 million runs of a million rows, and the salt makes it impossible
    to provoke. `size` is where the last whole line ends, in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._salt = token_bytes(16)
        self._places = KeyTable(numbered=True)  # of the last record of each key
        self._offsets, self._attempts, self._codes = array("Q"), array("I"), array("I")
        self._names: list[frozenset[str]] = []
        self._code_of: dict[frozenset[str], int] = {}

    def __len__(self) -> int:
        """How many keys there are, failed ones included."""
        return len(self._codes) - self._codes.count(SUPERSEDED)

    @property
    def failed(self) -> int:
        """How many calls failed."""
        return self._codes.count(FAILED)

    @property
    def in_error(self) -> int:
        """How many rows have an answer and a cell in error."""
        return len(self) - self._codes.count(SUCCEEDED) - self._codes.count(FAILED)

    def add(self, head: RowHead, offset: int) -> None:
        """Add the record of the line at `offset`; it supersedes an earlier one of its key."""
        code = FAILED if head.failed else SUCCEEDED if not head.errors else self._code(head.errors)
        key = self._hash(head.id, head.target, head.epoch)
        superseded = self._places.put(key, len(self._offsets))
        if superseded is not None:
            self._codes[superseded] = SUPERSEDED
        self._offsets.append(offset)
        self._attempts.append(min(head.attempt, 0xFFFFFFFF))
        self._codes.append(code)

    def find(self, id: str, target: str, epoch: int) -> FinishedRow | None:
        """The record of a key, or None if there is none."""
        place = self._place(id, target, epoch)
        if place is None:
            return None
        code = self._codes[place]
        errors = self._names[code - FIRST_ERROR_SET] if code >= FIRST_ERROR_SET else frozenset[str]()
        return FinishedRow(self._offsets[place], self._attempts[place], code == FAILED, errors)

    def drop(self, id: str, target: str, epoch: int) -> None:
        """Drop the record of a key, if there is one: the row was run again."""
        place = self._place(id, target, epoch)
        if place is not None:
            self._codes[place] = SUPERSEDED

    def offsets(self) -> Iterator[int]:
        """The positions of the records that count, in file order."""
        return (offset for offset, code in zip(self._offsets, self._codes, strict=True) if code != SUPERSEDED)

    def _place(self, id: str, target: str, epoch: int) -> int | None:
        key = self._hash(_as_written(id), _as_written(target), epoch)
        place = self._places.get(key)
        return None if place is None or self._codes[place] == SUPERSEDED else place

    def _hash(self, id: bytes, target: bytes, epoch: int) -> int:
        key = b"%d %d %b%b" % (epoch, len(id), id, target)
        return int.from_bytes(blake2b(key, digest_size=8, key=self._salt).digest(), "little")

    def _code(self, names: frozenset[str]) -> int:
        if names not in self._code_of:
            self._code_of[names] = FIRST_ERROR_SET + len(self._names)
            self._names.append(names)
        return self._code_of[names]


def _as_written(name: str) -> bytes:
    """A name as the row log spells it, keys redacted."""
    return redact(name).encode("utf-8", errors="surrogatepass")
