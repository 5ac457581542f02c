"""What evalrun raises, grouped by what the caller would do.

    EvalrunError                  exit code
    ├── SuiteError                2   mend the suite, its data or the command line; nothing was called
    │   └── MissingExtraError     2   install the extra that the message names
    ├── RunNotFoundError          2   name another run
    ├── RunLockedError             2   wait for the process that writes the run, or end it
    └── RunError                  3   the run could not go on: a disk that is full, weights that do not arrive

A call that fails is not here: it is a `domain.Failure`, a value in its row. The exit codes are
those of `verdicts`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evalrunner.verdicts import UNTRUSTED, USAGE


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where` is `file:line:column` or a file; `key` the dotted path inside it."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class EvalrunError(Exception):
    """Anything that evalrun says in one sentence and without a traceback."""

    exit_code = UNTRUSTED


class SuiteError(EvalrunError):
    """The suite, its data or the command line is wrong. Holds every problem that was found."""

    exit_code = USAGE

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem("", "", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class MissingExtraError(SuiteError):
    """A feature needs packages that are not installed. `besides` is said after what to install."""

    def __init__(self, what: str, extra: str, *, besides: str = "") -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install '.[{extra}]' in evalrun's checkout{besides}")
        self.extra = extra


class RunNotFoundError(EvalrunError):
    """No run, or more than one, fits what was named."""

    exit_code = USAGE


class RunLockedError(EvalrunError):
    """Another process writes the run that was named."""

    exit_code = USAGE


class RunError(EvalrunError):
    """The run could not go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
