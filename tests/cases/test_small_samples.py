"""No interval and no verdict with confidence where the number of samples, or their equality, does not support one."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Outcome, accept, at_least, drop, run, samples


def at_most(bound: float, metric: str) -> dict[str, Any]:
    return {"metric": metric, "max": bound, "confidence": 0.95}


def of(values: Sequence[Outcome]) -> list[dict[str, Any]]:
    return samples(*((1, value) for value in values))


def normal(n: int, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [round(chance.gauss(5, 1), 3) for _ in range(n)]


def metric(name: str) -> dict[str, Any]:
    newest = max(Path("runs/case").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
    return next(one for one in json.loads(newest.read_text())["targets"]["m"]["metrics"] if one["name"] == name)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("aggregate", ["mean", "variance"])
def test_open_metric_of_very_few_samples_is_inconclusive_with_confidence(n: int, aggregate: str) -> None:
    values = [4.9, 5.1, 5.0][:n]
    ended = run(of(values), [at_most(50, f"open/{aggregate}"), at_least(4.99, f"open/{aggregate}")], scorers=["open"])
    assert set(ended.verdicts) == {"inconclusive"}, ended.text
    found = metric(f"open/v1/{aggregate}")
    assert found["low"] is None or found["high"] is None or found["high"] - found["low"] > 0.5
    assert "not conclusive" in ended.text


@pytest.mark.parametrize("n", [2, 10, 40, 200])
def test_equal_values_of_an_open_metric_prove_nothing(n: int) -> None:
    ended = run(of([5.0] * n), [at_most(6, "open"), at_least(6, "open")], scorers=["open"])
    assert set(ended.verdicts) == {"inconclusive"}, ended.text
    found = metric("open/v1/mean")
    assert found["value"] == 5.0
    assert found["low"] is None or found["low"] < found["high"]


def test_equal_values_of_a_bounded_metric_have_no_interval_of_zero_width() -> None:
    run(of([0.5] * 10), [], scorers=["graded"])
    found = metric("graded/v1/mean")
    assert found["low"] is None or found["low"] < 0.5 < found["high"]


def test_open_metric_with_enough_samples_passes_and_fails() -> None:
    ended = run(of(normal(400)), [at_most(6, "open"), at_most(4, "open")], scorers=["open"])
    assert ended.verdicts == ("pass", "fail")


def test_point_gate_on_few_samples_still_has_a_verdict() -> None:
    assert run(of([4.9, 5.1]), ["open <= 6"], scorers=["open"]).verdict == "pass"


def test_latency_of_three_samples_is_inconclusive_with_confidence() -> None:
    """Every answer has a latency of exactly one second."""
    ended = run(samples((3, "right")), [at_most(60, "latency/mean")])
    assert ended.verdict == "inconclusive", ended.text


def test_variance_of_five_skewed_scores_has_no_interval() -> None:
    run(of([0.02, 0.1, 0.9, 0.3, 0.05]), [], scorers=["harm"])
    found = metric("harm/v1/variance")
    assert found["value"] is not None
    assert found["low"] is None and found["high"] is None


def test_few_graded_pairs_are_inconclusive() -> None:
    accept(of([0.5, 0.6, 0.7] * 4), scorers=["graded"])
    assert run(of([0.5, 0.6, 0.7] * 4), [drop(0.3, "graded")], scorers=["graded"]).verdict == "inconclusive"


def test_scores_that_are_all_0_or_1_are_treated_as_pass_or_fail_and_the_run_says_so() -> None:
    data = samples((29, "right"), (1, "wrong"))
    ended = run(data, [at_least(0.98, "zero_or_one"), at_least(0.98, "own")], scorers=["zero_or_one", "own"])
    first, second = ended.gates
    assert (first["verdict"], first["gate_low"], first["gate_high"]) == (second["verdict"], second["gate_low"], second["gate_high"])  # fmt: skip
    found = metric("zero_or_one/v1/mean")
    assert found["method"] == "wilson"
    assert "0 or 1" in json.dumps(found["detail"])


def test_scorer_with_some_graded_scores_is_graded() -> None:
    run(of([1.0] * 29 + [0.5]), [], scorers=["graded"])
    assert metric("graded/v1/mean")["method"] != "wilson"
