"""What a dataset's file holds, line by line, and what reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

Record: TypeAlias = Mapping[str, Any]
"""One line of a dataset as its file has it: column name to value."""


class Reader(Protocol):
    """What a dataset factory returns: each call reads from the start, yielding the record and where it stands.

    The place is for error messages, such as `data/qa.csv:7`. `text_only` says that every value is text.
    """

    text_only: bool

    def __call__(self) -> Iterator[tuple[Record, str]]: ...
