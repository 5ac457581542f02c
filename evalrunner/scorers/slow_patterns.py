"""Regular expressions that take exponential time, found before an output finds them.

Python's `re` backtracks and holds the interpreter while it does: a pattern such as `(a+)+$` on thirty times the
same letter stops the whole run, and no other thread can end it. So a pattern with a repeated group is tried once,
in a process of its own with a limit on its time, on texts that make such patterns slow.
"""

from __future__ import annotations

import functools
import json
import re
import signal
import subprocess
import sys

REPEATED_GROUP = re.compile(r"\)[*+{]")  # without one, the cost is at worst a power of the text's length
LENGTH = 60  # characters: 1.6 ** 60, the mildest exponential growth, is years; 60 ** 3 is milliseconds
LIMIT_S = 1.0  # of processor time, so that a busy machine is not taken for a slow pattern
WALL_S = 20.0  # where processor time cannot be limited (Windows)

TRIAL = """
import json, re, signal, sys
pattern, flags, length = json.loads(sys.stdin.readline())
if hasattr(signal, "ITIMER_VIRTUAL"):
    signal.setitimer(signal.ITIMER_VIRTUAL, float(sys.argv[1]))
tails = [pattern[place:] for place, sign in enumerate(pattern) if sign == "("]
for tried in [pattern, *tails[:40]]:
    try:
        compiled = re.compile(tried, flags)
    except (re.error, OverflowError, RecursionError):
        continue
    signs = [chr(code) for code in range(32, 127)] + ["\\n", "\\u00e9"]
    for unit in [*signs, *sorted({a + b for a in pattern[:20] for b in pattern[:20] if a != b})]:
        text = (unit * length)[:length] + "\\0"
        print(json.dumps(text), flush=True)
        compiled.search(text)
"""


@functools.lru_cache(maxsize=256)
def slow_text(pattern: re.Pattern[str]) -> str | None:
    """The start of a text on which the pattern, or its part from a group on, takes too long; None if none was found."""
    if REPEATED_GROUP.search(pattern.pattern) is None or not sys.executable:
        return None
    asked = json.dumps([pattern.pattern, pattern.flags, LENGTH])
    try:
        said, too_long = _try(asked + "\n")
    except OSError:  # no process to be had: the pattern is taken as it is, as it would be without this check
        return None
    tried = said.splitlines()
    return f"{json.loads(tried[-1])[:12]}…" if too_long and tried else None


def _try(asked: str) -> tuple[str, bool]:
    """What the trial printed, and whether its time was up."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", TRIAL, str(LIMIT_S)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as trial:
        try:
            said, _ = trial.communicate(asked, timeout=WALL_S)
        except subprocess.TimeoutExpired:
            trial.kill()
            said, _ = trial.communicate()
            return said, True
    alarm = getattr(signal, "SIGVTALRM", None)  # what ends the trial where its processor time is limited
    return said, alarm is not None and trial.returncode == -alarm
