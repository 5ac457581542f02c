"""Assertions become checks that a suite takes; what has no equal fails or is left by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from evalrunner.imports.promptfoo.assertions import LEFT, check_of
from evalrunner.imports.promptfoo.javascript import Scope
from evalrunner.suite.loader import load_suite


class Entries(list[tuple[str, str]]):
    def carried(self, place: Any, what: str, to: str = "") -> None:
        self.append(("carried", what))

    def changed(self, place: Any, what: str, to: str, meaning: str) -> None:
        self.append(("changed", what))

    def left(self, place: Any, what: str, reason: str) -> None:
        self.append(("left", what))

    def port(self, place: Any, what: str, where: str) -> None:
        self.append(("port", what))


CHECKS = [
    ({"type": "contains", "value": 3}, {"contains": "3"}),
    ({"type": "contains", "value": " twelve "}, {"expr": "' twelve ' in output"}),
    ({"type": "not-icontains", "value": "Open", "weight": 2}, {"not_contains": "Open", "ignore_case": True, "weight": 2}),
    ({"type": "contains-any", "value": 'a, "b, c"', "metric": "m"}, {"contains_any": ["a", "b, c"], "name": "m"}),
    ({"type": "starts-with", "value": "Yes"}, {"expr": "output.startswith('Yes')"}),
    ({"type": "not-equals", "value": 1.0}, {"not_expr": "output == '1'"}),
    ({"type": "equals", "value": {"a": 1}}, {"json": {"equals": {"a": 1}}}),
    ({"type": "regex", "value": "a$"}, {"regex": r"a\Z"}),
    ({"type": "is-json", "value": {"type": "object"}}, {"json": {"schema": {"type": "object"}}}),
    ({"type": "levenshtein", "value": "abc"}, {"levenshtein": {"value": "abc", "max_distance": 5}}),
    ({"type": "latency", "threshold": 1500}, {"latency_under": 1.5}),
    ({"type": "word-count", "value": {"min": 2, "max": 5}}, {"expr": "output|words|length >= 2 and output|words|length <= 5"}),
    ({"type": "javascript", "value": "output.length < 60"}, {"expr": "output|length < 60"}),
    ({"type": "not-javascript", "value": "output.includes('a')"}, {"not_expr": "'a' in output"}),
]  # fmt: skip


@pytest.mark.parametrize(("item", "check"), CHECKS)
def test_an_assertion_becomes_a_check(item: dict[str, Any], check: dict[str, Any]):
    entries = Entries()
    assert (check_of(item, Scope({}), "here", entries), entries) == (check, [("carried", item["type"])])


def test_a_suite_takes_the_checks(tmp_path: Path):
    suite = {"dataset": {"rows": [{"input": "a", "answer": "b"}]}, "target": {"type": "recorded", "column": "answer"},
             "checks": [check for _, check in CHECKS]}  # fmt: skip
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    assert load_suite(tmp_path / "suite.yaml").checks


@pytest.mark.parametrize("value", ["await x()", "output.replace(/a/, 'b') === 'b'"])
def test_code_to_port_is_a_check_that_fails(value: str):
    entries = Entries()
    check = check_of({"type": "javascript", "value": value}, Scope({}), "here", entries)
    assert (check, [outcome for outcome, _ in entries]) == ({"expr": "output is string and false"}, ["port"])


@pytest.mark.parametrize("kind", [*LEFT, "includes", "contains", ""])
def test_a_type_without_an_equal_is_left_by_name(kind: str):
    entries = Entries()
    assert (check_of({"type": kind}, Scope({}), "here", entries), entries) == (None, [("left", kind)])


def test_keys_that_are_not_read_are_in_the_report():
    entries = Entries()
    check_of({"type": "contains", "value": "a", "ignoreCase": True}, Scope({}), "here", entries)
    assert entries == [("left", "contains: ignoreCase"), ("carried", "contains")]
