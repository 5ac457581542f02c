"""Classes of `mlflow.genai.scorers`: they give feedback, most of them a judge's yes or no."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from evalrunner.domain import (
    CalibrationExample,
    Declaration,
    Failure,
    Judge,
    Outcome,
    Sample,
    SampleValidator,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.mlflow.catalogue import Found
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.mlflow.columns import Columns
from evalrunner.mlflow.judge_calls import Call, JudgedCalls, told_plainly
from evalrunner.mlflow.judge_proxy import Line
from evalrunner.scorers import factuality, toxicity
from evalrunner.scorers.autoevals import described

ARGUMENTS = ("inputs", "outputs", "expectations")  # what we can give, of what they are called with
EXPECTED, GUIDELINES = "expected_response", "guidelines"
ANSWERS = {"yes": 1.0, "no": 0.0}
REPLY = '{"result": "yes", "rationale": "made up"}'
CALIBRATION_EXAMPLES: Mapping[str, tuple[CalibrationExample, ...]] = {
    "Correctness": factuality.CALIBRATION_EXAMPLES,
    "Safety": toxicity.CALIBRATION_EXAMPLES,
}


def feedback_scorer(found: Found, params: Mapping[str, Any], mapped: Mapping[str, str]) -> Scorer:
    """The scorer of a class. Raises ValueError for one that needs more than an answer has."""
    with quiet_mlflow(), told_plainly(found.name):
        scorer = found.make(**params)
    arguments = arguments_of(found.name, scorer)
    names = expectations_of(found.name, scorer)
    columns = Columns.of(names, mapped)
    declaration = Declaration(
        binary=True,
        version=None,
        needs_expected=columns.needs_expected,
        backend=f"mlflow {version('mlflow')}",
    )
    if "model" not in found.make.model_fields:  # type: ignore[attr-defined]  # no judge in it
        return Scorer(Ruled(found.name, scorer, arguments, columns), declaration)

    def make(model: str, line: Line) -> Call:
        made = found.make(**params, model=f"gateway:/{model}", extra_headers=line.headers)
        return lambda values: made(**values)

    calls = JudgedCalls(make, answer_from)
    made_up = {"inputs": "made up", "outputs": "made", "expectations": dict.fromkeys(names, "up")}
    calls.rehearse({name: made_up[name] for name in arguments}, REPLY, repr(found.name))
    return Scorer(Judged(calls, arguments, columns), declaration, CALIBRATION_EXAMPLES.get(found.name, ()))


def arguments_of(name: str, scorer: Any) -> tuple[str, ...]:
    """What a scorer is called with. Raises ValueError where it is more than an answer has."""
    parameters = inspect.signature(type(scorer).__call__).parameters.values()
    needed = [item.name for item in parameters if item.kind is item.KEYWORD_ONLY and item.default is item.empty]
    if beyond := [item for item in needed if item not in ARGUMENTS]:
        raise ValueError(f"metric {name!r} needs {beyond[0]!r}, which a row does not have")
    return tuple(item.name for item in parameters if item.name in ARGUMENTS)


def expectations_of(name: str, scorer: Any) -> tuple[str, ...]:
    """The names that a scorer wants to find in its expectations, found by asking it which columns it misses."""
    for names in ((), (EXPECTED,), (GUIDELINES,)):
        try:
            scorer.validate_columns({"inputs", "outputs", *(f"expectations/{item}" for item in names)})
        except Exception as missing:  # MLflow's own kind, which says which ones
            wanted = getattr(missing, "missing_columns", None)
            if wanted is None:
                raise ValueError(f"metric {name!r}: {described(missing)}") from None
            last = ", ".join(wanted)
            continue
        return names
    raise ValueError(f"metric {name!r} needs {last}, which a row does not have")


def answer_from(feedback: Any) -> Outcome:
    """1 for yes, 0 for no; anything else is no verdict."""
    error, value = getattr(feedback, "error", None), getattr(feedback, "value", None)
    if error is not None:
        return Unscored(
            "judge", f"MLflow gave an error for a verdict ({getattr(error, 'error_message', None) or error})"
        )
    number = (
        ANSWERS.get(str(value).lower()) if isinstance(value, str) else float(value) if isinstance(value, bool) else None
    )
    if number is None or not math.isfinite(number):
        return Unscored("judge", "unreadable verdict")
    return Score(number, feedback.rationale or None)


class _Called(SampleValidator):
    """What a scorer with and one without a judge share: the values of a row under MLflow's names."""

    def __init__(self, arguments: tuple[str, ...], columns: Columns) -> None:
        self.arguments = arguments
        self.columns = columns

    def check(self, sample: Sample) -> str | None:
        """What is wrong with a sample, known before the first call."""
        return self.columns.missing(sample)

    def values(self, output: str, sample: Sample) -> dict[str, Any] | Skipped | Failure:
        if (lacking := self.columns.missing(sample)) is not None:
            return Failure("function", lacking)
        expectations = self.columns.values(output, sample)
        if (empty := self.columns.empty(expectations)) is not None:
            return Skipped(f"no {empty}")
        offered = {"inputs": sample.input, "outputs": output, "expectations": expectations}
        return {name: offered[name] for name in self.arguments}


class Judged(_Called):
    def __init__(self, calls: JudgedCalls, arguments: tuple[str, ...], columns: Columns) -> None:
        super().__init__(arguments, columns)
        self.calls = calls
        self.example = columns.example()

    async def __call__(self, output: str, sample: Sample, judge: Judge) -> Outcome:
        values = self.values(output, sample)
        return values if isinstance(values, Skipped | Failure) else await self.calls.ask(judge, values)


class Ruled(_Called):
    """A scorer that goes by rules and asks nobody."""

    def __init__(self, name: str, scorer: Callable[..., Any], arguments: tuple[str, ...], columns: Columns) -> None:
        super().__init__(arguments, columns)
        self.name = name
        self.scorer = scorer

    def __call__(self, output: str, sample: Sample) -> Outcome:
        values = self.values(output, sample)
        if isinstance(values, Skipped | Failure):
            return values
        found = answer_from(self.scorer(**values))
        if isinstance(found, Unscored):
            return Failure("function", f"MLflow's {self.name} came back empty: {found.reason}")
        return found
