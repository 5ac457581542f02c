"""Metrics of `mlflow.metrics.genai`: a judge gives a mark and says why."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from evalrunner.domain import (
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
from evalrunner.mlflow.row_metrics import AGGREGATES
from evalrunner.scorers.factuality import input_text

OF_ONES_OWN = ("make_genai_metric", "make_genai_metric_from_prompt")  # their marks are what their prompt says
LOW, HIGH = 1.0, 5.0  # the marks of the others, by MLflow's prompts
REPLY = "score: 4\njustification: made up"


def judged_metric(found: Found, params: Mapping[str, Any], mapped: Mapping[str, str]) -> Scorer:
    """The scorer of a metric with a judge. Raises ValueError for parameters that MLflow does not take."""
    with quiet_mlflow(), told_plainly(found.name):
        given = with_examples(params)
        metric = found.make(**given)
    own = found.name in OF_ONES_OWN
    names = [name for name in inspect.signature(metric.eval_fn).parameters if name != "metrics"]
    columns = Columns.of(names, mapped)
    low, high = (None, None) if own else (LOW, HIGH)

    def make(model: str, line: Line) -> Call:
        made = found.make(
            **given, model=f"gateway:/{model}", extra_headers=line.headers, proxy_url=line.url, max_workers=1
        )
        return lambda values: call_metric(made.eval_fn, names, values)

    calls = JudgedCalls(make, lambda value: mark_from(value, low, high))
    calls.rehearse(dict.fromkeys(names, "made up"), REPLY, repr(found.name))
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
    return Scorer(JudgedMetric(calls, columns), declaration)


def with_examples(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with examples as MLflow's objects. Raises TypeError for keys that an example does not have."""
    from mlflow.metrics.genai import EvaluationExample

    given = dict(params)
    if isinstance(given.get("examples"), list):
        given["examples"] = [EvaluationExample(**item) for item in given["examples"]]
    return given


def call_metric(eval_fn: Any, names: list[str], values: Mapping[str, Any]) -> Any:
    """The MetricValue of one row. MLflow's own way of calling these is by position."""
    import pandas as pd

    parameters = inspect.signature(eval_fn).parameters
    return eval_fn(*({} if name == "metrics" else pd.Series([values[name]]) for name in parameters))


def mark_from(value: Any, low: float | None, high: float | None) -> Outcome:
    """The score of one row; the judge's reply is put beside what cannot be read."""
    scores, reasons = getattr(value, "scores", None), getattr(value, "justifications", None)
    mark = scores[0] if scores else None
    if mark is None:
        return Unscored("judge", "unreadable verdict")
    if low is not None and high is not None and not low <= mark <= high:
        return Unscored("judge", f"the mark {mark} is not between {low:g} and {high:g}")
    return Score(float(mark), reasons[0] if reasons else None)


class JudgedMetric(SampleValidator):
    def __init__(self, calls: JudgedCalls, columns: Columns) -> None:
        self.calls = calls
        self.columns = columns
        self.example = columns.example()

    def check(self, sample: Sample) -> str | None:
        """What is wrong with a sample, known before the first call."""
        return self.columns.missing(sample)

    async def __call__(self, output: str, sample: Sample, judge: Judge) -> Outcome:
        if (lacking := self.columns.missing(sample)) is not None:
            return Failure("function", lacking)
        values = self.columns.values(output, sample)
        if (empty := self.columns.empty(values)) is not None:
            return Skipped(f"no {empty}")
        return await self.calls.ask(judge, {name: input_text(value) for name, value in values.items()})
