"""Answers in memory: the latest ones stay."""

from __future__ import annotations

from evalrunner.domain import Completion
from evalrunner.middleware.memory_cache import MAX_ANSWERS, MAX_CHARS, MemoryCache


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_the_number_of_answers_in_memory_is_bounded() -> None:
    cache = MemoryCache()
    for number in range(MAX_ANSWERS + 10):
        cache.get(key(0))  # used all the time
        cache.put(key(number), Completion("x"), paid_by="r/1")
    present = [number for number in range(MAX_ANSWERS + 10) if cache.get(key(number)) is not None]
    assert len(present) == MAX_ANSWERS
    assert present[0] == 0 and present[1] == 11


def test_the_length_of_answers_in_memory_is_bounded() -> None:
    cache = MemoryCache()
    long = "x" * (MAX_CHARS // 4)
    for number in range(6):
        cache.put(key(number), Completion(long), paid_by="r/1")
        cache.put(key(number), Completion(long), paid_by="r/1")  # again: counts once
    assert [number for number in range(6) if cache.get(key(number)) is not None] == [2, 3, 4, 5]
