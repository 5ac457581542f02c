"""Prices are read from litellm's table without importing litellm."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from evalrunner.endpoints.openai_replies import Usage
from evalrunner.endpoints.pricing import cost_of, price_of
from tests.fakes.command import command_env

pytestmark = [
    pytest.mark.litellm,
    pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="the table comes with litellm"),
]


def test_a_price_has_its_limits_and_an_unknown_model_has_none() -> None:
    price = price_of("gpt-4o")
    assert price is not None
    assert price.input_usd_per_token == pytest.approx(2.5e-6)
    assert price.output_usd_per_token == pytest.approx(1e-5)
    assert (price.max_input_tokens, price.max_output_tokens) == (128_000, 16_384)
    assert price_of("no-such-model") is None
    assert price_of("sample_spec") is None  # the table's own explanation


@pytest.mark.parametrize(
    ("served", "usage", "dollars"),
    [
        ("gpt-4o", Usage(1000, 100), 1000 * 2.5e-6 + 100 * 1e-5),
        (None, Usage(1000, 100), 1000 * 2.5e-6 + 100 * 1e-5),
        ("gpt-4o-2024-05-13", Usage(1000, 100), 1000 * 5e-6 + 100 * 1.5e-5),  # a dated name with its own price
        ("gpt-4o-2099-01-01", Usage(1000, 100), 1000 * 2.5e-6 + 100 * 1e-5),
        ("gpt-4o", Usage(1000, 100, cached_tokens=800), 200 * 2.5e-6 + 800 * 1.25e-6 + 100 * 1e-5),
        ("gpt-4o", Usage(1000, 100, service_tier="default"), 1000 * 2.5e-6 + 100 * 1e-5),
        ("gpt-4o", Usage(1000, 100, service_tier="flex"), None),
        ("gpt-4o", Usage(None, 100), None),
        ("gpt-4o", Usage(1000, None), None),
    ],
)
def test_what_an_answer_cost(served: str | None, usage: Usage, dollars: float | None) -> None:
    assert cost_of("gpt-4o", served, usage) == (None if dollars is None else pytest.approx(dollars))


def test_what_is_unknown_costs_none_and_what_is_free_costs_nothing() -> None:
    assert cost_of("no-such-model", None, Usage(10, 10)) is None
    assert cost_of("omni-moderation-latest", None, Usage()) == 0.0
    assert cost_of("text-embedding-3-small", None, Usage(1000)) == pytest.approx(2e-5)


def test_the_table_is_read_without_importing_litellm() -> None:
    script = (
        "import sys, evalrunner.endpoints.pricing as p; "
        "assert p.price_of('gpt-4o') is not None; print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=command_env())
    assert done.stdout.strip() == "False"
