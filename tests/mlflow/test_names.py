"""Names for MLflow are legal and stay distinct."""

from __future__ import annotations

import re

import pytest

from evalrunner.mlflow.payload import clean, is_safe_json, metric_key, param_value, plain_markdown, tag_value

LEGAL = re.compile(r"[/\w.\- :]*")  # as in mlflow.utils.validation


@pytest.mark.parametrize(
    ("name", "where", "key"),
    [
        ("exact_match/v1", None, "exact_match/v1"),
        ("toxicity/v1/p90", {"topic": "law"}, "toxicity/v1/p90/topic/law"),
        ("exact_match/v1", {"city": "Zürich"}, "exact_match/v1/city/Zürich"),
        ("exact_match/v1", {"topic": "United States"}, "exact_match/v1/topic/United States"),
    ],
)
def test_legal_names_are_unchanged(name: str, where: dict[str, str] | None, key: str) -> None:
    assert metric_key(name, where) == key


def test_changed_names_stay_distinct() -> None:
    values = ["a/b", "a[b]", "a=b", "a_b", "", " ", ".", "..", "C++", "C--", "C+-", "x" * 400, "x" * 401, "\n", "\0"]
    keys = [metric_key("exact_match/v1", {"topic": value}) for value in values]
    assert len(set(keys)) == len(values)
    for key in keys:
        assert LEGAL.fullmatch(key) and len(f"{key}/high") <= 250
        assert not any(step.strip(". ") == "" for step in key.split("/")), key


def test_cleaned_texts_are_accepted_by_databases() -> None:
    assert clean("a\0b\ud800") == "ab\\ud800"
    assert len(tag_value("x" * 9000)) == 5000


def test_lists_in_parameters_become_json() -> None:
    assert param_value(["END", "ü"]) == '["END", "ü"]'
    assert param_value({"a": True}) == '{"a": true}'
    assert (param_value(0.5), param_value("a"), len(param_value("x" * 7000))) == ("0.5", "a", 6000)


def test_markdown_in_descriptions_is_escaped() -> None:
    assert plain_markdown("Sums, up to 10 * 10 (easy).") == "Sums, up to 10 * 10 (easy)."
    assert plain_markdown("<img src=//h> ![p](//h) `c` \\[") == r"\<img src=//h\> !\[p\](//h) \`c\` \\\["


def test_json_that_servers_cannot_parse_is_detected() -> None:
    harmless = ["", "four", "4", '{"a": [1.5, null]}', "000", "1" * 4000, "[1"]
    assert [text for text in harmless if not is_safe_json(text)] == []
    bad = ["1" * 5000, "[" * 100_000 + "]" * 100_000, "NaN", "[-Infinity]", '{"a": 1e999}', f"[{'7' * 5000}]"]
    assert [text[:9] for text in bad if is_safe_json(text)] == []
