"""Clocks that are set forwards and backwards, by hours and by years, before and during a run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.counts import Attacks
from tests.attacks.test_machines import SUITE, finish, leftovers, logged, start, told, write_suite
from tests.cases.suites import Ended
from tests.fakes.server import Answer, ScriptedServer, Slow, Status

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")]

HOUR, YEAR = 3600, 31_536_000
JUMPS = {
    "an hour forwards": [HOUR], "an hour back": [-HOUR], "two years forwards": [2 * YEAR], "ten years back": [-10 * YEAR],
    "forwards and back": [9 * HOUR, 0], "back and forwards": [-9 * HOUR, 0], "a wild clock": [YEAR, -YEAR, 50, 3 * YEAR, -20 * YEAR],
    "to 1970": [-int(time.time()) + 60], "beyond 2038": [15 * YEAR],
}  # fmt: skip

COMMANDS = ("show last", "runs", "report last", "gate last", "cache info", "--resume last")


def limits_some(request: Any, nth: int) -> Slow | Status:
    """A server that asks every tenth row to wait until a date, by a clock of its own that is right."""
    if json.dumps(request["messages"]).rstrip('"}]').endswith("0") and nth <= 40:
        date, then = formatdate(usegmt=True), formatdate(time.time() + 1, usegmt=True)
        return Status(429, {"error": {"message": "slow down"}}, {"Retry-After": then, "Date": date})
    return Slow(0.1, Answer("Paris"))


class Clock:
    """The wall clock of commands; their monotonic clock is that of the machine."""

    def __init__(self) -> None:
        self.file = Path("clock").absolute()
        self.set(0)

    def set(self, seconds: int) -> None:
        """Put the clock so many seconds from the right time."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.file)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "EVALRUN_CACHE_DIR": str(self.file.with_name("cache")),
        }  # fmt: skip

    def command(self, *args: str) -> Ended:
        return finish(start(*args, env=self.environ))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(limits_some) as running:
        yield running


def faults_of(done: Ended) -> list[str]:
    """What is wrong with a run whose clock was set, by its files."""
    faults = told(done) + ([] if done.code == 0 else [f"it ended with {done.code}: {done.out[-300:]}"])
    (record,) = [json.loads(path.read_text()) for path in Path("runs").rglob("run.json")]
    started, ended = (datetime.fromisoformat(record[name]) for name in ("started_at", "finished_at"))
    if not 0 <= (ended - started).total_seconds() - record["duration_s"] < 1:
        faults.append(f"from {started} to {ended} in {record['duration_s']} s")
    for line in next(Path("runs").rglob("rows.jsonl")).read_text().splitlines():
        row = json.loads(line)
        latency_s = row.get("completion", {}).get("latency_s")
        if latency_s is None or not 0 < latency_s < 30:
            faults.append(f"{row['id']}: latency {latency_s}, {row.get('failure')}")
    if len(logged()) != 40 or set(logged().values()) != {1}:
        faults.append(f"{len(logged())} rows")
    return faults


@pytest.mark.timeout(900)
def test_a_clock_that_is_set_during_a_run_changes_no_row_and_no_duration(
    server: ScriptedServer, clock: Clock, attacks: Attacks
) -> None:
    for name, jumps in JUMPS.items():
        for folder in ("runs", "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        clock.set(0)
        write_suite(server.base_url, run={"concurrency": 4, "row_timeout": 20}, cache={"mode": "all", "ttl": "1h"})
        process = start(SUITE, env=clock.environ)
        for jump in jumps:
            before = len(logged())
            while len(logged()) < before + 5 and process.poll() is None:
                time.sleep(0.01)
            clock.set(jump)
        faults = faults_of(finish(process))
        for line in COMMANDS if name in ("a wild clock", "to 1970") else ():
            done = clock.command(*line.split())
            if done.code or "-" in done.out.partition("oldest: ")[2][:1]:
                faults.append(f"{line}: {done.code}: {done.out[-200:]}{done.err[-200:]}")
        attacks.add(name, faults)
    attacks.check()


@pytest.mark.timeout(600)
def test_ids_sort_by_age_and_last_is_the_newest_run_whatever_the_clock_says(
    server: ScriptedServer, clock: Clock, attacks: Attacks
) -> None:
    write_suite(server.base_url, 2)
    ids: list[str] = []
    for seconds in (0, 3 * HOUR, 2 * HOUR, -5 * YEAR, 0, YEAR, 0):
        clock.set(seconds)
        done = clock.command(SUITE, "--quiet")
        (new,) = {path.name for path in Path("runs/machine").iterdir()} - set(ids)
        ids.append(new)
        shown = clock.command("show", "last")
        faults = [] if new in shown.out else [f"`last` is another run than {new}: {shown.out[-200:]}"]
        attacks.add(f"{seconds:+d} s", told(done) + faults + ([] if sorted(ids) == ids else [f"{ids}"]))
    attacks.check()


def test_cached_answers_from_the_future_are_not_used_under_a_ttl_and_can_be_removed(
    server: ScriptedServer, clock: Clock
) -> None:
    server.script = lambda _request, _nth: Answer("Paris")
    write_suite(server.base_url, 5, cache={"mode": "all", "ttl": "1h"})
    for seconds, calls in (
        (YEAR, 5),
        (YEAR + 1800, 5),
        (YEAR + 2 * HOUR, 10),
        (0, 15),
        (1800, 15),
        (-60, 15),
        (-HOUR, 20),
    ):
        clock.set(seconds)
        assert clock.command(SUITE, "--quiet").code == 0
        assert (seconds, server.calls) == (seconds, calls)
    clock.set(-YEAR)
    assert "5 answers" in clock.command("cache", "clear", "--older-than", "1d").out


def test_a_temporary_file_of_a_killed_process_is_removed_whatever_the_clock_says(
    server: ScriptedServer, clock: Clock
) -> None:
    write_suite(server.base_url, 40)
    process = start(SUITE, "--quiet", env=clock.environ)
    while not logged() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (run,) = Path("runs/machine").iterdir()
    (run / ".report.html.2147483647.a1b2c3d4.part").touch()
    clock.set(-10 * YEAR)
    assert clock.command("--resume", "last", "--quiet").code == 0
    assert leftovers() == []
    assert set(logged().values()) == {1}
