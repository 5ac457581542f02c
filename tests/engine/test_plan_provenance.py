"""The provenance of a plan: everything that changes the meaning of rows, no secrets, and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.commands.run import Session, plan_suite
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.middleware.deadline import StopSignal
from evalrunner.runs.provenance import differences

SUITE = """
name: defined
dataset:
  path: data.jsonl
  columns: {input: q, expected: {column: answers, split: "|"}}
  where: {split: test}
prompt: [{system: "Answer."}, {user: "{{ input }}"}]
targets:
  - name: gateway
    model: m
    base_url: "http://me:geheim99@127.0.0.1:9/v1"
    api_key: sk-definition-key
    headers: {x-team: sk-header-key}
    params: {temperature: 0, extra_headers: {authorization: sk-param-key}, api_key: sk-param-key2}
  - {type: python, function: "app.py:answer", args: {token: abc, password: geheim11}}
judge: {model: judge-1, base_url: "http://127.0.0.1:9/v1", params: {seed: 1}}
scorers:
  - exact_match
  - factuality
  - {type: python, name: polite, function: "tone.py:polite"}
  - {type: "own.py:own", on_no_answer: zero, version: v3}
gates: [exact_match >= 0.5]
run: {seed: 3, epochs: 2}
"""


@pytest.fixture(autouse=True)
def files() -> None:
    Path("s.yaml").write_text(SUITE)
    rows = [{"q": f"{n}?", "answers": "a|b", "split": "test" if n < 3 else "train"} for n in range(5)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("app.py").write_text("def answer(input, token, password): return 'a'\n")
    Path("tone.py").write_text("def polite(output) -> bool: return True\n")
    Path("own.py").write_text("def own(*, low: float = 0.5):\n    return lambda output: low\n")


def define(suite: str = "s.yaml", **options: Any) -> dict[str, Any]:
    async def plan() -> dict[str, Any]:
        async with EndpointPool() as pool:
            session = Session(evalrunner.RunOptions(**options), StopSignal())
            return plan_suite(suite, session, pool, Path()).provenance.definition()

    return asyncio.run(plan())


def edit(old: str, new: str, file: str = "s.yaml") -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def test_definition_is_plain_json_without_secrets() -> None:
    result = define()
    text = json.dumps(result)
    assert json.loads(text) == result
    for secret in ("geheim", "sk-"):
        assert secret not in text
    assert result["dataset"] == {
        "digest": result["dataset"]["digest"],
        "rows": 3,
        "columns": {"input": {"column": "q"}, "expected": {"column": "answers", "split": "|"}},
        "where": {"split": "test"},
        "sample": None,
        "by": None,
        "shuffle": None,
        "offset": 0,
        "limit": None,
        "shard": None,
    }
    hidden = {"extra_headers": {"authorization": "[redacted]"}, "api_key": "[redacted]"}
    assert result["targets"]["gateway"] == {
        "type": "model",
        "options": None,
        "args": {},
        "files": {},
        "model": "m",
        "host": "http://127.0.0.1:9/v1",
        "params": {"temperature": 0, **hidden},
        "prompt": [{"system": "Answer."}, {"user": "{{ input }}"}],
    }
    assert result["targets"]["answer"]["args"] == {"token": "abc", "password": "[redacted]"}
    assert list(result["targets"]["answer"]["files"]) == ["app.py"]
    assert list(result["scorers"]["polite"]["files"]) == ["tone.py"]
    assert result["scorers"]["exact_match"]["files"] == {}
    own = result["scorers"]["own"]
    assert (list(own["files"]), own["version"], own["on_no_answer"]) == (["own.py"], "v3", "zero")
    assert result["scorers"]["factuality"]["judge"] == {
        "name": "judge-1",
        "model": "judge-1",
        "host": "http://127.0.0.1:9/v1",
        "params": {"seed": 1},
        "judge_check": "on",
    }
    assert (result["seed"], result["epochs"], result["suite"]) == (3, 2, "defined")


def test_execution_options_may_change_on_resume() -> None:
    before = define()
    edit("gates: [exact_match >= 0.5]", "gates: [exact_match >= 0.9]\ncache: all")
    edit("sk-definition-key", "sk-another-key")
    edit("geheim99", "anders88")
    edit("geheim11", "anders11")
    options: dict[str, Any] = {"concurrency": 3, "max_cost": 2.0, "retries": 0, "timeout": 5.0, "epochs": 4}
    assert differences(before, define(**options)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("s.yaml", "temperature: 0", "temperature: 0.7", ["targets 'gateway'.params.temperature: 0 → 0.7"]),
        ("s.yaml", "seed: 1", "seed: 2", ["scorers 'factuality'.judge.params.seed: 1 → 2"]),
        ("s.yaml", "model: judge-1", "model: j2", [f"scorers 'factuality'.judge.{n}: 'judge-1' → 'j2'" for n in ("name", "model")]),
        ("s.yaml", '"Answer."', '"Answer!"', ["targets 'gateway'.prompt[0].system: 'Answer.' → 'Answer!'"]),
        ("s.yaml", "- exact_match\n", "- contains\n", ["scorers: 'exact_match' was removed", "scorers: 'contains' was added"]),
        ("app.py", "'a'", "'b'", ["targets 'answer': the code in 'app.py' changed"]),
        ("own.py", "0.5", "0.6", ["scorers 'own': the code in 'own.py' changed"]),
        ("data.jsonl", "1?", "9?", ["dataset: its rows changed (3 rows, other content)"]),
        ("data.jsonl", "4?", "9?", []),  # a row that `where` leaves out
        ("s.yaml", "run: {", "judge_check: off\nrun: {", ["scorers 'factuality'.judge.judge_check: 'on' → 'off'"]),
    ],
)  # fmt: skip
def test_changes_to_the_meaning_of_rows_are_listed(file: str, old: str, new: str, message: list[str]) -> None:
    before = define()
    if old == "- exact_match\n":
        edit("gates: [exact_match >= 0.5]\n", "")
    edit(old, new, file)
    assert differences(before, define()) == message


def test_recorded_last_run_is_resolved_to_its_id() -> None:
    def suite(run: str) -> str:
        Path("r.yaml").write_text(
            f"name: r\ndataset: {{rows: [{{input: a, out: b}}]}}\ntarget: {{type: recorded, run: {run}}}\n"
            "scorers: [{type: regex, pattern: b}]\n"
        )
        return "r.yaml"

    Path("first.yaml").write_text(
        "name: r\ndataset: {rows: [{input: a, out: b}]}\ntarget: {type: recorded, column: out}\n"
        "scorers: [{type: regex, pattern: b}]\n"
    )
    first = evalrunner.run_suite("first.yaml")
    before = define(suite("last"))
    later = "29991231T235959Z-0000"
    shutil.copytree(first.folder, first.folder.with_name(later))
    assert differences(before, define(suite("last"))) == [
        f"targets 'recorded'.options.run: '{first.run_id}' → '{later}'"
    ]
    assert differences(before, define(suite(first.run_id))) == []
