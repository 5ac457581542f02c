"""The scorer `tool_calls`: which calls fit, in every form, from the model and from recorded data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Sample
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.call import BoundScorer, call_sync, cell_without_call, offer
from evalrunner.scorers.tool_calls import tool_calls
from evalrunner.tool_calls import ToolCall, equal_json, matching, read_tool_calls
from tests.cases.suites import command
from tests.fakes.server import Action, Answer, ScriptedServer, Status
from tests.scorers.scorer_calls import HOSTILE

PARIS: Mapping[str, Any] = {"get_weather": {"city": "Paris", "days": 1}}
ROME: Mapping[str, Any] = {"get_weather": {"city": "Rome", "days": 1}}
TIME: Mapping[str, Any] = {"get_time": {}}


def reply(*calls: Mapping[str, Any], text: str = "", raw: str | None = None) -> Completion:
    """An answer with calls as OpenAI's API writes them; `raw` are the arguments of the first."""
    made = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for i, call in enumerate(calls)
        for name, arguments in call.items()
    ]
    if raw is not None:
        made[0]["function"]["arguments"] = raw  # type: ignore[index]
    return Completion(text, "tool_calls", tool_calls=tuple(made))


def cell(expected: Any, answer: Completion, match: str = "args", *accepted: str, **metadata: Any) -> Any:
    options = {"expected": expected} if expected is not None else {}
    if metadata:
        options = {"column": next(iter(metadata))}
    bound = BoundScorer.bind("tool_calls", tool_calls(match=match, **options))  # type: ignore[arg-type]
    sample = Sample("1", "?", accepted, metadata)
    return cell_without_call(bound, sample, answer) or call_sync(bound, offer(sample, answer))


@pytest.mark.parametrize(
    ("match", "expected", "made", "value"),
    [
        ("args", [PARIS], [PARIS], 1),
        ("args", [PARIS], [ROME], 0),
        ("args", [PARIS, ROME], [ROME, PARIS], 1),  # the order is irrelevant
        ("args", [PARIS, PARIS], [PARIS], 0),  # twice is not once
        ("args", [PARIS], [PARIS, PARIS], 0),
        ("args", [PARIS], [PARIS, TIME], 0),  # one too many
        ("args", [{"get_weather": {"days": 1.0, "city": "Paris"}}], [PARIS], 1),  # 1 is 1.0, keys in any order
        ("args", [{"get_weather": {"city": "Paris", "days": True}}], [PARIS], 0),  # true is not 1
        ("args", [{"get_weather": {"city": "Paris", "days": "1"}}], [PARIS], 0),  # text is no number
        ("args", [{"get_weather": {"city": "Paris"}}], [PARIS], 0),
        ("args", ["get_weather"], [PARIS], 1),  # any arguments
        ("args", ["get_weather", PARIS], [PARIS, ROME], 1),  # the bare name takes what is left
        ("args", [PARIS, "get_weather"], [PARIS, ROME], 1),
        ("args", [], [], 1),
        ("args", [], [TIME], 0),
        ("args", [TIME], [], 0),
        ("name", [ROME, TIME], [TIME, PARIS], 1),
        ("name", [ROME, TIME], [TIME, TIME], 0),
        ("subset", [{"get_weather": {"city": "Paris"}}], [TIME, PARIS], 1),
        ("subset", [{"get_weather": {"city": "Rome"}}], [TIME, PARIS], 0),
        ("subset", [{"f": {"a": {"b": 1}}}], [{"f": {"a": {"b": 1, "c": 2}, "d": 3}}], 1),
        ("subset", [{"f": {"a": [1, 2]}}], [{"f": {"a": [1, 2, 3]}}], 0),  # a list is whole
        ("subset", [{"f": {"a": 1}}, {"f": {}}], [{"f": {"a": 1}}], 0),  # each needs a call of its own
        ("subset", [{"f": {}}, {"f": {"a": 1}}], [{"f": {"a": 1}}, {"f": {"b": 2}}], 1),  # whichever is read first
        ("subset", [], [TIME], 1),
        ("order", [PARIS, TIME], [PARIS, TIME], 1),
        ("order", [PARIS, TIME], [TIME, PARIS], 0),
        ("f1", [PARIS, TIME], [PARIS, ROME, ROME], 0.4),  # 2 · 1 / (2 + 3)
        ("f1", [PARIS], [PARIS], 1),
        ("f1", [], [], 1),
        ("f1", [PARIS], [], 0),
    ],
)  # fmt: skip
def test_calls_fit_by_name_arguments_subset_order_or_f1(
    match: str, expected: Sequence[Any], made: Sequence[Any], value: float
) -> None:
    answer = reply(*made) if made else Completion("It is sunny.")
    found = cell(list(expected), answer, match)
    assert (found.state, found.value) == ("scored", pytest.approx(value)), found
    # the same from a column and from the accepted answer
    assert cell(None, answer, match, calls=list(expected)).value == found.value
    assert cell(None, answer, match, calls=json.dumps(expected)).value == found.value
    assert cell(None, answer, match, json.dumps(expected)).value == found.value


@pytest.mark.parametrize(
    "form",
    [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
        {"function_call": {"name": "f", "arguments": '{"a": 1.0}'}},
        {"name": "f", "arguments": '{"a": 1}'},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},  # Anthropic
        {"functionCall": {"name": "f", "args": {"a": 1}}},  # Gemini
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},  # Bedrock
        {"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"},  # LangChain
        {"type": "tool-call", "toolName": "f", "args": {"a": 1}},  # AI SDK
        {"f": {"a": 1}},
        '{"f": {"a": 1}}',
        '[{"name": "f", "arguments": {"a": 1}}]',
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]},
    ],
)
def test_every_form_of_a_call_is_the_same_call(form: Any) -> None:
    (call,) = read_tool_calls(form)
    assert (call.name, call.arguments) == ("f", {"a": 1})
    assert (
        cell(
            [{"f": {"a": 1}}],
            Completion("", tool_calls=(form,) if isinstance(form, dict) and "role" not in form else (call.as_reply(),)),
        ).value
        == 1
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (5, "is no tool call"),
        ([None], "is no tool call"),
        ({"name": ""}, "names no tool"),
        ({"arguments": {}}, "names no tool"),
        ({"name": "f", "city": "Paris"}, "put arguments under 'arguments'"),
        ({"name": "f", "arguments": "{city"}, "are no JSON"),
        ({"name": "f", "arguments": '{"a": NaN}'}, "NaN is no number"),
        ({"name": "f", "arguments": [1]}, "not a JSON object"),
        ("[{", "are no JSON"),
        (["f"] * 101, "too many"),
    ],
)
def test_expected_calls_that_cannot_be_read_are_errors_before_the_first_call(wrong: Any, words: str) -> None:
    if not isinstance(wrong, int):
        with pytest.raises(ValueError, match=words):
            tool_calls(expected=wrong)
    problem = tool_calls(column="calls").function.check(Sample("1", "?", (), {"calls": wrong}))  # type: ignore[attr-defined]
    assert problem.startswith("expected tool calls: ") and words in problem


@pytest.mark.parametrize(
    "raw", ['{"city": "Par', "Paris", "[1]", "null", '{"a": NaN}', "[" * 100_000, '{"a":' * 200 + "1" + "}" * 200]
)
def test_unreadable_arguments_of_the_model_count_0_with_the_reason(raw: str) -> None:
    found = cell(["get_weather"], reply(PARIS, raw=raw))
    assert (found.state, found.value) == ("scored", 0.0)
    assert found.detail["explanation"].startswith("the arguments of get_weather are ")
    assert cell(["get_weather"], reply(PARIS, raw=raw), "name").value == 1.0


@pytest.mark.parametrize("raw", ["", " ", "{}"])
def test_empty_arguments_are_no_arguments(raw: str) -> None:
    assert cell([{"get_weather": {}}], reply(PARIS, raw=raw)).value == 1.0


def test_explanation_names_what_is_missing_and_what_is_too_many() -> None:
    assert cell([PARIS], reply(ROME)).detail["explanation"] == (
        'missing: get_weather({"city": "Paris", "days": 1}); unexpected: get_weather({"city": "Rome", "days": 1})'
    )
    assert cell([TIME], Completion("noon")).detail["explanation"] == "missing: get_time(); no tool was called"
    assert cell([], reply(TIME)).detail["explanation"] == "no call is expected: get_time()"
    assert (
        cell([TIME, PARIS], reply(PARIS, TIME), "order")
        .detail["explanation"]
        .startswith("the calls are in another order")
    )
    assert cell([TIME], reply(TIME)).detail is None


def test_a_call_without_text_is_an_answer_and_a_missing_answer_is_unscored() -> None:
    assert cell([TIME], reply(TIME)).state == "scored"
    assert cell([TIME], reply(TIME, text="I look at the clock.")).value == 1.0
    for reason in ("length", "filtered", "refused", "empty"):
        answer = Completion("", reason, tool_calls=reply(TIME).tool_calls if reason == "length" else ())  # type: ignore[arg-type]
        found = cell([TIME], answer)
        assert (found.state, found.cause) == ("unscored", "no_answer"), reason
        assert cell([], answer).state == "unscored"


def test_samples_without_expected_calls_are_skipped_and_an_empty_list_expects_none() -> None:
    assert cell(None, reply(TIME), "args").state == "skipped"
    for nothing in (None, "", " "):
        assert cell(None, reply(TIME), "args", calls=nothing).state == "skipped"
    for none in ([], "[]"):
        assert cell(None, reply(TIME), "args", calls=none).value == 0.0
        assert cell(None, Completion("text"), "args", calls=none).value == 1.0


def test_the_best_of_several_accepted_answers_counts() -> None:
    accepted = [json.dumps([PARIS]), json.dumps([ROME, TIME])]
    assert cell(None, reply(TIME, ROME), "args", *accepted).value == 1.0
    assert cell(None, reply(TIME), "f1", *accepted).value == pytest.approx(2 / 3)


def test_matching_is_the_largest_one() -> None:
    def brute(wanted: Sequence[int], made: Sequence[int]) -> int:
        if not wanted:
            return 0
        rest = [brute(wanted[1:], made)]
        rest += [
            1 + brute(wanted[1:], [*made[:i], *made[i + 1 :]]) for i in range(len(made)) if wanted[0] & made[i]
        ]  # fmt: skip
        return max(rest)

    import random

    draw = random.Random(3)
    for _ in range(200):
        wanted = [draw.randrange(16) for _ in range(draw.randrange(5))]
        made = [draw.randrange(16) for _ in range(draw.randrange(5))]
        pairs = matching(
            [ToolCall(str(one)) for one in wanted], [ToolCall(str(one)) for one in made],
            lambda call, one: bool(int(call.name) & int(one.name)),
        )  # fmt: skip
        assert len(pairs) == len(set(pairs.values())) == brute(wanted, made)


def test_hostile_calls_give_a_score_in_range_and_are_written_to_disk() -> None:
    hostile: list[Any] = [{"function": {"name": text, "arguments": json.dumps({text: text})}} for text in HOSTILE]
    hostile += [
        {"function": {"name": None}},
        {"function": {}},
        {"function": {"name": "f", "arguments": 5}},
        {"x": math.nan},
    ]
    for match in ("name", "args", "subset", "order", "f1"):
        for call in hostile:
            found = cell([PARIS], Completion("", tool_calls=(call, call)), match)
            assert found.state == "scored" and 0 <= found.value <= 1
            json.dumps(found.detail).encode()
            found.detail["explanation"].encode()
            assert len(found.detail["explanation"]) < 3_000
    assert cell([PARIS], Completion("", tool_calls=tuple(hostile[:1] * 101))).value == 0.0


def test_equal_json_tells_kinds_apart() -> None:
    values = [None, True, False, 0, 1, "", "0", "null", [], [0], {}, {"a": None}, {"a": 0}, [[]], 0.5, 10**30]
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            assert equal_json(one, other) == (i == j), (one, other)
    assert equal_json({"a": [1, {"b": 2.0}]}, {"a": [1.0, {"b": 2}]})


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def suite(target: Any, rows: Sequence[Mapping[str, Any]], scorers: Sequence[Any], **keys: Any) -> str:
    data = {"name": "t", "target": target, "dataset": {"rows": rows}, "scorers": scorers, **keys}
    Path("t.yaml").write_text(json.dumps(data))
    return "t.yaml"


def rows_of_run() -> dict[str, Any]:
    folder = max(Path("runs").rglob("run.json"), key=lambda path: path.stat().st_mtime_ns).parent
    return {row.sample.id: row for row in read_rows(folder)}


@pytest.mark.parametrize("stream", [False, True])
def test_suite_sends_tools_and_scores_and_stores_the_calls(stream: bool) -> None:
    def script(request: Any, nth: int) -> Action:
        question = request["messages"][-1]["content"]
        if "weather" not in question:
            return Answer("Hello!")
        function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
        return Answer(
            None,
            "tool_calls",
            message={"tool_calls": [{"id": "c1", "type": "function", "index": 0, "function": function}]},
        )

    rows = [
        {"id": "call", "input": "What is the weather in Paris?", "calls": [{"get_weather": {"city": "Paris"}}]},
        {"id": "none", "input": "Hi", "calls": []},
        {"id": "wrong", "input": "What is the weather in Rome?", "calls": [{"get_weather": {"city": "Rome"}}]},
    ]
    with ScriptedServer(script) as server:
        target = {
            "name": "m",
            "model": "m",
            "base_url": server.base_url,
            "params": {"tools": TOOLS, "tool_choice": "auto"},
            "stream": stream,
        }
        scorers = [{"type": "tool_calls", "column": "calls"}, {"type": "contains", "value": "Hello"}]
        done = command(
            "run",
            suite(target, rows, scorers, gates=["tool_calls >= 0.1"]),
            "-o",
            "table.csv",
            "-o",
            "report.html",
            "--untrusted",
            "--allow-host",
            "127.0.0.1",
        )
    assert done.code == 0, done.err + done.out
    assert server.requests[0].json["tools"] == TOOLS and server.requests[0].json["tool_choice"] == "auto"
    found = rows_of_run()
    assert {name: row.cells["tool_calls"].value for name, row in found.items()} == {"call": 1, "none": 1, "wrong": 0}
    assert found["call"].answer.tool_calls[0]["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    text = found["call"].cells["contains"]  # no text to look into
    assert (text.state, text.cause, text.reason) == ("unscored", "no_answer", "tool_calls")
    assert "get_weather" in Path("report.html").read_text()


def test_recorded_target_takes_tool_calls_from_a_column_and_scores_again() -> None:
    rows = [
        {"id": "a", "input": "?", "made": [{"get_time": {}}], "answer": "", "expected": '[{"get_time": {}}]'},
        {
            "id": "b",
            "input": "?",
            "made": '{"name": "get_time", "arguments": "{oops"}',
            "answer": None,
            "expected": "get_time",
        },
        {"id": "c", "input": "?", "made": None, "answer": "noon", "expected": "[]"},
        {"id": "d", "input": "?", "made": [], "answer": "", "expected": "[]"},
    ]
    file = suite({"type": "recorded", "column": "answer", "tool_calls": "made"}, rows, ["tool_calls"])
    done = command("run", file)
    assert done.code == 0, done.err
    found = {name: row.cells["tool_calls"] for name, row in rows_of_run().items()}
    assert {name: cell.value for name, cell in found.items()} == {"a": 1, "b": 0, "c": 1, "d": None}
    assert found["b"].detail["explanation"].startswith("the arguments of get_time are no JSON")
    assert found["d"].cause == "no_answer"
    folder = str(max(Path("runs").rglob("run.json"), key=lambda path: path.stat().st_mtime_ns).parent)
    suite(
        {"type": "recorded", "column": "answer", "tool_calls": "made"}, rows, [{"type": "tool_calls", "match": "name"}]
    )
    done = command("score", folder, "--suite", "t.yaml")
    assert done.code == 0, done.err
    assert {name: row.cells["tool_calls"].value for name, row in rows_of_run().items()}["b"] == 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"type": "recorded", "column": "answer", "tool_calls": "maid"}, "has no column 'maid'"),
        ({"type": "recorded", "column": "answer", "tool_calls": "answer"}, "cannot be read"),
        ({"type": "recorded"}, "needs either"),
    ],
)
def test_recorded_tool_calls_that_are_not_there_are_reported_before_the_run(target: Any, words: str) -> None:
    rows = [{"input": "?", "made": [], "answer": "[5]", "expected": "x"}]
    done = command("run", suite(target, rows, ["exact_match"]))
    assert done.code == 2 and words in done.err, done.err


def test_reports_show_the_calls_of_an_answer_without_text() -> None:
    nested: Any = {"name": "f"}
    for _ in range(900):
        nested = {"function": nested}
    rows = [
        {
            "id": "a",
            "input": "Rome?",
            "made": [{"get_weather": {"city": "Milan"}}],
            "calls": [{"get_weather": {"city": "Rome"}}],
        },
        {"id": "b", "input": "Hi", "made": [{"name": "wave", "arguments": "{oops"}], "calls": []},
    ]
    done = command(
        "run",
        suite({"type": "recorded", "tool_calls": "made"}, rows, [{"type": "tool_calls", "column": "calls"}]),
        "-o",
        "s.md",
    )
    assert done.code == 0, done.err
    assert 'got [get_weather({"city": "Milan"})]' in done.out and "got [wave(unreadable)]" in done.out, done.out
    assert "tool calls" in Path("s.md").read_text()
    with pytest.raises(ValueError, match="names no tool"):
        read_tool_calls(nested, strict=False)


def test_http_service_states_its_tool_calls_at_a_path() -> None:
    def script(request: Any, nth: int) -> Action:
        if request["question"] == "weather":
            return Status(
                200, {"steps": {"calls": [{"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}]}}
            )
        if request["question"] == "broken":
            return Status(200, {"text": "x", "steps": {"calls": [5]}})
        return Status(200, {"text": "Hello!", **({"steps": {"calls": None}} if request["question"] == "null" else {})})

    rows = [
        {"id": text, "input": text, "calls": [{"get_weather": {"city": "Paris"}}] if text == "weather" else []}
        for text in ("weather", "null", "hi", "broken")
    ]
    with ScriptedServer(script) as server:
        target = {
            "type": "http", "url": f"{server.base_url}/ask", "body": {"question": "{{ input }}"}, "output": "text",
            "tool_calls": "steps.calls", "retries": 0,
        }  # fmt: skip
        command("run", suite(target, rows, [{"type": "tool_calls", "column": "calls"}]))
    found = {name: row.cells["tool_calls"] for name, row in rows_of_run().items()}
    assert {name: cell.value for name, cell in found.items()} == {"weather": 1, "null": 1, "hi": 1, "broken": None}
    assert "tool calls at 'steps.calls' that cannot be read" in str(found["broken"].reason)
