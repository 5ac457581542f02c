"""Judges in whole runs: trusted only after their sanity check; no other host is contacted."""

from __future__ import annotations

import io
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.reports.progress import PlainProgress
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES
from tests.fakes.server import Action, Answer, Malformed, Script, ScriptedServer, Slow, Status

GOOD = {(pair.input, pair.output): pair.good for pair in CALIBRATION_EXAMPLES}


def chosen(choice: str) -> Answer:
    call = {"name": "select_choice", "arguments": json.dumps({"reasons": "because", "choice": choice})}
    return Answer(None, "tool_calls", message={"tool_calls": [{"id": "1", "type": "function", "function": call}]})


def parts_of(request: Any) -> tuple[str, str]:
    text = request["messages"][-1]["content"]
    question = re.search(r"\[Question\]: (.*?)\n", text)
    output = re.search(r"\[Submission\]: (.*?)\n", text)
    assert question and output
    return question[1], output[1]


def wise(request: Any, nth: int) -> Action:
    """A judge that knows the known pairs, and takes every other answer with `right` in it for right."""
    question, output = parts_of(request)
    good = GOOD.get((question, output), "right" in output)
    return chosen("C" if good else "D")


def lenient(request: Any, nth: int) -> Action:
    return chosen("C")


def run(
    judge: Script, more: str = "", *, rows: int = 4, **options: Any
) -> tuple[evalrunner.SuiteResult, ScriptedServer]:
    data = [{"input": f"Question {i}?", "expected": "right", "out": "right" if i % 2 else "false"} for i in range(rows)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    with ScriptedServer(judge) as server:
        Path("j.yaml").write_text(
            "name: j\ndataset: data.jsonl\ntarget: {type: recorded, column: out}\n"
            f'judge: {{model: judge-1, base_url: "{server.base_url}"}}\nscorers: [factuality]\n{more}'
        )
        return evalrunner.run_suite(
            "j.yaml", options=evalrunner.RunOptions(**{"wait_scale": 0.01, "cache": "off", **options})
        ), server


def test_judge_that_passes_its_sanity_check_is_trusted() -> None:
    result, server = run(wise, "gates: [factuality >= 0.5]\n")
    assert server.calls == 12 + 4
    assert (result.metrics["factuality/v1/mean"], result.exit_code) == (0.5, 0)
    record = json.loads((result.folder / "run.json").read_text())["judges"]["factuality"]
    assert record["sanity_check"] == {
        "right": 12,
        "total": 12,
        "good": {"right": 6, "total": 6, "needed": 5},
        "bad": {"right": 6, "total": 6, "needed": 5},
        "coin": pytest.approx(0.0121, abs=5e-5),
        "passed": True,
        "failure": None,
        "wrong": [],
        "unread": {},
        "note": None,
    }
    assert record["usage"]["calls"] == 16
    (row,) = [row for row in read_rows(result.folder) if row.sample.index == 0]
    assert row.cells["factuality"].detail == {"explanation": "because", "choice": "D"}
    assert [call.model for call in row.cells["factuality"].calls] == ["scripted-1"]


def test_judge_that_fails_its_sanity_check_is_not_called_again() -> None:
    result, server = run(lenient, "gates: [factuality >= 0.5]\n", rows=40)
    assert server.calls == 12
    assert {row.cells["factuality"].message for row in read_rows(result.folder)} == {
        "judge sanity check: 6 of 12 known answers: 6 of 6 good, 0 of 6 bad"
    }
    assert (result.verdict, result.exit_code) == ("untrusted", 3)
    assert (
        "the judge failed its sanity check (6 of 12 known answers: 6 of 6 good, 0 of 6 bad)" in result.gates[0].reason
    )
    table = result.table
    assert set(table["factuality/v1/state"]) == {"unscored"}


def unsure(request: Any, nth: int) -> Action:
    """A judge that accepts two of the first six bad examples, and is right on every other one."""
    _, output = parts_of(request)
    wrong = [pair.output for pair in CALIBRATION_EXAMPLES if not pair.good][:2]
    return chosen("C") if output in wrong else wise(request, nth)


def test_judge_between_pass_and_fail_is_asked_a_second_dozen_once() -> None:
    result, server = run(unsure, "run: {concurrency: 40}\n", rows=40)
    assert server.calls == 24 + 40, "concurrent rows wait for one check"
    assert result.metrics["factuality/v1/mean"] == 0.5
    record = json.loads((result.folder / "run.json").read_text())["judges"]["factuality"]
    check = record["sanity_check"]
    assert (check["good"], check["bad"]) == (
        {"right": 12, "total": 12, "needed": 10},
        {"right": 10, "total": 12, "needed": 10},
    )
    assert (check["passed"], check["total"], len(check["wrong"]), record["usage"]["calls"]) == (True, 24, 2, 64)


def test_a_second_dozen_is_answered_from_the_cache_like_the_first() -> None:
    options = evalrunner.RunOptions(wait_scale=0.01, cache="judges")
    _, gone = run(unsure)
    with ScriptedServer(unsure) as server:
        Path("j.yaml").write_text(Path("j.yaml").read_text().replace(gone.base_url, server.base_url))
        for _ in range(2):
            result = evalrunner.run_suite("j.yaml", options=options)
            assert (server.calls, result.metrics["factuality/v1/mean"]) == (24 + 4, 0.5)


def test_a_record_without_the_two_sides_is_still_read() -> None:
    result, _ = run(lenient)
    path = result.folder / "run.json"
    data = json.loads(path.read_text())
    check = data["judges"]["factuality"]["sanity_check"]
    for name in ("good", "bad", "coin"):
        del check[name]
    check["needed"] = 10
    path.write_text(json.dumps(data))
    stored = RunRecord.load(result.folder).judges["factuality"].sanity_check
    assert stored is not None and stored.summary == "6 of 12 known answers"


def test_too_few_calibration_examples_are_an_error_before_the_first_call() -> None:
    Path("scorer.py").write_text(
        "from evalrunner import Declaration, Scorer\n"
        "from evalrunner.domain import CalibrationExample\n\n\n"
        "def graded():\n"
        "    async def function(output, judge):\n"
        "        return 1.0\n\n"
        "    return Scorer(function, Declaration(), (CalibrationExample('', '', 'x', good=True),) * 6)\n"
    )
    Path("own.yaml").write_text(
        "dataset: {rows: [{input: a, out: c}]}\ntarget: {type: recorded, column: out}\n"
        'judge: {model: j, base_url: "http://127.0.0.1:9/v1"}\nscorers: [{type: "scorer.py:graded"}]\n'
    )
    with pytest.raises(
        evalrunner.SuiteError, match="has 6 good and 0 bad calibration examples; give at least 6 in total"
    ):
        evalrunner.run_suite("own.yaml")


def test_failed_sanity_check_without_gate_keeps_the_exit_code() -> None:
    result, _ = run(lenient)
    assert (result.verdict, result.exit_code) == ("pass", 0)
    assert result.metrics["factuality/v1/mean"] is None


@pytest.mark.parametrize(("mode", "calls"), [("warn", 16), ("off", 4)])
def test_sanity_check_can_be_overridden(mode: str, calls: int) -> None:
    result, server = run(lenient, f"judge_check: {mode}\n")
    assert (server.calls, result.metrics["factuality/v1/mean"]) == (calls, 1.0)


def test_endpoint_failure_during_sanity_check_is_an_error() -> None:
    result, server = run(lambda request, nth: Status(500, "oops"), "gates: [factuality >= 0.5]\nrun: {retries: 0}\n")
    cells = [row.cells["factuality"] for row in read_rows(result.folder)]
    assert {cell.state for cell in cells} == {"error"}
    assert all((cell.message or "").startswith("server: sanity check did not finish") for cell in cells)
    assert "the judge's provider failed on 4 (server)" in result.gates[0].reason
    assert server.calls <= 3 * 4


def test_interrupted_sanity_check_is_repeated() -> None:
    def script(request: Any, nth: int) -> Action:
        return Status(500, "oops") if nth == 1 else wise(request, nth)

    result, _ = run(script, concurrency=1)
    assert [row.cells["factuality"].state for row in read_rows(result.folder)][1:] == ["scored"] * 3


def test_judge_with_a_wrong_key_is_aborted() -> None:
    result, server = run(lambda request, nth: Status(401, {"error": {"message": "wrong key"}}), rows=100)
    assert server.calls <= 4
    assert result.exit_code == 3
    assert "judge 'judge-1' of 'factuality' aborted" in (result.details.stopped or "")


def test_unreadable_verdict_is_unscored_not_zero() -> None:
    def script(request: Any, nth: int) -> Action:
        question, _ = parts_of(request)
        if not question.startswith("Question"):
            return wise(request, nth)
        return [Answer("I think it is fine."), chosen("CI"), Malformed(b"nope"), Answer(None, "length")][
            int(question[9])
        ]

    result, _ = run(script)
    cells = {row.sample.input: row.cells["factuality"] for row in read_rows(result.folder)}
    assert [cells[f"Question {i}?"].state for i in range(4)] == ["unscored", "unscored", "error", "unscored"]
    assert all(cell.value is None for cell in cells.values())


def test_judge_scorer_never_falls_back_to_the_target_model() -> None:
    Path("j.yaml").write_text(
        "dataset: {rows: [{input: a, expected: b, out: c}]}\ntarget: {type: recorded, column: out}\nscorers: [factuality]\n"
    )
    with pytest.raises(evalrunner.SuiteError, match="'factuality' needs a judge; add judge: MODEL"):
        evalrunner.run_suite("j.yaml")


def test_only_hosts_of_the_suite_are_contacted(monkeypatch: pytest.MonkeyPatch) -> None:
    """autoevals left to itself talks to a gateway of its maker and hands it this key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-must-not-leave")
    reached: list[Any] = []
    resolve = socket.getaddrinfo

    def watched(host: Any, *args: Any, **kwargs: Any) -> Any:
        reached.append(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    result, server = run(wise)
    assert result.metrics["factuality/v1/mean"] == 0.5
    assert [host for host in reached if host not in ("127.0.0.1", "localhost", None)] == []
    assert all("sk-must-not-leave" not in json.dumps(dict(actual.headers)) for actual in server.requests)


def test_the_first_answers_do_not_wait_for_the_sanity_check() -> None:
    def both(request: Any, nth: int) -> Action:
        if request["model"] != "judge-1":
            return Answer("right")
        return Slow(0.2, chosen("C" if GOOD.get(parts_of(request)) else "D"))

    rows = [{"id": f"q{n}", "input": f"Question {n}?", "expected": "right"} for n in range(4)]
    out = io.StringIO()
    with ScriptedServer(both) as server:
        Path("j.yaml").write_text(
            f'name: j\ndataset: {{rows: {json.dumps(rows)}}}\ntarget: {{model: m, base_url: "{server.base_url}"}}\n'
            f'judge: {{model: judge-1, base_url: "{server.base_url}"}}\nscorers: [factuality]\n'
        )
        options = evalrunner.RunOptions(wait_scale=0.01, cache="off")
        evalrunner.run_suite("j.yaml", options=options, reporters=[PlainProgress(out, silent_s=0.05)])
        asked = [request.json["model"] for request in server.requests]
    assert asked[0] == "m", "a target is asked before the judge is checked"
    checks = [place for place, model in enumerate(asked) if model == "judge-1"][:12]
    assert [place for place, model in enumerate(asked) if model == "m"][-1] < checks[-1], (
        "answers arrive during the check"
    )
    assert re.search(r"j: 0/4 rows.*, checking the judge \d+/12", out.getvalue())
