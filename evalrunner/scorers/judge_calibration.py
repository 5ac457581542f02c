"""The sanity check of a judge: it scores calibration examples before its first verdict."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from evalrunner.domain import CalibrationExample, Cell, Completion, Declaration, Failure, Judge, Sample
from evalrunner.scorers.call import BoundScorer, cell_from, outcome_async

CONCURRENCY = 4  # calls of one check at a time
MAX_CHANCE = 0.02  # probability that a judge that guesses passes


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """The result of a check. `wrong` describes each verdict that is wrong.

    `failure` is set if a call failed and ended the check: the judge is then unknown, and `passed` is False.
    """

    right: int
    total: int
    needed: int
    passed: bool
    failure: Failure | None = None
    wrong: tuple[str, ...] = ()


async def check_judge(bound: BoundScorer, judge: Judge) -> JudgeCheck:
    """Let the judge score every calibration example. A failed call ends the check; an unreadable verdict is wrong."""
    examples = bound.scorer.calibration_examples
    verdicts: dict[int, Cell] = {}
    failures: list[Failure] = []
    waiting = iter(enumerate(examples))

    async def ask() -> None:
        for index, example in waiting:
            if failures:
                return
            outcome = await outcome_async(bound, example_sample(index, example), Completion(example.output), judge)
            cell = cell_from(outcome, bound.scorer.declaration, by=bound.call.function)
            if cell.state == "error":
                failures.append(outcome if isinstance(outcome, Failure) else Failure("function", cell.message or ""))
            verdicts[index] = cell

    await asyncio.gather(*(ask() for _ in range(min(CONCURRENCY, len(examples)))))
    needed = required_right(len(examples))
    declaration = bound.scorer.declaration
    right = sum(is_right(examples[index], cell, declaration) for index, cell in verdicts.items())
    wrong = tuple(
        describe_verdict(examples[index], cell)
        for index, cell in sorted(verdicts.items())
        if cell.state != "error" and not is_right(examples[index], cell, declaration)
    )
    passed = right >= needed  # failed calls do not matter then
    return JudgeCheck(right, len(examples), needed, passed, failures[0] if failures and not passed else None, wrong)


def example_sample(index: int, example: CalibrationExample) -> Sample:
    """A calibration example as the sample that a scorer sees."""
    return Sample(f"calibration example {index + 1}", example.input, (example.expected,) if example.expected else ())


def required_right(total: int) -> int:
    """The smallest number of right verdicts that guessing reaches with a probability below 2%: 10 of 12 (1.9%).

    The upper tail of the binomial distribution with p = 1/2, summed exactly. With fewer than six examples even all of
    them are likelier than that; then all are required.
    """
    tail = 0
    for needed in range(total, -1, -1):
        tail += math.comb(total, needed)
        if tail >= MAX_CHANCE * 2**total:
            return min(needed + 1, total)
    return 0


def is_right(example: CalibrationExample, cell: Cell, declaration: Declaration) -> bool:
    """Whether the verdict is on the example's side of the middle of the range; the middle itself is wrong."""
    if cell.state != "scored" or cell.value is None:
        return False
    # binding requires both for scorers with examples
    assert declaration.low is not None and declaration.high is not None
    good_side = cell.value - (declaration.low + declaration.high) / 2
    if not declaration.higher_is_better:
        good_side = -good_side
    return good_side > 0 if example.good else good_side < 0


def describe_verdict(example: CalibrationExample, cell: Cell) -> str:
    """One example and the verdict on it."""
    verdict = cell.message if cell.value is None else f"scored {cell.value:g}"
    return f"{example.output!r} is {'good' if example.good else 'bad'}: {verdict}"
