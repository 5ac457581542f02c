"""`evalrun --resume RUN`: finished rows stay, missing rows run, and a changed suite is refused."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import command_env, evalrun
from tests.fakes.server import Action, Answer, ScriptedServer, Slow, Status

SUITE = """\
name: long
dataset: data.jsonl
targets:
  - {{model: m, name: m, base_url: "{address}"}}
judge: {{model: j, base_url: "{judge}"}}
scorers: [exact_match, {{type: "own.py:asks"}}]
run: {{concurrency: {concurrency}, timeout: 5}}
"""
OWN = """\
from evalrunner import Scorer

def asks():
    async def asks(output, judge):
        answer = await judge.ask([{"role": "user", "content": f"is it good? {output}"}])
        return answer.text == "yes"
    return Scorer(asks)
"""


def write(address: str, judge: str, *, rows: int, concurrency: int = 8) -> None:
    data = [{"id": f"q{i}", "input": f"question {i}", "expected": f"answer {i % 7}"} for i in range(rows)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    Path("own.py").write_text(OWN)
    Path("long.yaml").write_text(SUITE.format(address=address, judge=judge, concurrency=concurrency))


def answer(request: Any, nth: int) -> Action:
    number = int(request["messages"][-1]["content"].split()[-1])
    return Slow(0.03, Answer(f"answer {number % 5}"))


def judge(request: Any, nth: int) -> Action:
    return Slow(0.02, Answer("yes" if request["messages"][-1]["content"].endswith(("1", "3")) else "no"))


def run_folder() -> Path:
    (folder,) = Path("runs/long").iterdir()
    return folder


def keys(folder: Path) -> Counter[tuple[str, str, int]]:
    lines = (json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines())
    return Counter((line["id"], line["target"], line["epoch"]) for line in lines)


def timeless(folder: Path) -> str:
    """The metrics of a run without its id and without times."""
    data = json.loads((folder / "metrics.json").read_text())
    del data["run_id"]
    for target in data["targets"].values():
        target["metrics"] = [metric for metric in target["metrics"] if metric["scorer"] != "latency"]
    return json.dumps(data)


@pytest.mark.slow
def test_run_killed_twenty_times_equals_an_uninterrupted_run() -> None:
    rows, concurrency, kills = 400, 8, 0
    draw = random.Random(5)
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=rows, concurrency=concurrency)
        command = [sys.executable, "-m", "evalrunner", "long.yaml"]
        while kills < 20:
            seen = server.calls
            run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=command_env())
            until = time.monotonic() + 20
            while server.calls == seen and run.poll() is None and time.monotonic() < until:
                time.sleep(0.002)  # until its first call is in flight
            time.sleep(draw.uniform(0.0, 0.09))
            run.send_signal(signal.SIGKILL)
            run.communicate()
            if run.returncode != -signal.SIGKILL:
                break
            kills += 1
            command = [sys.executable, "-m", "evalrunner", "--resume", "last"]
        done = evalrun("--resume", "last")
        calls = server.calls
        folder = run_folder()
        assert done.returncode == 0, done.stderr
        assert kills == 20
        assert keys(folder) == Counter({(f"q{i}", "m", 1): 1 for i in range(rows)})
        assert calls <= rows + kills * concurrency
        resumed = timeless(folder)
        again = evalrun("long.yaml", "--output-dir", "other", "--refresh")
        assert again.returncode == 0, again.stderr
    (undisturbed,) = Path("other/long").iterdir()
    assert resumed == timeless(undisturbed)
    assert not (folder / "answers.sqlite").exists()


def stop_halfway(rows: int = 120) -> tuple[Path, int]:
    """An interrupted run and the number of its rows."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evalrunner", "long.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=command_env(),
    )
    until = time.monotonic() + 30
    while time.monotonic() < until and not any(Path("runs").glob("long/*/rows.jsonl")):
        time.sleep(0.01)
    while time.monotonic() < until and len((run_folder() / "rows.jsonl").read_bytes().splitlines()) < rows // 4:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    return run_folder(), sum(keys(run_folder()).values())


def test_interrupted_run_resumes() -> None:
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=120)
        folder, there = stop_halfway()
        seen = server.calls
        done = evalrun("--resume", folder.name[:12])
        assert done.returncode == 0, done.stderr
        assert server.calls - seen <= 120 - there
    assert f"resumed run {folder.name}: {there} of 120 rows were finished, {120 - there} remaining" in done.stdout
    assert sum(keys(folder).values()) == 120
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_a_truncated_last_line_is_removed_and_reported() -> None:
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=120)
        folder, there = stop_halfway()
        log = folder / "rows.jsonl"
        log.write_bytes(log.read_bytes()[:-20])
        done = evalrun("--resume", "last")
        assert done.returncode == 0, done.stderr
    assert "the last line of the row log was truncated" in done.stdout
    assert f"{there - 1} of 120 rows were finished" in done.stdout
    assert set(keys(folder).values()) == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model: m, name", "model: m2, name"), "'m' → 'm2'"),
        (("[exact_match, ", "[contains, "), "'contains' was added"),
        (("dataset: data.jsonl", "dataset: {path: data.jsonl, limit: 100}"), "dataset"),
        (("run: {", "params: {temperature: 1}\nrun: {seed: 4, "), "seed: 0 → 4"),
    ],
)
def test_resume_of_a_changed_run_is_refused_with_the_differences(change: tuple[str, str], message: str) -> None:
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=40, concurrency=2)
        folder, there = stop_halfway(40)
        text = Path("long.yaml").read_text()
        assert change[0] in text
        Path("long.yaml").write_text(text.replace(*change))
        seen = server.calls
        done = evalrun("--resume", "last")
        assert server.calls == seen
    assert done.returncode == 2
    assert message in done.stderr and f"cannot resume run {folder.name}" in done.stderr
    assert sum(keys(folder).values()) == there


def test_execution_options_may_change_on_resume() -> None:
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=40, concurrency=2)
        stop_halfway(40)
        text = Path("long.yaml").read_text()
        Path("long.yaml").write_text(
            f"{text.replace('timeout: 5', 'timeout: 9, retries: 1')}gates: [exact_match >= 0.1]\n"
        )
        done = evalrun("--resume", "last", "-j", "auto", "--epochs", "2", "-o", "rows.csv")
        assert done.returncode == 0, done.stderr
    assert sum(keys(run_folder()).values()) == 80
    assert len(Path("rows.csv").read_text().splitlines()) == 81


def test_retry_errors_repeats_the_call_or_only_the_scorer() -> None:
    broken = {"target": True, "judge": True}

    def script(request: Any, nth: int) -> Action:
        requested = request["messages"][-1]["content"]
        return Status(400, "no") if broken["target"] and requested.endswith("3") else Answer("answer 1")

    def verdict(request: Any, nth: int) -> Action:
        return Status(400, "no") if broken["judge"] else Answer("yes")

    with ScriptedServer(script) as server, ScriptedServer(verdict) as judges:
        write(server.base_url, judges.base_url, rows=10)
        assert evalrun("long.yaml", "--no-cache").returncode in (0, 3)
        assert server.calls == 10
        broken.update(target=False, judge=False)
        untouched = evalrun("--resume", "last")
        assert (untouched.returncode, server.calls) == (0, 10)
        assert "10 rows with errors. Retry: evalrun --resume" in untouched.stdout
        done = evalrun("--resume", "last", "--retry-errors")
        assert done.returncode == 0, done.stderr
        assert server.calls == 11  # q3 alone; of the others only the verdict was missing
    metrics = json.loads((run_folder() / "metrics.json").read_text())["targets"]["m"]["metrics"]
    assert {(metric["scorer"], metric["n"], metric["errors"]) for metric in metrics[:2]} == {
        ("exact_match", 10, 0),
        ("asks", 10, 0),
    }


def test_two_processes_cannot_write_the_same_run() -> None:
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=2000, concurrency=2)
        process = subprocess.Popen(
            [sys.executable, "-m", "evalrunner", "long.yaml"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=command_env(),
        )
        until = time.monotonic() + 30
        while time.monotonic() < until and not any(Path("runs").glob("long/*/rows.jsonl")):
            time.sleep(0.01)
        second = evalrun("--resume", "last")
        process.kill()
        process.communicate()
    assert second.returncode == 2
    assert f"is being written by process {process.pid} on this machine" in second.stderr


def test_resume_reads_standard_input_dataset_from_the_run_folder() -> None:
    with ScriptedServer(answer) as server, ScriptedServer(judge) as judges:
        write(server.base_url, judges.base_url, rows=40, concurrency=2)
        text = Path("long.yaml").read_text().replace("dataset: data.jsonl", "dataset: {path: '-', limit: 30}")
        Path("long.yaml").write_text(text)
        first = evalrun("long.yaml", "--set", "run.run_timeout=0.2", stdin=Path("data.jsonl").read_text())
        assert first.returncode == 3
        Path("data.jsonl").unlink()
        done = evalrun("--resume", "last", "--set", "run.run_timeout=60")
        assert done.returncode == 0, done.stderr
    assert sum(keys(run_folder()).values()) == 30


def test_resume_error_lists_resumable_runs() -> None:
    assert "no runs in" in evalrun("--resume", "last").stderr
    assert "requires --resume" in evalrun("x.yaml", "--retry-errors").stderr
    done = evalrun("run")
    assert (done.returncode, "name a suite" in done.stderr) == (2, True)
