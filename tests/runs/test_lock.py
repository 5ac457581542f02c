"""One process writes a run; whoever comes second is told who does; a process that died holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evalrunner.errors import RunError, RunLockedError
from evalrunner.locking import locked, take_lock
from evalrunner.runs.lock import RunLock
from tests.fakes.command import command_env

HOLD = "from evalrunner.runs.lock import RunLock\nwith RunLock(pathlib.Path(sys.argv[1])):\n"
WAIT = "from evalrunner.locking import locked\nwith locked(pathlib.Path(sys.argv[1])):\n"


@contextmanager
def holder(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds a lock until its standard input ends."""
    code = f"import pathlib, sys\n{script}    print('held', flush=True)\n    sys.stdin.read()\n"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=command_env()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "20260102T030405Z-00ff"
    folder.mkdir()
    return folder


def test_the_second_process_is_told_which_one_writes_the_run(run: Path) -> None:
    with holder(HOLD, run) as process, pytest.raises(RunLockedError) as caught, RunLock(run):
        pass
    said = f"run {run.name} is being written by process {process.pid} on this machine; wait for it or end it"
    assert (str(caught.value), caught.value.exit_code) == (said, 2)
    with RunLock(run):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_process_leaves_no_lock_behind(run: Path) -> None:
    with holder(HOLD, run) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with RunLock(run):
            pass


def test_within_one_process_too_a_run_is_written_once(run: Path) -> None:
    with RunLock(run), pytest.raises(RunLockedError, match=f"process {os.getpid()} on this machine"), RunLock(run):
        pass
    with RunLock(run):
        pass


def test_a_holder_elsewhere_is_named_and_one_that_says_nothing_is_not(run: Path) -> None:
    with RunLock(run):
        (run / ".lock").write_text("77 other\x1b[31m\n")
        with pytest.raises(RunLockedError, match=r"by process 77 on 'other\\x1b\[31m'; wait"), RunLock(run):
            pass
        (run / ".lock").write_text("")
        with pytest.raises(RunLockedError, match="written by another process; wait"), RunLock(run):
            pass


def test_a_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot lock '.*\.lock': No such file"), RunLock(tmp_path / "gone"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_lock_that_is_waited_for_comes_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(WAIT, path) as process:
        assert take_lock(path, wait=False) is None
        os.kill(process.pid, signal.SIGKILL)
        with locked(path):
            pass
