"""Calls and tokens a minute, where a target has limits of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.deadline import pause_deadline
from evalrunner.middleware.timing import Timing

CALLS_BURST_S, TOKENS_BURST_S = 1.0, 6.0  # of the minute that may be used at once
BYTES_PER_TOKEN = 4  # of English; other languages and code take up to three times as many tokens
FIRST_GUESS = 256  # tokens of an answer without a limit, until one has come
LIMIT_PARAMS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Bucket:
    """What may be used now of so much a minute; it fills up evenly."""

    def __init__(self, per_minute: float, burst_s: float) -> None:
        self.per_s = per_minute / 60.0
        self.most = max(1.0, self.per_s * burst_s)
        self._level = self.most
        self._at: float | None = None

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until so much may be used; more than it can hold when it is full."""
        if self._at is not None:
            self._level = min(self.most, self._level + (now - self._at) * self.per_s)
        self._at = now
        return max(0.0, (min(amount, self.most) - self._level) / self.per_s)

    def take(self, amount: float) -> None:
        """Use it, or with a negative amount give it back."""
        self._level = min(self.most, self._level - amount)


class RateLimitedEndpoint:
    """An endpoint that is called at most `rpm` times and for `tpm` tokens a minute, spread evenly; None is no limit.

    What a call will take is estimated from its size and its limit of tokens, and settled by what it took. Waits go in
    the order of asking; the row's clock stands still in them, and a stop ends them with CancelledError.
    """

    def __init__(
        self, inner: Endpoint, rpm: float | None, tpm: float | None, *, timing: Timing, stop: StopSignal
    ) -> None:
        self._inner = inner
        self._calls = None if rpm is None else Bucket(rpm, CALLS_BURST_S)
        self._tokens = None if tpm is None else Bucket(tpm, TOKENS_BURST_S)
        self._timing = timing
        self._stop = stop
        self._queue: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._answer_tokens: float | None = None  # on average, for calls that set no limit

    async def __call__(self, request: Request, /) -> Completion | Failure:
        if self._calls is None and self._tokens is None:
            return await self._inner(request)
        self._stop.check()
        tokens = 0.0 if self._tokens is None else self._estimate(request)
        if self._queue or self._wait_s(tokens, self._timing.now()) > 0.0:
            await self._turn(tokens)
        else:
            self._take(tokens)
        answer = await self._inner(request)
        if self._tokens is not None:
            self._settle(tokens, answer)
        return answer

    async def _turn(self, tokens: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, tokens))
        if self._timer is None:
            self._hand_out()
        try:
            with pause_deadline():
                await self._stop.unless_stopped(turn)
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._take(-tokens, calls=-1)
                self._hand_out()
            raise  # one that was given up stays in the queue and is passed over

    def _hand_out(self) -> None:
        """Turns to those who wait, as long as there is enough; an alarm for when there will be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._timing.now()
        while self._queue:
            turn, tokens = self._queue[0]
            if not turn.done():
                wait_s = self._wait_s(tokens, now)
                if wait_s > 1e-6:  # less is what rounding leaves
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(wait_s * self._timing.scale, self._hand_out)
                    return
                self._take(tokens)
                turn.set_result(None)
            self._queue.popleft()

    def _wait_s(self, tokens: float, now: float) -> float:
        calls_s = 0.0 if self._calls is None else self._calls.wait_s(1.0, now)
        return calls_s if self._tokens is None else max(calls_s, self._tokens.wait_s(tokens, now))

    def _take(self, tokens: float, *, calls: float = 1.0) -> None:
        if self._calls is not None:
            self._calls.take(calls)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def _settle(self, estimate: float, answer: Completion | Failure) -> None:
        assert self._tokens is not None  # else nothing was estimated
        if isinstance(answer, Failure):
            used = 0.0 if answer.kind == "rate_limit" else estimate  # what was refused took nothing
        elif answer.input_tokens is None and answer.output_tokens is None:
            used = estimate
        else:
            used = float((answer.input_tokens or 0) + (answer.output_tokens or 0))
            told = answer.output_tokens or 0
            known = told if self._answer_tokens is None else self._answer_tokens
            self._answer_tokens = known + (told - known) * 0.1
        self._tokens.take(used - estimate)
        if used < estimate and self._queue:
            self._hand_out()

    def _estimate(self, request: Request) -> float:
        limit = next((found for name in LIMIT_PARAMS if _is_count(found := request.params.get(name))), None)
        usual = FIRST_GUESS if self._answer_tokens is None else self._answer_tokens
        size = sum(_size(message.get("content")) for message in request.messages) + sum(map(len, request.texts))
        return size / BYTES_PER_TOKEN + float(usual if limit is None else limit)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _size(content: Any) -> int:
    return 0 if content is None else len(content if isinstance(content, str) else str(content))
