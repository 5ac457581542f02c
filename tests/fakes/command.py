"""The command line in its own process, in the working folder of the test."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from tests.fakes.forked import ROOT, CommandServer, command_env

__all__ = ["ROOT", "command_env", "command_server", "evalrun", "fresh_evalrun", "stop_server"]

_open = ExitStack()


def evalrun(
    *args: str, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished process of `evalrun ARGS…`, forked where that makes no difference."""
    server = command_server()
    if server is None or not server.serves(command_env(env)):
        return fresh_evalrun(*args, stdin=stdin, env=env)
    done = server.run(args, stdin=stdin, env=env)
    if done.hung:
        raise subprocess.TimeoutExpired(["evalrun", *args], 120, done.out, done.err)
    return subprocess.CompletedProcess(["evalrun", *args], done.code, done.out, done.err)


def fresh_evalrun(
    *args: str, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished process of `evalrun ARGS…`, which has imported nothing before."""
    return subprocess.run(
        [sys.executable, "-m", "evalrunner", *args],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=120,
        env=command_env(env),
        check=False,
    )


@functools.cache
def command_server() -> CommandServer | None:
    """The server of this test process, started once; None where a process cannot be forked safely."""
    return _open.enter_context(CommandServer()) if sys.platform == "linux" else None


def stop_server() -> None:
    """End the process from which commands are forked."""
    _open.close()
    command_server.cache_clear()
