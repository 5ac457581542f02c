"""Replies of many vendors, servers and gateways, through sockets and the whole product: all lines of `vendor_replies.jsonl`.

A line has one reply (`status`, `body`) and how its row has to end: `failure` with its kind and whether it is `retried`, or
`ended` with its finish reason and `text`; `says` is a part of what the filter says. Each reply is sent plain and to a request
for a stream, which servers answer with errors as plain JSON; lines marked `stream` only to the latter. `IN_NINE_HOURS` in a
body is that time in milliseconds since 1970.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure
from evalrunner.runs.row_log import read_rows
from tests.fakes.server import Action, Answer, Raw, ScriptedServer

LINES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "vendor_replies.jsonl").read_text().splitlines()
]
ANSWERED_EVERY = 10  # rows between those that are answered well: a target without an answer is aborted


def as_sent(line: dict[str, Any]) -> Raw:
    body = line["body"].replace("IN_NINE_HOURS", str(int((time.time() + 9 * 3600) * 1000))).encode()
    kind = "text/event-stream" if line.get("stream") else "text/html" if body.startswith(b"<") else "application/json"
    head = f"HTTP/1.1 {line['status']} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return Raw(head.encode() + body)


@pytest.mark.parametrize(
    ("transport", "stream"),
    [
        ("pyreqwest", False), ("httpx", True), pytest.param("pyreqwest", True, marks=pytest.mark.slow),
        pytest.param("httpx", False, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_every_reply_ends_its_row_as_its_line_says(transport: str, stream: bool) -> None:
    lines = {line["name"]: line for line in LINES if stream or not line.get("stream")}
    names = [
        name for place, name in enumerate(lines) for name in (("ok", name) if place % ANSWERED_EVERY == 0 else (name,))
    ]
    calls: Counter[str] = Counter()

    def script(request: Any, _nth: int) -> Action:
        name = request["messages"][-1]["content"]
        calls[name] += 1
        return Answer("Paris") if name == "ok" else as_sent(lines[name])

    rows = [{"id": f"{name} {place}" if name == "ok" else name, "input": name, "expected": "Paris"}
            for place, name in enumerate(names)]  # fmt: skip
    with ScriptedServer(script) as server:
        Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
        Path("s.yaml").write_text(
            f"name: s\ndataset: data.jsonl\nscorers: [contains]\ncache: off\n"
            f"target: {{name: t, model: m, base_url: '{server.base_url}', api_key: none, transport: {transport}}}\n"
            f"run: {{concurrency: 1, retries: 1, row_timeout: 100, stream: {str(stream).lower()}}}\n"
        )
        result = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(wait_scale=0.01))
    assert (result.details.stopped, result.details.rows) == (None, len(rows))
    wrong = [
        f"{row.sample.id}: {fault}"
        for row in read_rows(result.folder)
        if row.sample.id in lines
        for fault in faults(lines[row.sample.id]["expect"], row.answer, calls[row.sample.id])
    ]
    assert wrong == []


def faults(expect: dict[str, Any], answer: Completion | Failure, calls: int) -> list[str]:
    if isinstance(answer, Failure):
        found: dict[str, Any] = {"failure": answer.kind, "retried": calls > 1}
    else:
        found = {"ended": answer.finish_reason, **({"text": answer.text} if answer.text else {})}
        if answer.filter_message:
            found["says"] = answer.filter_message[: len(expect.get("says", ""))]
    return [] if found == expect else [f"{found} where {expect} is right: {answer}"]
