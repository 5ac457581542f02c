"""What functions of a suite may do to the process: end it, or block every thread so that no signal arrives."""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Final

from evalrunner.user_code import PREFIX

exit_now = os._exit

CODE: Final = """
import os, select, signal, sys, time
parent, limit = int(sys.argv[1]), float(sys.argv[2])
tail, signals, last = b"", 0, 0.0
while True:
    if select.select([0], [], [], 0.2)[0]:
        data = os.read(0, 65536)
        if not data:
            break
        if b"\\1" in data:
            signals, tail, data = 0, b"", data.rpartition(b"\\1")[2]
        data = tail + data
        count = data.count(b"most recent call first")
        tail = data[-21:]
        if count:
            signals, last = signals + count, time.monotonic()
    if signals > 1 and time.monotonic() - last > limit:
        os.write(2, b"evalrun: a function of the suite blocks Python and cannot be interrupted, so the run was killed; "
            b"finished rows are saved. Continue: evalrun --resume last\\n")
        os.kill(parent, signal.SIGKILL)
        break
"""
LIMIT_S: Final = 3.0  # until a second signal that had no effect kills the run


def refuse_exit() -> None:
    """Let `os._exit` raise RuntimeError in this process: a function that ended it would choose the exit code of the run."""
    owner = os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != owner:  # a process of a function, such as one of a pool
            exit_now(status)
        raise RuntimeError(f"os._exit({status}) would end the whole run; raise an exception")

    os._exit = refuse  # type: ignore[assignment]


def interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: raise KeyboardInterrupt. One that is ignored stays so, as under `nohup`."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with suppress(ValueError):  # not in the main thread
                signal.signal(number, signal.default_int_handler)
    _restore_signals_in_children()


@functools.cache  # once in a process
def _restore_signals_in_children() -> None:
    """Let SIGTERM and SIGHUP end a forked process of a user-defined function, such as a pool's, and not interrupt the run.

    The process inherits the handler, and the descriptor through which the loop of the run hears of signals.
    """
    if not hasattr(os, "register_at_fork"):
        return

    def restore() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)

    os.register_at_fork(after_in_child=restore)


class Guard:
    """A process that kills this one if a second signal had no effect, because a function blocks every thread.

    Such a function holds Python's lock, as a search of `re` does. The fault handler passes signals on without the lock.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._signals: tuple[int, ...] = ()

    def start(self, signals: tuple[int, ...]) -> None:
        """Guard this process, if it runs user-defined functions. The signals should have their handlers already."""
        if self._process is not None or not hasattr(faulthandler, "register") or not sys.executable:
            return
        if not any(name.startswith(PREFIX) for name in sys.modules):
            return
        command = [sys.executable, "-I", "-S", "-c", CODE, str(os.getpid()), str(LIMIT_S)]
        with suppress(OSError):  # no process can be started: the run is not guarded
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
        if self._process is None or self._process.stdin is None:
            return
        self._signals = signals
        for number in signals:
            faulthandler.register(number, self._process.stdin, all_threads=False, chain=True)

    def acknowledge(self) -> None:
        """Note that a signal had its effect."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(b"\1")

    def stop(self) -> None:
        """End the guard."""
        for number in self._signals:
            faulthandler.unregister(number)
        if self._process is not None and self._process.stdin is not None:
            self._process.kill()
            self._process.stdin.close()
            self._process.wait()
        self._process, self._signals = None, ()
