"""The metrics and scorers of the installed MLflow, the parameters that they accept, and the columns that they need.

Metrics that cannot score one output at a time, or that would contact other hosts, are refused with an alternative.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from evalrunner.domain import Sample
from evalrunner.errors import nearest
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.scorers.autoevals import expected_text

WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # between the words of PIIDetection
Kind: TypeAlias = Literal["metric", "judged metric", "scorer"]
MODULE_PREFIXES = (
    "mlflow.genai.scorers.",
    "mlflow.metrics.genai.",
    "mlflow.metrics.",
    "metrics.",
    "genai.",
    "scorers.",
)

WHOLE_DATASET = (
    "is one number for a whole dataset, without scores of rows, counts or an interval; use exact_match or token_f1 for "
    "texts, numeric_match for numbers, or your own function (type: python)"
)
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("mae", "mse", "rmse", "r2_score", "max_error", "mape", "recall_score", "precision_score", "f1_score"),
        WHOLE_DATASET,
    ),
    "latency": "is measured in every run and needs no scorer: see latency/mean, /p50, /p90 and /p99",
    "token_count": "downloads a tokenizer from a host that the suite does not name; the tokens counted by the provider "
    "are in every run: see token_count/mean and /total",
    "toxicity": "downloads code and a model from the Hugging Face hub; use {type: toxicity, …}, which has the same aggregates",
    "RegexMatch": "can hang on a slow pattern; use {type: regex, pattern: …}, which cannot",
}
SUITE_PARAMETERS = (
    "model", "extra_headers", "proxy_url", "max_workers", "metric_metadata", "aggregations", "base_url",
    "inference_params", "timeout",
)  # fmt: skip
"""Parameters that decide which model MLflow calls and how it aggregates; the suite decides that."""
EXTRA_REQUIRED: Mapping[str, tuple[str, ...]] = {"make_genai_metric_from_prompt": ("judge_prompt",)}
"""Parameters that are required in practice, though MLflow has a default."""
UNSETTABLE = frozenset(
    {"description", "required_columns", "instructions", "is_session_level_scorer", *SUITE_PARAMETERS}
)

OUTPUT_NAMES = frozenset({"predictions", "outputs", "output"})
INPUT_NAMES = frozenset({"inputs", "input"})
EXPECTED_NAMES = frozenset({"targets", "ground_truth", "expected", "expected_response"})


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A metric or scorer of MLflow: its factory, and the parameters that it accepts and requires.

    `unavailable` says what it needs that one output does not have.
    """

    name: str
    kind: Kind
    make: Callable[..., Any]
    accepts: tuple[str, ...]
    requires: tuple[str, ...]
    unavailable: str | None = None


def find(metric: str) -> CatalogueEntry:
    """The entry that a suite names, with or without its module. Raises ValueError."""
    name = metric
    for prefix in MODULE_PREFIXES:
        name = name.removeprefix(prefix)
    known = catalogue()
    if name in REFUSED:
        raise ValueError(f"metric {metric!r} {REFUSED[name]}")
    if name not in known:
        usable = sorted(
            (key for key, item in known.items() if key not in REFUSED and not item.unavailable), key=str.lower
        )
        raise ValueError(f"MLflow has no metric {metric!r}{nearest(name, known)}; it has {', '.join(usable)}")
    if (unavailable := known[name].unavailable) is not None:
        raise ValueError(f"metric {metric!r} {unavailable}, and a row has one output")
    return known[name]


def catalogue() -> dict[str, CatalogueEntry]:
    """All entries by name."""
    with quiet_mlflow():
        # `from mlflow import metrics` would be a lazy module that is empty at first
        metrics, genai, scorers = map(
            importlib.import_module, ("mlflow.metrics", "mlflow.metrics.genai", "mlflow.genai.scorers")
        )

    entries: dict[str, CatalogueEntry] = {}
    for module, kind in ((metrics, "metric"), (genai, "judged metric")):
        for name, factory in vars(module).items():
            if name != "make_metric" and inspect.isfunction(factory) and _returns(factory, metrics.EvaluationMetric):
                entries[name] = _function(name, kind, factory)  # type: ignore[arg-type]
    for name in scorers.__all__:
        factory = getattr(scorers, name)
        if inspect.isclass(factory) and issubclass(factory, scorers.Scorer) and factory is not scorers.Scorer:
            entries[name] = _class(name, factory)
    return entries


def _returns(factory: Callable[..., Any], kind: type) -> bool:
    return inspect.signature(factory).return_annotation in (kind, kind.__name__)


def _function(name: str, kind: Kind, factory: Callable[..., Any]) -> CatalogueEntry:
    parameters = inspect.signature(factory).parameters.values()
    accepts = tuple(item.name for item in parameters if item.name not in SUITE_PARAMETERS)
    requires = tuple(item.name for item in parameters if item.default is item.empty and item.name in accepts)
    return CatalogueEntry(name, kind, factory, accepts, requires)


def _class(name: str, factory: Any) -> CatalogueEntry:
    fields = {key: item for key, item in factory.model_fields.items() if key not in UNSETTABLE}
    requires = tuple(key for key, item in fields.items() if item.is_required())
    parameters = inspect.signature(factory.__call__).parameters
    trace = parameters.get("trace")
    unavailable = "judges a whole conversation" if "session" in parameters else None
    if trace is not None and trace.default is trace.empty:
        unavailable = "needs MLflow's trace of what happened inside the application"
    return CatalogueEntry(name, "scorer", factory, tuple(fields), requires, unavailable)


def check_params(entry: CatalogueEntry, params: Mapping[str, Any]) -> None:
    """Raises ValueError for parameters that the entry does not accept, or requires and does not get."""
    for name in params:
        if name in SUITE_PARAMETERS:
            raise ValueError(
                f"'params' has {name!r}, which the suite decides: with its judge (and the judge's params), run.timeout and its "
                "metrics; remove it"
            )
        if name not in entry.accepts:
            raise ValueError(
                f"'params' has {name!r}, which {entry.name!r} does not accept{nearest(name, entry.accepts)}; {_listed(entry.accepts)}"
            )
    requires = (*entry.requires, *EXTRA_REQUIRED.get(entry.name, ()))
    missing = [name for name in requires if params.get(name) is None]
    if missing:
        listed = ", ".join(f"{name}: …" for name in missing)
        raise ValueError(f"metric {entry.name!r} needs params: {{{listed}}}")


def _listed(names: Collection[str]) -> str:
    return f"it accepts {', '.join(names)}" if names else "it accepts none"


def scorer_name(options: Mapping[str, Any]) -> str | None:
    """The name of a metric in MLflow's results: `precision_at_3`, `relevance_to_query` for RelevanceToQuery."""
    metric, params = options.get("metric"), options.get("params")
    if not isinstance(metric, str):
        return None
    given = params if isinstance(params, Mapping) else {}
    if isinstance(given.get("name"), str):
        return str(given["name"])
    name = metric.rpartition(".")[2]
    if name[:1].isupper():
        return WORD_BOUNDARY.sub("_", name).lower()
    return f"{name.removesuffix('_k')}_{given['k']}" if name.endswith("_at_k") and "k" in given else name


@dataclass(frozen=True, slots=True)
class Columns:
    """The values that a metric needs by name, and the dataset columns for those with another name there."""

    names: tuple[str, ...]
    mapped: Mapping[str, str]

    @classmethod
    def of(cls, names: Iterable[str], mapped: Mapping[str, str]) -> Columns:
        """Raises ValueError for a mapped name that the metric does not need."""
        needed = tuple(names)
        for name in mapped:
            if name not in needed:
                listed = f"it needs {', '.join(needed)}" if needed else "it needs none"
                raise ValueError(
                    f"'columns' has {name!r}, which the metric does not need{nearest(name, needed)}; {listed}"
                )
        return cls(needed, mapped)

    @property
    def needs_expected(self) -> bool:
        return any(name in EXPECTED_NAMES and name not in self.mapped for name in self.names)

    def example(self) -> tuple[Sample, str]:
        """A placeholder row with every column and a wrong output, to estimate the size of judge calls."""
        values = {column: "x" for name in self.names if (column := self._column(name)) is not None}
        return Sample("example", "x", ("x",), values), "y"

    def missing(self, sample: Sample) -> str | None:
        """A message about the column that a sample lacks, or None."""
        for name in self.names:
            column = self._column(name)
            if column is not None and column not in sample.metadata:
                known = nearest(column, sample.metadata)
                hint = known or "; name it with columns: {" + name + ": …}"
                return f"the metric needs {name!r}, but there is no column {column!r}{hint}"
        return None

    def values(self, output: str, sample: Sample) -> dict[str, Any]:
        """The value of each name. Raises KeyError for a missing column."""
        return {name: self._value(name, output, sample) for name in self.names}

    def empty(self, values: Mapping[str, Any]) -> str | None:
        """The first name from the dataset without a value."""
        return next((name for name in self.names if self._column(name) is not None and _is_empty(values[name])), None)

    def _column(self, name: str) -> str | None:
        """The dataset column for a name; None for the input, the output and the accepted answer."""
        if name in self.mapped:
            return self.mapped[name]
        return None if name in OUTPUT_NAMES | INPUT_NAMES | EXPECTED_NAMES else name

    def _value(self, name: str, output: str, sample: Sample) -> Any:
        column = self._column(name)
        if column is not None:
            return sample.metadata[column]
        if name in OUTPUT_NAMES:
            return output
        return sample.input if name in INPUT_NAMES else expected_text(list(sample.expected))


def _is_empty(value: Any) -> bool:
    """Whether there is nothing in a field, as in an empty one of a CSV file."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())
