"""What is said at the end of a run that went wrong: why, and what to do about it."""

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


def test_each_kind_of_failure_is_told_in_the_words_of_the_provider() -> None:
    with ScriptedServer(refuses_some) as server:
        done = evalrun(write(server.base_url))
    said = flat(done.stdout)
    assert "note: m: 4 rows failed (bad_request), e.g. 'q" in said and "(HTTP 418): I am a teapot" in said
    assert "note: m: 1 row failed (server), e.g. 'q3': the server failed (HTTP 500): the disk is full" in said
    assert said.index("4 rows failed") < said.index("1 row failed")


def test_what_a_scorer_raised_is_told_with_its_row() -> None:
    Path("own.py").write_text(
        "def own(input):\n    if input == '7':\n        raise ValueError('not today')\n    return 1\n"
    )
    with ScriptedServer() as server:
        done = evalrun(write(server.base_url, more=", {type: python, name: own, function: own.py:own}"))
    assert "note: own: 1 score in error, e.g. 'q7': function: own() in own.py:3 raised ValueError: not today" in flat(
        done.stdout
    )


def test_what_a_judge_said_in_place_of_a_verdict_is_told_with_its_row() -> None:
    with ScriptedServer(always(Answer("Well, it depends."))) as server:
        judge = f', {{type: toxicity, backend: judge, judge: {{model: j, base_url: "{server.base_url}"}}}}'
        done = evalrun(write(server.base_url, more=judge), "--set", "judge_check=off")
        told = flat(done.stdout)
        checked = flat(evalrun(write(server.base_url, more=judge)).stdout)
    assert "note: toxicity: 20 verdicts without a score, e.g. 'q" in told
    assert "Well, it depends." in told
    assert "verdicts without a score" not in checked, "that the judge failed its check is said already"


def test_what_the_headline_says_is_not_said_twice() -> None:
    done = evalrun(write("http://127.0.0.1:9/v1"))
    assert flat(done.stdout).count("nothing answers at http://127.0.0.1:9") == 1
    assert "stopped early: target 'm' aborted: nothing answers" in done.stdout


def test_a_judge_that_is_not_there_is_told_of_once_beside_the_headline_and_has_no_cost() -> None:
    with ScriptedServer() as server:
        suite = write(server.base_url, more=", factuality")
        done = evalrun(suite, "--set", 'judge={model: j, name: j, base_url: "http://127.0.0.1:9/v1"}')
    said = flat(done.stdout)
    assert "stopped early: judge 'j' of 'factuality' aborted: nothing answers" in said
    assert said.count("nothing answers at http://127.0.0.1:9") == 2 and "scores in error" not in said
    assert re.search(r"judge of factuality: \d calls? · 0 tokens out · cost –", said)


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_the_command_to_go_on_is_told_where_little_else_is(option: str) -> None:
    with ScriptedServer(lambda request, nth: Slow(0.1) if nth > 6 else Status(500)) as server:
        done = interrupted(server, write(server.base_url), option, calls=12)
    assert done.returncode == 130
    told = done.stderr if option == "--json" else done.stdout
    assert "INTERRUPTED s: " in told
    assert f"rows to go: evalrun --resume {run_folder()}\n" in told
    assert f"6 rows with errors, to be run again: evalrun --resume {run_folder()} --retry-errors\n" in told
    if option == "--json":
        assert json.loads(done.stdout)["exit_code"] == 130


def test_a_run_that_did_all_it_had_to_tells_json_alone() -> None:
    with ScriptedServer() as server:
        done = evalrun(write(server.base_url), "--json")
    assert (done.returncode, done.stderr) == (0, "")


def test_suites_that_an_interruption_kept_from_beginning_are_named() -> None:
    with ScriptedServer(lambda request, nth: Slow(0.1)) as server:
        suites = [write(server.base_url, name=name) for name in "abc"]
        done = interrupted(server, *suites, "-q", calls=24)
    assert done.returncode == 130
    assert "not started: c.yaml\n" in done.stderr
    assert not Path("runs/c").exists()


def test_calls_that_were_dropped_on_their_way_are_counted() -> None:
    with ScriptedServer(lambda request, nth: Answer() if nth <= 6 else Hang()) as server:
        write(server.base_url)
        done = evalrun("s.yaml", "--set", "run.run_timeout=2", "--set", "run.row_timeout=1")
        calls = server.calls
    assert done.returncode == 3
    assert f"{calls} calls" in flat(done.stdout)
    usage = json.loads((run_folder() / "run.json").read_text())["targets"]["m"]["usage"]
    assert usage["calls"] == calls


@pytest.mark.parametrize(("said", "stops_at"), [("0.2", 4), (".2", 4), ("20%", 4), ("3", 3)])
def test_a_share_of_errors_may_be_given_on_the_command_line(said: str, stops_at: int) -> None:
    with ScriptedServer(lambda request, nth: Status(500) if nth % 2 else Answer()) as server:
        done = evalrun(write(server.base_url), "--fail-on-error", said, "--concurrency", "1", "-q")
    assert done.returncode == 3
    assert f"stopped early: {stops_at} rows ended in error, and fail_on_error is" in done.stdout
