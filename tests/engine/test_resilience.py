"""Rate limits, transient failures and hangs: every row is answered, and no failure becomes an answer."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion
from evalrunner.runs.row_log import read_rows
from tests.fakes.server import Action, Answer, Cut, Hang, Malformed, ScriptedServer, Slow, Status

ROWS = 2000
TROUBLE: tuple[tuple[float, str, Action], ...] = (
    (0.05, "429", Status(429, {"error": {"message": "slow down"}}, {"retry-after": "1"})),
    (0.02, "500", Status(500, "oops")),
    (0.005, "hang", Hang()),
    (0.01, "malformed", Malformed(b'{"choices": [{"message": {"content": "yes"')),
    (0.01, "reset", Cut(40)),
)


def write_suite(address: str, rows: int, run: str, more: str = "") -> str:
    data = [{"id": f"q{i}", "input": f"question {i}", "expected": "yes"} for i in range(rows)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    Path("s.yaml").write_text(
        f'name: s\ndataset: data.jsonl\ntarget: {{model: m, name: m, base_url: "{address}"{more}}}\n'
        f"scorers: [exact_match]\nrun: {{{run}}}\n"
    )
    return "s.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", ["32", "auto"])
def test_every_row_is_answered_once_despite_failures(concurrency: str) -> None:
    draw = random.Random(11)
    dealt: Counter[str] = Counter()

    def script(request: Any, nth: int) -> Action:
        point = draw.random()
        for share, name, action in TROUBLE:
            if point < share:
                dealt[name] += 1
                return action
            point -= share
        dealt["answer"] += 1
        return Slow(0.005, Answer("yes"))

    with ScriptedServer(script) as server:
        suite = write_suite(server.base_url, ROWS, f"concurrency: {concurrency}, timeout: 2, seed: 3")
        result = evalrunner.run_suite(suite, options=evalrunner.RunOptions(wait_scale=0.02))
        most = server.most_in_flight
    print(f"dealt {dict(dealt)}, most in flight {most}")  # printed by pytest -rP, and where it fails
    assert all(dealt[name] > 0 for _, name, _ in TROUBLE)
    lines = [json.loads(line) for line in (result.folder / "rows.jsonl").read_text().splitlines()]
    assert Counter((line["id"], line["target"], line["epoch"]) for line in lines) == Counter(
        {(f"q{i}", "m", 1): 1 for i in range(ROWS)}
    )
    assert all(isinstance(row.answer, Completion) and row.answer.text == "yes" for row in read_rows(result.folder))
    (metric, *_) = result.details.targets["m"].metrics
    assert (metric.value, metric.n, metric.errors) == (1.0, ROWS, 0)
    assert result.exit_code == 0
    assert most <= (32 if concurrency == "32" else 256)
    calls = result.details.targets["m"].calls
    assert calls.usage.calls == sum(dealt.values())  # attempts are counted once
    assert calls.retries == sum(dealt.values()) - ROWS


def test_zero_retries_disables_retries() -> None:
    with ScriptedServer(lambda request, nth: Status(503, "down")) as server:
        suite = write_suite(server.base_url, 5, "retries: 0, concurrency: 2")
        result = evalrunner.run_suite(suite)
        assert server.calls == 5
    assert result.details.in_error == 5


def test_daily_quota_fails_the_row_without_waiting() -> None:
    quota = Status(429, {"error": {"message": "daily limit"}}, {"retry-after": "19200"})
    with ScriptedServer(lambda request, nth: quota if "1" in str(request["messages"]) else Answer("yes")) as server:
        suite = write_suite(server.base_url, 2, "concurrency: 1")
        result = evalrunner.run_suite(suite)
        assert server.calls == 2
    (failed,) = [row for row in read_rows(result.folder) if not isinstance(row.answer, Completion)]
    answer = str(failed.answer)
    assert "asks to wait 5 h 20 min, longer than the row timeout of 600 s" in answer and "daily limit" in answer


def test_permanent_outage_aborts_the_target_and_the_run_is_resumable() -> None:
    down = True

    def script(request: Any, nth: int) -> Action:
        return Status(503, "maintenance") if down and nth > 20 else Answer("yes")

    with ScriptedServer(script) as server:
        suite = write_suite(server.base_url, 400, "concurrency: 8")
        quick = evalrunner.RunOptions(wait_scale=0.001)
        result = evalrunner.run_suite(suite, options=quick)
        assert result.exit_code == 3
        assert "50 consecutive calls failed" in (result.details.stopped or "")
        assert result.details.rows < 400
        down = False
        again = evalrunner.run_suite(
            options=evalrunner.RunOptions(resume=str(result.folder), retry_errors=True, wait_scale=0.001)
        )
    assert (again.run_id, again.details.rows, again.exit_code) == (result.run_id, 400, 0)
    assert again.metrics["exact_match/v1"] == 1.0


def test_hung_connection_costs_one_timeout() -> None:
    with ScriptedServer(lambda request, nth: Hang() if nth <= 4 else Answer("yes")) as server:
        suite = write_suite(
            server.base_url, 60, "concurrency: 4, timeout: 0.5, row_timeout: 30000"
        )  # this one is scaled
        result = evalrunner.run_suite(suite, options=evalrunner.RunOptions(wait_scale=0.001))
        assert server.calls == 64
    assert result.details.in_error == 0


def test_row_timeout_limits_a_row() -> None:
    with ScriptedServer(lambda request, nth: Hang()) as server:
        suite = write_suite(server.base_url, 2, "timeout: 60, row_timeout: 0.4, concurrency: 2")
        result = evalrunner.run_suite(suite)
    assert {row.answer.kind for row in read_rows(result.folder) if not isinstance(row.answer, Completion)} == {
        "timeout"
    }


def test_run_timeout_ends_the_run_and_keeps_its_rows() -> None:
    with ScriptedServer(lambda request, nth: Slow(0.05, Answer("yes"))) as server:
        suite = write_suite(server.base_url, 400, "concurrency: 2, run_timeout: 0.5")
        result = evalrunner.run_suite(suite)
    assert result.exit_code == 3
    assert "run timeout of 0.5 s reached" in (result.details.stopped or "")
    assert 0 < result.details.rows < 400
    assert len(list(read_rows(result.folder))) == result.details.rows


@pytest.mark.parametrize(("rule", "most"), [("20", 20), ("5%", 10), ("1", 1), ("0.05", 10)])
def test_fail_on_error_stops_the_run(rule: str, most: int) -> None:
    bad = Status(400, {"error": {"message": "no"}})
    with ScriptedServer(lambda request, nth: bad if nth % 2 else Answer("yes")) as server:
        suite = write_suite(server.base_url, 200, f"concurrency: 1, fail_on_error: {rule}")
        result = evalrunner.run_suite(suite)
    assert result.exit_code == 3
    assert result.details.in_error == most
    assert f"{most} row{'s' if most > 1 else ''} ended in error, and fail_on_error is" in (result.details.stopped or "")


def test_rate_limits_of_a_target_are_respected() -> None:
    with ScriptedServer(lambda request, nth: Answer("yes")) as server:
        suite = write_suite(server.base_url, 30, "concurrency: 8", ", rpm: 600")
        result = evalrunner.run_suite(suite, options=evalrunner.RunOptions(wait_scale=0.05))
    assert result.details.in_error == 0
    assert result.details.duration_s >= 0.05 * 0.1 * (30 - 10)  # a tenth of a second each, less what may burst
