"""The scorer `mlflow`: metrics of `mlflow.metrics` and scorers of `mlflow.genai.scorers`, one output at a time.

Metrics with a judge ask that of the suite. MLflow is imported when a suite uses this scorer, not before.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import (
    CalibrationExample,
    Declaration,
    Failure,
    Judge,
    Outcome,
    Sample,
    Score,
    Scorer,
    Skipped,
    Unscored,
)
from evalrunner.formatting import plain_text
from evalrunner.mlflow.catalogue import CatalogueEntry, Columns, check_params, find
from evalrunner.mlflow.client import check_mlflow, quiet_mlflow
from evalrunner.mlflow.judge_proxy import Call, JudgeCalls, ProxySession, plain_errors
from evalrunner.mlflow.row_metrics import AGGREGATES, row_metric
from evalrunner.scorers import autoevals, toxicity
from evalrunner.scorers.autoevals_client import describe_error
from evalrunner.scorers.judge_replies import VerdictFormat

USER_DEFINED = ("make_genai_metric", "make_genai_metric_from_prompt")  # the range of their marks depends on the prompt
MIN_MARK, MAX_MARK = 1.0, 5.0  # of the others, as in MLflow's prompts
DRY_RUN_MARK = "score: 4\njustification: placeholder"

ROW_ARGUMENTS = ("inputs", "outputs", "expectations")  # the arguments that a row provides
EXPECTED_RESPONSE, GUIDELINES = "expected_response", "guidelines"
FEEDBACK_VALUES = {"yes": 1.0, "no": 0.0}
MARK_FORMAT = VerdictFormat("score", "justification")
FEEDBACK_FORMAT = VerdictFormat("result", "rationale", tuple(FEEDBACK_VALUES))
DRY_RUN_FEEDBACK = '{"result": "yes", "rationale": "placeholder"}'
CALIBRATION_EXAMPLES: Mapping[str, tuple[CalibrationExample, ...]] = {
    "Correctness": autoevals.CALIBRATION_EXAMPLES,
    "Safety": toxicity.CALIBRATION_EXAMPLES,
}


def mlflow(
    *,
    metric: str,
    params: dict[str, Any] | None = None,
    columns: dict[str, str] | None = None,
) -> Scorer:
    """A metric or a scorer of MLflow. `mlflow.metrics` or `mlflow.genai.scorers`; those with a judge ask the suite's.

    Args:
        metric: Name of the metric, such as rouge1, answer_similarity or Correctness.
        params: Parameters of the metric, such as {k: 3} or {guidelines: Be polite.}.
        columns: Dataset columns for values that the metric calls by another name, such as {context: passage}.
    """
    check_mlflow("type: mlflow")
    entry = find(metric)
    given = dict(params or {})
    check_params(entry, given)
    wanted = dict(columns or {})
    if entry.kind == "metric":
        return row_metric(entry, given, wanted)
    if entry.kind == "judged metric":
        return judge_metric(entry, given, wanted)
    return feedback_scorer(entry, given, wanted)


def judge_metric(entry: CatalogueEntry, params: Mapping[str, Any], mapped: Mapping[str, str]) -> Scorer:
    """The scorer of a metric with a judge. Raises ValueError for parameters that MLflow does not accept."""
    with quiet_mlflow(), plain_errors(entry.name):
        given = with_examples(params)
        metric = entry.make(**given)
    user_defined = entry.name in USER_DEFINED
    names = [name for name in inspect.signature(metric.eval_fn).parameters if name != "metrics"]
    columns = Columns.of(names, mapped)
    low, high = (None, None) if user_defined else (MIN_MARK, MAX_MARK)

    def make(model: str, session: ProxySession) -> Call:
        metric_for_model = entry.make(
            **given, model=f"gateway:/{model}", extra_headers=session.headers, proxy_url=session.url, max_workers=1
        )
        return lambda values: call_metric(metric_for_model.eval_fn, names, values)

    calls = JudgeCalls(make, MARK_FORMAT, lambda value: mark_from(value, low, high))
    calls.dry_run(dict.fromkeys(names, "placeholder"), DRY_RUN_MARK, repr(entry.name))
    declaration = Declaration(
        low=low,
        high=high,
        higher_is_better=metric.greater_is_better,
        version=metric.version,
        needs_expected=columns.needs_expected,
        aggregates=AGGREGATES,
        headline="mean",
        backend=f"mlflow {version('mlflow')}",
    )
    return Scorer(JudgeMetric(calls, columns), declaration)


def with_examples(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with examples as MLflow's objects. Raises TypeError for unknown keys of an example."""
    from mlflow.metrics.genai import EvaluationExample

    given = dict(params)
    if isinstance(given.get("examples"), list):
        given["examples"] = [EvaluationExample(**item) for item in given["examples"]]
    return given


def call_metric(eval_fn: Any, names: list[str], values: Mapping[str, Any]) -> Any:
    """The MetricValue of one row, called by position as MLflow does."""
    import pandas as pd

    parameters = inspect.signature(eval_fn).parameters
    return eval_fn(*({} if name == "metrics" else pd.Series([values[name]]) for name in parameters))


def mark_from(value: Any, low: float | None, high: float | None) -> Outcome:
    """The score of one row with the judge's justification."""
    scores, reasons = getattr(value, "scores", None), getattr(value, "justifications", None)
    mark = scores[0] if scores else None
    if mark is None:
        return Unscored("judge", "unreadable verdict")
    if low is not None and high is not None and not low <= mark <= high:
        return Unscored("judge", f"the score {mark} is not between {low:g} and {high:g}")
    return Score(float(mark), reasons[0] if reasons else None)


class JudgeMetric(SampleValidator):
    def __init__(self, calls: JudgeCalls, columns: Columns) -> None:
        self.calls = calls
        self.columns = columns
        self.example = columns.example()

    def check(self, sample: Sample) -> str | None:
        """The problem of a sample, known before the first call."""
        return self.columns.missing(sample)

    async def __call__(self, output: str, sample: Sample, judge: Judge) -> Outcome:
        if (lacking := self.columns.missing(sample)) is not None:
            return Failure("function", lacking)
        values = self.columns.values(output, sample)
        if (empty := self.columns.empty(values)) is not None:
            return Skipped(f"no {empty}")
        return await self.calls.ask(judge, {name: plain_text(value) for name, value in values.items()})


def feedback_scorer(entry: CatalogueEntry, params: Mapping[str, Any], mapped: Mapping[str, str]) -> Scorer:
    """The scorer of a class. Raises ValueError if it needs more than one output."""
    with quiet_mlflow(), plain_errors(entry.name):
        scorer = entry.make(**params)
    arguments = arguments_of(entry.name, scorer)
    names = expectations_of(entry.name, scorer)
    columns = Columns.of(names, mapped)
    declaration = Declaration(
        binary=True,
        version=None,
        needs_expected=columns.needs_expected,
        backend=f"mlflow {version('mlflow')}",
    )
    if "model" not in entry.make.model_fields:  # type: ignore[attr-defined]  # no judge in it
        return Scorer(RuleFeedback(entry.name, scorer, arguments, columns), declaration)

    def make(model: str, session: ProxySession) -> Call:
        metric_for_model = entry.make(**params, model=f"gateway:/{model}", extra_headers=session.headers)
        return lambda values: metric_for_model(**values)

    calls = JudgeCalls(make, FEEDBACK_FORMAT, answer_from)
    placeholders = {"inputs": "x", "outputs": "y", "expectations": dict.fromkeys(names, "z")}
    calls.dry_run({name: placeholders[name] for name in arguments}, DRY_RUN_FEEDBACK, repr(entry.name))
    return Scorer(JudgeFeedback(calls, arguments, columns), declaration, CALIBRATION_EXAMPLES.get(entry.name, ()))


def arguments_of(name: str, scorer: Any) -> tuple[str, ...]:
    """The arguments of a scorer. Raises ValueError if it needs one that a row does not have."""
    parameters = inspect.signature(type(scorer).__call__).parameters.values()
    needed = [item.name for item in parameters if item.kind is item.KEYWORD_ONLY and item.default is item.empty]
    if unavailable := [item for item in needed if item not in ROW_ARGUMENTS]:
        raise ValueError(f"metric {name!r} needs {unavailable[0]!r}, which a row does not have")
    return tuple(item.name for item in parameters if item.name in ROW_ARGUMENTS)


def expectations_of(name: str, scorer: Any) -> tuple[str, ...]:
    """The names that a scorer reads from its expectations, determined by its own check of missing columns."""
    for names in ((), (EXPECTED_RESPONSE,), (GUIDELINES,)):
        try:
            scorer.validate_columns({"inputs", "outputs", *(f"expectations/{item}" for item in names)})
        except Exception as missing:  # an exception of MLflow, which lists them
            wanted = getattr(missing, "missing_columns", None)
            if wanted is None:
                raise ValueError(f"metric {name!r}: {describe_error(missing)}") from None
            last = ", ".join(wanted)
            continue
        return names
    raise ValueError(f"metric {name!r} needs {last}, which a row does not have")


def answer_from(feedback: Any) -> Outcome:
    """1 for yes, 0 for no; anything else is unreadable."""
    error, value = getattr(feedback, "error", None), getattr(feedback, "value", None)
    if error is not None:
        return Unscored(
            "judge", f"MLflow returned an error instead of a verdict ({getattr(error, 'error_message', None) or error})"
        )
    number = (
        FEEDBACK_VALUES.get(str(value).lower())
        if isinstance(value, str)
        else float(value)
        if isinstance(value, bool)
        else None
    )
    if number is None or not math.isfinite(number):
        return Unscored("judge", "unreadable verdict")
    return Score(number, feedback.rationale or None)


class _FeedbackScorer(SampleValidator):
    """Base of scorers with and without a judge: the values of a row under MLflow's names."""

    def __init__(self, arguments: tuple[str, ...], columns: Columns) -> None:
        self.arguments = arguments
        self.columns = columns

    def check(self, sample: Sample) -> str | None:
        """The problem of a sample, known before the first call."""
        return self.columns.missing(sample)

    def values(self, output: str, sample: Sample) -> dict[str, Any] | Skipped | Failure:
        if (lacking := self.columns.missing(sample)) is not None:
            return Failure("function", lacking)
        expectations = self.columns.values(output, sample)
        if (empty := self.columns.empty(expectations)) is not None:
            return Skipped(f"no {empty}")
        offered = {"inputs": sample.input, "outputs": output, "expectations": expectations}
        return {name: offered[name] for name in self.arguments}


class JudgeFeedback(_FeedbackScorer):
    def __init__(self, calls: JudgeCalls, arguments: tuple[str, ...], columns: Columns) -> None:
        super().__init__(arguments, columns)
        self.calls = calls
        self.example = columns.example()

    async def __call__(self, output: str, sample: Sample, judge: Judge) -> Outcome:
        values = self.values(output, sample)
        return values if isinstance(values, Skipped | Failure) else await self.calls.ask(judge, values)


class RuleFeedback(_FeedbackScorer):
    """A scorer that applies rules and calls no model."""

    def __init__(self, name: str, scorer: Callable[..., Any], arguments: tuple[str, ...], columns: Columns) -> None:
        super().__init__(arguments, columns)
        self.name = name
        self.scorer = scorer

    def __call__(self, output: str, sample: Sample) -> Outcome:
        values = self.values(output, sample)
        if isinstance(values, Skipped | Failure):
            return values
        outcome = answer_from(self.scorer(**values))
        if isinstance(outcome, Unscored):
            return Failure("function", f"MLflow's {self.name} returned no score: {outcome.reason}")
        return outcome
