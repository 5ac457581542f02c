"""Scorers of what is known about a row besides its text: a score in the data, latency, cost and tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Completion, Declaration, Failure, Outcome, Sample, Score, Scorer, Skipped
from evalrunner.errors import nearest
from evalrunner.plugins import main_option
from evalrunner.prompts import ABSENT, find_value
from evalrunner.stats.distributions import MAX_SCORE

BOOLS: Mapping[str, float] = {"true": 1.0, "false": 0.0}
BOUND = Declaration(binary=True, needs_answer=False, inline=True)


@main_option("column")
def column(
    *,
    column: str,
    low: float | None = None,
    high: float | None = None,
    higher_is_better: bool = True,
    unit: str | None = None,
) -> Scorer:
    """The number in a column, such as a rating by people. Samples without one are skipped.

    Args:
        column: Column with the score, or a dotted path into JSON: a number, also as text, or true or false.
        low: Lowest possible score; leave it out if there is none.
        high: Highest possible score; leave it out if there is none.
        higher_is_better: Whether a higher score is better.
        unit: Unit of the scores, such as s or words.
    """
    if low is not None and high is not None and low >= high:
        raise ValueError(f"low is {low:g}; it should be below high, which is {high:g}")
    declaration = Declaration(
        low=low, high=high, higher_is_better=higher_is_better, unit=unit, needs_answer=False, inline=True,
        infer_binary=unit is None and low in (None, 0) and high in (None, 1),
    )  # fmt: skip
    return Scorer(ColumnScore(column, low, high), declaration)


def column_name(item: Mapping[str, Any]) -> str | None:
    """The name of a scorer `column` that sets none: that of its column."""
    name = item.get("column")
    plain = isinstance(name, str) and name.isprintable() and name and not any(sign in name for sign in "/[]<>= ")
    return str(name) if plain else None


@dataclass(frozen=True, slots=True)
class ColumnScore(SampleValidator):
    """The function of the scorer `column`."""

    column: str
    low: float | None
    high: float | None

    def __call__(self, sample: Sample) -> Outcome | float:
        value = self._value(sample)
        if value is ABSENT or value is None or (isinstance(value, str) and not value.strip()):
            return Skipped(f"no score in the column {self.column!r}")
        number = number_in(value)
        if number is None:
            return Failure("function", f"the column {self.column!r} has {str(value)[:60]!r}, which is not a number")
        return number

    def check(self, sample: Sample) -> str | None:
        """Why the sample has no score that could be read, or None; a sample may have none."""
        value = self._value(sample)
        if value is ABSENT:
            return f"has no column {self.column!r}{nearest(self.column, map(str, sample.metadata))}"
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        number = number_in(value)
        if number is None:
            return f"has {str(value)[:60]!r} in the column {self.column!r}, which is not a number"
        if (self.low is not None and number < self.low) or (self.high is not None and number > self.high):
            ends = (
                f"{'-∞' if self.low is None else f'{self.low:g}'} to {'∞' if self.high is None else f'{self.high:g}'}"
            )
            return f"has {number:g} in the column {self.column!r}, which is outside of {ends}"
        return None

    def _value(self, sample: Sample) -> Any:
        return find_value(sample.metadata, self.column)


def number_in(value: Any) -> float | None:
    """A number, bool, or either as text, as a finite number; None for anything else."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in BOOLS:
            return BOOLS[text]
        if "_" in text or not text.isascii():
            return None
        value = text
    elif not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= MAX_SCORE else None


@main_option("seconds")
def latency_under(*, seconds: float) -> Scorer:
    """1 if the answer came within so many seconds, else 0. Cached and recorded answers are skipped.

    Args:
        seconds: Longest latency of the last attempt that passes.
    """
    return Scorer(Under("latency_s", positive(seconds, "seconds"), "s"), BOUND)


@main_option("usd")
def cost_under(*, usd: float) -> Scorer:
    """1 if the answer cost at most so many US dollars, else 0. Cached answers and unknown prices are skipped.

    Args:
        usd: Highest cost that passes; 0 passes only free answers.
    """
    if usd < 0:
        raise ValueError(f"usd is {usd:g}; it should be 0 or more")
    return Scorer(Under("cost_usd", usd, "USD"), BOUND)


@main_option("tokens")
def tokens_under(*, tokens: int) -> Scorer:
    """1 if the output has at most so many tokens, else 0. The endpoint counts them; skipped where it counts none.

    Args:
        tokens: Most output tokens that pass, reasoning included.
    """
    return Scorer(Under("output_tokens", positive(tokens, "tokens"), "tokens"), BOUND)


def positive(bound: float, name: str) -> float:
    if bound <= 0:
        raise ValueError(f"{name} is {bound:g}; it should be above 0")
    return bound


@dataclass(frozen=True, slots=True)
class Under:
    """Whether a measured number of an answer is at most `bound`."""

    field: str
    bound: float
    unit: str

    def __call__(self, completion: Completion) -> Outcome:
        if completion.cached and self.field != "output_tokens":
            return Skipped("the answer is from the cache")
        value = getattr(completion, self.field)
        if value is None:
            was_called = completion.latency_s is not None or completion.cached
            return Skipped(
                "not reported by the provider" if was_called else "nothing was called: the answer is recorded"
            )
        if value <= self.bound:
            return Score(1.0)
        return Score(0.0, f"{value:.4g} {self.unit}; at most {self.bound:g} passes")
