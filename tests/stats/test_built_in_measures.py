"""Measures of every answer, and scores that turn out to be 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from evalrunner.domain import Cell, Completion, Declaration, Failure, Metric, Row, Sample
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import (
    ALL_BINARY,
    ALL_BUILTIN_MEASURES,
    Design,
    Measure,
    Summary,
    builtin_cells,
    output_rate,
    summarize,
)

OURS = Measure("ours", Declaration(infer_binary=True))
STREAMED = Completion("a b c", latency_s=2.5, ttft_s=0.5, output_tokens=3, cost_usd=0.25)
UNKNOWN, NOTHING = Cell("unscored", reason="not reported"), Cell("skipped", reason="nothing was called")


def test_units_directions_and_aggregates_of_built_in_measures() -> None:
    quantiles = ("mean", "p50", "p90", "p99")
    assert {
        measure.name: (measure.declaration.unit, measure.declaration.higher_is_better, measure.declaration.aggregates)
        for measure in ALL_BUILTIN_MEASURES
    } == {
        "latency": ("s", False, quantiles),
        "token_count": ("tokens", False, ("mean", "total")),
        "cost_usd": ("USD", False, ("mean", "total")),
        "ttft": ("s", False, quantiles),
        "output_rate": ("tokens/s", True, quantiles),
    }
    for measure in ALL_BUILTIN_MEASURES:
        declared = measure.declaration
        assert (declared.low, declared.high, declared.headline, declared.version) == (0.0, None, "mean", None)
        assert not declared.needs_answer
        assert measure.versioned_name == measure.name


@pytest.mark.parametrize(
    ("changes", "first", "rate"),
    [
        ({}, Cell("scored", 0.5), Cell("scored", 1.5)),
        ({"output_tokens": 2}, Cell("scored", 0.5), Cell("scored", 1.0)),
        ({"output_tokens": 1}, Cell("scored", 0.5), Cell("skipped", reason="no token after the first")),
        ({"latency_s": 0.5}, Cell("scored", 0.5), Cell("skipped", reason="no token after the first")),
        ({"latency_s": 1.0}, Cell("scored", 0.5), Cell("scored", 6.0)),
        ({"output_tokens": None}, Cell("scored", 0.5), UNKNOWN),
        ({"ttft_s": None}, UNKNOWN, UNKNOWN),
        ({"latency_s": None, "cached": True}, Cell("scored", 0.5), Cell("skipped", reason="no token after the first")),
    ],
)
def test_speed_of_a_streamed_answer(changes: Mapping[str, object], first: Cell, rate: Cell) -> None:
    fields = {"latency_s": 2.5, "ttft_s": 0.5, "output_tokens": 3, "cost_usd": 0.25, **changes}
    cells = builtin_cells(Completion("a b c", **fields), streaming=True)  # type: ignore[arg-type]
    assert (cells["ttft"], cells["output_rate"]) == (first, rate)


def test_the_rate_of_an_answer_with_unknown_parts_is_unknown() -> None:
    assert output_rate(STREAMED) == 1.5
    for missing in ("latency_s", "ttft_s", "output_tokens"):
        fields = {"latency_s": 2.5, "ttft_s": 0.5, "output_tokens": 3, missing: None}
        assert output_rate(Completion("a b c", **fields)) is None


def test_what_was_not_called_is_skipped_and_what_was_not_reported_is_missing() -> None:
    assert builtin_cells(STREAMED) == {
        "latency": Cell("scored", 2.5), "token_count": Cell("scored", 3.0), "cost_usd": Cell("scored", 0.25),
    }  # fmt: skip
    assert builtin_cells(Completion("x")) == dict.fromkeys(("latency", "token_count", "cost_usd"), NOTHING)
    assert builtin_cells(Completion("x", latency_s=0.1)) == {
        "latency": Cell("scored", 0.1), "token_count": UNKNOWN, "cost_usd": UNKNOWN,
    }  # fmt: skip
    cached = builtin_cells(Completion("x", cached=True))
    assert cached == {"latency": NOTHING, "token_count": UNKNOWN, "cost_usd": UNKNOWN}
    failed = builtin_cells(Failure("timeout", "no answer"), streaming=True)
    assert list(failed) == ["latency", "token_count", "cost_usd", "ttft", "output_rate"]
    assert {cell.state for cell in failed.values()} == {"error"}


def summary_of(scores: Mapping[str, Sequence[float | None]], measure: Measure = OURS) -> Summary:
    rows = [
        Row(
            Sample(f"s{place}", "q", index=place), target, 1, Completion("x", latency_s=1.0),
            {measure.name: Cell("error", cause="function") if score is None else Cell("scored", score)},
        )
        for target, each in scores.items()
        for place, score in enumerate(each)
    ]  # fmt: skip
    return summarize(rows, [measure], list(scores))


def metric_of(summary: Summary, target: str) -> Metric:
    return next(metric for metric in summary.metrics(target) if metric.scorer == "ours")


@pytest.mark.parametrize(
    ("scores", "binary"),
    [
        ({"a": [0.0, 1.0, 1.0]}, True),
        ({"a": [1.0, None]}, True),
        ({"a": [0.0, 0.5]}, False),
        ({"a": [0.0, 1.0], "b": [0.0, 1.0]}, True),
        ({"a": [0.0, 1.0], "b": [0.5, 1.0]}, False),
        ({"a": [0.0, 1.0], "b": [None, None]}, True),
        ({"a": [None]}, False),
        ({"a": []}, False),
    ],
)
def test_scores_that_are_all_0_or_1_are_treated_as_pass_or_fail(
    scores: Mapping[str, Sequence[float | None]], *, binary: bool
) -> None:
    summary = summary_of(scores)
    assert summary.observed_binary(OURS) is binary
    assert summary.estimand(OURS, "mean").binary is binary
    assert summary.estimand(OURS, "mean").is_share is binary
    assert (metric_of(summary, "a").detail or {}).get("scores") == (ALL_BINARY if binary else None)


def test_only_scorers_that_may_be_graded_are_looked_at() -> None:
    for declared in (Declaration(), Declaration(binary=True), Declaration(binary=True, infer_binary=True)):
        assert not summary_of({"a": [0.0, 1.0]}, Measure("ours", declared)).observed_binary(Measure("ours", declared))


def test_a_further_row_can_show_that_scores_are_graded() -> None:
    summary = summary_of({"a": [0.0, 1.0]})
    assert metric_of(summary, "a").n == 2 and summary.observed_binary(OURS)
    answer = Completion("x", latency_s=1.0)
    summary.add(Row(Sample("s2", "q", index=2), "a", 1, answer, {"ours": Cell("scored", 0.5)}))
    assert metric_of(summary, "a").n == 3 and not summary.observed_binary(OURS)


def test_samples_are_counted_once_for_all_targets_and_by_slice() -> None:
    topics = ["law", "art", "law", "law"]
    samples = [Sample(f"s{place}", "q", index=place, metadata={"topic": topic}) for place, topic in enumerate(topics)]
    cells = {"ours": Cell("scored", 1.0)}
    rows = [
        Row(sample, target, 1, Completion("x"), cells) for target in "ab" for sample in samples[: 4 if target == "a" else 2]
    ]  # fmt: skip
    summary = summarize(rows, [OURS], ["a", "b"], design=Design(slices=("topic",)))
    counts = [summary.samples_in(), *(summary.samples_in({"topic": topic}) for topic in ("law", "art", "sport"))]
    assert counts == [4, 3, 1, 0]
    assert summarize(rows, [OURS], ["a", "b"], samples=9).samples_in() == 9


def test_built_in_measures_are_reduced_by_the_mean_whatever_the_suite_says() -> None:
    design = Design(reducers=(parse_reducer("max"),))
    rows = [
        Row(Sample("s", "q", index=0), "a", epoch, Completion("x", latency_s=seconds), {"ours": Cell("scored", score)})
        for epoch, seconds, score in ((1, 1.0, 0.25), (2, 3.0, 0.75))
    ]
    values = {
        metric.name: metric.value for metric in summarize(rows, [OURS], ["a"], epochs=2, design=design).metrics("a")
    }
    assert (values["latency/mean"], values["ours/v1/mean"]) == (2.0, 0.75)
