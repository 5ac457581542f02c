"""The simulated power of sequential tests, against the test itself."""

from __future__ import annotations

import random

import pytest

from evalrunner.stats.betting_power import BettingPower, largest_capital
from evalrunner.stats.sequential import BettingTest

numpy = pytest.importorskip("numpy")


def test_the_largest_capital_is_that_of_the_test() -> None:
    draw = random.Random(1)
    values = [draw.betavariate(4, 1) for _ in range(200)]
    test = BettingTest(0.75)
    for value in values:
        test.add(value)
    assert largest_capital(numpy.array(values), 0.75) == pytest.approx(test.peak)
    assert largest_capital(numpy.array([0.0, 0.0]), 0.5) == 1.0
    assert largest_capital(numpy.array([]), 0.5) == 1.0


@pytest.mark.parametrize("share", [0.82, 0.88])
def test_power_is_the_share_of_runs_that_the_test_decides(share: float) -> None:
    draw, runs, n = random.Random(2), 400, 250
    decided = 0
    for _ in range(runs):
        test = BettingTest(0.8)
        for _ in range(n):
            test.add(float(draw.random() < share))
        decided += test.peak * 0.05 >= 1
    power = BettingPower((1.0, 0.0), 0.8, n, alpha=0.05, fail_alpha=0.05).power("pass", (share, 1 - share))
    assert power == pytest.approx(decided / runs, abs=0.08)


def test_a_value_that_is_never_decided_has_no_power() -> None:
    test = BettingPower((1.0, 0.0), 0.95, 20, alpha=0.05, fail_alpha=0.05)
    assert test.value_for("pass", lambda share: (share, 1 - share), (1.0, 0.95)) is None
    fails = test.value_for("fail", lambda share: (share, 1 - share), (0.0, 0.95))
    assert fails is not None
    assert test.power("fail", (fails - 0.05, 1.05 - fails)) >= 0.8 > test.power("fail", (fails + 0.05, 0.95 - fails))
