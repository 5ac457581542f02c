"""Sequential gates: verdicts that may be looked at after every sample, so that a run can stop once all are decided. Pure.

Samples are looked at in the order of the run and only as far as that order is complete: the answers that arrive first are
those of the fast ones. What is missing counts against either decision, so a decision holds for every way to fill it in.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from evalrunner.domain import EMPTY, Cell, Row
from evalrunner.gates.decision import GateDecision, in_family
from evalrunner.gates.evidence import amount, gather_scores, percent, positions_in_slice
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import NO_CANDIDATE, SideScore, count_removed, match_sample
from evalrunner.runs.record import LookRecord, UnitsRecord
from evalrunner.stats.sequential import SequentialTest
from evalrunner.stats.summary import Summary
from evalrunner.stats.tally import SKIPPED, SampleScores, Tally, fill_range
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.baselines.file import Baseline
    from evalrunner.gates.check import BaselineContext
    from evalrunner.gates.pairing import CandidateRun

POINT_ALPHA: Final = 0.05  # the share of runs in which a point gate may differ from the full run
LATER_LOOK_SHARE: Final = 4  # later looks at an ordinary gate have this part of its error rate, on top of the first one

WAIT_FACTOR: Final = 5.0  # times the samples in flight: if the gate needs at most so many more, those are awaited first
SIDES: Final = {
    ">=": ("at least", "below"),
    ">": ("above", "at most"),
    "<=": ("at most", "above"),
    "<": ("below", "at least"),
}
"""How a bound is met and missed, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialContext:
    """What sequential verdicts need besides the rows.

    `units` are what the dataset has, by the key of a gate and target (`units_key`), where the run did not read all of it
    in this process. `first_look` is the first verdict that was given on the run, None if there was none.
    """

    units: Mapping[str, UnitsRecord] = EMPTY
    first_look: LookRecord | None = None


def why_not_sequential(gate: Gate) -> str | None:
    """Why a gate cannot be sequential, or None: it must be about a mean of scores in a known range."""
    aggregate = gate.estimand.aggregate
    if gate.judged:
        return "it is decided on labels"
    if gate.spec.operator == "==" and gate.spec.baseline is None:
        return "an equality needs all samples"
    if not aggregate.paired:
        return f"{gate.metric!r} is not a mean of scores"
    if gate.estimand.sample_width is None:
        return f"the scores of {gate.measure.name!r} have no range; declare low and high"
    return None


def units_key(gate: Gate, target: str) -> str:
    """The name under which the run record has the units of a gate: by slice, and by baseline and target."""
    where = [f"{column}={text}" for column, text in (gate.spec.slice or {}).items()]
    return " ".join([*where, *([gate.spec.baseline, target] if gate.spec.baseline is not None else [])])


def count_units(gate: Gate, target: str, summary: Summary, context: BaselineContext) -> UnitsRecord:
    """The units that the dataset has for a gate on a target, as far as its samples are known."""
    slice_ = gate.spec.slice
    samples, removed = summary.samples_in(slice_), 0
    if gate.spec.baseline is not None and (baseline := _Baseline.of(gate, target, context)) is not None:
        removed = baseline.count_removed(positions_in_slice(gate, summary))
    if summary.clusters is None:
        return UnitsRecord(samples=samples, removed=removed)
    codes: Sequence[int] = summary.clusters.codes
    for column, text in (slice_ or {}).items():
        groups = summary.slices[column]
        chosen = groups.code_of(text)
        codes = [cluster for cluster, code in zip(codes, groups.codes, strict=False) if code == chosen]
    sizes = Counter(code for code in codes if code >= 0)
    return UnitsRecord(
        samples=samples, clusters=len(sizes), largest_cluster=max(sizes.values(), default=1), removed=removed
    )  # fmt: skip


class GateTest:
    """The sequential test of one gate on one target, which takes the samples of its slice one after another.

    `alpha` is the error rate for *pass*, `family` the number of gates that share that for *fail*. Before the sample at the
    position `start` it decides nothing. With `ignore_missing` what is missing is left out, instead of counting against
    either decision. `decided_after` is the number of samples behind the verdict.
    """

    def __init__(
        self,
        gate: Gate,
        units: UnitsRecord,
        *,
        alpha: float,
        family: int = 1,
        start: int = 0,
        baseline: _Baseline | None = None,
        ignore_missing: bool = False,
    ) -> None:
        self.gate, self.units, self.alpha, self.family = gate, units, alpha, family
        self.start, self.baseline, self.ignore_missing = start, baseline, ignore_missing
        self.width = gate.estimand.sample_width or 1.0
        self.test = SequentialTest(
            self._null(),
            alpha_pass=alpha / family if gate.spec.kind == "improved" else alpha,  # one of several gains suffices
            alpha_fail=alpha / family,
            total=units.count if gate.spec.kind == "point" else None,
            largest_cluster=units.largest_cluster,
        )
        self.samples, self.scored, self.applicable = 0, 0.0, 0.0
        self.verdict: Verdict | None = None
        self.decided_after: int | None = None
        self.missing = False
        self.spread = False  # whether samples of a cluster are apart
        self._clusters: set[int] = set()
        self._cluster: int | None = None
        for number in range(units.removed):
            assert baseline is not None  # only baselines have samples that are removed
            self.test.add(*self._beyond_margin((baseline.lost, baseline.lost)), cluster=-1 - number)

    def _null(self) -> float:
        """The bound in 0..1, where more is better for the gate."""
        spec, (low, high) = self.gate.spec, self.gate.estimand.bounds
        if spec.baseline is not None:
            return (self.width - spec.bound) / (2 * self.width)
        if spec.operator in (">=", ">"):
            return (spec.bound - (low or 0.0)) / self.width
        return ((high or 0.0) - spec.bound) / self.width

    def add(self, scores: SampleScores, at: int, cluster: int | None = None) -> None:
        """Take the next sample: the entry `at` of `scores`."""
        self.samples += 1
        self._note_cluster(cluster)
        if self.baseline is None:
            self._count(scores.scored[at], scores.applicable[at])
            value = scores.values[at]
            ends = (value, value) if self.ignore_missing else (scores.worst[at], scores.best[at])
            lowest, highest = sorted(map(self._beyond_bound, ends))
        else:
            lowest, highest = self._beyond_margin(self.baseline.pair(scores, at))
        self.test.add(lowest, highest, cluster=cluster)
        if scores.samples[at] < self.start:
            self.test.forget()
        self._decide()

    def _count(self, scored: float, applicable: float) -> None:
        self.scored += scored
        self.applicable += applicable
        self.missing |= scored < applicable

    def end(self) -> None:
        """All samples of the dataset were added."""
        self.test.close_cluster()
        self._decide()

    def _note_cluster(self, cluster: int | None) -> None:
        if cluster is not None and cluster != self._cluster:
            self.spread |= cluster in self._clusters
            self._clusters.add(cluster)
            self._cluster = cluster

    def _decide(self) -> None:
        if self.test.decision is None or self.verdict is not None or self.spread:
            return
        if self.scored >= self.gate.spec.min_coverage * self.applicable:
            self.verdict = self.test.decision
            self.decided_after = self.samples

    def _beyond_bound(self, score: float) -> float:
        """How far a score is on the right side of the bound, as a share of the range; 0 where it is left out."""
        if math.isnan(score):
            return 0.0
        sign = 1.0 if self.gate.spec.operator in (">=", ">") else -1.0
        return sign * (self.gate.estimand.of_sample(score) - self.gate.spec.bound) / self.width

    def _beyond_margin(self, pair: tuple[SideScore, SideScore] | None) -> tuple[float, float]:
        """How far the drop of a pair is below the allowed one, at worst and at best, as a share of their range."""
        if pair is None:
            return 0.0, 0.0
        before, now = pair
        self._count(before.share * now.share, 1.0)
        if not self.ignore_missing:
            sides = [(before.best, now.worst), (before.worst, now.best)]
        elif before.value is None or now.value is None:
            return 0.0, 0.0
        else:
            sides = [(before.value, now.value)]
        of_sample, sign = self.gate.estimand.of_sample, 1.0 if self.gate.higher_is_better else -1.0
        known = [(a, b) for a, b in sides if not (math.isnan(a) or math.isnan(b))]
        shares = [(self.gate.spec.bound - sign * (of_sample(a) - of_sample(b))) / (2 * self.width) for a, b in known]
        shares += [0.0] * (len(sides) - len(known))
        return min(shares), max(shares)


class _Baseline:
    """The baseline's side of each pair, by the position of the candidate's sample; the pairs of `gates/pairing.py`.

    `unknown` is how many samples of the baseline may not have run, so that nothing is known of them.
    """

    def __init__(self, gate: Gate, partner: str, baseline: Baseline, candidate: CandidateRun) -> None:
        self.gate, self.partner, self.baseline, self.candidate = gate, partner, baseline, candidate
        self.fill = fill_range(gate.measure.declaration, gate.reducer)
        ends = (0.0, 1.0) if gate.reducer.counts else (self.fill.worst, self.fill.best)
        self.lost = SideScore(None, *ends, share=0.0)
        self.ignores_changes = gate.spec.changed_data == "ignore"
        self.unknown = baseline.never_ran(partner)

    def count_removed(self, in_slice: set[int] | None) -> int:
        """How many samples only the baseline has in the gate's slice, and count as missing."""
        if self.ignores_changes:
            return 0
        return count_removed(self.gate, self.candidate, self.baseline, self.partner, self.fill, in_slice)

    @classmethod
    def of(cls, gate: Gate, target: str, context: BaselineContext) -> _Baseline | None:
        """None where there is nothing to compare with yet."""
        candidate, baseline = context.candidate or NO_CANDIDATE, context.baselines.get(gate.spec.baseline or "")
        partner = None if baseline is None else baseline.target_for(target, candidate.provenance.targets)
        if baseline is None or partner is None or gate.measure.name not in baseline.head.provenance.scorers:
            return None
        return cls(gate, partner, baseline, candidate)

    def pair(self, scores: SampleScores, at: int) -> tuple[SideScore, SideScore] | None:
        """The sides of a sample in the baseline and in the run; None where it is in no pair."""
        skipped = scores.codes[at] == SKIPPED
        now = self.lost if skipped else _side_of(scores, at)
        key = self.candidate.keys[scores.samples[at]]
        row = self.baseline.rows.get((self.partner, key.id))
        kind, before = match_sample(self.gate, row, key, self.fill, skipped=skipped)
        if kind == "new" and row is None and self.unknown:  # perhaps one that did not run
            self.unknown -= 1
            return self.lost, now
        if kind in ("new", "neither") or (kind == "changed" and self.ignores_changes):
            return None
        return before or self.lost, self.lost if kind == "changed" else now


def _side_of(scores: SampleScores, at: int) -> SideScore:
    value = scores.values[at]
    share = scores.scored[at] / scores.applicable[at] if scores.applicable[at] else 0.0
    return SideScore(None if math.isnan(value) else value, scores.worst[at], scores.best[at], share)


def sequential_test(
    gate: Gate, target: str, summary: Summary, context: BaselineContext, *, family: int, later: bool = False,
    ignore_missing: bool = False,
) -> GateTest | None:  # fmt: skip
    """The test of a gate on a target before its first sample; None where there is no baseline to compare with.

    `later`: the gate is an ordinary one that had its verdict on fewer samples.
    """
    baseline = _Baseline.of(gate, target, context) if gate.spec.baseline is not None else None
    if gate.spec.baseline is not None and baseline is None:
        return None
    given = context.sequential or SequentialContext()
    known = given.units.get(units_key(gate, target))
    alpha = POINT_ALPHA if gate.spec.confidence is None else 1.0 - gate.spec.confidence
    look = given.first_look if later else None
    return GateTest(
        replace(gate, binary=False),  # that scores were all 0 or 1 so far does not bound those to come
        known or count_units(gate, target, summary, context),
        alpha=alpha / LATER_LOOK_SHARE if later else alpha,
        family=family if in_family(gate) else 1,
        start=0 if look is None else look.samples,
        baseline=baseline,
        ignore_missing=ignore_missing,
    )


def scores_of(gate: Gate, tally: Tally, epochs: int) -> SampleScores:
    """The scores of a gate's metric by sample, with missing ones anywhere in the range that the scorer declares."""
    return gather_scores(gate, tally, fill_range(gate.measure.declaration, gate.reducer), epochs)


def complete_samples(tally: Tally, epochs: int) -> int:
    """How many samples are complete, from the first one of the run on without a gap."""
    rows = Counter(tally.samples)
    place = 0
    while rows[place] >= epochs:
        place += 1
    return place


def in_slice(gate: Gate, summary: Summary, place: int) -> bool:
    """Whether the sample at a position belongs to the slice of the gate; every one does without a slice."""
    for column, text in (gate.spec.slice or {}).items():
        groups = summary.slices[column]
        if groups.codes[place] != groups.code_of(text):
            return False
    return True


def feed(test: GateTest, target: str, summary: Summary, samples: int) -> None:
    """Add the first samples of a target to a test; there are no others if these are all of the dataset."""
    gate = test.gate
    scores = scores_of(gate, summary.tallies[target, gate.measure.name], summary.epochs)
    for at in sorted(range(len(scores.samples)), key=scores.samples.__getitem__):
        place = scores.samples[at]
        if place >= samples:
            break
        if in_slice(gate, summary, place):
            test.add(scores, at, None if summary.clusters is None else summary.clusters.codes[place])
    if test.samples >= test.units.samples:
        test.end()


class RunMonitor:
    """Follows the gates of a run row by row, and says when all of them are decided.

    It takes rows in any order, and looks at each target sample by sample. Its decisions are those of the row log.
    `started` is the number of samples of which a row was started.
    """

    def __init__(self, tests: Sequence[tuple[GateTest, str]], summary: Summary) -> None:
        self.tests, self.summary = tests, summary
        self._pending: dict[tuple[str, int], list[tuple[int, Mapping[str, Cell]]]] = {}
        self._next = dict.fromkeys(summary.targets, 0)
        self.started = 0

    @property
    def decided(self) -> bool:
        """Whether every gate is decided."""
        return all(test.verdict is not None for test, _ in self.tests)

    @property
    def about_to_decide(self) -> bool:
        """Whether the rows in flight may decide every gate, so that a further one may be a waste."""
        for test, target in self.tests:
            if test.verdict is None:
                complete = self._next[target]
                if not test.samples or test.test.samples_left(complete) > WAIT_FACTOR * (self.started - complete):
                    return False
        return True

    def is_ahead(self, rows: int) -> bool:
        """Whether this many rows, or more, were started beyond the complete samples."""
        samples = self.started - max(self._next.values(), default=0)
        return samples * len(self._next) * self.summary.epochs >= rows

    @property
    def units(self) -> Mapping[str, UnitsRecord]:
        """The units of the tests, under the names of the run record."""
        return {units_key(test.gate, target): test.units for test, target in self.tests}

    def add(self, row: Row) -> None:
        """Take one row, whose sample the summary knows."""
        target = row.target
        self._pending.setdefault((target, row.sample.index), []).append((row.epoch, row.cells))
        while len(self._pending.get((target, self._next[target]), ())) >= self.summary.epochs:
            place = self._next[target]
            self._add_sample(target, place, self._pending.pop((target, place)))
            self._next[target] = place + 1

    def _add_sample(self, target: str, place: int, epochs: Sequence[tuple[int, Mapping[str, Cell]]]) -> None:
        clusters = self.summary.clusters
        for test, of in self.tests:
            gate = test.gate
            if of != target or test.verdict is not None or not in_slice(gate, self.summary, place):
                continue
            tally = Tally(epochs=array("i") if self.summary.epochs > 1 else None)
            for epoch, cells in epochs:
                tally.add(place, cells[gate.measure.name], epoch=epoch)
            test.add(
                scores_of(gate, tally, self.summary.epochs), 0, None if clusters is None else clusters.codes[place]
            )


def family_size(pairs: Sequence[tuple[Gate, str]]) -> int:
    """How many gates share the correction of *fail*."""
    return sum(1 for gate, _ in pairs if in_family(gate))


def run_monitor(pairs: Sequence[tuple[Gate, str]], summary: Summary, context: BaselineContext) -> RunMonitor:
    """The monitor of a run whose gates, each with its target, are sequential. Without a baseline a gate is decided."""
    size = family_size(pairs)
    tests = [
        (test, target)
        for gate, target in pairs
        if (test := sequential_test(gate, target, summary, context, family=size)) is not None
    ]
    return RunMonitor(tests, summary)


def decide_sequentially(
    gate: Gate, target: str, summary: Summary, context: BaselineContext, *, family: int = 1, later: bool = False
) -> GateDecision | None:
    """The verdict of a sequential gate on the complete first samples of a target.

    None where the ordinary verdict applies: without a baseline, and with all samples for point gates and for gates without
    enough scores. With `later` it is that of an ordinary gate that had a verdict on fewer samples.
    """
    if later and (reason := why_not_sequential(gate)) is not None:
        return GateDecision("inconclusive", f"looked at again, but {reason}; start a new run to decide")
    make = partial(sequential_test, gate, target, summary, context, family=family, later=later)
    again = "; looked at again: sequential bound" if later else ""
    test = make(ignore_missing=gate.spec.missing == "ignore")
    if test is None:
        return None
    samples = complete_samples(summary.tallies[target, gate.measure.name], summary.epochs)
    feed(test, target, summary, samples)
    if test.verdict is not None:
        return GateDecision(test.verdict, _reason(test) + again, details=tuple(_details(test)))
    whole = test.samples >= test.units.samples
    if whole and (
        gate.spec.kind == "point" or test.scored < gate.spec.min_coverage * test.applicable or not test.scored
    ):
        return None
    verdict, why = _undecided(test, make, target, summary, samples)
    count = f"all {test.samples:,}" if whole else f"{test.samples:,} of {test.units.samples:,}"
    reason = f"not decided after {count} samples{why}{again}"
    return GateDecision(verdict, reason, worse=_leans_to_fail(test), details=tuple(_details(test)))


def _undecided(
    test: GateTest, make: Callable[..., GateTest | None], target: str, summary: Summary, samples: int
) -> tuple[Verdict, str]:
    """Whether what is missing prevents a decision; else the samples are just too few."""
    if test.spread:
        return "inconclusive", ": samples of a cluster are not next to each other"
    if not test.missing or test.samples < test.units.samples:
        return "inconclusive", ""
    known = make(ignore_missing=True)
    if known is not None:
        feed(known, target, summary, samples)
    decided = known is not None and known.test.decision is not None
    return ("untrusted", ": the missing answers could change the verdict") if decided else ("inconclusive", "")


def _leans_to_fail(test: GateTest) -> bool:
    """Whether the evidence for *fail* is the stronger one."""
    return test.test.below.peak > test.test.above.peak


def _reason(test: GateTest) -> str:
    """`at least 0.8 with 95% confidence after 140 of 1,000 samples`."""
    spec, passed = test.gate.spec, test.verdict == "pass"
    level = percent(1 - POINT_ALPHA if spec.confidence is None else spec.confidence)
    after = f"after {test.decided_after or 0:,} of {test.units.samples:,} samples"
    if spec.kind == "point":
        return f"the full run {'meets' if passed else 'misses'} the threshold with {level} confidence, {after}"
    if spec.kind == "improved":
        change = "better" if passed else "worse"
    elif spec.kind == "max_drop":
        change = f"drop of {'at most' if passed else 'more than'} {amount(test.gate, spec.bound)}"
    else:
        change = f"{SIDES[spec.operator][not passed]} {spec.bound:g}"
    return f"{change} with {level} confidence {after}"


def _details(test: GateTest) -> Iterator[str]:
    if test.family > 1:
        yield f"fail is corrected for {test.family} gates"
