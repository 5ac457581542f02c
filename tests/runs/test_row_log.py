"""The row log: what was written comes back, and what was torn or changed is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrun.domain import Cell, Completion, Failure, JudgeCall, Row, Sample
from evalrun.errors import RunError
from evalrun.redact import register_secret
from evalrun.runs.row_log import RowLog, read_rows


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
        "other": Cell("unscored", None, "no_answer: length"),
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


def test_a_row_comes_back_as_it_was() -> None:
    failed = make_row("s2", answer=Failure("timeout", "no answer within 60 s", status=408), cells={})
    rows = [make_row(), failed]
    write(rows)
    assert list(read_rows(Path())) == rows


def test_half_a_surrogate_pair_is_kept() -> None:
    rows = [make_row(answer=Completion("\ud800 broken"), cells={})]
    write(rows)
    assert list(read_rows(Path())) == rows


def test_the_last_record_of_a_key_wins() -> None:
    again = make_row(answer=Completion("second try"), attempt=2)
    write([make_row(), make_row("s2"), again])
    assert list(read_rows(Path())) == [make_row("s2"), again]


def test_a_line_cut_off_at_the_end_is_left_out() -> None:
    path = write([make_row(), make_row("s2")])
    path.write_bytes(path.read_bytes()[:-7])
    assert list(read_rows(Path())) == [make_row()]


def test_a_line_that_was_changed_is_seen() -> None:
    path = write([make_row(), make_row("s2")])
    path.write_bytes(path.read_bytes().replace(b"Paris", b"Rome!", 1))
    with pytest.raises(RunError, match=r"rows.jsonl:1: the checksum does not fit"):
        list(read_rows(Path()))


def test_keys_never_reach_the_log() -> None:
    register_secret('sk-log"secret\\1')
    register_secret("sk-plain-secret")
    path = write([make_row(answer=Completion('my key is sk-log"secret\\1, or sk-plain-secret'), cells={})])
    assert b"secret" not in path.read_bytes()
    (row,) = read_rows(Path())
    assert isinstance(row.answer, Completion)
    assert row.answer.text == "my key is [redacted], or [redacted]"


def test_a_run_without_rows_has_none() -> None:
    assert list(read_rows(Path("nowhere"))) == []
