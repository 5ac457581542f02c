"""LLM classifiers of autoevals, asked through our own judge: no client of theirs, no other host, no guess at a verdict.

Without a client autoevals talks to a gateway of its maker and hands it the key of OpenAI. So each question gets a
client that can do nothing but ask the judge. It is a subclass of autoevals' own `LLMClient` that leaves out what that
one does when it is made: importing openai, wrapping clients with a tracer where one is installed, and sending names
that start with `gpt-5` to another API than the one the judge speaks.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from evalrunner.domain import Completion, Failure, Judge, Outcome, Score, Unscored
from evalrunner.redact import redact_message

LONGEST_REASON = 200  # characters of what made a verdict unreadable

_loading = threading.Lock()


class EndpointFailed(Exception):
    """The judge's endpoint failed: carries the failure through autoevals, which retries nothing of this type."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class NoVerdict(Exception):
    """The judge's reply was refused, filtered, cut off or empty: there is nothing to read."""


def autoevals_version() -> str:
    """The installed version, found without importing the package. Raises ValueError where it is missing."""
    try:
        return version("autoevals")
    except PackageNotFoundError:
        raise ValueError("needs the package autoevals, which is not installed: pip install autoevals") from None


class Classifier:
    """An LLM classifier of autoevals, made on the first question; the import takes most of a second, in a thread."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._made: Any = None

    async def ask(self, judge: Judge, **values: Any) -> Outcome:
        """The score with the judge's choice and reasons; Unscored where the verdict cannot be read.

        `values` are what the classifier's template asks for. A failing endpoint is its own Failure.
        """
        if self._made is None:
            self._made = await asyncio.to_thread(self._load)
        classifier = copy.copy(self._made)  # rows are judged at once, each with its own client
        classifier.client = client = judge_client_class()(judge)
        try:
            found = await classifier.eval_async(**values)
        except EndpointFailed as failed:
            return failed.failure
        except NoVerdict as nothing:
            return Unscored("judge", str(nothing))
        except Exception as unreadable:  # autoevals raises whatever its parsing of a reply happens to trip over
            if not client.replied:
                raise  # no reply was read yet, so the fault is not in one
            return Unscored("judge", f"unreadable verdict: {described(unreadable)}")
        return score_from(found)

    def _load(self) -> Any:
        with _loading:
            import autoevals

            return self._made or self._make(autoevals)


def score_from(found: Any) -> Outcome:
    """Our score from one of autoevals'."""
    metadata = found.metadata if isinstance(found.metadata, Mapping) else {}
    if found.score is None:
        return Unscored("judge", "unreadable verdict: it has no score")
    rationale = metadata.get("rationale")
    if rationale is not None and not isinstance(rationale, str):
        rationale = json.dumps(rationale, ensure_ascii=False)
    return Score(float(found.score), rationale, {"choice": metadata.get("choice")})


def described(crash: Exception) -> str:
    """The exception in one short line."""
    message = " ".join(str(crash).split())
    text = redact_message(f"{type(crash).__name__}: {message}" if message else type(crash).__name__)
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"


@functools.cache
def judge_client_class() -> Any:
    """The class of clients that ask a judge. Made when autoevals has been imported, not before."""
    from autoevals.oai import LLMClient

    class NeverRaised(Exception):
        """In place of openai's RateLimitError, on which autoevals would sleep and ask again for hours."""

    class JudgeClient(LLMClient):  # type: ignore[misc]
        def __init__(self, judge: Judge) -> None:
            self.judge = judge
            self.replied = False
            self.is_async = True
            self._is_wrapped = False
            self.RateLimitError = NeverRaised

        async def complete(
            self, *, messages: list[Any], tools: list[Any] | None = None, model: str | None = None, **params: Any
        ) -> dict[str, Any]:
            answer = await self.judge.ask(messages, params=params, tools=tools or ())
            if isinstance(answer, Failure):
                raise EndpointFailed(answer)
            self.replied = True
            message = reply_of(answer)
            return {"choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}]}

    return JudgeClient


def reply_of(answer: Completion) -> dict[str, Any]:
    """The judge's answer as a message of OpenAI's API. Raises NoVerdict where it gave none.

    A judge that writes the arguments of the tool as its whole text instead of calling it has answered as clearly.
    """
    if answer.finish_reason in ("length", "filtered", "refused"):
        raise NoVerdict(
            f"the judge's reply was {'cut off' if answer.finish_reason == 'length' else answer.finish_reason}"
        )
    if answer.tool_calls:
        return {"role": "assistant", "content": None, "tool_calls": [dict(call) for call in answer.tool_calls]}
    if not answer.text.strip():
        raise NoVerdict("the judge's reply was empty")
    try:
        arguments = json.loads(answer.text)
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict) and "choice" in arguments:
        call = {"type": "function", "function": {"name": "select_choice", "arguments": answer.text}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": answer.text}
