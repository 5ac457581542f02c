"""Hostile replies of a server, over both transports and LiteLLM: each ends its own row as its line says, and no other.

A line of `replies.jsonl` has the reply as it goes over the wire, head included, in `wire`: texts whose letters are bytes,
waits in seconds, `{"repeat", "times"}`, and `{"gzip"}` or `{"deflate"}` for a compressed body with its head (`twice` for
gzip in gzip); `unpacked` are the bytes of a body that is compressed in the line. Then the connection is kept, closed, reset
or left hanging (`ending`). `expect` is the kind of the `failure`, or how the answer `ended`, with the beginning of its
`text` or message. A list stands for several that are right: one transport tolerates what the other refuses. `litellm` is
what to expect over LiteLLM where that differs, because its own HTTP client and its own reader decide.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import zlib
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


def as_sent(piece: Any) -> bytes | float:
    """A piece of a line as the server gets it: bytes, or a wait in seconds."""
    return float(piece) if isinstance(piece, int | float) else as_bytes(piece)


def as_bytes(piece: Any) -> bytes:
    """A piece of a line as it is sent."""
    if isinstance(piece, str):
        return piece.encode("latin-1")
    if "gzip" in piece:
        body = gzip.compress(as_bytes(piece["gzip"]), 1)
        return _packed("gzip, gzip", gzip.compress(body)) if piece.get("twice") else _packed("gzip", body)
    if "deflate" in piece:
        return _packed("deflate", zlib.compress(as_bytes(piece["deflate"]), 1))
    return str(piece["repeat"]).encode("latin-1") * int(piece["times"])


def _packed(encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def is_large(line: dict[str, Any]) -> bool:
    """Whether a reply has megabytes, unpacked: it takes seconds, in which other rows would time out."""
    pieces = (piece.get("gzip") or piece.get("deflate") or piece for piece in line["wire"] if isinstance(piece, dict))
    return int(sum(piece["times"] * len(piece["repeat"]) for piece in pieces) + line.get("unpacked", 0)) > 2**23


def faults(line: dict[str, Any], answer: Completion | Failure | None, *, litellm: bool = False) -> list[str]:
    """What is wrong with the row of a line."""
    if answer is None:
        return ["the row is lost"]
    right = line.get("litellm", line["expect"]) if litellm else line["expect"]
    expected = right if isinstance(right, list) else [right]
    got: dict[str, Any] = {"failure": answer.kind} if isinstance(answer, Failure) else {"ended": answer.finish_reason}
    said = answer.message if isinstance(answer, Failure) else answer.text
    for expect in expected:
        if {key: expect.get(key) for key in got} == got and said.startswith(expect.get("text", "")):
            return []
    return [f"{got} ({said[:150]!r}) where {right} is right"]


def ask(lines: dict[str, dict[str, Any]], target: str, run: str) -> tuple[dict[str, Any], Counter[str]]:
    """The answers by row, good ones between the hostile ones, and the calls of each, after a run that was not stopped.

    `BASE` in the keys of the target is the address of the server.
    """
    names = [
        name
        for place, line in enumerate(lines)
        for name in ([f"good {place}", line] if place % ANSWERED_EVERY == 0 else [line])
    ]
    wires = {name: Wire(tuple(map(as_sent, line["wire"])), line["ending"]) for name, line in lines.items()}

    def script(request: Any, nth: int) -> Action:
        name = request["messages"][-1]["content"]
        return wires.get(name) or Answer(f"answer to {name}")

    with ScriptedServer(script) as server:
        Path("data.jsonl").write_text("".join(json.dumps({"id": name, "input": name}) + "\n" for name in names))
        Path("s.yaml").write_text(
            "name: s\ndataset: data.jsonl\nscorers: [{type: regex, pattern: answer}]\ncache: off\n"
            f"target: {{name: t, api_key: none, {target.replace('BASE', server.base_url)}}}\nrun: {{{run}}}\n"
        )
        result = evalrunner.run_suite("s.yaml")
        calls = Counter(request.json["messages"][-1]["content"] for request in server.requests)
    assert (result.details.stopped, result.details.rows) == (None, len(names))
    answers = {row.sample.id: row.answer for row in read_rows(result.folder)}
    assert set(calls) == set(names) == set(answers)
    return {name: answers[name] for name in names}, calls


def selected(*, stream: bool, large: bool) -> dict[str, dict[str, Any]]:
    """The lines of a kind by name."""
    return {line["name"]: line for line in LINES if (bool(line.get("stream")), is_large(line)) == (stream, large)}


def expectation(lines: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """What a row should end with: a good one with its own answer."""
    return lines.get(name, {"expect": {"ended": "stop", "text": f"answer to {name}"}})


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
def test_a_hostile_reply_ends_its_own_row_as_its_line_says(
    transport: str, stream: bool, large: bool, attacks: Attacks
) -> None:
    lines = selected(stream=stream, large=large)
    pace = "concurrency: 1, timeout: 100" if large else "concurrency: 32, timeout: 5"
    run = f"{pace}, retries: 1, stream: {str(stream).lower()}"
    answers, calls = ask(lines, f"model: m, base_url: 'BASE', transport: {transport}", run)
    assert max(calls.values()) == 2
    for name, answer in answers.items():
        attacks.add(name, faults(expectation(lines, name), answer))
    attacks.check()


@pytest.mark.slow
@pytest.mark.litellm
@pytest.mark.filterwarnings("ignore")  # those of LiteLLM and of what it imports
@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="the extra 'litellm' is not installed")
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_hostile_reply_through_litellm_ends_its_own_row(stream: bool, large: bool, attacks: Attacks) -> None:
    """LiteLLM takes seconds of CPU time for some replies of megabytes, in which no other row goes on."""
    lines = selected(stream=stream, large=large)
    pace = f"concurrency: {1 if large else 12}, timeout: 20, row_timeout: 45"
    run = f"{pace}, retries: {0 if large else 1}, stream: {str(stream).lower()}"
    answers, _ = ask(lines, "model: hosted_vllm/m, params: {api_base: 'BASE'}", run)
    for name, answer in answers.items():
        attacks.add(name, faults(expectation(lines, name), answer, litellm=True))
    attacks.check()
