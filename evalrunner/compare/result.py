"""The result of a comparison: pairs, rankings, Pareto fronts, and warnings about shared model families. All frozen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from evalrunner.domain import Metric

if TYPE_CHECKING:
    from evalrunner.compare.missing import MissingScores

JSON_NUMBERS: Final = ("value", "low", "high", "n", "scored", "skipped", "unscored", "errors", "trusted")
ALPHA: Final = 0.05  # two-sided, over the whole family

MAX_MISSING: Final = 0.05  # share of the answers on a scale without bounds; the default min_coverage of gates allows it

FAMILIES: Final[Mapping[str, str]] = {
    "GPT": r"gpt|chatgpt|davinci|o[134](?=$|[-:])",  # OpenAI: also its reasoning models o1, o3, o4
    "Claude": r"claude",  # Anthropic
    "Gemini": r"gemini|gemma|palm|bison",  # Google: Gemma is built from the same research and data as Gemini
    "Llama": r"llama|vicuna|alpaca",  # Meta, and models tuned from it
    "Mistral": r"mistral|mixtral|ministral|codestral|magistral|devstral",
    "Qwen": r"qwen|qwq",  # Alibaba
    "DeepSeek": r"deepseek",
    "Command": r"command-?[ar]|c4ai|aya",  # Cohere
    "Grok": r"grok",  # xAI
    "Nova": r"nova-(micro|lite|pro|premier)",  # Amazon
    "Phi": r"phi-?[1-9]",  # Microsoft
    "GLM": r"glm",  # Zhipu
    "Kimi": r"kimi|moonshot",
    "SmolLM": r"smollm",  # Hugging Face
    "Granite": r"granite",  # IBM
}
"""A pattern per family, matched at the start of a word of a model's name. A name can match two:
`deepseek-r1-distill-llama-70b` has Llama's weights and DeepSeek's training data."""
_WORD = {name: re.compile(rf"(?:^|[^a-z0-9])(?:{pattern})", re.IGNORECASE) for name, pattern in FAMILIES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A target of a run that is compared. `run` is None if all are of one run; `differs` is against the first candidate.

    `models` are the names of its model: in the suite, and as served. `prompt` is the name of its prompt, where the suite
    asks every model with several; the name of the candidate is then `model/prompt`.
    """

    name: str
    target: str
    run: str | None = None
    models: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two candidates on one metric: `difference` is first − second in the metric's unit, with its 95% CI.

    `p_value` is of the scored pairs alone. `p_missing` is the largest one over them and over every way to fill in what is
    missing against the better side, 1 if that turns the difference around. `p_adjusted` is `p_missing` after Holm over the
    family, None outside of it. `better` is the one that is significantly better (p_adjusted < .05); `better_scored` is the
    one that would be, by the scored pairs alone. `missing` says what is missing on both sides.

    `wins` counts samples on which the first is better, `losses` the second. `n` counts pairs, `excluded` samples with a
    score on one side only. Unpaired, `n` counts the values of both sides. `samples_to_decide` is how many samples show the
    difference with 80% power, None if it is shown or if that is impractical.
    """

    first: str
    second: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_missing: float | None = None
    p_adjusted: float | None = None
    method: str | None = None
    n: int = 0
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    excluded: int = 0
    better: str | None = None
    better_scored: str | None = None
    missing: str | None = None
    samples_to_decide: int | None = None
    note: str | None = None

    @property
    def doubt(self) -> str | None:
        """Why a difference that is significant on the scored pairs is not conclusive; None for every other pair."""
        if self.better_scored is None or self.better is not None:
            return None
        return (
            f"{self.first} vs {self.second}: not conclusive: {self.missing or 'missing answers'} and could reverse it"
        )

    @property
    def depends_on_missing(self) -> bool:
        """Whether the test of this pair alone is significant on the scored pairs, but not for every filling."""
        return self.p_value is not None and self.p_value < ALPHA and (self.p_missing or 0.0) >= ALPHA

    @property
    def worse(self) -> str | None:
        """The other candidate, if one is better."""
        return None if self.better is None else self.second if self.better == self.first else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Candidates from best to worst by their mean, then name, with a sign between neighbors.

    `>` only if every candidate before is significantly better than every one after it; else `≈`. Candidates that share a
    letter are not significantly different. `best` is significantly better than every other, or None. `differing` are the
    pairs (better, worse) that differ inside a group joined by `≈`, where the signs cannot show it.
    """

    order: tuple[str, ...]
    signs: tuple[str, ...]
    letters: Mapping[str, str]
    best: str | None = None
    differing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of all candidates. Without a `ranking` it is outside the family: its p-values are unadjusted.

    `values` holds each candidate's own number, over all the samples it was scored on.
    """

    name: str
    scorer: str
    aggregate: str
    reducer: str
    unit: str | None
    higher_is_better: bool
    values: Mapping[str, Metric]
    pairs: tuple[Pair, ...]
    slice: Mapping[str, str] | None = None
    ranking: Ranking | None = None

    def pair(self, one: str, other: str) -> Pair:
        """The pair of two candidates, in whichever order. Raises KeyError."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {one, other}:
                return pair
        raise KeyError((one, other))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoFront:
    """The Pareto-optimal candidates in quality and cost, by their values alone.

    `missing` candidates have no value of one of the two.
    """

    quality: str
    against: str
    members: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One side of a matrix of models and prompts: its `levels` compared, each by its mean score over all `others`.

    `kind` is what the levels are, `model` or `prompt`. `family` is the number of tests of Holm's correction of this factor.
    """

    kind: Literal["model", "prompt"]
    levels: tuple[str, ...]
    others: tuple[str, ...]
    metrics: tuple[ComparedMetric, ...]
    family: int

    def metric(self, name: str) -> ComparedMetric | None:
        """Its metric of that name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Compared candidates. `metrics` are the family; `costs` (latency, tokens, money) and `slices` are outside of it.

    `family` is the number of tests of Holm's correction; `factors` are the models and the prompts of a matrix, each with a
    family of its own. `warnings` are threats to validity, `notes` other remarks.
    `most_different` are positions of samples in the dataset, the most different scores first.
    """

    candidates: tuple[Candidate, ...]
    metrics: tuple[ComparedMetric, ...]
    costs: tuple[ComparedMetric, ...] = ()
    slices: tuple[ComparedMetric, ...] = ()
    pareto_fronts: tuple[ParetoFront, ...] = ()
    paired: bool = True
    alpha: float = ALPHA
    family: int = 0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    most_different: tuple[int, ...] = field(default=(), compare=False)
    factors: tuple[Factor, ...] = ()

    def led_by(self, scorer: str) -> Comparison:
        """The comparison with the metrics of a scorer first, which rank the leaderboard."""
        return replace(self, metrics=tuple(sorted(self.metrics, key=lambda metric: metric.scorer != scorer)))

    def to_json(self) -> dict[str, Any]:
        """The comparison as `metrics.json` and `evalrun compare --json` have it."""
        return {
            "paired": self.paired,
            "alpha": self.alpha,
            "family": self.family,
            "candidates": [asdict(item) for item in self.candidates],
            "metrics": [_metric_to_json(item) for item in self.metrics],
            "costs": [_metric_to_json(item) for item in self.costs],
            "slices": [_metric_to_json(item) for item in self.slices],
            "pareto_fronts": [asdict(item) for item in self.pareto_fronts],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "most_different": list(self.most_different),
            "factors": [
                {**asdict(replace(item, metrics=())), "metrics": [_metric_to_json(one) for one in item.metrics]}
                for item in self.factors
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The comparison in what `to_json` returned. Raises KeyError and TypeError where it is something else."""
        return cls(
            candidates=tuple(Candidate(**_with_tuples(item)) for item in data["candidates"]),
            metrics=_metrics_from_json(data["metrics"]),
            costs=_metrics_from_json(data["costs"]),
            slices=_metrics_from_json(data["slices"]),
            pareto_fronts=tuple(ParetoFront(**_with_tuples(item)) for item in data["pareto_fronts"]),
            paired=data["paired"],
            alpha=data["alpha"],
            family=data["family"],
            warnings=tuple(data["warnings"]),
            notes=tuple(data["notes"]),
            most_different=tuple(data["most_different"]),
            factors=tuple(
                Factor(**{**_with_tuples(item), "metrics": _metrics_from_json(item["metrics"])})
                for item in data.get("factors", ())
            ),
        )


def _metric_to_json(metric: ComparedMetric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "scorer": metric.scorer,
        "aggregate": metric.aggregate,
        "reducer": metric.reducer,
        "slice": metric.slice,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "values": {name: {key: getattr(value, key) for key in JSON_NUMBERS} for name, value in metric.values.items()},
        "pairs": [asdict(pair) for pair in metric.pairs],
        "ranking": None if metric.ranking is None else asdict(metric.ranking),
    }


def _metrics_from_json(items: Sequence[Mapping[str, Any]]) -> tuple[ComparedMetric, ...]:
    return tuple(_metric_from_json(item) for item in items)


def _metric_from_json(item: Mapping[str, Any]) -> ComparedMetric:
    same = {key: item[key] for key in ("name", "scorer", "aggregate", "reducer", "unit", "higher_is_better", "slice")}
    numbers = {
        name: Metric(name=item["name"], scorer=item["scorer"], aggregate=item["aggregate"], **value)
        for name, value in item["values"].items()
    }
    ranking = item["ranking"]
    differing = () if ranking is None else tuple((one, other) for one, other in ranking["differing"])
    return ComparedMetric(
        **same,
        values=numbers,
        pairs=tuple(Pair(**pair) for pair in item["pairs"]),
        ranking=None if ranking is None else Ranking(**{**_with_tuples(ranking), "differing": differing}),
    )


def _with_tuples(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with tuples in place of lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}


def comparison_warnings(
    metrics: Sequence[ComparedMetric],
    candidates: Sequence[Candidate],
    judges: Mapping[str, Sequence[str]],
    missing: Mapping[str, Mapping[str, MissingScores]] | None = None,
) -> Iterator[str]:
    """A sentence for each threat to validity: judges of a candidate's model family, and missing scores.

    `missing` holds what is missing by metric and candidate.
    """
    for metric in metrics:
        yield from _judge_warnings(metric, candidates, judges.get(metric.scorer, ()))
    groups: dict[tuple[str, MissingScores], list[str]] = {}
    for reading, by_name in (missing or {}).items():
        for name, side in by_name.items():
            if side.answers or not side.total:
                groups.setdefault((name, side), []).append(reading)
    for (name, side), names in groups.items():
        if side.total:
            yield f"{', '.join(names)}: {side.text(name)}"
        else:
            yield f"{name} has no sample that the scorer applies to ({', '.join(names)})"


def _judge_warnings(metric: ComparedMetric, candidates: Sequence[Candidate], judge: Sequence[str]) -> Iterator[str]:
    """Judges prefer answers like their own (Zheng et al. 2023, §3.3; Panickssery et al. 2024)."""
    related: dict[str, list[str]] = {}
    for candidate in candidates:
        shared = shared_family(judge, candidate.models)
        if shared is not None:
            related.setdefault(shared, []).append(candidate.name)
    for shared, names in related.items():
        if len(names) < len(candidates):
            who = ", ".join(names)
            yield f"{metric.name}: the judge {judge[0]} is {shared}, as {who}; judges favor their own family"
        else:
            yield f"{metric.name}: the judge {judge[0]} is {shared}, as all candidates"


def model_families(name: str) -> tuple[str, ...]:
    """The families in a model's name; empty for other names, such as a gateway's own."""
    return tuple(family for family, pattern in _WORD.items() if pattern.search(name))


def shared_family(judge: Iterable[str], candidate: Iterable[str]) -> str | None:
    """What two models share: a family or the name; None for nothing. Each has several names."""
    judges, candidates = set(judge), set(candidate)
    same = sorted(judges & candidates)
    if same:
        return f"the same model, {same[0]}"
    families = {family for name in candidates for family in model_families(name)}
    shared = [family for name in sorted(judges) for family in model_families(name) if family in families]
    return f"of the same family, {shared[0]}" if shared else None
