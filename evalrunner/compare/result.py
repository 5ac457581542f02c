"""What a comparison comes to: pairs, rankings, fronts, and what is to be known beside them, all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from evalrunner.domain import Metric

ALPHA: Final = 0.05  # two-sided, over the whole family


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Who is compared: a target of a run. `run` is None where all are of one run; `differs` is against the first.

    `models` are the names it goes by: as the suite has it, and as it was served.
    """

    name: str
    target: str
    run: str | None = None
    models: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two candidates on one metric: `difference` is first − second in the metric's unit, with its 95 % interval.

    `p_value` is of this test alone, `p_adjusted` after Holm over the family, None outside of it. `better` is the one
    that really is (p_adjusted < .05). `wins` are the samples on which the first did better, `losses` the second.
    `n` pairs; `left_out` samples have a score on one side only. Unpaired, `n` counts the values of both sides.
    """

    first: str
    second: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None = None
    method: str | None = None
    n: int = 0
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    left_out: int = 0
    better: str | None = None
    note: str | None = None

    @property
    def worse(self) -> str | None:
        """The other one of the two, where one is better."""
        return None if self.better is None else self.second if self.better == self.first else self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Contestants from best to worst by their mean, then name, and what stands between each two of them.

    `>` only where every one up to there is better than every one after it; else `≈`. Contestants that share a letter
    were not told apart. `best` is better than every other one, or there is none. `differing` are the pairs (better,
    worse) that differ inside a stretch of `≈`, where the signs cannot show it.
    """

    order: tuple[str, ...]
    signs: tuple[str, ...]
    letters: Mapping[str, str]
    best: str | None = None
    differing: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of all candidates. Without a `ranking` it stands outside the family: its p-values are unadjusted.

    `values` holds each candidate's own number, over all the samples it was scored on.
    """

    name: str
    scorer: str
    aggregate: str
    reducer: str
    unit: str | None
    higher_is_better: bool
    values: Mapping[str, Metric]
    pairs: tuple[Pair, ...]
    slice: Mapping[str, str] | None = None
    ranking: Ranking | None = None

    def pair(self, one: str, other: str) -> Pair:
        """The pair of two candidates, in whichever order. Raises KeyError."""
        for found in self.pairs:
            if {found.first, found.second} == {one, other}:
                return found
        raise KeyError((one, other))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoFront:
    """Who no other one outdoes in quality and in what it takes at once, by the numbers as they are.

    `missing` are those that have no number on one of the two, and so cannot be placed.
    """

    quality: str
    against: str
    members: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Contestants side by side. `metrics` are the family; `costs` (latency, tokens, money) and `slices` stand outside.

    `family` is how many tests Holm's correction is over. `warnings` say what casts doubt on all of it, `notes` what
    else is to be known. `most_different` are places of samples in the dataset, the most different scores first.
    """

    candidates: tuple[Candidate, ...]
    metrics: tuple[ComparedMetric, ...]
    costs: tuple[ComparedMetric, ...] = ()
    slices: tuple[ComparedMetric, ...] = ()
    pareto_fronts: tuple[ParetoFront, ...] = ()
    paired: bool = True
    alpha: float = ALPHA
    family: int = 0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    most_different: tuple[int, ...] = field(default=(), compare=False)
