"""The forms of a check: short and long, negations, groups, and the errors of what is none."""

from __future__ import annotations

from typing import Any

import pytest

from evalrunner.suite.checks import ChecksReader
from evalrunner.suite.schema import CheckGroup, CheckSpec, ChecksSpec


def read(data: Any) -> tuple[ChecksSpec, list[str]]:
    """The checks in the data, and the messages about what is wrong."""
    problems: list[str] = []
    return ChecksReader(lambda path, message: problems.append(message)).read(data), problems


def only(data: Any) -> CheckSpec:
    """The only check in the data, which has no problems."""
    spec, problems = read([data])
    assert problems == []
    (item,) = spec.checks
    assert isinstance(item, CheckSpec)
    return item


@pytest.mark.parametrize(
    ("data", "kind", "options"),
    [
        ("exact_match", "exact_match", {}),
        (" exact_match ", "exact_match", {}),
        ({"exact_match": None}, "exact_match", {}),
        ({"contains": {"values": ["é"]}}, "contains", {"values": ["é"]}),
        ({"type": "contains", "values": ["x"]}, "contains", {"values": ["x"]}),
        ({"contains": {"values": ["x"]}, "ignore_case": True}, "contains", {"values": ["x"], "ignore_case": True}),
        ({"tone.py:polite": {"least": 3}}, "tone.py:polite", {"least": 3}),
        ({"type": "column", "column": "rating"}, "column", {"column": "rating"}),
        ({"toxicity": {"threshold": 0.4}}, "toxicity", {"threshold": 0.4}),
        ({"regex": {"pattern": "a", "name": "inside"}}, "regex", {"pattern": "a", "name": "inside"}),
    ],
)
def test_each_form_names_a_type_and_its_options(data: Any, kind: str, options: dict[str, Any]) -> None:
    spec = only(data)
    assert (spec.type, spec.options, spec.negated) == (kind, options, False)


def test_keys_beside_the_type_are_no_options() -> None:
    spec = only(
        {"regex": {"pattern": "a"}, "name": "größe", "weight": 0, "threshold": 1, "judge": "j", "on_no_answer": "zero"}
    )
    assert (spec.name, spec.weight, spec.threshold, spec.judge, spec.on_no_answer) == ("größe", 0.0, 1.0, "j", "zero")
    assert spec.options == {"pattern": "a"}


@pytest.mark.parametrize("data", ["not_exact_match", {"not_exact_match": None}, {"type": "not_exact_match"}])
def test_every_type_has_a_negation(data: Any) -> None:
    assert (only(data).type, only(data).negated) == ("exact_match", True)


@pytest.mark.parametrize("data", [None, "", " \n ", []])
def test_nothing_is_no_checks(data: Any) -> None:
    assert read(data) == (ChecksSpec(), [])


def test_one_check_needs_no_list() -> None:
    assert read("exact_match") == read({"type": "exact_match"})
    assert [item.key_path for item in read("exact_match")[0].checks] == [()]


def test_all_with_a_threshold_is_the_rule_of_the_row() -> None:
    spec, problems = read({"threshold": 0.7, "all": ["exact_match", {"any": ["exact_match", "not_token_f1"]}]})
    assert problems == []
    assert spec.threshold == 0.7
    group = spec.checks[1]
    assert isinstance(group, CheckGroup)
    assert (group.rule, [item.type for item in group.checks if isinstance(item, CheckSpec)]) == (
        "any",
        ["exact_match", "token_f1"],
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "is 5; it should be a check such as {contains: 30 days}"),
        (None, "is empty; it should be a check such as {contains: 30 days}"),
        ([], "is a list; it should be a check such as {contains: 30 days}"),
        ({}, "needs a type, such as {contains: 30 days}"),
        ({"name": "x"}, "needs a type, such as {contains: 30 days}"),
        ("30 days", "unknown check '30 days'; for a text to look for, write {contains: '30 days'}"),
        ({"contans": "x"}, "unknown check 'contans'; did you mean 'contains'?"),
        ({"not_contans": "x"}, "unknown check 'not_contans'; did you mean 'not_contains'?"),
        ({"icontains": "x"}, "unknown check 'icontains'; write {contains: …, ignore_case: true}"),
        ({"type": "llm-rubric", "value": "x"}, "unknown check 'llm-rubric'; write {rubric: …}"),
        ({"type": "is-json"}, "unknown check 'is-json'; write json"),
        ({"type": "exact-match"}, "unknown check 'exact-match'; did you mean 'exact_match'?"),
        ({"type": 5}, "is 5; it should be the name of a scorer"),
        ({"exact_match": None, "weight": "3"}, "is '3'; it should be a number"),
        ({"exact_match": None, "weight": -1}, "is -1; it should be at least 0 and at most 1e9"),
        ({"exact_match": None, "weight": True}, "is true; it should be a number"),
        ({"exact_match": None, "weight": float("nan")}, "should be a finite number"),
        ({"exact_match": None, "weight": 10**400}, "should be a finite number"),
        ({"exact_match": None, "name": ""}, "'' should have no spaces and none of / [ ] < > ="),
        ({"exact_match": None, "name": "a b"}, "'a b' should have no spaces and none of / [ ] < > ="),
        ({"exact_match": None, "name": "a/b"}, "'a/b' should have no spaces and none of / [ ] < > ="),
        ({"exact_match": None, "name": 3}, "is 3; it should be text"),
        ({"exact_match": None, "name": "x" * 101}, "should have at most 100 characters"),
        ({"exact_match": None, "on_no_answer": "fail"}, "is 'fail'; it should be one of unscored, zero"),
        ({"exact_match": None, "judge": {"model": "x", "base_url": "http://evil"}}, "is a mapping; a row names a judge of the suite"),
        ({"exact_match": 3}, None),
        ({"regex": {"pattern": "a"}, "token_f1": None}, "has several types: regex, token_f1; write each as an item of its own, or {type: regex, …}"),
        ({"regex": {"pattern": "a"}, "pattern": "b"}, "is set twice: beside 'regex' and as its value; keep one of them"),
        ({"any": []}, "is empty; a group needs a check"),
        ({"any": "exact_match"}, "is 'exact_match'; it should be a list of checks"),
        ({"any": ["exact_match"], "threshold": 0.5}, "goes with 'all'; one check is enough for 'any'"),
        ({"all": ["exact_match"], "any": ["exact_match"]}, "has both 'all' and 'any'; nest one in the other"),
        ({"all": ["exact_match"], "wieght": 2}, "unknown key; did you mean 'weight'?"),
        ({"all": ["exact_match"], "threshold": 70}, "is 70; it should be a share from 0 to 1"),
        ({1: 2}, "has a key that is no text"),
    ],
)  # fmt: skip
def test_what_is_no_check_is_named_with_the_nearest_form(data: Any, message: str | None) -> None:
    from evalrunner.suite.checks import main_option

    problems = read([data])[1]
    if message is None:  # the short form of a type without a main option
        assert main_option("exact_match") is not None or "has no main option" in problems[0]
    else:
        assert problems == [message]


def test_groups_are_not_nested_without_end() -> None:
    data: Any = "exact_match"
    for _ in range(50):
        data = {"all": [data], "weight": 1}
    assert read([data])[1] == ["is nested more than 8 levels deep"]


def test_a_row_has_at_most_a_thousand_checks() -> None:
    assert read(["exact_match"] * 1_000)[1] == []
    assert read(["exact_match"] * 1_001)[1] == ["has more than 1,000 checks"]
