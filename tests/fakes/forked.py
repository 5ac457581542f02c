"""The command line in processes with a limit on memory and time, forked from one that has imported it already.

with CommandServer() as server:
    done = server.run(["validate", "s.yaml"], folder=tmp_path)
    assert done.code == 2 and done.peak_mb < 400
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes.command import command_env

MEMORY_MB = 4_000  # of address space beyond what is mapped at the start; a runaway process must not take the machine
STDERR, STDOUT = ".stderr", ".stdout"


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command. A negative `code` is the signal that ended it; `hung` says that it was killed for its time."""

    code: int
    out: str
    err: str
    peak_mb: float
    hung: bool = False


class CommandServer:
    """Runs commands one after the other."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.forked"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=command_env(), text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes its streams, and waits
            pass

    def run(
        self,
        args: Sequence[str],
        *,
        folder: Path,
        stdin: Path | None = None,
        seconds: float = 120,
        env: dict[str, str] | None = None,
    ) -> Done:
        """`evalrun ARGS…` in a folder; after `seconds` it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {
            "args": list(args),
            "folder": str(folder),
            "stdin": str(stdin or os.devnull),
            "seconds": seconds,
            "env": env or {},
        }
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        code, peak_mb, hung = json.loads(self._process.stdout.readline())
        out, err = ((folder / name).read_text(encoding="utf-8", errors="replace") for name in (STDOUT, STDERR))
        return Done(code, out, err, peak_mb, hung)


def _serve() -> None:
    from evalrunner.cli.main import app

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    app(["--help"], standalone_mode=False)
    for line in sys.stdin:
        task = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(task)
        ends, hung = time.monotonic() + task["seconds"], False
        while True:
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > ends and not hung:
                hung = True
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        answers.write(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024, hung]) + "\n")
        answers.flush()


def _run(task: dict[str, Any]) -> None:
    """The command of a task in this process, which ends with its code."""
    from evalrunner.cli.main import main

    os.chdir(task["folder"])
    os.environ.update(task["env"])
    for number, path, flags in (
        (0, task["stdin"], os.O_RDONLY),
        (1, STDOUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, STDERR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        handle = os.open(path, flags, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + MEMORY_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = ["evalrun", *task["args"]]
    sys.stdin = os.fdopen(0, "r", closefd=False)
    code = 70
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
