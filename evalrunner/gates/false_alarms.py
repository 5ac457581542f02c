"""How often the gates of a suite together stop a model as good as the accepted run, by resampling that run. Pure.

A draw takes samples with replacement, from the same slice or by whole clusters, with all their scores, so that gates
stay as related as they are. Some samples get the scores of another one of the slice instead: as many as make the usual
share of scores change from run to run. The expected metrics are those of the accepted run. The outcomes of the draw go
through the functions that give the verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from evalrunner.gates.check import blocks
from evalrunner.gates.decision import UNTESTED, Outcome, verdicts_of
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.regression import drop_outcome
from evalrunner.gates.threshold import threshold_outcome
from evalrunner.stats.betting_power import largest_capital
from evalrunner.stats.hypothesis_tests import ALPHA, paired_p_values

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[numpy.float64]
    Places: TypeAlias = NDArray[numpy.int64]

DRAWS: Final = 1000
MIN_DRAWS: Final = 100
VALUES: Final = 600_000  # of graded and clustered scores in all draws: about two seconds
SCORES: Final = 40_000_000  # drawn in all: about two seconds as well
MIN_STRATUM: Final = 5  # samples of a group within which samples are drawn, on average


@dataclass(frozen=True, slots=True)
class GateScores:
    """The scores of the accepted run for one gate on one target, by the place of a sample; NaN without one.

    `members` are the samples of the gate's slice. `before` are the baseline's scores, for a gate on a baseline. `binary`:
    the test is that of 0/1 scores.
    """

    gate: Gate
    target: str
    values: Floats
    members: NDArray[numpy.bool_]
    before: Floats | None = None
    binary: bool = False


@dataclass(frozen=True, slots=True)
class RedRate:
    """The share of `draws` that end with an exit code other than 0: as the suite says, and without any correction.

    `by_gate` is that of each gate alone, in the order of the resampled scores.
    """

    corrected: float
    uncorrected: float
    by_gate: tuple[float, ...]
    draws: int


class Resampling:
    """Draws runs of `n` samples like the accepted one.

    `strata` and `clusters` are the groups of the samples by their place; `changed` is by target the chance that a sample
    has the scores of another one.
    """

    def __init__(
        self, scores: Sequence[GateScores], *, n: int, changed: Mapping[str, float], seed: int = 0,
        strata: Sequence[int] | None = None, clusters: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        import numpy

        self.scores, self.n, self.changed = scores, n, changed
        self.random = numpy.random.default_rng(seed)
        self.count = len(scores[0].values)
        groups = numpy.zeros(self.count, dtype=int) if strata is None else numpy.asarray(strata)
        if self.count < MIN_STRATUM * len(set(groups.tolist())):
            groups = numpy.zeros(self.count, dtype=int)
        self.order = numpy.argsort(groups, kind="stable")
        ordered = groups[self.order]
        self.first = numpy.searchsorted(ordered, groups, "left")
        self.size = numpy.searchsorted(ordered, groups, "right") - self.first
        self.template = self.order[numpy.arange(n) * self.count // n]
        self.members = None
        if clusters is not None:
            codes = numpy.asarray(clusters)
            self.members = [numpy.flatnonzero(codes == code) for code in numpy.unique(codes)]
        self.known: dict[tuple[int, ...], tuple[Outcome, bool]] = {}

    def outcomes(self) -> list[tuple[Outcome, bool]]:
        """The outcome of every gate on one draw, and whether it is called worse."""
        import numpy

        places, clusters = self._draw()
        other = {
            target: numpy.where(self.random.random(len(places)) < share, self._partners(places), places)
            for target, share in self.changed.items()
        }
        return [
            self._outcome(at, scores, places, other[scores.target], clusters) for at, scores in enumerate(self.scores)
        ]

    def _draw(self) -> tuple[Places, Places | None]:
        """The places of the samples of a draw; and for each the number of its cluster, each drawn one being its own."""
        import numpy

        if self.members is None:
            return self._partners(self.template), None
        chosen = self.random.integers(0, len(self.members), max(1, round(len(self.members) * self.n / self.count)))
        places = numpy.concatenate([self.members[code] for code in chosen])
        return places, numpy.repeat(numpy.arange(len(chosen)), [len(self.members[code]) for code in chosen])

    def _partners(self, places: Places) -> Places:
        """A sample of the same group for each."""
        import numpy

        steps = numpy.floor(self.random.random(len(places)) * self.size[places]).astype(numpy.int64)
        partners: Places = self.order[self.first[places] + steps]
        return partners

    def _outcome(
        self, at: int, scores: GateScores, places: Places, candidate: Places, clusters: Places | None
    ) -> tuple[Outcome, bool]:
        import numpy

        gate, inside = scores.gate, scores.members[places]
        values = scores.values[candidate[inside]]
        values = numpy.where(numpy.isnan(values), scores.values[places[inside]], values)
        groups = None if clusters is None else clusters[inside]
        if scores.before is not None:
            drops = scores.before[places[inside]] - values
            present = ~numpy.isnan(drops)
            drops = drops[present] if gate.higher_is_better else -drops[present]
            return self._of_drops(at, scores, drops, None if groups is None else groups[present])
        present = ~numpy.isnan(values)
        values, groups = values[present], None if groups is None else groups[present]
        if not len(values):
            return UNTESTED, False
        if gate.spec.sequential and gate.spec.confidence is not None and groups is None:
            return _sequential_outcome(gate, *_in_unit_range(gate, values))
        if gate.estimand.is_share and groups is None:
            count = round(float(values.sum()))
            return self._known((at, count, len(values)), gate)
        if gate.estimand.is_share and gate.estimand.aggregate.always_share:  # scores again, from 0 and 1
            values = values + (gate.estimand.threshold - 1.0)
        return threshold_outcome(gate, values.tolist(), None if groups is None else groups.tolist())

    def _known(self, key: tuple[int, int, int], gate: Gate) -> tuple[Outcome, bool]:
        """The outcome of a share, which depends on its counts alone."""
        if key not in self.known:
            _, count, n = key
            high = gate.estimand.threshold if gate.estimand.aggregate.always_share else 1.0
            self.known[key] = threshold_outcome(gate, [high] * count + [high - 1.0] * (n - count))
        return self.known[key]

    def _of_drops(self, at: int, scores: GateScores, drops: Floats, clusters: Places | None) -> tuple[Outcome, bool]:
        gate = scores.gate
        if not len(drops):
            return UNTESTED, False
        if scores.gate.spec.sequential and clusters is None:
            width = gate.estimand.sample_width or 1.0
            return _sequential_outcome(gate, (width - drops) / (2 * width), (width - gate.spec.bound) / (2 * width))
        if not scores.binary or clusters is not None:
            groups = None if clusters is None else clusters.tolist()
            return drop_outcome(gate, drops.tolist(), groups, binary=scores.binary)
        key = (at, int((drops > 0).sum()), int((drops < 0).sum()), len(drops))
        if key not in self.known:
            self.known[key] = _binary_outcome(gate, *key[1:])
        return self.known[key]


def _binary_outcome(gate: Gate, b: int, c: int, n: int) -> tuple[Outcome, bool]:
    """The outcome of a gate on pairs of 0/1 scores, which depends on their counts alone."""
    p = paired_p_values(b, c, n, max_drop=gate.spec.bound)
    if gate.spec.kind == "improved":
        return Outcome(passed=False, p_fail=p.p_worse, p_gain=p.p_better), b >= c
    assert gate.spec.confidence is not None  # gates on a baseline have one
    return Outcome(p.p_pass <= 1 - gate.spec.confidence, p.p_fail), p.p_worse <= ALPHA


def _in_unit_range(gate: Gate, values: Floats) -> tuple[Floats, float]:
    """The scores of a gate on a threshold and its bound in 0..1, more being better for the gate."""
    low, width = gate.estimand.bounds[0] or 0.0, gate.estimand.sample_width or 1.0
    shares, bound = (values - low) / width, (gate.spec.bound - low) / width
    return (shares, bound) if gate.spec.operator in (">=", ">") else (1.0 - shares, 1.0 - bound)


def _sequential_outcome(gate: Gate, values: Floats, null: float) -> tuple[Outcome, bool]:
    """The outcome of a sequential gate: the inverse of the largest capital is a p-value."""
    assert gate.spec.confidence is not None  # the callers have checked
    above, below = largest_capital(values, null), largest_capital(1.0 - values, 1.0 - null)
    if gate.spec.kind == "improved":
        return Outcome(passed=False, p_fail=1 / below, p_gain=1 / above), below > above
    return Outcome(above * (1 - gate.spec.confidence) >= 1.0, 1 / below), below > above


def red_rate(resampling: Resampling, *, draws: int | None = None) -> RedRate:
    """How often at least one gate changes the exit code, by as many draws as take about two seconds."""
    scores = resampling.scores
    slow = sum(1 + 3 * bool(one.gate.spec.sequential) for one in scores if not _is_fast(one, resampling))
    most = min(VALUES // max(1, slow * resampling.n), SCORES // (resampling.n * (len(scores) + 2)))
    count = draws or max(MIN_DRAWS, min(DRAWS, most))
    gates = [one.gate for one in scores]
    alone = [replace(gate, spec=replace(gate.spec, family="none")) for gate in gates]
    red = uncorrected = 0
    by_gate = [0] * len(gates)
    for _ in range(count):
        outcomes = resampling.outcomes()
        stopped = stopping_gates(gates, outcomes)
        red += bool(stopped)
        uncorrected += bool(stopping_gates(alone, outcomes))
        for place in stopped:
            by_gate[place] += 1
    return RedRate(red / count, uncorrected / count, tuple(each / count for each in by_gate), count)


def _is_fast(scores: GateScores, resampling: Resampling) -> bool:
    """Whether the outcome depends on counts, or on the value alone."""
    if scores.gate.spec.confidence is None:
        return True
    if scores.gate.spec.sequential:
        return False
    binary = scores.binary if scores.before is not None else scores.gate.estimand.is_share
    return binary and resampling.members is None


def stopping_gates(gates: Sequence[Gate], outcomes: Sequence[tuple[Outcome, bool]]) -> list[int]:
    """The places of the gates that change the exit code."""
    verdicts = verdicts_of(gates, [outcome for outcome, _ in outcomes])
    return [
        place
        for place, (gate, verdict, (_, worse)) in enumerate(zip(gates, verdicts, outcomes, strict=True))
        if verdict != "pass" and blocks(gate, verdict, worse=worse)
    ]


def chance_of_change(values: Floats, discordance: float) -> float:
    """The share of samples that must get the scores of another one, so that a share `discordance` of scores changes.

    Two random samples have different 0/1 scores with probability 2p(1 − p); graded ones nearly always.
    """
    import numpy

    known = values[~numpy.isnan(values)]
    if not len(known) or discordance <= 0:
        return 0.0
    _, counts = numpy.unique(known, return_counts=True)
    differing = 1 - float(((counts / len(known)) ** 2).sum())
    return 0.0 if math.isclose(differing, 0) else min(1.0, discordance / differing)
