"""Commands on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence

from tests.fakes.command import command_env


def drawn_on_terminal(command: Sequence[str], env: Mapping[str, str], *, stdout: bool = True) -> str:
    """What a command writes to a terminal until it ends with 0; without `stdout` only its stderr is one."""
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        command,
        stdin=theirs if stdout else None,
        stdout=theirs if stdout else subprocess.PIPE,
        stderr=theirs,
        env=command_env(env),
    )
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 65536):
            drawn += piece
    except OSError:  # how a terminal says that nobody writes any more
        pass
    os.close(ours)
    run.communicate(timeout=60)
    assert run.returncode == 0, drawn.decode()
    return drawn.decode()
