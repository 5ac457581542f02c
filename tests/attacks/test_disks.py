"""Folders, disks and locks that refuse: what is known before the first call is said before it, with code 2."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attacks.counts import Attacks
from tests.attacks.test_machines import SUITE, finish, leftovers, limited, logged, resumed, start, told, write_suite
from tests.fakes.server import Answer, ScriptedServer, Slow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts and limits are those of Linux")

NO_LOCKS_C = """
#include <errno.h>
#include <stdlib.h>
int flock(int file, int operation) {
    if (operation & 8) return 0;
    errno = atoi(getenv("LOCK_ERRNO"));
    return -1;
}
"""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _request, _nth: Slow(0.02, Answer("Paris"))) as running:
        yield running


@contextmanager
def tmpfs(folder: str, options: str) -> Iterator[None]:
    """A small file system in a folder; skips the test where this user may mount none."""
    Path(folder).mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False
    ).returncode:
        pytest.skip("no file system can be mounted")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def refused(server: ScriptedServer, *args: str) -> list[str]:
    """What is wrong with a run that cannot write: it should end with 2 and one sentence, and call nothing."""
    calls = server.calls
    done = finish(start(SUITE, "--quiet", *args))
    faults = told(done)
    if (done.code, done.out, server.calls - calls) != (2, "", 0):
        faults.append(f"code {done.code}, {server.calls - calls} calls: {done.out}{done.err}")
    if "\n" in done.err.strip():
        faults.append(f"not one sentence: {done.err}")
    return faults


def test_a_folder_that_cannot_be_written_is_said_before_the_first_call(
    server: ScriptedServer, attacks: Attacks
) -> None:
    write_suite(server.base_url, 5)
    Path("file").touch()
    Path("taken").mkdir()
    Path("taken/machine").touch()
    Path("folder.csv").mkdir()
    Path("nowhere").symlink_to("/nonexistent/folder")
    Path("ring").symlink_to("ring")
    for args in (
        ["--output-dir", "file"], ["--output-dir", "file/below"], ["--output-dir", "taken"], ["--output-dir", "/proc/nothing"],
        ["--output-dir", "/dev/null"], ["--output-dir", "nowhere"], ["--output-dir", "ring"], ["--output-dir", "x" * 300],
        ["-o", "folder.csv"], ["-o", "/proc/nothing/out.csv"], ["-o", "file/out.xlsx"], ["-o", "ring/out.json"],
    ):  # fmt: skip
        attacks.add(" ".join(args)[:60], refused(server, *args))
    attacks.check()


@pytest.mark.slow
def test_disks_without_space_or_without_writing_are_said_before_the_first_call(
    server: ScriptedServer, attacks: Attacks
) -> None:
    write_suite(server.base_url, 5)
    with tmpfs("read_only", "ro"):
        for args in (["--output-dir", "read_only"], ["--output-dir", "read_only/runs"], ["-o", "read_only/out.csv"]):
            attacks.add(" ".join(args), refused(server, *args))
    with tmpfs("full", "size=64k"):
        Path("full/filling").write_bytes(bytes(64 * 1024))
        attacks.add("a full disk", refused(server, "--output-dir", "full"))
        os.truncate("full/filling", 56 * 1024)
        attacks.add("8 KiB left", refused(server, "--output-dir", "full"))
        assert [path.name for path in Path("full").rglob("*") if path.is_file()] == ["filling"]
    with tmpfs("few", "size=1m,nr_inodes=3"):
        attacks.add("no inodes left", refused(server, "--output-dir", "few/a/b/c"))
    attacks.check()


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_a_run_with_the_command_to_resume_it(
    server: ScriptedServer, attacks: Attacks
) -> None:
    """At any moment: in the row log, the table, the report, the cache or the record. With space again the run is completed."""
    for kibibytes in (24, 32, 40, 56, 80, 120, 200, 300):
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url, 200)
        with tmpfs("runs", f"size={kibibytes}k"):
            done = finish(start(SUITE, "--quiet"))
            faults = told(done)
            if done.code == 3:
                if "evalrun --resume runs/machine/" not in done.err and logged():
                    faults.append(f"no hint: {done.err[-300:]}")
                before = len(logged())
                subprocess.run(["mount", "-o", "remount,size=16m", "runs"], check=True)
                faults += resumed(server, 200) if before else []
            elif done.code not in (0, 2):
                faults.append(f"it ended with {done.code}")
            attacks.add(f"{kibibytes} KiB", faults)
    attacks.check()


@pytest.mark.slow
def test_a_second_suite_whose_folder_is_taken_ends_with_3_because_the_first_was_called(server: ScriptedServer) -> None:
    write_suite(server.base_url, 5)
    first = json.loads(Path(SUITE).read_text())
    Path("second.yaml").write_text(json.dumps({**first, "name": "second"}))
    Path("runs").mkdir()
    Path("runs/second").touch()
    done = finish(start(SUITE, "second.yaml", "--quiet"))
    assert (done.code, server.calls) == (2, 0)  # known before the first call of any
    assert "cannot write to 'runs/second'" in done.err


@pytest.fixture
def without_locks(tmp_path: Path) -> str:
    """A library that lets flock fail with the number in LOCK_ERRNO, as network file systems do."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "locks.c", tmp_path / "locks.so"
    source.write_text(NO_LOCKS_C)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


@pytest.mark.slow
def test_a_file_system_without_locks_still_lets_one_process_write_a_run(
    server: ScriptedServer, without_locks: str, attacks: Attacks
) -> None:
    for name in ("ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"):
        env = {"LD_PRELOAD": without_locks, "LOCK_ERRNO": str(getattr(errno, name))}
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url, 40, run={"concurrency": 1})
        first = start(SUITE, "--quiet", env=env)
        while not (logged() and list(Path("runs").glob("*/*/run.json"))) and first.poll() is None:
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        second = finish(start("--resume", "last", "--quiet", env=env))
        faults = [] if second.code == 2 and "is being written by" in second.err else [f"second: {second}"]
        first.kill()
        first.communicate()
        faults += [f"a warning: {second.err}"] if "Warning" in second.err else []
        if name != "ENOSYS":  # filelock's own lock for such systems waits for its holder's entry to expire
            done = finish(start("--resume", "last", "--quiet", env=env))
            faults += told(done) + (
                [] if logged() and set(logged().values()) == {1} and len(logged()) == 40 else [f"{done}"]
            )
        attacks.add(name, faults + [f"{path} is left over" for path in leftovers()])
    attacks.check()


@pytest.mark.slow
def test_a_holder_on_another_machine_is_not_replaced_on_a_file_system_without_locks(
    server: ScriptedServer, without_locks: str
) -> None:
    env = {"LD_PRELOAD": without_locks, "LOCK_ERRNO": str(errno.ENOLCK)}
    write_suite(server.base_url, 3)
    assert finish(start(SUITE, "--quiet", env=env)).code == 0
    (run,) = Path("runs/machine").iterdir()
    (run / ".lock-holder").write_text("999999 elsewhere\n")
    done = finish(start("--resume", "last", env=env))
    assert done.code == 2
    assert f"if that process was killed, remove '{run}/.lock-holder'" in done.err
    (run / ".lock-holder").write_text(f"999999 {platform.node()}\n")
    assert finish(start("--resume", "last", env=env)).code == 0


def test_a_lock_that_a_broken_disk_refuses_is_said_before_the_first_call(
    server: ScriptedServer, without_locks: str
) -> None:
    write_suite(server.base_url, 3)
    done = finish(start(SUITE, env={"LD_PRELOAD": without_locks, "LOCK_ERRNO": str(errno.EIO)}))
    assert (done.code, server.calls) == (2, 0)
    assert "cannot lock" in done.err and "Input/output error; nothing was called" in done.err
    assert list(Path("runs/machine").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_is_wrong_with_a_cache_file_the_run_has_its_rows_and_pays_once(
    server: ScriptedServer, tmp_path: Path, attacks: Attacks
) -> None:
    write_suite(server.base_url, 40, cache="all")
    folder = tmp_path / "cache"
    env = {"EVALRUN_CACHE_DIR": str(folder)}
    assert finish(start(SUITE, "--quiet", env=env)).code == 0
    whole = (folder / "answers.sqlite").read_bytes()
    half = len(whole) // 2
    forms: dict[str, Callable[[Path], object]] = {
        "empty": Path.touch, "half": lambda path: path.write_bytes(whole[:half]), "a folder": Path.mkdir, "a pipe": os.mkfifo,
        "zeros": lambda path: path.write_bytes(bytes(len(whole))), "a ring of links": lambda path: path.symlink_to(path.name),
        "zeros behind its head": lambda path: path.write_bytes(whole[:4096] + bytes(len(whole) - 4096)),
        "a null device": lambda path: path.symlink_to("/dev/null"), "text": lambda path: path.write_text("hello\n" * 900),
        "a journal left over": lambda path: (path.write_bytes(whole), Path(f"{path}-journal").write_bytes(whole[:5000])),
        "a log left over": lambda path: (path.write_bytes(whole), Path(f"{path}-wal").write_bytes(whole[:5000])),
        "an index that is a folder": lambda path: (path.write_bytes(whole), Path(f"{path}-shm").mkdir()),
    }  # fmt: skip
    for name, form in forms.items():
        shutil.rmtree("runs", ignore_errors=True)
        shutil.rmtree(folder)
        folder.mkdir()
        form(folder / "answers.sqlite")
        calls = server.calls
        done = finish(start(SUITE, "--quiet", env=env))
        faults = told(done) + ([] if done.code == 0 else [f"code {done.code}: {done.err[-200:]}"])
        if server.calls - calls > 40 or len(logged()) != 40:
            faults.append(f"{server.calls - calls} calls, {len(logged())} rows")
        attacks.add(name, faults)
    attacks.check()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cache_on_a_full_or_read_only_disk_does_not_fail_a_run(server: ScriptedServer, attacks: Attacks) -> None:
    for options in (
        "size=4k",
        "size=12k",
        "size=24k",
        "size=40k",
        "size=64k",
        "size=1m,nr_inodes=2",
        "size=1m,nr_inodes=3",
        "ro",
    ):
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url, 200, cache="all", run={"concurrency": 16})
        with tmpfs("cache", options):
            env = {"EVALRUN_CACHE_DIR": str(Path("cache").absolute())}
            done = finish(start(SUITE, env=env))
            faults = told(done) + (
                [] if done.code == 0 and len(logged()) == 200 else [f"{done.code}: {done.err[-200:]}"]
            )
            if "size=1m" not in options and "the answer cache" not in " ".join(done.out.split()):
                faults.append(f"no notice: {done.out[:200]}")
        Path("cache").rmdir()
        attacks.add(options, faults + (resumed(server, 200) if logged() else []))
    attacks.check()


@pytest.mark.slow
def test_a_cache_that_another_process_locks_delays_a_run_by_seconds_only(
    server: ScriptedServer, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    env = {"EVALRUN_CACHE_DIR": str(folder)}
    write_suite(server.base_url, 100, cache="all")
    assert finish(start(SUITE, "--quiet", "--limit", "1", env=env)).code == 0
    holder = sqlite3.connect(folder / "answers.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        done = finish(start(SUITE, env=env))
    finally:
        holder.close()
    assert (done.code, server.calls) == (0, 100)  # the first row was cached
    text = " ".join(done.out.split())
    assert "is disabled: database is locked" in text or "it is locked" in text


PRICED = {
    "run": {"concurrency": 4, "max_cost": 5},
    "params": {"max_tokens": 5},
    "prices": {"m": {"input": 1, "output": 1}},
}


@pytest.mark.slow
def test_a_ledger_of_costs_that_cannot_grow_ends_a_run_before_the_next_call(
    server: ScriptedServer, attacks: Attacks
) -> None:
    """The ledger of a resumed run is the only file at the limit of the disk; the other files are smaller."""
    limit = 1000 * 512
    for left in (0, 40, 200):  # at once, within the first line, after some calls
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url, 30, **PRICED)
        process = start(SUITE, "--quiet")
        while len(logged()) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        (ledger,) = Path("runs/machine").glob("*/spend.jsonl")
        content = ledger.read_bytes()
        content = content[: content.rfind(b"\n") + 1]
        filler = b'{"before":"targets","usd":0.0}'
        ledger.write_bytes(content + filler.ljust(limit - left - len(content) - 1) + b"\n")
        before, calls = len(logged()), server.calls
        done = limited("--resume", "last", "--quiet", blocks=1000)
        faults = told(done) + ([] if done.code == 3 else [f"code {done.code}"])
        words = done.out + done.err
        faults += [] if "spend.jsonl': File too large; the cost cap needs this file" in words else [f"no word: {words}"]
        faults += [] if left or server.calls == calls else [f"{server.calls - calls} calls"]
        ledger.write_bytes(content + ledger.read_bytes()[limit - left :])
        faults += resumed(server, 30) if before else []
        attacks.add(f"{left} bytes left", faults)
    attacks.check()
