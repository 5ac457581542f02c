"""Runs that stop when their gates are decided, and verdicts on data that has grown, through the command line."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import evalrun
from tests.fakes.server import Action, Answer, ScriptedServer, Slow, Status

RECORDED = "{name: m, type: recorded, column: out}"
SUITE = """\
name: early
dataset: {{path: data.jsonl{dataset}}}
target: {target}
scorers: [exact_match]
gates: [{gates}]
{more}
"""
CONFIDENT = "{metric: exact_match, min: 0.8, confidence: 0.95}"


def write(
    rate: float, rows: int = 600, *, gates: str = CONFIDENT, more: str = "run: {stop_early: true}",
    target: str = RECORDED, dataset: str = "", seed: int = 1,
) -> None:  # fmt: skip
    draw = random.Random(seed)
    data = [
        {"id": f"q{i}", "input": f"{i}?", "expected": "a", "out": "a" if draw.random() < rate else "b", "page": i // 3}
        for i in range(rows)
    ]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    Path("early.yaml").write_text(SUITE.format(gates=gates, more=more, target=target, dataset=dataset))


def run_folder() -> Path:
    return max(Path("runs/early").iterdir(), key=lambda folder: (folder / "run.json").stat().st_mtime_ns)


def stored(name: str = "run.json") -> Any:
    return json.loads((run_folder() / name).read_text())


def log_lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder() / "rows.jsonl").read_text().splitlines()]


def test_a_run_stops_once_its_gates_are_decided() -> None:
    write(0.95)
    done = evalrun("early.yaml")
    assert done.returncode == 0, done.stderr
    run, lines = stored(), log_lines()
    rows = run["rows"]
    assert rows < 240 and run["status"] == "finished" and run["stopped"] is None
    assert run["decided"]["rows"] == rows and run["decided"]["rows_planned"] == 600
    assert f"PASS  early · m · {rows} of 600 samples" in done.stdout
    assert f"every gate was decided after {rows} of 600 rows; {600 - rows} rows were saved" in done.stdout
    assert "unfinished" not in done.stdout and "stopped early" not in done.stdout
    assert lines[-1]["event"] == "decided" and len(lines) == rows + 1
    assert [line["index"] for line in lines[:-1]] == list(range(rows))


def test_the_gate_command_agrees_and_a_resume_asks_nothing() -> None:
    write(0.5)
    done = evalrun("early.yaml", "--json")
    (gate,) = json.loads(done.stdout)["gates"]
    assert (done.returncode, gate["verdict"]) == (1, "fail")
    before = log_lines()
    again = json.loads(evalrun("gate", "--json").stdout)
    assert [(one["verdict"], one["reason"]) for one in again["gates"]] == [(gate["verdict"], gate["reason"])]
    resumed = evalrun("--resume", "last", "--json")
    assert json.loads(resumed.stdout)["gates"] == json.loads(done.stdout)["gates"]
    assert log_lines() == before
    assert len(stored()["looks"]) == 1


def test_metrics_of_such_a_run_have_a_confidence_sequence() -> None:
    write(0.95)
    evalrun("early.yaml")
    metrics = {metric["name"]: metric for metric in stored("metrics.json")["targets"]["m"]["metrics"]}
    match = metrics["exact_match/v1"]
    assert match["method"] == "betting" and match["low"] < 0.9 < match["high"] <= 1.0
    assert match["trusted"] is True


def test_without_gates_the_run_can_be_finished() -> None:
    write(0.95, 300)
    evalrun("early.yaml")
    refused = evalrun("baseline", "accept")
    assert refused.returncode == 2 and "stopped when its gates were decided" in refused.stderr
    evalrun("--resume", "last", "--no-gates")
    assert stored()["rows"] == 300 and stored()["decided"] is None
    assert len([line for line in log_lines() if "event" not in line]) == 300
    assert evalrun("baseline", "accept").returncode == 0


def test_the_samples_are_shuffled_by_the_seed_and_clusters_stay_together() -> None:
    write(0.95, dataset=", cluster: page")
    assert evalrun("early.yaml").returncode == 0
    pages = [line["metadata"]["page"] for line in log_lines() if "event" not in line]
    assert pages != sorted(pages)
    changes = sum(1 for before, now in itertools.pairwise(pages) if before != now)
    assert changes == len(set(pages)) - 1
    assert stored()["dataset"]["shuffle"] == 0


def test_a_gate_that_needs_all_samples_keeps_the_run_going() -> None:
    write(0.95, 120, gates=f"{CONFIDENT}, latency/p90 <= 100")
    assert "stop_early has no effect: latency/p90 <= 100 needs all samples" in evalrun("plan", "early.yaml").stdout
    done = evalrun("early.yaml")
    assert stored()["rows"] == 120 and stored()["decided"] is None
    assert "stop_early has no effect: latency/p90 <= 100 needs all samples" in done.stdout


def test_the_plan_states_the_share_of_samples_that_the_last_value_needs() -> None:
    write(0.95, gates=f"{CONFIDENT}, exact_match >= 0.7")
    evalrun("early.yaml")
    plan = evalrun("plan", "early.yaml").stdout
    assert "% of the samples, if the true value is " in plan
    assert "sequential: differs from the full run in at most 5% of runs" in plan


def test_sequential_on_a_quantile_is_refused_before_the_first_call() -> None:
    write(0.95, 10, gates="{metric: latency/p90, max: 2, sequential: true}", more="")
    done = evalrun("early.yaml")
    assert done.returncode == 2
    assert "cannot be sequential: 'latency/p90' is not a mean of scores" in done.stderr
    assert not Path("runs").exists()


def test_sequential_in_gate_defaults_applies_to_every_gate() -> None:
    write(0.95, gates=f"{CONFIDENT}, exact_match >= 0.7", more="gate_defaults: {sequential: true}")
    assert evalrun("early.yaml").returncode == 0
    assert stored()["decided"] is not None


def test_with_64_workers_and_slow_wrong_answers_the_run_decides_on_its_first_samples() -> None:
    draw = random.Random(8)
    right = [draw.random() < 0.95 for _ in range(600)]

    def script(request: Any, nth: int) -> Action:
        correct = right[int(request["messages"][-1]["content"].rstrip("?"))]
        return Slow(0.01 if correct else 0.02, Answer("a" if correct else "b"))

    with ScriptedServer(script) as server:
        target = f"{{name: m, model: m, base_url: '{server.base_url}', prices: {{input: 1, output: 1}}}}"
        write(0.95, target=target, more="run: {stop_early: true, concurrency: 64}")
        done = evalrun("early.yaml", "--json")
        (gate,) = json.loads(done.stdout)["gates"]
        calls = server.calls
        assert evalrun("--resume", "last").returncode == 0
        assert server.calls == calls  # nothing more is asked
    assert (done.returncode, gate["verdict"]) == (0, "pass")
    run = stored()
    assert run["rows"] == calls < 360
    indexes = sorted(line["index"] for line in log_lines() if "event" not in line)
    assert indexes == list(range(calls))  # calls in flight were finished and kept
    assert run["decided"]["saved_usd"] == pytest.approx((600 - calls) * 12e-6)
    assert f"and about ${(600 - calls) * 12e-6:.2g}"[:12] in run["notices"][0]
    again = json.loads(evalrun("gate", "--json").stdout)["gates"][0]
    assert again["reason"] == gate["reason"]


def test_fast_right_answers_do_not_pass_a_bad_model() -> None:
    """Of the first answers that arrive all are right; of the first samples 60% are."""
    draw = random.Random(8)
    right = [draw.random() < 0.6 for _ in range(300)]

    def script(request: Any, nth: int) -> Action:
        correct = right[int(request["messages"][-1]["content"].rstrip("?"))]
        return Answer("a") if correct else Slow(0.4, Answer("b"))

    with ScriptedServer(script) as server:
        target = f"{{name: m, model: m, base_url: '{server.base_url}'}}"
        write(0.6, 300, target=target, more="run: {stop_early: true, concurrency: 64}")
        done = evalrun("early.yaml", "--json")
    (gate,) = json.loads(done.stdout)["gates"]
    assert (done.returncode, gate["verdict"]) == (1, "fail")
    assert stored()["rows"] < 300


def test_failed_calls_count_against_either_decision() -> None:
    def script(request: Any, nth: int) -> Action:
        number = int(request["messages"][-1]["content"].rstrip("?"))
        return Status(400, "no") if number % 3 == 0 else Answer("a")

    with ScriptedServer(script) as server:
        target = f"{{name: m, model: m, base_url: '{server.base_url}'}}"
        write(1.0, 150, target=target, more="run: {stop_early: true, concurrency: 8, retries: 0}")
        done = evalrun("early.yaml", "--json")
    assert done.returncode == 3
    assert stored()["rows"] == 150
    assert json.loads(done.stdout)["gates"][0]["verdict"] == "untrusted"


def test_looks_at_grown_data_are_counted_and_later_ones_use_the_sequential_bound() -> None:
    write(0.86, more="")
    evalrun("early.yaml", "--limit", "100")
    evalrun("gate")
    assert [look["samples"] for look in stored()["looks"]] == [100]
    more = evalrun("early.yaml", "--resume", "last", "--limit", "200", "--json")
    (gate,) = json.loads(more.stdout)["gates"]
    assert "looked at again: sequential bound" in gate["reason"]
    again = json.loads(evalrun("gate", "--json").stdout)["gates"][0]
    assert (again["verdict"], again["reason"]) == (gate["verdict"], gate["reason"])
    evalrun("--resume", "last", "--no-gates", "--limit", "300")
    assert [look["samples"] for look in stored()["looks"]] == [100, 200]
    assert "looked at again" in evalrun("gate", "--json").stdout
    assert [look["samples"] for look in stored()["looks"]] == [100, 200, 300]


def test_a_run_that_did_not_finish_or_has_no_gates_is_no_look() -> None:
    with ScriptedServer(lambda request, nth: Status(400, "no") if nth == 20 else Answer("a")) as server:
        target = f"{{name: m, model: m, base_url: '{server.base_url}'}}"
        write(0.9, 60, target=target, more="run: {fail_on_error: 1, concurrency: 1, retries: 0}")
        assert evalrun("early.yaml", "--limit", "30").returncode == 3
        assert stored()["looks"] == []
        evalrun("--resume", "last", "--retry-errors", "--no-gates")
        assert stored()["looks"] == []
        evalrun("--resume", "last", "--limit", "60")
    assert "looked at again" not in evalrun("gate", "--json").stdout
    assert [look["samples"] for look in stored()["looks"]] == [60]


def test_a_run_in_the_order_of_its_file_is_decided_by_the_ordinary_tests() -> None:
    write(0.95, 200, more="")
    evalrun("early.yaml", "--limit", "150")
    write(0.95, 200)
    for command in (("gate",), ("score", "last")):
        (gate,) = json.loads(evalrun(*command, "--json").stdout)["gates"]
        assert gate["verdict"] == "pass" and "after" not in gate["reason"]
    assert (stored()["rows"], stored()["decided"], stored()["dataset"]["shuffle"]) == (150, None, None)


def test_stored_answers_of_a_shuffled_run_are_scored_until_the_gates_are_decided() -> None:
    write(0.95, 300)
    evalrun("early.yaml", "--no-gates")
    assert evalrun("score", "last").returncode == 0
    assert stored()["decided"]["rows_planned"] == 300
    assert stored("metrics.json")["decided"] == stored()["decided"]
