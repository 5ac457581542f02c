"""The power of gates on 0/1 scores by enumeration: against brute force, and against simulation of the same gate."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from evalrunner.stats.enumeration import (
    Outcome,
    PairedTest,
    binomial_weights,
    least_count,
    samples_for_equal_model,
    share_for_at_least,
    share_for_at_most,
    shares_at_most,
)
from evalrunner.stats.hypothesis_tests import ALPHA, non_inferiority, paired_p_values

OUTCOMES: tuple[Outcome, ...] = ("pass", "worse", "fail")


def decision(b: int, c: int, n: int, *, max_drop: float, alpha: float = ALPHA, fail_alpha: float = ALPHA) -> set[str]:
    """What the test itself says of `b` drops and `c` gains in n pairs."""
    result = non_inferiority([1.0] * b + [-1.0] * c + [0.0] * (n - b - c), max_drop=max_drop, alpha=alpha)
    assert result.p_pass is not None and result.p_fail is not None
    if result.p_pass <= alpha:
        return {"pass"}
    if result.p_fail <= fail_alpha:
        return {"worse", "fail"}
    return {"worse"} if result.worse else set()


def test_power_is_the_sum_over_all_outcomes_of_the_test_itself() -> None:
    n, max_drop, discordance, drop = 40, 0.1, 0.3, 0.06
    b_share, c_share = (discordance + drop) / 2, (discordance - drop) / 2
    expected = dict.fromkeys(OUTCOMES, 0.0)
    for b in range(n + 1):
        for c in range(n + 1 - b):
            ways = math.comb(n, b) * math.comb(n - b, c)
            chance = ways * b_share**b * c_share**c * (1 - discordance) ** (n - b - c)
            for outcome in decision(b, c, n, max_drop=max_drop, alpha=0.1, fail_alpha=0.02):
                expected[outcome] += chance
    test = PairedTest(n, max_drop, 0.1, 0.02)
    for outcome in OUTCOMES:
        assert test.power(outcome, discordance=discordance, drop=drop) == pytest.approx(expected[outcome], abs=1e-7)


def test_the_drop_of_each_outcome_has_80_percent_power() -> None:
    test = PairedTest(500, 0.05)
    drops = [test.drop_for(outcome, discordance=0.1) for outcome in OUTCOMES]
    for outcome, drop in zip(OUTCOMES, drops, strict=True):
        assert drop is not None
        assert test.power(outcome, discordance=0.1, drop=drop) == pytest.approx(0.8, abs=0.002)
    assert all(first < second for first, second in pairwise(drops))  # type: ignore[operator]


@pytest.mark.parametrize(("n", "discordance"), [(50, 0.3), (200, 0.1), (1000, 0.05)])
def test_stated_power_matches_simulation_of_the_gate(n: int, discordance: float) -> None:
    simulated_power(n, discordance, draws=1500, tolerance=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 100, 200, 500, 1000])
@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.3])
def test_stated_power_is_within_3_points_of_simulation(n: int, discordance: float) -> None:
    simulated_power(n, discordance, draws=10_000, tolerance=0.03)


def simulated_power(n: int, discordance: float, *, draws: int, tolerance: float) -> None:
    """Draw pairs at each drop that planning states, and count what the test says of them."""
    draw, test = random.Random(f"{n} {discordance}"), PairedTest(n, 0.05, fail_alpha=ALPHA / 4)
    known: dict[tuple[int, int], set[str]] = {}
    for outcome in OUTCOMES:
        drop = test.drop_for(outcome, discordance=discordance)
        assert drop is not None
        differing = max(discordance, abs(drop))
        weights = [(differing + drop) / 2, (differing - drop) / 2, 1 - differing]
        count = 0
        for _ in range(draws):
            pairs = draw.choices("bc-", weights, k=n)
            at = pairs.count("b"), pairs.count("c")
            if at not in known:
                known[at] = decision(*at, n, max_drop=0.05, fail_alpha=ALPHA / 4)
            count += outcome in known[at]
        assert count / draws == pytest.approx(0.8, abs=tolerance), outcome


def test_levels_family_and_margin_change_the_drops() -> None:
    def drops(**changes: float) -> list[float]:
        test = PairedTest(**{"n": 500, "max_drop": 0.05, **changes})  # type: ignore[arg-type]
        return [test.drop_for(outcome, discordance=0.1) or 0.0 for outcome in OUTCOMES]

    passes, worse, fails = drops()
    assert drops(alpha=0.01)[0] < passes < drops(alpha=0.2)[0]
    assert drops(fail_alpha=0.005)[2] > fails > drops(fail_alpha=0.2)[2]
    assert drops(fail_alpha=0.005)[:2] == [passes, worse]
    assert drops(max_drop=0.02)[2] < fails
    assert drops(df=9)[0] < passes
    assert drops(df=9)[2] > fails


def test_few_clusters_are_tested_with_students_quantile() -> None:
    n, df = 200, 4.0
    test = PairedTest(n, 0.05, df=df)
    limit = test._limit("pass", 40)
    for b, passes in ((limit, True), (limit + 1, False)):
        p = paired_p_values(b, 40 - b, n, max_drop=0.05, exact=False, df=df)
        assert (p.p_pass <= ALPHA) == passes
    assert limit < PairedTest(n, 0.05)._limit("pass", 40)


def test_a_required_improvement_passes_by_a_gain_and_fails_by_a_drop() -> None:
    test = PairedTest(300, None)
    gain, loss = (test.drop_for(outcome, discordance=0.1) for outcome in ("pass", "fail"))
    assert gain is not None and loss is not None
    assert gain < 0 < loss
    assert gain == pytest.approx(-loss, abs=1e-4)


def test_a_drop_that_no_outcome_reaches_has_no_power() -> None:
    assert PairedTest(1, 0.001).drop_for("pass", discordance=0.05) is None
    assert PairedTest(10, 0.05).power("pass", discordance=0.0, drop=0.0) == 0.0
    assert PairedTest(10, 0.5).power("pass", discordance=0.0, drop=0.0) == 1.0


@pytest.mark.parametrize("discordance", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("max_drop", [0.02, 0.05, 0.1])
def test_samples_for_an_equal_model_give_it_80_percent(max_drop: float, discordance: float) -> None:
    n = samples_for_equal_model(max_drop, discordance=discordance)
    assert n is not None
    assert PairedTest(n, max_drop).power("pass", discordance=discordance, drop=0.0) == pytest.approx(0.8, abs=0.03)
    assert samples_for_equal_model(0.0, discordance=discordance) is None


def test_binomial_sums_match_scipy() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    first, weights = binomial_weights(400, 0.07)
    assert math.fsum(weights) == pytest.approx(1, abs=1e-7)
    assert weights[5] == pytest.approx(float(binom.pmf(first + 5, 400, 0.07)))
    assert binomial_weights(7, 1.0) == (7, [1.0])
    limits = [3, 3, 4, 6, 5, -1, 20]
    expected = [float(binom.cdf(limit, 10 + place, 0.4)) for place, limit in enumerate(limits)]
    assert list(shares_at_most(10, limits, 0.4)) == pytest.approx(expected)
    assert list(shares_at_most(2, [1, 3], 1.0)) == [0.0, 1.0]
    assert list(shares_at_most(2, [0, -1], 0.0)) == [1.0, 0.0]


def test_true_shares_have_the_power_they_are_given_for() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    share = share_for_at_least(85, 100)
    assert share is not None
    assert binom.sf(84, 100, share) == pytest.approx(0.8)
    below = share_for_at_most(70, 100, 0.95)
    assert below is not None
    assert binom.cdf(70, 100, below) == pytest.approx(0.95)
    assert (share_for_at_least(101, 100), share_for_at_least(0, 100)) == (None, 0.0)
    assert (share_for_at_most(-1, 100), share_for_at_most(100, 100)) == (None, 1.0)
    assert (least_count(10, lambda count: count >= 4), least_count(10, lambda count: False)) == (4, 11)
