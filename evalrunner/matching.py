"""Regular expressions that end: a search that may be slow runs in a process whose CPU time is limited.

Python's `re` cannot be interrupted and blocks every thread meanwhile. Searches that are fast whatever the text run here.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from evalrunner.formatting import one_line
from evalrunner.limits import STANDARD

MAX_SEARCHED_LENGTH: Final = 50_000  # characters
MAX_MATCHES: Final = 1_000  # of all matches of a pattern in one text
MAX_LOOKBEHIND: Final = 100  # characters
MAX_STEPS_HERE: Final = 5_000_000  # of the slowest search in this process: about 50 ms
MAX_QUICK_STEPS: Final = 50_000  # of a search that needs no thread of its own: about half a millisecond
MAX_PROCESSES: Final = max(1, min(4, os.cpu_count() or 1))
MAX_SHOWN: Final = 80  # characters of a pattern in messages
SYSTEM_MARGIN: Final = 1.0  # seconds of CPU time for reading a request and compiling a pattern

CODE: Final = """
import faulthandler, json, os, re, select, signal, sys, warnings
from collections import deque
from itertools import islice
try:
    import fcntl  # with SIGIO, which ends a process by default
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
except ImportError:
    fcntl = None
warnings.simplefilter("ignore")
cpu_time = getattr(signal, "ITIMER_VIRTUAL", None)
nowhere = open(os.devnull, "w")
def end_with_parent(during):
    # No request comes during a search: whatever happens to the pipe is the end of the process that asked.
    if fcntl is not None:
        flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC if during else flags & ~os.O_ASYNC)
        if during and select.select([0], [], [], 0)[0]:
            sys.exit()
def limit(seconds):
    if cpu_time is not None:
        signal.setitimer(cpu_time, seconds)
    elif seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
    else:
        faulthandler.cancel_dump_traceback_later()
margin = float(sys.argv[1])
for line in sys.stdin:
    limit(margin)
    pattern, flags, text, start, group, last, seconds = json.loads(line)
    compiled = re.compile(pattern, flags)
    limit(seconds)
    end_with_parent(True)
    if last == "all":
        match = [found[group] for found in islice(compiled.finditer(text), start)]
    elif last:
        newest = deque(compiled.finditer(text, start), maxlen=1)
        match = [newest[0][group]] if newest else None
    else:
        match = compiled.search(text)
        match = None if match is None else [match[group]]
    limit(0)
    end_with_parent(False)
    print(json.dumps(match), flush=True)
"""


class SearchFailed(Exception):
    """A search that did not end within its limit, or could not run. The message is a sentence for a cell."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern of a suite, under the name of its option, whose searches end."""

    compiled: re.Pattern[str]
    option: str = "pattern"
    limit_s: float = STANDARD.match_s

    @property
    def named(self) -> str:
        """The option and its pattern, in messages."""
        return f"'{self.option}: {one_line(self.compiled.pattern, MAX_SHOWN)}'"

    def is_quick(self, text: str) -> bool:
        """Whether any search in the text ends so soon that it may run on the event loop."""
        return most_steps(self.compiled, min(len(text), MAX_SEARCHED_LENGTH)) <= MAX_QUICK_STEPS

    def find(self, text: str, group: int | str = 0, *, last: bool = False) -> tuple[str | None] | None:
        """The text of the group in the first or last match, None if the group is not in it; None without a match.

        Only the first or last `MAX_SEARCHED_LENGTH` characters are searched. Raises SearchFailed.
        """
        start = 0
        if last and len(text) > MAX_SEARCHED_LENGTH:  # ^ and lookbehinds see what is before the part that is searched
            start = min(MAX_LOOKBEHIND, len(text) - MAX_SEARCHED_LENGTH)
            text = text[-MAX_SEARCHED_LENGTH - start :]
        elif not last:
            text = text[:MAX_SEARCHED_LENGTH]
        if most_steps(self.compiled, len(text)) <= MAX_STEPS_HERE:
            matches = self.compiled.finditer(text, start)
            match = next(iter(deque(matches, maxlen=1)), None) if last else next(matches, None)
            return None if match is None else (match[group],)
        found = self._ask(text, start, group, last)
        return None if found is None else (found[0],)

    def find_all(self, text: str, group: int | str = 0) -> list[str]:
        """The text of the group in the first `MAX_MATCHES` matches that have it. Raises SearchFailed as `find` does."""
        text = text[:MAX_SEARCHED_LENGTH]
        if most_steps(self.compiled, len(text)) <= MAX_STEPS_HERE:
            texts = [match[group] for match in islice(self.compiled.finditer(text), MAX_MATCHES)]
        else:
            texts = self._ask(text, MAX_MATCHES, group, "all") or []
        return [item for item in texts if item is not None]

    def _ask(self, text: str, start: int, group: int | str, which: bool | str) -> list[str | None] | None:
        """The reply of a process that searches. Raises SearchFailed."""
        request = [self.compiled.pattern, self.compiled.flags, text, start, group, which, self.limit_s]
        try:
            reply: list[str | None] | None = _processes.ask(json.dumps(request).encode())
        except TimeoutError:
            raise SearchFailed(
                f"{self.named} takes more than {self.limit_s:g} s of CPU time on a text of "
                f"{len(text):,} characters; make its repetitions possessive (*+, ++) or narrower, "
                "or raise 'match_timeout'"
            ) from None
        except OSError as refused:
            reason = refused.strerror or refused
            raise SearchFailed(f"no process can search for {self.named}: {reason}") from None
        return reply


def most_steps(compiled: re.Pattern[str], length: int) -> float:
    r"""An upper bound on the steps of a search; infinite if they may grow exponentially with the length of the text.

    Without a repeated group each repetition multiplies them by the length, each alternative by 2. Characters of sets
    are counted too.
    """
    growth = _growth(compiled)
    return float("inf") if growth is None else float(max(1, length) ** growth[0] * growth[1])


@lru_cache(maxsize=4096)
def _growth(compiled: re.Pattern[str]) -> tuple[int, int] | None:
    """The power of the length and the factor in the bound of `most_steps`; None where it is infinite."""
    pattern = compiled.pattern
    if compiled.flags & re.VERBOSE or "(?#" in pattern:  # they may stand between a group and its repetition
        return None
    signs = re.sub(r"\\[^1-9]", "x", pattern, flags=re.DOTALL).replace("(?", "(")
    signs = re.sub(r"([*+?}])[?+]", r"\1", signs)  # lazy and possessive repetitions
    if re.search(r"\)[*+?{]", signs):
        return None
    repetitions = sum(map(signs.count, "*+{")) + len(re.findall(r"\\[1-9]|\(P=", signs))
    choices = signs.count("?") + signs.count("|")
    return None if repetitions > 8 or choices > 20 else (1 + repetitions, 2**choices)


def compiles_soon(pattern: str, flags: int) -> bool:
    """Whether a pattern compiles within `SYSTEM_MARGIN`; true if it has a mistake, which compiling it here reports."""
    request = json.dumps([pattern, flags, "", 0, 0, False, SYSTEM_MARGIN]).encode()
    try:
        _processes.ask(request)
    except TimeoutError:
        return False
    except OSError:  # it ended with an error, or cannot be started
        return True
    return True


class Process:
    """One process that searches, request after request."""

    def __init__(self) -> None:
        if not sys.executable:
            raise OSError("Python is embedded here, and its program is not known")
        command = [sys.executable, "-I", "-S", "-c", CODE, str(SYSTEM_MARGIN)]
        own_group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}  # Ctrl-C is not for it
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **own_group
        )

    def ask(self, request: bytes) -> bytes:
        """The reply; empty if the process has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(request + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return b""
        reply: bytes = self.process.stdout.readline()
        return reply

    def end(self) -> int:
        """End the process; returns its code."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # a request that it has not read
                pass
        return self.process.wait()


@dataclass(slots=True)
class Processes:
    """Processes that search, started when they are needed."""

    idle: list[Process] = field(default_factory=list)
    free: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_PROCESSES))

    def ask(self, request: bytes) -> Any:
        """The reply to a request. Raises TimeoutError beyond its limit, OSError if no process can run."""
        with self.free:
            while True:
                try:
                    process, fresh = self.idle.pop(), False
                except IndexError:
                    process, fresh = Process(), True
                reply = process.ask(request)
                if reply.endswith(b"\n"):
                    self.idle.append(process)
                    return json.loads(reply)
                process.process.wait()
                code = process.end()
                if code == -getattr(signal, "SIGVTALRM", 0) or (os.name != "posix" and code == 1):
                    raise TimeoutError
                if fresh:  # another one may have been ended from outside while it was idle
                    raise OSError(f"it ended with code {code}")

    def close(self) -> None:
        """End the idle processes."""
        while self.idle:
            self.idle.pop().end()


_processes = Processes()
atexit.register(_processes.close)
close_processes = _processes.close
