"""Presets in `scorers:`: what they expand to, what replaces their scorers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrunner.errors import SuiteError
from evalrunner.suite.loader import load_suite

LANGUAGE = ["toxicity", "ari_grade_level", "flesch_kincaid_grade_level"]
ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def suite(tmp_path: Path, *scorers: Any) -> Any:
    file = tmp_path / "s.yaml"
    rows = [{"input": "a", "expected": "b", "answer": "c"}]
    target = {"type": "recorded", "column": "answer"}
    file.write_text(
        json.dumps({"name": "s", "dataset": {"rows": rows}, "target": target, "scorers": scorers}), encoding="utf-8"
    )
    return load_suite(file)


def names(tmp_path: Path, *scorers: Any) -> list[str]:
    return [spec.name for spec in suite(tmp_path, *scorers).scorers]


def test_presets_have_the_metrics_of_mlflows_model_types(tmp_path: Path) -> None:
    """MLflow 3.17, `DefaultEvaluator._builtin_metrics` in its `evaluators/default.py`; latency and token counts are in every run."""
    assert names(tmp_path, {"preset": "question_answering"}) == ["exact_match", *LANGUAGE]
    assert names(tmp_path, {"preset": "summarization"}) == [*ROUGE, *LANGUAGE]
    specs = {spec.name: spec for spec in suite(tmp_path, {"preset": "summarization"}).scorers}
    assert [(specs[name].type, specs[name].options) for name in ROUGE] == [
        ("rouge", {"variant": name}) for name in ROUGE
    ]
    assert specs["toxicity"].options == {"backend": "hf"}


def test_a_scorer_of_the_list_replaces_that_of_a_preset(tmp_path: Path) -> None:
    own = {"type": "toxicity", "backend": "lexical"}
    specs = suite(tmp_path, "regex:x", {"preset": "question_answering"}, own).scorers
    assert [spec.name for spec in specs] == ["x", "exact_match", *LANGUAGE[1:], "toxicity"]
    assert specs[-1].options == {"backend": "lexical"}


def test_a_preset_without_some_of_its_scorers_and_two_presets(tmp_path: Path) -> None:
    assert names(tmp_path, {"preset": "question_answering", "without": LANGUAGE[:2]}) == ["exact_match", LANGUAGE[2]]
    both = names(tmp_path, {"preset": "question_answering"}, {"preset": "summarization"})
    assert both == ["exact_match", *LANGUAGE, *ROUGE]


@pytest.mark.parametrize(
    ("scorers", "problem"),
    [
        ([{"preset": "question-answering"}], "unknown preset 'question-answering'; did you mean 'question_answering'?"),
        ([{"preset": ["summarization"]}], "unknown preset"),
        (["summarization"], "'summarization' is a preset; write {preset: summarization}"),
        ([{"preset": "summarization", "without": ["rouge"]}], "'summarization' has no scorer 'rouge'"),
        ([{"preset": "summarization", "without": "rouge1"}], "is 'rouge1'; it should be a list of scorers"),
        ([{"preset": "summarization", "backend": "lexical"}], "unknown key of a preset; valid keys: preset, without"),
    ],
)
def test_a_wrong_preset_is_reported_at_its_place(scorers: list[Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError) as raised:
        suite(tmp_path, *scorers)
    assert problem in str(raised.value) and "scorers[0]" in str(raised.value)
