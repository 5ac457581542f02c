"""Checks that differ in one value only are made from the first of them: with the same results, problems and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checks.running import metrics, refused, run, stored_rows

VALUES: list[Any] = [
    "30 days", "31 days", " 30 days ", "DAYS", "{{ n }} days", "{% if n %}30{% endif %} days", "{{ n", "30", 30, 30.0, True, None,
    ["31", "30"], ["31"], ["{{ n }}", "x"], ["30", 31], "é", "e\u0301", "a\nb",
]  # fmt: skip
KEYS: list[dict[str, Any]] = [{}, {"ignore_case": True}, {"name": "named"}, {"weight": 2}, {"extract": {"after": "in"}}]
REPLY = "It is in 30 Days, e\u0301"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def list_of_checks(place: int) -> list[dict[str, Any]]:
    """Short and long forms with the value at a place, some of it shared by many rows."""
    value = VALUES[place % len(VALUES)]
    number = 1 + place % 7
    return [
        {"contains": value, **KEYS[place % len(KEYS)]},
        {"not_starts_with": value},
        {"type": "exact_match", "value": value, "ignore_case": place % 2 == 0},
        {"max_words": number},
        {"not_max_chars": "{{ n }}" if place % 3 == 0 else number * 3},
        {"regex": "[0-9]+ days", "ignore_case": True},
    ]


def scored(rows: list[dict[str, Any]]) -> list[Any]:
    run(rows)
    return [row["cells"] for row in stored_rows()]


def test_checks_of_a_shape_have_the_results_of_checks_that_are_read_alone() -> None:
    rows = [
        {
            "id": str(place),
            "input": "x",
            "reply": REPLY,
            "n": 30,
            "expected": "30 days",
            "checks": list_of_checks(place),
        }
        for place in range(2 * len(VALUES) * len(KEYS))
    ]
    together = scored(rows)
    alone = scored([{**row, "checks": {"all": row["checks"]}} for row in rows])  # only lists are made from shapes
    assert together == alone
    assert {cells["checks"]["value"] for cells in together} == {0.0}
    texts = [one["text"] for cells in together for one in cells["checks"]["detail"]["checks"]]
    assert {"contains: 30 days", "contains: 31 days", "not_max_chars: 21", "max_words: 7"} <= set(texts)


def test_templates_of_a_shape_have_a_value_for_each_row() -> None:
    rows = [
        {"id": str(n), "input": "x", "reply": f"{n} words here", "n": n, "limit": n, "checks": [
            {"starts_with": "{{ n }} w"}, {"max_words": "{{ limit }}"}, {"contains": ["{{ n }}", "zero"], "name": "any"},
        ]}
        for n in range(1, 9)
    ]  # fmt: skip
    run(rows, checks=[{"not_contains": "{{ n - 1 }}"}])
    shown = [
        [(one["text"], one["passed"]) for one in row["cells"]["checks"]["detail"]["checks"]] for row in stored_rows()
    ]
    assert shown == [
        [
            (f"not_contains: {n - 1}", True), (f"starts_with: {n} w", True), (f"max_words: {n}", n >= 3),
            (f'contains: [{n}, "zero"]', True),
        ]
        for n in range(1, 9)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ({"contains": " "}, "'value' should have at least one text, and no blank one"),
        ({"contains": ["a", ""]}, "'value' should have at least one text, and no blank one"),
        ({"contains": []}, "'value' should have at least one text, and no blank one"),
        ({"contains": "{{ unknown }}"}, "unknown"),
        ({"contains": "{{ blank }}"}, "'value' should have at least one text, and no blank one"),
        ({"contains": "{{ n"}, None),
        ({"contains": "a", "ignore_case": 1}, "ignore_case"),
        ({"contains": "a", "weight": -1}, "weight"),
        ({"contains": "a", "nmae": "x"}, "nmae"),
        ({"max_words": 0}, "'value' should be 1 or more"),
        ({"max_words": True}, "value"),
        ({"max_words": 2.5}, "value"),
        ({"max_words": "{{ zero }}"}, "'value' should be 1 or more"),
    ],
)
def test_a_wrong_check_is_refused_after_right_ones_of_its_shape(check: dict[str, Any], problem: str | None) -> None:
    keys = {"input": "x", "reply": "b a", "n": 1, "zero": 0, "blank": " ", "one": 1}
    right = [
        {"contains": "b"},
        {"contains": ["b"]},
        {"contains": "{{ n }}"},
        {"max_words": 4},
        {"max_words": "{{ one }}"},
    ]
    right += [{"contains": "b", "ignore_case": True}, {"contains": "b", "weight": 1}]
    rows = [{**keys, "checks": [one]} for one in right for _ in range(2)]
    if problem is None:
        run([*rows, {**keys, "checks": [check]}])
        return
    message = refused([*rows, {**keys, "checks": [check]}])
    assert problem in message
    alone = refused([*rows, {**keys, "checks": {"all": [check]}}])
    hint = "; if the column holds no checks, set columns: {checks: ''}"
    assert message == alone.replace("checks.all[0]", "checks[0]").replace(hint, "")


def test_names_of_checks_of_a_shape_are_metrics() -> None:
    rows = [
        {"input": "x", "reply": str(n), "checks": [{"contains": str(n), "name": "right"}, {"contains": f"{n}!", "name": "loud"}]}
        for n in range(5)
    ]  # fmt: skip
    values = {name.partition("/v1")[0]: value for name, value in metrics(run(rows)).items() if "/v1" in name}
    assert values == {"right": 1.0, "loud": 0.0, "checks": 0.0, "checks/share": 0.5}


def test_keys_and_control_characters_in_texts_of_checks_are_hidden_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-Zq8f3kTn2LmXw9Bv")
    plain, long = {"contains": "a  b"}, {"contains": "x" * 200}
    for other in ("sk-proj-Zq8f3kTn2LmXw9Bv", "a\x1b[31m\u202eb", "c"):
        run([{"input": "x", "reply": "y", "checks": [plain, {"contains": other}, long]}])
        texts = [one["text"] for one in stored_rows()[0]["cells"]["checks"]["detail"]["checks"]]
        assert texts[0] == "contains: a b"
        assert len(texts[2]) == 120
        assert texts[2].endswith("x…")
        assert not {"Zq8f", "\x1b", "\u202e"} & {part for part in ("Zq8f", "\x1b", "\u202e") if part in texts[1]}
