"""Processes that are stopped for longer than every timeout, and continue: no row becomes an error of it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.counts import Attacks
from tests.fakes.command import command_env
from tests.fakes.server import Answer, Cut, Script, ScriptedServer, Slow, Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops no process"),
]

STOPPED_S = 9.0  # longer than every timeout of the suites below
TIMEOUTS: Mapping[str, Any] = {"timeout": 3, "row_timeout": 6, "run_timeout": 40, "retries": 0, "concurrency": 4}
ROWS = 16
OWN = """
import asyncio, time


async def answer(input):
    await asyncio.sleep(1.0)
    return "Paris"


def answer_in_a_thread(input):
    time.sleep(1.0)
    return "Paris"


async def score(output):
    await asyncio.sleep(1.0)
    return output == "Paris"
"""


def paris(_request: Any, _nth: int) -> Slow:
    return Slow(1.0, Answer("Paris"))


def limited() -> Script:
    """A server that refuses the first request of every row for two seconds."""
    known: set[str] = set()

    def script(request: Any, _nth: int) -> Slow | Status:
        content = json.dumps(request["messages"])
        if content in known:
            return Slow(0.5, Answer("Paris"))
        known.add(content)
        return Status(429, {"error": {"message": "slow down"}}, {"Retry-After": "2"})

    return script


def forgetful() -> Script:
    """A server that closes connections after a second without a reply, but once a second it has one."""
    numbers = count()
    return lambda _request, _nth: Slow(1.0, Cut(20) if next(numbers) in (4, 5, 6, 7) else Answer("Paris"))


@dataclass(frozen=True)
class Case:
    """One kind of work during which the process is stopped."""

    target: Mapping[str, Any] = field(default_factory=lambda: {"model": "m", "base_url": "BASE"})
    keys: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    script: Callable[[], Script] = lambda: paris
    needs: str | None = None


CASES: dict[str, Case] = {
    "pyreqwest": Case(),
    "httpx": Case({"model": "m", "base_url": "BASE", "transport": "httpx"}),
    "streams": Case(run={"stream": True}),
    "http": Case({"type": "http", "url": "BASE/chat/completions", "body": {"q": "{{ input }}"}, "output": "choices.0.message.content"}),
    "litellm": Case(
        {"model": "hosted_vllm/m", "api_key": "sk-1234567", "params": {"api_base": "BASE"}}, run={"timeout": 7, "row_timeout": 8},
        needs="litellm",
    ),
    "async function": Case({"type": "python", "function": "own.py:answer"}),
    "function": Case({"type": "python", "function": "own.py:answer_in_a_thread"}),
    "scorer": Case(keys={"scorers": ["contains", {"type": "python", "function": "own.py:score"}]}),
    "wait for a rate limit": Case(script=limited, run={"retries": 8}),
    "wait for requests per minute": Case({"model": "m", "base_url": "BASE", "rpm": 120}),
    "wait for a slot": Case({"model": "m", "base_url": "BASE", "concurrency": 1}, run={"run_timeout": 60}),
}  # fmt: skip


@dataclass
class Suspended:
    """A run in a folder of its own that is stopped after its first row."""

    folder: Path
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, folder: Path, case: Case, url: str) -> Suspended:
        folder.mkdir()
        (folder / "own.py").write_text(OWN)
        rows = [{"id": f"r{number}", "input": f"q{number}", "expected": "Paris"} for number in range(ROWS)]
        target = json.loads(json.dumps({"name": "bot", **case.target}).replace("BASE", url))
        suite = {
            "name": "s", "dataset": {"rows": rows}, "target": target, "scorers": ["contains"], "gates": ["contains >= 0.5"],
            **case.keys, "run": {**TIMEOUTS, **case.run},
        }  # fmt: skip
        (folder / "s.yaml").write_text(json.dumps(suite))
        process = subprocess.Popen(
            [sys.executable, "-m", "evalrunner", "s.yaml"], env=command_env(), cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        return cls(folder, process)

    def rows(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for log in self.folder.glob("runs/s/*/rows.jsonl")
            for line in log.read_text().splitlines()
            if line.endswith("}")
        ]

    def faults(self) -> list[str]:
        """What is wrong at the end of the run."""
        out, err = self.process.communicate(timeout=120)
        faults = (
            []
            if self.process.returncode == 0
            else [f"it ended with {self.process.returncode}: {out[-300:]}{err[-300:]}"]
        )
        if "did not run for" not in out:
            faults.append(f"the suspension is not named: {out[:300]}")
        rows = self.rows()
        if sorted(row["id"] for row in rows) != sorted(f"r{number}" for number in range(ROWS)):
            faults.append(f"{len(rows)} of {ROWS} rows")
        for row in rows:
            if "failure" in row:
                faults.append(f"{row['id']}: {row['failure']}")
            elif (latency_s := row["completion"].get("latency_s") or 0.0) > STOPPED_S - 2:
                faults.append(f"{row['id']}: latency of {latency_s} s")
        return faults


def test_no_kind_of_work_fails_because_its_process_was_stopped(tmp_path: Path, attacks: Attacks) -> None:
    cases = {name: case for name, case in CASES.items() if case.needs is None or importlib.util.find_spec(case.needs)}
    servers = {name: ScriptedServer(case.script()) for name, case in cases.items()}
    runs: dict[str, Suspended] = {}
    try:
        for name, case in cases.items():
            runs[name] = Suspended.start(tmp_path / name.replace(" ", "_"), case, servers[name].__enter__().base_url)
        waiting = dict(runs)
        stopped_at: dict[str, float] = {}
        until = time.monotonic() + 90
        while (waiting or stopped_at) and time.monotonic() < until:
            for name, run in list(waiting.items()):
                if run.rows() or run.process.poll() is not None:
                    os.kill(run.process.pid, signal.SIGSTOP)
                    stopped_at[name] = time.monotonic()
                    del waiting[name]
            for name, since in list(stopped_at.items()):
                if time.monotonic() - since > STOPPED_S:
                    os.kill(runs[name].process.pid, signal.SIGCONT)
                    del stopped_at[name]
            time.sleep(0.05)
        for name, run in runs.items():
            attacks.add(name, run.faults())
    finally:
        for run in runs.values():
            if run.process.poll() is None:
                run.process.kill()
                run.process.communicate()
        for server in servers.values():
            server.__exit__()
    attacks.check()


def test_a_server_that_closes_its_connections_meanwhile_costs_no_row(tmp_path: Path) -> None:
    with ScriptedServer(forgetful()) as server:
        run = Suspended.start(tmp_path / "closed", Case(), server.base_url)
        while len(run.rows()) < 4 and run.process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.4)  # the next four are in flight, and will be cut
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        run.process.send_signal(signal.SIGCONT)
        assert run.faults() == []


def test_a_timeout_of_a_server_that_never_answers_still_ends_a_row_after_a_suspension(tmp_path: Path) -> None:
    with ScriptedServer(lambda _request, nth: Slow(0.1, Answer("Paris")) if nth % 2 else Slow(60.0)) as server:
        run = Suspended.start(tmp_path / "hung", Case(run={"run_timeout": 90}), server.base_url)
        while not run.rows() and run.process.poll() is None:
            time.sleep(0.02)
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        run.process.send_signal(signal.SIGCONT)
        out, _ = run.process.communicate(timeout=100)
    failures = [row["failure"]["kind"] for row in run.rows() if "failure" in row]
    assert set(failures) == {"timeout"}
    assert len(run.rows()) == ROWS
    assert "did not run for" in out
