"""What a metric says beside its value: trust, unit, threshold, reasons and groups."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import pytest

from evalrunner.domain import Cell, Completion, Declaration, Metric, Row, Sample
from evalrunner.prompts import ABSENT
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import Design, Measure, Summary, summarize, value_text

EXACT = Measure("exact_match", Declaration(binary=True))
GRADED = Measure(
    "grade", Declaration(low=2.0, high=5.0, unit="grades", aggregates=("mean", "ratio", "p50"), threshold=4.0)
)
TOXIC = Measure("toxicity", Declaration(higher_is_better=False, aggregates=("mean", "ratio")))
DOWN = Cell("error", None, "503", cause="server")


def row(place: int, cell: Cell | float, measure: Measure = EXACT, *, epoch: int = 1, topic: str = "law", target: str = "m") -> Row:  # fmt: skip
    cells = {measure.name: cell if isinstance(cell, Cell) else Cell("scored", cell)}
    return Row(
        Sample(f"s{place}", "q", index=place, metadata={"topic": topic}),
        target,
        epoch,
        Completion("x", latency_s=1.0),
        cells,
    )


def first(summary: Summary, name: str) -> Metric:
    return next(metric for metric in summary.all_metrics("m") if metric.name == name and metric.slice is None)


@pytest.mark.parametrize(
    ("measure", "reducer", "epochs", "expected"),
    [
        (EXACT, "mean", 1, (True, 0.0, 1.0, 0.5)),
        (EXACT, "mean", 2, (False, 0.0, 1.0, 0.5)),
        (EXACT, "max", 2, (True, 0.0, 1.0, 0.5)),
        (GRADED, "mean", 1, (False, 2.0, 5.0, 4.0)),
        (GRADED, "at_least_1", 1, (True, 0.0, 1.0, 4.0)),
        (Measure("x", Declaration(low=2.0, high=5.0, binary=True)), "mean", 1, (True, 0.0, 1.0, 0.5)),
        (Measure("x", Declaration(low=None, high=None)), "mean", 1, (False, None, None, 0.5)),
    ],
)
def test_what_a_metric_estimates_follows_from_its_scorer_and_reducer(
    measure: Measure, reducer: str, epochs: int, expected: tuple[object, ...]
) -> None:
    estimand = measure.estimand("mean", reducer=parse_reducer(reducer), epochs=epochs)
    assert (estimand.binary, estimand.low, estimand.high, estimand.threshold) == expected
    if epochs == 1 and reducer == "mean":
        assert measure.estimand("mean") == estimand


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("law", "law"),
        (7, "7"),
        (None, ""),
        (ABSENT, ""),
        ({"b": 1, "a": "東京"}, '{"a": "東京", "b": 1}'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        (True, "true"),
    ],
)
def test_the_value_of_a_column_as_the_name_of_a_group(value: object, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("cells", "samples", "trusted"),
    [
        ([1.0] * 19 + [DOWN], None, True),  # 95%
        ([1.0] * 18 + [DOWN], None, False),
        ([1.0], None, True),
        ([DOWN], None, False),
        ([1.0] * 19, 20, True),
        ([1.0] * 18, 20, False),
    ],
)
def test_a_metric_is_trusted_from_95_percent_of_its_answers_on(
    cells: Sequence[Cell | float], samples: int | None, *, trusted: bool
) -> None:
    rows = [row(place, cell) for place, cell in enumerate(cells)]
    assert first(summarize(rows, [EXACT], ["m"], samples=samples), "exact_match/v1").trusted is trusted
    ended = summarize(rows, [EXACT], ["m"], samples=samples)
    ended.decided = True  # samples that did not run are beyond the end of such a run
    assert first(ended, "exact_match/v1").trusted is (trusted or samples is not None)


def test_answers_of_every_epoch_are_planned() -> None:
    rows = [row(place, 1.0, epoch=epoch) for place in range(10) for epoch in (1, 2)]
    assert first(summarize(rows, [EXACT], ["m"], epochs=2, samples=10), "exact_match/v1").trusted
    assert not first(summarize(rows, [EXACT], ["m"], epochs=3, samples=10), "exact_match/v1").trusted
    by_topic = summarize(rows, [EXACT], ["m"], epochs=3, design=Design(slices=("topic",)))
    assert [metric.trusted for metric in by_topic.sliced("m") if metric.scorer == "exact_match"] == [False]
    full = summarize(rows, [EXACT], ["m"], epochs=2, design=Design(slices=("topic",)))
    assert [metric.trusted for metric in full.sliced("m") if metric.scorer == "exact_match"] == [True]


def test_a_metric_has_the_unit_direction_and_threshold_of_its_scorer() -> None:
    grades = summarize([row(0, 3.0, GRADED), row(1, 4.0, GRADED)], [GRADED], ["m"])
    mean, ratio = first(grades, "grade/v1/mean"), first(grades, "grade/v1/ratio")
    assert (mean.unit, mean.higher_is_better, mean.aggregate, mean.version) == ("grades", True, "mean", "v1")
    assert (ratio.value, ratio.detail) == (0.5, {"threshold": 4.0})
    toxic = summarize([row(0, 0.2, TOXIC)], [TOXIC], ["m"])
    assert (first(toxic, "toxicity/v1/mean").higher_is_better, first(toxic, "toxicity/v1/ratio").value) == (False, 0.0)


def test_reasons_are_those_of_the_whole_target_and_not_of_a_slice() -> None:
    rows = [row(0, DOWN), row(1, Cell("unscored", None, "refused", cause="no_answer")), row(2, 1.0)]
    summary = summarize(rows, [EXACT], ["m"], design=Design(slices=("topic",)))
    whole = first(summary, "exact_match/v1").detail or {}
    assert sum(whole["reasons"].values()) == 2
    (sliced,) = (metric for metric in summary.sliced("m") if metric.scorer == "exact_match")
    assert "reasons" not in (sliced.detail or {})


def test_the_other_reading_of_missing_answers_needs_missing_answers() -> None:
    refused = Cell("unscored", None, "refused", cause="no_answer")
    zeroed = Cell("scored", 0.0, "refused", cause="no_answer")
    for cells, other in (
        ([1.0, refused], {"on_no_answer": "zero", "value": 0.5, "n": 2}),
        ([1.0, zeroed, 0.0], {"on_no_answer": "unscored", "value": 0.5, "n": 2}),
        ([1.0, 0.0], None),
    ):
        metric = first(
            summarize([row(place, cell) for place, cell in enumerate(cells)], [EXACT], ["m"]), "exact_match/v1"
        )
        assert (metric.detail or {}).get("other_reading") == other
    needless = Measure("exact_match", Declaration(binary=True, needs_answer=False))
    metric = first(summarize([row(0, 1.0), row(1, refused)], [needless], ["m"]), "exact_match/v1")
    assert "other_reading" not in (metric.detail or {})


def test_ids_are_kept_for_several_epochs_only() -> None:
    assert summarize([row(0, 1.0)], [EXACT], ["m"]).ids == {}
    assert summarize([row(0, 1.0)], [EXACT], ["m"], epochs=2).ids == {0: "s0"}


def test_streamed_answers_have_their_speed_in_the_metrics() -> None:
    answer = Completion("x", latency_s=2.0, ttft_s=1.0, output_tokens=4)
    streamed = Row(Sample("s0", "q", index=0), "m", 1, answer, {"exact_match": Cell("scored", 1.0)})
    values = {
        metric.name: metric.value for metric in summarize([streamed], [EXACT], ["m"], streaming=True).metrics("m")
    }
    assert (values["ttft/mean"], values["output_rate/mean"]) == (1.0, 4.0)


def test_scores_of_a_slice_that_nobody_has_are_empty() -> None:
    summary = summarize([row(0, 1.0), row(1, 0.0, topic="art")], [EXACT], ["m"], design=Design(slices=("topic",)))
    assert list(summary.reduced("m", "exact_match", slice={"topic": "art"}).values) == [0.0]
    assert summary.reduced("m", "exact_match", slice={"topic": "sport"}).applicable == 0
    assert summary.samples_in({"topic": "sport"}) == 0


def test_slices_have_their_clusters_and_reducers() -> None:
    design = Design(slices=("topic",), cluster="topic", reducers=(parse_reducer("mean"), parse_reducer("max")))
    rows = [
        row(place, float(place % 2), epoch=epoch, topic=f"t{place // 4}") for place in range(48) for epoch in (1, 2)
    ]
    summary = summarize(rows, [EXACT], ["m"], epochs=2, design=design)
    whole = first(summary, "exact_match/v1")
    assert whole.method == "wilson-clustered"
    sliced = [metric for metric in summary.sliced("m") if metric.scorer == "exact_match"]
    assert {metric.reducer for metric in sliced} == {"mean", "max"}
    assert all(metric.method is None for metric in sliced)  # each slice is one cluster
