"""JSON is read and written as the `json` module does."""

from __future__ import annotations

import json
import math
import random
from array import array
from datetime import date
from typing import Any

import pytest

from evalrunner.storage import SORTED_BLOCK, KeyTable, dump_json, load_json, sorted_places

ODD = (
    '"\\ud800"', '{"a":NaN}', "[Infinity,-Infinity]", "123456789012345678901234567890", "-18446744073709551616",
    "18446744073709551615", "9223372036854775808", "1e400", "-1e400", "1e-400", "-0", "-0.0", "0.1", "1E5", "1e-05",
    '{"a":1,"a":2}', '"\\u0000\\u007f\\u2028"', '"a\\/b"', " [1 , 2] \n", "[" * 500 + "]" * 500, "5e-324",
    "1.7976931348623157e308", "0.30000000000000004", '{"":{"":[]}}', "null",
)  # fmt: skip
BROKEN = (
    "",
    " ",
    "{",
    "[1,]",
    "{'a':1}",
    "01",
    "1.",
    ".5",
    "+1",
    "nul",
    '"\t"',
    "[1] 2",
    '"\\x"',
    "[" * 5000,
)


@pytest.mark.parametrize("text", ODD)
def test_load_json_equals_the_json_module(text: str) -> None:
    assert repr(load_json(text.encode())) == repr(json.loads(text.encode()))


@pytest.mark.parametrize("text", BROKEN)
def test_invalid_json_raises_the_error_of_the_json_module(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as wanted:
        json.loads(text.encode())
    with pytest.raises(wanted.type) as result:
        load_json(text.encode())
    assert str(result.value) == str(wanted.value)


def test_utf_16_and_utf_32_are_read() -> None:
    assert [load_json('{"a":"é"}'.encode(name)) for name in ("utf-8-sig", "utf-16", "utf-32")] == [{"a": "é"}] * 3


VALUES: tuple[Any, ...] = (
    {"a": [1, 2.5, None, True, 'é\u2028\x00\x7f"\\/'], "b": {}}, (1, (2,)), 2**70, -(2**63), "\ud800", {1: 2}, {None: 1.5},
    {"when": date(2026, 1, 2)}, {1.5: {2, 3}}.keys(), [[]] * 3, "", 0.1 + 0.2, -0.0,
)  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_dump_json_equals_the_json_module(value: Any) -> None:
    assert dump_json(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def test_numbers_round_trip_exactly() -> None:
    draw = random.Random(0)
    numbers = [math.ldexp(draw.uniform(-1, 1), draw.randint(-1070, 1020)) for _ in range(5000)]
    numbers += [draw.randint(-(2**70), 2**70) for _ in range(5000)]
    assert load_json(dump_json(numbers).encode()) == numbers
    assert json.loads(dump_json(numbers)) == numbers
    assert load_json(json.dumps(numbers).encode()) == numbers


def test_a_fallback_can_reject_values_that_are_not_json() -> None:
    with pytest.raises(TypeError):
        dump_json({"a": {1, 2}}, fallback=json.dumps)


def test_a_key_table_knows_the_keys_it_has() -> None:
    keys = KeyTable()
    numbers = [(n * 2_654_435_761) % 2**64 for n in range(20_000)]
    assert all(keys.add(number) for number in numbers)
    assert not any(keys.add(number) for number in numbers)
    assert keys.add(2**64 - 1)


def test_a_numbered_key_table_returns_the_number_it_replaces() -> None:
    table = KeyTable(numbered=True)
    keys = [(n * 2_654_435_761) % 2**64 for n in range(1, 20_000)]
    assert all(table.put(key, number) is None for number, key in enumerate(keys))
    assert [table.get(key) for key in keys] == list(range(len(keys)))
    assert (table.put(keys[7], 99), table.get(keys[7]), table.get(2**64 - 1), len(table)) == (7, 99, None, len(keys))


@pytest.mark.parametrize("near", [1, 3_000, 10 * SORTED_BLOCK], ids=["in order", "nearly in order", "in any order"])
def test_sorted_places_are_those_of_a_stable_sort(near: int) -> None:
    spread = random.Random(5)
    keys = array("Q", ((place + spread.randrange(near)) // 3 for place in range(2 * SORTED_BLOCK + 17)))
    assert list(sorted_places(keys)) == sorted(range(len(keys)), key=keys.__getitem__)
    assert list(sorted_places(array("Q"))) == []
