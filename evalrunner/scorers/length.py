"""Scorers that count words or characters of the output: `max_words`, `min_words`, `max_chars`, `min_chars`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evalrunner.domain import Declaration, Score, Scorer
from evalrunner.formatting import counted
from evalrunner.plugins import main_option

LIMIT = Declaration(binary=True, inline=True)


def is_limit(value: Any) -> bool:
    """Whether a value is a limit."""
    return type(value) is int and value >= 1


@main_option("value", accepts=is_limit)
def max_words(*, value: int) -> Scorer:
    """1 if the output has at most so many words, else 0.

    Args:
        value: Maximum number of words.
    """
    return _limit("word", value, is_maximum=True)


@main_option("value", accepts=is_limit)
def min_words(*, value: int) -> Scorer:
    """1 if the output has at least so many words, else 0.

    Args:
        value: Minimum number of words.
    """
    return _limit("word", value, is_maximum=False)


@main_option("value", accepts=is_limit)
def max_chars(*, value: int) -> Scorer:
    """1 if the output has at most so many characters, else 0.

    Args:
        value: Maximum number of characters.
    """
    return _limit("character", value, is_maximum=True)


@main_option("value", accepts=is_limit)
def min_chars(*, value: int) -> Scorer:
    """1 if the output has at least so many characters, else 0.

    Args:
        value: Minimum number of characters.
    """
    return _limit("character", value, is_maximum=False)


def _limit(unit: str, value: int, *, is_maximum: bool) -> Scorer:
    if value < 1:
        raise ValueError("'value' should be 1 or more; an empty answer is not scored")
    return Scorer(LengthLimit(unit, value, is_maximum), LIMIT)


def count_words(text: str) -> int:
    """How many pieces whitespace separates. Punctuation that stands alone counts."""
    return len(text.split())


def count_chars(text: str) -> int:
    """How many Unicode characters a text has in NFC, without whitespace at its ends: é is one in either encoding."""
    text = text.strip()
    return len(text if text.isascii() else unicodedata.normalize("NFC", text))


COUNTERS: dict[str, Callable[[str], int]] = {"word": count_words, "character": count_chars}


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """Whether a count of the output keeps its limit; the explanation has the count."""

    unit: str
    value: int
    is_maximum: bool

    def __call__(self, output: str) -> Score:
        count = COUNTERS[self.unit](output)
        fits = count <= self.value if self.is_maximum else count >= self.value
        return Score(float(fits), counted(count, self.unit))
