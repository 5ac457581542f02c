"""Every scorer of autoevals in a suite, run through the command line against a scripted judge and model."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrunner.runs.provenance import scorer_changes
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.autoevals_catalogue import CLASSIFIER, entries, scorer_classes
from tests.cases.suites import command
from tests.fakes.server import Action, Answer, ScriptedServer, Status
from tests.scorers.test_autoevals_scorers import arguments, vector, verdict

SECRET = "sk-of-the-environment-0123456789"
ROWS = [
    {
        "id": f"r{place}", "input": f"What is {place} + {place}?", "expected": str(2 * place), "answer": f"It is {2 * place + place % 2}.",
        "context": [f"{place} + {place} = {2 * place}", "Numbers are old."], "criteria": "Is a number.", "language": "German",
    }
    for place in range(1, 4)
]  # fmt: skip


def given(request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The arguments that the scripted judge gives for a request."""
    function = request["tools"][0]["function"]
    rng = random.Random(request["messages"][0]["content"])
    return function["name"], arguments(function["parameters"], rng)


def script(request: Any, nth: int) -> Action:
    if "messages" in request:
        name, reply = given(request)
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(reply)}}
        return Answer(None, "tool_calls", message={"tool_calls": [call]})
    texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
    if "moderation" in request["model"]:
        return Status(200, {"id": "m", "model": "moderation", "results": [verdict(text) for text in texts]})
    data = [{"index": place, "embedding": vector(text)} for place, text in enumerate(texts)]
    return Status(200, {"model": "embedder", "data": data, "usage": {"prompt_tokens": 3}})


def package_client() -> Any:
    """A client of autoevals' own kind that is scripted alike."""
    from autoevals.oai import LLMClient

    class Client(LLMClient):  # type: ignore[misc]
        def __init__(self) -> None:
            self.is_async, self._is_wrapped, self.RateLimitError = True, False, KeyboardInterrupt

        async def complete(self, **request: Any) -> dict[str, Any]:
            name, reply = given(request)
            call = {"function": {"name": name, "arguments": json.dumps(reply)}}
            return {"choices": [{"message": {"tool_calls": [call]}}]}

        async def embed(self, *, input: str, **rest: Any) -> dict[str, Any]:
            return {"data": [{"embedding": vector(input)}]}

        async def moderation(self, *, input: str, **rest: Any) -> dict[str, Any]:
            return {"results": [verdict(input)]}

    return Client()


def by_the_package(name: str, row: Mapping[str, Any]) -> float:
    entry = next(entry for entry in entries() if entry.name == name)
    if name == "ValidJSON":
        return float(scorer_classes()[name]().valid_json(row["answer"]))
    if entry.reads == "number":
        return float(scorer_classes()[name]().eval(int(row["answer"][6:-1]), int(row["expected"])).score)
    if entry.reads == "list":
        return float(scorer_classes()[name]().eval([row["answer"]], [row["expected"]]).score)
    values = {"instructions": row["input"], **row, "context": "\n".join(row["context"]), "output": row["answer"]}
    calls = entry.asks_judge or entry.asks_model
    scorer = scorer_classes()[name](**({"client": package_client()} if calls else {}))
    return float(asyncio.run(scorer.eval_async(**values)).score)


def test_every_scorer_in_one_run_gives_the_values_of_the_package_and_calls_one_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "BRAINTRUST_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    hosts: set[Any] = set()
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: (hosts.add(address), connect(self, address))[1])
    known = list(entries())
    with ScriptedServer(script) as server:
        model = {"base_url": server.base_url, "api_key": "none"}
        asked = {True: {"model": "moderation", **model}, False: {"model": "embedder", **model}}
        suite = {
            "name": "all",
            "dataset": {"rows": ROWS},
            "target": {"type": "recorded", "column": "answer"},
            "judge": {"model": "judge", **model},
            "judge_check": "off",
            "run": {"allow_hosts": [server.base_url.split("/")[2]]},
            "scorers": [
                {"type": "autoevals", "name": entry.name} | ({"model": asked[entry.name == "Moderation"]} if entry.asks_model else {})
                for entry in known
            ] + [{"type": "autoevals", "name": "polite", "scorer": CLASSIFIER, "prompt": "{{output}} in {{language}}?", "choices": {"Yes": 1, "No": 0}}],
        }  # fmt: skip
        Path("s.yaml").write_text(json.dumps(suite))
        done = command("run", "s.yaml")
    assert done.code == 0, done.err + done.out
    folder = max(path.parent for path in Path("runs").rglob("run.json"))
    rows = {row.sample.id: row for row in read_rows(folder)}
    for row in ROWS:
        cells = rows[row["id"]].cells
        for entry in known:
            cell = cells[entry.name]
            assert cell.value == pytest.approx(by_the_package(entry.name, row), abs=1e-12), (entry.name, cell)
            assert bool(cell.calls) == (entry.asks_judge or entry.asks_model)
        assert cells["polite"].value in (0, 1)
    assert {request.path for request in server.requests} == {
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/moderations",
    }
    assert all(SECRET not in json.dumps([request.headers, request.json]) for request in server.requests)
    assert {address[1] for address in hosts if isinstance(address, tuple)} <= {
        int(server.base_url.split(":")[2].split("/")[0])
    }
    names = [request.json["tools"][0]["function"]["name"] for request in server.requests if "messages" in request.json]
    assert names.count("generate_question") == 3 * len(ROWS)  # equal requests, each for a question of its own
    record = json.loads((folder / "run.json").read_text())
    assert record["judges"]["ClosedQA"]["usage"]["calls"] == 3


def run(scorers: list[Any], rows: list[Any] = ROWS, **keys: Any) -> Any:
    target = {"type": "recorded", "column": "answer"}
    Path("s.yaml").write_text(
        json.dumps({"name": "s", "dataset": {"rows": rows}, "target": target, "scorers": scorers, **keys})
    )
    return command("plan", "s.yaml")


JUDGE = {"model": "j", "base_url": "http://127.0.0.1:9/v1"}
REFUSED = [
    ({"type": "autoevals", "name": "ClosedQ"}, "autoevals has no scorer 'ClosedQ'; did you mean 'ClosedQA'?"),
    ("autoevals", "needs 'scorer' (text)"),
    (
        {"type": "autoevals", "scorer": "Faithfulness", "columns": {"context": "passage"}},
        "there is no column 'passage'",
    ),
    ({"type": "autoevals", "scorer": "EmbeddingSimilarity"}, "asks a model; name it"),
    ({"type": "autoevals", "scorer": "Levenshtein", "model": "openai/e"}, "does not use a model"),
    ({"type": "autoevals", "scorer": "Levenshtein", "judge": "openai/e"}, "does not use a judge"),
]


@pytest.mark.parametrize(("scorer", "message"), REFUSED)
def test_a_wrong_scorer_is_an_error_of_the_suite_before_the_first_call(
    scorer: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run([scorer], judge=JUDGE)
    assert done.code == 2 and message in done.err, done.err


def test_a_row_without_a_column_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [ROWS[0], {name: value for name, value in ROWS[1].items() if name != "context"}]
    done = run([{"type": "autoevals", "scorer": "Faithfulness"}], rows, judge=JUDGE)
    assert done.code == 2 and "Faithfulness: needs 'context', but there is no column 'context'" in done.err
    place = Path("s.yaml").read_text().index('{"id": "r2"') + 1
    assert f"s.yaml:1:{place}:" in done.err


def test_the_plan_shows_the_judge_and_the_model_of_a_scorer_and_counts_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = {"model": "e", "base_url": "http://127.0.0.1:8/v1"}
    done = run([{"type": "autoevals", "scorer": "ContextEntityRecall", "model": model}], judge=JUDGE)
    assert done.code == 0, done.err
    assert "judge j at http://127.0.0.1:9/v1; model e at http://127.0.0.1:8/v1" in done.out
    assert "judge of ContextEntityRecall: 6 calls" in done.out
    assert "model of ContextEntityRecall (e): 6 calls" in done.out


def test_the_calls_of_the_model_besides_a_judge_are_counted_and_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ScriptedServer(script) as server:
        model = {"model": "embedder", "base_url": server.base_url}
        keys = {
            "dataset": {"rows": ROWS},
            "target": {"type": "recorded", "column": "answer"},
            "judge": {"model": "judge", "base_url": server.base_url},
            "prices": {"judge": {"input": 1, "output": 2}, "embedder": {"input": 5, "output": 0}},
            "scorers": [{"type": "autoevals", "name": "AnswerCorrectness", "model": model}],
        }
        Path("s.yaml").write_text(json.dumps({"name": "s", **keys}))
        done = command("run", "s.yaml")
        assert done.code == 0, done.err
        (folder,) = (path.parent for path in Path("runs").rglob("run.json"))
        assert command("run", "s.yaml").code == 0
        assert server.calls == 3 + 6  # the second run reads the cache
    before = RunRecord.load(folder).provenance
    assert scorer_changes(before, before, "AnswerCorrectness") == []
    other = replace(before.judges["AnswerCorrectness (embedder)"], model="another")
    changed = replace(before, judges={**before.judges, "AnswerCorrectness (embedder)": other})
    assert "'embedder' → 'another'" in str(scorer_changes(before, changed, "AnswerCorrectness"))
    assert before.scorer_definition("AnswerCorrectness") != changed.scorer_definition("AnswerCorrectness")
    judges = json.loads((folder / "run.json").read_text())["judges"]
    judge, embedder = judges["AnswerCorrectness"], judges["AnswerCorrectness (embedder)"]
    assert (judge["role"], embedder["role"], embedder["model"]) == ("judge", "model", "embedder")
    assert (judge["usage"]["calls"], embedder["usage"]["calls"]) == (3, 6)
    assert embedder["usage"]["cost_usd"] == pytest.approx(6 * 3 * 5e-6)  # 3 tokens a text
    assert sum(call.cost_usd or 0 for row in read_rows(folder) for call in row.cells["AnswerCorrectness"].calls) == (
        pytest.approx(judge["usage"]["cost_usd"] + embedder["usage"]["cost_usd"])
    )


def test_as_checks_they_ask_judges_and_models_and_criteria_are_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ScriptedServer(script) as server:
        model = {"model": "embedder", "base_url": server.base_url}
        checks = [
            {"type": "autoevals", "name": "AnswerCorrectness", "threshold": 0.4, "model": model},
            {"type": "autoevals", "name": "ClosedQA", "criteria": "Is in {{ language }}.", "where": {"id": "r1"}},
            {"not_autoevals": "ValidJSON"},
            {"type": "autoevals", "scorer": "Levenshtein", "threshold": 0.9, "name": "near"},
        ]
        rows = [{name: value for name, value in row.items() if name != "criteria"} for row in ROWS]
        target = {"type": "recorded", "column": "answer"}
        judge = {"model": "judge", "base_url": server.base_url}
        suite = {"name": "s", "dataset": {"rows": rows}, "target": target, "judge": judge, "checks": checks}
        Path("s.yaml").write_text(json.dumps(suite))
        done = command("run", "s.yaml")
    assert done.code == 0, done.err + done.out
    folder = max(path.parent for path in Path("runs").rglob("run.json"))
    for row in read_rows(folder):
        values = {check["text"]: check["value"] for check in (row.cells["checks"].detail or {})["checks"]}
        original = next(item for item in ROWS if item["id"] == row.sample.id)
        right = by_the_package("AnswerCorrectness", original)
        assert row.cells["AnswerCorrectness"].value == float(right >= 0.4)
        assert pytest.approx(right, abs=1e-12) in list(values.values())
        assert row.cells["near"].value == float(by_the_package("Levenshtein", original) >= 0.9)
        assert (row.cells["ClosedQA"].value is not None) == (row.sample.id == "r1")
    prompts = [request.json["messages"][0]["content"] for request in server.requests if "messages" in request.json]
    assert [prompt for prompt in prompts if "[Criterion]: Is in German.\n" in prompt]
    assert {request.path for request in server.requests} == {"/v1/chat/completions", "/v1/embeddings"}


def test_rate_limits_are_retried_as_the_suite_says_and_unreadable_replies_are_unscored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """autoevals itself would retry a hundred times, with a wait of hours."""
    monkeypatch.chdir(tmp_path)
    seen: set[str] = set()

    def limited(request: Any, nth: int) -> Action:
        key = json.dumps(request, sort_keys=True)
        if "r3 is always limited" in key or key not in seen:
            seen.add(key)
            return Status(429, {"error": {"message": "slow down"}}, headers={"retry-after": "0"})
        return Answer("I would rather not say.") if "unreadable" in key else script(request, nth)

    with ScriptedServer(limited) as server:
        model = {"model": "embedder", "base_url": server.base_url}
        scorers = [
            {"type": "autoevals", "name": "ClosedQA"},
            {"type": "autoevals", "name": "EmbeddingSimilarity", "model": model},
        ]
        rows = [ROWS[0], {**ROWS[1], "criteria": "unreadable"}, {**ROWS[2], "criteria": "r3 is always limited"}]
        judge = {"model": "judge", "base_url": server.base_url}
        target = {"type": "recorded", "column": "answer"}
        run_keys = {"retries": 2}
        suite = {
            "name": "s",
            "dataset": {"rows": rows},
            "target": target,
            "judge": judge,
            "scorers": scorers,
            "run": run_keys,
        }
        Path("s.yaml").write_text(json.dumps(suite))
        done = command("run", "s.yaml")
    folder = max(path.parent for path in Path("runs").rglob("run.json"))
    cells = {row.sample.id: row.cells for row in read_rows(folder)}
    assert {name: cell["ClosedQA"].state for name, cell in cells.items()} == {
        "r1": "scored", "r2": "unscored", "r3": "error"
    }, done.err  # fmt: skip
    assert (cells["r2"]["ClosedQA"].cause, cells["r3"]["ClosedQA"].cause) == ("judge", "rate_limit")
    assert {cell["EmbeddingSimilarity"].state for cell in cells.values()} == {"scored"}
    prompts = [request.json for request in server.requests if "r3 is always limited" in json.dumps(request.json)]
    assert len(prompts) == 3  # one call and two retries


def test_factuality_of_autoevals_is_checked_with_known_answers_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scorers = [{"type": "autoevals", "name": "Factuality"}, {"type": "autoevals", "name": "Sql"}]
    done = run(scorers, judge=JUDGE)
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("  scorer ")]
    assert ["sanity check" in line for line in lines] == [True, False]
