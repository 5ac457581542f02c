"""Signals in every phase of a run, once and twice: a sentence, code 130 or that of the verdict, and a run that resumes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.counts import Attacks
from tests.attacks.test_machines import SUITE, finish, leftovers, logged, resumed, start, told, write_suite
from tests.cases.suites import Ended
from tests.fakes.server import Answer, ScriptedServer, Slow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PHASES = ("reading", "calling", "scoring", "ending")
OWN = """
import os, pathlib, time


def note(name):
    pathlib.Path(name).touch()


note("reading")
if pathlib.Path("slow_reading").exists():
    for _ in range(40):
        time.sleep(0.05)


def score(output):
    note("scoring")
    time.sleep(0.05)
    return True


def fail(output):
    {action}
"""
EXITS = {
    "os._exit": "import os; os._exit(0)",
    "sys.exit": "import sys; sys.exit(0)",
    "os._exit in a thread": "import os, threading; t = threading.Thread(target=os._exit, args=(0,)); t.start(); t.join()",
    "sys.exit in a thread": "import sys, threading; t = threading.Thread(target=sys.exit); t.start(); t.join()",
    "a signal to itself": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "an exit of a child": "import os\n    if os.fork() == 0: os._exit(7)\n    os.wait()",
    "a child that raises": "import os\n    if os.fork() == 0: os.kill(os.getpid(), 9)\n    os.wait()",
    "closed descriptors": "import os; os.closerange(20, 40)",
    "another folder": "import os; os.chdir('/')",
    "no standard streams": "import sys; sys.stdout = sys.stderr = None",
    "no memory limit left": "raise MemoryError",
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _request, _nth: Slow(0.05, Answer("Paris"))) as running:
        yield running


def write(server: ScriptedServer, action: str = "pass", name: str = "own", **keys: Any) -> None:
    Path(f"{name}.py").write_text(OWN.replace("{action}", action))
    for file in ("reading", "scoring"):
        Path(file).unlink(missing_ok=True)
    scorers = ["contains", {"type": "python", "function": f"{name}.py:score"}]
    write_suite(server.base_url, 30, **{"run": {"concurrency": 4}, "scorers": scorers, **keys})


def wait_for(phase: str, server: ScriptedServer, process: subprocess.Popen[str], calls: int) -> None:
    """Return when a run has reached a phase."""
    until = time.monotonic() + 60
    reached = {
        "reading": lambda: Path("reading").exists(),
        "calling": lambda: server.calls > calls,
        "scoring": lambda: Path("scoring").exists(),
        "ending": lambda: len(logged()) >= 30,
    }[phase]
    while not reached() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


def faults_of(done: Ended, server: ScriptedServer) -> list[str]:
    faults = told(done) + ([] if done.code in (0, 130) else [f"code {done.code}: {done.err[-300:]}"])
    if done.code == 130 and "interrupted" not in done.err.lower() + done.out.lower():
        faults.append(f"no word: {done.out[-200:]}{done.err[-200:]}")
    if done.code == 130 and logged() and "evalrun --resume" not in done.out + done.err and len(logged()) < 30:
        faults.append(f"no hint: {done.out[-200:]}{done.err[-200:]}")
    if any(Path("runs").rglob("run.json")):
        faults += resumed(server, 30)
    return faults + [f"{name} is left over" for name in leftovers()]


@pytest.mark.parametrize("sign", SIGNALS)
def test_a_signal_in_any_phase_ends_a_run_with_a_sentence(
    server: ScriptedServer, sign: signal.Signals, attacks: Attacks
) -> None:
    Path("slow_reading").touch()
    for phase in PHASES:
        for again in (False, True):
            shutil.rmtree("runs", ignore_errors=True)
            write(server)
            process = start(SUITE)
            wait_for(phase, server, process, server.calls)
            process.send_signal(sign)
            if again:
                time.sleep(0.05)
                process.send_signal(sign)
            attacks.add(f"{sign.name} while {phase}{', twice' if again else ''}", faults_of(finish(process), server))
    attacks.check()


@pytest.mark.parametrize("action", EXITS)
def test_what_ends_a_function_or_its_process_loses_no_row(server: ScriptedServer, action: str) -> None:
    name = f"own_{abs(hash(action))}"
    scorers = ["contains", {"type": "python", "function": f"{name}.py:fail"}]
    write(server, EXITS[action], name, scorers=scorers)
    done = finish(start(SUITE))
    faults = [fault for fault in told(done) if "in a thread" not in action or "traceback" not in fault]
    if action == "closed descriptors":  # one of them may be that of a module that another thread is reading
        faults = [fault for fault in faults if "get_data\nOSError: [Errno 9]" not in fault]
    assert faults == []
    assert Path("runs/machine").is_dir()
    if action == "a signal to itself":  # for every row: the third one leaves at once
        assert (done.code, set(logged().values()) <= {1}) == (130, True)
        return
    (record,) = Path("runs").rglob("run.json")
    assert json.loads(record.read_text())["status"] == "finished"
    assert logged() == {f"r{number}": 1 for number in range(30)}


def test_a_killed_process_leaves_no_temporary_file_of_any_kind_behind_the_next_start(
    server: ScriptedServer, tmp_path: Path, attacks: Attacks
) -> None:
    """Kills while all files are written: reports of several formats, the caches, the ledger of costs and the spool folder."""
    spool = tmp_path / "spool"
    spool.mkdir()
    env = {"TMPDIR": str(spool), "EVALRUN_CACHE_DIR": str(tmp_path / "cache")}
    outputs = [
        "-o",
        "out.csv",
        "-o",
        "out.xlsx",
        "-o",
        "out.html",
        "-o",
        "out.jsonl",
        "-o",
        "out.xml",
        "-o",
        "out.parquet",
    ]
    for number in range(4):
        shutil.rmtree("runs", ignore_errors=True)
        write(server, cache="all", run={"concurrency": 16})
        process = start(SUITE, *outputs, env=env)
        wait_for("ending", server, process, server.calls)
        time.sleep(0.04 * number)
        process.kill()
        process.communicate()
        done = finish(start("--resume", "last", "--quiet", *outputs, env=env))
        faults = told(done) + [f"{name} is left over" for name in leftovers()]
        faults += [f"{path.name} is left over" for path in tmp_path.glob(".*.part*")]
        faults += [] if set(logged().values()) == {1} and len(logged()) == 30 else [f"{len(logged())} rows"]
        attacks.add(f"kill {number}", faults)
    attacks.check()
