"""Exceptions, grouped by what the caller can do.

    EvalrunError                  exit code
    ├── SuiteError                2   correct the suite, its data or the command line; nothing was called
    │   ├── MissingExtraError     2   install the extra that the message names
    │   └── NotStartedError       2   free space, or name another folder; nothing was called
    ├── RunNotFoundError          2   name another run
    │   └── InvalidRunError       2   restore the run's file, or upgrade evalrun
    ├── RunLockedError             2   wait for the process that writes the run, or stop it
    └── RunError                  3   the run cannot continue: disk full, weights not available

A failed call raises nothing: it is a `domain.Failure`, a value in its row. The exit codes of verdicts are in `verdicts`.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from evalrunner.verdicts import UNTRUSTED, USAGE

SCARCE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
)
UNMAPPED = re.compile("failed to map|cannot allocate memory", re.IGNORECASE)  # of a library that could not be loaded


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a suite. `where` is `file:line:column` or a file, `key` the dotted path inside it."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class PlacedProblem(str):
    """A problem of a sample that, if every sample has it, is a mistake at the place `where` of the suite."""

    __slots__ = ("where",)
    where: str

    def __new__(cls, text: str, where: str) -> Self:
        problem = super().__new__(cls, text)
        problem.where = where
        return problem


class EvalrunError(Exception):
    """Base class of the errors that the command line prints in one sentence, without a traceback."""

    exit_code = UNTRUSTED


class SuiteError(EvalrunError):
    """The suite, its data or the command line is wrong. `problems` lists every problem."""

    exit_code = USAGE

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem("", "", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class MissingExtraError(SuiteError):
    """A feature needs packages that are not installed. `note` follows the install command in the message."""

    def __init__(self, what: str, extra: str, *, note: str = "") -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install '.[{extra}]' in evalrun's checkout{note}")
        self.extra = extra


class NotStartedError(SuiteError):
    """A run cannot be written, for which nothing was called: the system refuses a file, or merged parts are not the whole."""


class RunNotFoundError(EvalrunError):
    """No run, or more than one, matches the reference."""

    exit_code = USAGE


class InvalidRunError(RunNotFoundError):
    """A file of a stored run is missing, broken, or written by another version."""


class RunLockedError(EvalrunError):
    """Another process is writing the run."""

    exit_code = USAGE


class RunError(EvalrunError):
    """The run cannot continue."""


def exhausted(crash: BaseException) -> str | None:
    """What the machine has too little of, as the beginning of a sentence; None for any other exception."""
    if isinstance(crash, OSError):
        return f"the system refused an operation ({crash.strerror})" if crash.errno in SCARCE else None
    if isinstance(crash, RuntimeError) and "start new thread" in str(crash):
        return "the system starts no more threads; lower concurrency, or raise the limits (ulimit -u, ulimit -v)"
    if isinstance(crash, MemoryError) or (isinstance(crash, ImportError) and UNMAPPED.search(str(crash))):
        return "there is not enough memory; lower concurrency, or raise the limit (ulimit -v)"
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def listed(items: Sequence[str], last: str = "or") -> str:
    """`a, b or c`: at least one item, with the word before the last."""
    return f" {last} ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
