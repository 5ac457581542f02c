"""Pairs of a sequential gate on a baseline: the same as those of an ordinary one, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows, sample_key
from evalrunner.domain import Declaration, Row
from evalrunner.gates.check import BaselineContext
from evalrunner.gates.evidence import gather_evidence
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import CandidateRun, drops_of, pair_up
from evalrunner.gates.sequential import (
    _Baseline,
    count_units,
    scores_of,
    sequential_test,
    units_key,
    why_not_sequential,
)
from evalrunner.runs.record import UnitsRecord
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import Design, Measure, Summary, summarize
from evalrunner.suite.schema import GateSpec
from tests.gates.builders import provenance_of, rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("exact_match", Declaration(low=0.0, high=5.0))
TOXIC = Measure("exact_match", Declaration(higher_is_better=False))
SPEC = GateSpec("drop", "exact_match", ">=", 0.1, kind="max_drop", baseline="main", confidence=0.95, sequential=True)
GATE = Gate(SPEC, EXACT, "mean", "exact_match/v1")
DOWN, REFUSED = "server: 503", "no_answer: refused"


def situation(
    before: Sequence[Row], now: Sequence[Row], gate: Gate = GATE, *, epochs: int = 1, limited: bool = False, design: Design | None = None
) -> tuple[Summary, BaselineContext]:  # fmt: skip
    head = BaselineHead("main", "run-0", None, provenance_of(gate.measure, epochs))
    stored = collect_rows(before, epochs=epochs)
    keys = {row.sample.index: sample_key(row.sample) for row in now}
    candidate = CandidateRun(provenance_of(gate.measure, epochs), keys, limited)
    summary = summarize(now, [gate.measure], ["m"], epochs=epochs, design=design or Design())
    return summary, BaselineContext(candidate, {"main": Baseline(head, "main", stored)})


def reworded(found: Sequence[Row], *places: int) -> list[Row]:
    return [
        replace(row, sample=replace(row.sample, input="another question")) if row.sample.index in places else row
        for row in found
    ]


def right(*scores: float | str | Sequence[float | str] | None) -> list[Row]:
    return rows(scores, "exact_match")


MIXED_BEFORE = right(1.0, 0.0, 1.0, DOWN, 1.0, None, 1.0, REFUSED, 0.0, None)
MIXED_NOW = reworded(right(1.0, 1.0, DOWN, 1.0, REFUSED, 1.0, None, 1.0, 0.0, None, 1.0), 8)


@pytest.mark.parametrize("changed_data", ["untrusted", "ignore"])
@pytest.mark.parametrize("measure", [EXACT, TOXIC, GRADED])
@pytest.mark.parametrize(
    ("before", "now", "epochs"),
    [
        (MIXED_BEFORE, MIXED_NOW, 1),
        (right([1.0, 1.0], [1.0, DOWN], [0.0, 0.0]), right([1.0, DOWN], [1.0, 1.0], [DOWN, DOWN]), 2),
    ],
)
def test_every_pair_has_the_ends_of_an_ordinary_gate(
    before: Sequence[Row], now: Sequence[Row], epochs: int, measure: Measure, changed_data: str
) -> None:
    spec = replace(SPEC, changed_data=changed_data)  # type: ignore[arg-type]
    gate = Gate(spec, measure, "mean", "exact_match/v1", epochs=epochs)
    summary, context = situation(before, now, gate, epochs=epochs)
    test = sequential_test(gate, "m", summary, context, family=1)
    assert test is not None and test.baseline is not None and context.candidate is not None
    scores = scores_of(gate, summary.tallies["m", "exact_match"], epochs)
    pairing = pair_up(
        gate, gather_evidence(gate, summary, "m"), context.candidate, context.baselines["main"], "m", in_slice=None
    )
    width = gate.estimand.sample_width or 0.0
    ordinary = []
    for pair in pairing.pairs[: len(pairing.pairs) - pairing.removed]:
        ends = [next(iter(drops_of(gate, [pair], filling)), (0.1, 0))[0] for filling in ("worst", "best")]  # type: ignore[arg-type]
        ordinary.append(sorted((0.1 - drop) / (2 * width) for drop in ends))  # one that is left out lies at the bound
    sequential = [
        list(test._beyond_margin(sides)) for at in range(len(scores.samples)) if (sides := test.baseline.pair(scores, at)) is not None
    ]  # fmt: skip
    assert sequential == [pytest.approx(ends, abs=1e-12) for ends in ordinary]


def test_a_pair_counts_by_the_share_of_its_answers() -> None:
    summary, context = situation(right([1.0, DOWN], [1.0, 1.0]), right([1.0, 1.0], [DOWN, DOWN]), epochs=2)
    test = sequential_test(GATE, "m", summary, context, family=1)
    assert test is not None and test.baseline is not None
    scores = scores_of(GATE, summary.tallies["m", "exact_match"], 2)
    for at, share in ((0, 0.5), (1, 0.0)):
        test.scored = test.applicable = 0.0
        test._beyond_margin(test.baseline.pair(scores, at))
        assert (test.scored, test.applicable) == (share, 1.0)
    assert test.missing


def test_what_is_missing_is_left_out_where_the_gate_says_so() -> None:
    summary, context = situation(right(1.0, 1.0, DOWN), right(0.0, DOWN, 1.0))
    test = sequential_test(GATE, "m", summary, context, family=1, ignore_missing=True)
    assert test is not None and test.baseline is not None
    scores = scores_of(GATE, summary.tallies["m", "exact_match"], 1)
    ends = [test._beyond_margin(test.baseline.pair(scores, at)) for at in range(3)]
    assert ends == [(pytest.approx(-0.45), pytest.approx(-0.45)), (0.0, 0.0), (0.0, 0.0)]
    assert test._beyond_margin(None) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("more", "limited", "removed"),
    [
        ({}, False, 2),
        ({}, True, 0),
        ({"changed_data": "ignore"}, False, 0),
        ({"slice": {"topic": "law"}}, False, 2),
    ],  # it could have been in the slice
)
def test_samples_that_only_the_baseline_has_count_unless_they_are_explained(
    more: dict[str, object], limited: bool, removed: int
) -> None:
    gate = replace(GATE, spec=replace(SPEC, **more))  # type: ignore[arg-type]
    other_target = [
        replace(row, target="other", sample=replace(row.sample, id=f"x{row.sample.index}"))
        for row in right(1.0, 1.0, 1.0)
    ]
    _, context = situation([*right(1.0, 1.0, 1.0), *other_target], right(1.0), gate, limited=limited)
    sides = _Baseline.of(gate, "m", context)
    assert sides is not None
    assert sides.count_removed({0} if gate.spec.slice else None) == removed
    assert (sides.lost.value, sides.lost.worst, sides.lost.best, sides.lost.share) == (None, 0.0, 1.0, 0.0)


def test_a_lost_sample_ranges_over_the_scores_of_its_metric() -> None:
    _, context = situation(right(1.0), right(1.0), Gate(SPEC, GRADED, "mean", "exact_match/v1"))
    for gate, ends in (
        (Gate(SPEC, GRADED, "mean", "exact_match/v1"), (0.0, 5.0)),
        (Gate(SPEC, TOXIC, "mean", "exact_match/v1"), (1.0, 0.0)),
        (Gate(SPEC, GRADED, "mean", "exact_match/v1/at_least_1", parse_reducer("at_least_1")), (0.0, 1.0)),
    ):
        sides = _Baseline.of(gate, "m", context)
        assert sides is not None and (sides.lost.worst, sides.lost.best) == ends


def test_there_is_nothing_to_compare_with_without_the_baseline_its_target_or_its_scorer() -> None:
    summary, context = situation(right(1.0), right(1.0))
    assert _Baseline.of(GATE, "m", context) is not None
    assert _Baseline.of(replace(GATE, spec=replace(SPEC, baseline="other")), "m", context) is None
    assert _Baseline.of(GATE, "m", replace(context, baselines={})) is None
    unknown = replace(GATE, measure=Measure("another", Declaration(binary=True)))
    assert _Baseline.of(unknown, "m", context) is None
    two = replace(context.candidate.provenance, targets={**context.candidate.provenance.targets, "n": context.candidate.provenance.targets["m"]})  # type: ignore[union-attr]  # fmt: skip
    assert _Baseline.of(GATE, "n", replace(context, candidate=replace(context.candidate, provenance=two))) is None  # type: ignore[type-var]
    assert sequential_test(unknown, "m", summary, context, family=1) is None


def test_units_are_named_by_slice_and_by_baseline_and_target() -> None:
    point = replace(SPEC, baseline=None)
    assert [
        units_key(replace(GATE, spec=spec), "m")
        for spec in (point, replace(point, slice={"topic": "law"}), SPEC, replace(SPEC, slice={"topic": "law"}))
    ] == ["", "topic=law", "main m", "topic=law main m"]


def test_units_are_samples_or_clusters_of_the_slice() -> None:
    about = [
        {"topic": topic, "page": page}
        for topic, page in (("law", "a"), ("law", "a"), ("art", "a"), ("law", "b"), ("art", "c"))
    ]
    now = rows([1.0] * 5, "exact_match", about)
    plain, clustered = (Design(slices=("topic",), cluster=cluster) for cluster in (None, "page"))
    point = replace(GATE, spec=replace(SPEC, baseline=None, kind="point"))
    law = replace(point, spec=replace(point.spec, slice={"topic": "law"}))
    for design, gate, units in (
        (plain, point, UnitsRecord(samples=5)),
        (plain, law, UnitsRecord(samples=3)),
        (clustered, point, UnitsRecord(samples=5, clusters=3, largest_cluster=3)),
        (clustered, law, UnitsRecord(samples=3, clusters=2, largest_cluster=2)),
    ):
        summary, context = situation(now, now, design=design)
        assert count_units(gate, "m", summary, context) == units
    summary, context = situation([*now, *[replace(row, sample=replace(row.sample, id="gone")) for row in now[:1]]], now)
    assert count_units(GATE, "m", summary, context) == UnitsRecord(samples=5, removed=1)
    assert count_units(replace(GATE, spec=replace(SPEC, baseline="other")), "m", summary, context).removed == 0


def test_only_means_of_scores_in_a_known_range_can_be_sequential() -> None:
    wide = Measure("exact_match", Declaration(low=0.0, high=None, aggregates=("mean", "p90")))
    point = replace(SPEC, baseline=None)
    assert why_not_sequential(GATE) is None
    assert why_not_sequential(replace(GATE, spec=replace(point, operator="=="))) == "an equality needs all samples"
    assert (
        why_not_sequential(replace(GATE, spec=replace(SPEC, operator="=="))) is None
    )  # the operator of a drop means nothing
    assert why_not_sequential(Gate(point, wide, "p90", "m")) == "'m' is not a mean of scores"
    assert why_not_sequential(Gate(point, wide, "mean", "m")) == (
        "the scores of 'exact_match' have no range; declare low and high"
    )
