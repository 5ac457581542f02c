"""Verdicts to an exit code: of several the one that goes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evalrunner.domain import GateResult, Verdict

PASSED, FAILED, USAGE, UNTRUSTED, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 4, 130
ORDER = (INTERRUPTED, USAGE, FAILED, UNTRUSTED, INCONCLUSIVE, PASSED)
WORST_FIRST: tuple[Verdict, ...] = ("fail", "untrusted", "inconclusive", "no_baseline", "pass")


def code_of(result: GateResult) -> int:
    """The exit code that one gate asks for."""
    if result.verdict == "inconclusive":
        return INCONCLUSIVE if result.blocks else PASSED
    if result.verdict == "no_baseline":
        return UNTRUSTED if result.blocks else PASSED
    return {"pass": PASSED, "fail": FAILED, "untrusted": UNTRUSTED}[result.verdict]


def exit_code(codes: Iterable[int]) -> int:
    """Of several exit codes the one that goes first: 130, 2, 1, 3, 4, 0."""
    return min(codes, key=ORDER.index, default=PASSED)


def overall(results: Sequence[GateResult]) -> Verdict:
    """The verdict of a run: the worst of its gates; pass where there are none."""
    return min((result.verdict for result in results), key=WORST_FIRST.index, default="pass")
