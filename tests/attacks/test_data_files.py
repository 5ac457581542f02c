"""Bad data files through the command line: a sentence with a place and code 2, or the rows that are there.

A line of `data_files.jsonl` has the name and the `content` of a file: a text whose letters are bytes, or pieces like those of
`replies.jsonl`. `dataset` is the path in the suite where it is not that file. `expect` has the exit `code`, and what is
`said`, or the number of `rows` that are scored.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.counts import Attacks
from tests.cases.suites import Ended, command

LINES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "data_files.jsonl").read_text().splitlines()
]
QUICK = 10  # every tenth line is in the fast tests
MAX_LINES = 25  # of an error, however many faults the file has


def as_bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode("latin-1")
    if "gzip" in piece:
        packed = gzip.compress(as_bytes(piece["gzip"]), 1)
        return packed[: piece.get("cut", len(packed))]
    return piece["repeat"].encode("latin-1") * int(piece["times"])


def faults(expect: dict[str, Any], done: Ended) -> list[str]:
    """What is wrong with the end of a command."""
    result = [] if done.code == expect["code"] else [f"exit code {done.code} where {expect['code']} is right: {done}"]
    if "said" in expect and expect["said"] not in done.err:
        result.append(f"{expect['said']!r} is not said: {done.err[-300:]!r}")
    logs = list(Path("runs").glob("*/*/rows.jsonl"))
    rows = logs[0].read_bytes().count(b"\n") if logs else 0
    if rows != expect.get("rows", 0):
        result.append(f"{rows} rows where {expect.get('rows', 0)} are right")
    if len(done.err.splitlines()) > MAX_LINES:
        result.append(f"{len(done.err.splitlines())} lines: {done.err[:300]!r}")
    return result


def try_all(lines: list[dict[str, Any]], attacks: Attacks) -> None:
    for place, line in enumerate(lines):
        folder = Path(str(place))
        folder.mkdir()
        content = line["content"] if isinstance(line["content"], list) else [line["content"]]
        (folder / line["file"]).write_bytes(b"".join(map(as_bytes, content)))
        suite = {
            "name": "s", "dataset": {"path": line.get("dataset", line["file"])},
            "target": {"type": "recorded", "column": "output"}, "scorers": ["contains"],
        }  # fmt: skip
        (folder / "s.yaml").write_text(json.dumps(suite))
        with contextlib.chdir(folder):
            try:
                found = faults(line["expect"], command("s.yaml", "--json"))
            except Exception as crash:
                found = [f"it ends in {crash!r}"]
        attacks.add(line["name"], found)
        (folder / line["file"]).unlink()
    attacks.check()


def test_a_bad_data_file_is_a_sentence_or_its_rows(attacks: Attacks) -> None:
    try_all(LINES[::QUICK], attacks)


@pytest.mark.slow
def test_every_bad_data_file_is_a_sentence_or_its_rows(attacks: Attacks) -> None:
    try_all([line for place, line in enumerate(LINES) if place % QUICK], attacks)
