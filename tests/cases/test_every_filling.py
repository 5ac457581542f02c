"""Point gates against an oracle that tries every score of every missing answer of a small suite."""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from statistics import median

import pytest

from evalrunner.stats.aggregates import Estimand, gate_bounds
from tests.cases.suites import run, samples

EPOCHS = 3
BOUNDS = (0.1, 0.3, 0.5, 0.7, 0.9)
REDUCERS = ("mean", "max", "median", "at_least_1", "at_least_2", "at_least_3", "pass_at_2", "pass_k_2")
OPERATORS = {">=": operator.ge, "<=": operator.le}


def reduce(name: str, scores: Sequence[int]) -> Fraction | None:
    """A sample's score from those of its epochs, by the definitions of docs/reference/metrics.md."""
    kind, _, k = name.rpartition("_") if name[-1].isdigit() else (name, "", "1")
    n, right = len(scores), sum(scores)
    if n < int(k):
        return None
    if kind == "mean":
        return Fraction(right, n)
    if kind == "max":
        return Fraction(max(scores))
    if kind == "median":
        return Fraction(median(scores))
    if kind == "at_least":
        return Fraction(right >= int(k))
    drawn = list(itertools.combinations(scores, int(k)))
    return Fraction(sum((any if kind == "pass_at" else all)(one) for one in drawn), len(drawn))


def values(reducer: str, plans: Sequence[Sequence[str]]) -> Iterator[Fraction]:
    """The metric for each way to fill in the lost epochs with 0 or 1, and to count the refused ones as 0 or leave them out."""
    per_sample: list[set[Fraction | None]] = []
    for plan in plans:
        ways = [{"right": (1,), "wrong": (0,), "error": (0, 1), "refused": (0, None)}[outcome] for outcome in plan]
        fillings = ([score for score in way if score is not None] for way in itertools.product(*ways))
        per_sample.append({reduce(reducer, scores) if scores else None for scores in fillings})
    for way in itertools.product(*per_sample):
        scored = [score for score in way if score is not None]
        if scored:
            yield sum(scored, Fraction(0)) / len(scored)


@pytest.mark.parametrize("seed", range(40))
def test_trusted_point_verdict_holds_for_every_filling(seed: int) -> None:
    chance = random.Random(seed)
    weights = [5, 4, chance.choice([0, 1, 3]), chance.choice([0, 0, 2])]
    plans = [
        chance.choices(["right", "wrong", "error", "refused"], weights, k=EPOCHS)
        for _ in range(chance.choice([2, 4, 6]))
    ]
    names = {reducer: "exact_match" if reducer == "mean" else f"exact_match/{reducer}" for reducer in REDUCERS}
    cases = [(reducer, sign, bound) for reducer in REDUCERS for sign in OPERATORS for bound in BOUNDS]
    gates = [f"{names[reducer]} {sign} {bound}" for reducer, sign, bound in cases]
    ended = run(samples(*((1, plan) for plan in plans)), gates, run={"epochs": EPOCHS, "reducer": list(REDUCERS)}, min_coverage=0.01)  # fmt: skip
    assert len(ended.gates) == len(cases), ended.err
    every = {reducer: list(values(reducer, plans)) for reducer in REDUCERS}
    wrong, timid = [], []
    for (reducer, sign, bound), gate in zip(cases, ended.gates, strict=True):
        outcomes = {OPERATORS[sign](value, Fraction(str(bound))) for value in every[reducer]}
        right = {True: "pass", False: "fail"}.get(*outcomes) if len(outcomes) == 1 else "untrusted"
        if gate["verdict"] not in (right, "untrusted"):
            wrong.append((gate["gate"], gate["verdict"], right, gate["reason"]))
        elif gate["verdict"] != right and gate["value"] is not None:  # without a score there is nothing to judge
            timid.append((gate["gate"], gate["reason"], right))
    assert wrong == [], plans
    assert timid == [], plans


@pytest.mark.parametrize("seed", range(6))
def test_trusted_verdict_with_confidence_holds_for_graded_scores_anywhere_in_the_range(seed: int) -> None:
    """Also for scores in between and for some at either end, which change the spread and not only the mean."""
    chance = random.Random(seed)
    observed = [round(chance.betavariate(8, 2), 2) for _ in range(40)]
    lost = chance.choice([1, 2, 4])
    estimand = Estimand(low=0.0, high=1.0)
    edges = gate_bounds(estimand, observed, confidence=0.95)
    assert edges.low is not None and edges.high is not None
    bounds = [
        round(end + shift, 3)
        for end in (edges.low, edges.high)
        for shift in (-0.2, -0.06, -0.03, -0.01, 0.01, 0.03, 0.06)
    ]
    gates = [
        {"metric": "graded", "min": bound, "confidence": 0.95, "min_coverage": 0.5, "family": "none"}
        for bound in bounds
    ]
    ended = run(samples(*((1, score) for score in observed), (lost, "error")), gates, scorers=["graded"])
    fillings = [[0.0] * low + [1.0] * (lost - low) for low in range(lost + 1)] + [
        [score] * lost for score in (0.2, 0.5, 0.8)
    ]
    ends = [gate_bounds(estimand, [*observed, *filling], confidence=0.95) for filling in fillings]
    for bound, gate in zip(bounds, ended.gates, strict=True):
        if gate["verdict"] == "pass":
            assert all(end.low is not None and end.low >= bound for end in ends), gate
        if gate["verdict"] == "fail":
            assert all(end.high is not None and end.high < bound for end in ends), gate
    assert {"pass", "fail", "untrusted"} <= set(ended.verdicts)
