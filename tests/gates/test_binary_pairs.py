"""When pairs of a run and its baseline are tested as 0/1 scores, and when as graded ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows
from evalrunner.domain import Declaration
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.regression import drop_outcome, incompatibilities, is_binary
from evalrunner.stats.aggregates import Reducer, parse_reducer
from evalrunner.stats.summary import Measure
from evalrunner.suite.schema import GateSpec
from tests.gates.builders import provenance_of, rows

DROP = GateSpec("drop", "ours", ">=", 0.1, kind="max_drop", baseline="main", confidence=0.95)
BINARY = Measure("ours", Declaration(binary=True))
GRADED = Measure("ours", Declaration(aggregates=("mean", "ratio", "variance")))
PYTHON = Measure("ours", Declaration(infer_binary=True))  # its scores may turn out to be 0 or 1
MEAN, ANY, TWO = (parse_reducer(name) for name in ("mean", "max", "at_least_2"))


def gate(measure: Measure, aggregate: str = "mean", reducer: Reducer = MEAN, *, epochs: int = 1, observed: bool = False) -> Gate:  # fmt: skip
    return Gate(DROP, measure, aggregate, measure.metric_name(aggregate), reducer, epochs, observed)


def baseline(*scores: float | str | list[float], epochs: int = 1) -> Baseline:
    head = BaselineHead("main", "run-0", None, provenance_of(BINARY, epochs))
    return Baseline(head, "main", collect_rows(rows(scores, "ours"), epochs=epochs))


@pytest.mark.parametrize(
    ("one", "before", "binary"),
    [
        (gate(BINARY), baseline(0.0, 1.0), True),
        (gate(GRADED), baseline(0.0, 1.0), False),
        (gate(GRADED, "ratio"), baseline(0.2, 0.7), True),
        (gate(PYTHON, observed=True), baseline(0.0, 1.0), True),
        (gate(PYTHON, observed=True), baseline(0.0, 1.0, "server: 503"), True),
        (gate(PYTHON, observed=True), baseline(0.0, 0.5), False),  # graded on the other side
        (gate(PYTHON), baseline(0.0, 1.0), False),  # graded on this side
        (gate(BINARY, epochs=2), baseline([0.0, 1.0], epochs=2), False),  # means of epochs lie in between
        (gate(BINARY, epochs=1), baseline([0.0, 1.0], epochs=2), False),
        (gate(BINARY, reducer=ANY, epochs=2), baseline([0.0, 1.0], epochs=2), True),
        (gate(BINARY, reducer=TWO, epochs=2), baseline([0.0, 1.0], epochs=2), True),
    ],
)
def test_pairs_are_binary_if_both_sides_are(one: Gate, before: Baseline, *, binary: bool) -> None:
    assert is_binary(one, before) is binary


def test_binary_drops_are_tested_as_such_and_graded_ones_with_their_range() -> None:
    drops = [1.0] * 7 + [0.5] + [0.0] * 92
    binary, _ = drop_outcome(gate(BINARY), drops, None, binary=True)
    graded, _ = drop_outcome(gate(GRADED), drops, None, binary=False)
    assert binary.p_fail != graded.p_fail
    wide = Measure("ours", Declaration(low=0.0, high=10.0))
    limit = replace(DROP, bound=1.0)
    scaled, _ = drop_outcome(
        Gate(limit, wide, "mean", "ours/v1/mean"), [10 * drop for drop in drops], None, binary=False
    )
    assert scaled.p_fail == pytest.approx(graded.p_fail)


def test_an_open_range_is_as_wide_as_the_largest_difference() -> None:
    drops = [0.5, -2.0, 0.25, 0.0] * 10
    cost = Measure("ours", Declaration(low=None, high=None))
    bounded = Measure("ours", Declaration(low=0.0, high=2.0))
    open_range, _ = drop_outcome(gate(cost), drops, None, binary=False)
    assert open_range == drop_outcome(gate(bounded), drops, None, binary=False)[0]
    assert not drop_outcome(gate(cost), [0.0] * 40, None, binary=False)[1]


def test_clusters_of_drops_widen_the_test() -> None:
    drops = [float(place < 24) for place in range(120)]
    pages = [place // 12 for place in range(120)]
    alone, worse_alone = drop_outcome(gate(BINARY), drops, None, binary=True)
    clustered, worse = drop_outcome(gate(BINARY), drops, pages, binary=True)
    assert alone.p_fail < 0.01 < clustered.p_fail
    assert (worse_alone, worse) == (True, False)


def test_the_confidence_of_a_gate_is_that_of_both_of_its_sides() -> None:
    drops = [1.0] * 9 + [0.0] * 91
    outcomes = []
    for confidence in (0.8, 0.999):
        sure = replace(gate(BINARY), spec=replace(DROP, bound=0.15, confidence=confidence))
        outcomes.append(drop_outcome(sure, drops, None, binary=True)[0].passed)
    assert outcomes == [True, False]


def test_an_improvement_is_called_worse_without_a_gain() -> None:
    better = replace(gate(BINARY), spec=replace(DROP, kind="improved", bound=0.0))
    gains, equal = [-1.0] * 10 + [0.0] * 90, [1.0] * 5 + [-1.0] * 5 + [0.0] * 90
    outcome, worse = drop_outcome(better, gains, None, binary=True)
    assert (worse, outcome.p_gain is not None and outcome.p_gain < 0.01, outcome.passed) == (False, True, False)
    assert drop_outcome(better, equal, None, binary=True)[1]
    outcome, _ = drop_outcome(better, [1.0] * 10 + [0.0] * 90, None, binary=True)
    assert outcome.p_fail < 0.01 < 0.9 < (outcome.p_gain or 0.0)


def test_epochs_of_a_baseline_matter_to_reducers_that_depend_on_them() -> None:
    provenance = provenance_of(BINARY, 2)
    one, two = baseline(1.0), baseline([1.0, 1.0], epochs=2)
    assert incompatibilities(gate(BINARY, epochs=2), provenance, two) == []
    assert incompatibilities(gate(BINARY, epochs=2), provenance, one) == []  # the mean is unbiased at any number
    assert incompatibilities(gate(BINARY, reducer=ANY, epochs=2), provenance, one) == [
        "epochs 1 → 2, on which 'max' depends"
    ]
    assert incompatibilities(gate(BINARY, reducer=ANY, epochs=2), provenance, two) == []
    assert incompatibilities(gate(BINARY, reducer=TWO, epochs=2), provenance, one) == [
        "epochs 1, but 'at_least_2' needs 2"
    ]
    other = Measure("other", Declaration(binary=True))
    assert incompatibilities(Gate(DROP, other, "mean", "other/v1", ANY, 2), provenance, one) == []
