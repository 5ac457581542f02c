"""A comparison on paper: what is written is read back; which threats to validity it names."""

from __future__ import annotations

import dataclasses
import json

import pytest

from evalrunner.compare.missing import MissingScores
from evalrunner.compare.result import Candidate, ComparedMetric, Comparison, Pair, comparison_warnings
from evalrunner.stats.summary import Design, Metric
from tests.compare.builders import GRADED, RIGHT, compared


def example() -> Comparison:
    topics = [{"topic": "law" if place < 30 else "art"} for place in range(60)]
    scores = {
        "x": {"right": [1.0] * 60, "graded": [0.5] * 60},
        "y": {"right": [1.0] * 30 + [0.0] * 30, "graded": [0.25] * 58 + [None, None]},
        "z": {"right": [0.0] * 60, "graded": [0.0] * 60},
    }
    latency = {"x": 2.0, "y": 1.0}
    judges = {"right": ("openai/gpt-5",)}
    models = {"x": "openai/gpt-5-mini", "y": "claude-sonnet"}
    design = Design(slices=("topic",))
    return compared(
        scores, [RIGHT, GRADED], metadata=topics, latency=latency, models=models, judges=judges, design=design
    )


def test_a_comparison_survives_a_round_trip() -> None:
    comparison = example()
    data = json.loads(json.dumps(comparison.to_json()))
    read = Comparison.from_json(data)
    assert read.to_json() == comparison.to_json()
    assert (read.candidates, read.pareto_fronts) == (comparison.candidates, comparison.pareto_fronts)
    assert (read.warnings, read.notes, read.most_different) == (
        comparison.warnings, comparison.notes, comparison.most_different,
    )  # fmt: skip
    assert comparison.metrics and comparison.costs and comparison.slices and comparison.pareto_fronts
    for group in ("metrics", "costs", "slices"):
        for one, other in zip(getattr(read, group), getattr(comparison, group), strict=True):
            assert dataclasses.replace(one, values={}) == dataclasses.replace(other, values={})
            assert {name: value.value for name, value in one.values.items()} == {
                name: value.value for name, value in other.values.items()
            }


def pair(first: str, second: str, *, n: int = 0, excluded: int = 0, better: str | None = None) -> Pair:
    return Pair(
        first=first, second=second, difference=None, low=None, high=None, p_value=None, n=n, excluded=excluded, better=better
    )  # fmt: skip


def metric(*pairs: Pair, **values: Metric) -> ComparedMetric:
    return ComparedMetric(
        name="right/v1", scorer="right", aggregate="mean", reducer="mean", unit=None, higher_is_better=True,
        values=values, pairs=pairs,
    )  # fmt: skip


def test_a_pair_is_found_in_either_order() -> None:
    pairs = pair("a", "b"), pair("a", "c", better="c"), pair("b", "c", better="b")
    one = metric(*pairs)
    assert [one.pair("b", "a"), one.pair("a", "c"), one.pair("c", "b")] == list(pairs)
    assert [each.worse for each in pairs] == [None, "a", "c"]
    with pytest.raises(KeyError):
        one.pair("a", "d")


def test_a_judge_related_to_every_candidate_is_named_once() -> None:
    candidates = [Candidate(name=name, target=name, models=("gpt-5",)) for name in ("a", "b")]
    (warning,) = comparison_warnings([metric()], candidates, {"right": ("gpt-4o",)})
    assert warning == "right/v1: the judge gpt-4o is of the same family, GPT, as all candidates"
    (warning,) = comparison_warnings([metric()], candidates, {"right": ("gpt-5",)})
    assert warning == "right/v1: the judge gpt-5 is the same model, gpt-5, as all candidates"
    others = [*candidates, Candidate(name="c", target="c", models=("claude-sonnet",))]
    (warning,) = comparison_warnings([metric()], others, {"right": ("gpt-4o",)})
    assert warning.endswith("is of the same family, GPT, as a, b; judges favor their own family")
    assert not list(comparison_warnings([metric()], candidates, {"other": ("gpt-4o",)}))


@pytest.mark.parametrize(("answers", "total", "warning"), [
    (0, 100, None),
    (1, 100, "right/v1: 1 of 100 answers of a is missing (judge)"),
    (6, 100, "right/v1: 6 of 100 answers of a are missing (judge)"),
    (0, 0, "a has no sample that the scorer applies to (right/v1)"),
])  # fmt: skip
def test_every_missing_share_is_a_warning(answers: int, total: int, warning: str | None) -> None:
    missing = {"right/v1": {"a": MissingScores(answers, total, ("judge",) if answers else ())}}
    assert list(comparison_warnings([metric()], [], {}, missing)) == ([] if warning is None else [warning])


def test_metrics_that_miss_the_same_answers_share_a_warning() -> None:
    same, other = MissingScores(2, 100, ("provider: timeout",)), MissingScores(3, 100)
    missing = {"one": {"a": same, "b": other}, "two": {"a": same, "b": same}}
    assert list(comparison_warnings([], [], {}, missing)) == [
        "one, two: 2 of 100 answers of a are missing (provider: timeout)",
        "one: 3 of 100 answers of b are missing",
        "two: 2 of 100 answers of b are missing (provider: timeout)",
    ]
