"""The suite as typed data: what a YAML file says, checked, with nothing assembled yet.

Every field below is a key of the suite file; its annotation is what the check and the JSON Schema are made
from, and its `doc` is what an editor shows. Mappings that hold options of a factory keep them in `options`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evalrunner.domain import EMPTY, NoAnswer
from evalrunner.verdicts import GateKind

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands in the suite, such as `("scorers", 1, "type")`."""

JudgeCheck: TypeAlias = Literal["on", "warn", "off"]
CacheMode: TypeAlias = Literal["judges", "all", "off"]


def key(doc: str, *, default: Any = None, **rules: Any) -> Any:
    """A dataclass field that is a key of the suite file; rules: `minimum`, `path` (interpolated, a file)."""
    return field(default=default, metadata={"doc": doc, **rules})


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Where a value comes from: one source column or dotted path, or several; `split` parts one text."""

    column: str | tuple[str, ...] = key("Source column, dotted path into JSON, or a list of them", default="")
    split: str | None = key("What separates several values in one text")


@dataclass(frozen=True, slots=True)
class ColumnsSpec:
    id: ColumnSpec | None = key("Where the stable id of a sample stands")
    input: ColumnSpec | None = key("Where the input stands (default: the column `input`)")
    expected: ColumnSpec | None = key("Where the accepted answer or answers stand (default: `expected`)")
    messages: ColumnSpec | None = key("Where a conversation stands: a list of {role, content}")


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One of `path`, `rows` and `mlflow`; `type` picks a reader where the file's name does not say it."""

    path: str | None = key("File, glob, or - for standard input", path=True)
    rows: tuple[Mapping[str, Any], ...] | None = key("The rows themselves")
    mlflow: str | None = key("A dataset in MLflow, or a run whose evaluation table has the rows", path=True)
    uri: str | None = key("With mlflow: its address, where it is not that of tracking.mlflow.uri", path=True)
    type: str | None = key("Reader: csv, tsv, json, jsonl, parquet, or a reference to one's own")
    columns: ColumnsSpec = key("Which source column is what", default=ColumnsSpec())
    where: Mapping[str, Any] = key("Keep rows whose column equals the value, or any of a list", default=EMPTY)
    shuffle: int | None = key("Seed of a shuffle that keeps its order when rows are added")
    limit: int | None = key("Use at most so many samples", minimum=1)
    cluster: str | None = key("Column whose equal values mark related samples, for clustered errors")
    options: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ("dataset",)


@dataclass(frozen=True, slots=True)
class PromptPart:
    """One message template, or with role `messages` the conversation in the named column."""

    role: str
    template: str
    file: Path | None = None
    key_path: KeyPath = ()


@dataclass(frozen=True, slots=True)
class PromptSpec:
    parts: tuple[PromptPart, ...]
    key_path: KeyPath = ("prompt",)


@dataclass(frozen=True, slots=True)
class PriceSpec:
    """US dollars for a million tokens."""

    input: float = key("US dollars for a million prompt tokens", default=0.0, minimum=0)
    output: float = key("US dollars for a million completion tokens", default=0.0, minimum=0)
    cached_input: float | None = key("US dollars for a million prompt tokens the provider had cached", minimum=0)
    max_output_tokens: int | None = key("Most tokens the model answers with, where params set none", minimum=1)


@dataclass(frozen=True, slots=True)
class PaceSpec:
    """How calls to one model are made, where it differs from what `run:` says; None is as there."""

    concurrency: int | Literal["auto"] | None = key("Calls in flight at once, or auto", minimum=1)
    rpm: float | None = key("Most calls a minute", above=0)
    tpm: float | None = key("Most tokens a minute, of prompts and answers", above=0)
    retries: int | None = key("How often a call that failed in passing is made again", minimum=0)
    timeout: float | None = key("Seconds that one call may take", above=0)
    stream: bool | None = key("Stream answers, which tells the time to the first token")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model behind an endpoint: what `target:` and `judge:` have in common.

    `api_key` is the value to send, `shown` what may be written down: `${VAR}` in place of secrets.
    """

    model: str
    name: str
    base_url: str | None = None
    api_key: str | None = None
    headers: Mapping[str, str] = EMPTY
    params: Mapping[str, Any] = EMPTY
    pace: PaceSpec = PaceSpec()
    price: PriceSpec | None = None
    shown: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ()


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """Either `model` with an optional prompt of its own, or `type` with the options of a target factory.

    `pace` is that of a `type` whose calls go over the network; `shown` stands in for options that hold secrets.
    """

    name: str
    model: ModelSpec | None = None
    prompt: PromptSpec | None = None
    type: str | None = None
    options: Mapping[str, Any] = EMPTY
    args: Mapping[str, Any] = EMPTY
    pace: PaceSpec = PaceSpec()
    shown: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ()


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    name: str
    type: str
    options: Mapping[str, Any] = EMPTY
    args: Mapping[str, Any] = EMPTY
    judge: ModelSpec | None = None
    version: str | None = None
    on_no_answer: NoAnswer = "unscored"
    key_path: KeyPath = ()


Operator: TypeAlias = Literal[">=", ">", "<=", "<", "=="]
Inconclusive: TypeAlias = Literal["block", "block_if_worse", "warn"]


@dataclass(frozen=True, slots=True)
class PerSample:
    """What a sample has to do to count: so many of its epochs on the right side of a bound. `of` is the suite's."""

    operator: Operator
    bound: float
    passes: int
    of: int | None = None


@dataclass(frozen=True, slots=True)
class GateRules:
    """What holds for every gate that does not say it itself: `gate_defaults` over the suite's own keys."""

    confidence: float | None = key("Confidence at which bounds have to be cleared, above 0.5 and below 1")
    min_coverage: float = key("Least share of the samples a scorer applies to that must have been scored", default=0.95)
    inconclusive: Inconclusive = key("When an inconclusive gate ends with exit code 4", default="block_if_worse")
    baseline: str | None = key("The baseline of gates with max_drop or improved")
    baseline_required: bool = key("Whether a baseline that is not there ends with exit code 3", default=False)


@dataclass(frozen=True, slots=True)
class GateSpec:
    """`metric operator bound`, for each target or for the one named; or a metric against its `baseline`.

    The bound of kind max_drop is the largest drop, that of improved 0. `slice` is the column and the value that the
    metric is about. `confidence` is None for point gates; gates on a baseline always have one.
    """

    text: str
    metric: str
    operator: Operator
    bound: float
    target: str | None = None
    line: int | None = None
    key_path: KeyPath = ()
    kind: GateKind = "point"
    slice: Mapping[str, str] | None = None
    confidence: float | None = None
    baseline: str | None = None
    per_sample: PerSample | None = None
    min_coverage: float = 0.95
    inconclusive: Inconclusive = "block_if_worse"
    baseline_required: bool = False


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """Whose answers are kept for later runs, and seconds after which they are asked for again."""

    mode: CacheMode = "judges"
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class FailOnError:
    """A count of rows with errors, or a share of all rows in 0..1, that ends a run; one of them is set."""

    count: int | None = None
    share: float | None = None

    def rows(self, total: int) -> int:
        """How many rows with errors are too many."""
        return self.count if self.count is not None else max(1, math.ceil((self.share or 0.0) * total - 1e-9))


@dataclass(frozen=True, slots=True)
class RunSpec:
    concurrency: int | Literal["auto"] = key(
        "Rows under way and calls in flight to one endpoint; auto finds what it bears", default="auto", minimum=1
    )
    epochs: int = key("How often each sample is asked", default=1, minimum=1)
    seed: int = key("Seed of all that is drawn at random", default=0)
    timeout: float = key("Seconds that one call may take", default=60.0, above=0)
    row_timeout: float = key("Seconds that a row may take, all its calls and tries together", default=600.0, above=0)
    run_timeout: float | None = key("Seconds after which the run stops", above=0)
    retries: int = key("How often a call that failed in passing is made again", default=5, minimum=0)
    max_cost: float | None = key("US dollars that the run may spend, targets and judges together", above=0)
    fail_on_error: FailOnError | None = key("Stop at so many rows with errors: a share such as 5%, or a count")
    cache: CacheSpec = key("Whose answers are kept: judges, all or off; or {mode, ttl}", default=CacheSpec())
    stream: bool = key("Stream answers, which tells the time to the first token", default=False)
    reducer: str | tuple[str, ...] | None = key("How epochs become one score: mean, median, at_least_3 …; or a list")


TrackedPart: TypeAlias = Literal["metrics", "table", "report", "dataset", "traces"]


@dataclass(frozen=True, slots=True)
class MlflowSpec:
    """What `tracking.mlflow` says, variables filled in; None is as the environment or MLflow's default has it."""

    uri: str | None = key("Tracking server or database", path=True)
    experiment: str | None = key("Name of the experiment (default: the suite's)", path=True)
    run_name: str | None = key("Name of the run (default: suite and run id)", path=True)
    tags: Mapping[str, str] = key("Tags of the run besides ours", default=EMPTY)
    log: tuple[TrackedPart, ...] = key("What is sent", default=("metrics", "table", "report", "dataset"))


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite file, checked. `resolved` is what may be written down of it: secrets as their variable's name."""

    name: str
    path: Path
    dataset: DatasetSpec
    targets: tuple[TargetSpec, ...]
    scorers: tuple[ScorerSpec, ...]
    description: str | None = None
    prompt: PromptSpec | None = None
    params: Mapping[str, Any] = EMPTY
    judge: ModelSpec | None = None
    judge_check: JudgeCheck = "on"
    gates: tuple[GateSpec, ...] = ()
    run: RunSpec = RunSpec()
    prices: Mapping[str, PriceSpec] = EMPTY
    slices: tuple[str, ...] = ()
    tracking: MlflowSpec | None = None
    resolved: Mapping[str, Any] = EMPTY

    def streams(self, target: TargetSpec) -> bool:
        """Whether the answers of a target are asked for in pieces; only models give any."""
        if target.model is None:
            return False
        own = target.model.pace.stream
        return self.run.stream if own is None else own

    @property
    def mlflow_uri(self) -> str | None:
        """Where MLflow is, for what is read from there as for what is sent; None where the suite does not say."""
        return self.tracking.uri if self.tracking is not None else None

    @property
    def streaming(self) -> bool:
        """Whether those of any target are."""
        return any(self.streams(target) for target in self.targets)

    @property
    def folder(self) -> Path:
        """What paths in the suite are relative to."""
        return self.path.parent
