"""Names that MLflow takes, and no two that become one."""

from __future__ import annotations

import re

import pytest

from evalrun.tracking.names import clean, metric_key, tag_value

LEGAL = re.compile(r"[/\w.\- :]*")  # what mlflow.utils.validation lets pass


@pytest.mark.parametrize(
    ("name", "where", "key"),
    [
        ("exact_match/v1", None, "exact_match/v1"),
        ("toxicity/v1/p90", {"topic": "law"}, "toxicity/v1/p90/topic/law"),
        ("exact_match/v1", {"city": "Zürich"}, "exact_match/v1/city/Zürich"),
        ("exact_match/v1", {"topic": "United States"}, "exact_match/v1/topic/United States"),
    ],
)
def test_a_name_that_is_legal_stays(name: str, where: dict[str, str] | None, key: str) -> None:
    assert metric_key(name, where) == key


def test_names_that_have_to_be_changed_stay_apart() -> None:
    values = ["a/b", "a[b]", "a=b", "a_b", "", " ", ".", "..", "C++", "C--", "C+-", "x" * 400, "x" * 401, "\n", "\0"]
    keys = [metric_key("exact_match/v1", {"topic": value}) for value in values]
    assert len(set(keys)) == len(values)
    for key in keys:
        assert LEGAL.fullmatch(key) and len(f"{key}/high") <= 250
        assert not any(step.strip(". ") == "" for step in key.split("/")), key


def test_texts_hold_nothing_that_a_database_refuses() -> None:
    assert clean("a\0b\ud800") == "ab\\ud800"
    assert len(tag_value("x" * 9000)) == 5000
