"""Files of stored runs and baselines that are something else, or end anywhere: a sentence and a code of the table.

`test_machines.py` tries files that are empty, cut, overwritten, folders and missing; here are what blocks, repeats and lies.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from evalrunner.view.server import make_server
from tests.attacks.counts import Attacks
from tests.cases.suites import command
from tests.fakes.forked import mapped_bytes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among files, and no alarm"),
]

NAMES = (
    "run.json",
    "rows.jsonl",
    "metrics.json",
    "table.csv",
    "report.html",
    ".lock",
    ".lock-holder",
    "answers.sqlite",
    "spend.jsonl",
)
COMMANDS = (
    "--resume last -q", "show last", "report last", "report last -o x.csv", "gate last", "score last -q", "runs",
    "compare FIRST last", "diff FIRST last",
)  # fmt: skip
FEW = ("--resume last -q", "show last", "report last -o x.csv")
SHOWN = "run.json", "rows.jsonl", "metrics.json"  # what `show` and the pages of `view` read


ADDRESS_SPACE_BYTES = 4 << 30  # beyond what earlier tests have left mapped


class TooSlow(BaseException):
    """A command that waits for something that never comes."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = mapped_bytes() + ADDRESS_SPACE_BYTES  # or an endless file takes all memory
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def pipe(path: Path, _content: bytes) -> None:
    os.mkfifo(path)


def ring(path: Path, _content: bytes) -> None:
    path.symlink_to(path.name)


def endless(path: Path, _content: bytes) -> None:
    path.symlink_to("/dev/zero")


def kernel(path: Path, _content: bytes) -> None:
    path.symlink_to("/proc/self/environ")


def doubled(path: Path, content: bytes) -> None:
    """Each line twice, as after a bad merge."""
    path.write_bytes(b"".join(line * 2 for line in content.splitlines(keepends=True)))


def repeated(path: Path, content: bytes) -> None:
    path.write_bytes(content * 2)


def unreadable(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0)  # root can read it


FORMS: tuple[Callable[[Path, bytes], None], ...] = (pipe, ring, endless, kernel, doubled, repeated, unreadable)


@pytest.fixture
def run() -> Path:
    """The newest of two finished runs, beside a copy of all in `whole`."""
    rows = [{"id": f"r{place}", "input": "a", "expected": "Paris", "output": "Paris"} for place in range(6)]
    suite = {
        "name": "s", "dataset": {"rows": rows}, "target": {"type": "recorded", "column": "output"}, "scorers": ["contains"],
        "gates": ["contains >= 0.5"], "run": {"max_cost": 1},
    }  # fmt: skip
    Path("s.yaml").write_text(json.dumps(suite))
    for _ in range(2):
        assert command("s.yaml", "-q").code == 0
    shutil.copytree("runs", "whole")
    return max(Path("runs/s").iterdir())


def restore() -> None:
    shutil.rmtree("runs")
    shutil.copytree("whole", "runs")


def faults(line: str, codes: tuple[int, ...] = (0, 2)) -> list[str]:
    """What is wrong with a command in this process."""
    try:
        with within(20):
            done = command(*line.split())
    except TooSlow:
        return [f"{line}: it hangs"]
    except Exception as crash:  # the fault that is looked for
        return [f"{line}: {type(crash).__name__}: {crash}"]
    if done.code not in codes:
        return [f"{line}: code {done.code}: {done.err[-200:]}"]
    return [] if done.code == 0 or done.err.strip() else [f"{line}: no sentence"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_something_else_is_a_sentence_for_every_command(run: Path, name: str, attacks: Attacks) -> None:
    first = min(Path("runs/s").iterdir()).name
    content = (run / name).read_bytes() if (run / name).is_file() else b""
    for form in FORMS:
        for line in COMMANDS if name in SHOWN else FEW:
            restore()
            (run / name).unlink(missing_ok=True)
            form(run / name, content)
            attacks.add(f"{name}: {form.__name__}", faults(line.replace("FIRST", first)))
    attacks.check()


@pytest.mark.parametrize("name", SHOWN)
def test_a_file_that_ends_anywhere_is_a_sentence(run: Path, name: str, attacks: Attacks) -> None:
    content = (run / name).read_bytes()
    places = {*range(0, len(content), max(1, len(content) // 40)), *range(len(content) - 5, len(content))}
    for place in sorted(places):
        (run / name).write_bytes(content[:place])
        attacks.add(f"{name}: {place} bytes", faults("show last"))
        (run / name).write_bytes(content[:place] + bytes(len(content) - place))  # as after a power failure
        attacks.add(f"{name}: {place} bytes and zeros", faults("show last"))
    attacks.check()


def test_doubled_rows_count_once(run: Path) -> None:
    log = run / "rows.jsonl"
    doubled(log, log.read_bytes())
    done = command("--resume", "last", "-q")
    assert done.code == 0, done
    metric = json.loads((run / "metrics.json").read_text())["targets"]["recorded"]["metrics"][0]
    assert metric["scored"] == 6


def test_a_torn_baseline_is_a_sentence(run: Path, attacks: Attacks) -> None:
    assert command("baseline", "accept", "last").code == 0
    (path,) = Path("baselines").rglob("main.jsonl")
    suite = json.loads(Path("s.yaml").read_text())
    Path("s.yaml").write_text(
        json.dumps({**suite, "gates": [{"metric": "contains", "baseline": "main", "max_drop": 0.1}]})
    )
    content = path.read_bytes()
    assert command("s.yaml", "-q").code == 0
    calm = {0, 2, 3, 4}  # a baseline that lost rows may leave the gate undecided
    for form in FORMS:
        path.unlink(missing_ok=True)
        form(path, content)
        for line in (
            "s.yaml -q",
            f"baseline show {path}",
            "baseline list",
            "gate last",
            f"score {path} --suite s.yaml -q",
        ):
            attacks.add(f"{form.__name__}: {line}", faults(line, tuple(calm)))
    path.unlink()
    for place in {*range(0, len(content), max(1, len(content) // 25)), *range(len(content) - 3, len(content))}:
        path.write_bytes(content[:place])
        attacks.add(f"{place} bytes", faults("s.yaml -q", tuple(calm)))
        path.write_bytes(content[:place] + bytes(len(content) - place))
        attacks.add(f"{place} bytes and zeros", faults("s.yaml -q", tuple(calm)))
    attacks.check()


def test_the_pages_of_view_show_the_other_runs(run: Path, attacks: Attacks) -> None:
    other = min(Path("runs/s").iterdir()).name
    server = make_server(Path("runs"), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for name in (*SHOWN, "report.html"):
            content = (run / name).read_bytes()
            for form in (*FORMS, lambda path, content: path.write_bytes(content[: len(content) // 2])):
                restore()
                (run / name).unlink()
                form(run / name, content)
                for page in (
                    "/",
                    "/suites/s",
                    f"/runs/s/{run.name}",
                    f"/runs/s/{run.name}/{name}",
                    f"/compare?run=s/{other}&run=s/{run.name}",
                ):
                    wrong: list[str] = []
                    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
                    try:
                        connection.request("GET", page)
                        answer = connection.getresponse()
                        text = answer.read().decode(errors="replace")
                        if answer.status >= 500 or (page in ("/", "/suites/s") and other not in text):
                            wrong.append(f"{page}: {answer.status}")
                    except OSError as refused:
                        wrong.append(f"{page}: {refused!r}")
                    finally:
                        connection.close()
                    attacks.add(f"{name}: {getattr(form, '__name__', form)}", wrong)
    finally:
        server.shutdown()
        server.server_close()
    attacks.check()
