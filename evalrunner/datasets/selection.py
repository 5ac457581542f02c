"""Which samples of a dataset a run uses: ids, a stratified sample, or a shard."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

from evalrunner.datasets.shuffle import rank_of
from evalrunner.domain import Sample
from evalrunner.errors import Problem, SuiteError
from evalrunner.prompts import ABSENT, find_value
from evalrunner.spelling import exact_json

SHARD: Final = re.compile(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", re.ASCII)
NO_VALUE: Final = ""  # the group of samples without a value


@dataclass(frozen=True, slots=True)
class SampleSelection:
    """Ids of the samples to use. `reason` says in messages which these are: `failed in run 2026…`."""

    ids: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` (from 1) of `of`: the samples whose id has this hash, on every machine."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard of a text such as `2/8`. Raises SuiteError."""
        match = SHARD.fullmatch(text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise SuiteError(f"--shard {text!r}: should be a part of a number of parts, from 1/8 to 8/8")
        return cls(int(match[1]), int(match[2]))

    def has(self, id: str) -> bool:
        """Whether a sample is in this shard."""
        return shard_number(id, self.of) == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, slots=True)
class Subset:
    """The samples of a dataset that a run uses: those that `failed` before, those `named` by id, those of a `shard`; None: all."""

    failed: SampleSelection | None = None
    named: SampleSelection | None = None
    shard: Shard | None = None


EVERYTHING: Final = Subset()


def shard_number(id: str, of: int) -> int:
    """The shard, from 1, that a sample is in."""
    return int.from_bytes(blake2b(b"shard\0" + id.encode(errors="replace"), digest_size=8).digest()) % of + 1


class StratifiedSample:
    """A random sample of `size` by seed; with `by`, every value of that column has its share.

    The shares are rounded by the largest remainders. Memory holds 8 bytes for each sample of the dataset.
    """

    def __init__(self, size: int, by: str | None, seed: int) -> None:
        self.size, self.by, self.seed = size, by, seed
        self._bounds: dict[str, int] = {}

    def choose(self, samples: Iterable[Sample]) -> None:
        """Look at all samples. Raises SuiteError if none has the column."""
        ranks: dict[str, array[int]] = {}
        seen = self.by is None
        for sample in samples:
            group = self._group(sample)
            seen = seen or group != NO_VALUE
            ranks.setdefault(group, array("Q")).append(rank_of(sample.id, self.seed))
        if ranks and not seen:
            raise SuiteError([Problem("", "dataset.by", f"no sample has a value in the column {self.by!r}")])
        shares = proportional_shares({group: len(each) for group, each in ranks.items()}, self.size)
        self._bounds = {group: sorted(ranks[group])[share - 1] for group, share in shares.items() if share}

    def takes(self, sample: Sample) -> bool:
        """Whether a sample was chosen."""
        bound = self._bounds.get(self._group(sample))
        return bound is not None and rank_of(sample.id, self.seed) <= bound

    def _group(self, sample: Sample) -> str:
        value = ABSENT if self.by is None else find_value(sample.metadata, self.by)
        if value is ABSENT or value is None:
            return NO_VALUE
        return value if isinstance(value, str) else exact_json(value, sort_keys=True, default=str)


def proportional_shares(sizes: dict[str, int], wanted: int) -> dict[str, int]:
    """How many of each group make a sample of the wanted size, in proportion; equal remainders go by the group's name."""
    total = sum(sizes.values())
    if wanted >= total:
        return sizes
    shares = {group: size * wanted // total for group, size in sizes.items()}
    rest = wanted - sum(shares.values())
    by_remainder = sorted(sizes, key=lambda group: (-(sizes[group] * wanted % total), group))
    for group in by_remainder[:rest]:
        shares[group] += 1
    return shares
