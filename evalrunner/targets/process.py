"""A program run once: input on stdin, output bounded, and nothing of it left running whatever ends it.

Each program leads a process group of its own, which is killed as a whole. Should this process itself be killed, a
helper process notices the end of its pipe and kills the groups that are left.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024  # as of a reply of an HTTP service
MAX_ERROR_BYTES: Final = 64 * 1024  # the last ones are kept
CLOSING_S: Final = 1.0  # for the pipes of a program that has ended
GUARD: Final = """
import os, signal, sys
groups = set()
for line in sys.stdin.buffer:
    (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""
HAS_GROUPS: Final = hasattr(os, "killpg")


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ended: its exit code (negative: the signal), its output, and the end of what it wrote to stderr."""

    code: int
    output: bytes
    errors: bytes


class OutputTooLong(Exception):
    """The program wrote more than MAX_OUTPUT_BYTES and was killed."""


class GroupGuard:
    """Kills process groups when this process ends in any way. Started with the first group."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None

    def add(self, group: int) -> None:
        self._send(b"+%d\n" % group)

    def remove(self, group: int) -> None:
        self._send(b"-%d\n" % group)

    def _send(self, line: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):  # without the helper, only a kill of this process leaves groups
            if self._helper is None or self._helper.poll() is not None:
                self._helper = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, env={}, start_new_session=True,
                )  # fmt: skip
                atexit.register(self.close)
            assert self._helper.stdin is not None  # a pipe
            self._helper.stdin.write(line)
            self._helper.stdin.flush()

    def close(self) -> None:
        """End the helper, which kills the groups that are left."""
        with self._lock:
            helper, self._helper = self._helper, None
            if helper is not None:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    helper.communicate(timeout=CLOSING_S)


guard = GroupGuard()


class ProgramProtocol(asyncio.SubprocessProtocol):
    """Collects the output of a program."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.output, self.errors = bytearray(), bytearray()
        self.too_long = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.errors += data
            del self.errors[:-MAX_ERROR_BYTES]
        elif len(self.output) + len(data) <= MAX_OUTPUT_BYTES:
            self.output += data
        elif not self.too_long:
            self.too_long = True
            _finish(self.exited)

    def process_exited(self) -> None:
        _finish(self.exited)

    def connection_lost(self, exc: Exception | None) -> None:
        _finish(self.exited)
        _finish(self.closed)


async def run_program(
    arguments: Sequence[str], stdin: bytes | None, *, folder: Path, environ: Mapping[str, str], timeout_s: float
) -> Ended:
    """The ended program. Raises TimeoutError, OutputTooLong, or OSError if it cannot be started."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        ProgramProtocol, *arguments, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=dict(environ), start_new_session=HAS_GROUPS,
    )  # fmt: skip
    group = transport.get_pid()
    if HAS_GROUPS:
        guard.add(group)
    try:
        if stdin is not None:
            pipe: Any = transport.get_pipe_transport(0)
            pipe.write(stdin)
            pipe.write_eof()
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(protocol.exited)
    finally:
        _kill(transport, group)
        await asyncio.wait({protocol.closed}, timeout=CLOSING_S)
        transport.close()
        if HAS_GROUPS:
            guard.remove(group)
    if protocol.too_long:
        raise OutputTooLong
    return Ended(transport.get_returncode() or 0, bytes(protocol.output), bytes(protocol.errors))


def _kill(transport: asyncio.SubprocessTransport, group: int) -> None:
    """Kill the program, and what it has started and not ended."""
    with contextlib.suppress(OSError):  # all of them have ended
        if HAS_GROUPS:
            os.killpg(group, signal.SIGKILL)
        else:
            transport.kill()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
