"""A client for scorers of autoevals that can only ask the judge of a cell, and the model of its scorer.

Without a client, autoevals calls a gateway of its vendor and sends it the OpenAI key. So each call gets a client of its
own. It is a subclass of autoevals' `LLMClient` that skips its constructor, which imports openai, wraps clients with a
tracer if one is installed, and sends models named `gpt-5…` to another API than the judge speaks.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from evalrunner.domain import Completion, Failure, Judge, Outcome, Score, Unscored
from evalrunner.redact import redact_message
from evalrunner.scorers.judge_arguments import placeholder, read_arguments
from evalrunner.scorers.judge_replies import NoVerdict, Verdict, VerdictFormat, options_in, read_verdict

MAX_REASON_LENGTH = 200  # characters of the reason why a verdict is unreadable
MAX_EXPLANATION_LENGTH = 4_000  # characters of an explanation made of what the judge listed
VOTES = 1_000  # more than a judge has on one answer
CHOICE_TOOL = "select_choice"


class Model(Protocol):
    """A model that a scorer may ask for embeddings or moderation."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]] | Failure: ...

    async def moderate(self, texts: Sequence[str]) -> Sequence[Mapping[str, Any]] | Failure: ...


async def evaluate(scorer: Any, client: Any, values: Mapping[str, Any]) -> Outcome:
    """The score of a scorer that calls `client`; Unscored if a reply of the judge is unreadable.

    A failed call is returned as its Failure.
    """
    try:
        result = await scorer.eval_async(**values)
    except Exception as unreadable:  # autoevals raises many types
        if (ending := client.ending) is not None:
            return ending  # type: ignore[no-any-return]
        if not client.replied:
            raise  # no reply was read yet, so the reply is not the cause
        return Unscored("judge", f"unreadable verdict: {describe_error(unreadable)}")
    finally:
        client.forget()
    return client.ending or score_from(result)


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


class UnusedRateLimitError(Exception):
    """Replaces openai's RateLimitError, on which autoevals would retry for hours. Nothing raises it."""


class JudgeClient:
    """`ending` is the first failure or unreadable reply, which is the outcome whatever the scorer returns.

    Nothing is asked after it: the other calls get placeholders. An exception would leave calls of autoevals that
    others have overtaken, and coroutines that nobody awaits.
    """

    def __init__(self, judge: Judge | None, graded: Sequence[str] = (), model: Model | None = None) -> None:
        self.judge = judge
        self.graded = graded
        self.embedder = model
        self.replied = False
        self.times: Counter[str] = Counter()
        self.ending: Failure | NoVerdict | None = None
        self.is_async = True
        self._is_wrapped = False
        self.RateLimitError = UnusedRateLimitError

    async def complete(
        self, *, messages: list[Any], tools: list[Any] | None = None, model: str | None = None, **params: Any
    ) -> dict[str, Any]:
        wanted = tools or []
        arguments: Any = None
        if self.ending is None:
            judge = self.judge_for(json.dumps(messages))
            answer = await judge.ask(messages, params=params, tools=wanted)
            if isinstance(answer, Failure):
                self.end(answer)
            else:
                self.replied = True
                arguments = self._read(answer, wanted, messages)
        name, schema = function_of(wanted)
        return tool_reply(name, placeholder(schema, schema) if arguments is None else arguments)

    def _read(self, answer: Completion, tools: list[Any], messages: list[Any]) -> Mapping[str, Any] | None:
        name, schema = function_of(tools)
        found: Mapping[str, Any] | Verdict | NoVerdict
        if name == CHOICE_TOOL:
            found = read_verdict(answer, format_of(tools, messages), self.graded)
        else:
            found = read_arguments(answer, schema)
        if isinstance(found, NoVerdict):
            self.end(found)
            return None
        return arguments_for(found) if isinstance(found, Verdict) else found

    async def embed(self, *, input: str, model: str | None = None, **params: Any) -> dict[str, Any]:
        vectors = await self._ask_model("embed", input)
        return {"data": [{"embedding": [1.0] if vectors is None else vectors[0]}]}

    async def moderation(self, *, input: str, model: str | None = None, **params: Any) -> dict[str, Any]:
        verdicts = await self._ask_model("moderate", input)
        return {"results": [{"flagged": False, "category_scores": {}}] if verdicts is None else list(verdicts)}

    async def _ask_model(self, what: Literal["embed", "moderate"], text: str) -> Sequence[Any] | None:
        if self.ending is not None:
            return None
        assert self.embedder is not None
        result = await (self.embedder.embed if what == "embed" else self.embedder.moderate)([text])
        if isinstance(result, Failure):
            self.end(result)
            return None
        return result

    def judge_for(self, question: str) -> Judge:
        """The judge; for a question that the scorer asks again, one that does not give its earlier answer again."""
        assert self.judge is not None  # the trial of the scorer has shown whether it asks one
        again = self.times[question]
        self.times[question] += 1
        number = getattr(self.judge, "sample", None)
        if not again or number is None:
            return self.judge
        return replace(self.judge, sample=number + again * VOTES)  # type: ignore[type-var]

    def end(self, outcome: Failure | NoVerdict) -> None:
        """Set the outcome of the cell, unless another call has."""
        if self.ending is None:
            self.ending = outcome

    def forget(self) -> None:
        """Drop the embeddings of the cell.

        autoevals would keep them for ever, under the address of this object, which the next one may have.
        """
        from autoevals import EmbeddingSimilarity

        forget(EmbeddingSimilarity, self)


@functools.cache
def judge_client_class() -> Any:
    """The class of clients that autoevals accepts, created after it is imported."""
    from autoevals.oai import LLMClient

    class Client(JudgeClient, LLMClient):  # type: ignore[misc]
        pass

    return Client


def forget(embedding: Any, client: object) -> None:
    """Remove what autoevals cached for a client."""
    cache = embedding._CACHE  # noqa: SLF001
    with embedding._CACHE_LOCK:  # noqa: SLF001
        for key in [key for key in cache if id(client) in key]:
            del cache[key]


def function_of(tools: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """The name of the one tool that a scorer wants called, and the schema of its arguments."""
    function: Mapping[str, Any] = tools[0]["function"] if tools else {"name": CHOICE_TOOL, "parameters": {}}
    return function["name"], function["parameters"]


def tool_reply(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
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


def arguments_for(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the arguments of the tool that autoevals reads."""
    return {"choice": verdict.label, **({} if verdict.reasons is None else {"reasons": verdict.reasons})}
