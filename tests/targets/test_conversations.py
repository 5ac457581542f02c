"""Conversations: `turns:` with models, functions, services and programs, in whole runs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure
from evalrunner.errors import SuiteError
from evalrunner.runs.row_log import read_rows
from tests.fakes.command import command_env, evalrun
from tests.fakes.server import Answer, ScriptedServer, Status

ASK = ["I live in {n}.", "Say hello.", "Where do I live?"]


def rows(count: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "id": f"c{n}",
            "turns": [text.replace("{n}", f"City{n}") for text in ASK],
            "expected": f"City{n}",
            "checks": [{"contains": "hello", "turn": 2}],
        }
        for n in range(count)
    ]


def reply(request: Mapping[str, Any], nth: int) -> Answer | Status:
    """What a model that reads its history says."""
    users = [message["content"] for message in request["messages"] if message["role"] == "user"]
    last = users[-1]
    if "hello" in last:
        return Answer("hello, reader")
    return Answer(users[0].split()[-1].rstrip(".") if "Where" in last else "noted")


def write(target: Any, *, data: Any = None, **keys: Any) -> str:
    suite: dict[str, Any] = {
        "name": "talk",
        "dataset": {"rows": rows() if data is None else data, "columns": {"input": "turns"}},
        "turns": "turns",
        "target": target,
        "scorers": ["contains"],
        "run": {"retries": 0},
        **keys,
    }
    Path("talk.yaml").write_text(json.dumps(suite))
    return "talk.yaml"


def model(server: ScriptedServer, **keys: Any) -> dict[str, Any]:
    return {"model": "m", "base_url": server.base_url, **keys}


def run(target: Any, **keys: Any) -> dict[str, Any]:
    result = evalrunner.run_suite(write(target, **keys))
    return {row.sample.id: row for row in read_rows(result.folder)}


def test_each_answer_is_in_the_history_of_the_next_turn() -> None:
    with ScriptedServer(reply) as server:
        answers = run(model(server, name="bot", prices={"input": 1, "output": 1}))
        sent = [request.json["messages"] for request in server.requests]
    assert sorted(len(messages) for messages in sent) == [1, 1, 3, 3, 5, 5]
    answer = answers["c1"].answer
    assert answer.text == "City1"
    history = [
        {"role": "user", "content": "I live in City1."},
        {"role": "assistant", "content": "noted"},
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": "hello, reader"},
        {"role": "user", "content": "Where do I live?"},
    ]
    assert list(answer.messages) == history
    assert (answer.input_tokens, answer.output_tokens) == (30, 6)
    assert answer.cost_usd == pytest.approx(36e-6)
    assert answer.latency_s == pytest.approx(sum(turn["latency_s"] for turn in answer.turns))
    assert [turn["output"] for turn in answer.turns] == ["noted", "hello, reader", "City1"]
    assert {name: cell.value for name, cell in answers["c1"].cells.items()} == {
        "contains": 1,
        "checks": 1,
        "checks/share": 1,
    }


def test_the_prompt_stands_before_the_first_turn_and_its_last_message_around_each() -> None:
    with ScriptedServer(reply) as server:
        run(model(server), data=rows(1), prompt=[{"system": "Be brief."}, {"user": "Q: {{ input }}"}])
        messages = server.requests[-1].json["messages"]
    assert [message["content"] for message in messages] == [
        "Be brief.", "Q: I live in City0.", "noted", "Q: Say hello.", "hello, reader", "Q: Where do I live?",
    ]  # fmt: skip


def test_a_failed_turn_ends_the_row_as_an_error() -> None:
    def script(request: Mapping[str, Any], nth: int) -> Answer | Status:
        return (
            Status(400, {"error": {"message": "no"}})
            if "hello" in request["messages"][-1]["content"]
            else reply(request, nth)
        )

    with ScriptedServer(script) as server:
        row = run(model(server), data=rows(1))["c0"]
        assert server.calls == 2
    assert isinstance(row.answer, Failure)
    assert row.answer.kind == "bad_request" and row.answer.message.startswith("turn 2 of 3: ")
    assert [message["content"] for message in row.answer.messages] == ["I live in City0.", "noted", "Say hello."]
    assert row.cells["contains"].state == "error"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_incomplete_answer_ends_the_conversation(reason: str) -> None:
    with ScriptedServer(lambda request, nth: Answer("well", reason)) as server:
        row = run(model(server), data=rows(1))["c0"]
        assert server.calls == 1
    assert isinstance(row.answer, Completion) and not row.answer.answered
    assert row.cells["contains"].cause == "no_answer"


def test_an_answer_of_tool_calls_alone_has_no_next_turn() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "go", "arguments": "{}"}}
    with ScriptedServer(lambda request, nth: Answer(None, "tool_calls", message={"tool_calls": [call]})) as server:
        answer = run(model(server), data=rows(1))["c0"].answer
    assert (
        isinstance(answer, Failure)
        and answer.message == "turn 1 of 3: the answer only calls tools, and evalrun runs none"
    )


def test_reasoning_is_not_sent_back() -> None:
    with ScriptedServer(lambda request, nth: Answer(f"<think>secret {nth}</think>fine")) as server:
        run(model(server), data=rows(1))
        assert "secret" not in json.dumps(server.requests[-1].json)


FUNCTION = """\
sessions = {}
def answer(input, conversation):
    seen = sessions.setdefault(conversation["session"], [])
    seen.append(input)
    assert len(seen) == conversation["turn"] and len(conversation["history"]) == 2 * len(seen) - 2
    return "hello" if "hello" in input else seen[0].split()[-1]
"""


def test_a_function_may_keep_a_session() -> None:
    Path("app.py").write_text(FUNCTION)
    answers = run({"type": "python", "function": "app.py:answer"})
    assert [row.answer.text for _, row in sorted(answers.items())] == ["City0.", "City1."]
    assert all(row.cells["checks"].value == 1 for row in answers.values())


def test_a_program_gets_session_and_history() -> None:
    Path("app.py").write_text(
        "import json, sys; q = json.load(sys.stdin); print(sys.argv[1] != '', len(q['about']['history']), q['ask'])"
    )
    target = {
        "type": "command",
        "command": [sys.executable, "app.py", "--s={{ conversation.session }}"],
        "stdin": {"about": "{{ conversation }}", "ask": "{{ input }}"},
    }
    answer = run(target, data=rows(1))["c0"].answer
    outputs = [turn["output"] for turn in answer.turns]
    assert outputs == ["True 0 I live in City0.", "True 2 Say hello.", "True 4 Where do I live?"]


def test_checks_and_expressions_see_any_turn() -> None:
    data = rows(1)
    data[0]["checks"] = [
        {"contains": "hello", "turn": 2}, {"exact_match": "noted", "turn": 1}, {"not_contains": "hello"},
        {"expr": "conversation[1].output == 'hello, reader' and conversation|length == 3"}, {"type": "contains", "value": "City0", "turn": 3},
    ]  # fmt: skip
    with ScriptedServer(reply) as server:
        row = run(model(server), data=data, checks=[{"contains": "x", "turn": 4}])["c0"]
    checks = row.cells["checks"].detail["checks"]
    assert [check["state"] for check in checks].count("scored") == 5
    assert [check["passed"] for check in checks if check["state"] == "scored"] == [True] * 5
    assert [check.get("reason") for check in checks if check["state"] == "skipped"] == [
        "the conversation has no such turn"
    ]


def test_table_and_report_have_every_turn() -> None:
    with ScriptedServer(reply) as server:
        run(model(server), data=rows(1))
    (table,) = Path("runs").rglob("table.csv")
    with table.open(newline="") as file:
        (record,) = csv.DictReader(file)
    conversation = json.loads(record["conversation"])
    assert [message["content"] for message in conversation][1::2] == ["noted", "hello, reader", "City0"]
    (report,) = Path("runs").rglob("report.html")
    assert all(text in report.read_text() for text in ("noted", "hello, reader", "City0"))


@pytest.mark.parametrize(
    ("data", "keys", "said"),
    [
        ([{"id": "a", "turns": [], "expected": "x"}], {}, "has 0 messages in 'turns'"),
        ([{"id": "a", "turns": ["x", ""], "expected": "x"}], {}, "has a message 2 in 'turns' that is neither text nor"),
        ([{"id": "a", "turns": "x", "expected": "x"}], {}, "has no list of messages in 'turns'"),
        ([{"id": "a", "turns": ["x"], "expected": "x"}], {"turns": "turn"}, "has no column 'turn' for 'turns'; did you mean 'turns'?"),
        ([{"id": "a", "turns": ["x"], "expected": "x", "checks": [{"contains": "x", "turn": 2}]}], {}, "turn is 2, but the conversation has 1"),
        ([{"id": "a", "turns": ["x"], "expected": "x", "checks": [{"contains": "x", "turn": 0}]}], {}, "it should be the number of a turn, from 1"),
        ([{"id": "a", "turns": ["x"], "expected": "x"}], {"turns": None, "checks": [{"contains": "x", "turn": 1}]}, "'turn' is for conversations"),
        ([{"id": "a", "turns": ["x"], "expected": "x"}], {"prompt": [{"user": "{{ input }}"}, {"assistant": "So"}]}, "should end with a message of the user"),
        ([{"id": "a", "turns": ["x"], "expected": "x"}], {"target": {"type": "recorded", "column": "turns"}}, "a column has one answer, and no conversation"),
    ],
)  # fmt: skip
def test_wrong_turns_are_reported_before_the_first_call(data: Any, keys: Mapping[str, Any], said: str) -> None:
    with ScriptedServer(reply) as server:
        with pytest.raises(SuiteError) as error:
            evalrunner.run_suite(write(**{"target": model(server), "data": data, **keys}))
        assert server.calls == 0
    assert said in str(error.value)


def test_turns_of_a_csv_file_are_json() -> None:
    Path("talk.csv").write_text('id,turns,expected\na,"[""I live in Rome"", ""Where do I live?""]",Rome\n')
    with ScriptedServer(reply) as server:
        row = run(model(server), dataset={"path": "talk.csv", "columns": {"input": "turns"}})["a"]
    assert row.answer.text == "Rome" and len(row.answer.turns) == 2


def test_plan_counts_every_turn() -> None:
    with ScriptedServer(reply) as server:
        write(model(server))
        done = evalrun("plan", "talk.yaml", "--offline")
        assert server.calls == 0
    assert "target m: 6 calls" in done.stdout


def figures(folder: Path) -> dict[str, Any]:
    """What a run says about its rows, without times."""
    texts = {
        (row.sample.id, row.epoch): (
            row.answer.messages, row.answer.message if isinstance(row.answer, Failure) else [(turn["input"], turn["output"]) for turn in row.answer.turns],
            {name: (cell.state, cell.value) for name, cell in row.cells.items()},
        )
        for row in read_rows(folder)
    }  # fmt: skip
    targets = json.loads((folder / "metrics.json").read_text())["targets"]
    metrics = [
        metric for metric in targets["m"]["metrics"] if metric["scorer"] in ("contains", "checks", "checks/share")
    ]
    return {"rows": texts, "metrics": metrics}


def test_ten_conversations_resumed_after_a_kill_equal_an_undisturbed_run() -> None:
    """One of the ten fails in its second turn."""
    slow = [0.0]

    def script(request: Mapping[str, Any], nth: int) -> Answer | Status:
        time.sleep(slow[0])
        users = [message["content"] for message in request["messages"] if message["role"] == "user"]
        if "City7" in users[0] and len(users) == 2:
            return Status(400, {"error": {"message": "no such turn"}})
        return reply(request, nth)

    keys = {"data": rows(10), "run": {"retries": 0, "concurrency": 2}, "cache": "all"}
    with ScriptedServer(script) as server:
        write(model(server), **keys)
        env = {"EVALRUN_CACHE_DIR": str(Path("cache-one").absolute())}
        undisturbed = evalrun("talk.yaml", "--output-dir", "whole", env=env)
        whole = server.calls
        slow[0] = 0.15
        env = {"EVALRUN_CACHE_DIR": str(Path("cache-two").absolute())}
        process = subprocess.Popen(
            [sys.executable, "-m", "evalrunner", "talk.yaml", "--output-dir", "cut"],
            env=command_env(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while server.calls < whole + 11 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        slow[0] = 0.0
        (folder,) = (path for path in Path("cut/talk").iterdir() if path.is_dir() and not path.is_symlink())
        before = sum(1 for _ in read_rows(folder))
        resumed = evalrun("run", "talk.yaml", "--resume", str(folder), "--output-dir", "cut", env=env)
    assert 0 < before < 10
    assert resumed.returncode == undisturbed.returncode, resumed.stderr
    (other,) = (path for path in Path("whole/talk").iterdir() if path.is_dir() and not path.is_symlink())
    assert figures(folder) == figures(other)
    rows_of = figures(other)["rows"]
    assert len(rows_of) == 10 and str(rows_of["c7", 1][1]).startswith("turn 2 of 3: ")
