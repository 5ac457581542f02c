"""Calls of scorers, and their results as cells. Nothing here raises: a crash is an error of its cell."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

from evalrunner.capabilities import InlineForSome
from evalrunner.domain import (
    EMPTY,
    Cell,
    Completion,
    Declaration,
    Failure,
    Judge,
    JudgeCall,
    NoAnswer,
    Parts,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.matching import SearchFailed
from evalrunner.plugins import BoundFunction, SignatureError, bind_by_name, describe_crash, name_of
from evalrunner.redact import redact_message, redact_start
from evalrunner.scorers.extraction import Extract
from evalrunner.stats.distributions import MAX_SCORE

MIN_CALIBRATION_EXAMPLES = 6
TOLERANCE = 1e-9  # rounding beyond the end of a range

PART_NAME = re.compile(r"[^\s/\[\]<>=]{1,100}")  # what the metric of a gate can spell
ONE, ZERO = Cell("scored", 1.0), Cell("scored", 0.0)  # shared by most rows
NO_PART = Cell("skipped", reason="the scorer returned no such part")

UNDEFINED_RESULT = (
    "undefined"  # in the metadata of a score that the answer leaves undefined: its opposite does not pass either
)
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


class BoundPart(NamedTuple):
    """A part of a scorer: its name there, the name of its cell and metrics, and what it declares."""

    name: str
    cell: str
    declaration: Declaration


@dataclass(slots=True)  # not frozen, as there is one for each check of a row
class BoundScorer:
    """A scorer with its name in the suite, its function bound to the arguments that it takes."""

    name: str
    scorer: Scorer
    call: BoundFunction
    on_no_answer: NoAnswer = "unscored"
    wants_judge: bool = False
    wants_model: bool = False
    parts: tuple[BoundPart, ...] = ()
    extract: Extract | None = None

    @classmethod
    def bind(
        cls,
        name: str,
        scorer: Scorer,
        *,
        on_no_answer: NoAnswer = "unscored",
        version: str | None = None,
        extract: Extract | None = None,
    ) -> BoundScorer:
        """The scorer, its parameters checked. Raises SignatureError. `version` replaces the declared one."""
        if version is not None:
            scorer = replace(scorer, declaration=replace(scorer.declaration, version=version))
        if scorer.calibration_examples:
            _check_calibration(scorer)
        function, args = unwrap_partial(scorer.function)
        wants_judge = "judge" in named_parameters(function) and "judge" not in args
        wants_model = "model" in named_parameters(function, required=True) and "model" not in args
        offered = (*OFFERED, *(("judge",) if wants_judge else ()), *(("model",) if wants_model else ()))
        call = bind_by_name(function, offered, args=args, single="output")
        if wants_judge and not call.is_async:
            raise SignatureError(f"{name_of(function)} asks a judge, so it should be an `async def`")
        if wants_model and not call.is_async:
            raise SignatureError(f"{name_of(function)} asks a model, so it should be an `async def`")
        return cls(
            name, scorer, call, on_no_answer, wants_judge, wants_model, _bind_parts(name, scorer.declaration), extract
        )

    @property
    def is_async(self) -> bool:
        return self.call.is_async

    def is_inline(self, output: str) -> bool:
        """Whether a call with this output is cheap enough for the event loop."""
        if self.call.is_async or not (self.extract is None or self.extract.is_quick(output)):
            return False
        function: object = self.scorer.function
        return self.scorer.declaration.inline or (isinstance(function, InlineForSome) and function.is_quick(output))

    @property
    def cell_names(self) -> tuple[str, ...]:
        """The names of its cell and of those of its parts."""
        return (self.name, *(part.cell for part in self.parts))


def _bind_parts(scorer: str, declaration: Declaration) -> tuple[BoundPart, ...]:
    """The declared parts with the version, the backend and the needs of their scorer. Raises SignatureError for a name."""
    parts = []
    for name, declared in declaration.parts.items():
        if (wrong := part_name_problem(name)) is not None:
            raise SignatureError(f"declares the part {name!r}, {wrong}")
        if name in (*declaration.aggregates, declaration.version) and not declared.bare:
            whose = "its version" if name == declaration.version else "one of its aggregates"
            raise SignatureError(f"declares the part {name!r}, which is also the name of {whose}")
        own = replace(
            declared,
            version=declaration.version,
            backend=declaration.backend,
            needs_answer=declaration.needs_answer,
            needs_expected=declaration.needs_expected,
        )
        parts.append(BoundPart(name, name if declared.bare else f"{scorer}/{name}", own))
    return tuple(parts)


def part_name_problem(name: Any) -> str | None:
    """Why a part or a named check cannot have this name, None if it can: gates could not spell it."""
    if isinstance(name, str) and PART_NAME.fullmatch(name) is not None:
        return None
    return "but a name has 1 to 100 characters, and none of / [ ] < > = or spaces"


def _check_calibration(scorer: Scorer) -> None:
    """Raises SignatureError for calibration examples that cannot tell a good judge from a guess."""
    if scorer.declaration.low is None or scorer.declaration.high is None:
        raise SignatureError("has calibration examples, so it should declare its range: both `low` and `high`")
    good, total = sum(example.good for example in scorer.calibration_examples), len(scorer.calibration_examples)
    is_suites = all(example.value is not None for example in scorer.calibration_examples)
    if (total < MIN_CALIBRATION_EXAMPLES and not is_suites) or good in (0, total):
        raise SignatureError(
            f"has {good} good and {total - good} bad calibration examples; give at least "
            f"{MIN_CALIBRATION_EXAMPLES} in total, with good and bad ones"
        )


def unwrap_partial(function: Callable[..., Any]) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """The function inside a partial and its fixed arguments, so that messages name the user's function."""
    if isinstance(function, functools.partial) and not function.args:
        return function.func, function.keywords
    return function, {}


def named_parameters(function: Callable[..., Any], *, required: bool = False) -> frozenset[str]:
    """The names of a function's parameters, or of those without a default. `**kwargs` has none: it requests no judge."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature to read
        return frozenset()
    return frozenset(
        item.name
        for item in parameters
        if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
        and not (required and item.default is not item.empty)
    )


def cell_without_call(bound: BoundScorer, sample: Sample, answer: Completion | Failure) -> Cell | None:
    """The cell if the scorer need not be called, else None.

    A failed target is an error. A sample without an expected answer is skipped if the scorer needs one. A missing
    answer is unscored, or counts as zero (or the end of the range next to it) if the suite says so. A slow `extract` is
    left to the call.
    """
    if isinstance(answer, Failure):
        return Cell.of_failure(answer)
    declaration = bound.scorer.declaration
    if declaration.needs_expected and not sample.expected:
        return NO_EXPECTED
    if not answer.answered and declaration.takes_tool_calls and answer.called_tools:
        return None
    if not declaration.needs_answer or answer.answered:
        if bound.extract is None or not bound.extract.is_quick(answer.output):
            return None
        extracted = _extracted(bound, answer)
        return extracted if isinstance(extracted, Cell) else None
    if answer.extract_failed:
        return Cell("error", reason=answer.extract_problem, cause="timeout")
    return _no_answer(bound, answer.missing_reason)


def _no_answer(bound: BoundScorer, reason: str | None) -> Cell:
    """The cell of an answer that has nothing to score."""
    if bound.on_no_answer == "unscored":
        return Cell("unscored", reason=reason, cause="no_answer")
    return Cell("scored", _zero(bound.scorer.declaration), reason, cause="no_answer")


def _extracted(bound: BoundScorer, answer: Completion) -> Completion | Cell:
    """The answer with what the scorer's own `extract` takes out of it, or the cell of one that has nothing of it."""
    if bound.extract is None:
        return answer
    try:
        text, problem = bound.extract.apply(answer.output)
    except SearchFailed as failed:
        return Cell("error", reason=str(failed), cause="timeout")
    if text is None and (answer.answered or not bound.scorer.declaration.takes_tool_calls):
        return _no_answer(bound, problem)
    return replace(answer, extracted=text)


async def _extracted_apart(bound: BoundScorer, answer: Completion) -> Completion | Cell:
    """The same in a thread, if it may take long."""
    if bound.extract is None or bound.extract.is_quick(answer.output):
        return _extracted(bound, answer)
    return await asyncio.to_thread(_extracted, bound, answer)


def _settled(bound: BoundScorer, cell: Cell, completion: Completion) -> Cell:
    """The cell of a call: with what was extracted, and counted as 0 where the scorer finds no answer and the suite says so."""
    if bound.extract is not None and completion.extracted is not None:
        cell = replace(cell, detail={**(cell.detail or {}), "extracted": completion.extracted})
    if cell.cause == "no_answer" and cell.state == "unscored" and bound.on_no_answer == "zero":
        return replace(cell, state="scored", value=_zero(bound.scorer.declaration))
    return cell


def _settled_parts(bound: BoundScorer, cells: dict[str, Cell], completion: Completion) -> dict[str, Cell]:
    """The same for the cells of a scorer and of its parts."""
    cells[bound.name] = _settled(bound, cells[bound.name], completion)
    for _, name, declared in bound.parts:
        cell = cells[name]
        if cell.cause == "no_answer" and cell.state == "unscored" and bound.on_no_answer == "zero":
            cells[name] = replace(cell, state="scored", value=_zero(declared))
    return cells


def _zero(declaration: Declaration) -> float:
    """0, or the end of the range next to it."""
    zero = max(0.0, declaration.low or 0.0)
    return zero if declaration.high is None else min(zero, declaration.high)


def parts_without_call(bound: BoundScorer, cell: Cell) -> dict[str, Cell]:
    """The cells of the parts where the scorer has none of its own results: `cell`, without its calls."""
    if cell.state != "scored":
        copy = replace(cell, detail=None, calls=())
        return {part.cell: copy for part in bound.parts}
    return {part.cell: Cell("scored", _zero(part.declaration), cell.reason, cause=cell.cause) for part in bound.parts}


def call_sync(bound: BoundScorer, offered: Mapping[str, Any]) -> Cell:
    """The cell of a scorer whose function is a plain `def`, called with the parameters of `offered` that it names."""
    if bound.extract is not None:
        extracted = _extracted(bound, offered["completion"])
        if isinstance(extracted, Cell):
            return extracted
        offered = offer(offered["sample"], extracted)
    cell = cell_from(_outcome_sync(bound, offered), bound.scorer.declaration, by=bound.call.function)
    return _settled(bound, cell, offered["completion"])


def call_parts(bound: BoundScorer, offered: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells of a scorer and of its parts, called as in `call_sync`."""
    if bound.extract is not None:
        extracted = _extracted(bound, offered["completion"])
        if isinstance(extracted, Cell):
            return {bound.name: extracted, **parts_without_call(bound, extracted)}
        offered = offer(offered["sample"], extracted)
    return _settled_parts(bound, cells_from(_outcome_sync(bound, offered), bound), offered["completion"])


def _outcome_sync(bound: BoundScorer, offered: Mapping[str, Any]) -> Any:
    try:
        return bound.call(offered)
    except BaseException as crash:  # anything that user code raises, exit() too, is an error of its cell
        return Failure("function", describe_crash(bound.call.function, crash))


async def call_async(bound: BoundScorer, sample: Sample, completion: Completion, judge: Judge | None) -> Cell:
    """The cell of a scorer whose function is an `async def`, with the calls of its judge."""
    extracted = await _extracted_apart(bound, completion)
    if isinstance(extracted, Cell):
        return extracted
    completion = extracted
    outcome = await outcome_async(bound, sample, completion, judge)
    cell = cell_from(outcome, bound.scorer.declaration, by=bound.call.function, calls=calls_of(judge))
    return _settled(bound, cell, completion)


async def call_parts_async(
    bound: BoundScorer, sample: Sample, completion: Completion, judge: Judge | None
) -> dict[str, Cell]:
    """The cells of a scorer and of its parts, called as in `call_async`."""
    extracted = await _extracted_apart(bound, completion)
    if isinstance(extracted, Cell):
        return {bound.name: extracted, **parts_without_call(bound, extracted)}
    completion = extracted
    cells = cells_from(await outcome_async(bound, sample, completion, judge), bound, calls=calls_of(judge))
    return _settled_parts(bound, cells, completion)


def calls_of(judge: Judge | None) -> tuple[JudgeCall, ...]:
    """The calls of a judge, and of the model that its scorer asks besides."""
    return (*getattr(judge, "calls", ()), *getattr(getattr(judge, "companion", None), "calls", ()))


async def outcome_async(bound: BoundScorer, sample: Sample, completion: Completion, judge: Judge | None) -> Any:
    """The unchecked result of the function; a Failure if it raised."""
    offered = {**offer(sample, completion), "judge": judge, "model": getattr(judge, "companion", None) or judge}
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
        "output": completion.output,
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
    """The cell for the result of a scorer: a number or bool, None (skipped), an `Outcome` or the main one of `Parts`.

    Anything else is an error, as are NaN, infinity, and a number outside of the declared range.
    """
    if type(outcome) is bool and declaration.binary:  # nearly always
        return Cell("scored", float(outcome), calls=calls) if calls else ONE if outcome else ZERO
    if outcome is None:
        return Cell("skipped", reason="the scorer returned None", calls=calls)
    if isinstance(outcome, Skipped):
        return Cell("skipped", reason=outcome.reason, calls=calls)
    if isinstance(outcome, Unscored):
        return Cell("unscored", reason=outcome.reason, calls=calls, cause=outcome.cause)
    if isinstance(outcome, Failure):
        return Cell.of_failure(outcome, calls)
    if isinstance(outcome, Parts):
        return _cell_from_parts(outcome, declaration, by, calls)
    value: float | str
    if not isinstance(outcome, Score):
        value = checked_value(outcome, declaration)
    elif outcome.parts is not EMPTY and (wrong := _parts_problem(outcome.parts, declaration)) is not None:
        value = wrong
    else:
        value = checked_value(outcome.value, declaration)
    if isinstance(value, str):
        return _rejected(value, by, calls)
    detail = detail_of(outcome) if isinstance(outcome, Score) else None
    return Cell("scored", value, None, detail, calls)


def _cell_from_parts(
    outcome: Parts, declaration: Declaration, by: Callable[..., Any] | None, calls: tuple[JudgeCall, ...]
) -> Cell:
    """The cell of the main outcome, with the metadata."""
    if (wrong := _parts_problem(outcome.parts, declaration)) is not None:
        return _rejected(wrong, by, calls)
    cell = cell_from(outcome.main, declaration, by=by, calls=calls)
    return replace(cell, detail=plain_metadata(outcome.metadata)) if outcome.metadata else cell


def _rejected(value: str, by: Callable[..., Any] | None, calls: tuple[JudgeCall, ...] = ()) -> Cell:
    """The error of a result that is not allowed; `value` is the rest of a sentence that starts with "returned"."""
    name = "the scorer" if by is None else name_of(by)
    return Cell("error", reason=redact_message(f"{name} returned {value}"), calls=calls, cause="function")


def _parts_problem(parts: Any, declaration: Declaration) -> str | None:
    """What is wrong with the names of returned parts, as the rest of a sentence that starts with "returned"."""
    if not isinstance(parts, Mapping):
        return f"{kind_of(parts)} as parts; they should be a mapping of names to results"
    unknown = next((name for name in parts if name not in declaration.parts), None)
    if unknown is None:
        return None
    known = ", ".join(declaration.parts) or "none"
    return f"the part {redact_start(str(unknown), 80)!r}, which it does not declare; declared parts: {known}"


def cells_from(outcome: Any, bound: BoundScorer, *, calls: tuple[JudgeCall, ...] = ()) -> dict[str, Cell]:
    """The cells for the result of a scorer, by name: its own with `calls`, then those of its parts without them.

    A part that the scorer did not return is skipped. Where it returned no parts because it has no score, its parts have
    none either, for the same reason.
    """
    declaration, by = bound.scorer.declaration, bound.call.function
    main = cell_from(outcome, declaration, by=by, calls=calls)
    parts = outcome.parts if isinstance(outcome, Score | Parts) else EMPTY
    if (parts is EMPTY and main.state != "scored") or _parts_problem(parts, declaration) is not None:
        return {bound.name: main, **parts_without_call(bound, main)}
    cells = {bound.name: main}
    for name, cell, declared in bound.parts:
        cells[cell] = cell_from(parts[name], declared, by=by) if name in parts else NO_PART
    return cells
