"""Models that scorers ask for embeddings and moderation: each text is sent once in a run, and every call is recorded."""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalrunner.domain import Completion, Failure, JudgeCall, Request
from evalrunner.engine.judge import JudgeRole, JudgeSession, RecordingJudge
from evalrunner.middleware.deadline import pause_deadline

MAX_NUMBERS = 2_000_000  # of the vectors in memory, 8 bytes each: about 1,300 vectors of 1,536 numbers
MAX_VERDICTS = 10_000  # of moderation, in memory

Kind = Literal["embed", "moderate"]


@dataclass(frozen=True, slots=True)
class TextResult:
    """What a model said about one text: its vector or its verdict, with the call that was paid for."""

    value: Any
    call: JudgeCall

    @property
    def size(self) -> int:
        """Its share of the memory, of MAX_NUMBERS."""
        return len(self.value) if isinstance(self.value, array) else MAX_NUMBERS // MAX_VERDICTS


@dataclass(slots=True)
class TextMemory:
    """The results of a run by kind and text, the latest ones first to stay; equal texts in flight are sent once.

    What has left the memory comes from the cache of answers, unless that is off.
    """

    limit: int = MAX_NUMBERS
    size: int = 0
    results: OrderedDict[tuple[Kind, str], TextResult] = field(default_factory=OrderedDict)
    in_flight: dict[tuple[Kind, str], asyncio.Future[TextResult | None]] = field(default_factory=dict)

    def get(self, key: tuple[Kind, str]) -> TextResult | None:
        """The result of a text, None if it has none or no longer."""
        if key in self.results:
            self.results.move_to_end(key)
        return self.results.get(key)

    def put(self, key: tuple[Kind, str], result: TextResult) -> None:
        """Keep a result, and drop the ones that were not used for longest."""
        self.results[key] = result
        self.size += result.size
        while self.size > self.limit and len(self.results) > 1:
            self.size -= self.results.popitem(last=False)[1].size


@dataclass(slots=True)
class RecordingModel:
    """The model of one cell. `calls` records the tokens, cost and latency of each text, also of a cached one."""

    session: ModelSession
    row: str = ""
    calls: list[JudgeCall] = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.session.model

    async def embed(self, texts: Sequence[str]) -> list[Sequence[float]] | Failure:
        """One vector for each text, or the first failure."""
        return await self._ask("embed", texts)

    async def moderate(self, texts: Sequence[str]) -> list[Mapping[str, Any]] | Failure:
        """The verdict on each text, or the first failure."""
        return await self._ask("moderate", texts)

    async def _ask(self, kind: Kind, texts: Sequence[str]) -> list[Any] | Failure:
        distinct = list(dict.fromkeys(texts))
        results = await asyncio.gather(*[self.session.result_of(kind, text, self.row) for text in distinct])
        found = dict(zip(distinct, results, strict=True))
        self.calls += [result.call for result in results if isinstance(result, TextResult)]
        values = []
        for text in texts:
            if isinstance(result := found[text], Failure):
                return result
            values.append(result.value)
        return values


@dataclass(slots=True)
class ModelSession(JudgeSession):
    """The model of one scorer during a run: it has no sanity check, and remembers what it said about each text.

    A request has one text, so that the cache of answers finds it again in whatever order the rows come.
    """

    memory: TextMemory = field(default_factory=TextMemory)
    role: JudgeRole = "model"

    def for_row(self, row: str = "", sample: int = 1) -> RecordingJudge:
        """The model for one cell of a row; it takes the place of a judge, but answers no chat."""
        return RecordingModel(self, f"{row}/{self.bound.name}")  # type: ignore[return-value]

    async def result_of(self, kind: Kind, text: str, row: str) -> TextResult | Failure:
        """What the model says about a text: from memory, from an equal text in flight, or from a call."""
        key = (kind, text)
        while True:
            if (known := self.memory.get(key)) is not None:
                return as_cached(known)
            if (leader := self.memory.in_flight.get(key)) is None:
                return await self._call(key, row)
            with pause_deadline():
                result = await asyncio.shield(leader)  # canceling one row that waits leaves it to the others
            if result is not None:
                return as_cached(result)

    async def _call(self, key: tuple[Kind, str], row: str) -> TextResult | Failure:
        kind, text = key
        leader: asyncio.Future[TextResult | None] = asyncio.get_running_loop().create_future()
        self.memory.in_flight[key] = leader
        result: TextResult | None = None
        params = {name: value for name, value in self.params.items() if value is not None}
        try:
            answer = await self._call_endpoint(Request(self.model, params=params, kind=kind, texts=(text,), row=row))
            if isinstance(answer, Failure):
                return answer
            read = result_from(kind, answer, self.model)
            if isinstance(read, TextResult):
                self.memory.put(key, result := read)
            return read
        finally:
            del self.memory.in_flight[key]
            leader.set_result(result)


def result_from(kind: Kind, answer: Completion, model: str) -> TextResult | Failure:
    """The result for the one text of a request. A provider's filter that answers in place of the model is a failure."""
    if not isinstance(answer.data, list) or len(answer.data) != 1:
        return Failure("bad_request", f"the provider gave no result ({answer.missing_reason})")
    call = JudgeCall(
        answer.served_model or model, answer.latency_s, answer.input_tokens, answer.output_tokens, answer.cost_usd,
        answer.cached,
    )  # fmt: skip
    return TextResult(array("d", answer.data[0]) if kind == "embed" else answer.data[0], call)


def as_cached(result: TextResult) -> TextResult:
    """The result without latency and cost."""
    return replace(result, call=replace(result.call, latency_s=None, cost_usd=0.0, cached=True))
