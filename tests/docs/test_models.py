"""The README, the docs and the suites name the models of one list."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from benchmarks.models import problems
from evalrunner.endpoints.local import MODELS
from evalrunner.example_models import EXAMPLE_MODELS, LOCAL
from evalrunner.starter.templates import TEMPLATES

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "suites").glob("*.yaml"))]
HOSTED = re.compile(r"\b(?:openai|anthropic|gemini|mistral)/(?=[a-z]+-[a-z\d])[a-z\d.-]*[a-z\d]")
BARE = re.compile(r"(?<![\w/-])(?:gpt|claude|gemini)-\d[a-z\d.-]*[a-z\d]")


def names_in(text: str) -> set[str]:
    return {*HOSTED.findall(text), *(f"openai/{name}" for name in BARE.findall(text) if name.startswith("gpt"))}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_models_in_texts_are_those_of_the_list(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("openai:/gpt-4", "")  # a default of MLflow, which is never called
    assert names_in(text) <= set(EXAMPLE_MODELS)


def test_messages_take_their_models_from_the_list() -> None:
    for path in (ROOT / "evalrunner").rglob("*.py"):
        if path.name != "example_models.py":
            found = set(HOSTED.findall(path.read_text(encoding="utf-8")))
            assert found <= set(EXAMPLE_MODELS), path


def test_the_local_model_is_the_embedded_one() -> None:
    assert LOCAL in MODELS
    assert all(LOCAL not in template.data for template in TEMPLATES.values())


@pytest.mark.litellm
def test_models_that_retire_soon_are_reported() -> None:
    pytest.importorskip("litellm")
    assert list(problems(("openai/gpt-no-such",), date(2026, 1, 1))) == ["openai/gpt-no-such: not in LiteLLM's table"]
    (soon,) = problems(("openai/gpt-5-mini",), date(2026, 11, 1))
    assert soon.startswith("openai/gpt-5-mini: retires on 2026-12-11; ")
    assert list(problems(("openai/gpt-5-mini",), date(2026, 1, 1))) == []
