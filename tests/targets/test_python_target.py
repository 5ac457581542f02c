"""User-defined functions as targets, in whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure
from evalrunner.errors import SuiteError
from evalrunner.runs.row_log import read_rows

SUITE = """\
name: app
dataset: {rows: [{id: a, input: one, expected: ONE}, {id: b, input: two, expected: TWO}]}
target: {type: python, function: "FUNCTION", args: ARGS}
scorers: [exact_match]
"""


def run(code: str, *, function: str = "app.py:answer", args: str = "{}") -> dict[str, Any]:
    Path("app.py").write_text(code)
    Path("app.yaml").write_text(SUITE.replace("FUNCTION", function).replace("ARGS", args))
    result = evalrunner.run_suite("app.yaml")
    return {row.sample.id: row for row in read_rows(result.folder)}


@pytest.mark.parametrize(
    "code",
    [
        "def answer(input): return input.upper()",
        "async def answer(input): return input.upper()",
        "def answer(question): return question.upper()",
        "def answer(sample, epoch): return sample.input.upper() * epoch",
        "def answer(**everything): return everything['sample'].input.upper()",
        "class App:\n    def __call__(self, input): return input.upper()\nanswer = App()",
        "class App:\n    async def __call__(self, input): return input.upper()\nanswer = App()",
        "from evalrunner import Completion\ndef answer(input): return Completion(input.upper(), output_tokens=1)",
    ],
)
def test_a_function_receives_the_parameters_it_names(code: str) -> None:
    rows = run(code)
    assert [rows[name].answer.text for name in "ab"] == ["ONE", "TWO"]
    assert all(rows[name].cells["exact_match"].value == 1 for name in "ab")


def test_args_of_a_function_come_from_the_suite() -> None:
    rows = run("def answer(input, mark): return input + mark", args='{mark: "!"}')
    assert rows["a"].answer.text == "one!"


def test_an_exception_of_a_function_fails_its_row() -> None:
    rows = run("def answer(input):\n    if input == 'two':\n        raise KeyError('gone')\n    return 'ONE'\n")
    assert rows["a"].cells["exact_match"].value == 1
    assert rows["b"].answer == Failure("function", "answer() in app.py:3 raised KeyError: 'gone'")
    assert rows["b"].cells["exact_match"].state == "error"


def test_none_is_an_empty_answer_and_a_number_is_a_failure() -> None:
    rows = run("def answer(input): return None if input == 'one' else 7")
    assert isinstance(rows["a"].answer, Completion) and rows["a"].answer.finish_reason == "empty"
    assert (
        rows["b"].answer.message
        == "answer() returned a int; it should return text, a mapping with 'output', or a Completion"
    )


@pytest.mark.parametrize(
    ("code", "function", "said"),
    [
        ("def answer(x, y): return x", "app.py:answer", r"app.yaml:3:9: target: answer\(\) needs 'x'"),
        ("def answer(input): return 1", "app.py:anwser", "'app.py' has no 'anwser'; did you mean 'answer'"),
        ("answer = 3", "app.py:answer", "'app.py:answer' is a int, not a function"),
        ("1/0", "app.py:answer", "importing 'app.py' failed: ZeroDivisionError: division by zero"),
        ("", "nope.py:answer", "there is no file 'nope.py'"),
        ("", "no_such_package.module:answer", "there is no module 'no_such_package.module'"),
        ("", "answer", "neither 'package.module:name' nor 'path/file.py:name'"),
    ],
)
def test_an_unusable_function_is_reported_before_the_run(code: str, function: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        run(code, function=function)
    assert not Path("runs").exists()


CALL = {"function": {"name": "go", "arguments": {"x": 1}}}
REPLY = {"type": "function", "function": {"name": "go", "arguments": '{"x": 1}'}}
USER = {"role": "user", "content": "hi"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("returned", "completion"),
    [
        ({"output": "ONE"}, Completion("ONE")),
        ({"output": None}, Completion("", "empty")),
        ({"output": "ONE", "tool_calls": [CALL]}, Completion("ONE", tool_calls=(REPLY,))),
        ({"tool_calls": [{"go": {"x": 1}}]}, Completion("", "tool_calls", tool_calls=(REPLY,))),
        (
            {"output": "ONE", "usage": {"prompt_tokens": 3, "completion_tokens": 4, "cost": "0.5", "total_tokens": 7}},
            Completion("ONE", input_tokens=3, output_tokens=4, cost_usd=0.5),
        ),
        (
            {"messages": [USER, CALLING, {"role": "tool", "content": "7"}, {"role": "assistant", "content": "ONE"}]},
            Completion("ONE", tool_calls=(REPLY,), messages=(USER, CALLING, {"role": "tool", "content": "7"})),
        ),
        (
            {"messages": [USER, CALLING, USER, {"role": "assistant", "content": [{"type": "text", "text": "ONE"}]}]},
            Completion("ONE", messages=(USER, CALLING, USER)),
        ),
        ({"messages": [USER], "output": "ONE"}, Completion("ONE", messages=(USER,))),
    ],
)
def test_a_mapping_has_output_messages_tool_calls_and_usage(returned: Any, completion: Completion) -> None:
    rows = run(f"def answer(input): return {returned!r}")
    assert rows["a"].answer.latency_s is not None
    assert replace(rows["a"].answer, latency_s=None) == completion


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"answer": "ONE"}, "returned a mapping with the key 'answer'; it takes output, messages, tool_calls, usage"),
        ({"ouptut": "ONE"}, "with the key 'ouptut'; did you mean 'output'?"),
        ({"usage": {}}, "returned a mapping without 'output'"),
        ({"output": 7}, "whose 'output' is a int; it should be text"),
        ({"output": "x", "tool_calls": [7]}, "whose 'tool_calls' cannot be read: 7 is no tool call"),
        ({"messages": [{"content": "x"}]}, "whose 'messages' has a message 1 without a role"),
        (
            {"output": "x", "usage": {"input_tokens": "many"}},
            "whose 'usage' has input_tokens = 'many', which is no number",
        ),
        ({"output": "x", "usage": 7}, "whose 'usage' is a int; it should be a mapping"),
    ],
)
def test_a_wrong_mapping_fails_its_row(returned: Any, said: str) -> None:
    answer = run(f"def answer(input): return {returned!r}")["a"].answer
    assert isinstance(answer, Failure) and said in answer.message
