"""Answers of this run in memory: what judges were asked already, where no cache is on disk."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evalrunner.domain import Completion
from evalrunner.middleware.cache import CacheEntry

MAX_ANSWERS = 20_000
MAX_CHARS = 32_000_000  # of all answers


@dataclass(slots=True)
class MemoryCache:
    """The latest answers by key, in the form of a `ResponseCache`. `path` names no file."""

    path: Path = Path()
    now: Callable[[], float] = time.time
    session: str = "memory"
    disabled: str | None = None
    in_flight: dict[bytes, asyncio.Future[Completion | None]] = field(default_factory=dict)
    _entries: OrderedDict[bytes, CacheEntry] = field(default_factory=OrderedDict)
    _chars: int = 0

    def get(self, key: bytes) -> CacheEntry | None:
        """The entry of a key, None if there is none."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, answer: Completion, *, paid_by: str) -> None:
        """Store an answer; the ones that were not used for longest make room."""
        if (before := self._entries.pop(key, None)) is not None:
            self._chars -= _size(before.answer)
        self._entries[key] = CacheEntry(answer, self.now(), paid_by, self.session)
        self._chars += _size(answer)
        while self._entries and (len(self._entries) > MAX_ANSWERS or self._chars > MAX_CHARS):
            _, oldest = self._entries.popitem(last=False)
            self._chars -= _size(oldest.answer)

    def claim(self, key: bytes) -> None:
        """Nothing: no entry is from before this run."""

    def close(self) -> None:
        """Forget all answers."""
        self._entries.clear()
        self._chars = 0


def _size(answer: Completion) -> int:
    return len(answer.text) + len(answer.reasoning or "") + sum(len(str(call)) for call in answer.tool_calls)
