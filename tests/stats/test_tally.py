"""One score per sample from its epochs, and the worst and best score that missing epochs allow."""

from __future__ import annotations

import math
from array import array
from itertools import product

import pytest

from evalrunner.domain import Cell, Declaration
from evalrunner.stats.aggregates import MEAN_REDUCER, Reducer, parse_reducer
from evalrunner.stats.tally import (
    ERROR,
    JUDGE,
    NO_ANSWER,
    NOT_RUN,
    SCORED,
    SKIPPED,
    TOO_FEW_EPOCHS,
    ZEROED,
    FillRange,
    ReducedScores,
    SampleScores,
    Tally,
    fill_range,
    reduce_cells,
    reduce_tally,
)

UNIT = FillRange(0.0, 1.0, 0.0)
LOST = (ERROR, JUDGE, NOT_RUN)
REDUCERS = ("mean", "median", "mode", "max", "at_least_2", "pass_at_2", "pass_k_2", "pass_k_3", "pass_at_3")


def possible_scores(cells: list[tuple[int, float]], reducer: Reducer) -> list[float]:
    """Every reduced score with 0/1 for lost epochs and 0 or nothing for those that the model did not answer."""
    choices: list[list[float | None]] = [
        [value] if code == SCORED else [0.0, None] if code == NO_ANSWER else [0.0, 1.0] for code, value in cells
    ]
    scores = [reducer.reduce([value for value in filled if value is not None]) for filled in product(*choices)]
    return [score for score in scores if score is not None]


@pytest.mark.parametrize("name", REDUCERS)
@pytest.mark.parametrize("lost", LOST)
def test_ends_are_the_least_and_greatest_score_of_every_filling(name: str, lost: int) -> None:
    reducer = parse_reducer(name)
    for pattern in product([(SCORED, 0.0), (SCORED, 1.0), (lost, math.nan)], repeat=3):
        cells = list(pattern)
        if all(code != SCORED for code, _ in cells):
            continue
        value, (worst, best) = reduce_cells(cells, reducer, fill_range(Declaration(binary=True), reducer))
        every = possible_scores(cells, reducer)
        assert (worst, best) == (min(every), max(every)), cells
        if value is not None and not reducer.unbiased:
            assert worst == best == value, cells  # nothing missing could change it
        if worst == best:
            assert value == worst, cells


def test_a_missing_answer_of_the_model_is_at_best_left_out() -> None:
    cells = [(SCORED, 1.0), (SCORED, 0.0), (NO_ANSWER, math.nan)]
    assert reduce_cells(cells, MEAN_REDUCER, UNIT) == (0.5, (pytest.approx(1 / 3), 0.5))
    assert reduce_cells(cells, parse_reducer("max"), UNIT) == (1.0, (1.0, 1.0))
    alone = [(NO_ANSWER, math.nan)]
    value, (worst, best) = reduce_cells(alone, MEAN_REDUCER, UNIT)
    assert (value, worst) == (None, 0.0)
    assert math.isnan(best)


def test_lower_is_better_turns_the_ends_round() -> None:
    toxicity = Declaration(higher_is_better=False)
    assert fill_range(toxicity) == FillRange(1.0, 0.0, 1.0)
    cells = [(SCORED, 0.2), (ERROR, math.nan)]
    assert reduce_cells(cells, MEAN_REDUCER, fill_range(toxicity)) == (0.2, (0.6, 0.1))


@pytest.mark.parametrize(
    ("declaration", "ends"),
    [
        (Declaration(low=-1.0), FillRange(-1.0, 1.0, 0.0)),  # zero lies inside the range
        (Declaration(low=1.0, high=5.0), FillRange(1.0, 5.0, 1.0)),
        (Declaration(low=None, high=None), FillRange(-math.inf, math.inf, 0.0)),
        (Declaration(high=None, higher_is_better=False), FillRange(math.inf, 0.0, math.inf)),
        (Declaration(low=None, high=None, binary=True), FillRange(0.0, 1.0, 0.0)),
    ],
)
def test_missing_scores_range_over_the_declared_range(declaration: Declaration, ends: FillRange) -> None:
    assert fill_range(declaration) == ends


def test_the_most_common_score_can_be_any_score() -> None:
    cells = [(SCORED, 0.3), (SCORED, 0.5), (SCORED, 0.5), (SCORED, 0.3), (SCORED, 0.6), (ERROR, math.nan)]
    assert reduce_cells(cells, parse_reducer("mode"), UNIT) == (None, (0.3, 0.5))


def tally(cells: list[tuple[int, Cell]], *, epochs: bool) -> Tally:
    result = Tally()
    if epochs:
        result = Tally(epochs=result.samples[:0])
    numbers: dict[int, int] = {}
    for sample, cell in cells:
        numbers[sample] = numbers.get(sample, 0) + 1
        result.add(sample, cell, epoch=numbers[sample])
    return result


RIGHT, DOWN = Cell("scored", 1.0), Cell("error", reason="503", cause="server")
NOT_APPLICABLE = Cell("skipped", reason="no expected answer")


def test_epochs_that_never_ran_are_missing() -> None:
    scores = reduce_tally(tally([(0, RIGHT), (0, RIGHT), (1, RIGHT)], epochs=True), MEAN_REDUCER, UNIT, epochs=2)
    assert (list(scores.values), list(scores.worst), list(scores.best)) == ([1.0, 1.0], [1.0, 0.5], [1.0, 1.0])
    assert (list(scores.scored), list(scores.applicable), scores.complete) == ([2, 1], [2, 2], False)


def test_skipped_epochs_are_neither_scored_nor_missing() -> None:
    scores = reduce_tally(tally([(0, NOT_APPLICABLE), (0, RIGHT), (1, NOT_APPLICABLE), (1, NOT_APPLICABLE)], epochs=True), MEAN_REDUCER, UNIT, epochs=2)  # fmt: skip
    assert (list(scores.codes), list(scores.scored), list(scores.applicable)) == ([SCORED, SKIPPED], [1, 0], [1, 0])
    assert scores.complete


def test_single_epochs_have_the_same_ends_as_reduced_ones() -> None:
    cells = [(0, RIGHT), (1, DOWN), (2, NOT_APPLICABLE), (3, Cell("unscored", reason="refused", cause="no_answer"))]
    single = reduce_tally(tally(cells, epochs=False), MEAN_REDUCER, UNIT)
    several = reduce_tally(tally(cells, epochs=True), MEAN_REDUCER, UNIT, epochs=1)
    for column in ("values", "worst", "best", "codes", "scored", "applicable"):
        assert list(getattr(single, column)) == pytest.approx(list(getattr(several, column)), nan_ok=True), column


ZERO = Cell("scored", 0.0, "refused", cause="no_answer")
REFUSED = Cell("unscored", reason="refused", cause="no_answer")
UNREAD = Cell("unscored", reason="not read", cause="judge")


def test_answers_counted_as_zero_are_scored() -> None:
    several = tally([(0, RIGHT), (0, ZERO), (1, ZERO), (1, DOWN)], epochs=True)
    scores = reduce_tally(several, MEAN_REDUCER, UNIT, epochs=2)
    assert (list(scores.values), list(scores.worst), list(scores.best)) == ([0.5, 0.0], [0.5, 0.0], [0.5, 0.5])
    assert (list(scores.scored), list(scores.applicable)) == ([2, 1], [2, 2])
    for cells in ([(0, RIGHT), (1, ZERO)], [(0, RIGHT), (1, ZERO), (2, DOWN)]):
        single = reduce_tally(tally(cells, epochs=False), MEAN_REDUCER, UNIT)
        assert (list(single.scored[:2]), list(single.worst[:2]), list(single.best[:2])) == (
            [1, 1],
            [1.0, 0.0],
            [1.0, 0.0],
        )
        assert list(single.codes[:2]) == [SCORED, ZEROED]


def test_the_order_of_arrival_changes_no_score() -> None:
    late = Tally(epochs=array("i"))
    for sample, epoch, value in ((1, 2, 0.5), (0, 2, 0.6), (1, 1, 0.3), (0, 1, 0.4)):
        late.add(sample, Cell("scored", value), epoch=epoch)
    scores = reduce_tally(late, parse_reducer("mode"), UNIT, epochs=2)
    assert (list(scores.samples), list(scores.values)) == ([0, 1], [0.4, 0.3])  # the first of equally common ones


def test_a_counting_reducer_of_one_epoch_passes_or_not() -> None:
    one = tally([(0, Cell("scored", 0.9)), (1, RIGHT), (2, DOWN)], epochs=False)
    scores = reduce_tally(one, parse_reducer("at_least_1"))
    assert list(scores.values) == pytest.approx([0.0, 1.0, math.nan], nan_ok=True)
    assert (list(scores.worst), list(scores.best)) == ([0.0, 1.0, 0.0], [0.0, 1.0, 1.0])


def test_two_of_two_passed_epochs_are_needed_for_at_least_two() -> None:
    few = reduce_tally(tally([(0, RIGHT)], epochs=True), parse_reducer("at_least_2"))
    assert (list(few.codes), list(few.scored), list(few.applicable)) == ([TOO_FEW_EPOCHS], [1], [1])


@pytest.mark.parametrize("code", [ERROR, NO_ANSWER])
def test_a_sample_with_fewer_epochs_than_needed_has_no_ends(code: int) -> None:
    reducer = parse_reducer("at_least_2")
    value, ends = reduce_cells([(code, math.nan)], reducer, fill_range(Declaration(binary=True), reducer))
    assert value is None and all(math.isnan(end) for end in ends)


def test_a_sample_without_a_score_takes_its_worst_state() -> None:
    cells = [(0, REFUSED), (0, DOWN), (1, REFUSED), (1, UNREAD), (2, NOT_APPLICABLE), (2, REFUSED), (3, UNREAD)]
    scores = reduce_tally(tally(cells, epochs=True), MEAN_REDUCER, UNIT, epochs=2)
    assert list(scores.codes) == [ERROR, JUDGE, NO_ANSWER, NOT_RUN]
    assert scores.partition_states() == ReducedScores(array("d"), array("q"), 0, 0, no_answer=1, judge=1, errors=2)


def test_states_are_counted_beside_the_scores_and_their_clusters() -> None:
    cells = [(0, RIGHT), (1, ZERO), (2, NOT_APPLICABLE), (3, REFUSED), (4, UNREAD), (5, DOWN)]
    scores = reduce_tally(tally(cells, epochs=False), MEAN_REDUCER, UNIT)
    clusters = array("q", [9, 8, 7, 6, 5, 4])
    assert scores.partition_states(clusters) == ReducedScores(
        array("d", [1.0, 0.0]), array("q", [0, 1]), zeroed=1, skipped=1, no_answer=1, judge=1, errors=1,
        clusters=array("q", [9, 8]),
    )  # fmt: skip
    assert scores.partition_states().clusters is None


def test_answers_are_counted_by_state_and_group() -> None:
    several = tally([(0, RIGHT), (0, RIGHT), (1, DOWN), (1, RIGHT), (2, UNREAD), (2, NOT_APPLICABLE)], epochs=True)
    assert several.count_codes() == {0: {SCORED: 3, ERROR: 1, JUDGE: 1, SKIPPED: 1}}
    groups = array("q", [7, 7, 3])
    assert several.count_codes(groups) == {7: {SCORED: 3, ERROR: 1}, 3: {JUDGE: 1, SKIPPED: 1}}


def test_splitting_keeps_every_column_aligned() -> None:
    cells = [(0, RIGHT), (1, DOWN), (2, RIGHT)]
    scores = reduce_tally(tally(cells, epochs=False), MEAN_REDUCER, UNIT)
    groups = scores.samples[:0]
    groups.extend([7, 8, 7])
    parts = scores.split(groups)
    assert (list(parts[7].samples), list(parts[7].values), parts[7].complete) == ([0, 2], [1.0, 1.0], True)
    assert (list(parts[8].worst), list(parts[8].best), list(parts[8].scored)) == ([0.0], [1.0], [0])
    assert SampleScores.empty().complete
