"""What a row log already holds, by key, in a few dozen bytes a row: no row is made for it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from typing import NamedTuple

from evalrunner.redact import redact
from evalrunner.storage import KeyTable

SUCCEEDED, FAILED, SUPERSEDED = 0, 1, 2  # codes of records; from FIRST_NAMES on, the place of a set of names of cells
FIRST_NAMES = 3


class RowHead(NamedTuple):
    """What a line of the row log says before anyone makes a row of it. `errors` are the cells in error."""

    id: bytes
    target: bytes
    epoch: int
    attempt: int
    failed: bool = False
    errors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """The last record of one key: where its line begins, and what is to be run again of it, if anything."""

    offset: int
    attempt: int
    failed: bool
    errors: frozenset[str]


class FinishedRows:
    """The last record of every key. A key is held as 64 bits of a hash salted anew for each process.

    Two keys of one run share them by chance in 1 of 37 million runs of a million rows, and nobody can aim for it.
    `size` is where the last whole line ends, in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._salt = token_bytes(16)
        self._places = KeyTable(numbered=True)  # of the last record of each key
        self._offsets, self._attempts, self._codes = array("Q"), array("I"), array("I")
        self._names: list[frozenset[str]] = []
        self._code_of: dict[frozenset[str], int] = {}

    def __len__(self) -> int:
        """How many keys there are, whatever became of them."""
        return len(self._codes) - self._codes.count(SUPERSEDED)

    @property
    def failed(self) -> int:
        """How many calls failed."""
        return self._codes.count(FAILED)

    @property
    def in_error(self) -> int:
        """How many rows have an answer, and a cell in error."""
        return len(self) - self._codes.count(SUCCEEDED) - self._codes.count(FAILED)

    def add(self, head: RowHead, offset: int) -> None:
        """Take the record of a line that begins at `offset`; an earlier one of its key counts no longer."""
        code = FAILED if head.failed else SUCCEEDED if not head.errors else self._code(head.errors)
        key = self._hash(head.id, head.target, head.epoch)
        superseded = self._places.put(key, len(self._offsets))
        if superseded is not None:
            self._codes[superseded] = SUPERSEDED
        self._offsets.append(offset)
        self._attempts.append(min(head.attempt, 0xFFFFFFFF))
        self._codes.append(code)

    def find(self, id: str, target: str, epoch: int) -> FinishedRow | None:
        """The record of a key, or None where it is still to be run."""
        place = self._place(id, target, epoch)
        if place is None:
            return None
        code = self._codes[place]
        errors = self._names[code - FIRST_NAMES] if code >= FIRST_NAMES else frozenset[str]()
        return FinishedRow(self._offsets[place], self._attempts[place], code == FAILED, errors)

    def drop(self, id: str, target: str, epoch: int) -> None:
        """Forget the record of a key, if there is one: it has been run again."""
        place = self._place(id, target, epoch)
        if place is not None:
            self._codes[place] = SUPERSEDED

    def offsets(self) -> Iterator[int]:
        """Where the records that count begin, in the order of the file."""
        return (offset for offset, code in zip(self._offsets, self._codes, strict=True) if code != SUPERSEDED)

    def _place(self, id: str, target: str, epoch: int) -> int | None:
        key = self._hash(_as_written(id), _as_written(target), epoch)
        place = self._places.get(key)
        return None if place is None or self._codes[place] == SUPERSEDED else place

    def _hash(self, id: bytes, target: bytes, epoch: int) -> int:
        key = b"%d %d %b%b" % (epoch, len(id), id, target)
        return int.from_bytes(blake2b(key, digest_size=8, key=self._salt).digest(), "little")

    def _code(self, names: frozenset[str]) -> int:
        if names not in self._code_of:
            self._code_of[names] = FIRST_NAMES + len(self._names)
            self._names.append(names)
        return self._code_of[names]


def _as_written(name: str) -> bytes:
    """A name as the row log has it, where no key of the environment stands."""
    return redact(name).encode("utf-8", errors="surrogatepass")
