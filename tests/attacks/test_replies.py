"""Hostile replies of a server, over both transports: each ends its own row as its line says, and no other.

A line of `replies.jsonl` has the reply as it goes over the wire, head included, in `wire`: texts whose letters are bytes,
waits in seconds, `{"repeat", "times"}`, and `{"gzip"}` for a compressed body with its head. Then the connection is kept,
closed, reset or left hanging (`ending`). `expect` is the kind of the `failure`, or how the answer `ended`, with the
beginning of its `text` or message. A list stands for several that are right: one transport tolerates what the other refuses.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure
from evalrunner.runs.row_log import read_rows
from tests.attacks.counts import Attacks
from tests.fakes.server import Action, Answer, ScriptedServer, Wire

LINES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "replies.jsonl").read_text().splitlines()
]
ANSWERED_EVERY = 3  # rows between those that are answered well


def as_bytes(piece: Any) -> bytes | float:
    """A piece of a line as it is sent."""
    if isinstance(piece, str):
        return piece.encode("latin-1")
    if not isinstance(piece, dict):
        return float(piece)
    if "gzip" in piece:
        body = gzip.compress(bytes(as_bytes(piece["gzip"])), 1)
        return b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    return piece["repeat"].encode("latin-1") * int(piece["times"])


def is_large(line: dict[str, Any]) -> bool:
    """Whether a reply has megabytes, unpacked: it takes seconds, in which other rows would time out."""
    sizes = (piece.get("gzip", piece) for piece in line["wire"] if isinstance(piece, dict))
    return sum(size["times"] * len(size["repeat"]) for size in sizes) > 2**23


def faults(line: dict[str, Any], answer: Completion | Failure | None) -> list[str]:
    """What is wrong with the row of a line."""
    if answer is None:
        return ["the row is lost"]
    expected = line["expect"] if isinstance(line["expect"], list) else [line["expect"]]
    got: dict[str, Any] = {"failure": answer.kind} if isinstance(answer, Failure) else {"ended": answer.finish_reason}
    said = answer.message if isinstance(answer, Failure) else answer.text
    for expect in expected:
        if {key: expect.get(key) for key in got} == got and said.startswith(expect.get("text", "")):
            return []
    return [f"{got} ({said[:150]!r}) where {line['expect']} is right"]


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
def test_a_hostile_reply_ends_its_own_row_as_its_line_says(
    transport: str, stream: bool, large: bool, attacks: Attacks
) -> None:
    lines = {line["name"]: line for line in LINES if (bool(line.get("stream")), is_large(line)) == (stream, large)}
    pace = "concurrency: 1, timeout: 100" if large else "concurrency: 32, timeout: 5"
    names = [
        name
        for place, line in enumerate(lines)
        for name in ([f"good {place}", line] if place % ANSWERED_EVERY == 0 else [line])
    ]

    wires = {name: Wire(tuple(map(as_bytes, line["wire"])), line["ending"]) for name, line in lines.items()}

    def script(request: Any, nth: int) -> Action:
        name = request["messages"][-1]["content"]
        return wires.get(name) or Answer(f"answer to {name}")

    with ScriptedServer(script) as server:
        Path("data.jsonl").write_text("".join(json.dumps({"id": name, "input": name}) + "\n" for name in names))
        Path("s.yaml").write_text(
            "name: s\ndataset: data.jsonl\nscorers: [{type: regex, pattern: answer}]\ncache: off\n"
            f"target: {{name: t, model: m, base_url: '{server.base_url}', api_key: none, transport: {transport}}}\n"
            f"run: {{{pace}, retries: 1, stream: {str(stream).lower()}}}\n"
        )
        result = evalrunner.run_suite("s.yaml")
        calls = Counter(request.json["messages"][-1]["content"] for request in server.requests)
    assert (result.details.stopped, result.details.rows) == (None, len(names))
    assert set(calls) == set(names)
    assert max(calls.values()) == 2
    answers = {row.sample.id: row.answer for row in read_rows(result.folder)}
    for name in names:
        expected = lines.get(name, {"expect": {"ended": "stop", "text": f"answer to {name}"}})
        attacks.add(name, faults(expected, answers.get(name)))
    attacks.check()
