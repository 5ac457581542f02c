"""A plan is about the test, level, margin and family that will decide."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cases.suites import accept, at_least, command, drop, samples, write

DATA = samples((160, "right"), (40, "wrong"))


def planned(*gates: Any, **keys: Any) -> str:
    done = command("plan", write(DATA, gates, **keys))
    assert done.code == 0, done.err
    return done.out


def numbers(text: str, word: str) -> list[float]:
    """The numbers behind a word in the first line that has it."""
    line = next(line for line in text.splitlines() if word in line)
    part = re.split(r" · ", line[line.index(word) + len(word) :])[0]
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", part)]


def test_level_of_the_gate_is_that_of_the_plan() -> None:
    fails = {level: numbers(planned(drop(0.05, confidence=level)), "fails from") for level in (0.8, 0.95, 0.99)}
    assert fails[0.8] < fails[0.95] < fails[0.99]


def test_plan_depends_on_the_allowed_drop() -> None:
    assert numbers(planned(drop(0.02)), "fails from") < numbers(planned(drop(0.1)), "fails from")
    assert numbers(planned(drop(0.1)), "passes up to") > numbers(planned(drop(0.05)), "passes up to")


def test_plan_depends_on_the_family() -> None:
    alone, of_five, outside = (
        numbers(planned(*[drop(0.05, **keys)] * count), "fails from")
        for count, keys in ((1, {}), (5, {}), (5, {"family": "none"}))
    )
    assert alone == outside < of_five


def test_plan_states_a_range_over_how_many_samples_change() -> None:
    text = planned(drop(0.05))
    assert "if 5–30% of the 200 samples change" in text
    assert len(numbers(text, "fails from")) == 2


def test_plan_states_how_often_an_equal_model_turns_red() -> None:
    accept(DATA)
    text = planned(drop(0.05), "exact_match >= 0.8")
    share = float(re.search(r"exits nonzero in (\d+)%", text).group(1))  # type: ignore[union-attr]
    assert 35 < share < 55  # the value is at the threshold of the point gate
    assert "with" in planned(drop(0.05), drop(0.02)) and "without Holm" in planned(drop(0.05), drop(0.02))


def test_plan_of_a_threshold_names_values_that_pass_and_fail() -> None:
    text = planned(at_least(0.75))
    (passes,), (fails, *_) = numbers(text, "passes from"), numbers(text, "fails up to")
    assert fails < 0.75 < passes


@pytest.mark.parametrize("right", [200, 199])
def test_samples_that_would_decide_are_enough_to_decide(right: int) -> None:
    accept(samples((right, "right"), (200 - right, "wrong")))
    text = planned(at_least(0.75))
    count = int(re.search(r"about ([\d,]+) samples? decides? with 80% power", text).group(1).replace(",", ""))  # type: ignore[union-attr]
    assert count >= 11  # eleven of eleven: at least .762 at 95%; ten of ten: .741


def test_a_plan_of_two_samples_states_that_a_drop_never_fails() -> None:
    done = command("plan", write(samples((1, "right"), (1, "wrong")), [drop(0.1)]))
    assert done.code == 0 and "never passes · called worse from never · fails from never" in done.out
