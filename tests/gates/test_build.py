"""Gates that a suite can have, and the problems of those that it cannot, by their place in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, sample_key
from evalrunner.domain import Declaration, Sample
from evalrunner.gates.build import GateBuilder, SampleKeyIndex, reject_incompatible
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import Document, parse_document
from tests.gates.builders import judge, provenance_of, rows

EXACT = Measure("exact_match", Declaration(binary=True))
TOXIC = Measure("toxicity", Declaration(higher_is_better=False, aggregates=("mean", "p90", "variance")))
COST = Measure("cost", Declaration(low=0.0, high=None))
DEPTH = Measure("depth", Declaration(low=None, high=9.0))
FREE = Measure("free", Declaration(low=None, high=None))
WIDE = Measure("wide", Declaration(low=-1.0, high=5.0))


def build(
    gates: str, *, epochs: int = 1, design: Design | None = None, **more: object
) -> tuple[Sequence[Gate], list[str]]:
    """The gates and the problems of `gates` of a suite."""
    document = parse_document(f"gates: [{gates}]", file="s.yaml")
    specs = read_gates(SectionReader(document, Path()), document.data)
    measures = [EXACT, TOXIC, COST, DEPTH, FREE, WIDE, *BUILTIN_MEASURES]
    builder = GateBuilder(
        document, measures, targets=["one", "two"], design=design or Design(), epochs=epochs, **more  # type: ignore[arg-type]
    )  # fmt: skip
    return builder.build(specs), [str(problem) for problem in document.problems]


@pytest.mark.parametrize(
    ("gate", "wrong"),
    [
        ("wide >= 5", None),
        ("wide >= -1", None),
        ("wide >= 5.1", "compares with 5.1, but 'wide/v1/mean' is always -1..5"),
        ("wide >= -1.1", "compares with -1.1, but 'wide/v1/mean' is always -1..5"),
        ("cost <= 1000", None),
        ("cost <= -1", "compares with -1, but 'cost/v1/mean' is always 0 or more"),
        ("depth >= -1000", None),
        ("depth >= 10", "compares with 10, but 'depth/v1/mean' is always 9 or less"),
        ("free >= -1000", None),
        ("{metric: wide, baseline: main, max_drop: 6}", None),
        ("{metric: wide, baseline: main, max_drop: 6.5}", "is 6.5, but 'wide/v1/mean' cannot drop by more than 6"),
        ("{metric: cost, baseline: main, max_drop: 1000}", None),
        ("{metric: depth, baseline: main, max_drop: 1000}", None),
        ("exact_match >= 80", "compares with 80, but 'exact_match/v1' is always 0..1; 80% is 0.8"),
        ("exact_match >= 100.5", "compares with 100.5, but 'exact_match/v1' is always 0..1"),
        ("wide >= 80", "compares with 80, but 'wide/v1/mean' is always -1..5"),
    ],
)
def test_a_bound_lies_in_the_range_of_its_metric(gate: str, wrong: str | None) -> None:
    built, problems = build(gate)
    assert len(built) == 1
    assert [problem.partition(": gates[0]")[2].partition(": ")[2] for problem in problems] == [wrong] * (
        wrong is not None
    )


@pytest.mark.parametrize(
    ("gate", "epochs", "wrong"),
    [
        ("{per_sample: {metric: toxicity, max: 0.2, passes: 2, of: 3, share: 0.9}}", 3, None),
        ("{per_sample: {metric: toxicity, max: 0.2, passes: 3, share: 0.9}}", 3, None),
        ("{per_sample: {metric: toxicity, max: 0.2, passes: 2, of: 3, share: 0.9}}", 2, "is 3, but the run has 2 epochs; set run.epochs to 3, or remove 'of'"),
        ("{per_sample: {metric: toxicity, max: 0.2, passes: 2, of: 3, share: 0.9}}", 1, "is 3, but the run has 1 epoch; set run.epochs to 3, or remove 'of'"),
        ("{per_sample: {metric: toxicity, max: 0.2, passes: 3, share: 0.9}}", 2, "is 3, but the run has 2 epochs (run.epochs)"),
        ("{per_sample: {metric: toxicity, max: 0.2, passes: 2, share: 0.9}}", 1, "is 2, but the run has 1 epoch (run.epochs)"),
    ],
)  # fmt: skip
def test_a_rule_for_each_sample_fits_the_epochs_of_the_run(gate: str, epochs: int, wrong: str | None) -> None:
    _, problems = build(gate, epochs=epochs)
    assert [problem.rpartition(": ")[2] for problem in problems] == [wrong] * (wrong is not None)


def test_epochs_that_pass_by_a_low_score_count_scores_up_to_the_bound() -> None:
    now = rows([[0.1, 0.2, 0.5]] * 6 + [[0.1, 0.3, 0.5]] * 4, "toxicity")
    low, high = (f"{{per_sample: {{metric: toxicity, {key}: 0.2, passes: 2}}}}" for key in ("max", "min"))
    below, above = judge(f"{low}, {high}", TOXIC, now, epochs=3)
    assert (below.metric, below.value, above.value) == ("toxicity/v1/at_least_2", 0.6, 1.0)


def test_problems_name_the_nearest_target_slice_and_metric() -> None:
    sliced = Design(slices=("topic",))
    for gate, wrong in (
        ("{metric: exact_match, min: 0.5, target: oen}", "no target 'oen' in this suite; did you mean 'one'?"),
        ("{metric: exact_match, min: 0.5, target: zzz}", "no target 'zzz' in this suite; it has one, two"),
        ("'exact_match[topik=law] >= 0.5'", "no slice 'topik' in this suite; did you mean 'topic'?"),
        ("'exact_match[zzz=law] >= 0.5'", "no slice 'zzz' in this suite; it has topic"),
        ("exact_mach >= 0.5", "no metric 'exact_mach' in this suite; did you mean 'exact_match'?"),
    ):
        _, (problem,) = build(gate, design=sliced)
        assert problem.endswith(wrong)
    assert build("{metric: exact_match, min: 0.5, target: oen}")[1][0].startswith("s.yaml:1:49: gates[0].target: ")
    assert build("'exact_match[topic=law] >= 0.5'", design=sliced)[1] == []
    assert build("'exact_match[topic=law] >= 0.5'")[1][0].endswith("add it: slices: [topic]")


def test_an_unknown_metric_may_belong_to_a_scorer_that_is_broken() -> None:
    assert build("exact_mach >= 0.5", broken=True) == ((), [])
    _, (problem,) = build("exact_match/p90 >= 0.5", broken=True)
    assert "no metric 'exact_match/p90'" in problem


def test_a_reducer_is_part_of_the_name_unless_it_is_the_suites_own() -> None:
    both = Design(reducers=(parse_reducer("mean"), parse_reducer("pass_at_2")))
    gates, problems = build("exact_match >= 0.5, exact_match/pass_at_2 >= 0.5, latency/p50 <= 9", epochs=2, design=both)
    assert [gate.metric for gate in gates] == ["exact_match/v1", "exact_match/v1/pass_at_2", "latency/p50"]
    assert problems == []
    worst = Design(reducers=(parse_reducer("max"),))
    assert [gate.metric for gate in build("exact_match >= 0.5, latency/p50 <= 9", epochs=2, design=worst)[0]] == [
        "exact_match/v1", "latency/p50",
    ]  # fmt: skip


def test_gates_on_targets_that_were_not_selected_are_left_out() -> None:
    document = parse_document(
        "gates: [{metric: exact_match, min: 0.5, target: other}, exact_match >= 0.1]", file="s.yaml"
    )
    document.excluded_targets = frozenset({"other"})
    specs = read_gates(SectionReader(document, Path()), document.data)
    builder = GateBuilder(document, [EXACT], targets=["one"], design=Design())
    assert [(gate.spec.bound, gate.epochs) for gate in builder.build(specs)] == [(0.1, 1)]
    assert document.problems == []


def test_gates_that_can_stop_early_do_so_where_the_suite_asks_for_it() -> None:
    text = "exact_match >= 0.5, toxicity/p90 <= 0.5, {metric: exact_match, min: 0.1, sequential: false}"
    assert [gate.spec.sequential for gate in build(text, stop_early=True)[0]] == [True, False, False]
    gates, problems = build(
        "{metric: toxicity/p90, max: 0.5, sequential: true}, {metric: exact_match, min: 0.5, sequential: true}"
    )
    assert [gate.spec.sequential for gate in gates] == [False, True]
    assert len(problems) == 1 and "cannot be sequential" in problems[0]


def test_the_keys_of_samples_are_collected_while_they_are_checked() -> None:
    index, sample = SampleKeyIndex(), Sample("s7", "q", index=7)
    assert index.then(lambda one: [one.id])(sample) == ["s7"]
    assert index.keys == {7: sample_key(sample)}


def refused(gate: Gate, *, path: Path | None, outputs: bool = False, name: str = "main") -> list[str]:
    """The problems of a gate with a baseline of one epoch, of a run with two."""
    document: Document = parse_document("gates: [{metric: exact_match, baseline: main, max_drop: 0.1}]", file="s.yaml")
    head = BaselineHead(name, "run-0", None, provenance_of(EXACT, 1), outputs=outputs)
    baseline = Baseline(head, "main", {}, path)
    reject_incompatible(document, [gate], {"main": baseline}, provenance_of(EXACT, 2))
    return [str(problem) for problem in document.problems]


def test_a_gate_whose_baseline_means_something_else_is_refused_with_the_way_to_renew_it() -> None:
    (gate,), _ = build(
        "{metric: exact_match, baseline: main, max_drop: 0.1}",
        epochs=2,
        design=Design(reducers=(parse_reducer("max"),)),
    )
    wrong = (
        "s.yaml:1:41: gates[0].baseline: cannot compare 'exact_match' with 'main': it has changed (epochs 1 → 2, on which "
        "'max' depends); "
    )
    assert refused(gate, path=Path("b.jsonl")) == [
        f"{wrong}create a new one: evalrun s.yaml --no-gates, then evalrun baseline accept"
    ]
    assert refused(gate, path=Path("b.jsonl"), name="old") == [
        f"{wrong}create a new one: evalrun s.yaml --no-gates, then evalrun baseline accept --name old"
    ]
    assert refused(gate, path=Path("b.jsonl"), outputs=True) == [
        f"{wrong}update it: evalrun score b.jsonl --suite s.yaml, then evalrun baseline accept --with-outputs"
    ]
    assert refused(gate, path=None) == [f"{wrong}compare with a newer run"]


def test_a_gate_without_that_baseline_or_with_an_equal_one_is_not_refused() -> None:
    (gate,), _ = build("{metric: exact_match, baseline: main, max_drop: 0.1}", epochs=2)
    assert refused(gate, path=None) == []  # the mean is comparable at any number of epochs
    other = replace(gate, reducer=parse_reducer("max"), spec=replace(gate.spec, baseline="other"))
    assert refused(other, path=None) == []
    point = replace(gate, reducer=parse_reducer("max"), spec=replace(gate.spec, baseline=None))
    assert refused(point, path=None) == []
