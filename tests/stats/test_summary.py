"""Rows to metrics, computed by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy
import pytest

from evalrunner.domain import Cell, Completion, Declaration, Failure, Metric, Row, Sample
from evalrunner.stats.aggregates import find_aggregate, gate_bounds, metric_interval, parse_reducer
from evalrunner.stats.distributions import quantile
from evalrunner.stats.intervals import ALL_EQUAL
from evalrunner.stats.summary import Design, Measure, Summary, summarize

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
    return next(result for result in summary.metrics("m") if result.name == name)


def test_only_scored_cells_enter_a_metric_and_the_others_are_counted() -> None:
    cells = [
        Cell("scored", 1.0),
        Cell("scored", 0.0),
        Cell("scored", 1.0),
        Cell("skipped", reason="no expected answer"),
        Cell("unscored", reason="length", cause="no_answer"),
        Cell("unscored", reason="6 of 12 known answers", cause="judge_check"),
        Cell("error", reason="no answer within 60 s", cause="timeout"),
    ]
    summary = summarize((row(i, {"exact_match": cell}) for i, cell in enumerate(cells)), [EXACT], ["m"])
    assert metric(summary, "exact_match/v1") == Metric(
        name="exact_match/v1",
        scorer="exact_match",
        aggregate="mean",
        value=2 / 3,
        n=3,
        scored=3,
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
            "reasons": {"judge sanity check: 6 of 12 known answers": 1, "no_answer: length": 1, "timeout": 1},
            "other_reading": {"on_no_answer": "zero", "value": 0.5, "n": 4},
        },
    )


def test_no_rows_give_no_value() -> None:
    summary = summarize([row(0, {"exact_match": Cell("skipped", reason="no expected answer")})], [EXACT], ["m"])
    result = metric(summary, "exact_match/v1")
    assert (result.value, result.low, result.high, result.n, result.trusted) == (None, None, None, 0, False)


def test_missing_answers_can_count_as_zero_and_both_readings_are_reported() -> None:
    cells = [Cell("scored", 1.0), Cell("scored", 0.0), Cell("scored", 0.0, "refused", cause="no_answer")]
    result = metric(
        summarize((row(i, {"exact_match": c}) for i, c in enumerate(cells)), [EXACT], ["m"]), "exact_match/v1"
    )
    assert result.value == pytest.approx(1 / 3)
    assert (result.detail or {})["other_reading"] == {"on_no_answer": "unscored", "value": 0.5, "n": 2}


def test_a_graded_scorer_has_its_aggregates_under_mlflows_names() -> None:
    values = [0.0, 0.1, 0.2, 0.9, 0.5]
    rows = [row(i, {"toxicity": Cell("scored", value)}) for i, value in enumerate(values)]
    summary = summarize(rows, [TOXICITY], ["m"])
    result = {name: metric(summary, f"toxicity/v1/{name}").value for name in ("mean", "variance", "p90", "ratio")}
    assert result == {
        "mean": pytest.approx(numpy.mean(values)),
        "variance": pytest.approx(numpy.var(values)),
        "p90": pytest.approx(numpy.percentile(values, 90)),
        "ratio": 0.4,
    }
    assert (metric(summary, "toxicity/v1/mean").detail or {})["backend"] == "lexical"
    assert metric(summary, "toxicity/v1/ratio").method == "wilson"


def test_latency_tokens_and_cost_are_always_computed() -> None:
    failed = Failure("timeout", "no answer")
    cells = {"exact_match": Cell("scored", 1.0)}
    rows = [row(0, cells), row(1, cells, answer=failed), row(2, cells, answer=Completion("recorded"))]
    summary = summarize(rows, [EXACT], ["m"])
    latency = metric(summary, "latency/mean")
    assert (latency.value, latency.n, latency.skipped, latency.errors) == (0.5, 1, 1, 1)
    assert metric(summary, "token_count/total").value == 3.0
    assert metric(summary, "cost_usd/total").value == 0.25


def test_an_unreported_cost_is_not_zero() -> None:
    unpriced = Completion("x", latency_s=0.1)
    summary = summarize([row(0, {"exact_match": Cell("scored", 1.0)}, answer=unpriced)], [EXACT], ["m"])
    cost = metric(summary, "cost_usd/total")
    assert (cost.value, cost.unscored) == (None, 1)


def test_epochs_are_reduced_to_one_score_per_sample() -> None:
    cells = {
        (0, 1): Cell("scored", 1.0),
        (0, 2): Cell("scored", 0.0),
        (1, 1): Cell("scored", 1.0),
        (1, 2): Cell("error", reason="500", cause="server"),
        (2, 1): Cell("unscored", reason="empty", cause="no_answer"),
        (2, 2): Cell("error", reason="500", cause="server"),
    }
    rows = [row(index, {"exact_match": cell}, epoch=epoch) for (index, epoch), cell in cells.items()]
    result = metric(summarize(rows, [EXACT], ["m"], epochs=2), "exact_match/v1")
    assert (result.value, result.n, result.scored, result.errors, result.unscored) == (0.75, 2, 3, 2, 1)
    assert (result.method, result.n_effective) == (None, None)
    assert (result.detail or {})["interval"] == "no interval: 2 values, at least 20 are needed"  # not 4 rows


def test_metrics_do_not_depend_on_row_order() -> None:
    draw = random.Random(3)
    rows = [row(i, {"toxicity": Cell("scored", draw.random())}) for i in range(1000)]
    shuffled = draw.sample(rows, len(rows))
    assert summarize(rows, [TOXICITY], ["m"]).metrics("m") == summarize(shuffled, [TOXICITY], ["m"]).metrics("m")


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_match_numpy(share: float) -> None:
    draw = random.Random(5)
    for n in (1, 2, 7, 100):
        values = sorted(draw.random() for _ in range(n))
        assert quantile(values, share) == pytest.approx(float(numpy.quantile(values, share)), abs=1e-15)


def test_an_unknown_aggregate_raises_value_error() -> None:
    with pytest.raises(ValueError, match="unknown aggregate 'median'"):
        find_aggregate("median")


def test_every_metric_has_its_interval_method_and_effective_size() -> None:
    draw = random.Random(9)
    rows = [
        row(i, {"exact_match": Cell("scored", float(draw.random() < 0.8)), "toxicity": Cell("scored", draw.random())},
            answer=Completion("x", latency_s=draw.random(), output_tokens=3 + i % 5, cost_usd=0.25))
        for i in range(50)
    ]  # fmt: skip
    summary = summarize(rows, [EXACT, TOXICITY], ["m"])
    result = {each.name: (each.method, each.level, each.n_effective is not None) for each in summary.metrics("m")}
    assert result == {
        "exact_match/v1": ("wilson", 0.95, True),
        "toxicity/v1/mean": ("wilson-effective", 0.95, True),
        "toxicity/v1/variance": (None, None, False),
        "toxicity/v1/p90": ("order-statistics", 0.95, True),
        "toxicity/v1/ratio": ("wilson", 0.95, True),
        "latency/mean": ("t-skewness", 0.95, True),
        "latency/p50": ("order-statistics", 0.95, True),
        "latency/p90": ("order-statistics", 0.95, True),
        "latency/p99": ("order-statistics", 0.95, True),
        "token_count/mean": ("t-skewness", 0.95, True),
        "token_count/total": (None, None, False),
        "cost_usd/mean": (None, None, False),
        "cost_usd/total": (None, None, False),
    }
    cost = metric(summary, "cost_usd/mean")
    assert (cost.detail or {})["interval"] == ALL_EQUAL


def topical(index: int, value: float, **metadata: object) -> Row:
    sample = Sample(f"s{index}", "q", index=index, metadata=metadata)
    return Row(sample, "m", 1, ANSWER, {"exact_match": Cell("scored", value)})


def test_slices_give_every_metric_for_each_value_of_a_column() -> None:
    rows = [topical(i, float(i % 4 != 0), topic=["law", "art", None][i % 3], level={"deep": i % 2}) for i in range(60)]
    design = Design(slices=("topic", "level.deep"))
    summary = summarize(reversed(rows), [EXACT], ["m"], design=design)
    assert all(each.slice is None for each in summary.metrics("m"))
    result = [(each.slice, each.value, each.n) for each in summary.sliced("m") if each.name == "exact_match/v1"]
    assert result == [
        ({"topic": ""}, 0.75, 20),
        ({"topic": "art"}, 0.75, 20),
        ({"topic": "law"}, 0.75, 20),
        ({"level.deep": "0"}, 0.5, 30),
        ({"level.deep": "1"}, 1.0, 30),
    ]
    names = {each.name for each in summary.sliced("m")}
    assert names == {each.name for each in summary.metrics("m")}
    law = summary.reduced("m", "exact_match", slice={"topic": "law"})
    assert sorted(law.samples) == list(range(0, 60, 3))
    assert summary.reduced("m", "exact_match", slice={"topic": "sport"}).applicable == 0
    both = summary.reduced("m", "exact_match", slice={"topic": "law", "level.deep": "1"})
    assert sorted(both.samples) == list(range(3, 60, 6))


def test_related_samples_have_a_clustered_interval() -> None:
    rows = [topical(i, float(i // 5 % 4 != 0), passage=i // 5) for i in range(200)]
    alone = metric(summarize(rows, [EXACT], ["m"]), "exact_match/v1")
    result = metric(summarize(rows, [EXACT], ["m"], design=Design(cluster="passage")), "exact_match/v1")
    assert (alone.method, result.method, result.value) == ("wilson", "wilson-clustered", 0.75)
    assert result.n_effective is not None and result.n_effective == pytest.approx(39)  # 40 clusters of equal scores
    few = metric(summarize(rows[:60], [EXACT], ["m"], design=Design(cluster="passage")), "exact_match/v1")
    assert (few.detail or {})["interval"] == "only 12 clusters: the interval is wide"


def test_samples_without_a_cluster_value_are_clusters_of_one() -> None:
    rows = [topical(i, float(i % 4 != 0), passage=None if i >= 20 else "a") for i in range(40)]
    summary = summarize(rows, [EXACT], ["m"], design=Design(cluster="passage"))
    assert len(set(summary.reduced("m", "exact_match").clusters or ())) == 21


REPEATED = [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, None, None]]


def repeated() -> list[Row]:
    rows = []
    for index, values in enumerate(REPEATED):
        for epoch, value in enumerate(values, 1):
            cell = Cell("error", reason="500", cause="server") if value is None else Cell("scored", value)
            rows.append(row(index, {"exact_match": cell}, epoch=epoch))
    return rows


def test_additional_reducers_have_metrics_under_their_names() -> None:
    reducers = tuple(parse_reducer(name) for name in ("mean", "at_least_2", "pass_k_3", "mode"))
    summary = summarize(reversed(repeated()), [EXACT], ["m"], epochs=3, design=Design(reducers=reducers))
    result = {each.name: each for each in summary.metrics("m") if each.scorer == "exact_match"}
    assert {name: (each.reducer, each.value, each.n, each.errors, each.method) for name, each in result.items()} == {
        "exact_match/v1": ("mean", pytest.approx(0.75), 4, 2, None),
        "exact_match/v1/at_least_2": ("at_least_2", pytest.approx(2 / 3), 3, 2, "wilson"),
        "exact_match/v1/pass_k_3": ("pass_k_3", pytest.approx(1 / 3), 3, 2, "wilson"),
        "exact_match/v1/mode": ("mode", pytest.approx(2 / 3), 3, 2, "wilson"),
    }
    assert {each.reducer for each in summary.metrics("m") if each.scorer == "latency"} == {"mean"}


def test_the_primary_reducer_has_the_plain_metric_names() -> None:
    design = Design(reducers=(parse_reducer("at_least_2"),))
    result = metric(summarize(repeated(), [EXACT], ["m"], epochs=3, design=design), "exact_match/v1")
    assert (result.reducer, result.value, result.n, result.errors) == ("at_least_2", pytest.approx(2 / 3), 3, 2)


def test_a_summary_gives_reduced_scores_and_estimands() -> None:
    summary = summarize(repeated(), [EXACT], ["m"], epochs=3)
    reducer = parse_reducer("at_least_2")
    reduced = summary.reduced("m", "exact_match", reducer=reducer)
    assert (list(reduced.values), list(reduced.samples), reduced.missing) == ([1.0, 0.0, 1.0], [0, 1, 2], 1)
    estimand = summary.estimand(EXACT, "mean", reducer=reducer)
    assert gate_bounds(estimand, reduced.values, confidence=0.95).method == "clopper-pearson"
    plain = summary.estimand(EXACT, "mean")
    means = list(summary.reduced("m", "exact_match").values)
    assert (metric_interval(plain, means).method, metric_interval(plain, means * 5).method) == (
        None, "wilson-effective",
    )  # fmt: skip


def test_clusters_and_slices_do_not_depend_on_row_order() -> None:
    draw = random.Random(3)
    rows = [
        topical(i, float(draw.random() < 0.7), topic=f"t{i % 3}", passage=f"p{draw.randrange(40)}") for i in range(400)
    ]
    shuffled = draw.sample(rows, len(rows))
    design = Design(cluster="passage", slices=("topic",))
    first, second = (summarize(each, [EXACT], ["m"], design=design) for each in (rows, shuffled))
    assert first.metrics("m") == second.metrics("m")
    assert first.sliced("m") == second.sliced("m")
