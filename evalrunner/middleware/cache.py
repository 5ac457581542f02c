"""Answers that were paid for already: found in a store, or on their way to somebody who asked the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.middleware.deadline import pause_deadline
from evalrunner.middleware.response_cache import CacheEntry, ResponseCache, as_cached


@dataclass(slots=True)
class CacheTally:
    """How often the cache had the answer, how old the oldest one was, and what they had cost when they were paid for.

    `restored` are answers that this very run paid for before it was interrupted: they count as paid, not as hits.
    """

    hits: int = 0
    misses: int = 0
    restored: int = 0
    oldest_s: float = 0.0
    saved_usd: float = 0.0

    @property
    def asked(self) -> int:
        return self.hits + self.misses

    def hit(self, answer: Completion, age_s: float) -> None:
        """Count an answer that was there."""
        self.hits += 1
        self.oldest_s = max(self.oldest_s, age_s)
        self.saved_usd += answer.cost_usd or 0.0


@dataclass(frozen=True, slots=True)
class CachedEndpoint:
    """An endpoint that asks only for what `store` does not have, and each thing once at a time.

    `identity` names the endpoint, without any secret. `read=False` asks again for what other runs have paid for; what
    this run has paid for it never pays twice. `ttl_s` is how old an answer of another run may be.

    An answer comes back as one that took no time and cost nothing, unless this run paid for it for this same row and
    was interrupted before the row was whole: then it is accounted for now, exactly as it was.
    """

    inner: Endpoint
    store: ResponseCache
    identity: str
    _: KW_ONLY
    run_id: str
    tally: CacheTally
    read: bool = True
    ttl_s: float | None = None

    async def __call__(self, request: Request, /) -> Completion | Failure:
        key = request_key(self.identity, request)
        if key is None:
            return await self.inner(request)
        while True:
            kept = self.store.get(key)
            if kept is not None and self._may_use(kept):
                return self._reuse(key, kept, request)
            leader = self.store.under_way.get(key)
            if leader is None:
                return await self._ask(key, request)
            with pause_deadline():
                answer = await asyncio.shield(leader)  # whoever stops waiting leaves it to the others
            if answer is not None:
                self.tally.hit(answer, 0.0)
                return as_cached(answer)

    def _may_use(self, kept: CacheEntry) -> bool:
        if kept.paid_by.startswith(f"{self.run_id}/"):
            return True
        return self.read and (self.ttl_s is None or self.store.now() - kept.created <= self.ttl_s)

    def _reuse(self, key: bytes, kept: CacheEntry, request: Request) -> Completion:
        interrupted = kept.session != self.store.session and kept.paid_by == f"{self.run_id}/{request.row}"
        if interrupted and request.row is not None:
            self.store.claim(key)
            self.tally.restored += 1
            return kept.answer
        self.tally.hit(kept.answer, max(0.0, self.store.now() - kept.created))
        return as_cached(kept.answer)

    async def _ask(self, key: bytes, request: Request) -> Completion | Failure:
        """The endpoint's answer, kept if it is a good one. Others wait for it meanwhile; one of them asks if it is not."""
        leader: asyncio.Future[Completion | None] = asyncio.get_running_loop().create_future()
        self.store.under_way[key] = leader
        good: Completion | None = None
        try:
            answer = await self.inner(request)
            self.tally.misses += 1
            if isinstance(answer, Completion) and is_cacheable(answer):
                good = answer
                self.store.put(key, answer, paid_by=f"{self.run_id}/{request.row or ''}")
            return answer
        finally:
            del self.store.under_way[key]
            leader.set_result(good)


def is_cached(store: ResponseCache, identity: str, request: Request, *, ttl_s: float | None = None) -> bool:
    """Whether a store has an answer to a request; nothing is made, asked or counted."""
    key = request_key(identity, request)
    kept = store.get(key) if key is not None and store.path.exists() else None
    return kept is not None and (ttl_s is None or store.now() - kept.created <= ttl_s)


def is_cacheable(answer: Completion) -> bool:
    """Whether an answer is whole: not cut off, filtered, refused or empty, which another try may mend."""
    return answer.answered or (
        answer.finish_reason in ("stop", "tool_calls") and (bool(answer.tool_calls) or answer.data is not None)
    )


def request_key(identity: str, request: Request) -> bytes | None:
    """The sha256 of all that can change an answer, or None where that cannot be written as JSON.

    The order of keys stays as it is but for the params' own: that of a schema's properties can change an answer.
    """
    asked = (
        identity, request.kind, request.model, request.messages, sorted(request.params.items(), key=_name),
        request.tools, request.response_format, request.texts, request.epoch,
    )  # fmt: skip
    try:
        return hashlib.sha256(_ENCODER.encode(asked).encode()).digest()
    except (TypeError, ValueError, RecursionError):
        return None


def _name(item: tuple[str, Any]) -> str:
    return item[0]


def _plain(value: Any) -> Any:
    """A mapping that is no dict as one; json asks for what it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_plain)
