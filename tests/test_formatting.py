"""Numbers and intervals as every output writes them: as many digits as tell them apart."""

from __future__ import annotations

import random

import pytest

from evalrunner.formatting import interval, number, numbers, signed, significant


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, None, "–"),
        (0.742, None, "0.742"),
        (0.0, None, "0.000"),
        (2e-07, None, "2e-07"),
        (-0.00012345, None, "-0.000123"),
        (1234.5, None, "1,234.5"),
        (1e9, None, "1,000,000,000"),
        (1e16, None, "1e+16"),
        (0.0031, "USD", "$0.0031"),
        (0.000023, "USD", "$0.000023"),
        (12.5, "USD", "$12.50"),
        (0.42, "s", "0.42 s"),
        (0.000042, "s", "4.2e-05 s"),
        (12345678.0, "tokens", "12,345,678"),
        (7.25, "grade", "7.250 grade"),
    ],
)
def test_a_number_with_its_unit(value, unit, text) -> None:
    assert number(value, unit) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.638, 0.742), "0.638–0.742"),
        ((-0.2, 0.3), "-0.200 to 0.300"),
        ((None, None), "–"),
        ((None, 0.5), "≤ 0.500"),
        ((0.5, None), "≥ 0.500"),
        ((1e9, 1e9 + 3), "1,000,000,000–1,000,000,003"),
        ((0.80001, 0.80002), "0.80001–0.80002"),
        ((0.0, 3e-07), "0.000 to 3e-07"),
        ((0.0, 0.0), "0.000–0.000"),
    ],
)
def test_the_two_ends_of_an_interval_are_told_apart(ends, text) -> None:
    assert interval(*ends) == text


def test_a_value_is_told_from_the_bound_that_it_stands_beside() -> None:
    assert number(0.7996, beside=(0.8,)) == "0.7996"
    assert number(0.8, beside=(0.8,)) == "0.800"
    assert interval(0.79996, 0.9, beside=(0.8,)) == "0.79996–0.900"


@pytest.mark.parametrize("unit", [None, "USD", "s", "tokens", "grade"])
def test_different_values_side_by_side_have_different_texts(unit) -> None:
    chance = random.Random(7)
    for _ in range(500):
        size = 10 ** chance.uniform(-9, 12)
        low = chance.uniform(0, size)
        high = low + size * 10 ** chance.uniform(-6, 0)
        first, second, third = numbers((low, high, high), unit)
        assert first != second == third, (low, high)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.90722, 0.88, 1.0), ["0.9072", "0.88", "1"]),
        ((0.0, 2e-07), ["0", "2e-07"]),
        ((1e9, 1e9 + 3), ["1,000,000,000", "1,000,000,003"]),
        ((0.80004, 0.8), ["0.80004", "0.8"]),
        ((12345.6,), ["12,346"]),
        ((-0.25, 100.0), ["-0.25", "100"]),
        ((float("inf"), 1.0), ["inf", "1"]),
    ],
)
def test_numbers_in_a_sentence(values, texts) -> None:
    assert significant(*values) == texts


def test_a_difference_has_its_sign_and_its_digits() -> None:
    assert [signed(value) for value in (0.032, -0.25, 0.0, -2e-07, 1e9)] == [
        "+0.032", "-0.250", "+0.000", "-2e-07", "+1,000,000,000",
    ]  # fmt: skip
