"""Pairs of candidates on different samples, and the parts of a candidate's scores."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import product

import pytest

from evalrunner.compare.pairs import CandidateScores, Scale, pair_scores, unpaired_scores
from evalrunner.stats.aggregates import Estimand
from evalrunner.stats.hypothesis_tests import two_sample_difference
from evalrunner.stats.tally import ERROR, NO_ANSWER, SCORED, SKIPPED, ZEROED, SampleScores

NAMES = ("a", "b")
UNIT = Scale(binary=False, low=0.0, high=1.0, higher_is_better=True)
SHARES = Scale(binary=True, low=0.0, high=1.0, higher_is_better=True)
HARM = Scale(binary=False, low=0.0, high=1.0, higher_is_better=False)


def side(values: Sequence[float], missing: int = 0, *, worst: float = 0.0, best: float = 1.0, start: int = 0) -> CandidateScores:  # fmt: skip
    lost = range(start + len(values), start + len(values) + missing)
    return CandidateScores(
        {start + place: value for place, value in enumerate(values)},
        dict.fromkeys(lost, worst), dict.fromkeys(lost, best), dict.fromkeys(lost, 1),
    )  # fmt: skip


HIGH = [0.9, 0.7, 0.8, 0.95, 0.6] * 6
LOW = [0.3, 0.5, 0.45, 0.2, 0.55] * 5


@pytest.mark.parametrize("scale", [UNIT, HARM])
@pytest.mark.parametrize("swapped", [False, True])
def test_unpaired_sides_are_filled_at_every_corner(scale: Scale, *, swapped: bool) -> None:
    good = scale.higher_is_better
    worst, best = (0.0, 1.0) if good else (1.0, 0.0)
    high, low = side(HIGH, 2, worst=worst, best=best), side(LOW, 2, worst=worst, best=best)
    first, second = (low, high) if swapped else (high, low)
    pair = unpaired_scores(NAMES, first, second, scale)
    every = []
    for filled in product((0.0, 1.0), repeat=4):
        sides = [*first.values.values(), *filled[:2]], [*second.values.values(), *filled[2:]]
        result = two_sample_difference(*sides, span=1.0)
        assert result.p_value is not None and result.estimate is not None
        every.append(result.p_value if (result.estimate > 0) != swapped else 1.0)
    assert pair.p_missing == pytest.approx(max(every))
    assert pair.p_value is not None and pair.p_missing is not None and pair.p_value < pair.p_missing < 1.0


def test_unpaired_sides_without_gaps_keep_their_p_value() -> None:
    pair = unpaired_scores(NAMES, side(HIGH), side(LOW), UNIT)
    assert pair.p_missing == pair.p_value
    one_sided = unpaired_scores(NAMES, side(HIGH), side(LOW, 3), UNIT)
    assert one_sided.p_missing is not None and pair.p_value is not None and one_sided.p_missing > pair.p_value


def test_unpaired_sides_of_an_open_range_or_without_a_difference_are_not_filled() -> None:
    open_range = Scale(binary=False, low=0.0, high=None, higher_is_better=True)
    lost = unpaired_scores(NAMES, side(HIGH, 3, best=math.inf), side(LOW), open_range)
    assert lost.p_missing == lost.p_value
    equal = unpaired_scores(NAMES, side(HIGH, 3), side(HIGH), UNIT)
    assert (equal.difference, equal.p_value, equal.p_missing) == (0.0, 1.0, 1.0)
    few = unpaired_scores(NAMES, side(HIGH[:5], 3), side(LOW), UNIT)
    assert (few.p_value, few.p_missing, few.note) == (None, None, "fewer than 20 values on one side")


def test_unpaired_shares_that_turn_around_have_a_p_value_of_one() -> None:
    pair = unpaired_scores(NAMES, side([1.0] * 16 + [0.0] * 14, 20), side([1.0] * 10 + [0.0] * 20), SHARES)
    assert (pair.method, pair.p_missing) == ("newcombe", 1.0)


def test_unpaired_clusters_are_those_of_each_side() -> None:
    clusters = [place // 2 for place in range(55)]
    scale = Scale(binary=False, low=0.0, high=1.0, higher_is_better=True, clusters=clusters)
    first, second = side(HIGH), side(LOW, start=30)
    pair = unpaired_scores(NAMES, first, second, scale)
    expected = two_sample_difference(HIGH, LOW, span=1.0, clusters=(clusters[:30], clusters[30:]))
    assert (pair.low, pair.high, pair.p_value, pair.method) == (
        expected.low, expected.high, expected.p_value, "welch-clustered",
    )  # fmt: skip
    few = Scale(binary=False, low=0.0, high=1.0, higher_is_better=True, clusters=[place % 4 for place in range(55)])
    assert unpaired_scores(NAMES, first, second, few).note == "fewer than 10 clusters on one side"


def test_a_sample_without_a_known_cluster_is_one_of_its_own() -> None:
    scale = Scale(binary=False, low=0.0, high=1.0, higher_is_better=True, clusters=[7, -1, 7])
    assert scale.clusters_of([0, 1, 2, 3, 4]) == [7, -3, 7, -5, -6]
    assert UNIT.clusters_of([0, 1]) is None


def test_the_span_of_an_open_range_is_that_of_the_observed_scores() -> None:
    open_range = Scale(binary=False, low=0.0, high=None, higher_is_better=True)
    assert open_range.span({0: 2.0, 1: 5.0}, {0: 9.0}) == 7.0
    assert open_range.span({0: 2.0}, {0: 2.0}) == open_range.span({}, {}) == 1.0
    assert Scale(binary=False, low=1.0, high=5.0, higher_is_better=True).span({0: 2.0}) == 4.0
    assert SHARES.span({0: 1.0}) is None


def test_the_ends_of_a_range_follow_the_direction() -> None:
    assert (UNIT.worst_and_best, HARM.worst_and_best) == ((0.0, 1.0), (1.0, 0.0))
    floor = Scale(binary=False, low=2.0, high=None, higher_is_better=True)
    ceiling = Scale(binary=False, low=None, high=2.0, higher_is_better=False)
    assert (floor.worst_and_best, ceiling.worst_and_best) == ((2.0, math.inf), (2.0, -math.inf))
    assert (UNIT.bounded, floor.bounded, ceiling.bounded) == (True, False, False)


def test_numbers_of_a_candidate_by_what_became_of_its_answers() -> None:
    nan = math.nan
    scores = SampleScores(
        samples=array("q", [5, 6, 7, 8, 9]),
        values=array("d", [0.7, 0.2, nan, nan, nan]),
        codes=array("b", [SCORED, ZEROED, SKIPPED, ERROR, NO_ANSWER]),
        worst=array("d", [0.4, 0.2, nan, 0.0, 0.0]),
        best=array("d", [0.9, 0.2, nan, 1.0, nan]),
        scored=array("i", [2, 1, 0, 0, 0]),
        applicable=array("i", [3, 1, 0, 1, 2]),
    )
    numbers = CandidateScores.of(scores, Estimand(low=0.0, high=1.0))
    assert (numbers.values, numbers.gaps, numbers.skipped) == ({5: 0.7, 6: 0.2}, {5: 1, 8: 1, 9: 2}, frozenset({7}))
    assert numbers.worst == {5: 0.4, 8: 0.0, 9: 0.0}
    assert numbers.best == pytest.approx({5: 0.9, 8: 1.0, 9: nan}, nan_ok=True)
    unknown = (-1.0, 2.0)
    assert [numbers.ends(place, unknown) for place in (5, 6, 7, 8, 99)] == [
        (0.4, 0.9), (0.2, 0.2), unknown, (0.0, 1.0), unknown,
    ]  # fmt: skip
    all_samples = numbers.with_samples(range(5, 12), unknown, epochs=2)
    assert (all_samples.worst[10], all_samples.best[11], all_samples.gaps[10]) == (-1.0, 2.0, 2)
    assert 7 not in all_samples.worst and 6 not in all_samples.worst
    parts = numbers.split([-1] * 5 + [0, 1, 0, 1])  # the group of the last one is not known
    assert set(parts) == {0, 1}
    assert (parts[0].values, parts[0].skipped, parts[0].gaps) == ({5: 0.7}, frozenset({7}), {5: 1})
    assert (parts[1].values, parts[1].worst, parts[1].best) == ({6: 0.2}, {8: 0.0}, {8: 1.0})


def test_wins_and_losses_follow_the_direction_of_the_metric() -> None:
    first, second = side([0.9, 0.5, 0.1, 0.7]), side([0.4, 0.5, 0.8])
    counts = {
        scale.higher_is_better: (pair.wins, pair.ties, pair.losses, pair.n, pair.excluded)
        for scale in (UNIT, HARM)
        for pair in [pair_scores(NAMES, first, second, scale)]
    }
    assert counts == {True: (1, 1, 1, 3, 1), False: (1, 1, 1, 3, 1)}
    shifted = side([0.9, 0.5, 0.9]), side([0.4, 0.5, 0.8])
    for scale, wins in ((UNIT, 2), (HARM, 0)):
        pair = pair_scores(NAMES, *shifted, scale)
        assert (pair.wins, pair.ties, pair.losses) == (wins, 1, 2 - wins)
