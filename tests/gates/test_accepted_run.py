"""Which scores a model should be as good as: those of the first baseline, else those of the last run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows
from evalrunner.domain import Cell, Completion, Declaration, Row, Sample
from evalrunner.gates.accepted_run import CHANGED, AcceptedRun, planned_gates, rows_of_run
from evalrunner.gates.build import GateBuilder
from evalrunner.gates.false_alarms import GateScores, Resampling, chance_of_change
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, Population
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document
from tests.gates.builders import provenance_of, rows

numpy = pytest.importorskip("numpy")

RIGHT = Measure("exact_match", Declaration(binary=True))
PYTHON = Measure("exact_match", Declaration(infer_binary=True))
TOXIC = Measure("exact_match", Declaration(higher_is_better=False, aggregates=("mean", "ratio"), threshold=0.5))
DROP = "{metric: exact_match, baseline: main, max_drop: 0.1}"
TOPICS = [{"topic": topic, "page": page} for topic, page in (("law", "a"), ("art", "a"), ("law", "b"), ("art", "c"))]
Score = float | str | None


def gates_of(text: str, measure: Measure = RIGHT, targets: Sequence[str] = ("m",)) -> tuple[Gate, ...]:
    document = parse_document(f"gates: [{text}]", file="s.yaml")
    specs = read_gates(SectionReader(document, Path()), document.data)
    design = Design(slices=("topic",))
    return GateBuilder(document, [measure, *BUILTIN_MEASURES], targets=targets, design=design, epochs=1).build(specs)


def baseline_of(scores: Sequence[Score], name: str = "main") -> Baseline:
    stored = collect_rows(rows(scores, "exact_match", TOPICS), epochs=1)
    return Baseline(BaselineHead(name, "run-0", None, provenance_of(RIGHT, 1)), name, stored)


def resampled(
    text: str, last: Sequence[Score], baselines: Mapping[str, Baseline] | None = None, *, measure: Measure = RIGHT,
    design: Design | None = None, share: float | None = None,
) -> Resampling | None:  # fmt: skip
    population = Population.of(design or Design(slices=("topic",)))
    stored = rows(last, "exact_match", TOPICS)
    for row in rows([1.0] * 4, "exact_match", TOPICS):
        population.add(row.sample)
    known = rows_of_run(stored, epochs=1)
    run = AcceptedRun([f"s{place}" for place in range(4)], baselines or {}, known, ["m"], population)
    planned = planned_gates(gates_of(text, measure), ["m"], population, [known])
    return run.resampling(planned, lambda gate, target: share, seed=0)


def scores_of(result: Resampling | None) -> GateScores:
    assert result is not None
    (one,) = result.scores
    return one


def values(column: object) -> list[float | None]:
    return [None if numpy.isnan(value) else float(value) for value in column]  # type: ignore[attr-defined]


def test_without_a_baseline_it_is_the_last_run() -> None:
    one = scores_of(resampled("exact_match >= 0.5", [1.0, 0.0, "server: 503", 1.0]))
    assert (values(one.values), one.members.tolist()) == ([1.0, 0.0, None, 1.0], [True, True, False, True])
    assert (one.before, one.binary, one.target) == (None, False, "m")


def test_a_baseline_goes_before_the_last_run_for_scores_but_not_for_latency() -> None:
    accepted = {"main": baseline_of([1.0, 1.0, 0.0, 0.0])}
    assert values(scores_of(resampled("exact_match >= 0.5", [0.0] * 4, accepted)).values) == [1.0, 1.0, 0.0, 0.0]
    assert values(scores_of(resampled("latency/mean <= 9", [0.0] * 4, accepted)).values) == [1.0] * 4


def test_a_gate_on_a_baseline_is_about_drops_from_it() -> None:
    accepted = {"main": baseline_of([1.0, 1.0, 0.0, 0.0])}
    one = scores_of(resampled(DROP, [0.0] * 4, accepted))
    assert (values(one.values), values(one.before), one.binary) == ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], True)
    other = {"first": baseline_of([1.0, 0.0, 0.0, 0.0], "first"), **accepted}
    one = scores_of(resampled(DROP, [0.0] * 4, other))  # the model should be as good as the first one
    assert (values(one.values), values(one.before)) == ([1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0])
    assert resampled(DROP, [0.0] * 4) is None


def test_a_gate_on_a_slice_has_the_members_of_it() -> None:
    one = scores_of(resampled("'exact_match[topic=law] >= 0.5'", [1.0, 0.0, 1.0, 1.0]))
    assert one.members.tolist() == [True, False, True, False]
    assert resampled("'exact_match[topic=sport] >= 0.5'", [1.0] * 4) is None


def test_a_gate_whose_scores_are_not_known_is_left_out() -> None:
    assert resampled("exact_match >= 0.5", ["server: 503"] * 4) is None
    assert resampled("exact_match >= 0.5", []) is None
    both = resampled("exact_match >= 0.5, latency/mean <= 9", ["judge: no verdict"] * 4)
    assert both is not None and [one.gate.measure.name for one in both.scores] == ["latency"]


def test_shares_count_and_other_aggregates_keep_their_scores() -> None:
    toxic = [0.2, 0.6, 0.5, 0.4]
    assert values(scores_of(resampled("exact_match/ratio <= 0.5", toxic, measure=TOXIC)).values) == [0.0, 1.0, 1.0, 0.0]
    assert values(scores_of(resampled("exact_match/mean <= 0.5", toxic, measure=TOXIC)).values) == toxic


def test_only_targets_with_a_baseline_change_by_the_share_that_is_known() -> None:
    accepted = {"main": baseline_of([1.0, 1.0, 0.0, 0.0])}
    alone = resampled("exact_match >= 0.5", [1.0, 1.0, 0.0, 0.0], share=0.3)
    assert alone is not None and alone.changed == {"m": 0.0}
    column = numpy.array([1.0, 1.0, 0.0, 0.0])
    for share, assumed in ((0.3, 0.3), (None, CHANGED)):
        drop = resampled(f"exact_match >= 0.5, {DROP}", [1.0] * 4, accepted, share=share)
        assert drop is not None and drop.changed == {"m": chance_of_change(column, assumed)}


def test_samples_are_drawn_from_their_slice_and_by_clusters() -> None:
    design = Design(slices=("topic",), cluster="page")
    clustered = resampled("exact_match >= 0.5", [1.0] * 4, design=design)
    assert clustered is not None and clustered.members is not None
    assert [places.tolist() for places in clustered.members] == [[0, 1], [2], [3]]
    plain = resampled("exact_match >= 0.5", [1.0] * 4)
    assert plain is not None and (plain.members, plain.n) == (None, 4)


@pytest.mark.parametrize(
    ("measure", "scores", "binary"),
    [
        (PYTHON, [1.0, 0.0], True),
        (PYTHON, [1.0, "server: 503"], True),
        (PYTHON, [1.0, 0.5], False),
        (PYTHON, ["server: 503"], False),
        (PYTHON, [], False),
        (RIGHT, [1.0, 0.0], False),  # it says so itself
        (TOXIC, [1.0, 0.0], False),
    ],
)
def test_scores_that_were_all_0_or_1_are_expected_to_be_so_again(
    measure: Measure, scores: Sequence[Score], *, binary: bool
) -> None:
    known = [rows_of_run(rows(scores, "exact_match"), epochs=1)]
    ((gate, _),) = planned_gates(gates_of("exact_match >= 0.5", measure), ["m"], Population.of(Design()), known)
    assert gate.binary is binary


def test_gates_are_planned_for_each_target_and_slice() -> None:
    population = Population.of(Design(slices=("topic",)))
    for row in rows([1.0] * 4, "exact_match", TOPICS):
        population.add(row.sample)
    gates = gates_of("'exact_match[topic=*] >= 0.5', {metric: exact_match, min: 0.1, target: b}", targets=("a", "b"))
    assert [(gate.spec.slice, target) for gate, target in planned_gates(gates, ["a", "b"], population, [])] == [
        ({"topic": "art"}, "a"), ({"topic": "art"}, "b"), ({"topic": "law"}, "a"), ({"topic": "law"}, "b"), (None, "b"),
    ]  # fmt: skip


def test_the_rows_of_a_run_have_its_latency_and_cost() -> None:
    answer = Completion("x", latency_s=2.0, output_tokens=7, cost_usd=0.5, ttft_s=0.5)
    row = Row(Sample("s0", "q", index=0), "m", 1, answer, {"exact_match": Cell("scored", 1.0)})
    (stored,) = rows_of_run([row], epochs=1).values()
    assert stored.scores == {"exact_match": (1.0,), "latency": (2.0,), "token_count": (7.0,), "cost_usd": (0.5,)}
    (streamed,) = rows_of_run([dataclasses.replace(row)], epochs=1, streaming=True).values()
    assert streamed.scores["ttft"] == (0.5,)
