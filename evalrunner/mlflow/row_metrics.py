"""Metrics of `mlflow.metrics` without a judge, computed one row at a time.

MLflow logs a warning and omits a metric that it cannot compute. Here such a row is an error with the text of the
warning. Nothing is downloaded: what a metric needs from the Hugging Face hub has to be on this machine.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Declaration, Failure, Outcome, Sample, Score, Scorer, Skipped
from evalrunner.mlflow.catalogue import CatalogueEntry, Columns
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.scorers.autoevals_client import describe_error
from evalrunner.scorers.readability import MAX_CACHED_LENGTH, clear_text_caches, load_dictionary

AGGREGATES = ("mean", "variance", "p90")  # as MLflow has them
GRADE_METRICS = (
    "ari_grade_level",
    "flesch_kincaid_grade_level",
)  # they use only the output, though they accept targets
FROM_HUB: Mapping[str, str] = {
    "rouge1": "rouge",
    "rouge2": "rouge",
    "rougeL": "rouge",
    "rougeLsum": "rouge",
    "bleu": "bleu",
}
DOCUMENT_ID_METRICS = ("precision_at_k", "recall_at_k", "ndcg_at_k")  # of lists of document ids
SHARE_METRICS = (*FROM_HUB, *DOCUMENT_ID_METRICS)  # 0 to 1
LOGGER = "mlflow.metrics.metric_definitions"
STANDARD_ARGUMENTS = frozenset({"predictions", "targets", "metrics"})

MISSING_MODULE = "Couldn't find a module script"  # the message of `evaluate`
FETCH_HINT = (
    ". MLflow loads it from the Hugging Face hub, a host that the suite does not name, so download it first: "
    "pip install evaluate rouge_score, then "
    """python -c "import evaluate; evaluate.load('{module}')"; token_f1 does not need it"""
)

_thread_lock = threading.Lock()  # modules of `evaluate` and the tokenizers of textstat are not thread-safe


def row_metric(entry: CatalogueEntry, params: Mapping[str, Any], mapped: Mapping[str, str]) -> Scorer:
    """The scorer of a metric. Raises ValueError if it cannot be computed on this machine."""
    with quiet_mlflow(), captured_warnings() as warnings:
        try:
            metric = entry.make(**params)
        except Exception as crash:  # MLflow raises many types for invalid parameters
            raise ValueError(f"metric {entry.name!r}: {describe_error(crash)}") from None
    if warnings:  # an invalid parameter gives a metric that never has a value
        raise ValueError(f"metric {entry.name!r}: {' '.join(warnings)}")
    needs_expected = entry.name not in GRADE_METRICS and "targets" in inspect.signature(metric.eval_fn).parameters
    columns = Columns.of(_extra_columns(metric.eval_fn), mapped)
    function = RowMetric(entry.name, metric.eval_fn, columns, needs_expected, metric.greater_is_better)
    dry_run(function)
    return Scorer(function, declaration(entry.name, metric, needs_expected))


def declaration(name: str, metric: Any, needs_expected: bool) -> Declaration:
    from importlib.metadata import version

    share = name in SHARE_METRICS or name == "exact_match"
    return Declaration(
        low=0.0 if share else None,
        high=1.0 if share else None,
        binary=name == "exact_match",
        higher_is_better=metric.greater_is_better,
        unit="grade" if name in GRADE_METRICS else None,
        version=metric.version,
        needs_expected=needs_expected,
        aggregates=("mean",) if name == "exact_match" else AGGREGATES,
        headline="mean",
        backend=f"mlflow {version('mlflow')}",
    )


def _extra_columns(eval_fn: Callable[..., Any]) -> list[str]:
    """The columns that a metric requires besides predictions and targets."""
    parameters = inspect.signature(eval_fn).parameters.values()
    return [item.name for item in parameters if item.name not in STANDARD_ARGUMENTS and item.default is item.empty]


class RowMetric(SampleValidator):
    """Calls a metric with one row. With several accepted answers the best score counts."""

    def __init__(
        self, name: str, eval_fn: Callable[..., Any], columns: Columns, needs_expected: bool, higher_is_better: bool
    ) -> None:
        self.name = name
        self.eval_fn = eval_fn
        self.columns = columns
        self.needs_expected = needs_expected
        self.best = max if higher_is_better else min

    def check(self, sample: Sample) -> str | None:
        """The problem of a sample, known before the first call."""
        return self.columns.missing(sample)

    def __call__(self, output: str, sample: Sample) -> Outcome:
        if (lacking := self.columns.missing(sample)) is not None:
            return Failure("function", lacking)
        values = self.columns.values(output, sample)
        if (empty := self.columns.empty(values)) is not None:
            return Skipped(f"no {empty}")
        prediction: Any = output
        targets: Sequence[Any] = sample.expected if self.needs_expected else [None]
        if self.name in DOCUMENT_ID_METRICS:
            prediction, targets = document_ids(output), [list(sample.expected)]
            if prediction is None:
                return Failure("function", f"{self.name} needs outputs that are a JSON list of document ids")
        results = [self.one_row(prediction, target, values) for target in targets]
        failed = next((item for item in results if isinstance(item, Failure)), None)
        return failed or self.best((item for item in results if isinstance(item, Score)), key=lambda item: item.value)

    def one_row(self, prediction: Any, target: Any, values: Mapping[str, Any]) -> Score | Failure:
        import pandas as pd

        offered: dict[str, Any] = {
            "predictions": pd.Series([prediction]),
            "targets": None if target is None else pd.Series([target]),
            "metrics": {},
            **{name: pd.Series([value]) for name, value in values.items()},
        }
        names = [name for name in inspect.signature(self.eval_fn).parameters if name in offered]
        with _thread_lock, captured_warnings() as warnings:
            try:
                value = self.eval_fn(**{name: offered[name] for name in names})
            except Exception as crash:  # the packages of a metric raise many types
                return Failure("function", f"MLflow's {self.name} failed: {describe_error(crash)}")
            finally:
                if self.name in GRADE_METRICS and len(prediction) > MAX_CACHED_LENGTH:
                    clear_text_caches()
        return score_from(self.name, value, warnings)


def score_from(name: str, value: Any, warnings: Sequence[str]) -> Score | Failure:
    """The score in a MetricValue of one row; a Failure with what MLflow logged if there is none."""
    number = getattr(value, "scores", None)
    number = number[0] if number is not None and len(number) else None
    if number is None and len(aggregates := getattr(value, "aggregate_results", None) or {}) == 1:
        (number,) = aggregates.values()  # metrics such as exact_match have no scores of rows
    if number is None or warnings or (isinstance(number, float) and not math.isfinite(number)):
        why = " ".join(warnings) or ("MLflow gave no reason" if number is None else f"its score is {number}")
        return Failure("function", f"MLflow's {name} returned no score: {why}")
    reasons = getattr(value, "justifications", None)
    return Score(float(number), str(reasons[0]) if reasons and reasons[0] is not None else None)


def document_ids(output: str) -> list[str] | None:
    """The ids in an output that is a JSON list of texts and integers, as text; else None."""
    try:
        ids = json.loads(output)
    except (ValueError, RecursionError):
        return None
    if not isinstance(ids, list) or any(not isinstance(item, str | int) or isinstance(item, bool) for item in ids):
        return None
    return [str(item) for item in ids]


def dry_run(metric: RowMetric) -> None:
    """Compute the metric for a placeholder row. Raises ValueError with what is missing on this machine."""
    if metric.name == "flesch_kincaid_grade_level":
        with suppress(ImportError):  # MLflow reports the missing package
            load_dictionary()
    if metric.name not in (*GRADE_METRICS, *FROM_HUB):
        return
    with quiet_mlflow(), offline_evaluate(FROM_HUB.get(metric.name)):
        result = metric.one_row("Read it now.", "Read it now.", {})
    if not isinstance(result, Failure):
        return
    module = FROM_HUB.get(metric.name)
    if module is None:
        raise ValueError(result.message)
    if MISSING_MODULE in result.message:  # the download was disabled, so the message of the hub does not help
        raise ValueError(
            f"metric {metric.name!r} needs code that is not found on this machine{FETCH_HINT.format(module=module)}"
        )
    raise ValueError(result.message.rstrip(".") + FETCH_HINT.format(module=module))


@contextmanager
def offline_evaluate(module: str | None) -> Iterator[None]:
    """`evaluate` loads cached modules only, and no script of the working folder."""
    if module is None:
        yield
        return
    if (Path(module) / f"{module}.py").is_file():
        raise ValueError(
            f"the working folder has {module}/{module}.py, which MLflow would run instead of its own; move it"
        )
    with quiet_mlflow(HF_EVALUATE_OFFLINE="1", HF_UPDATE_DOWNLOAD_COUNTS="0"):
        try:
            from evaluate import config
        except ImportError:  # MLflow reports it
            yield
            return
        logging.getLogger("evaluate").setLevel(logging.ERROR)  # it warns that it uses the cache, as intended
        before, config.HF_EVALUATE_OFFLINE = config.HF_EVALUATE_OFFLINE, True  # it may have been imported before
        try:
            yield
        finally:
            config.HF_EVALUATE_OFFLINE = before


class _WarningCapture(logging.Filter):
    """Captures what is logged in threads that listen; other threads log as usual."""

    def __init__(self) -> None:
        super().__init__()
        self.captured = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        texts = getattr(self.captured, "texts", None)
        if texts is None:
            return record.levelno >= logging.ERROR
        texts.append(" ".join(record.getMessage().split()))
        return False


_capture = _WarningCapture()


@contextmanager
def captured_warnings() -> Iterator[list[str]]:
    """The lines that MLflow's metrics log in this thread meanwhile."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.WARNING)
    logger.addFilter(_capture)  # has no effect if it was added before
    texts: list[str] = []
    _capture.captured.texts = texts
    try:
        yield texts
    finally:
        _capture.captured.texts = None
