"""Which metrics a comparison has, and the samples, costs and fronts it shows beside them."""

from __future__ import annotations

import dataclasses
import string

import pytest

from evalrunner.compare.compare import (
    MAX_DISAGREEING_SAMPLES,
    NotComparable,
    compact_letters,
    groups,
    pareto_front,
    rank,
)
from evalrunner.domain import Declaration
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.summary import Design, Measure
from tests.compare.builders import GRADED, HARM, RIGHT, compared, compared_rows, rows_of

TOXIC = Measure("tox", Declaration(aggregates=("p90", "ratio", "mean"), headline="p90", higher_is_better=False))
SPEED = Measure("speed", Declaration(low=0.0, high=None, aggregates=("p90", "p50"), headline="p90"))


def test_a_scorer_whose_headline_has_no_test_is_compared_by_its_mean() -> None:
    scores = {name: {"tox": [0.1, 0.6]} for name in "xy"}
    assert [metric.name for metric in compared(scores, [TOXIC]).metrics] == ["tox/v1/mean"]
    ratio = dataclasses.replace(TOXIC.declaration, aggregates=("p90", "ratio"))
    assert [metric.name for metric in compared(scores, [Measure("tox", ratio)]).metrics] == ["tox/v1/ratio"]
    headline = dataclasses.replace(TOXIC.declaration, headline="ratio")
    assert [metric.name for metric in compared(scores, [Measure("tox", headline)]).metrics] == ["tox/v1/ratio"]


def test_metrics_of_the_answer_cannot_be_ranked() -> None:
    scores = {name: {"right": [1.0, 0.0]} for name in "xy"}
    for text in ("latency/mean", "latency", "cost_usd/mean"):
        with pytest.raises(NotComparable, match=r"cannot compare by .*; choose from right/v1$"):
            compared(scores, [RIGHT], latency={"x": 1.0}, wanted=(text,))
    with pytest.raises(NotComparable, match="did you mean 'right'"):
        compared(scores, [RIGHT], wanted=("rigt",))


def test_reducers_are_compared_beside_the_mean() -> None:
    design = Design(reducers=(parse_reducer("mean"), parse_reducer("pass_at_1")))
    scores = {name: {"right": [1.0, 0.0], "tox": [0.1, 0.6]} for name in "xy"}
    comparison = compared(scores, [RIGHT, TOXIC], design=design)
    assert [(metric.name, metric.aggregate, metric.reducer) for metric in comparison.metrics] == [
        ("right/v1", "mean", "mean"),
        ("right/v1/pass_at_1", "mean", "pass_at_1"),
        ("tox/v1/mean", "mean", "mean"),
        ("tox/v1/pass_at_1", "mean", "pass_at_1"),
    ]
    assert comparison.family == 4


def test_scorers_without_a_comparable_aggregate_are_named_unless_metrics_are_chosen() -> None:
    scores = {name: {"right": [1.0, 0.0], "speed": [3.0, 5.0]} for name in "xy"}
    note = "speed/v1 is not compared: p90, p50 cannot be compared in pairs; the mean can"
    assert note in compared(scores, [RIGHT, SPEED]).notes
    assert note not in compared(scores, [RIGHT, SPEED], wanted=("right",)).notes


def test_samples_that_differ_most_count_each_metric_by_its_seen_range() -> None:
    wide = Measure("grade", Declaration(low=0.0, high=100.0))
    scores = {
        "x": {"graded": [0.5, 0.5, 0.0, 1.0], "grade": [50.0, 90.0, 50.0, 50.0]},
        "y": {"graded": [0.5, 0.5, 1.0, 0.5], "grade": [50.0, 40.0, 50.0, 49.0]},
        "z": {"graded": [0.5, 0.5, 0.5, 0.5], "grade": [50.0, 60.0, 40.0, 50.0]},
    }
    assert compared(scores, [GRADED, wide]).most_different == (2, 1, 3)  # 1 + 10/50, 1, 1/2 + 1/50
    assert compared(scores, [GRADED, wide], wanted=("graded",)).most_different == (2, 3)


def test_equally_different_samples_keep_the_order_of_the_dataset_up_to_a_limit() -> None:
    many = MAX_DISAGREEING_SAMPLES + 20
    scores = {"x": {"right": [1.0] * many}, "y": {"right": [0.0] * many}}
    assert compared(scores, [RIGHT]).most_different == tuple(range(MAX_DISAGREEING_SAMPLES))
    equal = {"x": {"right": [1.0, 1.0]}, "y": {"right": [1.0, 1.0]}}
    assert compared(equal, [RIGHT]).most_different == ()


def test_a_sample_scored_by_one_candidate_alone_does_not_differ() -> None:
    scores = {"x": {"graded": [0.0, 1.0, None]}, "y": {"graded": [None, 1.0, 0.2]}}
    assert compared(scores, [GRADED]).most_different == ()


def test_costs_have_no_pairs_for_quantiles_and_stay_out_of_the_family() -> None:
    scores = {name: {"right": [1.0, 0.0] * 20} for name in "xyz"}
    comparison = compared(scores, [RIGHT], latency={"x": 1.0, "y": 2.0, "z": 4.0})
    by_name = {metric.name: metric for metric in comparison.costs}
    assert list(by_name) == ["latency/mean", "latency/p50", "latency/p90", "token_count/mean"]
    assert [len(by_name[name].pairs) for name in by_name] == [3, 0, 0, 3]
    assert [by_name["latency/p90"].values[name].value for name in "xyz"] == [1.0, 2.0, 4.0]
    assert (by_name["latency/p50"].aggregate, by_name["latency/mean"].aggregate) == ("p50", "mean")
    assert comparison.family == 3


def test_costs_without_values_are_left_out() -> None:
    scores = {name: {"right": [1.0, 0.0]} for name in "xy"}
    assert [metric.name for metric in compared(scores, [RIGHT]).costs] == ["token_count/mean"]
    assert compared(scores, [RIGHT]).pareto_fronts == ()


def test_cached_answers_are_not_cheap_and_have_no_latency() -> None:
    scores = {"kept": {"right": [1.0, 0.0]}, "paid": {"right": [1.0, 1.0]}}
    rows = [
        dataclasses.replace(
            row, answer=dataclasses.replace(row.answer, cost_usd=0.0 if row.target == "kept" else 0.5,
                                            cached=row.target == "kept"),
        )
        for row in rows_of(scores, latency={"paid": 1.0})
    ]  # fmt: skip
    fronts = {front.against: front for front in compared_rows(rows, list(scores), [RIGHT]).pareto_fronts}
    assert fronts["cost_usd/mean"].missing == ("kept",)
    live = [
        dataclasses.replace(row, answer=dataclasses.replace(row.answer, cached=False, latency_s=1.0)) for row in rows
    ]
    comparison = compared_rows(live, list(scores), [RIGHT])
    assert {front.against: front.missing for front in comparison.pareto_fronts} == {
        "cost_usd/mean": (),
        "latency/p50": (),
    }
    assert not any("cached" in note for note in comparison.notes)


def test_slices_are_sorted_by_text_and_leave_out_those_without_scores() -> None:
    topics = [{"topic": topic} for topic in ("law", "art", "law", "sun")]
    scores = {"x": {"right": [1.0, 0.0, 1.0, None]}, "y": {"right": [0.0, 0.0, 1.0, None]}}
    comparison = compared(scores, [RIGHT], metadata=topics, design=Design(slices=("topic",)))
    assert [metric.slice for metric in comparison.slices] == [{"topic": "art"}, {"topic": "law"}]
    law = comparison.slices[1].pairs[0]
    assert (law.n, law.wins, law.ties) == (2, 1, 1)


# Rankings


def test_groups_are_split_at_each_sign() -> None:
    assert groups(["a", "b", "c", "d"], [">", "≈", ">"]) == [["a"], ["b", "c"], ["d"]]
    assert groups(["a"], []) == [["a"]]
    assert groups([], []) == []


def test_every_pair_that_differs_inside_a_group_is_named_with_the_better_first() -> None:
    result = rank({"a": 0.9, "b": 0.8, "c": 0.7}, [("a", "c"), ("c", "b")], higher_is_better=True)
    assert (result.signs, result.differing) == (("≈", "≈"), (("a", "c"), ("c", "b")))


def test_letters_go_on_after_the_alphabet() -> None:
    names = [f"n{place:02}" for place in range(54)]
    apart = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    letters = compact_letters(names, apart)
    assert [letters[name] for name in names] == [*string.ascii_letters, "(52)", "(53)"]


@pytest.mark.parametrize(
    ("ends", "members"),
    [
        ({}, ("a",)),
        ({"b": (0.7, 0.8)}, ("a",)),  # at best as good as a
        ({"b": (0.7, 0.81)}, ("a", "b")),
        ({"a": (0.7, 0.9)}, ("a",)),
        ({"a": (0.69, 0.9)}, ("a", "b")),
    ],
)
def test_a_candidate_leaves_the_front_only_if_it_is_dominated_at_its_best(
    ends: dict[str, tuple[float, float]], members: tuple[str, ...]
) -> None:
    quality, cost = {"a": 0.8, "b": 0.7}, {"a": 1.0, "b": 1.0}
    front = pareto_front(("q", quality), ("cost", cost), higher_is_better=True, ends=ends)
    assert front is not None and front.members == members
    turned = {name: (-worst, -best) for name, (worst, best) in ends.items()}
    lower = pareto_front(
        ("q", {name: -value for name, value in quality.items()}), ("cost", cost), higher_is_better=False, ends=turned
    )
    assert lower is not None and lower.members == members


def test_equal_candidates_are_both_on_the_front() -> None:
    front = pareto_front(("q", {"a": 0.8, "b": 0.8, "c": None}), ("cost", {"a": 1.0, "b": 1.0}), higher_is_better=True)
    assert front is not None
    assert (front.members, front.missing) == (("a", "b"), ("c",))


def test_a_better_candidate_is_named_by_the_direction_of_the_metric() -> None:
    few, many = [1.0] * 5 + [0.0] * 95, [1.0] * 60 + [0.0] * 40
    harm = compared({"x": {"harm": few}, "y": {"harm": many}}, [HARM]).metrics[0].pairs[0]
    right = compared({"x": {"right": few}, "y": {"right": many}}, [RIGHT]).metrics[0].pairs[0]
    assert (harm.better, right.better, harm.worse, right.worse) == ("x", "y", "y", "x")
    assert (harm.better_scored, right.better_scored, harm.samples_to_decide) == ("x", "y", None)
    even = compared({"x": {"right": few}, "y": {"right": few}}, [RIGHT]).metrics[0].pairs[0]
    assert (even.better, even.p_adjusted, even.samples_to_decide) == (None, 1.0, None)
