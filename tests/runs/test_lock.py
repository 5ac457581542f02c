"""The run lock: one process writes a run, a second one gets an error that names it, and a dead process holds no lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from evalrunner.errors import RunError, RunLockedError
from evalrunner.runs.folder import RunLock
from tests.fakes.command import command_env

HOLD = "from evalrunner.runs.folder import RunLock\nwith RunLock(pathlib.Path(sys.argv[1])):\n"
WAIT = "from filelock import FileLock\nwith FileLock(sys.argv[1]):\n"


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


def test_a_second_process_gets_an_error_that_names_the_holder(run: Path) -> None:
    with holder(HOLD, run) as process, pytest.raises(RunLockedError) as caught, RunLock(run):
        pass
    message = (
        f"run {run.name} is being written by process {process.pid} on this machine; wait for it to finish or stop it"
    )
    assert (str(caught.value), caught.value.exit_code) == (message, 2)
    with RunLock(run):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_process_leaves_no_lock_behind(run: Path) -> None:
    with holder(HOLD, run) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with RunLock(run):
            pass


def test_the_lock_also_excludes_writers_in_the_same_process(run: Path) -> None:
    with RunLock(run), pytest.raises(RunLockedError, match=f"process {os.getpid()} on this machine"), RunLock(run):
        pass
    with RunLock(run):
        pass


def test_a_holder_on_another_host_is_named_and_an_unknown_one_is_not(run: Path) -> None:
    with RunLock(run):
        (run / ".lock-holder").write_text("77 other\x1b[31m\n")
        with pytest.raises(RunLockedError, match=r"by process 77 on 'other\\x1b\[31m'; wait"), RunLock(run):
            pass
        (run / ".lock-holder").write_text("")
        with pytest.raises(RunLockedError, match="written by another process; wait"), RunLock(run):
            pass


def test_a_missing_run_folder_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot lock '.*\.lock': No such file"), RunLock(tmp_path / "gone"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_waiting_for_a_lock_ends_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(WAIT, path) as process:
        with pytest.raises(Timeout):
            FileLock(path).acquire(blocking=False)
        os.kill(process.pid, signal.SIGKILL)
        with FileLock(path):
            pass
