"""The end of a run that failed: causes and next steps."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import command_env, evalrun
from tests.fakes.server import Action, Answer, Hang, ScriptedServer, Slow, Status, always

SUITE = """\
name: {name}
dataset: data.csv
target: {{model: m, name: m, base_url: "{address}"}}
scorers: [exact_match{more}]
run: {{concurrency: 4, retries: 0}}
"""


def write(address: str, *, name: str = "s", rows: int = 20, more: str = "") -> str:
    Path("data.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i},ok\n" for i in range(rows)))
    Path(f"{name}.yaml").write_text(SUITE.format(name=name, address=address, more=more))
    return f"{name}.yaml"


def refuses_some(request: Any, nth: int) -> Action:
    number = int(request["messages"][-1]["content"])
    if number == 3:
        return Status(500, "the disk is full")
    return Status(418, {"error": {"message": "I am a teapot"}}) if number % 5 == 4 else Answer()


def flat(text: str) -> str:
    return " ".join(text.split())


def run_folder(name: str = "s") -> Path:
    (folder,) = Path("runs", name).iterdir()
    return folder


def interrupted(server: ScriptedServer, *args: str, calls: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evalrunner", *args]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_env())
    until = time.monotonic() + 30
    while server.calls < calls and time.monotonic() < until:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    return subprocess.CompletedProcess(command, run.returncode, out, err)


def test_failures_are_reported_with_the_provider_message() -> None:
    with ScriptedServer(refuses_some) as server:
        done = evalrun(write(server.base_url))
    message = flat(done.stdout)
    assert "note: m: 4 rows failed (bad_request), e.g. 'q" in message and "(HTTP 418): I am a teapot" in message
    assert "note: m: 1 row failed (server), e.g. 'q3': the server failed (HTTP 500): the disk is full" in message
    assert message.index("4 rows failed") < message.index("1 row failed")


def test_scorer_exception_is_reported_with_its_row() -> None:
    Path("own.py").write_text(
        "def own(input):\n    if input == '7':\n        raise ValueError('not today')\n    return 1\n"
    )
    with ScriptedServer() as server:
        done = evalrun(write(server.base_url, more=", {type: python, name: own, function: own.py:own}"))
    assert "note: own: 1 score in error, e.g. 'q7': function: own() in own.py:3 raised ValueError: not today" in flat(
        done.stdout
    )


def test_unreadable_judge_reply_is_reported_with_its_row() -> None:
    with ScriptedServer(always(Answer("Well, it depends."))) as server:
        judge = f', {{type: toxicity, backend: judge, judge: {{model: j, base_url: "{server.base_url}"}}}}'
        done = evalrun(write(server.base_url, more=judge), "--set", "judge_check=off")
        output = flat(done.stdout)
        checked = flat(evalrun(write(server.base_url, more=judge)).stdout)
    assert "note: toxicity: 20 verdicts without a score, e.g. 'q" in output
    assert "Well, it depends." in output
    assert "verdicts without a score" not in checked, "that the judge failed its check is reported already"


def test_headline_is_not_repeated() -> None:
    done = evalrun(write("http://127.0.0.1:9/v1"))
    assert flat(done.stdout).count("cannot connect to http://127.0.0.1:9") == 1
    assert "stopped early: target 'm' aborted: cannot connect" in done.stdout


def test_unreachable_judge_is_reported_once_and_costs_nothing() -> None:
    with ScriptedServer() as server:
        suite = write(server.base_url, more=", factuality")
        done = evalrun(suite, "--set", 'judge={model: j, name: j, base_url: "http://127.0.0.1:9/v1"}')
    message = flat(done.stdout)
    assert "stopped early: judge 'j' of 'factuality' aborted: cannot connect" in message
    assert message.count("cannot connect to http://127.0.0.1:9") == 2 and "scores in error" not in message
    assert re.search(r"judge of factuality: \d calls? · 0 output tokens · cost –", message)


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_quiet_output_includes_the_resume_command(option: str) -> None:
    with ScriptedServer(lambda request, nth: Slow(0.1) if nth > 6 else Status(500)) as server:
        done = interrupted(server, write(server.base_url), option, calls=12)
    assert done.returncode == 130
    output = done.stderr if option == "--json" else done.stdout
    assert "INTERRUPTED s: " in output
    assert f"rows unfinished. Resume: evalrun --resume {run_folder()}; 6 rows" in output
    assert f"6 rows with errors. Retry: evalrun --resume {run_folder()} --retry-errors\n" in output
    if option == "--json":
        assert json.loads(done.stdout)["exit_code"] == 130


def test_finished_run_prints_only_json() -> None:
    with ScriptedServer() as server:
        done = evalrun(write(server.base_url), "--json")
    assert (done.returncode, done.stderr) == (0, "")


def test_suites_not_started_after_an_interrupt_are_named() -> None:
    with ScriptedServer(lambda request, nth: Slow(0.1)) as server:
        suites = [write(server.base_url, name=name) for name in "abc"]
        done = interrupted(server, *suites, "-q", calls=24)
    assert done.returncode == 130
    assert "not started: c.yaml\n" in done.stderr
    assert list(Path("runs").glob("c/*")) == []


def test_cancelled_calls_are_counted() -> None:
    with ScriptedServer(lambda request, nth: Answer() if nth <= 6 else Hang()) as server:
        write(server.base_url)
        done = evalrun("s.yaml", "-v", "--set", "run.run_timeout=2", "--set", "run.row_timeout=1")
        calls = server.calls
    assert done.returncode == 3
    assert f"{calls} calls" in flat(done.stdout)
    usage = json.loads((run_folder() / "run.json").read_text())["targets"]["m"]["usage"]
    assert usage["calls"] == calls


@pytest.mark.parametrize(("message", "stops_at"), [("0.2", 4), (".2", 4), ("20%", 4), ("3", 3)])
def test_fail_on_error_accepts_a_percentage(message: str, stops_at: int) -> None:
    with ScriptedServer(lambda request, nth: Status(500) if nth % 2 else Answer()) as server:
        done = evalrun(write(server.base_url), "--fail-on-error", message, "--concurrency", "1", "-q")
    assert done.returncode == 3
    assert done.stdout.startswith(f"UNTRUSTED s: {stops_at} rows ended in error, and fail_on_error is ")
