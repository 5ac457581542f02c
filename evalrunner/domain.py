"""The nouns of an evaluation, frozen, and the protocols between the parts.

A row's way: a `Sample` goes to a `Target`, which answers with a `Completion` or a `Failure`; each scorer
makes one `Cell` of it; the whole is a `Row`; rows become `Metric`s. Times are seconds, money is US dollars,
shares are in 0..1. Nothing here imports another module of evalrun.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from evalrunner.verdicts import GateKind, Verdict, gate_exit_code


class _Empty(dict[str, Any]):
    """The mapping with nothing in it: hashable, so it can be a default, and a dict, so json takes it."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("this mapping stays empty")

    def __hash__(self) -> int:  # type: ignore[override]
        return 0


EMPTY: Mapping[str, Any] = _Empty()

Message: TypeAlias = Mapping[str, Any]
"""One chat message as OpenAI's API has it: at least `role` and `content`."""

FailureKind: TypeAlias = Literal[
    "timeout", "rate_limit", "auth", "bad_request", "context_length", "server", "connection", "malformed",
    "function",  # code named by the suite raised
    "missing",  # a recorded answer that is not there
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


@dataclass(frozen=True, slots=True)
class Sample:
    """One input of the dataset.

    `expected` holds every accepted answer, as text, and is empty where there is none. `metadata` holds the
    source columns under their own names. `index` is the place in the selected order, from 0.
    """

    id: str
    input: Any
    expected: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = EMPTY
    messages: tuple[Message, ...] | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model. `params` are passed through as they are; `texts` are what embed and moderate take.

    `row` names the row that asks, and `stream` wants the answer in pieces as they are made, which tells the time to
    the first one. Neither is part of what is asked: requests that differ in nothing else are equal.
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
    """What a server's rate headers say is left, and seconds until it is whole again; None where they do not say."""

    requests: int | None = None
    requests_reset_s: float | None = None
    tokens: int | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `latency_s` is the time of the last try alone; None where nothing was called. `ttft_s` of it went
    by until the first piece of the answer came; None where it came at once.

    `input_tokens`, `output_tokens` and `cost_usd` are None where nobody told them, never a guess.
    `messages` is what was sent, filled in by the endpoint or the target. `data` is the reply to embed and moderate. `rate_limit` is
    what the server's headers said is left, for whoever sets the pace; `cached_tokens` of the input were cached there.
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

    @property
    def answered(self) -> bool:
        """Whether there is a whole text to score: it ended by itself and is not blank."""
        return self.finish_reason in ("stop", "tool_calls") and not (not self.text or self.text.isspace())


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without an answer: the infrastructure's doing, never scored.

    `fatal` marks what asking again will not mend: a refused key, an unknown model, a host that is not there.
    `retry_after_s` is what the server asked us to wait.
    """

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after_s: float | None = None
    fatal: bool = False
    messages: tuple[Message, ...] | None = None
    rate_limit: RateLimitStatus | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Score:
    """What a scorer found: a finite number, why, and anything worth keeping beside it."""

    value: float
    explanation: str | None = None
    metadata: Mapping[str, Any] = EMPTY


@dataclass(frozen=True, slots=True)
class Skipped:
    """The scorer does not apply to this sample, for instance because it has no expected answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unscored:
    """No usable value: the model did not answer (`no_answer`), or the judge gave no usable verdict (`judge`)."""

    cause: UnscoredCause
    reason: str


Outcome: TypeAlias = Score | Skipped | Unscored | Failure


@dataclass(frozen=True, slots=True)
class JudgeCall:
    """What one question to a judge took; nothing where the verdict was kept from before (`cached`)."""

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
    family = "judge" if cause == "judge_check" else cause
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
        """The cell of a call that failed."""
        return cls("error", reason=failure.message, calls=calls, cause=failure.kind)

    @property
    def message(self) -> str | None:
        """The reason with its cause in front, for people: `timeout: no reply within 60 s`. None where there is neither."""
        return cell_message(self.cause, self.reason)


@dataclass(frozen=True, slots=True)
class Row:
    """One sample, asked of one target in one epoch (from 1), with the answer and a cell per scorer."""

    sample: Sample
    target: str
    epoch: int
    answer: Completion | Failure
    cells: Mapping[str, Cell]
    attempt: int = 1


def row_name(sample_id: str, target: str, epoch: int) -> str:
    """What a row is called where it asks somebody: `q1/gateway/2`."""
    return f"{sample_id}/{target}/{epoch}"


@dataclass(frozen=True, slots=True)
class CalibrationExample:
    """A question whose verdict is known, to try a judge on before it is believed."""

    input: str
    expected: str
    output: str
    good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a scorer says of its scores.

    `low` and `high` bound the range, None where it is open. `binary`: 0 or 1 by construction. `inline`: cheap
    enough for the event loop. `threshold`: from where a score counts into the `ratio` aggregate. `headline` is
    the aggregate that the scorer's bare name means in a gate. `backend` names the method where there are several.
    """

    low: float | None = 0.0
    high: float | None = 1.0
    higher_is_better: bool = True
    unit: str | None = None
    version: str | None = "v1"
    binary: bool = False
    needs_answer: bool = True
    needs_expected: bool = False
    aggregates: tuple[str, ...] = ("mean",)
    headline: str = "mean"
    threshold: float | None = None
    inline: bool = False
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class Scorer:
    """What a scorer factory returns: a function and what it declares.

    The function takes by name what it wants of `output` (text), `input`, `expected` (text, or a tuple where
    several are accepted, or None), `sample`, `completion` and, if it asks one, `judge` (a `Judge`). It returns
    a number or bool, None (skipped) or an `Outcome`; it may be async.
    """

    function: Callable[..., Any]
    declaration: Declaration = field(default_factory=Declaration)
    calibration_examples: tuple[CalibrationExample, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A number over samples, with its interval and the four counts. None where there is nothing to say.

    `n` counts the samples that were scored; `skipped`, `unscored` and `errors` the others. `detail` holds the
    other reading of answers that were not given, the reasons, the backend.
    """

    name: str
    scorer: str
    aggregate: str
    value: float | None
    n: int
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
class BaselineResult:
    """How a gate's metric stands against its baseline, over the paired samples, in the metric's own unit.

    `drop` is how much worse the candidate is (negative: better), `low` and `high` its 90 % interval, whose upper end is
    the drop that could still be hidden. `n` pairs; `left_out` samples changed or are on one side only; `missing` pairs
    have no score of the candidate. `differs` names what is being compared (prompt, params, model).
    """

    name: str
    origin: str | None
    value: float | None
    drop: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    left_out: int = 0
    missing: int = 0
    p_value: float | None = None
    method: str | None = None
    origin_drop: float | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict for one target: the number, its bound, and the sentence why. `line` is the suite's.

    `low` and `high` are the 95 % interval for display; `gate_low` and `gate_high` the one-sided bounds at `confidence`
    that decided. `rows_to_decide` is how many rows an inconclusive gate would want, for even odds and for 80 %, None
    where no practical number would do. `blocks`: whether an inconclusive verdict, or a missing baseline, changes the
    exit code.
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
    rows_to_decide: tuple[int, int] | None = None
    baseline: BaselineResult | None = None
    blocks: bool = True
    slice: Mapping[str, str] | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that this gate asks for."""
        return gate_exit_code(self.verdict, blocks=self.blocks)


class Endpoint(Protocol):
    """What answers a request to a model. Never raises for what a provider can cause."""

    async def __call__(self, request: Request, /) -> Completion | Failure: ...


class Target(Protocol):
    """The system under test."""

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure: ...


class Judge(Protocol):
    """An endpoint with a model behind it that a scorer may ask; what it took is kept with the cell."""

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


@runtime_checkable
class ReplayReporter(Protocol):
    """A reporter that also wants the rows that a run had before it was gone on with; they come after the others."""

    def on_replayed_row(self, row: Row, /) -> None: ...


@runtime_checkable
class Reporter(Protocol):
    """Whoever listens to a run. A row is on disk before `on_row` sees it."""

    def on_start(self, plan: Any, folder: Any, /) -> None: ...

    def on_row(self, row: Row, /) -> None: ...

    def on_end(self, result: Any, /) -> None: ...


class SampleValidator(ABC):
    """Knows of a sample, before anything is called, that it cannot be answered or scored."""

    __slots__ = ()

    @abstractmethod
    def check(self, sample: Sample) -> str | None:
        """What is wrong with a sample, or None."""


class Preparable(ABC):
    """Has something slow to do, such as loading a model."""

    __slots__ = ()

    @abstractmethod
    async def prepare(self, tell: Callable[[str], None]) -> None:
        """None, when it is done; `tell` is told of a download. Raises ValueError where it cannot be done."""
