"""Checks by scorers of tool calls, measurements, and models that embed or moderate."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalrunner.runs.row_log import read_rows
from tests.cases.suites import command
from tests.fakes.server import Action, Answer, ScriptedServer, Status
from tests.scorers.test_embedding_and_moderation import KEY, embed


def script(request: Any, nth: int) -> Action:
    """A model that calls a tool where the question is about the weather; it moderates and embeds too."""
    if "messages" not in request:
        if "moderation" in request["model"]:
            flags = [
                {"flagged": "kill" in text, "categories": {"violence": "kill" in text}} for text in request["input"]
            ]
            return Status(200, {"model": "m", "results": flags})
        return embed(request, nth)
    question = request["messages"][-1]["content"]
    if "weather" not in question:
        return Answer(question)
    function = {"name": "get_weather", "arguments": '{"city": "Paris", "days": 3}'}
    return Answer(None, "tool_calls", message={"tool_calls": [{"id": "c", "type": "function", "function": function}]})


def run(rows: list[dict[str, Any]], **keys: Any) -> tuple[Any, dict[str, dict[str, Any]], ScriptedServer]:
    with ScriptedServer(script) as server:
        suite = {
            "name": "c", "dataset": {"rows": rows},
            "target": {"name": "m", "model": "m", "base_url": server.base_url, "prices": {"input": 1, "output": 1}}, **keys,
        }  # fmt: skip
        Path("c.yaml").write_text(json.dumps(suite).replace("SERVER", server.base_url))
        done = command("run", "c.yaml")
    if done.code == 2:
        return done, {}, server
    folder = max(Path("runs").rglob("run.json"), key=lambda path: path.stat().st_mtime_ns).parent
    return done, {row.sample.id: dict(row.cells) for row in read_rows(folder)}, server


def test_rows_check_their_tool_calls_also_where_there_is_no_text() -> None:
    weather = "What is the weather in Paris?"
    rows = [
        {"id": "all", "input": weather, "days": 3, "checks": [{"tool_calls": [{"get_weather": {"city": "Paris", "days": "{{ days }}"}}]}]},
        {"id": "wrong", "input": weather, "checks": [{"tool_calls": [{"get_weather": {"city": "Rome"}}], "match": "subset"}]},
        {"id": "name", "input": weather, "checks": [{"tool_calls": "get_weather"}, {"latency_under": 60}, {"cost_under": 1}]},
        {"id": "not", "input": "Hi", "checks": [{"not_tool_calls": "get_weather"}, {"tool_calls": []}, {"contains": "Hi"}]},
        {"id": "text", "input": weather, "checks": [{"tool_calls": "get_weather"}, {"contains": "sunny"}]},
        {"id": "f1", "input": weather, "checks": [{"type": "tool_calls", "expected": ["get_weather", "get_time"], "match": "f1", "threshold": 0.6}]},
    ]  # fmt: skip
    done, found, _ = run(rows)
    assert found, done.err
    assert {name: cells["checks"].value for name, cells in found.items()} == {
        "all": 1.0, "wrong": 0.0, "name": 1.0, "not": 1.0, "text": None, "f1": 1.0
    }, {name: cells["checks"] for name, cells in found.items()}  # fmt: skip
    assert (found["text"]["checks"].state, found["text"]["checks"].cause) == ("unscored", "no_answer")
    explained = found["wrong"]["checks"].detail["checks"][0]
    assert explained["explanation"].startswith('missing: get_weather({"city": "Rome"})')


def test_checks_ask_models_that_embed_or_moderate_once_for_each_text() -> None:
    model = {"model": "embedder", "base_url": "SERVER", "name": "near"}
    rows = [
        {"id": "near", "input": "It is Paris", "expected": "Paris", "rating": 4, "checks": [{"column": "rating", "threshold": 3}]},
        {"id": "far", "input": "Rome", "expected": "Paris", "rating": "2", "checks": [{"column": "rating", "threshold": 3}]},
        {"id": "same", "input": "Paris", "expected": "Paris", "checks": [{"embedding_similarity": "Lyon", "model": "near", "threshold": 0.5}], "rating": None},
    ]  # fmt: skip
    checks = [
        {"type": "embedding_similarity", "model": model, "threshold": 0.55, "name": "similar"},
        {"type": "moderation", "model": {"model": "moderation", "base_url": "SERVER"}, "name": "clean"},
    ]
    done, found, server = run(rows, checks=checks)
    assert found, done.err
    assert {name: cells["similar"].value for name, cells in found.items()} == {"near": 1.0, "far": 0.0, "same": 1.0}
    assert {name: cells["clean"].value for name, cells in found.items()} == {"near": 1.0, "far": 1.0, "same": 1.0}
    assert {name: cells["checks"].value for name, cells in found.items()} == {"near": 1.0, "far": 0.0, "same": 0.0}
    sent = Counter(
        (request.path, text)
        for request in server.requests
        if request.json.get("input")
        for text in request.json["input"]
    )
    assert set(sent.values()) == {1}, sent


def test_check_by_similarity_needs_a_threshold_because_models_differ() -> None:
    rows = [{"input": "Rome", "expected": "Paris"}]
    checks = [{"type": "embedding_similarity", "model": {"model": "embedder", "base_url": "SERVER"}}]
    done, _, server = run(rows, checks=checks)
    assert done.code == 2 and "threshold" in done.err and server.calls == 0, done.err


def test_model_of_a_check_is_listed_limited_and_its_key_is_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_KEY", KEY)
    literal = "sk-literal-9876543210fedcba"

    def refuse(request: Any, nth: int) -> Action:
        sent = server.requests[-1].headers
        return Status(400, {"error": {"message": f"no {sent['authorization']} {sent.get('x-token')}"}})

    with ScriptedServer(refuse) as server:
        model = {"model": "e", "base_url": server.base_url, "api_key": "${EMBED_KEY}", "headers": {"x-token": literal}}
        checks = [{"any": [{"type": "embedding_similarity", "threshold": 0.5, "model": model, "name": "similar"}]}]
        data = {"rows": [{"input": "Rome", "expected": "Paris", "answer": "Rome"}]}
        suite = {"name": "c", "dataset": data, "target": {"type": "recorded", "column": "answer"}, "checks": checks}
        Path("c.yaml").write_text(json.dumps(suite))
        listed = command("plan", "c.yaml", "--endpoints")
        assert f"{server.base_url.removesuffix('/v1')}\n    for: model of checks" in listed.out
        assert "EMBED_KEY (api_key), literal value in the suite (header x-token)" in listed.out
        for args in (
            ["--untrusted"],
            ["--untrusted", "--allow-host", "other.example"],
            ["--allow-host", "other.example"],
        ):
            refused = command("run", "c.yaml", *args)
            assert refused.code == 2 and server.calls == 0 and "127.0.0.1" in refused.err, refused.err
        done = command("run", "c.yaml", "-o", "report.html", "-o", "table.csv", "-v")
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    Path("c.yaml").unlink()
    for secret in (KEY, literal):
        assert secret not in listed.out + done.out + done.err
        for path in Path().rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_examples_of_a_check_replace_the_general_check_of_its_judge() -> None:
    def judge(request: Any, _nth: int) -> Action:
        text = request["messages"][-1]["content"]
        if request["model"] == "m":
            return Answer("Gladly.")
        verdict = "fail" if "Go away" in text else "pass"
        return Answer(json.dumps({"reasons": "r", "verdict": verdict}))

    examples = [{"answer": "Go away.", "verdict": "fail"}, {"answer": "With pleasure.", "verdict": "pass"}]
    with ScriptedServer(judge) as server:
        model = {"model": "m", "base_url": server.base_url}
        suite = {
            "name": "c", "dataset": {"rows": [{"input": "a"}, {"input": "b", "checks": [{"rubric": "Is kind.", "examples": examples, "name": "kind"}]}]},
            "target": model, "judge": {**model, "model": "j"}, "checks": [{"rubric": "Is polite.", "examples": examples, "name": "polite"}],
        }  # fmt: skip
        Path("c.yaml").write_text(json.dumps(suite))
        done = command("run", "c.yaml", "--json")
    assert done.code == 0, done.err
    (target,) = json.loads(done.out)["targets"].values()
    assert {item["name"]: item["value"] for item in target["metrics"] if item["scorer"] in ("polite", "kind")} == {
        "polite/v1/mean": 1.0,
        "kind/v1/mean": 1.0,
    }
