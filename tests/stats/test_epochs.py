"""The variance of scores between samples and within them, flaky samples, and what more calls gain."""

from __future__ import annotations

import math
import random
import statistics
from array import array

import pytest

from evalrunner.domain import Cell, EpochVariance
from evalrunner.stats.epochs import split_variance
from evalrunner.stats.tally import Tally

UNIT = (0.0, 1.0)


def tally_of(samples: list[list[float | None]]) -> Tally:
    """A tally of the epochs of each sample; None is a failed call."""
    tally = Tally(epochs=array("i"))
    for place, scores in enumerate(samples):
        for epoch, score in enumerate(scores, start=1):
            cell = Cell("error", cause="timeout", reason="late") if score is None else Cell("scored", score)
            tally.add(place, cell, epoch=epoch)
    return tally


def split(samples: list[list[float | None]], *, bounds: tuple[float | None, float | None] = UNIT) -> EpochVariance:
    ids = {place: f"q{place}" for place in range(len(samples))}
    result = split_variance("exact_match", tally_of(samples), ids=ids, bounds=bounds, epochs=len(samples[0]))
    assert result is not None
    return result


def test_the_variance_splits_into_between_and_within_samples() -> None:
    result = split([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]])
    # within: 0, 0, 1/3 and 1/4, on average 7/48; of the means 1, 0, .5, .75: 35/192, of which 7/48/4 is noise
    assert result.within == pytest.approx(7 / 48)
    assert result.between == pytest.approx(35 / 192 - 7 / 192)
    assert result.error == pytest.approx(math.sqrt(35 / 192 / 4))


def test_flaky_samples_are_named_most_variable_first() -> None:
    result = split([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]])
    assert (result.flaky, result.flaky_samples) == (3, ("q2", "q0", "q3"))


def test_small_differences_between_epochs_of_graded_scores_are_not_flaky() -> None:
    result = split([[0.80, 0.82], [0.1, 0.7], [0.5, 0.5]])
    assert result.flaky_samples == ("q1",)
    assert split([[200.0, 210.0], [100.0, 160.0], [210.0, 210.0]], bounds=(0.0, None)).flaky == 0
    assert split([[200.0, 210.0], [100.0, 160.0], [210.0, 210.0]], bounds=(None, None)).flaky_samples == ("q1",)


def test_a_flaky_sample_differs_by_at_least_half_of_the_declared_range() -> None:
    assert split([[0.25, 0.75], [0.0, 0.0]]).flaky_samples == ("q0",)
    assert split([[0.26, 0.75], [0.0, 0.0]]).flaky == 0
    assert split([[0.3, 0.6], [0.5, 0.5]]).flaky == 0  # half of the observed range, but not of the declared one
    assert split([[4.0, 6.0], [5.0, 5.0]], bounds=(0.0, 5.0)).flaky == 0
    assert split([[4.0, 6.0], [5.0, 5.0]], bounds=(2.0, None)).flaky_samples == ("q0",)
    assert split([[4.0, 6.0], [5.0, 5.0]], bounds=(None, 8.0)).flaky_samples == ("q0",)
    assert split([[0.5, 0.5], [0.5, 0.5]], bounds=(None, None)).flaky == 0


def test_two_samples_are_enough_for_a_split_and_one_is_not() -> None:
    assert split([[1, 0], [1, 1]]).samples == 2
    assert split_variance("s", tally_of([[1, 0]]), ids={}, bounds=UNIT, epochs=2) is None


def test_epochs_counted_as_zero_enter_the_split() -> None:
    tally = tally_of([[1, 1], [0, 0]])
    tally.add(0, Cell("scored", 0.0, "refused", cause="no_answer"), epoch=3)
    result = split_variance("s", tally, ids={}, bounds=UNIT, epochs=3)
    assert result is not None and result.flaky_samples == ("0",)
    assert result.within == pytest.approx((1 / 3 + 0) / 2)


def test_failed_epochs_do_not_enter_the_split() -> None:
    result = split([[1, None, 0], [None, None, 1], [0, 0, None], [None, None, None]])
    assert result.samples == 3
    assert result.within == pytest.approx((0.5 + 0) / 2)
    assert split_variance("s", tally_of([[1, None], [0, None]]), ids={}, bounds=UNIT, epochs=2) is None


def test_samples_that_never_flip_gain_nothing_from_epochs() -> None:
    result = split([[1, 1], [0, 0], [1, 1], [0, 0]])
    assert (result.within, result.flaky) == (0.0, 0)
    assert result.error_with_epochs == pytest.approx(result.error)
    assert result.error_with_samples == pytest.approx(result.error * math.sqrt(4 / 54))


def test_equal_samples_gain_as_much_from_epochs() -> None:
    result = split([[1, 0], [0, 1], [1, 0], [0, 1]])
    assert result.between == 0.0
    assert result.error_with_epochs == pytest.approx(result.error_with_samples)


def test_the_split_recovers_the_variances_it_was_simulated_with() -> None:
    draw = random.Random(12)
    graded = [[centre + draw.gauss(0, 0.2) for _ in range(4)] for centre in [draw.gauss(0.5, 0.1) for _ in range(5000)]]
    result = split(graded, bounds=(None, None))
    assert result.between == pytest.approx(0.01, rel=0.06)
    assert result.within == pytest.approx(0.04, rel=0.06)
    shares = [draw.betavariate(2, 1) for _ in range(5000)]
    flips = split([[float(draw.random() < share) for _ in range(3)] for share in shares])
    assert flips.between == pytest.approx(2 / 36, rel=0.08)  # the variance of Beta(2, 1)
    assert flips.within == pytest.approx(2 / 3 - (2 / 36 + 4 / 9), rel=0.05)


def test_the_errors_after_more_calls_are_those_of_simulated_runs() -> None:
    draw = random.Random(4)

    def run(samples: int, epochs: int) -> list[list[float | None]]:
        centres = [draw.gauss(0.5, 0.1) for _ in range(samples)]
        return [[centre + draw.gauss(0, 0.3) for _ in range(epochs)] for centre in centres]

    def error_of_runs(samples: int, epochs: int) -> float:
        means = [
            statistics.fmean(score or 0.0 for scores in run(samples, epochs) for score in scores) for _ in range(2000)
        ]
        return statistics.stdev(means)

    splits = [split(run(50, 2), bounds=(None, None)) for _ in range(300)]  # 100 calls each
    assert statistics.fmean(one.error for one in splits) == pytest.approx(error_of_runs(50, 2), rel=0.05)
    assert statistics.fmean(one.error_with_samples for one in splits) == pytest.approx(error_of_runs(100, 2), rel=0.05)
    assert statistics.fmean(one.error_with_epochs for one in splits) == pytest.approx(error_of_runs(50, 4), rel=0.05)
