"""Ways to fill in what a gate's samples miss, each as a list of scores in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import pytest

from evalrunner.domain import Declaration
from evalrunner.gates.evidence import Evidence, gather_evidence
from evalrunner.gates.fillings import fillings
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.distributions import variance
from evalrunner.stats.summary import Design, Measure, summarize
from evalrunner.suite.schema import GateSpec
from tests.gates.builders import rows

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure("quality", Declaration(low=0.0, high=10.0, aggregates=("mean", "variance", "p90")))
OPEN = Measure("words", Declaration(low=0.0, high=None, aggregates=("mean", "variance", "p90")))
DOWN, REFUSED = "server: 503", "no_answer: refused"
Score = float | str | None | Sequence[float | str]


def evidence_of(
    scores: Sequence[Score],
    measure: Measure = EXACT,
    aggregate: str = "mean",
    *,
    pages: Sequence[str] = (),
    **more: int,
) -> tuple[Gate, Evidence]:
    gate = Gate(GateSpec("g", measure.name, ">=", 0.5), measure, aggregate, measure.metric_name(aggregate))
    design = Design(cluster="page" if pages else None)
    about = [{"page": page} for page in pages]
    summary = summarize(rows(scores, measure.name, about), [measure], ["m"], design=design, **more)
    return gate, gather_evidence(gate, summary, "m")


def filled(
    scores: Sequence[Score],
    measure: Measure = EXACT,
    aggregate: str = "mean",
    *,
    with_spread: bool = False,
    **more: int,
) -> list[list[float]]:
    gate, evidence = evidence_of(scores, measure, aggregate, **more)
    return [list(one.values) for one in fillings(evidence, gate.estimand, with_spread=with_spread)]


def test_nothing_missing_needs_no_filling() -> None:
    assert filled([1.0, 0.0, None]) == []


def test_lost_answers_are_at_the_worst_and_at_the_best_score() -> None:
    assert filled([1.0, DOWN, None, DOWN, 0.0, DOWN]) == [[1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 1.0]]


def test_lost_answers_alternate_where_the_spread_decides() -> None:
    assert filled([1.0, DOWN, DOWN, 0.0, DOWN], with_spread=True)[2:] == [[1.0, 0.0, 1.0, 0.0, 0.0]]


def test_answers_that_the_model_did_not_give_are_zero_or_left_out() -> None:
    assert filled([1.0, REFUSED, 0.5], GRADED) == [[1.0, 0.0, 0.5], [1.0, 0.5]]


def test_samples_that_never_ran_are_at_either_end() -> None:
    assert filled([5.0], GRADED, samples=3) == [[5.0, 0.0, 0.0], [5.0, 10.0, 10.0]]


def test_samples_of_a_slice_that_never_ran_and_those_of_unknown_slices_are_both_filled_in() -> None:
    about = [{"topic": "law"}, {"topic": "law"}, {"topic": "art"}]
    found = rows([1.0, 1.0, 1.0], "exact_match", about)
    summary = summarize(found[:1], [EXACT], ["m"], design=Design(slices=("topic",)), samples=5)
    for row in found:
        summary.slices["topic"].add(row.sample)
    spec = GateSpec("g", "exact_match", ">=", 0.5, slice={"topic": "law"})
    gate = Gate(spec, EXACT, "mean", "exact_match/v1")
    evidence = gather_evidence(gate, summary, "m")
    assert (evidence.not_run, evidence.elsewhere) == (1, 2)
    assert [list(one.values) for one in fillings(evidence, gate.estimand, with_spread=False)] == [
        [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0],
    ]  # fmt: skip


def test_missing_epochs_move_the_score_of_their_sample_only() -> None:
    assert filled([[4.0, DOWN], [6.0, 8.0]], GRADED, epochs=2) == [[2.0, 7.0], [7.0, 7.0]]


def test_a_mean_of_an_open_range_has_no_filling_but_a_quantile_has() -> None:
    assert filled([5.0, DOWN], OPEN) == [[5.0, 0.0]]  # an open end is no score
    assert filled([5.0, DOWN], OPEN, "p90") == [[5.0, 0.0], [5.0, math.inf]]


def test_clusters_stay_with_their_samples_and_new_ones_share_one() -> None:
    gate, evidence = evidence_of([1.0, DOWN, REFUSED, None, 0.0], pages=["a", "b", "a", "b", "b"], samples=7)
    worst, best = fillings(evidence, gate.estimand, with_spread=False)
    a, b = evidence.cluster_of(0), evidence.cluster_of(1)
    assert a != b
    assert worst.clusters is not None and best.clusters is not None
    assert list(worst.clusters) == [a, b, a, b, -1, -1]
    assert list(best.clusters) == [a, b, b, -1, -1]
    alone = evidence_of([1.0, DOWN])[1]
    assert alone.cluster_of(1) == 0
    assert [one.clusters for one in fillings(alone, gate.estimand, with_spread=False)] == [None, None]


GRID = [step / 2 for step in range(21)]


@pytest.mark.parametrize(
    "scores",
    [
        [2.0, 4.0, DOWN],
        [2.0, 4.0, 4.5, DOWN, DOWN],
        [9.0, 9.5, 10.0, DOWN],
        [0.0, 1.0, 0.0, DOWN, DOWN],
        [0.0, 10.0, DOWN],
        [5.0, DOWN, DOWN],
    ],
)
def test_the_fillings_of_a_variance_have_the_least_and_the_largest_one(scores: list[Score]) -> None:
    known = [score for score in scores if isinstance(score, float)]
    lost = len(scores) - len(known)
    every = [variance([*known, *chosen]) for chosen in product([*GRID, sum(known) / len(known)], repeat=lost)]
    least, largest = (variance(one) for one in filled(scores, GRADED, "variance"))
    assert (least, largest) == (pytest.approx(min(every)), pytest.approx(max(every)))


def test_partly_missing_samples_vary_inside_their_own_range() -> None:
    scores: list[Score] = [[2.0, 2.0], [8.0, DOWN], [4.0, DOWN]]  # 2, 4..9 and 2..7
    least, largest = filled(scores, GRADED, "variance", epochs=2)
    assert least == pytest.approx([2.0, 4.0, 3.0], abs=1e-6)
    assert largest == [2.0, 9.0, 2.0]


def test_a_variance_of_an_open_range_has_only_its_least_filling() -> None:
    assert filled([2.0, 4.0, DOWN], OPEN, "variance") == [pytest.approx([2.0, 4.0, 3.0])]


def test_a_variance_also_holds_without_the_answers_that_the_model_did_not_give() -> None:
    *ends, without = filled([2.0, 4.0, REFUSED], GRADED, "variance")
    assert ends == [[2.0, 4.0, 0.0], [2.0, 4.0, 0.0]]  # an answer not given is never right
    assert without == [2.0, 4.0]
    assert filled([2.0, 4.0, REFUSED, DOWN], GRADED, "variance")[2] == [2.0, 4.0, 10.0]


def test_a_variance_without_any_score_is_filled_too() -> None:
    assert filled([DOWN, DOWN], GRADED, "variance") == [[0.0, 0.0], [0.0, 10.0]]
