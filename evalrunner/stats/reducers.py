"""Epochs to one score per sample: reducers, named and defined as inspect has them."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evalrunner.errors import nearest

PLAIN: Final = ("mean", "median", "mode", "max")
COUNTING: Final = ("at_least", "pass_at", "pass_k")
NAMES: Final = (*PLAIN, *(f"{kind}_{{k}}" for kind in COUNTING))
_COUNTING = re.compile(rf"({'|'.join(COUNTING)})_([1-9][0-9]{{0,5}})")
PASS_SCORE: Final = 1.0  # the score from which an epoch counts as passed


@dataclass(frozen=True, slots=True)
class Reducer:
    """One way to make a sample's score of its epochs. `k` is that of the counting ones, `right` what they count from."""

    kind: str
    k: int = 1
    right: float = PASS_SCORE

    @property
    def name(self) -> str:
        """As the suite has it: `mean`, `at_least_3`."""
        return f"{self.kind}_{self.k}" if self.counts else self.kind

    @property
    def counts(self) -> bool:
        """Whether it counts passed epochs, so that it comes out in 0..1 whatever the scores are."""
        return self.kind in COUNTING

    @property
    def unbiased(self) -> bool:
        """Whether runs of different numbers of epochs may be compared by it: its expectation does not depend on them."""
        return self.kind in ("mean", "pass_at", "pass_k")

    def yields_binary(self, *, binary: bool, epochs: int) -> bool:
        """Whether every reduced score is 0 or 1 by construction, for scores that are (`binary`) or are not."""
        if self.kind == "at_least":
            return True
        if self.counts:  # over as many as there are, all or any
            return self.k == epochs
        return binary and (epochs == 1 or self.kind in ("mode", "max"))

    def reduce(self, scores: Sequence[float]) -> float | None:
        """The score of a sample from those of its scored epochs, in their order; None from fewer than k."""
        n = len(scores)
        if n < self.k:
            return None
        if self.kind == "mean":
            return math.fsum(scores) / n
        if self.kind == "median":
            return statistics.median(scores)
        if self.kind == "mode":
            return Counter(scores).most_common(1)[0][0]  # of equally common ones the first
        if self.kind == "max":
            return max(scores)
        right = sum(1 for score in scores if score >= self.right)
        if self.kind == "at_least":
            return float(right >= self.k)
        if self.kind == "pass_k":
            return math.comb(right, self.k) / math.comb(n, self.k)
        return 1 - math.comb(n - right, self.k) / math.comb(n, self.k)  # Chen et al. 2021, eq. 1


MEAN: Final = Reducer("mean")


def parse_reducer(name: str, *, right: float = PASS_SCORE) -> Reducer:
    """The reducer called `name`. Raises ValueError with the nearest name."""
    if name in PLAIN:
        return Reducer(name)
    found = _COUNTING.fullmatch(name)
    if found is None:
        known = "; there are " + ", ".join(NAMES)
        raise ValueError(f"{name!r} is no reducer{nearest(name, PLAIN) or known}")
    return Reducer(found[1], int(found[2]), right)
