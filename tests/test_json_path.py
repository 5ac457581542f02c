"""Paths into JSON documents: what they select, and what cannot be read."""

from __future__ import annotations

import json
import time

import pytest

from evalrunner.json_path import MISSING, compile_path

STORE = {
    "store": {
        "book": [
            {"title": "A", "price": 8.95, "tags": ["x"]},
            {"title": "B", "price": 12.99},
            {"title": "C", "isbn": "0-553", "price": None},
        ],
        "a b": {"it's": 1, "é": 2},
        "0": "zero",
    },
    "refund": False,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", STORE),
        ("$.refund", False),
        ("refund", False),  # the root may be left out
        ("$.store.book[0].title", "A"),
        ("store.book[-1].isbn", "0-553"),
        ("$['store']['a b'][\"it's\"]", 1),
        (r"$.store['a b']['it\'s']", 1),
        ("$.store['a b'].é", 2),
        ("$.store.0", "zero"),
        ("$.store.book.1.title", "B"),
        ("$.store.book[2].price", None),  # null is a value
        ("$.store.book[3].price", MISSING),
        ("$.store.book[-4]", MISSING),
        ("$.refund.deeper", MISSING),
        ("$.Refund", MISSING),
        ("$.store.book[*].title", ["A", "B", "C"]),
        ("$.store.book.*.isbn", ["0-553"]),
        ("$..title", ["A", "B", "C"]),
        ("$..book[0].tags[*]", ["x"]),
        ("$.store.book[1:].title", ["B", "C"]),
        ("$.store.book[::-1].title", ["C", "B", "A"]),
        ("$.store.book[0:1].isbn", MISSING),
        ("$..nothing", MISSING),
    ],
)
def test_a_path_selects_values_by_name_index_slice_and_wildcard(path: str, value: object) -> None:
    found = compile_path(path)(STORE)
    assert found is value if value is MISSING else found == value


@pytest.mark.parametrize("path", ["", "  ", "$.", "$..", "$.a..", "$[", "$['a", "$[?(@.a)]", "$a", ".a", "a b", "$.a[b]", "$[::0]",
                                  "$..a..b", "$" + ".a" * 51, "$" * 2000])  # fmt: skip
def test_a_path_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSONPath"):
        compile_path(path)


def test_a_wide_and_a_deep_document_are_searched_in_bounded_time() -> None:
    wide = json.loads("[" + ",".join(['{"a":[1,2,3]}'] * 100_000) + "]")
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    start = time.process_time()
    assert len(compile_path("$..a[*]")(wide)) == 300_000
    assert compile_path("$..a")(deep) is MISSING
    assert time.process_time() - start < 20
    while isinstance(deep, list):  # freed from the outside, one level at a time
        deep = deep[0]
