"""The sanity check of a judge: it scores calibration examples, good and bad, before its first verdict.

It finds judges that are broken. It does not measure how good a judge is: a judge that is right on 70% of the bad answers
passes almost every second time (docs/how-to/judges.md). Each side is checked by itself, because a judge that accepts
everything is right on every good example.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evalrunner.domain import EMPTY, CalibrationExample, Cell, Completion, Declaration, Failure, Judge, Sample, Unscored
from evalrunner.formatting import check_summary, known_answers, unread_replies
from evalrunner.scorers.call import TOLERANCE, BoundScorer, cell_from, outcome_async
from evalrunner.scorers.judge_replies import NoVerdict, quote_reply

CONCURRENCY = 4  # calls of one check at a time
MAX_BEGINNING = 60  # characters of the first unreadable reply
ADVICE: Mapping[str, str] = {
    "cut off": "raise max_tokens in the judge's params",
    "empty": "raise max_tokens in the judge's params if the model reasons first, or use another judge",
    "filtered": "relax the provider's filter or use another judge",
    "refused": "use another judge",
    "two verdicts": "use another judge",
    "unreadable": "the model does not keep to the format: use another judge",
    "failed": "see the provider's message",
}
FIRST_STAGE = 6  # examples of each side that are scored first, where there are twice as many of both


@dataclass(frozen=True, slots=True)
class Side:
    """The verdicts on the good examples, or on the bad ones."""

    right: int
    total: int

    @property
    def needed(self) -> int:
        """Right verdicts that are needed to pass."""
        return required_right(self.total)


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """The result of a check. `wrong` describes each verdict that is wrong, `coin` is the chance that a coin passes.

    `failure` is set if a call failed and ended the check: the judge is then unknown, and `passed` is False. `unread` counts
    the replies without a verdict by their cause, failed calls among them, and `note` says so in a sentence.
    """

    good: Side
    bad: Side
    passed: bool
    failure: Failure | None = None
    wrong: tuple[str, ...] = ()
    coin: float = 0.0
    unread: Mapping[str, int] = EMPTY
    note: str | None = None

    @property
    def right(self) -> int:
        return self.good.right + self.bad.right

    @property
    def total(self) -> int:
        return self.good.total + self.bad.total

    @property
    def summary(self) -> str:
        """`8 of 12 known answers: 6 of 6 good, 2 of 6 bad`, and why replies could not be read."""
        known = known_answers((self.good.right, self.good.total), (self.bad.right, self.bad.total))
        return check_summary(known, self.note)


async def check_judge(bound: BoundScorer, judge: Judge) -> JudgeCheck:
    """Let the judge score the calibration examples, in one or two stages. An unreadable verdict is wrong.

    A failed call ends the check, unless the verdicts by then are enough to pass.
    """
    examples = bound.scorer.calibration_examples
    cells: dict[int, Cell] = {}
    unread: dict[int, Unscored | Failure] = {}
    failure: Failure | None = None
    passed: bool | None = None
    places: list[int] = []
    stages = check_stages(examples)
    for stage in stages:
        places += stage
        failure = await _score(bound, judge, stage, cells, unread)
        good, bad = (_side(bound, places, cells, good=good) for good in (True, False))
        passed = decide(good, bad, last=stage is stages[-1])
        if failure is not None or passed is not None:
            break
    declaration = bound.scorer.declaration
    wrong = tuple(
        describe_verdict(examples[place], cell)
        for place, cell in sorted(cells.items())
        if cell.state != "error" and not is_right(examples[place], cell, declaration)
    )
    causes = Counter(map(cause_of, unread.values()))
    return JudgeCheck(
        good, bad, bool(passed), None if passed else failure, wrong, pass_chance(examples, 0.5, 0.5), dict(causes),
        _note(causes, unread, len(cells)),
    )  # fmt: skip


def cause_of(outcome: Unscored | Failure) -> str:
    """Why a reply could not be read: `cut off`, `unreadable`, `failed (HTTP 500)` and so on."""
    if isinstance(outcome, Failure):
        return f"failed ({outcome.kind if outcome.status is None else f'HTTP {outcome.status}'})"
    return outcome.problem if isinstance(outcome, NoVerdict) else "unreadable"


def _note(causes: Mapping[str, int], unread: Mapping[int, Unscored | Failure], replies: int) -> str | None:
    if not causes:
        return None
    texts = (outcome.reply for _, outcome in sorted(unread.items()) if isinstance(outcome, NoVerdict))
    first = next((text for text in texts if text.strip()), "")
    main = max(causes, key=lambda name: (causes[name], name))
    advice = ADVICE.get(main, ADVICE["failed"] if main.startswith("failed") else ADVICE["unreadable"])
    return unread_replies(causes, replies, quote_reply(first, MAX_BEGINNING) if first else "", advice)


def check_stages(examples: Sequence[CalibrationExample]) -> tuple[tuple[int, ...], ...]:
    """The places of the examples that are scored in each stage.

    With at least twelve good and twelve bad examples, the first six of each side are the first stage and the others the
    second, which is skipped where the first one decides. Fewer are one stage.
    """
    sides = [[place for place, item in enumerate(examples) if item.good is good] for good in (True, False)]
    if min(map(len, sides)) < 2 * FIRST_STAGE:
        return (tuple(range(len(examples))),)
    first = sorted(place for side in sides for place in side[:FIRST_STAGE])
    second = sorted(place for side in sides for place in side[FIRST_STAGE:])
    return tuple(first), tuple(second)


def decide(good: Side, bad: Side, *, last: bool) -> bool | None:
    """Whether the judge passes; None where a further stage decides.

    Five of six must be right on each side. Before the last stage, a side that is right on half or less has failed.
    """
    if good.right >= good.needed and bad.right >= bad.needed:
        return True
    return False if last or any(2 * side.right <= side.total for side in (good, bad)) else None


def required_right(total: int) -> int:
    """Right verdicts needed on one side: five of six, rounded up."""
    return -(-5 * total // 6)


def pass_chance(examples: Sequence[CalibrationExample], sensitivity: float, specificity: float) -> float:
    """The exact probability, 0..1, that a judge passes the check.

    `sensitivity` and `specificity` are the shares of good and of bad answers that it gets right, each on its own. A coin
    has 0.5 and 0.5.
    """
    stages = [_sizes(examples, stage) for stage in check_stages(examples)]
    chance = 0.0
    first, rest = stages[0], stages[1] if len(stages) > 1 else (0, 0)
    for good in range(first[0] + 1):
        for bad in range(first[1] + 1):
            likely = binomial(good, first[0], sensitivity) * binomial(bad, first[1], specificity)
            passed = decide(Side(good, first[0]), Side(bad, first[1]), last=len(stages) == 1)
            if passed is None:
                likely *= _tail(required_right(first[0] + rest[0]) - good, rest[0], sensitivity)
                likely *= _tail(required_right(first[1] + rest[1]) - bad, rest[1], specificity)
            chance += 0.0 if passed is False else likely
    return chance


def binomial(right: int, total: int, share: float) -> float:
    """The probability of exactly `right` of `total`."""
    return math.comb(total, right) * share**right * (1 - share) ** (total - right)


def example_sample(index: int, example: CalibrationExample) -> Sample:
    """A calibration example as the sample that a scorer sees."""
    expected = (example.expected,) if example.expected else ()
    return Sample(f"calibration example {index + 1}", example.input, expected, example.metadata)


def is_right(example: CalibrationExample, cell: Cell, declaration: Declaration) -> bool:
    """Whether the verdict is the known one, or on the example's side of the middle of the range; the middle itself is wrong."""
    if cell.state != "scored" or cell.value is None:
        return False
    if example.value is not None:
        return abs(cell.value - example.value) <= example.tolerance + TOLERANCE
    # binding requires both for scorers with examples
    assert declaration.low is not None and declaration.high is not None
    good_side = cell.value - (declaration.low + declaration.high) / 2
    if not declaration.higher_is_better:
        good_side = -good_side
    return good_side > 0 if example.good else good_side < 0


def describe_verdict(example: CalibrationExample, cell: Cell) -> str:
    """One example and the verdict on it."""
    verdict = cell.message if cell.value is None else f"scored {cell.value:g}"
    known = "good" if example.good else "bad"
    return f"{example.output!r} is {known if example.value is None else format(example.value, 'g')}: {verdict}"


async def _score(
    bound: BoundScorer,
    judge: Judge,
    places: Sequence[int],
    cells: dict[int, Cell],
    unread: dict[int, Unscored | Failure],
) -> Failure | None:
    """Add the judge's cells for the examples at `places`, and the outcomes without a verdict.

    Returns the first failure, after which no call is made.
    """
    examples, failures, waiting = bound.scorer.calibration_examples, list[Failure](), iter(places)

    async def ask() -> None:
        for place in waiting:
            if failures:
                return
            example = examples[place]
            outcome = await outcome_async(bound, example_sample(place, example), Completion(example.output), judge)
            cell = cell_from(outcome, bound.scorer.declaration, by=bound.call.function)
            if cell.state == "error":
                failures.append(outcome if isinstance(outcome, Failure) else Failure("function", cell.message or ""))
            if isinstance(outcome, Unscored | Failure):
                unread[place] = outcome
            cells[place] = cell

    await asyncio.gather(*(ask() for _ in range(min(CONCURRENCY, len(places)))))
    return failures[0] if failures else None


def _side(bound: BoundScorer, places: Iterable[int], cells: Mapping[int, Cell], *, good: bool) -> Side:
    """The verdicts on the good or the bad examples at `places`; one without a cell is not right."""
    examples, declaration = bound.scorer.calibration_examples, bound.scorer.declaration
    mine = [place for place in places if examples[place].good is good]
    right = sum(place in cells and is_right(examples[place], cells[place], declaration) for place in mine)
    return Side(right, len(mine))


def _sizes(examples: Sequence[CalibrationExample], stage: Sequence[int]) -> tuple[int, int]:
    """How many good and how many bad examples a stage has."""
    good = sum(examples[place].good for place in stage)
    return good, len(stage) - good


def _tail(least: int, total: int, share: float) -> float:
    """The probability of at least `least` of `total`."""
    return sum(binomial(right, total, share) for right in range(max(0, least), total + 1))
