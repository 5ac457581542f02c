"""Rows to metrics, worked by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy
import pytest

from evalrun.domain import Cell, Completion, Declaration, Failure, Row, Sample
from evalrun.metrics import Metric
from evalrun.stats.aggregates import aggregate, quantile
from evalrun.stats.summary import Measure, Summary, summarize

EXACT = Measure("exact_match", Declaration(binary=True))
TOXICITY = Measure(
    "toxicity",
    Declaration(
        higher_is_better=False,
        aggregates=("mean", "variance", "p90", "ratio"),
        threshold=0.5,
        backend="lexical",
    ),
)
ANSWER = Completion("x", latency_s=0.5, output_tokens=3, cost_usd=0.25)


def row(index: int, cells: Mapping[str, Cell], *, epoch: int = 1, answer: Completion | Failure = ANSWER) -> Row:
    return Row(Sample(f"s{index}", "q", index=index), "m", epoch, answer, cells)


def metric(summary: Summary, name: str) -> Metric:
    return next(found for found in summary.metrics("m") if found.name == name)


def test_only_scored_cells_enter_a_metric_and_the_others_are_counted() -> None:
    cells = [
        Cell("scored", 1.0),
        Cell("scored", 0.0),
        Cell("scored", 1.0),
        Cell("skipped", reason="no expected answer"),
        Cell("unscored", reason="no_answer: length"),
        Cell("unscored", reason="judge: self-check 6 of 12"),
        Cell("error", reason="timeout: no answer within 60 s"),
    ]
    summary = summarize((row(i, {"exact_match": cell}) for i, cell in enumerate(cells)), [EXACT], ["m"])
    assert metric(summary, "exact_match/v1") == Metric(
        name="exact_match/v1",
        scorer="exact_match",
        aggregate="mean",
        value=2 / 3,
        n=3,
        skipped=1,
        unscored=2,
        errors=1,
        version="v1",
        low=pytest.approx(0.20765960080204776),
        high=pytest.approx(0.9385080552796037),
        level=0.95,
        method="wilson",
        n_effective=3.0,
        trusted=False,
        detail={
            "reasons": {"judge: self-check 6 of 12": 1, "no_answer: length": 1, "timeout": 1},
            "other_reading": {"on_no_answer": "zero", "value": 0.5, "n": 4},
        },
    )


def test_no_number_comes_from_no_rows() -> None:
    summary = summarize([row(0, {"exact_match": Cell("skipped", reason="no expected answer")})], [EXACT], ["m"])
    found = metric(summary, "exact_match/v1")
    assert (found.value, found.low, found.high, found.n, found.trusted) == (None, None, None, 0, False)


def test_answers_not_given_can_count_as_zero_and_both_readings_are_kept() -> None:
    cells = [Cell("scored", 1.0), Cell("scored", 0.0), Cell("scored", 0.0, "no_answer: refused")]
    found = metric(
        summarize((row(i, {"exact_match": c}) for i, c in enumerate(cells)), [EXACT], ["m"]), "exact_match/v1"
    )
    assert found.value == pytest.approx(1 / 3)
    assert (found.detail or {})["other_reading"] == {"on_no_answer": "unscored", "value": 0.5, "n": 2}


def test_a_graded_scorer_has_its_aggregates_under_mlflows_names() -> None:
    values = [0.0, 0.1, 0.2, 0.9, 0.5]
    rows = [row(i, {"toxicity": Cell("scored", value)}) for i, value in enumerate(values)]
    summary = summarize(rows, [TOXICITY], ["m"])
    found = {name: metric(summary, f"toxicity/v1/{name}").value for name in ("mean", "variance", "p90", "ratio")}
    assert found == {
        "mean": pytest.approx(numpy.mean(values)),
        "variance": pytest.approx(numpy.var(values)),
        "p90": pytest.approx(numpy.percentile(values, 90)),
        "ratio": 0.4,
    }
    assert (metric(summary, "toxicity/v1/mean").detail or {})["backend"] == "lexical"
    assert metric(summary, "toxicity/v1/ratio").method == "wilson"


def test_latency_tokens_and_cost_are_always_there() -> None:
    failed = Failure("timeout", "no answer")
    cells = {"exact_match": Cell("scored", 1.0)}
    rows = [row(0, cells), row(1, cells, answer=failed), row(2, cells, answer=Completion("recorded"))]
    summary = summarize(rows, [EXACT], ["m"])
    latency = metric(summary, "latency/mean")
    assert (latency.value, latency.n, latency.skipped, latency.errors) == (0.5, 1, 1, 1)
    assert metric(summary, "token_count/total").value == 3.0
    assert metric(summary, "cost_usd/total").value == 0.25


def test_a_cost_nobody_reported_is_not_zero() -> None:
    unpriced = Completion("x", latency_s=0.1)
    summary = summarize([row(0, {"exact_match": Cell("scored", 1.0)}, answer=unpriced)], [EXACT], ["m"])
    cost = metric(summary, "cost_usd/total")
    assert (cost.value, cost.unscored) == (None, 1)


def test_epochs_are_reduced_to_one_score_per_sample() -> None:
    cells = {
        (0, 1): Cell("scored", 1.0),
        (0, 2): Cell("scored", 0.0),
        (1, 1): Cell("scored", 1.0),
        (1, 2): Cell("error", reason="server: 500"),
        (2, 1): Cell("unscored", reason="no_answer: empty"),
        (2, 2): Cell("error", reason="server: 500"),
    }
    rows = [row(index, {"exact_match": cell}, epoch=epoch) for (index, epoch), cell in cells.items()]
    found = metric(summarize(rows, [EXACT], ["m"], epochs=2), "exact_match/v1")
    assert (found.value, found.n, found.errors, found.unscored) == (0.75, 2, 1, 0)
    assert found.low is None  # pooling epochs as if they were rows would claim too much


def test_the_order_of_rows_changes_no_bit() -> None:
    draw = random.Random(3)
    rows = [row(i, {"toxicity": Cell("scored", draw.random())}) for i in range(1000)]
    shuffled = draw.sample(rows, len(rows))
    assert summarize(rows, [TOXICITY], ["m"]).metrics("m") == summarize(shuffled, [TOXICITY], ["m"]).metrics("m")


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_numpys(share: float) -> None:
    draw = random.Random(5)
    for n in (1, 2, 7, 100):
        values = sorted(draw.random() for _ in range(n))
        assert quantile(values, share) == pytest.approx(float(numpy.quantile(values, share)), abs=1e-15)


def test_an_unknown_aggregate_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="'median' is not one of"):
        aggregate("median", [1.0])
