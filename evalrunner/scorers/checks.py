"""When a check passes, and the verdict of those of one row: whether it passes, its weighted share, a value for each name.

A check that could not be judged leaves the row without a score only if it could still change the outcome: the row is
decided with every such check failing and with every one passing, and has a score where both agree.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from evalrunner.capabilities import Preparable, SampleFilter, SampleValidator
from evalrunner.domain import (
    EMPTY,
    Cell,
    Declaration,
    Failure,
    JudgeCall,
    Parts,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.plugins import name_of
from evalrunner.scorers.call import UNDEFINED_RESULT, checked_value

ROUNDING = 1e-9  # of sums and means, so that 0.7 reaches 0.7


@dataclass(frozen=True, slots=True)
class PassRule:
    """A score passes from `bound` on, or up to it if lower scores are better. `binary`: no other scores than 0 and 1 are known."""

    bound: float
    higher_is_better: bool = True
    binary: bool = False

    def __call__(self, value: float) -> bool:
        return value >= self.bound - ROUNDING if self.higher_is_better else value <= self.bound + ROUNDING

    @classmethod
    def of(cls, declaration: Declaration, threshold: float | None = None) -> PassRule | None:
        """The rule of a check: its `threshold`, else what the scorer declares; None if neither says."""
        bound = declaration.passes if threshold is None else threshold
        if bound is None and (declaration.binary or declaration.infer_binary):
            return cls(1.0 if declaration.higher_is_better else 0.0, declaration.higher_is_better, binary=True)
        return None if bound is None else cls(bound, declaration.higher_is_better)

    def problem(self, value: float) -> str | None:
        """Why it is not known whether a value passes."""
        if not self.binary or value in (0.0, 1.0):
            return None
        return f"gives {value:g}, neither 0 nor 1; add the threshold from which it passes"


def negate(factory: Callable[..., Any]) -> Callable[..., Any]:
    """The factory of the scorer that gives 1 where the factory's does not pass, else 0. Its options are the same."""

    @functools.wraps(factory)
    def negated(*args: Any, **options: Any) -> Scorer:
        product = factory(*args, **options)
        scorer = product if isinstance(product, Scorer) else Scorer(product)
        rule = PassRule.of(scorer.declaration)
        if rule is None:
            name = factory.__name__
            raise ValueError(
                f"{name!r} gives a number, so 'not_{name}' is not known to pass; use it as a check with a threshold"
            )
        return negated_scorer(scorer, rule)

    negated.__doc__ = f"1 where `{factory.__name__}` does not pass, else 0. {inspect.getdoc(factory) or ''}"
    return negated


def negated_scorer(scorer: Scorer, rule: PassRule) -> Scorer:
    """The scorer that gives 1 where the scorer's value does not pass, else 0; what has no value stays so."""
    function, declaration = scorer.function, scorer.declaration
    waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
    kind = AwaitedNegation if waits else Negation
    declared = replace(
        declaration, low=0.0, high=1.0, higher_is_better=True, unit=None, binary=True, infer_binary=False,
        aggregates=("mean",), headline="mean", threshold=None, passes=None, parts=EMPTY,
    )  # fmt: skip
    return replace(scorer, function=kind(function, declaration, rule), declaration=declared)


class Negation(SampleValidator, SampleFilter, Preparable):
    """A scorer's function with its value reversed; it takes the same parameters."""

    def __init__(self, function: Callable[..., Any], declaration: Declaration, rule: PassRule) -> None:
        self.__wrapped__: Any = function  # whose signature and place in a file this has
        self.declaration = declaration
        self.rule = rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.reverse(self.__wrapped__(*args, **kwargs))

    def reverse(self, outcome: Any) -> Any:
        """The outcome with its value reversed, without parts: the opposite of a field is not measured."""
        if isinstance(outcome, Parts):
            outcome = outcome.main
        if outcome is None or isinstance(outcome, Skipped | Unscored | Failure):
            return outcome
        if isinstance(outcome, Score) and outcome.metadata.get(UNDEFINED_RESULT) is True:
            return replace(outcome, value=0.0)  # what the answer leaves undefined passes neither way
        value = checked_value(outcome.value if isinstance(outcome, Score) else outcome, self.declaration)
        if isinstance(value, str):
            return Failure("function", f"{name_of(self.__wrapped__)} returned {value}")
        if (problem := self.rule.problem(value)) is not None:
            return Failure("function", f"{name_of(self.__wrapped__)} {problem}")
        reversed_value = float(not self.rule(value))
        return (
            Score(reversed_value, outcome.explanation, outcome.metadata)
            if isinstance(outcome, Score)
            else reversed_value
        )

    def check(self, sample: Sample) -> str | None:
        return self.__wrapped__.check(sample) if isinstance(self.__wrapped__, SampleValidator) else None

    def skip_reason(self, sample: Sample) -> str | None:
        return self.__wrapped__.skip_reason(sample) if isinstance(self.__wrapped__, SampleFilter) else None

    async def prepare(self, notify: Callable[[str], None]) -> None:
        if isinstance(self.__wrapped__, Preparable):
            await self.__wrapped__.prepare(notify)


class AwaitedNegation(Negation):
    """The same for a function that is awaited."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outcome = self.__wrapped__(*args, **kwargs)
        return self.reverse(await outcome if inspect.isawaitable(outcome) else outcome)


NO_CHECKS: Final = Cell("skipped", reason="the row has no checks")
NOT_NAMED: Final = Cell("skipped", reason="the row has no check of this name")
NO_TURN: Final = Cell("skipped", reason="the conversation has no such turn")
NOTHING_COUNTS: Final = Cell("skipped", reason="every check of the row has weight 0")

Ends = tuple[bool, bool]
PASSES: Final = (True, True)
FAILS: Final = (False, False)
"""Whether something passes if every check that could not be judged fails, and if every one passes."""


@dataclass(slots=True)  # not frozen, which would take a third of the time of the checks
class CheckResult:
    """One check of a row: its cell, and whether it passed, None where it could not be judged or does not apply."""

    type: str
    text: str
    cell: Cell
    passed: bool | None
    name: str | None = None
    weight: float = 1.0

    @property
    def ends(self) -> Ends | None:
        """None where the check does not apply."""
        if self.passed is None:
            return None if self.cell.state == "skipped" else (False, True)
        return PASSES if self.passed else FAILS

    def results(self) -> Iterable[CheckResult]:
        """The results behind this one."""
        return (self,)

    def record(self) -> dict[str, Any]:
        """What the row log holds of it."""
        cell, weight = self.cell, self.weight
        record: dict[str, Any] = {} if self.name is None else {"name": self.name}
        record["type"], record["text"] = self.type, self.text
        record["passed"], record["value"] = self.passed, cell.value
        record["weight"] = 1 if weight == 1 else int(weight) if weight.is_integer() else weight
        record["state"] = cell.state
        if cell.reason is not None or cell.cause is not None:
            record["reason"] = cell.message
        if cell.detail:
            for key in ("explanation", "extracted"):
                if cell.detail.get(key) is not None:
                    record[key] = cell.detail[key]
        return record


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Checks that count as one."""

    rule: str
    members: tuple[CheckResult | GroupResult, ...]
    text: str
    name: str | None = None
    weight: float = 1.0
    threshold: float | None = None

    @property
    def ends(self) -> Ends | None:
        """None where no check of the group applies."""
        if self.rule == "all":
            return combined(self.members, self.threshold)
        every = [ends for item in self.members if item.weight > 0 and (ends := item.ends) is not None]
        return (any(low for low, _ in every), any(high for _, high in every)) if every else None

    @property
    def passed(self) -> bool | None:
        ends = self.ends
        return ends[0] if ends is not None and ends[0] == ends[1] else None

    @property
    def cell(self) -> Cell:
        """Scored where the group is decided, else the cell of the check that prevents it."""
        ends = self.ends
        if ends is None:
            return next((item.cell for item in self.results() if item.cell.state == "skipped"), NOTHING_COUNTS)
        return Cell("scored", float(ends[0])) if ends[0] == ends[1] else blocking(self.results())

    def results(self) -> Iterable[CheckResult]:
        """The results of the checks in the group."""
        for item in self.members:
            yield from item.results()

    def record(self) -> dict[str, Any]:
        """What the row log holds of the group itself; its checks follow it."""
        return replace(CheckResult(self.rule, self.text, self.cell, self.passed, self.name, self.weight)).record()


AnyResult = CheckResult | GroupResult


def combined(items: Sequence[AnyResult], threshold: float | None) -> Ends | None:
    """Whether all of them pass, or their weighted share reaches the threshold; None if none applies."""
    weighted = []
    for item in items:  # twice as fast as a comprehension over properties, for every row
        if item.weight > 0 and (ends := item.ends) is not None:
            weighted.append((item.weight, ends))
    if not weighted:
        return None
    if threshold is None:
        return all(low for _, (low, _) in weighted), all(high for _, (_, high) in weighted)
    total = sum(weight for weight, _ in weighted)
    low, high = (sum(weight for weight, ends in weighted if ends[end]) / total for end in (0, 1))
    return low >= threshold - ROUNDING, high >= threshold - ROUNDING


def blocking(results: Iterable[CheckResult]) -> Cell:
    """The cell of the check that leaves something undecided: an error before an unscored one."""
    open_ = [item for item in results if item.weight > 0 and item.passed is None and item.cell.state != "skipped"]
    worst = next((item for item in open_ if item.cell.state == "error"), open_[0])
    reason = worst.cell.reason
    if reason is not None and worst.cell.cause == "no_answer":  # that of the answer, whichever check needs one
        return Cell(worst.cell.state, reason=reason, cause="no_answer")
    return Cell(worst.cell.state, reason=f"{worst.text}: {reason}" if reason else worst.text, cause=worst.cell.cause)


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """The results of the checks of one row, and the weighted share at which it passes, None if all have to pass."""

    items: tuple[AnyResult, ...]
    threshold: float | None = None

    def cell(self) -> Cell:
        """1 where the row passes, else 0, with every check in its detail and every call of their judges."""
        calls: tuple[JudgeCall, ...] = ()
        for item in self.items:
            for result in item.results():
                if result.cell.calls:
                    calls += result.cell.calls
        detail = self.detail()
        ends = combined(self.items, self.threshold)
        if ends is None:
            skipped = next(
                (one.cell for item in self.items for one in item.results() if one.cell.state == "skipped"), None
            )
            return replace(skipped or NOTHING_COUNTS, detail=detail, calls=calls)
        if ends[0] == ends[1]:
            return Cell("scored", float(ends[0]), detail=detail, calls=calls)
        return replace(blocking(result for item in self.items for result in item.results()), detail=detail, calls=calls)

    def share(self) -> Cell:
        """The weighted share of the checks that pass."""
        return weighted_share(self.items)

    def named(self) -> Mapping[str, Cell]:
        """A cell for each name: whether its check passes, or the weighted share of several of one name."""
        names: dict[str, list[AnyResult]] = {}
        for item in _every(self.items):
            if item.name is not None:
                names.setdefault(item.name, []).append(item)
        return {name: _named(items) for name, items in names.items()}

    def detail(self) -> dict[str, Any]:
        """Every check, for the row log; one in a group has the place of the group."""
        records: list[dict[str, Any]] = []
        _record(self.items, None, records)
        return {"checks": records} if self.threshold is None else {"checks": records, "threshold": self.threshold}


def weighted_share(items: Sequence[AnyResult]) -> Cell:
    """The share of the weights of the items that pass; a cell without a value if one of them could not be judged."""
    applicable = [(item, ends) for item in items if item.weight > 0 and (ends := item.ends) is not None]
    if not applicable:
        return next(
            (result.cell for item in items for result in item.results() if result.cell.state == "skipped"),
            NOTHING_COUNTS,
        )
    if any(ends[0] != ends[1] for _, ends in applicable):
        open_ = [item for item, ends in applicable if ends[0] != ends[1]]
        return blocking(result for item in open_ for result in item.results())
    total = sum(item.weight for item, _ in applicable)
    return Cell("scored", min(1.0, sum(item.weight for item, ends in applicable if ends[0]) / total))


def _named(items: list[AnyResult]) -> Cell:
    """The cell of a name; weights matter only between several checks of it."""
    if len(items) > 1 and any(item.weight > 0 for item in items):
        return weighted_share(items)
    shares = [_alone(item) for item in items]
    return weighted_share(shares) if len(shares) > 1 else _with_detail(shares[0])


def _alone(item: AnyResult) -> AnyResult:
    return item if item.weight == 1 else replace(item, weight=1.0)


def _with_detail(item: AnyResult) -> Cell:
    """The cell of a single check: 1 where it passes, with its explanation."""
    cell = item.cell
    if item.passed is None:
        return Cell(cell.state, reason=cell.reason, cause=cell.cause)
    return Cell("scored", float(item.passed), cell.reason, cell.detail, cause=cell.cause)


def _every(items: Iterable[AnyResult]) -> Iterable[AnyResult]:
    for item in items:
        yield item
        if isinstance(item, GroupResult):
            yield from _every(item.members)


def _record(items: Iterable[AnyResult], group: int | None, records: list[dict[str, Any]]) -> None:
    for item in items:
        record = item.record()
        if group is not None:
            record["group"] = group
        records.append(record)
        if isinstance(item, GroupResult):
            _record(item.members, len(records) - 1, records)
