"""The nouns of an evaluation, frozen, and the protocols between the parts.

The path of a row: a `Target` answers a `Sample` with a `Completion` or a `Failure`. Each scorer turns it into one
`Cell`. All form a `Row`. Rows are summarized as `Metric`s, gates turn these into `GateResult`s. Times are seconds,
costs US dollars, shares in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias, runtime_checkable

from evalrunner.verdicts import GateKind, Verdict, gate_exit_code

Message: TypeAlias = Mapping[str, Any]
"""One chat message in the format of OpenAI's API: at least `role` and `content`."""

FailureKind: TypeAlias = Literal[
    "timeout", "rate_limit", "auth", "bad_request", "context_length", "server", "connection", "malformed",
    "function",  # user-defined code raised an exception
    "missing",  # a recorded output was not found
]  # fmt: skip
FinishReason: TypeAlias = Literal["stop", "length", "filtered", "refused", "empty", "tool_calls"]
State: TypeAlias = Literal["scored", "skipped", "unscored", "error"]
NoAnswer: TypeAlias = Literal["unscored", "zero"]
UnscoredCause: TypeAlias = Literal[
    "no_answer",  # the model gave no usable answer: refused, filtered, truncated or empty
    "judge",  # the judge's reply could not be read
    "judge_check",  # the judge failed its sanity check on known answers
]
Cause: TypeAlias = UnscoredCause | FailureKind
"""Why a cell has no score: of an unscored cell what was missing, of an error the kind of its failure."""
RequestKind: TypeAlias = Literal["chat", "embed", "moderate"]

ENDED: Final = ("stop", "tool_calls")  # the finish reasons of a complete answer
TOO_FEW_VALUES: Final = "from so few values"  # ends the note of an interval with an open end


class _Empty(dict[str, Any]):
    """An immutable empty mapping: hashable, so it can be a default, and a dict, so json can write it."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("this mapping is immutable")

    def __hash__(self) -> int:  # type: ignore[override]
        return 0


EMPTY: Mapping[str, Any] = _Empty()


@dataclass(frozen=True, slots=True)
class Sample:
    """One input of the dataset.

    `expected` holds every accepted answer as text; it is empty for samples without one. `metadata` maps the names of the
    source columns to their values. `index` is the position in the selected order, from 0. `checks` is what the row itself
    asks of an answer, as plain data; None for rows without checks.
    """

    id: str
    input: Any
    expected: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = EMPTY
    messages: tuple[Message, ...] | None = None
    index: int = 0
    checks: Any = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model. `params` are passed through unchanged; `texts` are the inputs of embed and moderate.

    `row` is the name of the requesting row. `stream` requests a streamed answer, which makes the time to the first token
    measurable. Neither enters comparisons: requests that differ in nothing else are equal.
    """

    model: str
    messages: tuple[Message, ...] = ()
    params: Mapping[str, Any] = EMPTY
    tools: tuple[Mapping[str, Any], ...] = ()
    response_format: Mapping[str, Any] | None = None
    epoch: int = 1
    kind: RequestKind = "chat"
    texts: tuple[str, ...] = ()
    row: str | None = field(default=None, compare=False)
    stream: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """The remaining rate limit by the server's headers, and seconds until its reset. None: not reported."""

    requests: int | None = None
    requests_reset_s: float | None = None
    tokens: int | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    `latency_s` is the time of the last attempt only; None if nothing was called. `ttft_s` is the time to the first
    token of a streamed answer. `input_tokens`, `output_tokens` and `cost_usd` are None if unknown, never estimates.
    `messages` are the messages that were sent, filled in by the endpoint or the target. `data` is the result of embed
    and moderate. `rate_limit` is the remaining rate limit of the server; `cached_tokens` is how many input tokens it
    had cached. `reasoning` is what the model thought before the answer: it is kept, and never scored.
    `reasoning_tokens` are the output tokens spent on it. `unknown_finish_reason` is the provider's word where it is
    none of the known ones, "" where a reply states none. `filter_message` is what the filter says, `extracted` what the
    target extracts; `extract_failed`: too slowly. `turns` are those of a conversation, each with `input`, `output` and
    its numbers; the others are sums. `user_calls` are those of a simulated user, in no other number.
    """

    text: str
    finish_reason: FinishReason = "stop"
    latency_s: float | None = None
    ttft_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    served_model: str | None = None
    cached: bool = False
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    data: Any = None
    messages: tuple[Message, ...] | None = None
    rate_limit: RateLimitStatus | None = None
    cached_tokens: int | None = None
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    unknown_finish_reason: str | None = None
    filter_message: str | None = None
    extracted: str | None = None
    extract_problem: str | None = None
    extract_failed: bool = False
    turns: tuple[Mapping[str, Any], ...] = ()
    user_calls: tuple[JudgeCall, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether there is a complete text to score: it is not truncated, refused, filtered or blank, and has what `extract` asks for."""
        blank = not self.text or self.text.isspace()
        return not blank and self.extract_problem is None and self.finish_reason in ENDED

    @property
    def output(self) -> str:
        return self.text if self.extracted is None else self.extracted

    @property
    def called_tools(self) -> bool:
        """Whether it is a complete answer that calls tools, with or without text."""
        return bool(self.tool_calls) and self.finish_reason in ENDED

    @property
    def missing_reason(self) -> str:
        """Why there is no text to score: the finish reason, and what the filter says or the length of mere reasoning."""
        reason = self.extract_problem or ("empty" if self.finish_reason == "stop" else self.finish_reason)
        if reason == "filtered" and self.filter_message:
            return f"{reason}: {self.filter_message}"
        if self.reasoning is None or self.text.strip() or reason not in ("empty", "length"):
            return reason
        return f"{reason}: reasoning only, {len(self.reasoning):,} characters"


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without an answer, caused by the infrastructure. It is never scored.

    `fatal` marks permanent failures: a rejected API key, an unknown model, an unknown host. `retry_after_s` is the wait
    that the server requested. `overloaded`: this process had too many requests in flight, so fewer are sent. `no_tools`:
    the server says that it knows no tools, or that none can be forced; `no_format`: that it knows no structured output, or
    not this schema. `of_user`: the simulated user failed, which says nothing about the target.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after_s: float | None = None
    fatal: bool = False
    messages: tuple[Message, ...] | None = None
    rate_limit: RateLimitStatus | None = None
    overloaded: bool = False
    no_tools: bool = False
    no_format: bool = False
    of_user: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a scorer: a finite number, an optional explanation, and optional metadata stored with it.

    `parts` are further results of a scorer that declares parts: for each name a number, a bool, None or an `Outcome`.
    """

    value: float
    explanation: str | None = None
    metadata: Mapping[str, Any] = EMPTY
    parts: Mapping[str, Any] = EMPTY


@dataclass(frozen=True, slots=True)
class Skipped:
    """The scorer does not apply to this sample, for example because it has no expected answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unscored:
    """No usable value: the model did not answer (`no_answer`), or the judge gave no usable verdict (`judge`)."""

    cause: UnscoredCause
    reason: str


Outcome: TypeAlias = Score | Skipped | Unscored | Failure


@dataclass(frozen=True, slots=True)
class Parts:
    """The result of a scorer whose parts have results although its own, `main`, is no score; `metadata` as in `Score`."""

    main: Skipped | Unscored | Failure
    parts: Mapping[str, Any] = EMPTY
    metadata: Mapping[str, Any] = EMPTY


@dataclass(frozen=True, slots=True)
class JudgeCall:
    """Latency, tokens and cost of one judge call; None for a cached answer."""

    model: str
    latency_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    cached: bool = False


def cell_message(cause: Cause | None, reason: str | None) -> str | None:
    """A reason with its cause in front. For people only: code reads the cause."""
    if cause is None:
        return reason
    family = "judge sanity check" if cause == "judge_check" else cause
    return f"{family}: {reason}" if reason is not None else family


@dataclass(frozen=True, slots=True)
class Cell:
    """One scorer's result in a row: a finite `value` in state scored, else None with the `cause` and the `reason`.

    A cell that is scored only because of `on_no_answer: zero` keeps the cause `no_answer`. `cause` is None for skipped
    cells, and for values that a provider did not report.
    """

    state: State
    value: float | None = None
    reason: str | None = None
    detail: Mapping[str, Any] | None = None
    calls: tuple[JudgeCall, ...] = ()
    cause: Cause | None = None

    @classmethod
    def of_failure(cls, failure: Failure, calls: tuple[JudgeCall, ...] = ()) -> Cell:
        return cls("error", reason=failure.message, calls=calls, cause=failure.kind)

    @property
    def message(self) -> str | None:
        """The reason with its cause in front, for people: `timeout: no reply within 60 s`. None where there is neither."""
        return cell_message(self.cause, self.reason)


@dataclass(frozen=True, slots=True)
class Row:
    """One sample × target × epoch (from 1), with the answer and a cell per scorer."""

    sample: Sample
    target: str
    epoch: int
    answer: Completion | Failure
    cells: Mapping[str, Cell]
    attempt: int = 1


def row_name(sample_id: str, target: str, epoch: int) -> str:
    """The name of a row in requests: `q1/gateway/2`."""
    return f"{sample_id}/{target}/{epoch}"


@dataclass(frozen=True, slots=True)
class CalibrationExample:
    """A question with a known verdict, for checking a judge before its first use.

    `value`, if known, is the score that is right, within `tolerance`; without it any score on the right side of the middle
    is. `metadata` are columns of the question.
    """

    input: str
    expected: str
    output: str
    good: bool
    value: float | None = None
    tolerance: float = 0.0
    metadata: Mapping[str, Any] = EMPTY


@dataclass(frozen=True, slots=True)
class Votes:
    """How often each judge of a scorer is asked about an answer, and how the votes are combined.

    `rule` None: the majority of scores that are 0 or 1, the mean of others.
    """

    samples: int = 1
    rule: Literal["majority", "mean"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The properties of a scorer's scores.

    `low` and `high` bound the range; None is unbounded. `binary`: every score is 0 or 1. `inline`: cheap enough for the
    event loop. `takes_tool_calls`: an answer of tool calls without text is scored too. `infer_binary`: scores that are all
    0 or 1 are treated as binary. `threshold`: the lowest score that counts in the `ratio` aggregate. `passes`: the score
    from which a check by this scorer passes, up to which if lower is better; None if the check has to say so, unless the
    scores are binary. `headline`: the aggregate that the scorer's name alone refers to in a gate. `backend` names the
    method of scorers with several.

    `parts` are further results, each a metric `SCORER/PART` of its own, or `PART` where the part's declaration is `bare`.
    A part has the version and the backend of its scorer, and gets its cell where the scorer is not called.
    """

    low: float | None = 0.0
    high: float | None = 1.0
    higher_is_better: bool = True
    unit: str | None = None
    version: str | None = "v1"
    binary: bool = False
    needs_answer: bool = True
    takes_tool_calls: bool = False
    needs_expected: bool = False
    aggregates: tuple[str, ...] = ("mean",)
    headline: str = "mean"
    threshold: float | None = None
    passes: float | None = None
    inline: bool = False
    infer_binary: bool = False
    backend: str | None = None
    parts: Mapping[str, Declaration] = EMPTY
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Scorer:
    """The result of a scorer factory: a function and its declaration.

    The function names its parameters from `output` (text), `input`, `expected` (text, a tuple of several accepted
    answers, or None), `sample`, `completion`, and `judge` (a `Judge`) or `model` (a `Model`). It returns a number or
    bool, None (skipped), an `Outcome` or `Parts`. It may be async. `calibration` is the scorer that the judge scores
    the examples with, if not this one: judges of scorers with the same one are checked together. `votes` are those of
    its judges.
    """

    function: Callable[..., Any]
    declaration: Declaration = field(default_factory=Declaration)
    calibration_examples: tuple[CalibrationExample, ...] = ()
    calibration: Scorer | None = None
    votes: Votes = Votes()


@dataclass(frozen=True, slots=True)
class Metric:
    """A number over samples, with its confidence interval and the four counts. None: not available.

    `n` counts the samples behind the number. `scored`, `skipped`, `unscored` and `errors` count answers (sample × epoch):
    with one epoch `scored` is `n`. `detail` holds the value under the other setting of `on_no_answer`, the reasons of
    unscored rows, and the backend.
    """

    name: str
    scorer: str
    aggregate: str
    value: float | None
    n: int
    scored: int = 0
    skipped: int = 0
    unscored: int = 0
    errors: int = 0
    version: str | None = None
    reducer: str = "mean"
    slice: Mapping[str, str] | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str | None = None
    n_effective: float | None = None
    unit: str | None = None
    higher_is_better: bool = True
    trusted: bool = True
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochVariance:
    """How the scores of a scorer vary between samples and, from epoch to epoch, within them.

    `between` and `within` are the variances of one answer's score. `flaky` counts the samples whose epochs differ by half
    of the scores' range or more; `flaky_samples` are the ids of the first 50, most variable first. `error` is the
    standard error of the mean; the others are what it would be after `calls` more calls, spent on new samples with as
    many epochs, or on more epochs of the same samples.
    """

    scorer: str
    samples: int
    epochs: int
    between: float
    within: float
    flaky: int
    flaky_samples: tuple[str, ...]
    calls: int
    error: float
    error_with_samples: float
    error_with_epochs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """A gate's metric compared with its baseline over paired samples, in the metric's unit.

    `drop` is how much worse the candidate is (negative: better), `low` and `high` its 90% CI; the upper end is the
    largest drop that the data does not rule out. `n` counts pairs, `excluded` the samples that changed or exist on one
    side only, `missing` the pairs without a score on one side, `coverage` is the share of the baseline's samples that
    could be compared. `differs` names the compared parts (prompt, params, model). `run_id` is the run that was accepted
    as the baseline. `worse` and `better` count the pairs whose score changed, None in runs before they were counted.
    """

    name: str
    origin: str | None
    value: float | None
    drop: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    excluded: int = 0
    missing: int = 0
    coverage: float = 1.0
    p_value: float | None = None
    method: str | None = None
    origin_drop: float | None = None
    differs: tuple[str, ...] = ()
    run_id: str | None = None
    worse: int | None = None
    better: int | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict for one target: the value, the bound, and the reason. `line` is its line in the suite.

    `low` and `high` are the 95% CI for display; `gate_low` and `gate_high` the one-sided bounds at `confidence` that
    decided. `samples_to_decide` is how many samples an inconclusive gate needs to decide with a probability of 50% and
    of 80%; None if no practical number is enough. `blocks`: whether an inconclusive verdict or a missing baseline
    changes the exit code. `details` are further facts behind the reason.
    """

    gate: str
    target: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    bound: float
    verdict: Verdict
    reason: str
    line: int | None = None
    kind: GateKind = "point"
    confidence: float | None = None
    gate_low: float | None = None
    gate_high: float | None = None
    samples_to_decide: tuple[int, int] | None = None
    baseline: BaselineResult | None = None
    blocks: bool = True
    slice: Mapping[str, str] | None = None
    details: tuple[str, ...] = ()

    @property
    def is_close(self) -> bool:
        """Whether the bound of a point gate is inside the 95% CI, so that the verdict is not conclusive."""
        return (
            self.kind == "point"
            and self.low is not None
            and self.high is not None
            and self.low < self.bound < self.high
        )

    @property
    def full_reason(self) -> str:
        """The reason with all details: `8.1 points worse (…); allowed 5; 3 samples excluded (3 new)`."""
        return "; ".join((self.reason, *self.details))

    @property
    def exit_code(self) -> int:
        """The exit code that this gate asks for."""
        return gate_exit_code(self.verdict, blocks=self.blocks)


class Endpoint(Protocol):
    """Answers a request to a model. Never raises for a failure that a provider can cause."""

    async def __call__(self, request: Request, /) -> Completion | Failure: ...


class Target(Protocol):
    """The system under test."""

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure: ...


class Judge(Protocol):
    """A model that a scorer may ask; latency, tokens and cost are stored in the cell."""

    @property
    def model(self) -> str: ...

    async def ask(
        self,
        messages: Sequence[Message],
        *,
        params: Mapping[str, Any] = EMPTY,
        tools: Sequence[Mapping[str, Any]] = (),
        response_format: Mapping[str, Any] | None = None,
    ) -> Completion | Failure: ...


class Model(Protocol):
    """A model that a scorer may ask for embeddings or moderation; latency, tokens and cost are stored in the cell."""

    @property
    def model(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]] | Failure:
        """One vector for each text, in their order. Equal texts are sent once in a run."""

    async def moderate(self, texts: Sequence[str]) -> Sequence[Mapping[str, Any]] | Failure:
        """`{"flagged", "categories", "category_scores"}` for each text, in their order."""


@runtime_checkable
class Reporter(Protocol):
    """Receives a run: `on_start` before the first call, `on_row` for each row once it is on disk, `on_end` at the end.

    `run` is a `RunView` (`evalrunner.reports.view`): at the start without metrics and verdict, at the end with them.
    """

    def on_start(self, run: Any, /) -> None: ...

    def on_row(self, row: Row, /) -> None: ...

    def on_end(self, run: Any, /) -> None: ...
