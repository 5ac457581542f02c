"""The return value of a scorer becomes a finite number in range, or a cell with the reason."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction

import pytest

from evalrunner.domain import Cell, Declaration, Failure, Score, Scorer, Skipped, Unscored
from evalrunner.scorers.call import cell_from
from tests.scorers.scorer_calls import cell_of

OPEN = Declaration(low=None, high=None)


@pytest.mark.parametrize(
    ("returned", "cell"),
    [
        (True, Cell("scored", 1.0)),
        (False, Cell("scored", 0.0)),
        (1, Cell("scored", 1.0)),
        (0.25, Cell("scored", 0.25)),
        (Fraction(1, 4), Cell("scored", 0.25)),
        (Decimal("0.25"), Cell("scored", 0.25)),
        (1 + 1e-12, Cell("scored", 1.0)),  # rounding beyond the end of the range
        (-1e-12, Cell("scored", 0.0)),
        (Score(0.5), Cell("scored", 0.5)),
        (Score(0.5, "so so"), Cell("scored", 0.5, detail={"explanation": "so so"})),
        (Score(True, "yes", {"n": 2}), Cell("scored", 1.0, detail={"n": 2, "explanation": "yes"})),
        (None, Cell("skipped", reason="the scorer returned None")),
        (Skipped("no unit in the question"), Cell("skipped", reason="no unit in the question")),
        (
            Unscored("judge_check", "6 of 12 known answers"),
            Cell("unscored", reason="6 of 12 known answers", cause="judge_check"),
        ),
        (Unscored("no_answer", "refused"), Cell("unscored", reason="refused", cause="no_answer")),
        (Failure("timeout", "after 60 s"), Cell("error", reason="after 60 s", cause="timeout")),
    ],
)
def test_allowed_return_values(returned, cell) -> None:
    assert cell_of(Scorer(lambda output: returned), "x") == cell
    assert cell_from(returned, Declaration()) == cell


class Hostile:
    """Raises on any access."""

    def __getattr__(self, name):
        raise RuntimeError("do not touch")

    def __repr__(self):
        raise RuntimeError("do not look")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (math.nan, "nan, which is not a finite number"),
        (math.inf, "inf, which is not a finite number"),
        (-math.inf, "-inf, which is not a finite number"),
        (Decimal("NaN"), "nan, which is not a finite number"),
        (10**400, "a int that does not fit a float"),
        (1.5, "1.5, but declares that its scores end at 1.0"),
        (-0.5, "-0.5, but declares that its scores start at 0.0"),
        ("1", "the text '1'; it should return a number, True or False, None, or an evalrunner.Score"),
        ({"score": 1}, "a dict; it should return a number, True or False, None, or an evalrunner.Score"),
        ([1], "a list; it should return a number, True or False, None, or an evalrunner.Score"),
        (1j, "a complex; it should return a number, True or False, None, or an evalrunner.Score"),
        (Score(math.nan), "nan, which is not a finite number"),
        (Score("1"), "the text '1'; it should return a number, True or False, None, or an evalrunner.Score"),
        (Score(2), "2.0, but declares that its scores end at 1.0"),
    ],
)
def test_invalid_return_values_are_errors_and_never_scores(returned, said) -> None:
    def odd(output):
        return returned

    name = "test_invalid_return_values_are_errors_and_never_scores.<locals>.odd()"
    assert cell_of(Scorer(odd), "x") == Cell("error", reason=f"{name} returned {said}", cause="function")


def test_objects_that_raise_on_access_are_errors_of_their_cell() -> None:
    cell = cell_of(Scorer(lambda output: Hostile()), "x")
    assert cell.state == "error" and (cell.message or "").endswith(".Hostile that does not fit a float")


def test_numpy_numbers_are_accepted() -> None:
    numpy = pytest.importorskip("numpy")
    for value, number in (
        (numpy.float64(0.5), 0.5),
        (numpy.float32(0.5), 0.5),
        (numpy.int64(1), 1.0),
        (numpy.bool_(True), 1.0),
        (numpy.array(0.5), 0.5),
    ):
        cell = cell_from(value, Declaration())
        assert cell == Cell("scored", number) and type(cell.value) is float
    assert cell_from(numpy.float32("nan"), Declaration()).state == "error"
    assert cell_from(numpy.array([0.5]), Declaration()).state == "error"


def test_a_fraction_from_a_binary_scorer_is_an_error() -> None:
    cell = cell_from(0.7, Declaration(binary=True))
    assert cell == Cell(
        "error", reason="the scorer returned 0.7, but declares that its scores are 0 or 1", cause="function"
    )
    assert cell_from(-7.5, OPEN) == Cell("scored", -7.5)


def test_unserializable_metadata_keeps_the_score() -> None:
    ring: dict = {}
    ring["ring"] = ring
    for metadata in (ring, {(1, 2): 3}, {"x": math.nan}, {"x": Hostile()}):
        cell = cell_from(Score(1, "why", metadata), Declaration())
        assert cell.value == 1.0
        assert cell.detail == {"metadata": "a dict that JSON cannot hold", "explanation": "why"}
    stored = cell_from(Score(1, metadata={"when": Decimal(1)}), Declaration()).detail
    assert stored == {"when": "1"} and json.dumps(stored)
