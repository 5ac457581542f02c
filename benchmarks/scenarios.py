"""Simulated runs for benchmarks/verdicts.py: scores, what is missing, and verdicts by `check_gates`.

A run is an array of samples by what `check_gates` sees of each (`Kind`): the order of unclustered samples changes no
verdict, so equal counts of kinds give the verdict that was computed before.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy

from evalrunner.baselines.file import Baseline, BaselineHead, BaselineRow, SampleKey
from evalrunner.domain import Declaration, GateResult, Sample
from evalrunner.gates.build import GateBuilder
from evalrunner.gates.check import BaselineContext, check_gates
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import CandidateRun
from evalrunner.runs.provenance import DatasetProvenance, Provenance, ScorerProvenance, TargetProvenance
from evalrunner.stats.number_column import NumberColumn
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, Population, Summary
from evalrunner.stats.tally import ERROR, SCORED
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document

RIGHT_OR_WRONG = Measure("exact_match", Declaration(binary=True, needs_expected=True))
GRADED = Measure("token_f1", Declaration(needs_expected=True))
TARGET = "m"
BASELINES = ("main", "release")


@dataclass(frozen=True)
class Runs:
    """Many runs of one suite. Arrays are of runs × samples × epochs; `before` holds the scores of the baselines.

    `scores` are those that every call would have given, `lost` the calls that failed. `changed`, `removed` and `unscored`
    are of runs × samples: another input than in the baseline, not in the data any more, failed in the baseline.
    `slices` holds the slice of each sample.
    """

    scores: numpy.ndarray
    lost: numpy.ndarray
    before: tuple[numpy.ndarray, ...] = ()
    changed: numpy.ndarray | None = None
    removed: numpy.ndarray | None = None
    unscored: numpy.ndarray | None = None
    slices: numpy.ndarray | None = None

    def whole(self) -> Runs:
        """The same runs with nothing missing."""
        return replace(self, lost=numpy.zeros_like(self.lost), changed=None, removed=None, unscored=None)


@dataclass
class Suite:
    """Gates of a suite, checked on runs. `memory` holds the verdicts of the runs that were checked."""

    gates: str
    epochs: int = 1
    measure: Measure = RIGHT_OR_WRONG
    reducers: tuple[str, ...] = ()
    sliced: bool = False
    keys: str = ""
    memory: dict[bytes, tuple[GateResult, ...]] = field(default_factory=dict)

    def verdicts(self, runs: Runs) -> list[tuple[GateResult, ...]]:
        """The results of the gates for each run."""
        built = self.build()
        results: list[tuple[GateResult, ...]] = []
        for at in range(len(runs.scores)):
            table = _table(runs, at)
            key = table.tobytes()
            if key not in self.memory:
                self.memory[key] = self._check(built, table, len(runs.before))
            results.append(self.memory[key])
        return results

    @property
    def design(self) -> Design:
        return Design(slices=("topic",) if self.sliced else ())

    def build(self) -> tuple[Gate, ...]:
        document = parse_document(f"gates: [{self.gates}]\n{self.keys}", file="s.yaml")
        specs = read_gates(SectionReader(document, Path()), document.data)
        measures = [self.measure, *BUILTIN_MEASURES]
        gates = GateBuilder(document, measures, targets=[TARGET], design=self.design, epochs=self.epochs).build(specs)
        document.raise_problems()
        return gates

    def _check(self, gates: tuple[Gate, ...], table: numpy.ndarray, baselines: int) -> tuple[GateResult, ...]:
        e, name = self.epochs, self.measure.name
        here = table[table[:, 1] != REMOVED]
        now, slices = here[:, 2 : 2 + e], here[:, 0].astype(int)
        summary = self._summary(now, slices)
        keys = {at: SampleKey(f"q{int(row[1] == CHANGED)}{at}", "i", "e") for at, row in enumerate(here)}
        context = BaselineContext(CandidateRun(self._provenance(), {}), {})
        if baselines:
            keys = {at: _key(at, changed=row[1] == CHANGED) for at, row in enumerate(here)}
            stored: dict[str, Baseline] = {}
            for number in range(baselines):
                first = 2 + e * (number + 1)
                kept = table if not len(table) else numpy.concatenate([here, table[table[:, 1] == REMOVED]])
                rows = {(TARGET, f"q{at}"): self._row(at, row, row[first : first + e]) for at, row in enumerate(kept)}
                head = BaselineHead(BASELINES[number], f"run-{number}", None, self._provenance())
                stored[BASELINES[number]] = Baseline(head, BASELINES[number], rows)
            context = BaselineContext(CandidateRun(self._provenance(), keys), stored)
        assert name
        return check_gates(gates, summary, context)

    def _summary(self, now: numpy.ndarray, slices: numpy.ndarray) -> Summary:
        n, e = now.shape
        population = Population.of(self.design)
        if self.sliced:
            for at, one in enumerate(slices):
                population.add(Sample(f"q{at}", "i", index=at, metadata={"topic": f"t{one}"}))
        population.count = n
        summary = Summary((self.measure,), (TARGET,), e, design=self.design, population=population)
        lost = numpy.isnan(now)
        codes = numpy.where(lost, ERROR, SCORED).astype(numpy.int8).ravel().tobytes()
        samples = numpy.repeat(numpy.arange(n, dtype=numpy.uint32), e).tobytes()
        epochs = numpy.tile(numpy.arange(1, e + 1, dtype=numpy.int32), n).tobytes()
        for measure in (self.measure.name, "latency"):
            tally = summary.tallies[TARGET, measure]
            tally.values = NumberColumn(map(float, now.ravel()))
            tally.codes.frombytes(codes)
            tally.samples = array("I", samples)
            tally.epochs = array("i", epochs) if tally.epochs is not None else None
            if lost.any():
                tally.reasons["server", None] = int(lost.sum())
        return summary

    def _provenance(self) -> Provenance:
        scorer = ScorerProvenance(type=self.measure.name, range=(0.0, 1.0), aggregates=("mean",), headline="mean")
        dataset = DatasetProvenance(digest="d", rows=1)
        targets = {TARGET: TargetProvenance(type="model")}
        return Provenance(
            suite="s", dataset=dataset, targets=targets, scorers={self.measure.name: scorer}, epochs=self.epochs
        )

    def _row(self, at: int, row: numpy.ndarray, scores: numpy.ndarray) -> BaselineRow:
        name, failed = self.measure.name, row[1] == UNSCORED
        values = tuple(None if failed else float(score) for score in scores)
        states = ("error" if failed else "scored",) * len(values)
        return BaselineRow(_key(at, changed=False), TARGET, {name: values}, {name: states})


PAIRED, CHANGED, REMOVED, UNSCORED = 0, 1, 2, 3


def _key(at: int, *, changed: bool) -> SampleKey:
    return SampleKey(f"q{at}", "other" if changed else "i", "e")


def _table(runs: Runs, at: int) -> numpy.ndarray:
    """A run as a sorted table with a row per sample: slice, state, scores (NaN: lost), scores in the baselines."""
    n = runs.scores.shape[1]
    state = numpy.zeros(n)
    for mark, flags in ((CHANGED, runs.changed), (REMOVED, runs.removed), (UNSCORED, runs.unscored)):
        if flags is not None:
            state[flags[at]] = mark
    now = numpy.sort(numpy.where(runs.lost[at], math.nan, runs.scores[at]), axis=1)
    slices = numpy.zeros(n) if runs.slices is None else runs.slices
    table = numpy.column_stack([slices, state, now, *(numpy.sort(before[at], axis=1) for before in runs.before)])
    return table[numpy.lexsort(table.T[::-1])]


# ---- scores ----------------------------------------------------------------------------------------------------------

SPREAD = 1.0  # of Beta(SPREAD·p, SPREAD·(1 − p)), the chance that a sample is answered right: correlated epochs


def chances(generator: numpy.random.Generator, shape: tuple[int, int], p: float, epochs: int) -> numpy.ndarray:
    """The chance of each sample to be right: `p` where there is a single epoch, else different ones with that mean."""
    return numpy.full(shape, p) if epochs == 1 else generator.beta(SPREAD * p, SPREAD * (1 - p), shape)


def single_runs(generator: numpy.random.Generator, repeats: int, n: int, epochs: int, p: float) -> numpy.ndarray:
    """0/1 scores of a model that is right with a chance of `p`."""
    chance = chances(generator, (repeats, n), p, epochs)
    return (generator.random((repeats, n, epochs)) < chance[:, :, None]).astype(float)


def paired_runs(
    generator: numpy.random.Generator, repeats: int, n: int, epochs: int, *, p: float, drop: float, discordance: float
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """0/1 scores of a baseline that is right with a chance of `p`, and of a model that is worse by `drop`."""
    before = single_runs(generator, repeats, n, epochs, p)
    worse, better = (discordance + drop) / 2 / p, (discordance - drop) / 2 / (1 - p)
    flip = generator.random(before.shape) < numpy.where(before == 1, worse, better)
    return before, numpy.where(flip, 1 - before, before)


def graded_runs(generator: numpy.random.Generator, repeats: int, n: int, epochs: int) -> numpy.ndarray:
    """Scores in 0..1 of mean .8, to two digits: Beta(8, 2)."""
    return numpy.round(generator.beta(8, 2, (repeats, n, epochs)), 2)


# ---- what is missing -------------------------------------------------------------------------------------------------

PATTERNS = ("at random", "only wrong answers", "only right answers", "in one slice")
FEWER = 0.2  # share of the samples in the first slice


def lose(
    generator: numpy.random.Generator, scores: numpy.ndarray, slices: numpy.ndarray, pattern: str, share: float
) -> numpy.ndarray:
    """Which calls fail: `share` of all calls of each run, or as many as there are in that part of them."""
    count = max(1, round(share * scores[0].size))
    order = generator.random(scores.shape)
    middle = numpy.median(scores)
    eligible = {
        "at random": numpy.ones(scores.shape, bool),
        "only wrong answers": scores < 1 if middle == 1 else scores < middle,
        "only right answers": scores == 1 if middle == 1 else scores >= middle,
        "in one slice": numpy.broadcast_to((slices == 0)[None, :, None], scores.shape),
    }[pattern]
    order = numpy.where(eligible, order, 2.0).reshape(len(scores), -1)
    last = numpy.sort(order, axis=1)[:, count - 1 : count]
    return ((order <= last) & (order < 2)).reshape(scores.shape)


def slices_of(n: int) -> numpy.ndarray:
    """Every sample's slice: 20% in slice 0."""
    return (numpy.arange(n) >= round(FEWER * n)).astype(int)
