"""Replies with a wrong value in every field, generated: a field that the row does not need never costs the answer.

Each field of a chat reply takes each of `VALUES`, and is left out. Fields that the row does not need (`SPARE`) leave the
answer as it is. The others give that answer, another one that is text, or a failure: never a crash, a lost row or a record
that is not JSON.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure, Row
from evalrunner.runs.row_log import read_rows
from tests.attacks.counts import Attacks
from tests.fakes.server import Action, Answer, Malformed, ScriptedServer

REPLY: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m-1", "system_fingerprint": "fp", "service_tier": "x",
    "provider": "p", "citations": ["http://a"], "cost": 0.1, "error": None,
    "choices": [
        {
            "index": 0, "finish_reason": "stop", "native_finish_reason": "stop", "logprobs": {"content": []}, "stop_reason": None,
            "message": {
                "role": "assistant", "content": "Paris", "refusal": None, "tool_calls": None, "function_call": None, "audio": None,
                "annotations": [], "reasoning": "r", "reasoning_content": "r", "reasoning_details": [{"type": "x", "text": "r"}],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "cost": 0.1, "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        "cost_details": {"upstream_inference_cost": 0.1},
    },
}  # fmt: skip
TOOLS = [{"id": "call_1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}]
PARTS = [{"type": "text", "text": "Paris", "annotations": []}]
NEEDED = ("choices", "error", "content", "refusal", "tool_calls", "function_call", "finish_reason", "message", "audio")
"""A path with one of these names decides the answer; the rest of a reply must not."""
ABSENT = object()
VALUES: tuple[Any, ...] = (
    ABSENT, None, True, False, 0, -1, 1.5, 10**400, 1e308, "RAW 1e400", "RAW -1e400", "RAW NaN", "RAW -0", "", " ", "x", "Paris", "0", "1e999",
    "\x00\x1b[31m\u202e\ud800", "é😀" * 300, [], [None], [[]], [1], ["x"], [{}], {}, {"a": None}, {"text": "x"}, {"value": [1]},
    [{"type": "text"}], [{"type": "text", "text": 1}], [{"type": None, "text": None}], [{"type": "image_url", "image_url": None}], [TOOLS],
)  # fmt: skip


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within a value, its own first."""
    if before:
        yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from paths(child, (*before, key))


def replaced(reply: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:
    """The body of a reply with another value at a path. `RAW x` is written without quotes."""
    reply = copy.deepcopy(reply)
    parent: Any = reply
    for key in path[:-1]:
        parent = parent[key]
    if value is ABSENT:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    text = json.dumps(reply)
    if isinstance(value, str) and value.startswith("RAW "):
        text = text.replace(json.dumps(value), value.removeprefix("RAW "))
    return text.encode()


def with_message(**fields: Any) -> dict[str, Any]:
    reply = copy.deepcopy(REPLY)
    reply["choices"][0]["message"].update(fields)
    return reply


def bodies(kind: str) -> dict[str, bytes]:
    """Every body of a kind by its name: what was replaced by what."""
    reply = {
        "text": REPLY,
        "tools": with_message(content=None, tool_calls=TOOLS),
        "parts": with_message(content=PARTS),
    }[kind]
    under = {
        "text": (),
        "tools": ("choices", 0, "message", "tool_calls"),
        "parts": ("choices", 0, "message", "content"),
    }[kind]
    return {
        f"{kind} {'.'.join(map(str, path))} {place}": replaced(reply, path, value)
        for path in paths(reply)
        if path[: len(under)] == under
        for place, value in enumerate(VALUES)
    }


def faults(name: str, row: Row | None) -> list[str]:
    """What is wrong with a row."""
    if row is None:
        return ["the row is lost"]
    path = name.split()[1].split(".")
    answer = row.answer
    if isinstance(answer, Failure):
        result = [] if answer.message.isprintable() else [f"its message is not printable: {answer.message!r}"]
        if answer.kind not in ("malformed", "server", "rate_limit", "bad_request", "auth", "timeout", "context_length"):
            result.append(f"it failed with {answer.kind}")
        return result if needed(path) else [*result, f"no answer: {answer.message[:200]}"]
    assert isinstance(answer, Completion)
    numbers = (answer.input_tokens, answer.output_tokens, answer.reasoning_tokens, answer.cached_tokens)
    result = [
        f"{number!r} tokens" for number in numbers if number is not None and (type(number) is not int or number < 0)
    ]
    if answer.cost_usd is not None and not (math.isfinite(answer.cost_usd) and answer.cost_usd >= 0):
        result.append(f"it costs {answer.cost_usd}")
    if not isinstance(answer.text, str) or not isinstance(answer.served_model, str | None):
        result.append("its text or model is not text")
    if not needed(path) and (answer.text, answer.finish_reason) != ("Paris", "stop"):
        result.append(f"the answer is {answer.text!r} ({answer.finish_reason})")
    return result


def needed(path: list[str]) -> bool:
    return path[-1] in NEEDED or path[-1].isdigit() or "tool_calls" in path or "content" in path[:-1]


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "tools", "parts"])
@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
def test_a_wrong_value_in_a_reply_costs_no_other_row_and_no_answer_that_does_not_need_it(
    transport: str, kind: str, attacks: Attacks
) -> None:
    sent = bodies(kind)
    names = [
        name for place, name in enumerate(sent) for name in ([f"good {place}", name] if place % 10 == 0 else [name])
    ]

    def script(request: Any, nth: int) -> Action:
        name = request["messages"][-1]["content"]
        return Malformed(sent[name]) if name in sent else Answer(f"answer to {name}")

    with ScriptedServer(script) as server:
        Path("data.jsonl").write_text("".join(json.dumps({"id": name, "input": name}) + "\n" for name in names))
        Path("s.yaml").write_text(
            "name: s\ndataset: data.jsonl\nscorers: [{type: regex, pattern: answer}]\ncache: off\n"
            f"target: {{name: t, model: m, base_url: '{server.base_url}', api_key: none, transport: {transport}}}\n"
            "run: {concurrency: 8, retries: 0}\n"
        )
        result = evalrunner.run_suite("s.yaml")
    assert (result.details.stopped, result.details.rows) == (None, len(names))
    for file in ("rows.jsonl", "metrics.json", "run.json"):
        for line in (
            (result.folder / file).read_text().splitlines()
            if file == "rows.jsonl"
            else [(result.folder / file).read_text()]
        ):
            json.loads(line, parse_constant=refuse)
    rows = {row.sample.id: row for row in read_rows(result.folder)}
    for name in names:
        if name in sent:
            attacks.add(name, faults(name, rows.get(name)))
        else:
            assert rows[name].answer.text == f"answer to {name}"
    attacks.check()
