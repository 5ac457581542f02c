"""A client for scorers of autoevals that can only ask the judge of a cell, and the model of its scorer.

Without a client, autoevals calls a gateway of its vendor and sends it the OpenAI key. So each call gets a client of its
own. It is a subclass of autoevals' `LLMClient` that skips its constructor, which imports openai, wraps clients with a
tracer if one is installed, and sends models named `gpt-5…` to another API than the judge speaks.
"""

from __future__ import annotations

import asyncio
import functools
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from evalrunner.domain import Failure, Judge, Outcome, Score, Unscored
from evalrunner.redact import redact_message
from evalrunner.scorers.judge_arguments import read_arguments
from evalrunner.scorers.judge_replies import NoVerdict, Verdict, VerdictFormat, options_in, read_verdict

MAX_REASON_LENGTH = 200  # characters of the reason why a verdict is unreadable
MAX_EXPLANATION_LENGTH = 4_000  # characters of an explanation made of what the judge listed
CHOICE_TOOL = "select_choice"
NOT_AWAITED = r"coroutine '(aextract|aload|AnswerCorrectness|EmbeddingSimilarity|ListContains)\w*.* was never awaited"


class Model(Protocol):
    """A model that a scorer may ask for embeddings or moderation."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]] | Failure: ...

    async def moderate(self, texts: Sequence[str]) -> Sequence[Mapping[str, Any]] | Failure: ...


class EndpointFailed(Exception):
    """The endpoint of the judge or the model failed: carries the failure through autoevals, which retries nothing of this type."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class NoVerdictFound(Exception):
    """The judge's reply has no verdict: carries the reason through autoevals."""

    def __init__(self, verdict: NoVerdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


async def evaluate(scorer: Any, client: Any, values: Mapping[str, Any]) -> Outcome:
    """The score of a scorer that calls `client`; Unscored if a reply of the judge is unreadable.

    A failed call is returned as its Failure.
    """
    try:
        result = await scorer.eval_async(**values)
    except EndpointFailed as failed:
        return failed.failure
    except NoVerdictFound as found:
        return found.verdict
    except ZeroDivisionError:
        if not client.replied:
            raise
        return Unscored("judge", "the judge listed no statements, so there is nothing to score")
    except Exception as unreadable:  # autoevals raises many types
        if not client.replied:
            raise  # no reply was read yet, so the reply is not the cause
        return Unscored("judge", f"unreadable verdict: {describe_error(unreadable)}")
    finally:
        await client.close()
    return score_from(result)


def score_from(result: Any) -> Outcome:
    """The score for a result of autoevals."""
    metadata = result.metadata if isinstance(result.metadata, Mapping) else {}
    if result.score is None:
        return Unscored("judge", "unreadable verdict: it has no score")
    rationale = metadata.get("rationale")
    if rationale is not None and not isinstance(rationale, str):
        rationale = json.dumps(rationale, ensure_ascii=False)
    if "choice" in metadata:
        return Score(float(result.score), rationale, {"choice": metadata["choice"]})
    return Score(float(result.score), rationale or explanation_of(metadata))


def explanation_of(metadata: Mapping[str, Any]) -> str | None:
    """What the judge listed, one line each: statements with their verdicts and reasons, sentences, questions."""
    lines = list(dict.fromkeys(line for name, value in metadata.items() for line in _lines(name, value)))
    text = "\n".join(lines)
    return text[:MAX_EXPLANATION_LENGTH] + "…" if len(text) > MAX_EXPLANATION_LENGTH else text or None


def _lines(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if any(isinstance(item, list) for item in value.values()):
            return [line for key, item in value.items() for line in _lines(key, item)]
        return ["; ".join(f"{key}: {item}" for key, item in value.items())] if value else []
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [line for item in value for line in _statement(item)]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return [f"{name.replace('_', ' ')}: {'; '.join(value)}"]
    return []


def _statement(item: Mapping[str, Any]) -> list[str]:
    parts = ["; ".join(map(str, part)) if isinstance(part, list) else str(part) for part in item.values()]
    return [" – ".join(parts)]


def describe_error(crash: Exception) -> str:
    """An exception as one short line without secrets."""
    message = " ".join(str(crash).split())
    text = redact_message(f"{type(crash).__name__}: {message}" if message else type(crash).__name__)
    return text if len(text) <= MAX_REASON_LENGTH else text[:MAX_REASON_LENGTH] + "…"


@functools.cache
def judge_client_class() -> Any:
    """The class of clients that ask a judge and a model, created after autoevals is imported."""
    from autoevals import EmbeddingSimilarity
    from autoevals.oai import LLMClient

    warnings.filterwarnings("ignore", NOT_AWAITED, RuntimeWarning)  # autoevals drops them where an earlier call failed

    class UnusedRateLimitError(Exception):
        """Replaces openai's RateLimitError, on which autoevals would retry for hours. Nothing raises it."""

    class JudgeClient(LLMClient):  # type: ignore[misc]
        def __init__(self, judge: Judge | None, graded: Sequence[str] = (), model: Model | None = None) -> None:
            self.judge = judge
            self.graded = graded
            self.asked_model = model
            self.replied = False
            self.in_flight: set[asyncio.Task[Any]] = set()
            self.is_async = True
            self._is_wrapped = False
            self.RateLimitError = UnusedRateLimitError

        async def complete(
            self, *, messages: list[Any], tools: list[Any] | None = None, model: str | None = None, **params: Any
        ) -> dict[str, Any]:
            assert self.judge is not None  # the trial of the scorer has shown that it asks a judge
            answer = await self._call(self.judge.ask(messages, params=params, tools=tools or ()))
            self.replied = True
            if (function := _other_tool(tools or ())) is not None:
                arguments = read_arguments(answer, function.get("parameters", {}))
                if isinstance(arguments, NoVerdict):
                    raise NoVerdictFound(arguments)
                return _reply(function["name"], arguments)
            verdict = read_verdict(answer, format_of(tools or (), messages), self.graded)
            if isinstance(verdict, NoVerdict):
                raise NoVerdictFound(verdict)
            return {"choices": [{"index": 0, "message": message_of(verdict), "finish_reason": "tool_calls"}]}

        async def embed(self, *, input: str, model: str | None = None, **params: Any) -> dict[str, Any]:
            assert self.asked_model is not None
            vectors = await self._call(self.asked_model.embed([input]))
            return {"data": [{"embedding": vectors[0]}]}

        async def moderation(self, *, input: str, model: str | None = None, **params: Any) -> dict[str, Any]:
            assert self.asked_model is not None
            return {"results": list(await self._call(self.asked_model.moderate([input])))}

        async def _call(self, request: Any) -> Any:
            task = asyncio.ensure_future(request)
            self.in_flight.add(task)
            try:
                answer = await task
            finally:
                self.in_flight.discard(task)
            if isinstance(answer, Failure):
                raise EndpointFailed(answer)
            return answer

        async def close(self) -> None:
            """Wait for calls that others in a group have outrun by failing, and drop the cell's embeddings.

            autoevals would keep them for ever, under the address of this object, which the next one may have.
            """
            if self.in_flight:
                await asyncio.gather(*self.in_flight, return_exceptions=True)
            forget(EmbeddingSimilarity, self)

    return JudgeClient


def forget(embedding: Any, client: object) -> None:
    """Remove what autoevals cached for a client."""
    cache = embedding._CACHE  # noqa: SLF001
    with embedding._CACHE_LOCK:  # noqa: SLF001
        for key in [key for key in cache if id(client) in key]:
            del cache[key]


def _other_tool(tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The function that a scorer wants called, if it is not a choice of a classifier."""
    function = tools[0].get("function") if len(tools) == 1 else None
    return function if isinstance(function, Mapping) and function.get("name") != CHOICE_TOOL else None


def _reply(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The call of a tool as autoevals reads it."""
    call = {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def format_of(tools: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]] = ()) -> VerdictFormat:
    """The verdict that a classifier asks for: a choice from the list in the schema of its tool."""
    choice = tools[0]["function"]["parameters"]["properties"]["choice"] if tools else {}
    prompt = messages[-1].get("content") if messages else None
    return _verdict_format(tuple(choice.get("enum", ())), options_in(prompt) if isinstance(prompt, str) else ())


@functools.lru_cache(64)
def _verdict_format(labels: tuple[str, ...], options: tuple[str, ...]) -> VerdictFormat:
    """The format, made once: its patterns are compiled at their first use."""
    return VerdictFormat("choice", "reasons", labels, options)


def message_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the call of the tool that autoevals reads."""
    arguments = {"choice": verdict.label, **({} if verdict.reasons is None else {"reasons": verdict.reasons})}
    call = {"type": "function", "function": {"name": "select_choice", "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
