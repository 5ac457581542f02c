"""Targets, judges and baselines whose models retire are reported by `plan` and by the run; nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner.endpoints.pricing import price_of, read_price
from tests.fakes.command import evalrun
from tests.fakes.server import Answer, ScriptedServer

pytest.importorskip("litellm")
pytestmark = pytest.mark.litellm

OLD = "gpt-5-chat-latest"
"""A model of LiteLLM's table with a date, which is past."""
WORDS = f"{OLD} was to retire on {getattr(price_of(OLD), 'retires', None)}"
SUITE = """\
name: dates
dataset: {rows: [{input: hi, expected: ok}, {input: ho, expected: ok}]}
target: {model: MODEL, base_url: URL}
scorers: [contains]
GATES
"""


def write(url: str, model: str, gates: str = "") -> str:
    text = SUITE.replace("MODEL", model).replace("URL", url).replace("GATES", gates)
    Path("s.yaml").write_text(text, encoding="utf-8")
    return "s.yaml"


def test_plan_and_run_report_the_date_of_a_target() -> None:
    with ScriptedServer(lambda request, nth: Answer("ok")) as server:
        suite = write(server.base_url, OLD)
        planned, done = evalrun("plan", suite, "--offline"), evalrun(suite)
    sentence = f"target '{OLD}': {WORDS}; choose its successor in time"
    assert f"  note: {sentence}" in planned.stdout.splitlines(), planned.stdout + planned.stderr
    assert sentence in done.stdout.replace("\n", " ")


def test_a_model_without_a_date_is_not_reported() -> None:
    with ScriptedServer(lambda request, nth: Answer("ok")) as server:
        planned = evalrun("plan", write(server.base_url, "gateway-chat"), "--offline")
    assert "retire" not in planned.stdout


def test_the_model_of_a_baseline_is_reported() -> None:
    gate = "gates: [{metric: contains, baseline: main, max_drop: 0.5}]"
    with ScriptedServer(lambda request, nth: Answer("ok", model=OLD)) as server:
        evalrun(write(server.base_url, "gateway-chat"), "-q")
        assert evalrun("baseline", "accept", "last").returncode == 0
        planned = evalrun("plan", write(server.base_url, "gateway-chat", gate), "--offline")
    assert f"note: baseline 'main': {WORDS}" in planned.stdout, planned.stdout


def test_a_date_in_another_form_is_none() -> None:
    rates = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    for value in ("soon", 20261128, None, ""):
        price = read_price({**rates, "deprecation_date": value})
        assert price is not None
        assert price.retires is None
