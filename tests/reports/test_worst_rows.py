"""The rows that a summary shows first: one of each sample, the worst first, whatever the order of arrival."""

from __future__ import annotations

import random

import pytest

from evalrunner.domain import Declaration, Row
from evalrunner.reports.worst_rows import BaselineScores, Regressions, WorstRows
from evalrunner.stats.summary import Measure
from tests.gates.builders import rows

GRADE = Measure("grade", Declaration(low=0.0, high=1.0))


def sample_epochs(found: list[Row]) -> list[tuple[str, int]]:
    return [(row.sample.id, row.epoch) for row in found]


def test_a_sample_with_several_epochs_is_among_the_worst_rows_once_with_its_worst_epoch() -> None:
    worst = WorstRows([GRADE], keep=3)
    for row in rows([[0.2, 0.1, 0.1], [0.0, 0.9, 0.0], [0.5, 0.4, 0.6], [0.7, 0.7, 0.7]], "grade"):
        worst.add(row)
    assert sample_epochs(worst.of("m")) == [("s1", 1), ("s0", 2), ("s2", 2)]


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_samples_do_not_depend_on_the_order_in_which_rows_arrive(seed: int) -> None:
    chance = random.Random(seed)
    scores = [[chance.randrange(5) / 4 for _ in range(3)] for _ in range(12)]
    lowest = sorted((min(each), place, each.index(min(each)) + 1) for place, each in enumerate(scores))
    expected = [(f"s{place}", epoch) for score, place, epoch in lowest[:4] if score < 1]
    arriving = rows(scores, "grade")
    chance.shuffle(arriving)
    worst = WorstRows([GRADE], keep=4)
    for row in arriving:
        worst.add(row)
    assert sample_epochs(worst.of("m")) == expected


def test_regressions_count_samples_and_not_epochs() -> None:
    regressions = Regressions([GRADE], lambda row: BaselineScores({"grade": 0.5}), keep=2)
    for row in rows([[0.4, 0.3], [0.5, 0.6], [0.1, 0.5], [0.0, 0.0]], "grade"):
        regressions.add(row)
    assert regressions.count("m") == 3
    assert sample_epochs(regressions.of("m")) == [("s3", 1), ("s2", 1)]
