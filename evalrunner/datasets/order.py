"""A shuffle that fits in memory: samples lie in a file, and only their ranks and offsets are kept.

The rank of a sample is a hash of seed and id, so its place among the others stays when rows are added, and a
limit takes the first of that order.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

from evalrunner.domain import Sample

SEPARATOR = b"\0"  # between a sample and its place; JSON escapes it, so it is in neither

Ranked: TypeAlias = tuple[int, Sample, str]
"""Rank, sample and place."""


class Shuffle:
    """Samples on disk in the order of a seed. `fill` comes first; then it can be iterated over many times."""

    def __init__(self, path: Path, *, seed: int, limit: int | None) -> None:
        self.path = path
        self._seed = seed
        self._limit = limit
        self._offsets: Iterable[int] = ()

    def fill(self, samples: Iterable[tuple[Sample, str]]) -> None:
        """Take in every sample with its place; past the limit only those are written that may be among the first."""
        with self.path.open("wb") as file:
            ranked = ((rank_of(sample.id, self._seed), sample, place) for sample, place in samples)
            write = _Writer(file.write)
            self._offsets = _all(ranked, write) if self._limit is None else _lowest(ranked, write, self._limit)

    def __iter__(self) -> Iterator[tuple[Sample, str]]:
        with self.path.open("rb") as file:
            for index, offset in enumerate(self._offsets):
                file.seek(offset)
                text, _, place = file.readline().rstrip(b"\n").rpartition(SEPARATOR)
                name, given, expected, metadata, messages = json.loads(text)
                talk = None if messages is None else tuple(messages)
                yield Sample(name, given, tuple(expected), metadata, talk, index), place.decode(errors="replace")


def rank_of(name: str, seed: int) -> int:
    """Where a sample stands in the order of a seed: 64 bits."""
    return int.from_bytes(blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest())


class _Writer:
    """Appends samples to a file and returns the offset of each."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._end = 0

    def __call__(self, sample: Sample, place: str) -> int:
        fields = [sample.id, sample.input, sample.expected, sample.metadata, sample.messages]
        line = json.dumps(fields).encode() + SEPARATOR + place.encode(errors="replace").replace(b"\n", b" ") + b"\n"
        start, self._end = self._end, self._end + len(line)
        self._write(line)
        return start


def _all(ranked: Iterable[Ranked], write: _Writer) -> array[int]:
    """The offsets of all samples by rank; equal ranks stay in the order of the source."""
    ranks, offsets = array("Q"), array("Q")
    for rank, sample, place in ranked:
        ranks.append(rank)
        offsets.append(write(sample, place))
    return array("Q", (offsets[number] for number in sorted(range(len(ranks)), key=ranks.__getitem__)))


def _lowest(ranked: Iterable[Ranked], write: _Writer, limit: int) -> array[int]:
    """The offsets of the `limit` samples of lowest rank, in its order."""
    kept: list[tuple[int, int, int]] = []  # rank and number are negated: the one to give up first is on top
    for number, (rank, sample, place) in enumerate(ranked):
        if len(kept) < limit:
            heapq.heappush(kept, (-rank, -number, write(sample, place)))
        elif rank < -kept[0][0]:
            heapq.heapreplace(kept, (-rank, -number, write(sample, place)))
    return array("Q", (offset for _, _, offset in sorted(kept, reverse=True)))
