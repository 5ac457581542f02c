"""The command line in processes that are forked from one that has imported it already: 0.1 s of CPU in place of 0.5 s.

with CommandServer() as server:
    done = server.run(["validate", "s.yaml"], folder=tmp_path, memory_mb=4_000)
    assert done.code == 2 and done.peak_mb < 400

A forked process differs from a new one in what it has imported. Tests of imports, and of what happens when a process starts
or ends, start a new one: `fresh_evalrun`, or `subprocess` with `command_env()`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evalrunner.formatting import LOG_READERS

ROOT = Path(__file__).parents[2]
# Keeps LiteLLM from fetching its prices when a test imports it. Commands have to take care of that themselves.
OWN_VARIABLE = "LITELLM_LOCAL_MODEL_COST_MAP"
# beginnings of variables that are read only when a process starts, or when it imports evalrun
READ_AT_START = ("PYTHON", "LC_", "LANG", "MALLOC_", "LD_", *LOG_READERS)
IMPORTED = (  # by every run; what a run imports only if its suite needs it is left to the forked process
    "evalrunner.commands.run", "evalrunner.engine.plan", "evalrunner.engine.assemble", "evalrunner.engine.runner",
    "evalrunner.engine.result", "evalrunner.gates.check", "evalrunner.reports.outputs", "evalrunner.reports.terminal",
)  # fmt: skip
# A program that hands its arguments, streams, folder and environment to a server, and ends with the code of the command.
# Where variables differ that are read only at the start of a process, it runs the command itself.
CLIENT = """\
#!{python} -IS
import os, sys
start = {{name: value for name, value in os.environ.items() if name.startswith({names!r})}}
if start != {start!r}:
    os.execv({python!r}, [{python!r}, "-c", {command!r}, *sys.argv[1:]])
import json, socket
task = {{"args": sys.argv[1:], "folder": os.getcwd(), "seconds": {seconds}, "env": dict(os.environ), "memory_mb": None}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"+"], [0, 1, 2])
    server.sendall(json.dumps(task).encode())
    server.shutdown(socket.SHUT_WR)
    code, _, _ = json.loads(server.makefile().read())
sys.exit(code if code >= 0 else 128 - code)
"""
COMMAND = "import sys; sys.argv[0] = 'evalrun'; from evalrunner.cli.main import main; main()"  # as the installed one
SECONDS = 240  # an example of the docs may ask the embedded model fifty questions on a busy machine


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command. A negative `code` is the signal that ended it; `hung` says that it was killed for its time."""

    code: int
    out: str
    err: str
    peak_mb: float
    hung: bool = False


class CommandServer:
    """Runs commands, also several at once. Needs Linux."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="evalrun-")
        self._address = str(Path(self._folder.name, "socket"))
        env = command_env()
        self._start = _read_at_start(env)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.forked", self._address],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes its streams, and waits
            pass
        self._folder.cleanup()

    def serves(self, env: Mapping[str, str]) -> bool:
        """Whether a command with this environment may be forked: it has the variables that are read at the start."""
        return _read_at_start(env) == self._start

    def run(
        self,
        args: Sequence[str],
        *,
        folder: Path | None = None,
        stdin: str | None = None,
        seconds: float = 120,
        env: Mapping[str, str] | None = None,
        memory_mb: int | None = None,
    ) -> Done:
        """`evalrun ARGS…` in a folder, with the environment of the test and `env`; after `seconds` it is killed.

        Without `stdin` it reads from /dev/null. `memory_mb` limits the address space beyond what is mapped at the start.
        """
        task = {
            "args": list(args),
            "folder": str(folder or Path.cwd()),
            "seconds": seconds,
            "env": command_env(env),
            "memory_mb": memory_mb,
        }
        with contextlib.ExitStack() as files:
            given, out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write((stdin or "").encode())
            given.seek(0)
            read = files.enter_context(Path(os.devnull).open("rb")) if stdin is None else given
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(self._address)
                socket.send_fds(server, [b"+"], [file.fileno() for file in (read, out, err)])
                server.sendall(json.dumps(task).encode())
                server.shutdown(socket.SHUT_WR)
                code, peak_mb, hung = json.loads(server.makefile().read())
            out.seek(0)
            err.seek(0)
            texts = out.read().decode(errors="replace"), err.read().decode(errors="replace")
        return Done(code, texts[0], texts[1], peak_mb, hung)

    def write_client(self, path: Path) -> None:
        """Write the program `evalrun` for shell scripts."""
        path.write_text(
            CLIENT.format(
                python=sys.executable, names=READ_AT_START, start=self._start, command=COMMAND, address=self._address,
                seconds=SECONDS,
            ),
            encoding="utf-8",
        )  # fmt: skip


def command_env(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: that of the test, this checkout first on the path, then `env`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    inherited = {name: value for name, value in os.environ.items() if name != OWN_VARIABLE}
    return {**inherited, "PYTHONPATH": path, "COLUMNS": "120", **(env or {})}


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(READ_AT_START)}


def _serve(address: str) -> None:
    """Run the commands of all connections until the stream of the test process ends."""
    import importlib

    from evalrunner.cli.main import app

    for name in IMPORTED:
        importlib.import_module(name)
    with contextlib.redirect_stdout(None):
        app(["--help"], standalone_mode=False)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the waiting processes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        while listener.fileno() in select.select([listener.fileno(), 0], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Run one command in a process of its own, and send its code, its peak of memory and whether it was killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        streams = socket.recv_fds(connection, 1, 3)[1]
        task = json.loads(connection.makefile().read())
        pid = os.fork()
        if pid == 0:
            connection.close()
            _run(task, streams)
        connection.sendall(json.dumps(_wait(pid, task["seconds"])).encode())
    finally:
        os._exit(0)


def _wait(pid: int, seconds: float) -> tuple[int, float, bool]:
    """The exit code of a process, its peak of memory in MB, and whether it was killed after `seconds`."""
    handle = os.pidfd_open(pid)
    hung = not select.select([handle], [], [], seconds)[0]
    if hung:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024, hung


def _run(task: dict[str, Any], streams: Sequence[int]) -> None:
    """The command of a task in this process, which ends with its code."""
    from evalrunner.cli.main import main

    os.environ.clear()
    os.environ.update(task["env"])
    time.tzset()
    os.chdir(task["folder"])
    sys.path.append(task["folder"])  # as `python -m evalrunner` does
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    if task["memory_mb"] is not None:
        _limit_memory(task["memory_mb"])
    sys.argv = ["evalrun", *task["args"]]
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


def mapped_bytes() -> int:
    """The address space of this process."""
    import resource

    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit_memory(megabytes: int) -> None:
    import resource

    limit = mapped_bytes() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    _serve(sys.argv[1])
