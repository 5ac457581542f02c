"""A run and its baseline, paired sample by sample: the drop of each pair, and what it could be where a side is missing.

Pairs are on the id with the same input and expected output; epochs are reduced first. The samples of the comparison
are those of the baseline: a changed or removed one is a pair whose answer in the new run is missing. Samples that only
the new run has are outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from evalrunner.baselines.file import NOT_RUN as NOT_RUN_STATE
from evalrunner.baselines.file import STATES, Baseline, BaselineRow, SampleKey
from evalrunner.gates.evidence import Evidence
from evalrunner.gates.metric_lookup import Gate
from evalrunner.runs.provenance import EMPTY_PROVENANCE, Provenance
from evalrunner.stats.tally import NOT_RUN, SKIPPED, FillRange, reduce_cells

CODES = {name: code for code, name in STATES.items()} | {NOT_RUN_STATE: NOT_RUN}
GONE: Final = -1  # the cluster of removed samples: theirs are not known, and sharing one is the worst case
Filling: TypeAlias = Literal["observed", "worst", "best", "by turns"]


@dataclass(frozen=True, slots=True)
class CandidateRun:
    """The run that is compared with a baseline: its provenance, and its samples by their position in the dataset.

    `limited`: a limit cut its dataset off, so that samples of the baseline may lie beyond it.
    """

    provenance: Provenance
    keys: Mapping[int, SampleKey]
    limited: bool = False


NO_CANDIDATE: Final = CandidateRun(EMPTY_PROVENANCE, {})


@dataclass(frozen=True, slots=True)
class SideScore:
    """The reduced score of one side of a pair: None without one, and its worst and best (NaN: left out).

    `share` is the share of its answers that have a score.
    """

    value: float | None
    worst: float
    best: float
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample of the baseline that is compared."""

    baseline: SideScore
    candidate: SideScore
    cluster: int

    @property
    def scored(self) -> bool:
        """Whether both sides have a score."""
        return self.baseline.value is not None and self.candidate.value is not None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing on either side."""
        return self.scored and self.baseline.share == self.candidate.share == 1.0


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs of one gate, with those of changed and removed samples; `beyond` counts samples beyond the limit of the run.

    `unscored` counts pairs without a score on one side: `unscored_before` of them have none in the baseline. `ignored`
    counts changed and removed samples that the suite leaves out.
    """

    pairs: tuple[Pair, ...]
    changed: int = 0
    removed: int = 0
    new: int = 0
    beyond: int = 0
    unscored: int = 0
    unscored_before: int = 0
    ignored: int = 0

    @property
    def scored(self) -> int:
        """Pairs with a score on both sides."""
        return sum(1 for pair in self.pairs if pair.scored)

    @property
    def excluded(self) -> int:
        """Samples that are in one of the runs only, or differ between them."""
        return self.changed + self.removed + self.new + self.beyond + self.ignored

    @property
    def coverage(self) -> float:
        """Scored pairs ÷ all; a pair with missing epochs counts in part."""
        if not self.pairs:
            return 0.0
        return math.fsum(pair.baseline.share * pair.candidate.share for pair in self.pairs if pair.scored) / len(
            self.pairs
        )

    @property
    def incomplete(self) -> bool:
        """Whether anything is missing in any pair."""
        return not all(pair.complete for pair in self.pairs)

    def note(self) -> str | None:
        """`3 samples new, 60 beyond the limit`, or None: what is outside of the comparison without weakening it."""
        kinds = {
            "new": self.new,
            "beyond the limit of the run": self.beyond,
            "changed or removed, as allowed": self.ignored,
        }
        counts = [f"{count:,} {name}" for name, count in kinds.items() if count]
        return f"samples not compared: {', '.join(counts)}" if counts else None


def pair_up(
    gate: Gate, evidence: Evidence, candidate: CandidateRun, baseline: Baseline, target: str, *, in_slice: set[int] | None
) -> Pairing:  # fmt: skip
    """The pairs of a gate's samples with those of the baseline's `target`.

    `in_slice` are the positions of the samples in the gate's slice, None for all. A sample that the scorer skips on both
    sides is no pair; one that it skips on one side is a pair without a score.
    """
    pairing = _PairingBuilder(gate, evidence, baseline, target)
    for sample, key in candidate.keys.items():
        if in_slice is None or sample in in_slice:
            pairing.add(sample, key)
        else:
            pairing.add_moved(sample, key)
    seen = {key.id for key in candidate.keys.values()}
    pairing.add_unseen(seen, beyond=_within_limit(candidate, baseline, target, seen))
    return Pairing(tuple(pairing.pairs), **pairing.counts)


class _PairingBuilder:
    """Collects the pairs of a gate and counts those that are missing, by kind.

    `unknown` is how many samples of the baseline may not have run, so that nothing is known of them.
    """

    def __init__(self, gate: Gate, evidence: Evidence, baseline: Baseline, target: str) -> None:
        self.gate, self.evidence, self.baseline, self.target = gate, evidence, baseline, target
        self.lost = SideScore(None, *evidence.ends, share=0.0)
        self.place_of = {sample: place for place, sample in enumerate(evidence.per_sample.samples)}
        self.ignores_changes = gate.spec.changed_data == "ignore"
        self.unknown = baseline.never_ran(target)
        self.pairs: list[Pair] = []
        self.counts = dict.fromkeys(
            ("changed", "removed", "new", "beyond", "unscored", "unscored_before", "ignored"), 0
        )

    def add(self, sample: int, key: SampleKey) -> None:
        """Add a sample of the run by its position."""
        scores, place = self.evidence.per_sample, self.place_of.get(sample)
        skipped = place is not None and scores.codes[place] == SKIPPED
        now = self.lost if skipped or place is None else _side(self.evidence, place)
        row = self.baseline.rows.get((self.target, key.id))
        kind, before = match_sample(self.gate, row, key, self.evidence.fill, skipped=skipped)
        if kind == "new" and row is None and self.unknown:  # perhaps one that did not run
            self.unknown -= 1
            self._add_pair(sample, self.lost, now)
        elif kind == "new":
            self.counts["new"] += 1
        elif kind == "changed":
            self._add_changed(sample, before or self.lost)
        elif kind == "same":
            self._add_pair(sample, before or self.lost, now)

    def add_moved(self, sample: int, key: SampleKey) -> None:
        """Add a sample outside of the gate's slice: a changed one, if it was inside in the baseline."""
        moved = _moved_side(self.gate, self.baseline.rows.get((self.target, key.id)), self.evidence.fill)
        if moved is not None:
            self._add_changed(sample, moved)

    def add_unseen(self, seen: set[str], *, beyond: bool) -> None:
        """Add the samples that only the baseline has. `beyond`: they lie beyond the limit of the run."""
        rows = _unseen(self.gate, self.baseline, self.target, seen)
        sides = [baseline_side(self.gate, row, self.evidence.fill) for row in rows]
        gone = [side for side in sides if side is not None]
        kind = "beyond" if beyond else "ignored" if self.ignores_changes else "removed"
        self.counts[kind] += len(gone)
        if kind == "removed":
            self.pairs.extend(Pair(side, self.lost, GONE) for side in gone)

    def _add_changed(self, sample: int, before: SideScore) -> None:
        self.counts["ignored" if self.ignores_changes else "changed"] += 1
        if not self.ignores_changes:
            self.pairs.append(Pair(before, self.lost, self.evidence.cluster_of(sample)))

    def _add_pair(self, sample: int, before: SideScore, now: SideScore) -> None:
        pair = Pair(before, now, self.evidence.cluster_of(sample))
        self.counts["unscored"] += not pair.scored
        self.counts["unscored_before"] += before.value is None
        self.pairs.append(pair)


def match_sample(
    gate: Gate, row: BaselineRow | None, key: SampleKey, fill: FillRange, *, skipped: bool
) -> tuple[Literal["new", "changed", "same", "neither"], SideScore | None]:
    """How a sample of the run relates to its row in the baseline, and its score there; `skipped`: the run has none.

    `neither` is a sample that the scorer skips on both sides, or that only the run has and skips.
    """
    before = None if row is None else baseline_side(gate, row, fill)
    if row is None or (before is None and row.key != key):
        return ("neither" if skipped else "new"), None
    if row.key != key:
        return "changed", before
    return ("neither" if before is None and skipped else "same"), before


def count_removed(
    gate: Gate, candidate: CandidateRun, baseline: Baseline, target: str, fill: FillRange, in_slice: set[int] | None
) -> int:  # fmt: skip
    """How many samples of the baseline the run lacks, or has in another slice, so that they count as missing."""
    seen = {key.id for key in candidate.keys.values()}
    rows = baseline.rows
    moved = 0
    if in_slice is not None:
        outside = (key.id for place, key in candidate.keys.items() if place not in in_slice)
        moved = sum(1 for id_ in outside if _moved_side(gate, rows.get((target, id_)), fill) is not None)
    if _within_limit(candidate, baseline, target, seen):
        return moved
    sides = (baseline_side(gate, row, fill) for row in _unseen(gate, baseline, target, seen))
    return moved + sum(1 for side in sides if side is not None)


def _unseen(gate: Gate, baseline: Baseline, target: str, seen: set[str]) -> Iterator[BaselineRow]:
    """The rows of the baseline whose samples the run does not have, in the gate's slice or in one that is not known."""
    for (name, id_), row in baseline.rows.items():
        if name != target or id_ in seen:
            continue
        if gate.spec.slice is None or row.slices is None:
            yield row
            continue
        ((column, text),) = gate.spec.slice.items()
        if row.slices.get(column, text) == text:
            yield row


def _moved_side(gate: Gate, row: BaselineRow | None, fill: FillRange) -> SideScore | None:
    """The baseline's score of a sample that was in the gate's slice then and is not now; None for any other sample."""
    if row is None or row.slices is None or gate.spec.slice is None:
        return None
    ((column, text),) = gate.spec.slice.items()
    return baseline_side(gate, row, fill) if row.slices.get(column) == text else None


def _within_limit(candidate: CandidateRun, baseline: Baseline, target: str, seen: set[str]) -> bool:
    """Whether the limit of the run explains all samples that only the baseline has: it has that many fewer samples."""
    if not candidate.limited:
        return False
    ids = [id_ for name, id_ in baseline.rows if name == target]
    return sum(1 for id_ in ids if id_ not in seen) <= len(ids) - len(seen)


def _side(evidence: Evidence, place: int) -> SideScore:
    scores = evidence.per_sample
    value = scores.values[place]
    share = scores.scored[place] / scores.applicable[place] if scores.applicable[place] else 0.0
    return SideScore(None if math.isnan(value) else value, scores.worst[place], scores.best[place], share)


def baseline_side(gate: Gate, row: BaselineRow, fill: FillRange) -> SideScore | None:
    """The score of a sample in a baseline; None where the scorer skipped it. `fill` is what a missing score could be."""
    name = gate.measure.name
    sign = -1.0 if gate.spec.per_sample is not None and gate.spec.per_sample.operator == "<=" else 1.0
    cells = [
        (CODES.get(state, NOT_RUN), math.nan if value is None else sign * value)
        for state, value in zip(row.states.get(name, ()), row.scores.get(name, ()), strict=True)
    ]
    cells = [cell for cell in cells if cell[0] != SKIPPED]
    if not cells:
        return None
    value, (worst, best) = reduce_cells(cells, gate.reducer, fill)
    return SideScore(value, worst, best, sum(1 for _, score in cells if not math.isnan(score)) / len(cells))


def drops_of(gate: Gate, pairs: Iterable[Pair], filling: Filling = "observed") -> Iterator[tuple[float, int]]:
    """How much worse the candidate is in each pair, with the pair's cluster.

    `observed` are the pairs with a score on both sides. Else what is missing is at its worst for the candidate, at its
    best, or at both by turns.
    """
    estimand, place = gate.estimand, 0
    for pair in pairs:
        if filling == "observed":
            if pair.baseline.value is None or pair.candidate.value is None:
                continue
            before, now = pair.baseline.value, pair.candidate.value
        elif pair.complete:
            before, now = pair.baseline.worst, pair.candidate.worst
        else:
            worst = filling == "worst" or (filling == "by turns" and place % 2 == 0)
            before, now = (
                (pair.baseline.best, pair.candidate.worst) if worst else (pair.baseline.worst, pair.candidate.best)
            )
            place += 1
            if math.isnan(before) or math.isnan(now):
                continue
        drop = estimand.of_sample(before) - estimand.of_sample(now)
        yield (drop if gate.higher_is_better else -drop), pair.cluster
