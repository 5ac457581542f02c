"""Calls of scorers, and their results as cells. Nothing here raises: a crash is an error of its cell."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any

from evalrunner.domain import (
    EMPTY,
    Cell,
    Completion,
    Declaration,
    Failure,
    Judge,
    JudgeCall,
    NoAnswer,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.plugins import BoundFunction, SignatureError, bind_by_name, describe_crash, name_of
from evalrunner.redact import redact_message, redact_start
from evalrunner.stats.distributions import MAX_SCORE

MIN_CALIBRATION_EXAMPLES = 6
TOLERANCE = 1e-9  # rounding beyond the end of a range

OFFERED = ("output", "input", "expected", "sample", "completion")
NO_EXPECTED = Cell("skipped", reason="no expected answer")


def checked_value(value: Any, declaration: Declaration) -> float | str:
    """The value as a finite number in range; else the rest of a sentence that starts with "returned"."""
    number = float(value) if type(value) in (float, bool) else as_number(value)
    if isinstance(number, str):
        return number
    if not math.isfinite(number):
        return f"{number}, which is not a finite number"
    if abs(number) > MAX_SCORE:
        return f"{number}, which is too large; the largest score is {MAX_SCORE:g}"
    if declaration.binary and number not in (0.0, 1.0):
        return f"{number}, but declares that its scores are 0 or 1"
    low, high = declaration.low, declaration.high
    if low is not None and number < low:
        return low if number >= low - TOLERANCE else f"{number}, but declares that its scores start at {low}"
    if high is not None and number > high:
        return high if number <= high + TOLERANCE else f"{number}, but declares that its scores end at {high}"
    return number


def as_number(value: Any) -> float | str:
    """`value` as a float if it is a number of Python or numpy; else its description."""
    try:
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()  # numpy scalars and tensors of one value; numpy.bool is not a Python number
        if isinstance(value, Real | Decimal):
            return float(value)
    except Exception:  # a user-defined object may raise anything
        return f"{kind_of(value)} that does not fit a float"
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine; a function that awaits should be an `async def`"
    description = f"the text {redact_start(value, 80)!r}" if isinstance(value, str) else kind_of(value)
    return f"{description}; it should return a number, True or False, None, or an evalrunner.Score"


def kind_of(value: Any) -> str:
    """`a dict`, `a pandas.DataFrame`: the type of a value, with its package unless it is built in."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return f"a {kind.__qualname__}" if package == "builtins" else f"a {package}.{kind.__qualname__}"


def detail_of(score: Score) -> dict[str, Any] | None:
    """Explanation and metadata of a score as plain JSON data; None if there are none."""
    detail: dict[str, Any] = {}
    if score.metadata is not EMPTY:
        detail.update(plain_metadata(score.metadata))
    if score.explanation is not None:
        text = score.explanation
        detail["explanation"] = text if type(text) is str else str(plain_metadata({"text": text}).get("text"))
    return detail or None


def plain_metadata(metadata: Any) -> dict[str, Any]:
    """The metadata of a user-defined scorer as JSON data; values that JSON cannot represent become text."""
    try:
        plain = json.loads(json.dumps(metadata, default=str, allow_nan=False))
    except Exception:  # cycles, keys that are not text, NaN, broken __str__: no reason to lose a score
        plain = f"{kind_of(metadata)} that JSON cannot hold"
    return plain if isinstance(plain, dict) else {"metadata": plain}


@dataclass(frozen=True, slots=True)
class BoundScorer:
    """A scorer with its name in the suite, its function bound to the arguments that it takes."""

    name: str
    scorer: Scorer
    call: BoundFunction
    on_no_answer: NoAnswer = "unscored"
    wants_judge: bool = False

    @classmethod
    def bind(
        cls, name: str, scorer: Scorer, *, on_no_answer: NoAnswer = "unscored", version: str | None = None
    ) -> BoundScorer:
        """The scorer, its parameters checked. Raises SignatureError. `version` replaces the declared one."""
        if version is not None:
            scorer = replace(scorer, declaration=replace(scorer.declaration, version=version))
        if scorer.calibration_examples:
            _check_calibration(scorer)
        function, args = unwrap_partial(scorer.function)
        wants_judge = "judge" in named_parameters(function) and "judge" not in args
        offered = (*OFFERED, "judge") if wants_judge else OFFERED
        call = bind_by_name(function, offered, args=args, single="output")
        if wants_judge and not call.is_async:
            raise SignatureError(f"{name_of(function)} asks a judge, so it should be an `async def`")
        return cls(name, scorer, call, on_no_answer, wants_judge)

    @property
    def is_async(self) -> bool:
        return self.call.is_async


def _check_calibration(scorer: Scorer) -> None:
    """Raises SignatureError for calibration examples that cannot tell a good judge from a guess."""
    if scorer.declaration.low is None or scorer.declaration.high is None:
        raise SignatureError("has calibration examples, so it should declare its range: both `low` and `high`")
    good, total = sum(example.good for example in scorer.calibration_examples), len(scorer.calibration_examples)
    if total < MIN_CALIBRATION_EXAMPLES or good in (0, total):
        raise SignatureError(
            f"has {good} good and {total - good} bad calibration examples; give at least "
            f"{MIN_CALIBRATION_EXAMPLES} in total, with good and bad ones"
        )


def unwrap_partial(function: Callable[..., Any]) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """The function inside a partial and its fixed arguments, so that messages name the user's function."""
    if isinstance(function, functools.partial) and not function.args:
        return function.func, function.keywords
    return function, {}


def named_parameters(function: Callable[..., Any]) -> frozenset[str]:
    """The names of a function's parameters. `**kwargs` has none, so it does not request a judge."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature to read
        return frozenset()
    return frozenset(item.name for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL))


def cell_without_call(bound: BoundScorer, sample: Sample, answer: Completion | Failure) -> Cell | None:
    """The cell if the scorer need not be called, else None.

    A failed target is an error. A sample without an expected answer is skipped if the scorer needs one. A missing
    answer is unscored, or counts as zero (or the end of the range next to it) if the suite says so.
    """
    if isinstance(answer, Failure):
        return Cell.of_failure(answer)
    declaration = bound.scorer.declaration
    if declaration.needs_expected and not sample.expected:
        return NO_EXPECTED
    if not declaration.needs_answer or answer.answered:
        return None
    reason = answer.missing_reason
    if bound.on_no_answer == "unscored":
        return Cell("unscored", reason=reason, cause="no_answer")
    zero = max(0.0, declaration.low or 0.0)
    value = zero if declaration.high is None else min(zero, declaration.high)
    return Cell("scored", value, reason, cause="no_answer")


def call_sync(bound: BoundScorer, offered: Mapping[str, Any]) -> Cell:
    """The cell of a scorer whose function is a plain `def`, called with the parameters of `offered` that it names."""
    try:
        outcome = bound.call(offered)
    except BaseException as crash:  # anything that user code raises, exit() too, is an error of its cell
        outcome = Failure("function", describe_crash(bound.call.function, crash))
    return cell_from(outcome, bound.scorer.declaration, by=bound.call.function)


async def call_async(bound: BoundScorer, sample: Sample, completion: Completion, judge: Judge | None) -> Cell:
    """The cell of a scorer whose function is an `async def`, with the calls of its judge."""
    outcome = await outcome_async(bound, sample, completion, judge)
    calls = tuple(getattr(judge, "calls", ()))
    return cell_from(outcome, bound.scorer.declaration, by=bound.call.function, calls=calls)


async def outcome_async(bound: BoundScorer, sample: Sample, completion: Completion, judge: Judge | None) -> Any:
    """The unchecked result of the function; a Failure if it raised."""
    offered = {**offer(sample, completion), "judge": judge}
    try:
        result = bound.call(offered)
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError:  # the row may be canceled; the runner knows
        raise
    except BaseException as crash:  # as above
        return Failure("function", describe_crash(bound.call.function, crash))


def offer(sample: Sample, completion: Completion) -> Mapping[str, Any]:
    """The arguments that scorers can take, by the names in `OFFERED`."""
    expected = sample.expected
    return {
        "output": completion.text,
        "input": sample.input,
        "expected": None if not expected else expected[0] if len(expected) == 1 else expected,
        "sample": sample,
        "completion": completion,
    }


def cell_from(
    outcome: Any,
    declaration: Declaration,
    *,
    by: Callable[..., Any] | None = None,
    calls: tuple[JudgeCall, ...] = (),
) -> Cell:
    """The cell for the result of a scorer: a number or bool, None (skipped) or an `Outcome`.

    Anything else is an error, as are NaN, infinity, and a number outside of the declared range.
    """
    if outcome is None:
        return Cell("skipped", reason="the scorer returned None", calls=calls)
    if isinstance(outcome, Skipped):
        return Cell("skipped", reason=outcome.reason, calls=calls)
    if isinstance(outcome, Unscored):
        return Cell("unscored", reason=outcome.reason, calls=calls, cause=outcome.cause)
    if isinstance(outcome, Failure):
        return Cell.of_failure(outcome, calls)
    value = checked_value(outcome.value if isinstance(outcome, Score) else outcome, declaration)
    if isinstance(value, str):
        name = "the scorer" if by is None else name_of(by)
        return Cell("error", reason=redact_message(f"{name} returned {value}"), calls=calls, cause="function")
    detail = detail_of(outcome) if isinstance(outcome, Score) else None
    return Cell("scored", value, None, detail, calls)
