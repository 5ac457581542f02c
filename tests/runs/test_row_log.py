"""The row log: rows survive a round trip; truncated and edited lines are detected."""

from __future__ import annotations

import datetime
import os
import signal
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from evalrunner.domain import Cell, Completion, Failure, JudgeCall, Row, Sample
from evalrunner.errors import InvalidRunError
from evalrunner.redact import register_secret
from evalrunner.runs.row_log import (
    BLOCK_BYTES,
    FinishedRow,
    FinishedRows,
    RowHead,
    RowLog,
    decode_head,
    encode_row,
    finished_rows,
    is_event,
    read_rows,
    remove_truncated_line,
    row_at,
    scan_keys,
)

FAILED = Failure("timeout", "no answer within 60 s")


def make_row(name: str = "s1", **changes: object) -> Row:
    answer = Completion(
        "Paris 東京 \u202e <script> \x1b[31m",
        "stop",
        latency_s=0.25,
        input_tokens=3,
        output_tokens=1,
        cost_usd=0.001,
        served_model="m-1",
        messages=({"role": "user", "content": "Capital?"},),
    )
    cells = {
        "exact_match": Cell("scored", 1.0),
        "factuality": Cell(
            "scored", 0.6, None, {"explanation": "superset", "choice": "B"}, (JudgeCall("j", 0.1, 5, 2, None),)
        ),
        "other": Cell("unscored", None, "length", cause="no_answer"),
    }
    fields: dict[str, object] = {
        "sample": Sample(name, {"q": "Capital?"}, ("Paris", "paris"), {"topic": "geo", "n": None}, index=4),
        "target": "m",
        "epoch": 2,
        "answer": answer,
        "cells": cells,
    }
    return Row(**{**fields, **changes})  # type: ignore[arg-type]


def write(rows: list[Row]) -> Path:
    with RowLog(Path()) as log:
        for row in rows:
            log.write(row)
    return Path("rows.jsonl")


def test_row_survives_a_round_trip() -> None:
    failed = make_row("s2", answer=Failure("timeout", "no answer within 60 s", status=408), cells={})
    asked = Failure("bad_request", "no", messages=({"role": "user", "content": "Capital?"},))
    called = Completion("", tool_calls=({"name": "search", "arguments": "{}"},), cached=True)
    cached = {"factuality": Cell("scored", 0.6, calls=(JudgeCall("j", 0.0, 5, 2, 0.0, cached=True),))}
    colon = {"other": Cell("unscored", None, "timeout: is part of the reason", cause="judge")}
    thought = Completion(
        "Paris", reasoning="Is it Paris?", reasoning_tokens=4, cached_tokens=9, unknown_finish_reason="odd"
    )
    rows = [make_row(), failed, make_row("s3", answer=asked, cells=cached), make_row("s4", answer=called, cells=colon)]
    rows.append(make_row("s5", answer=thought))
    rows.append(make_row("s6", answer=Completion("", "filtered", filter_message="Content Exists Risk")))
    write(rows)
    assert list(read_rows(Path())) == rows


def test_lone_surrogate_survives_a_round_trip() -> None:
    rows = [make_row(answer=Completion("\ud800 broken"), cells={})]
    write(rows)
    assert list(read_rows(Path())) == rows


def test_lone_surrogates_in_ids_and_targets_are_found() -> None:
    fine, failed = make_row("\ud800"), make_row("\ud801", answer=FAILED, cells={}, target="\udfff")
    write([fine, failed])
    finished = scan_keys(Path())
    results = [finished.find("\ud800", "m", 2), finished.find("\ud801", "\udfff", 2)]
    assert [result and result.failed for result in results] == [False, True]


def test_lone_surrogate_beside_a_date_is_written_compactly() -> None:
    sample = Sample("s1", "\ud800", (), {"day": datetime.date(2026, 1, 2)})
    line = encode_row(make_row(sample=sample, cells={}))
    assert line.startswith(b'{"v":2,"id":"s1","target":"m",')
    assert b'"metadata":{"day":"2026-01-02"}' in line


def test_row_log_can_be_written_by_its_owner_only() -> None:
    old = os.umask(0)
    try:
        assert write([make_row()]).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(old)


def test_a_write_cut_short_by_a_signal_is_continued() -> None:
    os.mkfifo("rows.jsonl")
    read: list[bytes] = []

    def slowly() -> None:
        with Path("rows.jsonl").open("rb", buffering=0) as pipe:
            time.sleep(0.1)  # the pipe is full, and a signal interrupts the write
            while block := pipe.read(1 << 16):
                read.append(block)
                time.sleep(0.01)

    reader = threading.Thread(target=slowly)
    reader.start()
    row = make_row(answer=Completion("x" * 500_000))
    log = RowLog(Path())
    old = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.005)
    try:
        log.write(row)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.close(log._file)  # a pipe cannot be synced
        reader.join()
    assert b"".join(read) == encode_row(row)


def test_last_record_of_a_key_counts() -> None:
    again = make_row(answer=Completion("second try"), attempt=2)
    write([make_row(), make_row("s2"), again])
    assert list(read_rows(Path())) == [make_row("s2"), again]


def test_truncated_last_line_is_skipped() -> None:
    path = write([make_row(), make_row("s2")])
    path.write_bytes(path.read_bytes()[:-7])
    assert list(read_rows(Path())) == [make_row()]


def test_edited_line_is_detected() -> None:
    path = write([make_row(), make_row("s2")])
    path.write_bytes(path.read_bytes().replace(b"Paris", b"Rome!", 1))
    with pytest.raises(InvalidRunError, match=r"rows.jsonl:1: wrong checksum"):
        list(read_rows(Path()))


def test_api_keys_are_redacted_in_the_row_log() -> None:
    register_secret('sk-log"secret\\1')
    register_secret("sk-plain-secret")
    path = write([make_row(answer=Completion('my key is sk-log"secret\\1, or sk-plain-secret'), cells={})])
    assert b"secret" not in path.read_bytes()
    (row,) = read_rows(Path())
    assert isinstance(row.answer, Completion)
    assert row.answer.text == "my key is [redacted], or [redacted]"


def test_missing_row_log_has_no_rows() -> None:
    assert list(read_rows(Path("nowhere"))) == []


IN_ERROR = {
    "exact_match": Cell("scored", 1.0),
    "tone": Cell("error", None, "tone() raised", cause="function"),
    "f": Cell("error"),
}


def test_keys_and_states_are_read_without_decoding_rows() -> None:
    rows = [
        make_row(),
        make_row("s2", answer=FAILED, cells={"exact_match": Cell("error", None, "timeout")}, attempt=3),
        make_row("s3", cells=IN_ERROR),
        make_row("s5", cells={"tone": Cell("error")}),
        make_row('quo"te \\ 東\n', target="m/ü"),
        make_row("s4", sample=Sample("s4", "?", (), {"failure": {"kind": 1}, "cells": {"a": {"state": "error"}}})),
    ]
    path = write(rows)
    starts = [0]
    for line in path.read_bytes().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    finished = scan_keys(Path())
    assert [finished.find(row.sample.id, row.target, 2) if row.epoch == 2 else None for row in rows] == [
        FinishedRow(starts[0], 1, False, frozenset()),
        FinishedRow(starts[1], 3, True, frozenset()),
        FinishedRow(starts[2], 1, False, frozenset({"tone", "f"})),
        FinishedRow(starts[3], 1, False, frozenset({"tone"})),
        FinishedRow(starts[4], 1, False, frozenset()),
        FinishedRow(starts[5], 1, False, frozenset()),
    ]
    assert (len(finished), finished.failed, finished.in_error, finished.size) == (6, 1, 2, starts[-1])
    assert [finished.find("s1", "m", 1), finished.find("s1", "other", 2), finished.find("s9", "m", 2)] == [None] * 3
    assert row_at(Path(), starts[2]) == rows[2]


def test_a_failed_row_has_no_cells_in_error() -> None:
    row = make_row(answer=FAILED, cells={"exact_match": Cell("error", None, "timeout")})
    assert decode_head(encode_row(row)) == RowHead(b"s1", b"m", 2, 1, failed=True)


def test_keys_are_hashed_with_a_salt_of_each_scan() -> None:
    assert FinishedRows()._hash(b"s1", b"m", 1) != FinishedRows()._hash(b"s1", b"m", 1)


def test_attempts_beyond_32_bits_are_capped() -> None:
    finished = FinishedRows()
    finished.add(RowHead(b"s1", b"m", 1, 2**32), 0)
    assert finished.find("s1", "m", 1) == FinishedRow(0, 2**32 - 1, failed=False, errors=frozenset())


def test_last_record_of_a_key_determines_its_state() -> None:
    write([make_row("s1", answer=FAILED, cells={}), make_row("s2"), make_row("s1", attempt=2)])
    finished = scan_keys(Path())
    result = finished.find("s1", "m", 2)
    assert result is not None
    assert (len(finished), finished.failed, result.attempt, result.failed) == (2, 0, 2, False)


def test_retried_rows_are_dropped_from_the_finished_rows() -> None:
    rows = [make_row("s1", answer=FAILED, cells={}), make_row("s2"), make_row("s3")]
    write(rows)
    finished = scan_keys(Path())
    assert finished.failed == 1
    again = make_row("s1", attempt=2)
    write([again])
    finished.drop("s1", "m", 2)
    finished.drop("never there", "m", 2)
    assert finished.find("s1", "m", 2) is None
    assert (len(finished), finished.failed) == (2, 0)
    assert list(finished_rows(Path(), finished)) == rows[1:]
    assert list(read_rows(Path())) == [*rows[1:], again]


def test_truncated_last_line_is_removed_and_its_bytes_returned() -> None:
    path = write([make_row(), make_row("s2")])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for left in (first + 1, first + 40, len(whole) - 3):
        path.write_bytes(whole[:left])
        assert remove_truncated_line(Path()) == left - first
        assert path.read_bytes() == whole[:first]
        assert remove_truncated_line(Path()) == 0
    write([make_row("s2")])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("length", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_truncated_line_of_about_one_block_is_removed(length: int) -> None:
    path = write([make_row()])
    whole = path.read_bytes()
    path.write_bytes(whole + encode_row(make_row("s2", answer=Completion("x" * BLOCK_BYTES)))[:length])
    assert remove_truncated_line(Path()) == length
    assert path.read_bytes() == whole


def test_row_log_of_one_truncated_line_becomes_empty() -> None:
    path = write([make_row(answer=Completion("x" * 200_000))])
    path.write_bytes(path.read_bytes()[:150_000])
    assert len(scan_keys(Path())) == 0
    assert remove_truncated_line(Path()) == 150_000
    assert path.read_bytes() == b""
    assert remove_truncated_line(Path()) == 0
    assert remove_truncated_line(Path("nowhere")) == 0


def test_last_line_without_newline_is_kept() -> None:
    path = write([make_row(), make_row("s2")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert list(read_rows(Path())) == [make_row(), make_row("s2")]
    assert remove_truncated_line(Path()) == 0
    assert path.read_bytes() == whole


def test_broken_last_line_with_newline_is_an_error() -> None:
    path = write([make_row(), make_row("s2")])
    path.write_bytes(path.read_bytes()[:-7] + b"\n")
    assert remove_truncated_line(Path()) == 0
    with pytest.raises(InvalidRunError, match=r"rows.jsonl:2: wrong checksum; the row log was edited"):
        scan_keys(Path())


def test_unknown_row_log_version_is_rejected() -> None:
    line = encode_row(make_row())[:-19].replace(b'{"v":2,', b'{"v":3,', 1)
    Path("rows.jsonl").write_bytes(b'%b,"sum":"%08x"}\n' % (line, zlib.crc32(line)))
    with pytest.raises(InvalidRunError, match="version 3; this evalrun reads versions up to 2"):
        list(read_rows(Path()))


def test_version_1_rows_are_read_with_their_causes() -> None:
    cells = {
        "fine": (Cell("scored", 1.0), Cell("scored", 1.0)),
        "zeroed": (Cell("scored", 0.0, "no_answer: refused"), Cell("scored", 0.0, "refused", cause="no_answer")),
        "read": (Cell("unscored", None, "judge: a: b"), Cell("unscored", None, "a: b", cause="judge")),
        "tried": (
            Cell("unscored", None, "judge: self-check 6 of 12"),
            Cell("unscored", None, "6 of 12 known answers", cause="judge_check"),
        ),
        "down": (Cell("error", None, "server: 500: no"), Cell("error", None, "500: no", cause="server")),
        "bare": (Cell("unscored", None, "judge"), Cell("unscored", None, None, cause="judge")),
        "unknown": (Cell("unscored", None, "not reported"), Cell("unscored", None, "not reported")),
        "skipped": (Cell("skipped", None, "judge: none"), Cell("skipped", None, "judge: none")),
    }
    line = encode_row(make_row(cells={name: old for name, (old, _) in cells.items()}))[:-19]
    line = line.replace(b'{"v":2,', b'{"v":1,', 1).replace(b'"finish_reason":', b'"ended":', 1)
    Path("rows.jsonl").write_bytes(b'%b,"sum":"%08x"}\n' % (line, zlib.crc32(line)))
    (row,) = read_rows(Path())
    assert isinstance(row.answer, Completion) and row.answer.finish_reason == "stop"
    assert row.cells == {name: new for name, (_, new) in cells.items()}
    messages = [cell.message for cell in row.cells.values()]
    assert messages[3] == "judge sanity check: 6 of 12 known answers"
    assert [*messages[:3], *messages[4:]] == [old.message for name, (old, _) in cells.items() if name != "tried"]
    assert scan_keys(Path()).find("s1", "m", 2) is not None


def test_sample_id_containing_an_api_key_is_found() -> None:
    register_secret("sk-in-the-id")
    write([make_row("row sk-in-the-id 7")])
    assert scan_keys(Path()).find("row sk-in-the-id 7", "m", 2) is not None


@pytest.mark.slow
def test_index_of_200000_rows_stays_small() -> None:
    line = encode_row(make_row("00000000"))
    body = line[: line.rindex(b',"sum"')]
    with Path("rows.jsonl").open("wb") as file:
        for number in range(200_000):
            own = body.replace(b"00000000", b"%08d" % number, 1)
            file.write(b'%b,"sum":"%08x"}\n' % (own, zlib.crc32(own)))
    tracemalloc.start()
    finished = scan_keys(Path())
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(finished) == 200_000
    assert sum(finished.find(f"{number:08d}", "m", 2) is not None for number in range(0, 400_000, 2)) == 100_000
    assert held < 64 * 200_000
    assert peak < 128 * 200_000


def test_events_are_skipped_by_readers_of_rows() -> None:
    with RowLog(Path()) as log:
        log.write(make_row("s1"))
        log.write_event("decided", rows=1, rows_planned=2)
        log.write(make_row("s2"))
        log.write_event("decided", rows=2, rows_planned=2)
    assert [row.sample.id for row in read_rows(Path())] == ["s1", "s2"]
    finished = scan_keys(Path())
    assert (len(finished), finished.size) == (2, Path("rows.jsonl").stat().st_size)
    assert remove_truncated_line(Path()) == 0
    lines = Path("rows.jsonl").read_bytes().splitlines()
    assert [is_event(line) for line in lines] == [False, True, False, True]


def test_a_truncated_or_edited_event_is_detected() -> None:
    with RowLog(Path()) as log:
        log.write_event("decided", rows=1)
    whole = Path("rows.jsonl").read_bytes()
    Path("rows.jsonl").write_bytes(whole.replace(b'"rows":1', b'"rows":2'))
    with pytest.raises(InvalidRunError, match="wrong checksum"):
        scan_keys(Path())
    Path("rows.jsonl").write_bytes(whole[:-5])
    assert remove_truncated_line(Path()) == len(whole) - 5
