"""Estimate a plan before it runs: calls, cache hits, prompt tokens, cost. Nothing is called.

Tokens are estimated from bytes. The low end of a cost is the estimated prompt and one output token for each call; the
high end is what a cost cap would reserve, so a run with a cap of at least that much is not stopped by it. The prompts of
a judge depend on answers that do not exist yet: its low end assumes answers as long as the expected ones, its high end
answers as long as the target may write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from evalrunner.domain import Completion, Endpoint, Failure, Message, Request, Sample
from evalrunner.endpoints.pricing import FREE, UNKNOWN, KnownPrice, completion_token_limit, worst_case
from evalrunner.engine.judge import JudgeRole, JudgeSession, RecordingJudge
from evalrunner.engine.plan import Plan, PlannedTarget
from evalrunner.engine.row_checks import RowChecks
from evalrunner.middleware.budget import Side
from evalrunner.middleware.rate_limit import BYTES_PER_TOKEN
from evalrunner.prompts import PromptedTarget, read_turns
from evalrunner.scorers.call import BoundScorer, outcome_async
from evalrunner.scorers.judge_calibration import check_stages, example_sample
from evalrunner.storage import dict_or_text
from evalrunner.targets.conversation import Conversation
from evalrunner.targets.recorded import RecordedColumn, RecordedRun
from evalrunner.targets.simulated_user import LABEL, SimulatedUser

IsCached: TypeAlias = Callable[[Endpoint, Request], bool]
"""Whether the answer of an endpoint to a request is in the cache."""


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """The prices of models: of targets by their name, of judges by the name of their scorer, of the simulated user."""

    targets: Mapping[str, KnownPrice] = field(default_factory=dict)
    judges: Mapping[str, KnownPrice] = field(default_factory=dict)
    users: Mapping[str, KnownPrice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of one target or judge. `name` is that of the target or scorer; `model` is None if none is called.

    `calls` includes the `checks` of the first stage of the sanity check; `second_checks` are those of its second stage,
    or the further turns of a conversation with a simulated user, which may follow. `cached` counts the cached ones of all of them; of a judge only the sanity check can be cached.
    `prompt_tokens` are those of `calls` that are not cached. `high_usd` includes the second stage; it is None if it is
    not bounded, both are None if the price is unknown.
    """

    side: Side
    name: str
    model: str | None
    calls: int
    checks: int
    cached: int
    prompt_tokens: int
    low_usd: float | None
    high_usd: float | None
    price: KnownPrice
    second_checks: int = 0
    role: JudgeRole = "judge"


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of the estimates of a side, None if one of them has no such number."""

    low_usd: float | None
    high_usd: float | None


async def estimate(plan: Plan, prices: ModelPrices, *, is_cached: IsCached | None = None) -> tuple[Estimate, ...]:
    """The estimate of each target and judge of a plan, in one pass over the samples."""
    cached = is_cached or (lambda endpoint, request: False)
    targets = [_TargetCount(target, prices.targets.get(target.name, UNKNOWN), cached) for target in plan.targets]
    judges = [
        await _count_class(scorer.bound, session).of(
            scorer.bound, session, scorer.panel.samples, prices.judges.get(session.label, UNKNOWN)
        )
        for scorer in plan.scorers
        if scorer.panel is not None
        for session in scorer.sessions
    ]
    users = _user_counts(plan, prices)
    epochs = plan.suite.run.epochs
    for sample in plan.dataset:
        for user in users:
            user.add(sample, epochs)
        for target in targets:
            target.add(sample, epochs)
            length = await target.answer_bytes(sample) if judges else (0, 0)
            for judge in judges if length is not None else ():
                await judge.count(sample, length or (0, 0), epochs)
    others = (user.estimate() for user in users)
    return (*(target.estimate() for target in targets), *others, *_judge_estimates(judges, cached))


def _user_counts(plan: Plan, prices: ModelPrices) -> list[UserCount]:
    """The count of the simulated user, if there is one."""
    calls = [target.call for target in plan.targets if isinstance(target.call, Conversation)]
    if not calls or calls[0].user is None:
        return []
    return [UserCount(calls[0], calls[0].user, len(calls), prices.users.get(LABEL, UNKNOWN))]


def _count_class(bound: BoundScorer, session: JudgeSession) -> type[_JudgeCount]:
    function: object = bound.scorer.function
    if isinstance(function, RowChecks):
        return _CheckCount
    return _ModelCount if session.role == "model" else _JudgeCount


def _judge_estimates(judges: Iterable[_JudgeCount], is_cached: IsCached) -> Iterator[Estimate]:
    """The estimates of the judges; a sanity check that several share counts for the first that is asked."""
    counted = set[int]()
    for judge in judges:
        yield judge.estimate(is_cached, with_check=id(judge.session.sanity) not in counted)
        if judge.rows:
            counted.add(id(judge.session.sanity))


def total_of(estimates: Iterable[Estimate], side: Side) -> Total:
    """The sum of one side."""
    chosen = [item for item in estimates if item.side == side]
    lows, highs = [item.low_usd for item in chosen], [item.high_usd for item in chosen]
    return Total(
        None if None in lows else sum(low for low in lows if low is not None),
        None if None in highs else sum(high for high in highs if high is not None),
    )


@dataclass(slots=True)
class _Money:
    """The cost of calls at a price."""

    price: KnownPrice
    tokens: float = 0.0
    calls: int = 0
    high: float | None = 0.0

    def add(self, tokens: float, highest: float | None, times: int = 1, *, surely: bool = True) -> None:
        """Add `times` calls with a prompt of `tokens`, each at a cost of `highest` or less. Calls that are not made
        `surely` add to the high end only.
        """
        self.tokens += tokens * times if surely else 0.0
        self.calls += times if surely else 0
        self.high = None if self.high is None or (highest is None and times) else self.high + (highest or 0.0) * times

    def ends(self) -> tuple[float | None, float | None]:
        price = self.price.price
        if price is None:
            return None, None
        return self.tokens * price.input_usd_per_token + self.calls * price.output_usd_per_token, self.high


class _TargetCount:
    """The calls of one target, counted sample by sample."""

    def __init__(self, target: PlannedTarget, price: KnownPrice, is_cached: IsCached) -> None:
        self.target = target
        self.turns = target.call.turns if isinstance(target.call, Conversation) else None
        self.user = target.call.user if isinstance(target.call, Conversation) else None
        call = target.call.target if isinstance(target.call, Conversation) else target.call
        self.call = call if isinstance(call, PromptedTarget) else None
        self.price = price if self.call is not None else KnownPrice(FREE, "free")
        self.money = _Money(self.price)
        self.is_cached = is_cached
        self.calls = self.cached = self.more = 0

    def add(self, sample: Sample, epochs: int) -> None:
        turns = read_turns(sample, self.turns) if self.turns is not None else ()
        most = max(1, len(turns))
        self.calls += epochs * most
        if self.user is not None:
            self.more += epochs * (self.user.max_turns - most)
        if self.call is None:
            return
        if turns or self.user is not None:  # later prompts hold answers, whose length is not known
            self.money.add(sum(map(_size, turns)) / BYTES_PER_TOKEN, None, epochs)
            self.money.add(0, None, epochs * (most - 1))
            return
        messages = self.call.prompt.render(sample)
        requests = [Request(self.call.model, messages, self.call.params, epoch=epoch) for epoch in range(1, epochs + 1)]
        cached = sum(self.is_cached(self.call.endpoint, request) for request in requests)
        self.cached += cached
        highest = None if self.price.price is None else worst_case(requests[0], self.price.price)
        self.money.add(text_bytes(messages) / BYTES_PER_TOKEN, highest, epochs - cached)

    async def answer_bytes(self, sample: Sample) -> tuple[int, int | None] | None:
        """Bytes of the answer: as long as the expected ones, and the limit of the target, None if there is no limit.

        None if it is known that there will be no answer.
        """
        if isinstance(self.target.call, RecordedColumn | RecordedRun):
            answer = await self.target.call(sample, 1)
            if not isinstance(answer, Completion) or not answer.answered:
                return None
            return _size(answer.text), _size(answer.text)
        short = max((_size(text) for text in sample.expected), default=0)
        limit = None if self.call is None else completion_token_limit(self.call.params, self.price.price or FREE)
        return short, None if limit is None else limit * BYTES_PER_TOKEN

    def estimate(self) -> Estimate:
        model = self.target.model if self.call is not None else None
        tokens = round(self.money.tokens)
        return Estimate(
            "targets", self.target.name, model, self.calls, 0, self.cached, tokens, *self.money.ends(), self.price,
            self.more,
        )  # fmt: skip


@dataclass(slots=True)
class UserCount:
    """The calls of the simulated user, who speaks to each of `targets` targets. The first message is the same for all."""

    conversation: Conversation
    user: SimulatedUser
    targets: int
    price: KnownPrice
    calls: int = 0
    more: int = 0
    tokens: float = 0.0

    def add(self, sample: Sample, epochs: int) -> None:
        """Add the fewest and the most messages of a sample, and the decisions whether its conversations have ended."""
        script = self.conversation.scripted(sample)
        free = self.user.max_turns - len(script)
        least = 0 if script or not free else 1
        decided = self.user.max_turns - max(1, len(script)) if self.user.script.condition is not None else 0
        self.calls += epochs * least
        self.more += epochs * (self.targets * (free + decided) - least)
        row = self.user.for_row(sample, 1, "")
        self.tokens += epochs * least * text_bytes(row.opening()) / BYTES_PER_TOKEN

    def estimate(self) -> Estimate:
        """The calls of all samples. The cost has no upper end: later requests hold answers."""
        price = self.price.price
        low = None if price is None else (
            self.tokens * price.input_usd_per_token + self.calls * price.output_usd_per_token
        )  # fmt: skip
        high = 0.0 if price is not None and price.free else None
        return Estimate(
            "users", LABEL, self.user.name, self.calls, 0, 0, round(self.tokens), low, high, self.price, self.more,
            role="user",
        )  # fmt: skip


class _JudgeCount:
    """The calls of one judge. How much its scorer writes around a row is measured on a known request: the first of the
    sanity check, or else the one about the example of the scorer.
    """

    def __init__(
        self,
        bound: BoundScorer,
        session: JudgeSession,
        samples: int,
        price: KnownPrice,
        checks: list[list[Request]],
        first: Request,
        around: int,
    ) -> None:
        self.bound, self.session, self.samples, self.price = bound, session, samples, price
        self.checks = checks if session.mode != "off" else []
        self.first = first
        self.around = around  # bytes of a request besides those about the row
        self.money = _Money(price)
        self.rows = 0
        self.calls_per_row: int = getattr(bound.scorer.function, "calls_per_row", 1)

    @classmethod
    async def of(cls, bound: BoundScorer, session: JudgeSession, samples: int, price: KnownPrice) -> _JudgeCount:
        """The count of the judge of a scorer before the first row."""
        checks = await sanity_check_requests(session)
        example = getattr(bound.scorer.function, "example", None)
        if checks and checks[0] and session.sanity.bound is bound:
            first, example = checks[0][0], _example(bound)
        elif example is not None and (requests := await _requests(bound, session, *example)):
            first = requests[0]
        else:
            return cls(bound, session, samples, price, checks, Request(session.model, (), session.params), 0)
        sample, output = example
        about = sum(_size(text) for text in (str(sample.input), *sample.expected, output))
        around = text_bytes(first.messages) + _json_bytes(first.tools) - about
        return cls(bound, session, samples, price, checks, first, max(0, around))

    async def count(self, sample: Sample, answer: tuple[int, int | None], times: int) -> None:
        """As `add`."""
        self.add(sample, answer, times)

    def add(self, sample: Sample, answer: tuple[int, int | None], times: int) -> None:
        """Add a sample that is judged `times` times; `answer` is the least and the most bytes of its answer."""
        if self.bound.scorer.declaration.needs_expected and not sample.expected:
            return
        times *= self.calls_per_row * self.samples
        self.rows += times
        text = sample.input if isinstance(sample.input, str) else json.dumps(sample.input, default=str)
        row_bytes = _size(text) + sum(_size(accepted) for accepted in sample.expected)
        max_bytes = None if answer[1] is None else row_bytes + answer[1]
        self.money.add((self.around + row_bytes + answer[0]) / BYTES_PER_TOKEN, self._most(max_bytes), times)

    def _most(self, row_bytes: int | None) -> float | None:
        """The highest cost of a request about a row with that many bytes."""
        price = self.price.price
        if price is None or price.free:
            return None if price is None else 0.0
        highest = worst_case(self.first, price)
        if highest is None or row_bytes is None:
            return None
        return highest + row_bytes * (price.max_rates or (price.input_usd_per_token,))[0]

    def estimate(self, is_cached: IsCached, *, with_check: bool = True) -> Estimate:
        examples = self.session.sanity.bound.scorer.calibration_examples
        first, *later = check_stages(examples) if self.rows and self.checks and with_check else [()]
        second = [place for stage in later for place in stage]
        cached = 0
        for place in (*first, *second):
            for request in self.checks[place]:
                hit = is_cached(self.session.endpoint, request)
                cached += hit
                highest = None if self.price.price is None else worst_case(request, self.price.price)
                tokens = (text_bytes(request.messages) + _json_bytes(request.tools)) / BYTES_PER_TOKEN
                self.money.add(tokens, highest, 0 if hit else 1, surely=place in first)
        checks, more = (sum(len(self.checks[place]) for place in places) for places in (first, second))
        return Estimate(
            "judges", self.session.label, self.session.name, self.rows + checks, checks, cached,
            round(self.money.tokens), *self.money.ends(), self.price, more,
        )  # fmt: skip


class _ModelCount(_JudgeCount):
    """The calls of a model that embeds or moderates: one for each answer, and one for each accepted answer that its
    scorer compares, in every epoch only once. Texts that are equal are sent once, which is not known before.
    """

    @classmethod
    async def of(cls, bound: BoundScorer, session: JudgeSession, samples: int, price: KnownPrice) -> _JudgeCount:
        return cls(bound, session, samples, price, [], Request(session.model, params=session.params, kind="embed"), 0)

    def add(self, sample: Sample, answer: tuple[int, int | None], times: int) -> None:
        """Add a sample with `times` answers of the least and the most bytes of `answer`."""
        if self.bound.scorer.declaration.needs_expected and not sample.expected:
            return
        compared = set(sample.expected) if self.bound.scorer.declaration.needs_expected else ()
        self.rows += times + len(compared)
        self.money.add(answer[0] / BYTES_PER_TOKEN, self._most(answer[1]), times)
        for text in compared:
            self.money.add(_size(text) / BYTES_PER_TOKEN, self._most(_size(text)))

    def estimate(self, is_cached: IsCached, *, with_check: bool = True) -> Estimate:
        name = self.session.label
        tokens, ends = round(self.money.tokens), self.money.ends()
        return Estimate("judges", name, self.session.name, self.rows, 0, 0, tokens, *ends, self.price, role="model")


class _CheckCount(_JudgeCount):
    """The calls of one judge for the checks of rows: those that ask it, each measured on its own request."""

    async def count(self, sample: Sample, answer: tuple[int, int | None], times: int) -> None:
        """Add the checks of a sample with `times` answers of the least and the most bytes of `answer`."""
        function: object = self.bound.scorer.function
        assert isinstance(function, RowChecks)  # `_count_class` has asked
        for ready in function.judged(sample):
            if ready.judge is None or all(one.label != self.session.label for one in ready.judge.sessions):
                continue
            if ready.bound.scorer.declaration.needs_expected and not sample.expected:
                continue
            votes = times * ready.judge.samples
            for request in await _requests(ready.bound, self.session, sample, "-" * answer[0]):
                self.first, self.rows = request, self.rows + votes
                most = None if answer[1] is None else answer[1] - answer[0]
                sent = text_bytes(request.messages) + _json_bytes(request.tools)
                self.money.add(sent / BYTES_PER_TOKEN, self._most(most), votes)


async def sanity_check_requests(session: JudgeSession) -> list[list[Request]]:
    """The requests of the sanity check by example. No model is called; a scorer without a sanity check is not called."""
    bound = session.sanity.bound
    pairs = enumerate(bound.scorer.calibration_examples)
    return [await _requests(bound, session, example_sample(place, pair), pair.output) for place, pair in pairs]


def _example(bound: BoundScorer) -> tuple[Sample, str]:
    pair = bound.scorer.calibration_examples[0]
    return example_sample(0, pair), pair.output


async def _requests(bound: BoundScorer, session: JudgeSession, sample: Sample, output: str) -> list[Request]:
    """The requests of a scorer to its judge about an answer. No model is called."""
    requests: list[Request] = []

    async def record(request: Request, /) -> Completion | Failure:
        requests.append(request)
        return Failure("connection", "this is a plan; no model is called", fatal=True)

    await outcome_async(bound, sample, Completion(output), RecordingJudge(record, session.model, session.params))
    return requests


def text_bytes(messages: Iterable[Message]) -> int:
    """Bytes of the texts in messages. Images, audio and files are not counted: what they cost depends on the model."""
    return sum(_content_bytes(message.get("content")) for message in messages)


def _content_bytes(content: Any) -> int:
    if isinstance(content, str):
        return _size(content)
    if not isinstance(content, list | tuple):
        return _json_bytes(content)
    texts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return sum(_size(text) for text in texts if isinstance(text, str))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, default=dict_or_text)) if value else 0
