"""The cost cap holds by the server's own count, and answers are cached where they should be."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.runs.row_log import read_rows
from tests.fakes.command import evalrun as command
from tests.fakes.server import Action, Answer, Hang, ScriptedServer, Slow, Status

PRICES = "prices: {m: {input: 1000, output: 10000}}\n"  # dollars for a million tokens: 0.01 + 0.02 an answer
USD = 0.001 * 10 + 0.01 * 2


def write(address: str, *, rows: int = 60, run: str = "concurrency: 4", more: str = PRICES, name: str = "s") -> str:
    data = [{"id": f"q{i}", "input": f"question {i}", "expected": "yes"} for i in range(rows)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    Path(f"{name}.yaml").write_text(
        f'name: {name}\ndataset: data.jsonl\ntarget: {{model: m, base_url: "{address}"}}\nparams: {{max_tokens: 5}}\n'
        f"scorers: [exact_match]\nrun: {{{run}}}\n{more}"
    )
    return f"{name}.yaml"


def yes(request: Any, nth: int) -> Action:
    return Slow(0.002, Answer("yes"))


def test_run_stops_at_the_cost_cap_and_finishes_with_a_higher_one() -> None:
    with ScriptedServer(yes) as server:
        cap = 60 * USD / 2
        result = evalrunner.run_suite(write(server.base_url), options=evalrunner.RunOptions(max_cost=cap))
        spent = server.calls * USD
        assert 0 < spent <= cap
        assert result.exit_code == 3
        assert f"the cost cap of ${cap:.2f} is reached" in (result.details.stopped or "")
        assert result.details.rows == server.calls  # what was paid for is there
        resumed = evalrunner.run_suite(options=evalrunner.RunOptions(resume="last", max_cost=60 * USD * 2))
        assert (resumed.exit_code, resumed.details.rows, server.calls) == (0, 60, 60)


def test_cost_cap_counts_earlier_spending() -> None:
    with ScriptedServer(yes) as server:
        write(server.base_url, run="concurrency: 1, run_timeout: 0.15")
        evalrunner.run_suite("s.yaml")
        before = server.calls
        assert before > 0
        settings = ("run.run_timeout=60",)
        capped = evalrunner.RunOptions(resume="last", max_cost=before * USD + 0.001, settings=settings)
        result = evalrunner.run_suite(options=capped)
        assert server.calls == before
    assert result.exit_code == 3


def test_timed_out_call_counts_at_its_worst_case_cost() -> None:
    with ScriptedServer(lambda request, nth: Hang() if nth <= 3 else Answer("yes")) as server:
        write(server.base_url, rows=30, run="concurrency: 1, timeout: 0.2, retries: 0")
        result = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(max_cost=1.0))
        answered = server.calls - 3
    assert result.exit_code == 3
    assert answered * USD + 3 * 0.05 < 1.0  # three answers of five tokens may have been worked on
    assert result.details.plan.calls.budget is not None
    assert result.details.plan.calls.budget.spent_usd > answered * USD + 3 * 0.05


@pytest.mark.parametrize(
    ("more", "params", "message"),
    [
        ("", "max_tokens: 5", "the price of 'm' is unknown"),
        (PRICES, "temperature: 0", "nothing limits the length of an answer of 'm'"),
    ],
)
def test_unenforceable_cost_cap_is_rejected_before_the_first_call(more: str, params: str, message: str) -> None:
    with ScriptedServer(yes) as server:
        suite = Path(write(server.base_url, more=more))
        suite.write_text(suite.read_text().replace("max_tokens: 5", params))
        done = command("s.yaml", "--max-cost", "1")
        assert done.returncode == 2
        assert {request.path for request in server.requests} <= {"/model/info"}  # asked for the price, nothing else
    assert message in done.stderr and done.stderr.startswith("evalrun: s.yaml:3:9: target: ")


def test_images_under_a_cost_cap_are_rejected_before_the_first_call() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with ScriptedServer(yes) as server:
        suite = Path(write(server.base_url, rows=2))
        rows = [{"id": "a", "input": "look", "messages": [{"role": "user", "content": [part]}], "expected": "yes"}]
        Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
        done = command(str(suite), "--max-cost", "1")
        assert (done.returncode, server.calls) == (2, 0)
    assert "image_url" in done.stderr and "max_cost" in done.stderr


def test_target_answers_are_cached_across_runs_only_on_request() -> None:
    served = {"model": "one"}

    def script(request: Any, nth: int) -> Action:
        return Answer("yes" if served["model"] == "one" else "no", model=served["model"])

    with ScriptedServer(script) as server:
        write(server.base_url, rows=10)
        first = evalrunner.run_suite("s.yaml")
        served["model"] = "two"  # behind the same name
        second = evalrunner.run_suite("s.yaml")
        assert (server.calls, first.metrics["exact_match/v1"], second.metrics["exact_match/v1"]) == (20, 1.0, 0.0)
        evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all"))
        third = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all"))
        assert server.calls == 30
        assert third.metrics["cost_usd/total"] == 0.0
        assert {row.answer.cached for row in read_rows(third.folder)} == {True}  # type: ignore[union-attr]
        evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all", refresh=True))
        assert server.calls == 40
        evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="off"))
        assert server.calls == 50


def test_cache_hits_are_reported() -> None:
    with ScriptedServer(yes) as server:
        write(server.base_url, rows=10)
        command("s.yaml", "--cache")
        done = command("s.yaml", "--cache")
        assert server.calls == 10
    assert "cached 10/10, oldest" in done.stdout and "saved $0.30" in " ".join(done.stdout.split())
    assert "10" in command("cache", "info").stdout


def test_each_epoch_has_its_own_cache_entry() -> None:
    with ScriptedServer(yes) as server:
        write(server.base_url, rows=4)
        evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all", epochs=3))
        assert server.calls == 12
        evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all", epochs=4))
        assert server.calls == 16


def test_failures_and_incomplete_answers_are_not_cached() -> None:
    answers: dict[str, Action] = {
        "question 0": Answer("ye", finish_reason="length"),
        "question 1": Answer("", finish_reason="content_filter"),
        "question 2": Answer(None),
        "question 3": Status(400, "no"),
    }
    with ScriptedServer(lambda request, nth: answers[request["messages"][0]["content"]]) as server:
        write(server.base_url, rows=4)
        for _ in range(2):
            evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all"))
        assert server.calls == 8


def test_cache_contains_no_key_header_or_prompt() -> None:
    with ScriptedServer(yes) as server:
        suite = Path(write(server.base_url, rows=3))
        secret = 'api_key: sk-very-secret-key, headers: {x-team: "blue-team-header"}'
        suite.write_text(suite.read_text().replace("target: {", f"target: {{{secret}, "))
        result = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all"))
    files = [*Path(str(result.details.plan.calls.user_cache)).parent.glob("answers.sqlite*")]
    assert files
    for path in files:
        data = path.read_bytes()
        assert not any(word in data for word in (b"sk-very-secret", b"blue-team-header", b"question 1"))


def run_cached(barrier: Any) -> None:
    barrier.wait(30)
    result = evalrunner.run_suite("s.yaml", options=evalrunner.RunOptions(cache="all"))
    assert result.details.in_error == 0 and result.details.rows == 60


def test_two_processes_share_one_cache() -> None:
    with ScriptedServer(yes) as server:
        write(server.base_url, rows=60)
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(2)
        both = [context.Process(target=run_cached, args=(barrier,)) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join(60)
        assert [process.exitcode for process in both] == [0, 0]
        requested = Counter(request.json["messages"][0]["content"] for request in server.requests)
    assert len(requested) == 60 and max(requested.values()) <= 2
