"""LLM classifiers of autoevals, called through the judge of the suite: no other client, no other host.

Without a client, autoevals calls a gateway of its vendor and sends it the OpenAI key. So each call gets a client that
can only ask the judge. It is a subclass of autoevals' `LLMClient` that skips its constructor, which imports openai,
wraps clients with a tracer if one is installed, and sends models named `gpt-5…` to another API than the judge speaks.
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

MAX_REASON_LENGTH = 200  # characters of the reason why a verdict is unreadable

_loading = threading.Lock()


class EndpointFailed(Exception):
    """The judge's endpoint failed: carries the failure through autoevals, which retries nothing of this type."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class EmptyJudgeReply(Exception):
    """The judge's reply was refused, filtered, truncated or empty."""


def autoevals_version() -> str:
    """The installed version, without importing the package. Raises ValueError if it is not installed."""
    try:
        return version("autoevals")
    except PackageNotFoundError:
        raise ValueError("needs the package autoevals, which is not installed: pip install autoevals") from None


class Classifier:
    """An LLM classifier of autoevals, created on the first call; the import takes almost a second, in a thread."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._classifier: Any = None

    async def ask(self, judge: Judge, **values: Any) -> Outcome:
        """The score with the judge's choice and rationale; Unscored if the verdict is unreadable.

        `values` are the variables of the classifier's template. A failed call is returned as its Failure.
        """
        if self._classifier is None:
            self._classifier = await asyncio.to_thread(self._load)
        classifier = copy.copy(self._classifier)  # rows are judged concurrently, each with its own client
        classifier.client = client = judge_client_class()(judge)
        try:
            result = await classifier.eval_async(**values)
        except EndpointFailed as failed:
            return failed.failure
        except EmptyJudgeReply as empty:
            return Unscored("judge", str(empty))
        except Exception as unreadable:  # autoevals raises many types while it parses a reply
            if not client.replied:
                raise  # no reply was read yet, so the reply is not the cause
            return Unscored("judge", f"unreadable verdict: {describe_error(unreadable)}")
        return score_from(result)

    def _load(self) -> Any:
        with _loading:
            import autoevals

            return self._classifier or self._make(autoevals)


def score_from(result: Any) -> Outcome:
    """The score for a result of autoevals."""
    metadata = result.metadata if isinstance(result.metadata, Mapping) else {}
    if result.score is None:
        return Unscored("judge", "unreadable verdict: it has no score")
    rationale = metadata.get("rationale")
    if rationale is not None and not isinstance(rationale, str):
        rationale = json.dumps(rationale, ensure_ascii=False)
    return Score(float(result.score), rationale, {"choice": metadata.get("choice")})


def describe_error(crash: Exception) -> str:
    """An exception as one short line without secrets."""
    message = " ".join(str(crash).split())
    text = redact_message(f"{type(crash).__name__}: {message}" if message else type(crash).__name__)
    return text if len(text) <= MAX_REASON_LENGTH else text[:MAX_REASON_LENGTH] + "…"


@functools.cache
def judge_client_class() -> Any:
    """The class of clients that ask a judge, created after autoevals is imported."""
    from autoevals.oai import LLMClient

    class UnusedRateLimitError(Exception):
        """Replaces openai's RateLimitError, on which autoevals would retry for hours. Nothing raises it."""

    class JudgeClient(LLMClient):  # type: ignore[misc]
        def __init__(self, judge: Judge) -> None:
            self.judge = judge
            self.replied = False
            self.is_async = True
            self._is_wrapped = False
            self.RateLimitError = UnusedRateLimitError

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
    """The judge's reply as a message of OpenAI's API. Raises EmptyJudgeReply.

    A text that is the arguments of the tool as JSON counts as a call of the tool.
    """
    if answer.finish_reason in ("length", "filtered", "refused"):
        raise EmptyJudgeReply(
            f"the judge's reply was {'truncated' if answer.finish_reason == 'length' else answer.finish_reason}"
        )
    if answer.tool_calls:
        return {"role": "assistant", "content": None, "tool_calls": [dict(call) for call in answer.tool_calls]}
    if not answer.text.strip():
        raise EmptyJudgeReply("the judge's reply was empty")
    try:
        arguments = json.loads(answer.text)
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict) and "choice" in arguments:
        call = {"type": "function", "function": {"name": "select_choice", "arguments": answer.text}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": answer.text}
