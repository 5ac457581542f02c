"""A column of numbers gives back exactly what was added, in as few bytes as the numbers need."""

from __future__ import annotations

import math
import random
import struct

import pytest

from evalrunner.domain import Cell, Completion, Row, Sample
from evalrunner.stats.number_column import NumberColumn
from evalrunner.stats.summary import Measure, Summary, builtin_measures

VALUES = [
    0.0, -0.0, 1.0, -1.0, 0.5, math.nan, 127.0, -127.0, 128.0, -128.0, 32767.0, -32768.0, 32768.0, 2147483647.0,
    -2147483648.0, 2147483648.0, 1e300, 5e-324, math.inf, -math.inf, 1 / 3, 0.1 + 0.2,
]  # fmt: skip


def bits(values: object) -> list[bytes]:
    return [b"nan" if value != value else struct.pack("d", value) for value in values]  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(40))
def test_a_column_gives_back_every_number_bit_for_bit(seed: int) -> None:
    chosen = random.Random(seed)
    pool = chosen.sample(VALUES, chosen.randint(1, 6))
    values = [chosen.choice(pool) for _ in range(200)]
    column = NumberColumn(values)
    assert bits(column) == bits(values)
    assert bits(column.doubles()) == bits(values)
    assert bits(column[place] for place in range(len(column))) == bits(values)
    assert len(column) == 200
    assert column.doubles().typecode == "d"


@pytest.mark.parametrize(
    ("value", "size"), [(1.0, 1), (math.nan, 1), (127.0, 1), (300.0, 2), (-40_000.0, 4), (3e9, 8), (0.25, 8), (-0.0, 8)]
)
def test_a_number_takes_as_few_bytes_as_it_needs(value: float, size: int) -> None:
    column = NumberColumn([0.0, 1.0, math.nan, value])
    assert column._data.itemsize == size


def test_the_tallies_of_a_target_share_the_positions_of_rows() -> None:
    summary = summary_of([{"s": Cell("scored", 1.0)}, {"s": Cell("scored", 0.0)}])
    positions = {id(tally.samples) for tally in summary.tallies.values()}
    assert len(positions) == 1
    assert list(summary.tallies["t", "s"].samples) == [0, 1]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_row_without_the_cell_of_a_scorer_does_not_shift_the_others(epochs: int) -> None:
    scored = Cell("scored", 1.0)
    summary = summary_of([{"s": scored}, {}, {"s": Cell("scored", 0.0)}], epochs)
    tally, latency = summary.tallies["t", "s"], summary.tallies["t", "latency"]
    assert (list(tally.samples), list(tally.values), list(latency.samples)) == ([0, 2], [1.0, 0.0], [0, 1, 2])
    assert (None if tally.epochs is None else list(tally.epochs)) == (None if epochs == 1 else [1, 1])


def summary_of(rows: list[dict[str, Cell]], epochs: int = 1) -> Summary:
    declaration = builtin_measures(streaming=False)[0].declaration
    summary = Summary((Measure("s", declaration),), ("t",), epochs)
    for place, cells in enumerate(rows):
        sample = Sample(f"q{place}", "i", index=place)
        summary.add(Row(sample, "t", 1, Completion("x", latency_s=0.5), cells))
    return summary
