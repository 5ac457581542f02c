"""Samples in the order of a seed, in a file: only ranks and offsets are in memory."""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeAlias

from evalrunner.domain import Sample
from evalrunner.prompts import ABSENT, find_value
from evalrunner.spelling import exact_json, respell, spellings
from evalrunner.storage import sorted_places

SEPARATOR: Final = b"\0"  # between a sample and its location in the file; JSON escapes it, so neither contains it

Ranked: TypeAlias = tuple[int, Sample, str]
"""Rank, sample and location."""


class Shuffle:
    """Samples in a file in the order of a seed. Call `fill` first; then iterate as often as needed.

    The rank of a sample is a hash of seed and id, so that the order stays when rows are added. A limit takes the first
    samples of that order. Only ranks and offsets are in memory. With `cluster`, a column, the rank is that of the
    sample's value of it, so that the samples of a cluster stay together, in the order of the source.
    """

    def __init__(self, path: Path, *, seed: int, limit: int | None, cluster: str | None = None) -> None:
        self.path = path
        self._seed = seed
        self._limit = limit
        self._cluster = cluster
        self._offsets: Iterable[int] = ()

    def fill(self, samples: Iterable[tuple[Sample, str]]) -> None:
        """Write every sample with its location; with a limit only those that may be among the first."""
        with self.path.open("wb") as file:
            ranked = ((rank_of(self._unit(sample), self._seed), sample, location) for sample, location in samples)
            write = _SampleWriter(file.write)
            self._offsets = _all(ranked, write) if self._limit is None else _lowest(ranked, write, self._limit)

    def _unit(self, sample: Sample) -> str:
        """What is moved as a whole: the sample, or its cluster."""
        value = ABSENT if self._cluster is None else find_value(sample.metadata, self._cluster)
        if value is ABSENT or value is None or value == "":
            return sample.id
        return value if isinstance(value, str) else exact_json(value, sort_keys=True, default=str)

    def __iter__(self) -> Iterator[tuple[Sample, str]]:
        with self.path.open("rb") as file:
            for index, offset in enumerate(self._offsets):
                file.seek(offset)
                text, _, location = file.readline().rstrip(b"\n").rpartition(SEPARATOR)
                fields, spelling = json.loads(text)
                name, value, expected, metadata, listed, checks = respell(fields, spelling)
                messages = None if listed is None else tuple(listed)
                sample = Sample(name, value, tuple(expected), metadata, messages, index, checks)
                yield sample, location.decode(errors="replace")


def rank_of(name: str, seed: int) -> int:
    """The 64-bit rank of a sample in the order of a seed."""
    return int.from_bytes(blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest())


class _SampleWriter:
    """Appends samples to a file and returns the offset of each."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._end = 0

    def __call__(self, sample: Sample, location: str) -> int:
        fields = [sample.id, sample.input, sample.expected, sample.metadata, sample.messages, sample.checks]
        suffix = location.encode(errors="replace").replace(b"\n", b" ")
        line = json.dumps([fields, spellings(fields)]).encode() + SEPARATOR + suffix + b"\n"
        start, self._end = self._end, self._end + len(line)
        self._write(line)
        return start


def _all(ranked: Iterable[Ranked], write: _SampleWriter) -> array[int]:
    """The offsets of all samples by rank; equal ranks keep the order of the source."""
    ranks, offsets = array("Q"), array("Q")
    for rank, sample, location in ranked:
        ranks.append(rank)
        offsets.append(write(sample, location))
    return array("Q", (offsets[number] for number in sorted_places(ranks)))


def _lowest(ranked: Iterable[Ranked], write: _SampleWriter, limit: int) -> array[int]:
    """The offsets of the `limit` samples of lowest rank, in order of rank."""
    lowest: list[tuple[int, int, int]] = []  # rank and number negated: the one to replace first is on top
    for number, (rank, sample, location) in enumerate(ranked):
        if len(lowest) < limit:
            heapq.heappush(lowest, (-rank, -number, write(sample, location)))
        elif rank < -lowest[0][0]:
            heapq.heapreplace(lowest, (-rank, -number, write(sample, location)))
    return array("Q", (offset for _, _, offset in sorted(lowest, reverse=True)))
