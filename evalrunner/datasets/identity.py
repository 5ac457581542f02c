"""Ids of samples: given ones have to be unique, the others are a hash of what is asked and what is expected.

Never the position, so that a sample keeps its id when rows are added, sorted or left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from evalrunner.domain import Message, Sample
from evalrunner.storage import KeyTable

MOST_SUSPECTS = 20  # given ids that are looked up again to name both lines; more are only counted

_encode = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


class RowProblem(ValueError):
    """What is wrong with one record, in words that go on from its place."""


class Fields(NamedTuple):
    """What a record says of its sample; `given` is its id, None where it has none."""

    given: str | None
    input: Any
    expected: tuple[str, ...]
    messages: tuple[Message, ...] | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A given id that seems to have been there before: `number` counts the samples up to it, from 0."""

    number: int
    id: str
    place: str


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: keys sorted, no blanks. Raises RowProblem for what JSON cannot say."""
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:
        raise RowProblem("holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    except RecursionError:
        raise RowProblem("is nested too deeply") from None
    except ValueError:
        raise RowProblem("holds a number that is not finite, or beyond what a 64-bit float can hold") from None
    except TypeError as wrong:
        raise RowProblem(f"holds what JSON cannot say: {wrong}") from None


def content_id(fields: Fields) -> str:
    """16 hex digits of input and expected, and of the conversation where that is the input."""
    content: list[Any] = [fields.input, fields.expected]
    if fields.messages is not None:
        content.append(fields.messages)
    return blake2b(canonical(content), digest_size=8).hexdigest()


def digest_line(sample: Sample) -> bytes:
    """The canonical JSON of a sample, as the digest of a dataset has it."""
    return canonical([sample.id, sample.input, sample.expected, sample.metadata, sample.messages])


@dataclass(slots=True)
class FirstPass:
    """Gives ids while the dataset is read for the first time. `repeats` counts contents that came more than once."""

    repeats: dict[str, int] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    suspected: int = 0
    _seen: KeyTable = field(default_factory=KeyTable)
    _number: int = -1

    def name(self, fields: Fields, place: str) -> str:
        """The id of the next sample. Raises RowProblem where the content has no JSON."""
        found = fields.given if fields.given is not None else content_id(fields)
        self._number += 1
        if self._seen.add(int.from_bytes(blake2b(found.encode(), digest_size=8).digest())):
            return found
        if fields.given is None:
            self.repeats[found] = self.repeats.get(found, 1) + 1
            return f"{found}-{self.repeats[found]}"
        self.suspected += 1
        if len(self.suspects) < MOST_SUSPECTS:
            self.suspects.append(Suspect(self._number, found, place))
        return found


@dataclass(slots=True)
class LaterPass:
    """Gives the same ids again, knowing from the first pass which contents repeat."""

    repeats: Mapping[str, int]
    _counts: dict[str, int] = field(default_factory=dict)

    def name(self, fields: Fields, place: str) -> str:
        """The id of the next sample."""
        if fields.given is not None:
            return fields.given
        found = content_id(fields)
        if found not in self.repeats:
            return found
        count = self._counts[found] = self._counts.get(found, 0) + 1
        return found if count == 1 else f"{found}-{count}"
