"""Replies of real providers, through sockets and the whole product: each line of `replies.jsonl`, over both transports.

The file is in the folder that the teams share; without it the test is skipped. A line has one reply of a server and how the
row has to end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure, Row
from evalrunner.runs.row_log import read_rows
from tests.fakes.command import ROOT
from tests.fakes.server import Action, Answer, Raw, ScriptedServer

SHARED = Path(os.environ.get("EVALRUN_SHARED", ROOT.parent / "shared"))
REPLIES = SHARED / "cases" / "replies.jsonl"
NO_FILE = f"there is no {REPLIES}"
LINES: list[dict[str, Any]] = (
    [json.loads(line) for line in REPLIES.read_text().splitlines()] if REPLIES.exists() else []
)
TRANSPORTS = ("pyreqwest", "httpx")
RETRIES = 2


def as_sent(reply: Mapping[str, Any]) -> Raw:
    body = reply["body"].encode()
    headers = {**reply["headers"], "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return Raw(f"HTTP/1.1 {reply['status']} Scripted\r\n{head}\r\n".encode() + body)


def run(
    reply: Action,
    *,
    ask: str = "Capital of France?",
    stream: bool = False,
    transport: str = "pyreqwest",
    more: str = "",
) -> tuple[Row, int, evalrunner.SuiteResult, float]:
    """The row that a reply leads to, the number of calls, the result, and the seconds that it took.

    A second row is asked after it, so that an aborted target is seen: its server answers it well.
    """

    def script(request: Any, nth: int) -> Action:
        return Answer("Berlin") if request["messages"][-1]["content"] == "other" else reply

    rows = [{"id": "a", "input": ask, "expected": "Paris"}, {"id": "b", "input": "other", "expected": "Berlin"}]
    with ScriptedServer(script) as server:
        Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
        Path("s.yaml").write_text(
            f"name: s\ndataset: data.jsonl\nscorers: [exact_match, contains]\ncache: off\n"
            f"target: {{name: t, model: m, base_url: '{server.base_url}', api_key: none, transport: {transport}}}\n"
            f"run: {{concurrency: 1, retries: {RETRIES}, timeout: 5, stream: {str(stream).lower()}}}\n{more}"
        )
        started = time.monotonic()
        result = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(wait_scale=0.001))
        seconds = time.monotonic() - started
        asked = sum(request.json["messages"][-1]["content"] != "other" for request in server.requests)
    found = {row.sample.id: row for row in read_rows(result.folder)}
    return found["a"], asked, result, seconds


@pytest.mark.skipif(not LINES, reason=NO_FILE)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("line", LINES, ids=[line["name"] for line in LINES])
def test_a_reply_ends_its_row_as_the_file_says(line: dict[str, Any], transport: str) -> None:
    expect = line["expect"]
    row, calls, result, _ = run(as_sent(line["reply"]), ask=line["ask"], stream=line["stream"], transport=transport)
    if "failure" in expect:
        assert isinstance(row.answer, Failure), row.answer
        assert row.answer.kind == expect["failure"]
        assert calls == (1 + RETRIES if expect["retry"] else 1)
        assert expect.get("says", "") in row.answer.message
        assert {cell.state for cell in row.cells.values()} == {"error"}
        return
    assert isinstance(row.answer, Completion), row.answer
    assert calls == 1
    assert result.details.stopped is None  # the other row was asked
    assert row.answer.finish_reason == expect["ended"]
    if "text" in expect:
        assert row.answer.text == expect["text"]
    if expect.get("reasoning"):
        assert row.answer.reasoning
    record = json.loads((Path(result.folder) / "rows.jsonl").read_text().splitlines()[0])["completion"]
    for name in ("reasoning_tokens", "cached_input_tokens", "cost_usd"):
        if name in expect:
            assert record[name] == expect[name]
    if expect["ended"] != "stop":
        assert {cell.state for cell in row.cells.values()} == {"unscored"}


NAMED = {line["name"]: line for line in LINES}


@pytest.mark.skipif(not LINES, reason=NO_FILE)
def test_messages_say_what_to_do() -> None:
    def message(name: str) -> str:
        answer = run(as_sent(NAMED[name]["reply"]), stream=NAMED[name]["stream"])[0].answer
        assert isinstance(answer, Failure)
        return answer.message

    assert "payment" in message("stream-error-chunk-402")
    assert "payment" in message("account-quota-429")
    assert "web page ('Open WebUI')" in message("web-page-200") and "/v1" in message("web-page-200")


@pytest.mark.skipif(not LINES, reason=NO_FILE)
def test_an_answer_of_reasoning_only_gives_its_length() -> None:
    row = run(as_sent(NAMED["reasoning-only"]["reply"]))[0]
    assert isinstance(row.answer, Completion)
    assert row.answer.reasoning == "Paris"
    assert row.cells["contains"].message == "no_answer: empty: reasoning only, 5 characters"
    row = run(as_sent(NAMED["think-unclosed"]["reply"]))[0]
    assert row.cells["contains"].message == "no_answer: length: reasoning only, 27 characters"


@pytest.mark.skipif(not LINES, reason=NO_FILE)
def test_the_wait_of_a_limit_per_minute_is_kept() -> None:
    limit, calls = as_sent(NAMED["per-minute-quota-429"]["reply"]), []

    def script(request: Any, nth: int) -> Action:
        calls.append(time.monotonic())
        return limit if nth == 1 else Answer("Paris")

    with ScriptedServer(script) as server:
        Path("s.yaml").write_text(
            "dataset: {rows: [{id: a, input: x, expected: Paris}]}\nscorers: [contains]\n"
            f"target: {{model: m, base_url: '{server.base_url}'}}\n"
        )
        result = evalrunner.run_suite("s.yaml")
    assert result.exit_code == 0
    assert 1.0 <= calls[1] - calls[0] < 3.0


@pytest.mark.skipif(not LINES, reason=NO_FILE)
@pytest.mark.parametrize("name", ["filter-as-403", "filter-by-firewall-page-403", "filter-in-other-words-400"])
def test_a_safety_suite_is_asked_to_its_end(name: str) -> None:
    """60 of 105 rows in a row are filtered, the first ones among them."""
    filtered = as_sent(NAMED[name]["reply"])

    def script(request: Any, nth: int) -> Action:
        return filtered if int(request["messages"][-1]["content"]) < 60 else Answer("Paris")

    with ScriptedServer(script) as server:
        Path("data.jsonl").write_text("\n".join(json.dumps({"input": str(i), "expected": "Paris"}) for i in range(105)))
        Path("s.yaml").write_text(
            "dataset: data.jsonl\nscorers: [contains]\nrun: {concurrency: 1}\n"
            f"target: {{model: m, base_url: '{server.base_url}'}}\n"
        )
        result = evalrunner.run_suite("s.yaml")
        assert server.calls == 105
    assert (result.details.rows, result.details.in_error, result.details.stopped) == (105, 0, None)
