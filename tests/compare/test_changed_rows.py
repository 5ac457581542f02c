"""Changed rows between two runs: what counts as worse, their order, and samples on which candidates disagree."""

from __future__ import annotations

import dataclasses

import pytest

from evalrunner.compare.diff import Changes, change_of, diff_rows, disagreeing_rows, score_drop
from evalrunner.domain import Cell, Completion, Declaration, Failure, Row, Sample
from evalrunner.stats.summary import Measure

RIGHT = Measure("right", Declaration(binary=True))
GRADED = Measure("graded", Declaration(low=0.0, high=10.0))
REFUSED = Cell("unscored", None, "refused", cause="no_answer")
UNREAD = Cell("unscored", None, "not read", cause="judge")
DOWN = Cell("error", None, "503", cause="server")


def row(index: int, score: float | Cell | None = 1.0, *, output: str = "Paris", epoch: int = 1, **cells: Cell) -> Row:
    right = {"right": score if isinstance(score, Cell) else Cell("scored", score)} if score is not None else {}
    return Row(Sample(f"s{index}", "q", ("Paris",), index=index), "m", epoch, Completion(output), right | cells)


def diff(pairs: list[tuple[Row | None, Row]], *, keep: int = 10) -> Changes:
    earlier = {id(after): before for before, after in pairs}
    return diff_rows([after for _, after in pairs], lambda after: earlier[id(after)], [RIGHT], keep=keep)


def test_rows_are_counted_by_their_change() -> None:
    other_input = dataclasses.replace(row(7), sample=Sample("s7", "another", ("Paris",), index=7))
    other_expected = dataclasses.replace(row(8), sample=Sample("s8", "q", ("Rome",), index=8))
    changes = diff(
        [
            (row(0), row(0)),
            (row(1), row(1)),
            (row(2), row(2, 0.0)),
            (row(3), row(3, 0.0)),
            (row(4), row(4, REFUSED)),
            (row(5, 0.0), row(5)),
            (row(6), row(6, DOWN)),
            (other_input, row(7)),
            (other_expected, row(8)),
            (row(9), row(9, output="paris")),
            (None, row(10)),
            (None, row(11)),
        ]
    )
    assert dataclasses.replace(changes, rows=[]) == Changes(
        same=2, worse=3, better=1, state_changed=1, output_changed=1, different_sample=2, after_only=2
    )
    assert changes.changed == 6


def test_the_worst_changes_come_first_then_the_order_of_the_dataset() -> None:
    pairs = [
        (row(5), row(5, 0.0)),
        (row(4, 0.0), row(4)),
        (row(3, epoch=2), row(3, 0.0, epoch=2)),
        (row(3), row(3, 0.0)),
        (row(2), row(2, output="paris")),
        (row(1), row(1)),
    ]
    changes = diff(pairs)
    assert [(change.after.sample.index, change.after.epoch) for change in changes.rows] == [
        (3, 1), (3, 2), (5, 1), (2, 1), (4, 1),
    ]  # fmt: skip
    assert [change.worse for change in changes.rows] == [1.0, 1.0, 1.0, 0.0, -1.0]
    assert diff(pairs, keep=2).rows == changes.rows[:2]


def test_the_first_of_two_rows_of_one_epoch_comes_first() -> None:
    one, other = row(1, 0.0, output="one"), row(1, 0.0, output="other")
    changes = diff([(row(1), one), (row(1), other)])
    assert [change.after for change in changes.rows] == [one, other]


def test_a_change_names_the_scores_that_changed_and_averages_their_drop() -> None:
    measures = {"right": RIGHT.declaration, "graded": GRADED.declaration, "new": Declaration(), "old": Declaration()}
    before = row(1, 1.0, graded=Cell("scored", 8.0), old=Cell("scored", 1.0))
    after = row(1, 1.0, graded=Cell("scored", 3.0), new=Cell("scored", 0.0), output="Lyon")
    change = change_of(before, after, measures)
    assert change is not None
    assert (change.scores, change.output, change.worse) == (("graded",), True, 0.25)
    without = change_of(row(1, None), row(1, None, output="Lyon"), measures)
    assert without is not None and (without.scores, without.output, without.worse) == ((), True, 0.0)
    assert change_of(before, before, measures) is None


def test_a_failed_call_has_its_failure_as_output() -> None:
    failed = dataclasses.replace(row(1), answer=Failure("timeout", "no answer within 60 s"))
    assert change_of(failed, failed, {}) is None
    change = change_of(row(1, output="timeout: no answer within 60 s"), failed, {})
    assert change is None  # the texts are compared
    assert change_of(row(1), failed, {}) is not None


@pytest.mark.parametrize(
    ("declared", "before", "after", "drop"),
    [
        (RIGHT.declaration, 1.0, 0.0, 1.0),
        (RIGHT.declaration, 0.0, 1.0, -1.0),
        (Declaration(binary=True, higher_is_better=False), 0.0, 1.0, 1.0),
        (GRADED.declaration, 8.0, 3.0, 0.5),
        (Declaration(low=2.0, high=6.0), 5.0, 3.0, 0.5),
        (Declaration(low=2.0, high=2.0), 2.0, 2.0, 0.0),
        (Declaration(low=0.0, high=None), 8.0, 2.0, 0.75),  # of an open range: of the larger score
        (Declaration(low=None, high=9.0), 2.0, -8.0, 1.25),
        (Declaration(low=None, high=None), 0.0, 0.0, 0.0),
        (Declaration(low=None, high=None), 0.25, 0.0, 1.0),
    ],
)
def test_a_drop_is_a_share_of_the_range(declared: Declaration, before: float, after: float, drop: float) -> None:
    assert score_drop(Cell("scored", before), Cell("scored", after), declared) == drop


@pytest.mark.parametrize(
    ("before", "after", "drop"),
    [
        (Cell("scored", 0.0), REFUSED, 1.0),
        (REFUSED, Cell("scored", 0.0), -1.0),
        (REFUSED, REFUSED, 0.0),
        (Cell("scored", 1.0), DOWN, 0.0),
        (Cell("scored", 1.0), UNREAD, 0.0),
        (DOWN, Cell("scored", 1.0), 0.0),
        (Cell("scored", 1.0), Cell("error", None, "refused", cause="no_answer"), 0.0),
    ],
)
def test_a_missing_answer_is_the_largest_drop_and_a_failed_call_is_none(before: Cell, after: Cell, drop: float) -> None:
    assert score_drop(before, after, RIGHT.declaration) == drop


def test_disagreeing_rows_are_of_the_first_epoch_in_which_scores_differ() -> None:
    def of(target: str, epoch: int, score: float, index: int = 3) -> Row:
        return dataclasses.replace(row(index, score, epoch=epoch), target=target)

    rows = [
        of("b", 3, 0.0), of("a", 3, 1.0), of("b", 2, 1.0), of("a", 2, 0.0), of("b", 1, 1.0), of("a", 1, 1.0),
        of("a", 2, 1.0, 4), of("b", 2, 1.0, 4), of("b", 1, 0.0, 4), of("a", 1, 0.0, 4), of("a", 1, 0.0, 5),
    ]  # fmt: skip
    third, fourth = disagreeing_rows(rows, [3, 4, 9], ["a", "b"])
    assert [(one.target, one.epoch) for one in third] == [("a", 2), ("b", 2)]
    assert [(one.target, one.epoch) for one in fourth] == [("a", 1), ("b", 1)]


def test_rows_without_a_common_score_do_not_disagree() -> None:
    alone = dataclasses.replace(row(1, None, other=Cell("scored", 0.0)), target="a")
    rows = [alone, dataclasses.replace(row(1, 1.0, epoch=1), target="b")]
    later = [dataclasses.replace(row(1, score, epoch=2), target=name) for name, score in (("a", 0.0), ("b", 1.0))]
    ((first, second),) = disagreeing_rows([*rows, *later], [1], ["a", "b"])
    assert (first.epoch, second.epoch) == (2, 2)
