"""Machines with too little of something, processes that are killed, and files that are torn.

Whatever happens, a run ends with a code of the table and a sentence, rows on disk are not asked for again, and a
resumed run is complete.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.counts import Attacks
from tests.cases.suites import Ended, command
from tests.fakes.command import command_env
from tests.fakes.server import Answer, ScriptedServer, Slow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")

CODES = range(5)  # of verdicts and errors
MIB = 2**20
SUITE = "machine.yaml"
USER_CODE = """
import asyncio

calls = 0


class Odd(BaseException):
    pass


def raise_at_fifth():
    global calls
    calls += 1
    if calls == 5:
        raise {error}


{prefix}def answer(input):
    raise_at_fifth()
    return "Paris"


{prefix}def score(output):
    raise_at_fifth()
    return True


def ok(output):
    return True
"""


def write_suite(url: str, rows: int = 40, **keys: Any) -> None:
    """A suite whose every answer is right, with its data."""
    lines = [json.dumps({"id": f"r{number}", "input": f"q{number}", "expected": "Paris"}) for number in range(rows)]
    Path("data.jsonl").write_text("\n".join(lines) + "\n")
    target = {"name": "bot", "model": "m", "base_url": url}
    suite = {
        "name": "machine",
        "dataset": "data.jsonl",
        "target": target,
        "scorers": ["contains"],
        "gates": ["contains >= 0.5"],
    }
    Path(SUITE).write_text(json.dumps({**suite, **keys}))


def start(*args: str, shell: str = ":", env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A command that replaces a shell, which has run `shell`."""
    return subprocess.Popen(
        ["sh", "-c", f'{shell} && exec "$@"', "sh", sys.executable, "-m", "evalrunner", *args],
        env=command_env(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


def limited(*args: str, files: int | None = None, mib: int | None = None, blocks: int | None = None) -> Ended:
    """A command with few descriptors, little address space, or files of at most so many blocks of 512 bytes."""
    limits = {"n": files, "v": None if mib is None else mib * 1024, "f": blocks}
    shell = " && ".join(f"ulimit -{name} {value}" for name, value in limits.items() if value is not None)
    return finish(start(*args, shell=shell))


def logged() -> Counter[str]:
    """How often each row is in the row log."""
    records: Counter[str] = Counter()
    for log in Path("runs/machine").glob("*/rows.jsonl"):
        for line in log.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the last line of a killed process
                continue
            records[record["id"]] += 1
    return records


def told(done: Ended) -> list[str]:
    """What is wrong with how a command ended."""
    faults = [] if done.code in (*CODES, 130) else [f"it ended with {done.code}: {done.err[-300:]}"]
    if "Traceback" in done.err or "bug in evalrun" in done.err:
        faults.append(f"a traceback: {done.err[-300:]}")
    if done.code == 1:
        faults.append(f"the code of a gate that failed: {done.err[-300:]}")
    if done.code and not done.err.strip() and not done.out.strip():
        faults.append("no sentence")
    return faults


def resumed(server: ScriptedServer, rows: int) -> list[str]:
    """What is wrong after the run is resumed on a machine without limits."""
    before, calls = logged(), server.drain()
    done = finish(start("--resume", "last", "--quiet"))
    after = logged()
    faults = [] if done.code == 0 else [f"the resumed run ended with {done.code}: {done.err[-300:]}"]
    if len(after) != rows or set(after.values()) != {1}:
        faults.append(f"{len(after)} of {rows} rows, {sum(after.values())} lines")
    if server.drain() - calls > rows - len(before):
        asked = Counter(request.json["messages"][-1]["content"] for request in server.requests[calls:])
        known = sum(name.replace("r", "q") in asked for name in before)
        faults.append(
            f"{server.calls - calls} calls for {rows - len(before)} rows: {known} of rows in the log, "
            f"{sum(count > 1 for count in asked.values())} repeated, {len(asked)} different"
        )
    return faults + [f"{name} is left over" for name in leftovers()]


def leftovers() -> list[str]:
    """Temporary files in the folders of runs."""
    return [str(path) for path in Path("runs").rglob("*") if ".part" in path.name]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _request, _nth: Slow(0.02, Answer("Paris"))) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("files", [32, 64, 128, 256, 1024])
def test_few_descriptors_mean_fewer_calls_at_once(server: ScriptedServer, files: int) -> None:
    write_suite(server.base_url, 300, run={"concurrency": 200})
    done = limited(SUITE, "-o", "out.xlsx", files=files)
    assert told(done) == []
    if done.code:
        assert resumed(server, 300) == []
    else:
        assert logged() == Counter({f"r{number}": 1 for number in range(300)})


@pytest.mark.slow
def test_little_memory_ends_in_a_verdict_or_a_sentence(server: ScriptedServer, attacks: Attacks) -> None:
    parts: dict[str, tuple[dict[str, Any], list[str]]] = {
        "plain": ({}, []),
        "parquet": ({}, ["-o", "out.parquet"]),
        "threads": (
            {"scorers": ["contains", {"type": "python", "function": "own.py:ok"}], "run": {"concurrency": 64}},
            [],
        ),
    }
    Path("own.py").write_text(USER_CODE.format(error="ValueError", prefix=""))
    for name, (keys, args) in parts.items():
        for size in (1024, 700, 540):
            shutil.rmtree("runs", ignore_errors=True)
            write_suite(server.base_url, **keys)
            done = limited(SUITE, *args, mib=size)
            attacks.add(f"{name} in {size} MiB", told(done) + (resumed(server, 40) if done.code == 3 else []))
    attacks.check()


@pytest.mark.parametrize("size", [150, 300, 500])
def test_too_little_memory_is_said_before_the_first_call(server: ScriptedServer, size: int) -> None:
    write_suite(server.base_url)
    done = limited(SUITE, mib=size)
    assert (done.code, done.out, server.calls) == (2, "", 0)
    assert f"limited to {size} MiB" in done.err and "\n" not in done.err.strip()


@pytest.mark.slow
def test_a_full_disk_at_any_size_of_any_file_loses_no_row(server: ScriptedServer, attacks: Attacks) -> None:
    for size in (0, 1, 4, 10, 18, 30, 40, 80, 160, 240, 500, 800):
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url)
        done = limited(SUITE, "-o", "out.csv", blocks=size)
        faults = told(done)
        if logged():
            if done.code and "evalrun --resume runs/machine/" not in done.err:
                faults.append(f"no hint: {done.err[-300:]}")
            faults += resumed(server, 40)
        attacks.add(f"files of at most {size} blocks", faults)
    attacks.check()


@pytest.mark.slow
def test_a_killed_process_loses_no_finished_row_and_leaves_no_file(server: ScriptedServer, attacks: Attacks) -> None:
    choice = random.Random(20261128)
    for number in range(8):
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url, 120, run={"concurrency": 4})
        process = start(SUITE, "--quiet")
        until = time.monotonic() + 60
        while not logged() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(choice.uniform(0, 1.0))
        process.kill()
        process.communicate()
        if choice.random() < 0.5:  # a report that was being written
            (next(Path("runs/machine").iterdir()) / ".report.html.2147483647.a1b2c3d4.part").write_bytes(b"<html>")
        attacks.add(f"kill {number}", resumed(server, 120))
    attacks.check()


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_its_summary_and_the_command_to_resume(
    server: ScriptedServer, sign: signal.Signals
) -> None:
    write_suite(server.base_url, 400, run={"concurrency": 2})
    process = start(SUITE)
    while not logged() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(sign)
    done = finish(process)
    assert done.code == 130
    assert "Resume: evalrun --resume runs/machine/" in done.out
    assert 0 < len(logged()) < 400


@pytest.mark.slow
def test_nohup_protects_a_run_from_the_end_of_its_terminal(server: ScriptedServer) -> None:
    write_suite(server.base_url, 100, run={"concurrency": 2})
    process = start(SUITE, "--quiet", shell="trap '' HUP")
    while not logged() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    assert finish(process).code == 0
    assert len(logged()) == 100


@pytest.mark.slow
def test_a_suspended_process_continues_without_errors(server: ScriptedServer) -> None:
    server.script = lambda _request, _nth: Slow(0.3, Answer("Paris"))
    write_suite(server.base_url, 60, run={"concurrency": 8, "timeout": 2, "row_timeout": 60})
    process = start(SUITE, "--json")
    while not logged() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)
    done = finish(process)
    assert done.code == 0, done.err
    (usage,) = [target["usage"] for target in json.loads(done.out)["targets"].values()]
    assert usage.get("failed", 0) == 0
    assert logged() == Counter({f"r{number}": 1 for number in range(60)})


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "async "], ids=["def", "async_def"])
def test_whatever_user_code_raises_is_an_error_of_its_row(attacks: Attacks, prefix: str) -> None:
    errors = (
        "SystemExit(0)", "KeyboardInterrupt", "GeneratorExit", "asyncio.CancelledError", "Odd('x')", "MemoryError", "StopIteration",
        "BaseExceptionGroup('x', [Odd()])", "RecursionError", "TimeoutError",
    )  # fmt: skip
    for number, error in enumerate(errors):
        for part in ("answer", "score"):
            own = f"{part}_{number}.py"  # a module is loaded once in a process
            Path(own).write_text(USER_CODE.format(error=error, prefix=prefix))
            shutil.rmtree("runs", ignore_errors=True)
            keys: dict[str, Any] = {"run": {"concurrency": 2}}
            if part == "score":
                keys["scorers"] = ["contains", {"type": "python", "function": f"{own}:score"}]
                keys["target"] = {"name": "bot", "type": "recorded", "column": "expected"}
            else:
                keys["target"] = {"name": "bot", "type": "python", "function": f"{own}:answer"}
            write_suite("", 12, **keys)
            done = command(SUITE)
            faults = told(done)
            if len(logged()) != 12:
                faults.append(f"{len(logged())} of 12 rows")
            if f"raised {error.partition('(')[0].removeprefix('asyncio.')}" not in " ".join(done.out.split()):
                faults.append(f"the exception is not named: {done.out[:500]}")
            attacks.add(f"{part} raises {error}", faults)
    attacks.check()


TORN = ("run.json", "rows.jsonl", "metrics.json", "table.csv", "report.html", ".lock")


@pytest.mark.slow
@pytest.mark.parametrize("name", TORN)
def test_a_torn_file_of_a_run_is_a_sentence_or_is_repaired(server: ScriptedServer, attacks: Attacks, name: str) -> None:
    write_suite(server.base_url, 10)
    assert command(SUITE, "--quiet").code == 0
    (run,) = Path("runs/machine").iterdir()
    shutil.copytree(run, "whole")
    content = (run / name).read_bytes()
    noise = random.Random(name).randbytes(400)
    half = len(content) // 2
    forms: dict[str, bytes | None] = {
        "empty": b"", "zeros": bytes(len(content)), "noise": noise, "zeros behind": content + bytes(4096),
        "zeros in its second half": content[:half] + bytes(half), "a list": b"[]", "null": b"null", "an object": b"{}",
        **{f"{tenth}/10": content[: len(content) * tenth // 10] for tenth in range(1, 10)},
        "a folder": None, "a link to nothing": None, "missing": None,
    }  # fmt: skip
    for form, data in forms.items():
        for line in (
            "--resume last",
            "show last",
            "report last",
            "gate last",
            "score last",
            "runs",
            "compare last last",
        ):
            shutil.rmtree("runs")
            shutil.copytree("whole", run)
            (run / name).unlink()
            if data is not None:
                (run / name).write_bytes(data)
            elif form == "a folder":
                (run / name).mkdir()
            elif form == "a link to nothing":
                (run / name).symlink_to("/nonexistent/file")
            calls = server.calls
            done = command(*line.split())
            faults = [] if done.code in (0, 2, 3) else [f"it ended with {done.code}: {done.err[-200:]}"]
            if "Traceback" in done.err:
                faults.append(done.err[-300:])
            if line == "--resume last" and name != "rows.jsonl" and server.calls > calls:
                faults.append(f"{server.calls - calls} calls")
            attacks.add(f"{name}: {form}, {line}", faults)
    attacks.check()


def test_two_processes_do_not_resume_one_run(server: ScriptedServer) -> None:
    write_suite(server.base_url, 300, run={"concurrency": 2})
    process = start(SUITE, "--quiet")
    while not logged() and process.poll() is None:
        time.sleep(0.01)
    second = command("--resume", "last")
    assert second.code == 2
    assert f"is being written by process {process.pid}" in second.err
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert set(logged().values()) == {1}


@pytest.mark.slow
def test_odd_environments_do_not_matter(server: ScriptedServer, attacks: Attacks) -> None:
    without: Mapping[str, str] = {"HOME": "/proc/nothing", "EVALRUN_CACHE_DIR": "", "XDG_CACHE_HOME": ""}
    for env in (
        without, {**without, "HOME": ""}, {"TMPDIR": "/nonexistent"}, {"PYTHONOPTIMIZE": "2"}, {"PYTHONWARNINGS": "error"}, {"TZ": "Mars/Olympus"},
        {"LC_ALL": "xx_YY.nothing"}, {"PYTHONHASHSEED": "0"}, {"EVALRUN_CACHE_DIR": "/proc/nothing"}, {"PYTHONUTF8": "0", "LC_ALL": "C"},
        {"EVALRUN_CACHE_DIR": "/dev/null"},
    ):  # fmt: skip
        shutil.rmtree("runs", ignore_errors=True)
        write_suite(server.base_url, 5)
        done = finish(start(SUITE, env=env))
        attacks.add(str(env), told(done) + ([] if done.code == 0 else [f"{done.code}: {done.err[-200:]}"]))
    attacks.check()


def test_a_working_folder_that_was_removed_is_one_sentence(server: ScriptedServer, tmp_path: Path) -> None:
    write_suite(server.base_url, 5)
    done = finish(start(str(tmp_path / SUITE), shell="mkdir gone && cd gone && rmdir ../gone"))
    assert (done.code, server.calls) == (2, 0)
    assert done.err == "evalrun: the working folder no longer exists; change to another one\n"


def test_answers_over_the_limit_fail_their_rows(server: ScriptedServer) -> None:
    server.script = lambda request, _nth: Answer("x" * (2 * MIB) if "q1" in json.dumps(request) else "Paris")
    target = {"name": "bot", "model": "m", "base_url": server.base_url, "transport": {"max_body": 1}}
    write_suite(server.base_url, 10, target=target, run={"retries": 0})
    done = command(SUITE)
    assert done.code in (0, 3)
    assert "the reply is larger than 1 MiB (transport.max_body)" in " ".join(done.out.split())
    assert len(logged()) == 10


@pytest.mark.slow
def test_large_answers_at_once_fit_into_little_memory(server: ScriptedServer) -> None:
    server.script = lambda _request, nth: Answer("Paris" + "x" * (15 * MIB if nth <= 4 else 64 * MIB))
    write_suite(server.base_url, 8, run={"concurrency": 8, "retries": 0}, gates=[])
    done = limited(SUITE, mib=1024)
    assert told(done) == []
    assert len(logged()) == 8 or "evalrun --resume" in done.err


def test_a_spool_folder_of_a_killed_process_is_removed_by_the_next(server: ScriptedServer, tmp_path: Path) -> None:
    old = tmp_path / "evalrun-spool-old"
    old.mkdir()
    (old / ".lock").touch()
    (old / "stdin.jsonl").write_text("secret")
    os.utime(old, (0, 0))
    write_suite(server.base_url, 2)
    assert finish(start(SUITE, env={"TMPDIR": str(tmp_path)})).code == 0
    assert list(tmp_path.glob("evalrun-spool-*")) == []
