"""Spool folders of processes that run at the same time, and of those that were killed."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrunner import storage
from evalrunner.errors import SuiteError
from evalrunner.storage import SPOOL, SPOOL_LOCK, acquire_lock, spool_folder

MANY = """
import os, sys
from evalrunner.storage import spool_folder
for number in range(int(sys.argv[1])):
    with spool_folder() as folder:
        file = folder / "data"
        file.write_text("x")
        os.sched_yield()
        assert file.read_text() == "x" and folder.stat().st_mode & 0o777 == 0o700
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    tempfile.tempdir = None


@pytest.mark.slow
def test_processes_that_start_together_do_not_remove_the_folders_of_each_other(temporary: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", MANY, "100"], cwd=Path(__file__).parents[1], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in running]
    assert ends == [(b"", 0)] * 4
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("moment", ["before the lock", "after the lock", "locked by another process"])
def test_a_folder_that_is_removed_before_it_is_locked_is_replaced(
    monkeypatch: pytest.MonkeyPatch, temporary: Path, moment: str
) -> None:
    taken = []

    def acquire(path: Path) -> object:
        if taken:
            return acquire_lock(path)
        taken.append(path.parent)
        if moment == "locked by another process":
            raise TimeoutError
        lock = acquire_lock(path) if moment == "after the lock" else None
        shutil.rmtree(path.parent)
        return lock or acquire_lock(path)  # filelock creates the folder of a lock

    monkeypatch.setattr(storage, "acquire_lock", acquire)
    with spool_folder() as folder:
        assert folder != taken[0]
        assert (folder / SPOOL_LOCK).exists()
    assert not folder.exists()
    with spool_folder():
        pass
    assert list(temporary.iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_not_removed_by_other_processes(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(storage, "acquire_lock", lambda _path: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
        unlocked = spool_folder()
        folder = unlocked.__enter__()
    with spool_folder():
        assert folder.is_dir()
    unlocked.__exit__(None, None, None)
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_removed_every_time_is_a_sentence(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    def refuse(_path: Path) -> object:
        raise TimeoutError

    monkeypatch.setattr(storage, "acquire_lock", refuse)
    with (
        pytest.raises(SuiteError, match="no temporary folder can be locked in '.*': another process removes it"),
        spool_folder(),
    ):
        pass


def test_folders_of_killed_processes_are_removed_and_those_in_use_are_not(temporary: Path) -> None:
    for name in ("killed", "killed.old"):
        (temporary / f"{SPOOL}{name}").mkdir()
        (temporary / f"{SPOOL}{name}" / "stdin.jsonl").write_text("secret")
    with spool_folder() as first, spool_folder() as second:
        assert sorted(temporary.iterdir()) == sorted([first, second])
