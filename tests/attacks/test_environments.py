"""Machines on which something is missing that is there elsewhere: a home folder, an entry for the user, /proc, /dev/shm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.counts import Attacks
from tests.attacks.test_machines import SUITE, finish, logged, start, told, write_suite
from tests.cases.suites import Ended
from tests.fakes.command import ROOT, command_env
from tests.fakes.server import Answer, ScriptedServer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="these folders are those of Linux")]

NOBODY = """
import pwd


def missing(_user):
    raise KeyError("getpwuid(): uid not found")


pwd.getpwuid = pwd.getpwnam = missing
"""
UNSET = "unset HOME USER LOGNAME TERM LANG LC_ALL XDG_CACHE_HOME EVALRUN_CACHE_DIR"
MOUNTS = {
    "no /proc": "umount -l /proc",
    "no /dev/shm": "umount -l /dev/shm",
    "an empty /dev": "mount -t tmpfs none /dev",
    "no room for temporary files": "export TMPDIR=/dev/null",
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _request, _nth: Answer("Paris")) as running:
        yield running


@pytest.fixture
def without_user(tmp_path: Path) -> str:
    """A path of modules with which Python finds no entry for any user."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NOBODY)
    return f"{folder}:{ROOT}"


def test_a_user_without_entry_and_home_folder_can_use_every_command(
    server: ScriptedServer, without_user: str, attacks: Attacks
) -> None:
    write_suite(server.base_url, 5, cache="all")
    env = {"PYTHONPATH": without_user}
    for line in (
        SUITE,
        "show last",
        "report last",
        "gate last",
        "runs",
        "cache info",
        "list scorers",
        f"plan {SUITE} --offline",
    ):
        done = finish(start(*line.split(), shell=UNSET, env=env))
        attacks.add(line, told(done) + ([] if done.code == 0 else [f"code {done.code}: {done.err[-200:]}"]))
    done = finish(start(SUITE, "--set", "dataset=~/nothing.jsonl", shell=UNSET, env=env))
    attacks.add("~ in a path", told(done) + ([] if done.code == 2 else [f"code {done.code}"]))
    attacks.check()


def test_the_notice_says_which_variable_is_missing(server: ScriptedServer, without_user: str) -> None:
    write_suite(server.base_url, 2, cache="all")
    done = finish(start(SUITE, shell=UNSET, env={"PYTHONPATH": without_user}))
    assert done.code == 0
    assert "no home folder: set HOME or EVALRUN_CACHE_DIR" in " ".join(done.out.split())


@pytest.mark.parametrize("name", MOUNTS)
def test_a_machine_without_a_system_folder_runs_suites(server: ScriptedServer, name: str) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no file system can be unmounted")
    write_suite(server.base_url, 5)
    line = f'{MOUNTS[name]}; exec "{sys.executable}" -m evalrunner {SUITE} --quiet'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line], env=command_env(), capture_output=True, text=True, check=False, timeout=120
    )
    assert told(Ended(done.returncode, done.stdout, done.stderr)) == []
    assert done.returncode == 0, done.stderr
    assert len(logged()) == 5
