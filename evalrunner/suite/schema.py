"""The suite as typed data: the content of a YAML file, checked, with nothing assembled yet.

Every field made by `key()` is a key of the suite file. The check of a file and the JSON Schema both follow from its
annotation and rules; its `doc` is what an editor shows. Fields without `key()` are computed by the readers.
Mappings that hold options of a factory keep them in `options`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evalrunner.domain import EMPTY, NoAnswer
from evalrunner.egress import ANY_HOST, EgressPolicy
from evalrunner.suite.columns import ColumnsSpec
from evalrunner.suite.content_part import ContentPart
from evalrunner.suite.key import key
from evalrunner.verdicts import GateKind

KeyPath: TypeAlias = tuple[str | int, ...]
"""The path of a value in the suite, such as `("scorers", 1, "type")`."""

JudgeCheckMode: TypeAlias = Literal["on", "warn", "off"]
CacheMode: TypeAlias = Literal["judges", "all", "off"]

Operator: TypeAlias = Literal[">=", ">", "<=", "<", "=="]
ReasoningMode: TypeAlias = Literal["strip", "keep"]
Inconclusive: TypeAlias = Literal["block", "block_if_worse", "warn"]
MissingRule: TypeAlias = Literal["bounds", "ignore"]
FamilyRule: TypeAlias = Literal["suite", "none"]
ChangedDataRule: TypeAlias = Literal["missing", "ignore"]


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One of `path`, `rows` and an external source; `type` picks a reader where the file name does not.

    `source` is a name of the plug-in group `dataset_sources`, `reference` what the suite gives it, such as a run's id.
    `keep_clusters`: a shuffle moves whole clusters. `files` are the files and globs of a list, which `path` joins for
    messages. `sample_seed` is that of `sample`.
    """

    path: str | None = key("File, glob, list of them, or - for standard input", path=True)
    rows: tuple[Mapping[str, Any], ...] | None = key("The rows, inline")
    type: str | None = key("Reader: csv, tsv, json, jsonl, parquet, xlsx, yaml, or a reference to a custom one")
    columns: ColumnsSpec = key(
        "Source columns of id, input, expected, messages, checks and choices", default=ColumnsSpec()
    )
    where: Mapping[str, Any] = key(
        "Keep rows whose column equals the value or any of a list, or meets {not: …}, {contains: …}, {matches: …}, {'>': …}; any: and all: group conditions",
        default=EMPTY,
    )
    shuffle: int | None = key("Seed of a shuffle whose order is stable when rows are added")
    offset: int = key("Samples to leave out at the start", default=0, minimum=0)
    limit: int | None = key("Maximum samples to run", minimum=1)
    sample: int | None = key("Size of a random sample, before shuffle, offset and limit", minimum=1)
    by: str | None = key("With sample: column whose values keep their shares")
    cluster: str | None = key("Column that groups related samples, for clustered standard errors")
    options: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ("dataset",)
    source: str | None = None
    reference: str = ""
    source_options: Mapping[str, Any] = EMPTY
    keep_clusters: bool = False
    sample_seed: int = 0
    files: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and globs: those of a list, or the path alone."""
        return self.files or (() if self.path is None else (self.path,))


@dataclass(frozen=True, slots=True)
class ShotsSpec:
    """Worked examples in front of a question: `n` samples of `dataset`, whose path is relative to `folder`."""

    n: int = key("Number of examples", default=5, minimum=1, maximum=1000)
    seed: int | None = key("Seed of their choice; default: the first ones of the file")
    never: Literal["same id", "same input"] = key("Which examples a sample never gets", default="same id")
    user: str | None = key("Template of an example's question; default: that of the next user message")
    assistant: str | None = key("Template of its answer; default: the first expected answer")
    dataset: DatasetSpec = DatasetSpec()
    folder: Path = Path()


@dataclass(frozen=True, slots=True)
class PromptPart:
    """One message template, with role `messages` the conversation in the named column, with `shots` examples.

    If the message has several parts, `template` is their JSON, for digests and records.
    """

    role: str
    template: str
    file: Path | None = None
    key_path: KeyPath = ()
    shots: ShotsSpec | None = None
    content: tuple[ContentPart, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptSpec:
    parts: tuple[PromptPart, ...]
    key_path: KeyPath = ("prompt",)


@dataclass(frozen=True, slots=True)
class LongPriceSpec:
    """US dollars per million tokens of calls with a long prompt."""

    tokens: int = key("Prompt tokens above which this price applies", default=0, minimum=1, needed="(prompt tokens)")
    input: float = key(
        "US dollars per million prompt tokens", default=0.0, minimum=0, needed="(US dollars per million tokens)"
    )
    output: float = key(
        "US dollars per million completion tokens", default=0.0, minimum=0, needed="(US dollars per million tokens)"
    )
    cached_input: float | None = key("US dollars per million cached prompt tokens", minimum=0)


@dataclass(frozen=True, slots=True)
class PriceSpec:
    """US dollars per million tokens."""

    input: float = key(
        "US dollars per million prompt tokens", default=0.0, minimum=0, needed="(US dollars per million tokens)"
    )
    output: float = key(
        "US dollars per million completion tokens", default=0.0, minimum=0, needed="(US dollars per million tokens)"
    )
    cached_input: float | None = key("US dollars per million cached prompt tokens", minimum=0)
    max_output_tokens: int | None = key("Maximum output tokens of the model, if params set none", minimum=1)
    above: LongPriceSpec | None = key("Price of calls with a long prompt")


@dataclass(frozen=True, slots=True)
class TransportSpec:
    """How HTTP requests are sent: by pyreqwest unless something here needs httpx, or by a user-defined client."""

    type: Literal["pyreqwest", "httpx"] | None = key("HTTP library: pyreqwest (default) or httpx")
    client: str | None = key("Function that returns an httpx.AsyncClient: my_module:make_client or path/file.py:name")
    max_body: int = key("Largest reply in MiB; a larger one fails its row", default=16, minimum=1)
    uds: str | None = key("Unix socket to connect to, relative to the suite", path=True)
    cert: str | None = key("Client certificate, a PEM file", path=True)
    verify: bool | str = key("CA bundle to trust, a PEM file; false accepts any certificate", default=True)
    key: str | None = key("Private key of the client certificate, where cert does not hold it", path=True)

    @property
    def needs_httpx(self) -> bool:
        """Whether only httpx can do what is asked."""
        return self.verify is not True or any((self.client, self.uds, self.cert, self.key))


@dataclass(frozen=True, slots=True)
class PaceSpec:
    """How one model is called, where it differs from `run:`; None means as there."""

    concurrency: int | Literal["auto"] | None = key("Maximum in-flight requests, or auto", minimum=1)
    rpm: float | None = key("Maximum requests per minute", above=0)
    tpm: float | None = key("Maximum tokens per minute, prompts and outputs", above=0)
    retries: int | None = key("Retries for transient failures", minimum=0)
    timeout: float | None = key("Timeout of one call, in seconds", above=0)
    stream: bool | None = key("Stream outputs, which measures the time to the first token", forms=("model",))
    transport: TransportSpec | None = key("HTTP library for the requests: pyreqwest, httpx, or a mapping")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model behind an endpoint: what `target:` and `judge:` have in common.

    `api_key` is the value to send, `public` what may be written to disk: `${VAR}` in place of secrets. `others` are the
    further judges of a panel.
    """

    model: str = key("Model string; sent unchanged with base_url", default="", path=True)
    name: str = key("Name in tables and gates", default="", path=True)
    base_url: str | None = key("Base URL of an OpenAI-compatible endpoint", path=True)
    api_key: str | None = key("API key, such as ${LITELLM_API_KEY}", path=True)
    headers: Mapping[str, str] = key("HTTP headers of every request", default=EMPTY)
    params: Mapping[str, Any] = key("Sampling parameters; null removes one of the suite's", default=EMPTY)
    pace: PaceSpec = key("", default=PaceSpec(), flat=True)
    price: PriceSpec | None = key("Price of the model", alias="prices")
    public: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ()
    others: tuple[ModelSpec, ...] = ()

    @property
    def members(self) -> tuple[ModelSpec, ...]:
        """All judges of a panel, or the model alone."""
        return (self, *self.others)


@dataclass(frozen=True, slots=True)
class StopSpec:
    """When a conversation with a simulated user ends early: a condition that its model judges, or a phrase."""

    condition: str | None = None
    phrase: str | None = key("Text that ends the conversation, in a message of either side", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpec:
    """A model that plays the user of conversations. `persona`, `goal` and a condition are templates over the row."""

    goal: str = key("What the user wants; a template over the columns of the row", needed="what the user wants")
    persona: str | None = key("Who the user is; a template over the columns of the row")
    model: ModelSpec = key("The model that plays the user", needed="the model that plays the user", path=True)
    max_turns: int = key(
        "Maximum turns of a conversation, those of 'turns' included", default=6, minimum=1, maximum=100
    )
    stop_when: StopSpec | None = key("Condition that the user's model judges after each answer, or {phrase: …}")
    key_path: KeyPath = ()


@dataclass(frozen=True, slots=True)
class ToolsSpec:
    """Tools in the format of OpenAI's API."""

    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """Either `model` with an optional prompt, or `type` with the options of a target factory.

    `prompt_name` is the name of its prompt among those of the suite, with which its own name ends.
    `pace` is that of a `type` whose calls use the network; `public` replaces options that hold secrets.
    """

    name: str = key("Name in tables and gates")
    model: ModelSpec | None = key("", flat=True, forms=("model",))
    prompt: PromptSpec | None = key("Prompt of this target in place of the suite's", forms=("model",))
    prompts: tuple[str, ...] | None = key(
        "Names of the suite's prompts that this target is asked with; default: all", forms=("model",), unique=True
    )
    tools: ToolsSpec | None = key("Tools of this target in place of the suite's", forms=("model",))
    type: str | None = key("Built-in target, or a reference to a custom one", forms=("type", "http"))
    options: Mapping[str, Any] = EMPTY
    args: Mapping[str, Any] = key("Extra arguments of a custom function", default=EMPTY, forms=("type", "http"))
    reasoning: ReasoningMode = key("Whether reasoning in the text is set apart, or kept and scored", default="strip")
    extract: Any = key("Part of the answer to score: a step such as {json: $.answer}, or a list of steps")
    pace: PaceSpec = key("", default=PaceSpec(), flat=True, forms=("http",))
    public: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ()
    prompt_name: str | None = None


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    name: str = key("Name in tables and gates")
    type: str = key("Built-in scorer, or a reference to a custom one")
    options: Mapping[str, Any] = EMPTY
    args: Mapping[str, Any] = key("Extra arguments of a custom function", default=EMPTY)
    judge: ModelSpec | None = key("Judge of this scorer in place of the suite's")
    model: ModelSpec | None = key("Model that this scorer asks for embeddings or moderation")
    version: str | None = key("Version of the scorer; a new one makes old scores incomparable")
    on_no_answer: NoAnswer = key("How a missing answer counts", default="unscored")
    extract: Any = key("Part of the output to score: a step such as {json: $.answer}, or a list of steps")
    labels: str | Mapping[str, str] | None = key("People's labels of its scores: a CSV file, or {column: NAME}")
    key_path: KeyPath = ()


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A scorer applied to one row, with the rule when it passes; `negated` reverses that.

    `threshold` is the score from which it passes, None where the scorer declares it. A row names its `judge` or
    `model`, the suite may describe it. `where` narrows a check of the suite to some rows. `empty`: it is written with a
    value that is none. `turn` is the turn of a conversation that it checks, None the last one.
    """

    type: str
    options: Mapping[str, Any] = EMPTY
    negated: bool = False
    name: str | None = None
    weight: float = 1.0
    threshold: float | None = None
    extract: Any = None
    judge: ModelSpec | str | None = None
    model: ModelSpec | str | None = None
    on_no_answer: NoAnswer | None = None
    args: Mapping[str, Any] = EMPTY
    where: Mapping[str, Any] = EMPTY
    empty: bool = False
    turn: int | None = None
    key_path: KeyPath = ()


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """Checks that count as one: it passes if all of them do, or any, or the weighted share reaches `threshold`."""

    rule: str
    checks: tuple[AnyCheck, ...]
    name: str | None = None
    weight: float = 1.0
    threshold: float | None = None
    where: Mapping[str, Any] = EMPTY
    key_path: KeyPath = ()


AnyCheck: TypeAlias = CheckSpec | CheckGroup


@dataclass(frozen=True, slots=True)
class ChecksSpec:
    """Checks of every row, or of one. Without a `threshold` all of them have to pass."""

    checks: tuple[AnyCheck, ...] = ()
    threshold: float | None = None

    def leaves(self) -> Iterator[CheckSpec]:
        """Every check, those inside groups included."""
        pending: list[AnyCheck] = [*reversed(self.checks)]
        while pending:
            item = pending.pop()
            if isinstance(item, CheckGroup):
                pending.extend(reversed(item.checks))
            else:
                yield item


@dataclass(frozen=True, slots=True)
class PerSample:
    """The rule that a sample has to meet: `passes` of its epochs on the right side of a bound. `of` is the suite's."""

    operator: Operator
    bound: float
    passes: int
    of: int | None = None


@dataclass(frozen=True, slots=True)
class GateRules:
    """The rules of every gate that does not set them: `gate_defaults` over the keys at the top of the suite."""

    confidence: float | None = key(
        "Confidence level of the decision, such as 0.95", above=0.5, below=1, forms=("bound", "baseline", "per_sample")
    )
    min_coverage: float = key(
        "Minimum share of applicable samples that must be scored",
        default=0.95,
        minimum=0,
        maximum=1,
        top=True,
        forms=("bound", "baseline", "per_sample"),
    )
    inconclusive: Inconclusive = key(
        "When an inconclusive gate exits with code 4",
        default="block_if_worse",
        top=True,
        forms=("bound", "baseline", "per_sample"),
    )
    missing: MissingRule = key(
        "Whether the verdict must hold for every value of missing scores, or ignores them",
        default="bounds",
        forms=("bound", "baseline", "per_sample"),
    )
    family: FamilyRule = key(
        "Whether a fail is corrected for the number of gates in the suite",
        default="suite",
        forms=("bound", "baseline", "per_sample"),
    )
    sequential: bool | None = key(
        "Decide after every sample, so that a run can stop early", forms=("bound", "baseline", "per_sample")
    )
    baseline: str | None = key("Baseline of gates with max_drop or improved", forms=("baseline",))
    changed_data: ChangedDataRule = key(
        "Whether changed and removed samples count as missing, or are left out",
        default="missing",
        top=True,
        forms=("baseline",),
    )
    baseline_required: bool = key(
        "Whether a missing baseline exits with code 3", default=False, top=True, forms=("baseline",)
    )


@dataclass(frozen=True, slots=True)
class PerSampleKeys:
    """The keys of `per_sample`: how many epochs of a sample have to pass, and for which share of the samples."""

    metric: str = key("A scorer or a metric, such as toxicity/p90, with the slice [topic=law]", needed="")
    min: float | None = key("Minimum value of an epoch")
    max: float | None = key("Maximum value of an epoch")
    passes: int | None = key("Minimum epochs that pass", needed=": in how many epochs", minimum=1)
    of: int | None = key("Epochs of the run", minimum=1)
    share: float = key("Minimum share of the samples", default=1.0, above=0, maximum=1)


@dataclass(frozen=True, slots=True)
class GateKeys:
    """The keys of a gate written as a mapping, in its three forms: a bound, a baseline, and epochs of a sample."""

    metric: str = key(
        "A scorer or a metric, such as toxicity/p90, with the slice [topic=law]",
        forms=("bound", "baseline"),
        needed="",
    )
    min: float | None = key("Minimum value", forms=("bound",))
    max: float | None = key("Maximum value", forms=("bound",))
    target: str | None = key("Apply the gate to this target only")
    slice: Mapping[str, str | int | float | bool] = key("A column and its value", forms=("bound", "baseline"))
    max_drop: float | None = key("Maximum drop below the baseline", forms=("baseline",), minimum=0)
    improved: Literal[True] | None = key("Require a significant improvement", forms=("baseline",))
    per_sample: PerSampleKeys | None = key("Require epochs of each sample to pass", forms=("per_sample",))
    rules: GateRules = key("", default=GateRules(), flat=True)


@dataclass(frozen=True, slots=True)
class GateSpec:
    """`metric operator bound`, for each target or for the named one; or a metric against its `baseline`.

    The bound of kind max_drop is the largest drop, that of improved 0. `slice` is the column and the value that the
    metric is about. `confidence` is None for point gates; gates on a baseline always have one.
    `sequential` is None where `run.stop_early` decides.
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
    missing: MissingRule = "bounds"
    family: FamilyRule = "suite"
    changed_data: ChangedDataRule = "missing"
    sequential: bool | None = None


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """Which answers are cached, and their TTL in seconds."""

    mode: CacheMode = key("Which answers to cache", default="judges")
    ttl_s: float | None = key("Time to live, such as 12h or 7d", alias="ttl", above=0)


@dataclass(frozen=True, slots=True)
class FailOnError:
    """The failed rows that abort a run: a count, or a share of all rows in 0..1; one of them is set."""

    count: int | None = None
    share: float | None = None

    def rows(self, total: int) -> int:
        """The number of failed rows that aborts a run of `total` rows."""
        return self.count if self.count is not None else max(1, math.ceil((self.share or 0.0) * total - 1e-9))


@dataclass(frozen=True, slots=True)
class RunSpec:
    concurrency: int | Literal["auto"] = key(
        "Maximum in-flight requests and rows; auto adapts to the endpoint", default="auto", minimum=1
    )
    epochs: int = key("Times each sample is run", default=1, minimum=1)
    seed: int = key("Random seed", default=0)
    timeout: float = key("Timeout of one call, in seconds", default=60.0, above=0)
    row_timeout: float = key("Deadline of a row with all its calls and retries, in seconds", default=600.0, above=0)
    run_timeout: float | None = key("Deadline of the run, in seconds", above=0)
    retries: int = key("Retries for transient failures", default=5, minimum=0)
    max_cost: float | None = key("Maximum cost of the run in US dollars, targets and judges", above=0)
    fail_on_error: FailOnError | None = key("Abort after this many failed rows: a share such as 5%, or a count")
    stop_early: bool = key("Make every gate sequential; stop once all gates are decided", default=False)
    cache: CacheSpec = key("Which answers to cache: judges, all or off; or {mode, ttl}", default=CacheSpec(), top=True)
    stream: bool = key("Stream outputs, which measures the time to the first token", default=False)
    egress: EgressPolicy = key(
        "Hosts that may be contacted, such as api.openai.com, *.openai.azure.com or localhost:4000",
        default=ANY_HOST,
        alias="allow_hosts",
    )
    reducer: str | tuple[str, ...] | None = key("Epochs to one score: mean, median, at_least_3 …; or a list", top=True)


@dataclass(frozen=True, slots=True)
class TrackingSpec:
    """The trackers that a run is sent to: name to options, typed as the exporter of that name declares."""

    options: Mapping[str, Any] = EMPTY

    @property
    def addresses(self) -> Mapping[str, str | None]:
        """The address of each tracker, for reading from it too; None if the suite gives no address."""
        return {name: options.uri for name, options in self.options.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One suite file, checked. Paths in it are relative to `folder`.

    `resolved` is what may be written to disk: secrets as the name of their variable.
    """

    name: str = key(
        "Name of the suite and of its run folders",
        pattern=r"[a-z0-9][a-z0-9._-]{0,99}",
        pattern_hint="of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, at most 100 characters",
    )
    description: str | None = key("What the suite measures")
    dataset: DatasetSpec = key("The inputs", needed="(the inputs), such as dataset: data/qa.csv")
    prompt: PromptSpec | None = key("Messages sent to the targets")
    prompts: Mapping[str, PromptSpec] = key(
        "Name to prompt; every model is asked with each, as the target model/name", default=EMPTY
    )
    targets: tuple[TargetSpec, ...] = key(
        "The systems under test",
        single="target",
        needed="(the system under test), such as target: local/smollm2-135m-instruct",
    )
    turns: str | None = key("Column with the user's messages of a conversation, asked one after the other")
    user: UserSpec | None = key(
        "A model that plays the user of conversations: {goal, persona, model, max_turns, stop_when}"
    )
    params: Mapping[str, Any] = key("Sampling parameters of every target, never of judges", default=EMPTY)
    tools: ToolsSpec | None = key("Tools that every model may call: a JSON or YAML file, or a list of tools and files")
    judge: ModelSpec | None = key("The model that judge scorers ask")
    judge_check: JudgeCheckMode = key("Effect of a failed judge sanity check", default="on")
    scorers: tuple[ScorerSpec, ...] = key("Scorers of every output", default=())
    checks: ChecksSpec = key("Checks of every row, or of those that `where` names", default=ChecksSpec())
    headline: str | None = key("Scorer that leads tables, lists and the leaderboard; default: that of the first gate")
    on_no_answer: NoAnswer = key("How a missing answer counts", default="unscored")
    gates: tuple[GateSpec, ...] = key("Conditions that decide the verdict", default=())
    gate_defaults: GateRules = key("Rules of every gate that does not set them", default=GateRules())
    run: RunSpec = key("How the suite is run", default=RunSpec())
    slices: tuple[str, ...] = key(
        "Columns; every metric is also computed for each of their values", default=(), unique=True
    )
    prices: Mapping[str, PriceSpec] = key("Prices of models that no price table has", default=EMPTY)
    tracking: TrackingSpec = key("Trackers that runs are sent to", default=TrackingSpec())
    path: Path
    folder: Path
    resolved: Mapping[str, Any] = EMPTY

    def streams(self, target: TargetSpec) -> bool:
        """Whether the outputs of a target are streamed; only models can."""
        if target.model is None:
            return False
        own = target.model.pace.stream
        return self.run.stream if own is None else own

    @property
    def streaming(self) -> bool:
        """Whether the outputs of any target are streamed."""
        return any(self.streams(target) for target in self.targets)
