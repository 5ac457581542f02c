"""A target is called better only if it is better with everything that is missing against it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.cases.suites import Ended, command, samples, write

TARGETS = [
    {"name": "a", "type": "python", "function": "own.py:answer"},
    {"name": "b", "type": "python", "function": "own.py:answer", "args": {"column": "other"}},
]


def better(*pairs: tuple[int, str, str], scorers: tuple[str, ...] = ("exact_match",), **keys: Any) -> tuple[Any, Ended]:
    """Which of two targets is called better, from counts of their outcomes on the same samples."""
    plans = [(first, second) for count, first, second in pairs for _ in range(count)]
    random.Random(1).shuffle(plans)
    data = [{**line, "other": [second]} for line, (_, second) in zip(samples(*((1, first) for first, _ in plans)), plans, strict=True)]  # fmt: skip
    ended = command(write(data, [], targets=TARGETS, scorers=scorers, **keys), "--json")
    assert ended.code in (0, 3), ended.err  # 3: a target that never answered ends the run early
    (metric,) = json.loads(ended.out)["comparison"]["metrics"]
    return metric["pairs"][0]["better"], ended


def test_equal_models_with_four_percent_missing_where_one_would_be_wrong() -> None:
    found, ended = better((610, "right", "right"), (62, "right", "wrong"), (34, "wrong", "right"), (254, "wrong", "wrong"),
                          (28, "error", "right"), (12, "error", "wrong"))  # fmt: skip
    assert found is None
    assert "40" in ended.out


def test_same_counts_without_failures_are_a_clear_difference() -> None:
    found, _ = better((638, "right", "right"), (62, "right", "wrong"), (34, "wrong", "right"), (266, "wrong", "wrong"))
    assert found == "a"


def test_clear_difference_survives_what_is_missing() -> None:
    found, _ = better((500, "right", "right"), (200, "right", "wrong"), (60, "wrong", "right"), (200, "wrong", "wrong"),
                      (20, "error", "right"), (20, "right", "error"))  # fmt: skip
    assert found == "a"


@pytest.mark.parametrize("outcome", ["refused", "truncated", "empty", "filtered"])
def test_model_that_refuses_hard_questions_is_not_better(outcome: str) -> None:
    found, _ = better((610, "right", "right"), (62, "right", "wrong"), (34, "wrong", "right"), (254, "wrong", "wrong"),
                      (28, outcome, "right"), (12, outcome, "wrong"))  # fmt: skip
    assert found is None


def test_lower_is_better_with_missing_answers() -> None:
    counts = [(610, "right", "right"), (62, "right", "wrong"), (34, "wrong", "right"), (254, "wrong", "wrong")]
    found, _ = better(*counts, (28, "error", "right"), (12, "error", "wrong"), scorers=("mistakes",))
    assert found is None
    found, _ = better(*counts, scorers=("mistakes",))
    assert found == "a"


def test_dead_model_is_neither_better_nor_worse() -> None:
    found, _ = better((200, "right", "error"))
    assert found is None
    found, _ = better((195, "right", "error"), (5, "right", "wrong"))
    assert found is None
    found, _ = better((180, "right", "error"), (20, "right", "wrong"))  # 20 to 0, even if all others were right
    assert found == "a"
