"""Requests per minute (rpm) and tokens per minute (tpm), for targets that have limits of their own."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.deadline import StopSignal, Timing, pause_deadline

REQUESTS_BURST_S, TOKENS_BURST_S = 1.0, 6.0  # the part of the minute that may be used at once
BYTES_PER_TOKEN = 4  # of English; other languages and code take up to three times as many tokens
DEFAULT_OUTPUT_TOKENS = 256  # for requests without a token limit, until the first answer
TOKEN_LIMIT_PARAMS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class TokenBucket:
    """A bucket that refills evenly with `per_minute` and holds `burst_s` seconds of that."""

    def __init__(self, per_minute: float, burst_s: float) -> None:
        self.per_s = per_minute / 60.0
        self.capacity = max(1.0, self.per_s * burst_s)
        self._level = self.capacity
        self._at: float | None = None

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` is available; an amount above the capacity is available when the bucket is full."""
        if self._at is not None:
            self._level = min(self.capacity, self._level + (now - self._at) * self.per_s)
        self._at = now
        return max(0.0, (min(amount, self.capacity) - self._level) / self.per_s)

    def take(self, amount: float) -> None:
        """Use an amount; a negative one is given back."""
        self._level = min(self.capacity, self._level - amount)


class RateLimitedEndpoint:
    """An endpoint called at most `rpm` times and with at most `tpm` tokens a minute, spread evenly. None: no limit.

    The tokens of a call are estimated from its size and its token limit, then corrected by its usage. Calls wait in
    order; the row's deadline is paused meanwhile, and a stop ends the wait with CancelledError.
    """

    def __init__(
        self, inner: Endpoint, rpm: float | None, tpm: float | None, *, timing: Timing, stop: StopSignal
    ) -> None:
        self._inner = inner
        self._requests = None if rpm is None else TokenBucket(rpm, REQUESTS_BURST_S)
        self._tokens = None if tpm is None else TokenBucket(tpm, TOKENS_BURST_S)
        self._timing = timing
        self._stop = stop
        self._queue: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._mean_output: float | None = None  # tokens of an answer, for requests without a limit

    async def __call__(self, request: Request, /) -> Completion | Failure:
        if self._requests is None and self._tokens is None:
            return await self._inner(request)
        self._stop.check()
        tokens = 0.0 if self._tokens is None else self._estimate(request)
        if self._queue or self._wait_s(tokens, self._timing.now()) > 0.0:
            await self._wait(tokens)
        else:
            self._take(tokens)
        answer = await self._inner(request)
        if self._tokens is not None:
            self._correct(tokens, answer)
        return answer

    async def _wait(self, tokens: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, tokens))
        if self._timer is None:
            self._release()
        try:
            with pause_deadline():
                await self._stop.unless_stopped(turn)
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._take(-tokens, requests=-1)
                self._release()
            raise  # a canceled turn stays in the queue and is skipped

    def _release(self) -> None:
        """Let calls go in order while there is enough for them, and set a timer for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._timing.now()
        while self._queue:
            turn, tokens = self._queue[0]
            if not turn.done():
                wait_s = self._wait_s(tokens, now)
                if wait_s > 1e-6:  # less is a rounding error
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(wait_s * self._timing.scale, self._release)
                    return
                self._take(tokens)
                turn.set_result(None)
            self._queue.popleft()

    def _wait_s(self, tokens: float, now: float) -> float:
        requests_s = 0.0 if self._requests is None else self._requests.wait_s(1.0, now)
        return requests_s if self._tokens is None else max(requests_s, self._tokens.wait_s(tokens, now))

    def _take(self, tokens: float, *, requests: float = 1.0) -> None:
        if self._requests is not None:
            self._requests.take(requests)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def _correct(self, estimate: float, answer: Completion | Failure) -> None:
        """Replace the estimate of a call by its usage, where that is known."""
        assert self._tokens is not None  # else nothing was estimated
        if isinstance(answer, Failure):
            used = 0.0 if answer.kind == "rate_limit" else estimate  # a refused call uses nothing
        elif answer.input_tokens is None and answer.output_tokens is None:
            used = estimate
        else:
            output = answer.output_tokens or 0
            used = float((answer.input_tokens or 0) + output)
            mean = output if self._mean_output is None else self._mean_output
            self._mean_output = mean + (output - mean) * 0.1
        self._tokens.take(used - estimate)
        if used < estimate and self._queue:
            self._release()

    def _estimate(self, request: Request) -> float:
        limit = next((value for name in TOKEN_LIMIT_PARAMS if _is_count(value := request.params.get(name))), None)
        usual = DEFAULT_OUTPUT_TOKENS if self._mean_output is None else self._mean_output
        size = sum(_size(message.get("content")) for message in request.messages) + sum(map(len, request.texts))
        return size / BYTES_PER_TOKEN + float(usual if limit is None else limit)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _size(content: Any) -> int:
    return 0 if content is None else len(content if isinstance(content, str) else str(content))
