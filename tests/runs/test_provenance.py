"""Differences between two definitions of a run: each with its old and new value."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from evalrunner.redact import register_secret
from evalrunner.runs.provenance import differences

PROMPT = "Answer with the shortest correct answer there is, in the language of the question, and "
BEFORE: dict[str, Any] = {
    "version": 1,
    "suite": "qa",
    "dataset": {
        "digest": "aa",
        "rows": 200,
        "columns": {"input": {"column": "question"}},
        "where": {"split": "test"},
        "shuffle": None,
        "limit": None,
    },
    "targets": {
        "gpt": {
            "model": "gpt-5-mini",
            "host": "https://api.example/v1",
            "params": {"temperature": 0},
            "prompt": [{"system": PROMPT + "nothing else."}, {"user": "{{ input }}"}],
        },
        "own": {"type": "python", "options": {"function": "app.py:answer"}, "args": {}, "files": {"app.py": "11"}},
    },
    "scorers": {"exact_match": {"type": "exact_match", "version": "v1", "judge": None, "files": {}}},
    "seed": 0,
    "epochs": 2,
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """A copy of the definition with one value set."""
    now = deepcopy(BEFORE)
    here: Any = now
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        here = here[step]
    here[last] = value
    return now


def test_definition_survives_a_json_round_trip() -> None:
    assert differences(BEFORE, json.loads(json.dumps(BEFORE))) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", 7, ["seed: 0 → 7"]),
        ("suite", "qb", ["suite: 'qa' → 'qb'"]),
        ("epochs", 3, []),
        ("epochs", 1, ["epochs: 2 → 1 (more epochs are allowed, fewer are not)"]),
        ("dataset/limit", 20, ["dataset.limit: null → 20"]),
        ("dataset/where/split", ["test", "train"], ["dataset.where.split: 'test' → ['test', 'train']"]),
        ("dataset/where/topic", "law", ["dataset.where.topic: not set → 'law'"]),
        ("dataset/columns/input/column", "q", ["dataset.columns.input.column: 'question' → 'q'"]),
        ("dataset/digest", "bb", ["dataset: its rows changed (200 rows, other content)"]),
        ("targets/gpt/params/temperature", 0.7, ["targets 'gpt'.params.temperature: 0 → 0.7"]),
        ("targets/gpt/params/temperature", 0.0, []),
        ("targets/gpt/params/temperature", False, ["targets 'gpt'.params.temperature: 0 → false"]),
        ("targets/gpt/params/top_p", 1, ["targets 'gpt'.params.top_p: not set → 1"]),
        ("targets/gpt/params", {}, ["targets 'gpt'.params.temperature: 0 → not set"]),
        ("targets/own/files/app.py", "22", ["targets 'own': the code in 'app.py' changed"]),
        ("targets/gpt/prompt/1/user", "Q: {{ input }}", ["targets 'gpt'.prompt[1].user: '{{ input }}' → 'Q: {{ input }}'"]),
        (
            "targets/gpt/prompt/0/system",
            PROMPT + "no more.",
            ["targets 'gpt'.prompt[0].system: …'question, and nothing else.' → …'question, and no more.'"],
        ),
        ("targets/gpt/prompt", None, None),
        ("scorers/exact_match/version", "v2", ["scorers 'exact_match'.version: 'v1' → 'v2'"]),
        ("scorers/contains", {"type": "contains"}, ["scorers: 'contains' was added"]),
        ("scorers/exact_match/judge", {"model": "j"}, ["scorers 'exact_match'.judge: null → {'model': 'j'}"]),
    ],
)  # fmt: skip
def test_each_difference_is_a_line_with_old_and_new_value(path: str, value: Any, message: list[str] | None) -> None:
    result = differences(BEFORE, changed(path, value))
    if message is None:
        assert len(result) == 1 and result[0].endswith("… → null") and len(result[0]) < 120
    else:
        assert result == message


def test_changed_dataset_reports_row_counts_and_selection() -> None:
    now = changed("dataset/digest", "bb")
    now["dataset"].update(rows=1201, where={})
    assert differences(BEFORE, now) == [
        "dataset: its rows changed (200 → 1,201 rows, other content)",
        "dataset.where.split: 'test' → not set",
    ]


def test_all_differences_are_listed() -> None:
    now = changed("targets/gpt/model", "gpt-5")
    del now["targets"]["own"]
    del now["seed"]
    assert differences(BEFORE, now) == [
        "targets 'gpt'.model: 'gpt-5-mini' → 'gpt-5'",
        "targets: 'own' was removed",
        "seed: 0 → not set",
    ]


def test_values_are_redacted_escaped_and_shortened() -> None:
    register_secret("sk-definition-1")
    (message,) = differences(BEFORE, changed("targets/gpt/model", "\x1b[31m\u202e sk-definition-1 " + "x" * 500))
    assert message.startswith(r"targets 'gpt'.model: 'gpt-5-mini' → '\x1b[31m\u202e [redacted] xxx")
    assert message.endswith("'…")
    assert len(message) < 130


def test_empty_definition_differs_in_every_section() -> None:
    assert differences({}, {"seed": 0, "epochs": 1, "scorers": {"a": {}}, "dataset": {"digest": "a", "rows": 1}}) == [
        "seed: not set → 0",
        "epochs: not set → 1 (more epochs are allowed, fewer are not)",
        "scorers: 'a' was added",
        "dataset: its rows changed (1 row, other content)",
    ]
