"""A judge is checked before it is believed: known pairs are put to it before its first verdict."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from evalrunner.domain import CalibrationExample, Cell, Completion, Declaration, Failure, Judge, Sample
from evalrunner.scorers.call import BoundScorer, cell_from, outcome_async

AT_ONCE = 4  # questions of a check that are under way together
CHANCE = 0.02  # what a judge that tosses coins may pass with


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """How a judge did on its known pairs. `wrong` says of each pair that it got wrong what it said.

    `failure` is set where infrastructure broke the check off: then nothing is known, and `passed` is False.
    """

    right: int
    total: int
    needed: int
    passed: bool
    failure: Failure | None = None
    wrong: tuple[str, ...] = ()


async def check_judge(bound: BoundScorer, judge: Judge) -> JudgeCheck:
    """Put every known pair to the judge, a few at once. A failing call ends the check; an unreadable verdict is wrong."""
    pairs = bound.scorer.calibration_examples
    verdicts: dict[int, Cell] = {}
    failures: list[Failure] = []
    waiting = iter(enumerate(pairs))

    async def ask() -> None:
        for place, pair in waiting:
            if failures:
                return
            found = await outcome_async(bound, pair_sample(place, pair), Completion(pair.output), judge)
            cell = cell_from(found, bound.scorer.declaration, by=bound.call.function)
            if cell.state == "error":
                failures.append(found if isinstance(found, Failure) else Failure("function", cell.message or ""))
            verdicts[place] = cell

    await asyncio.gather(*(ask() for _ in range(min(AT_ONCE, len(pairs)))))
    needed = pairs_needed(len(pairs))
    declaration = bound.scorer.declaration
    right = sum(is_right(pairs[place], cell, declaration) for place, cell in verdicts.items())
    wrong = tuple(
        describe_verdict(pairs[place], cell)
        for place, cell in sorted(verdicts.items())
        if cell.state != "error" and not is_right(pairs[place], cell, declaration)
    )
    passed = right >= needed  # failing calls among the others then change nothing
    return JudgeCheck(right, len(pairs), needed, passed, failures[0] if failures and not passed else None, wrong)


def pair_sample(place: int, pair: CalibrationExample) -> Sample:
    """A pair as the sample that a scorer sees."""
    return Sample(f"known pair {place + 1}", pair.input, (pair.expected,) if pair.expected else ())


def pairs_needed(total: int) -> int:
    """The fewest of `total` pairs that a coin gets right in less than 2 % of tries: 10 of 12 (1.9 %).

    The upper tail of the binomial distribution with p = 1/2, summed exactly. Below six pairs even all of them
    do not suffice by this measure; then all are asked for.
    """
    tail = 0
    for needed in range(total, -1, -1):
        tail += math.comb(total, needed)
        if tail >= CHANCE * 2**total:
            return min(needed + 1, total)
    return 0


def is_right(pair: CalibrationExample, cell: Cell, declaration: Declaration) -> bool:
    """Whether the verdict is on the side of the middle of the range that the pair belongs to; the middle is neither."""
    if cell.state != "scored" or cell.value is None:
        return False
    assert declaration.low is not None and declaration.high is not None  # binding asks both of whoever has pairs
    good_side = cell.value - (declaration.low + declaration.high) / 2
    if not declaration.higher_is_better:
        good_side = -good_side
    return good_side > 0 if pair.good else good_side < 0


def describe_verdict(pair: CalibrationExample, cell: Cell) -> str:
    """One pair and what the judge made of it."""
    said = cell.message if cell.value is None else f"scored {cell.value:g}"
    return f"{pair.output!r} is {'good' if pair.good else 'bad'}: {said}"
