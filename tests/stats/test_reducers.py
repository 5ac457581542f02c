"""Reducers: definitions, comparability over epochs, and binary results."""

from __future__ import annotations

from itertools import combinations

import pytest

from evalrunner.scorers.python import python
from evalrunner.stats.aggregates import AGGREGATE_NAMES, REDUCER_NAMES, parse_reducer


@pytest.mark.parametrize(
    ("name", "scores", "expected"),
    [
        ("mean", [1.0, 0.0, 0.5, 0.5], 0.5),
        ("median", [0.0, 1.0, 0.25, 0.5], 0.375),
        ("mode", [0.5, 1.0, 1.0, 0.5, 0.0], 0.5),  # the first of equally common ones
        ("max", [0.0, 0.75, 0.5], 0.75),
        ("at_least_2", [1.0, 0.9, 1.0], 1.0),
        ("at_least_2", [1.0, 0.9, 0.0], 0.0),
        ("pass_at_1", [1.0, 0.0, 0.0, 0.0], 0.25),
        ("pass_at_2", [1.0, 0.0, 0.0, 0.0], 0.5),
        ("pass_at_2", [1.0, 1.0, 1.0, 0.0], 1.0),
        ("pass_k_2", [1.0, 1.0, 1.0, 0.0], 0.5),
        ("pass_k_2", [1.0, 0.0, 0.0, 0.0], 0.0),
    ],
)
def test_reducers_match_their_definitions(name: str, scores: list[float], expected: float) -> None:
    assert parse_reducer(name).reduce(scores) == pytest.approx(expected)
    assert parse_reducer(name).name == name


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_and_pass_k_match_enumeration(k: int) -> None:
    scores = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    drawn = list(combinations(scores, k))
    assert parse_reducer(f"pass_at_{k}").reduce(scores) == pytest.approx(sum(max(some) for some in drawn) / len(drawn))
    assert parse_reducer(f"pass_k_{k}").reduce(scores) == pytest.approx(sum(min(some) for some in drawn) / len(drawn))


def test_fewer_than_k_scored_epochs_give_no_score() -> None:
    for name in ("at_least_3", "pass_at_3", "pass_k_3"):
        assert parse_reducer(name).reduce([1.0, 1.0]) is None
    assert parse_reducer("mean").reduce([]) is None


def test_unbiased_reducers_compare_across_numbers_of_epochs() -> None:
    names = ("mean", "median", "mode", "max", "at_least_2", "pass_at_2", "pass_k_2")
    assert [name for name in names if parse_reducer(name).unbiased] == ["mean", "pass_at_2", "pass_k_2"]


@pytest.mark.parametrize(
    ("name", "epochs", "from_binary", "from_graded"),
    [
        ("mean", 1, True, False),
        ("mean", 3, False, False),
        ("median", 3, False, False),  # an epoch that failed leaves two
        ("mode", 3, True, False),
        ("max", 3, True, False),
        ("at_least_2", 3, True, True),
        ("pass_at_2", 3, False, False),
        ("pass_at_3", 3, True, True),
        ("pass_k_3", 3, True, True),
    ],
)
def test_which_reducers_yield_binary_scores(name: str, epochs: int, from_binary: bool, from_graded: bool) -> None:
    reducer = parse_reducer(name)
    assert reducer.yields_binary(binary=True, epochs=epochs) == from_binary
    assert reducer.yields_binary(binary=False, epochs=epochs) == from_graded


@pytest.mark.parametrize(
    ("name", "hint"),
    [("medain", "did you mean 'median'"), ("pass_at_0", "known reducers: mean"), ("at_least", "known reducers")],
)
def test_an_unknown_reducer_raises_value_error(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_reducer(name)


def test_the_pass_score_of_a_reducer_can_be_set() -> None:
    assert parse_reducer("at_least_2", pass_score=0.5).reduce([0.5, 0.4, 0.9]) == 1.0


def test_no_aggregate_is_named_like_a_reducer_except_the_mean() -> None:
    assert set(AGGREGATE_NAMES) & set(REDUCER_NAMES) == {"mean"}  # a metric's last name would mean two things


def test_the_python_scorer_documents_every_aggregate() -> None:
    assert [name for name in AGGREGATE_NAMES if name not in (python.__doc__ or "")] == []
