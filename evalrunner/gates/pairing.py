"""A run and its baseline, sample by sample: on the id and the same input and expected; epochs are reduced first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from evalrunner.baselines.file import Baseline, BaselineRow, SampleKey
from evalrunner.gates.evidence import Evidence, reduce_scores
from evalrunner.gates.metric_lookup import Gate
from evalrunner.runs.provenance import Provenance, scorer_changes, target_changes


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample that is in both: the baseline's reduced score, and the candidate's or None."""

    baseline: float
    candidate: float | None
    cluster: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pairs of one gate, and the samples that are none: changed, new or gone, or without a score back then."""

    pairs: tuple[Pair, ...]
    changed: int = 0
    new: int = 0
    gone: int = 0
    unscored: int = 0

    @property
    def left_out(self) -> int:
        return self.changed + self.new + self.gone + self.unscored

    @property
    def missing(self) -> int:
        """Pairs that have no score of the candidate."""
        return sum(1 for pair in self.pairs if pair.candidate is None)

    def says_left_out(self) -> str:
        """`; 3 samples left out (1 changed, 2 new)`, or nothing."""
        kinds = {"changed": self.changed, "new": self.new, "gone": self.gone, "not scored there": self.unscored}
        found = [f"{count:,} {name}" for name, count in kinds.items() if count]
        noun = "sample" if self.left_out == 1 else "samples"
        return f"; {self.left_out:,} {noun} left out ({', '.join(found)})" if found else ""


def pair_up(
    gate: Gate, evidence: Evidence, keys: Mapping[int, SampleKey], baseline: Baseline, target: str
) -> Pairing:  # fmt: skip
    """The pairs of a gate's samples with those of the baseline's `target`.

    A sample that the candidate's scorer skips has a partner all the same, and then no score.
    """
    pairs: list[Pair] = []
    counts = {"changed": 0, "new": 0, "unscored": 0}
    seen: set[str] = set()
    for place, score in evidence.by_place():
        key = keys[place]
        seen.add(key.id)
        row = baseline.rows.get((target, key.id))
        if row is None:
            counts["new"] += 1
        elif row.key != key:
            counts["changed"] += 1
        elif (value := _reduced(gate, row)) is None:
            counts["unscored"] += score is not None
        else:
            pairs.append(Pair(value, score, evidence.cluster_of(place)))
    gone = 0 if gate.spec.slice else sum(1 for at, id_ in baseline.rows if at == target and id_ not in seen)
    return Pairing(tuple(pairs), counts["changed"], counts["new"], gone, counts["unscored"])


def _reduced(gate: Gate, row: BaselineRow) -> float | None:
    return reduce_scores(gate, [value for value in row.scores.get(gate.measure.name, ()) if value is not None])


def drops_of(gate: Gate, pairs: Iterable[Pair], *, worst: float | None = None) -> Iterator[tuple[float, int]]:
    """How much worse the candidate is in each pair, and the pair's cluster; missing ones at `worst`, or left out."""
    estimand = gate.estimand
    for pair in pairs:
        candidate = pair.candidate if pair.candidate is not None else worst
        if candidate is None:
            continue
        before, now = estimand.of_sample(pair.baseline), estimand.of_sample(candidate)
        yield (before - now if gate.higher_is_better else now - before), pair.cluster


def refusals(gate: Gate, provenance: Provenance, baseline: Baseline) -> list[str]:
    """Why the gate's metric cannot be compared with the baseline's: what differs between the scorers, in words."""
    name, head = gate.measure.name, baseline.head
    if name not in head.provenance.scorers:
        return []
    reasons = scorer_changes(head.provenance, provenance, name)
    if head.epochs < gate.reducer.k:
        reasons.append(f"epochs {head.epochs}, of which {gate.reducer.name!r} needs {gate.reducer.k}")
    elif head.epochs != gate.epochs and not gate.reducer.unbiased:
        reasons.append(f"epochs {head.epochs} → {gate.epochs}, on which {gate.reducer.name!r} depends")
    return reasons


def differences(provenance: Provenance, name: str, baseline: Baseline, target: str) -> tuple[str, ...]:
    """What is being compared: what differs between the two targets, in words."""
    return tuple(target_changes(baseline.head.provenance.targets[target], provenance.targets[name]))
