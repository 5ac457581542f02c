"""The scorer `tool_calls`: whether a model called the tools that it should have called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Completion, Declaration, Outcome, Sample, Score, Scorer, Skipped
from evalrunner.errors import nearest
from evalrunner.plugins import main_option
from evalrunner.prompts import ABSENT, find_value
from evalrunner.tool_calls import ToolCall, contains_json, equal_json, matching, read_tool_call, read_tool_calls

Match: TypeAlias = Literal["name", "args", "subset", "order", "f1"]
Fits: TypeAlias = Callable[[ToolCall, ToolCall], bool]

MAX_CALLS = 100  # of one side: more are compared with nothing
MAX_LISTED = 5  # calls in an explanation
MAX_CALL_LENGTH = 200  # characters of a call in an explanation
NO_CALLS = Skipped("no expected tool calls")


@main_option("expected")
def tool_calls(*, expected: list[Any] | str | None = None, column: str | None = None, match: Match = "args") -> Scorer:
    """1 if the model calls the expected tools, else 0. With `match: f1` the share of calls that fit.

    Args:
        expected: Calls, such as [{get_weather: {city: Paris}}]; [] for none. Default: the expected answer of the sample as JSON.
        column: Column with the expected calls, or a dotted path into JSON.
        match: args compares names and arguments, name only names, subset allows more calls and arguments, order needs the same order, f1 counts.
    """
    if expected is not None and column is not None:
        raise ValueError("'expected' cannot be combined with 'column'; keep one of them")
    wanted = None if expected is None else checked(read_tool_calls(expected))
    declaration = Declaration(
        binary=match != "f1", needs_expected=expected is None and column is None, takes_tool_calls=True, inline=True,
        passes=1.0,
    )  # fmt: skip
    return Scorer(ToolCalls(wanted, column, match), declaration)


@dataclass(frozen=True, slots=True)
class ToolCalls(SampleValidator):
    """The function of the scorer. `expected` are the calls of every sample, if the suite has them."""

    expected: tuple[ToolCall, ...] | None
    column: str | None
    match: Match

    def __call__(self, sample: Sample, completion: Completion) -> Outcome:
        alternatives = self._alternatives(sample)
        if not alternatives:
            return NO_CALLS
        made = [call_of_model(call) for call in completion.tool_calls]
        return max((compare(wanted, made, self.match) for wanted in alternatives), key=lambda score: score.value)

    def check(self, sample: Sample) -> str | None:
        """Why the expected calls of a sample cannot be read, or None."""
        if self.expected is not None:
            return None
        if self.column is not None and find_value(sample.metadata, self.column) is ABSENT:
            return f"has no column {self.column!r}{nearest(self.column, map(str, sample.metadata))}"
        try:
            self._alternatives(sample)
        except ValueError as wrong:
            return f"expected tool calls: {wrong}"
        return None

    def _alternatives(self, sample: Sample) -> Sequence[tuple[ToolCall, ...]]:
        """The expected calls of a sample; several accepted answers are alternatives. Raises ValueError."""
        if self.expected is not None:
            return (self.expected,)
        if self.column is None:
            return [checked(read_tool_calls(text)) for text in sample.expected if text.strip()]
        value = find_value(sample.metadata, self.column)
        if value is ABSENT or value is None or (isinstance(value, str) and not value.strip()):
            return ()
        return (checked(read_tool_calls(value)),)


def checked(calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    """Expected calls. Raises ValueError if the arguments of one cannot be read."""
    for call in calls:
        if call.problem is not None:
            raise ValueError(f"the arguments of {call.name!r} {call.problem}")
    if len(calls) > MAX_CALLS:
        raise ValueError(f"{len(calls):,} calls are too many; at most {MAX_CALLS:,} are compared")
    return calls


def call_of_model(call: Any) -> ToolCall:
    """A call of the model, one without a name included."""
    try:
        return read_tool_call(call, strict=False)
    except ValueError:
        return ToolCall("", problem="belong to a call without a name")


def compare(wanted: Sequence[ToolCall], made: Sequence[ToolCall], match: Match) -> Score:
    """The score of the calls of a model by the expected ones."""
    if len(made) > MAX_CALLS:
        return Score(0.0, f"{len(made):,} calls; at most {MAX_CALLS:,} are compared")
    pairs = matching(wanted, made, FITS[match])
    if match == "f1":
        total = len(wanted) + len(made)
        value = 2 * len(pairs) / total if total else 1.0
    elif match == "subset":
        value = float(len(pairs) == len(wanted))
    else:
        value = float(len(pairs) == len(wanted) == len(made))
        if value and match == "order" and not all(map(FITS[match], made, wanted)):
            return Score(0.0, f"the calls are in another order: {listed(made)}")
    missing = [call for place, call in enumerate(wanted) if place not in pairs.values()]
    more = [call for place, call in enumerate(made) if place not in pairs] if match != "subset" or not value else []
    return Score(value, explanation_of(missing, more, wanted, made))


def explanation_of(
    missing: Sequence[ToolCall], more: Sequence[ToolCall], wanted: Sequence[ToolCall], made: Sequence[ToolCall]
) -> str | None:
    """What differs, in words; None if nothing does."""
    parts = [f"the arguments of {call.name or 'a call'} {call.problem}" for call in more if call.problem is not None]
    if missing:
        parts.append(f"missing: {listed(missing)}")
    if more:
        parts.append(f"{'unexpected' if wanted else 'no call is expected'}: {listed(more)}")
    elif missing and not made:
        parts.append("no tool was called")
    return "; ".join(parts[:MAX_LISTED]) or None


def listed(calls: Sequence[ToolCall]) -> str:
    """The first calls on one line."""
    texts = [
        text if len(text := str(call)) <= MAX_CALL_LENGTH else text[:MAX_CALL_LENGTH] + "…"
        for call in calls[:MAX_LISTED]
    ]
    return ", ".join(texts) + (f" and {len(calls) - MAX_LISTED:,} more" if len(calls) > MAX_LISTED else "")


def fits_name(made: ToolCall, wanted: ToolCall) -> bool:
    return made.name == wanted.name


def fits_arguments(made: ToolCall, wanted: ToolCall) -> bool:
    """Whether name and arguments are the same; a wanted call without arguments takes any that can be read."""
    if made.name != wanted.name or made.problem is not None:
        return False
    return wanted.arguments is None or equal_json(made.arguments or {}, wanted.arguments)


def fits_subset(made: ToolCall, wanted: ToolCall) -> bool:
    """Whether the name is the same, and the wanted arguments are among those of the call."""
    if made.name != wanted.name or made.problem is not None:
        return False
    return wanted.arguments is None or contains_json(made.arguments or {}, wanted.arguments)


FITS: dict[Match, Fits] = {
    "name": fits_name, "args": fits_arguments, "subset": fits_subset, "order": fits_arguments, "f1": fits_arguments
}  # fmt: skip
