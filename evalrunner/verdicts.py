"""Verdicts and exit codes: their order, and what each verdict leads to. The one home of both; imports nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

PASSED: Final = 0
FAILED: Final = 1
USAGE: Final = 2  # a suite, data or command-line error; nothing was called
UNTRUSTED: Final = 3  # too few scores to say anything about the model, or the run did not finish
INCONCLUSIVE: Final = 4
INTERRUPTED: Final = 130
PRECEDENCE: Final = (INTERRUPTED, USAGE, FAILED, UNTRUSTED, INCONCLUSIVE, PASSED)

Verdict: TypeAlias = Literal["pass", "fail", "inconclusive", "untrusted", "no_baseline"]
GateKind: TypeAlias = Literal["point", "confidence", "max_drop", "improved"]
Severity: TypeAlias = Literal["error", "warning", "notice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRule:
    """What a verdict leads to.

    `exit_code` is that of a gate that blocks. `acceptable`: a run with this verdict may become a baseline. `style`
    is its look in a terminal, `severity` that of an annotation where the gate does not block.
    """

    exit_code: int
    style: str
    severity: Severity
    acceptable: bool = False


VERDICTS: Final[Mapping[Verdict, VerdictRule]] = {
    "fail": VerdictRule(exit_code=FAILED, style="bold red", severity="error"),
    "untrusted": VerdictRule(exit_code=UNTRUSTED, style="bold magenta", severity="error"),
    "inconclusive": VerdictRule(exit_code=INCONCLUSIVE, style="bold yellow", severity="warning"),
    "no_baseline": VerdictRule(exit_code=UNTRUSTED, style="bold cyan", severity="notice", acceptable=True),
    "pass": VerdictRule(exit_code=PASSED, style="bold green", severity="notice", acceptable=True),
}
"""Worst first. A new verdict is one entry here, a literal of `Verdict`, and the rule in `gates/` that gives it."""

WORST_FIRST: Final = tuple(VERDICTS)
ACCEPTABLE: Final = frozenset(verdict for verdict, rule in VERDICTS.items() if rule.acceptable)


def gate_exit_code(verdict: Verdict, *, blocks: bool) -> int:
    """The exit code that one gate asks for."""
    rule = VERDICTS[verdict]
    return rule.exit_code if blocks else PASSED


def exit_code(codes: Iterable[int]) -> int:
    """The exit code that wins of several: 130, 2, 1, 3, 4, 0 in this order."""
    return min(codes, key=PRECEDENCE.index, default=PASSED)


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a run: the worst of its gates; pass where there are none."""
    return min(verdicts, key=WORST_FIRST.index, default="pass")
