"""Two candidates on one metric: sample by sample where both have a score, or as two samples where they cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalrunner.compare.result import Pair
from evalrunner.stats.hypothesis_tests import Difference, paired_difference, two_sample_difference

Scores = Mapping[int, float]  # by the place of the sample in the dataset


@dataclass(frozen=True, slots=True)
class Scale:
    """What the scores are: 0 or 1 by construction (`binary`), or in a range so wide, None where that is open.

    `clusters` holds the cluster of each place, where samples are related.
    """

    binary: bool
    width: float | None
    higher_is_better: bool
    clusters: Sequence[int] | None = None

    def span(self, *sides: Scores) -> float | None:
        """The width that the tests of graded scores take, of what was seen where the range is open; None for 0/1."""
        if self.binary:
            return None
        if self.width is not None:
            return self.width
        seen = [value for side in sides for value in side.values()]
        return (max(seen) - min(seen) if seen else 0.0) or 1.0  # where nothing varies any width says the same


def pair_scores(names: tuple[str, str], first: Scores, second: Scores, scale: Scale) -> Pair:
    """The paired difference of two candidates; samples with a score on one side only are left out and counted."""
    places = sorted(first.keys() & second.keys())
    differences = [first[place] - second[place] for place in places]
    clusters = None if scale.clusters is None else [scale.clusters[place] for place in places]
    found = paired_difference(differences, span=scale.span(first, second), clusters=clusters)
    up, down = sum(1 for item in differences if item > 0), sum(1 for item in differences if item < 0)
    wins, losses = (up, down) if scale.higher_is_better else (down, up)
    left_out = len(first) + len(second) - 2 * len(places)
    return _pair(names, found, left_out=left_out, counts=(wins, len(places) - wins - losses, losses))


def unpaired_scores(names: tuple[str, str], first: Scores, second: Scores, scale: Scale) -> Pair:
    """The difference of two candidates that answered different samples."""
    sides = [[side[place] for place in sorted(side)] for side in (first, second)]
    clusters = None
    if scale.clusters is not None:
        of = scale.clusters
        clusters = [of[place] for place in sorted(first)], [of[place] for place in sorted(second)]
    found = two_sample_difference(sides[0], sides[1], span=scale.span(first, second), clusters=clusters)
    return _pair(names, found)


def _pair(
    names: tuple[str, str], found: Difference, *, left_out: int = 0, counts: tuple[int, int, int] | None = None
) -> Pair:
    wins, ties, losses = counts or (None, None, None)
    return Pair(
        first=names[0], second=names[1], difference=found.estimate, low=found.low, high=found.high,
        p_value=found.p_value, method=found.method, n=found.n, wins=wins, ties=ties, losses=losses,
        left_out=left_out, note=found.note,
    )  # fmt: skip
