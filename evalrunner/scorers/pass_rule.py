"""When a score passes as a check, and the scorer that gives 1 where another one does not pass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from evalrunner.domain import (
    Declaration,
    Failure,
    Preparable,
    Sample,
    SampleFilter,
    SampleValidator,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.plugins import name_of
from evalrunner.scorers.call import checked_value

ROUNDING = 1e-9  # of sums and means, so that 0.7 reaches 0.7


@dataclass(frozen=True, slots=True)
class PassRule:
    """A score passes from `bound` on, or up to it if lower scores are better."""

    bound: float
    higher_is_better: bool = True

    def __call__(self, value: float) -> bool:
        return value >= self.bound - ROUNDING if self.higher_is_better else value <= self.bound + ROUNDING

    @classmethod
    def of(cls, declaration: Declaration, threshold: float | None = None) -> PassRule | None:
        """The rule of a check: its `threshold`, else what the scorer declares; None if neither says."""
        bound = declaration.passes if threshold is None else threshold
        if bound is None and declaration.binary:
            bound = 1.0 if declaration.higher_is_better else 0.0
        return None if bound is None else cls(bound, declaration.higher_is_better)


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
        aggregates=("mean",), headline="mean", threshold=None, passes=None,
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
        """The outcome with its value reversed."""
        if outcome is None or isinstance(outcome, Skipped | Unscored | Failure):
            return outcome
        value = checked_value(outcome.value if isinstance(outcome, Score) else outcome, self.declaration)
        if isinstance(value, str):
            return Failure("function", f"{name_of(self.__wrapped__)} returned {value}")
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
