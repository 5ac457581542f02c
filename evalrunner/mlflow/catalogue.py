"""What MLflow has to score with: the metrics of `mlflow.metrics` and `.genai`, and the classes of `mlflow.genai.scorers`.

The lists are read from the installed package. What cannot work for one answer at a time, or not with the hosts that a
suite names, is refused here with a word on what to use in its place.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from evalrunner.errors import nearest
from evalrunner.mlflow.client import quiet_mlflow

WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # between the words of PIIDetection
Kind: TypeAlias = Literal["metric", "judged metric", "scorer"]
PLACES = ("mlflow.genai.scorers.", "mlflow.metrics.genai.", "mlflow.metrics.", "metrics.", "genai.", "scorers.")

WHOLE = (
    "is one number for a whole dataset and none for an answer, so it has no rows, counts or interval; use exact_match "
    "or token_f1 for texts, numeric_match for numbers, or a function of your own (type: python)"
)
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("mae", "mse", "rmse", "r2_score", "max_error", "mape", "recall_score", "precision_score", "f1_score"), WHOLE
    ),
    "latency": "is measured in every run and needs no scorer: see latency/mean, /p50, /p90 and /p99",
    "token_count": "fetches a tokenizer from a host that the suite does not name; what the provider counted is in every "
    "run: see token_count/mean and /total",
    "toxicity": "fetches code and a model from the Hugging Face hub; use {type: toxicity, …}, which has the same aggregates",
    "RegexMatch": "can be held up for ever by a slow pattern; use {type: regex, pattern: …}, which cannot",
}
OURS = (
    "model", "extra_headers", "proxy_url", "max_workers", "metric_metadata", "aggregations", "base_url",
    "inference_params", "timeout",
)  # fmt: skip
"""Parameters that settle whom MLflow asks and what it adds up; the suite does that."""
NEEDED_BESIDES: Mapping[str, tuple[str, ...]] = {"make_genai_metric_from_prompt": ("judge_prompt",)}
"""Parameters that MLflow gives a default with which nothing can be asked."""
UNSETTABLE = frozenset({"description", "required_columns", "instructions", "is_session_level_scorer", *OURS})


@dataclass(frozen=True, slots=True)
class Found:
    """One entry: what makes it, which parameters it takes, and which of them it cannot do without.

    `beyond` says what it asks for that one answer does not have.
    """

    name: str
    kind: Kind
    make: Callable[..., Any]
    takes: tuple[str, ...]
    needs: tuple[str, ...]
    beyond: str | None = None


def find(metric: str) -> Found:
    """The entry that a suite names, with or without the module it is in. Raises ValueError."""
    name = metric
    for place in PLACES:
        name = name.removeprefix(place)
    known = catalogue()
    if name in REFUSED:
        raise ValueError(f"metric {metric!r} {REFUSED[name]}")
    if name not in known:
        usable = sorted((key for key, item in known.items() if key not in REFUSED and not item.beyond), key=str.lower)
        raise ValueError(f"MLflow has no metric {metric!r}{nearest(name, known)}; it has {', '.join(usable)}")
    if (beyond := known[name].beyond) is not None:
        raise ValueError(f"metric {metric!r} {beyond}, and a row holds one answer")
    return known[name]


def catalogue() -> dict[str, Found]:
    """Everything there is, by name."""
    with quiet_mlflow():
        # not `from mlflow import metrics`: that is a stand-in which is empty until it is used
        metrics, genai, scorers = map(
            importlib.import_module, ("mlflow.metrics", "mlflow.metrics.genai", "mlflow.genai.scorers")
        )

    found: dict[str, Found] = {}
    for module, kind in ((metrics, "metric"), (genai, "judged metric")):
        for name, made in vars(module).items():
            if name != "make_metric" and inspect.isfunction(made) and _returns(made, metrics.EvaluationMetric):
                found[name] = _function(name, kind, made)  # type: ignore[arg-type]
    for name in scorers.__all__:
        made = getattr(scorers, name)
        if inspect.isclass(made) and issubclass(made, scorers.Scorer) and made is not scorers.Scorer:
            found[name] = _class(name, made)
    return found


def _returns(made: Callable[..., Any], kind: type) -> bool:
    return inspect.signature(made).return_annotation in (kind, kind.__name__)


def _function(name: str, kind: Kind, made: Callable[..., Any]) -> Found:
    parameters = inspect.signature(made).parameters.values()
    takes = tuple(item.name for item in parameters if item.name not in OURS)
    needs = tuple(item.name for item in parameters if item.default is item.empty and item.name in takes)
    return Found(name, kind, made, takes, needs)


def _class(name: str, made: Any) -> Found:
    fields = {key: item for key, item in made.model_fields.items() if key not in UNSETTABLE}
    needs = tuple(key for key, item in fields.items() if item.is_required())
    parameters = inspect.signature(made.__call__).parameters
    trace = parameters.get("trace")
    beyond = "judges a whole conversation" if "session" in parameters else None
    if trace is not None and trace.default is trace.empty:
        beyond = "needs MLflow's trace of what happened inside the application"
    return Found(name, "scorer", made, tuple(fields), needs, beyond)


def check_params(found: Found, params: Mapping[str, Any]) -> None:
    """None, where the entry takes these parameters. Raises ValueError with what it takes."""
    for name in params:
        if name in OURS:
            raise ValueError(
                f"'params' has {name!r}, which the suite settles: by its judge (with params: of its own), run.timeout and its "
                "metrics; take it out"
            )
        if name not in found.takes:
            raise ValueError(
                f"'params' has {name!r}, which {found.name!r} does not take{nearest(name, found.takes)}; {_listed(found.takes)}"
            )
    needs = (*found.needs, *NEEDED_BESIDES.get(found.name, ()))
    missing = [name for name in needs if params.get(name) is None]
    if missing:
        shown = ", ".join(f"{name}: …" for name in missing)
        raise ValueError(f"metric {found.name!r} needs params: {{{shown}}}")


def _listed(names: Collection[str]) -> str:
    return f"it takes {', '.join(names)}" if names else "it takes none"


def scorer_name(options: Mapping[str, Any]) -> str | None:
    """What MLflow calls a metric in its results: `precision_at_3`, `relevance_to_query` for RelevanceToQuery."""
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
