"""Rows to the records of the row log and back. Every line carries a checksum, so a torn or edited one is seen."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from evalrunner.domain import EMPTY, Cell, Completion, Failure, FailureKind, JudgeCall, Row, Sample, UnscoredCause
from evalrunner.redact import redact
from evalrunner.runs.finished import RowHead
from evalrunner.storage import dump_json, load_json

VERSION = 2
"""Version 1 had the cause of a cell without a score as a prefix of its reason: `judge: unreadable verdict`."""
READABLE = (1, VERSION)
_MARK = b',"sum":"'
_CAUSES = frozenset(get_args(UnscoredCause) + get_args(FailureKind))
_TAIL = len(_MARK) + 8 + 2  # eight hex digits, a quote and a brace
_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_HEAD = re.compile(rb'\{"v":[12],"id":%b,"target":%b,"epoch":(\d+),"attempt":(\d+),' % (_TEXT, _TEXT))
_FAILURE, _ERROR = b'"failure":{', b'"state":"error"'  # never inside a text, where quotes are escaped


class BrokenRecord(ValueError):
    """A line of a row log that is torn, edited or of another version."""


def encode_row(row: Row) -> bytes:
    """One line of the row log with its newline, keys redacted."""
    record = row_to_record(row)
    try:
        body = redact(dump_json(record))[:-1].encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
        body = redact(json.dumps(record, separators=(",", ":"), default=str))[:-1].encode()
    return b'%b%b%08x"}\n' % (body, _MARK, zlib.crc32(body))


def decode_row(line: bytes) -> Row:
    """The row of one line. Raises BrokenRecord."""
    return row_from_record(_record(_body(line)))


def decode_head(line: bytes) -> RowHead:
    """Key and state of the row of one line, read without the rest where nothing went wrong in it. Raises BrokenRecord."""
    body = _body(line)
    found = _HEAD.match(body)
    if found is None or _FAILURE in body or _ERROR in body:
        return _head_from_record(_record(body))
    id, target, epoch, attempt = found.groups()
    return RowHead(_unescaped(id), _unescaped(target), int(epoch), int(attempt))


def _body(line: bytes) -> bytes:
    """What the checksum is of, once it fits."""
    line = line.rstrip(b"\n")
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if tail[: len(_MARK)] != _MARK or tail[len(_MARK) : -2] != b"%08x" % zlib.crc32(body):
        raise BrokenRecord("the checksum does not fit")
    return body


def _record(body: bytes) -> dict[str, Any]:
    record: dict[str, Any] = load_json(body + b"}")
    if record.get("v") not in READABLE:
        raise BrokenRecord(f"version {record.get('v')!r}; this evalrun reads versions up to {VERSION}")
    return record


def _head_from_record(record: Mapping[str, Any]) -> RowHead:
    failed = "failure" in record
    errors = frozenset(name for name, cell in record["cells"].items() if cell["state"] == "error")
    id, target = (record[name].encode("utf-8", errors="surrogatepass") for name in ("id", "target"))
    return RowHead(id, target, record["epoch"], record["attempt"], failed, frozenset() if failed else errors)


def _unescaped(text: bytes) -> bytes:
    """The text between the quotes of a JSON string."""
    if b"\\" not in text:
        return text
    return str(json.loads(b'"%b"' % text)).encode("utf-8", errors="surrogatepass")


def row_to_record(row: Row) -> dict[str, Any]:
    """The row as the row log has it; what is None or empty in cells is left out."""
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
    if answer.messages is not None:
        record["messages"] = answer.messages
    if isinstance(answer, Failure):
        record["failure"] = {"kind": answer.kind, "message": answer.message}
        if answer.status is not None:
            record["failure"]["status"] = answer.status
    else:
        record["completion"] = _completion_to_record(answer)
    record["cells"] = {name: _cell_to_record(cell) for name, cell in row.cells.items()}
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
    sample = Sample(
        id=record["id"],
        input=record["input"],
        expected=tuple(record["expected"]),
        metadata=record["metadata"] or EMPTY,
        index=record["index"],
    )
    messages = tuple(record["messages"]) if "messages" in record else None
    answer: Completion | Failure
    if "failure" in record:
        failure = record["failure"]
        answer = Failure(failure["kind"], failure["message"], failure.get("status"), messages=messages)
    else:
        completion = dict(record["completion"])
        completion["tool_calls"] = tuple(completion.get("tool_calls", ()))
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
    """A cell of version 1, its cause taken out of its reason."""
    cell = _cell_from_record(record)
    cause, colon, reason = (cell.reason or "").partition(": ")
    if cell.state == "skipped" or cause not in _CAUSES:
        return cell
    typed: Any = "judge_check" if cause == "judge" and reason.startswith("self-check") else cause
    return replace(cell, cause=typed, reason=reason if colon else None)
