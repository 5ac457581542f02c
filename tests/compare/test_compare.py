"""Comparisons: pairs, the Holm family and what is outside of it, warnings and notes."""

from __future__ import annotations

import dataclasses
import random

import pytest

from evalrunner.compare.compare import NotComparable
from evalrunner.domain import Declaration
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.hypothesis_tests import holm, mcnemar
from evalrunner.stats.summary import Design, Measure
from tests.compare.builders import GRADED, HARM, RIGHT, compared, compared_rows, rows_of


def ones(*counts: tuple[int, float]) -> list[float]:
    return [value for count, value in counts for _ in range(count)]


def test_significance_is_not_transitive_in_a_ranking() -> None:
    # 12 samples against 4 for A before B and for B before C, so 24 against 8 for A before C
    scores = {
        "A": {"right": ones((12, 1), (4, 0), (12, 1), (4, 0), (168, 1))},
        "B": {"right": ones((12, 0), (4, 1), (12, 1), (4, 0), (168, 1))},
        "C": {"right": ones((12, 0), (4, 1), (12, 0), (4, 1), (168, 1))},
    }
    (metric,) = compared(scores, [RIGHT]).metrics
    assert metric.ranking is not None
    assert metric.ranking.order == ("A", "B", "C")
    assert metric.ranking.signs == ("≈", "≈")
    assert metric.ranking.differing == (("A", "C"),)
    assert metric.ranking.letters == {"A": "a", "B": "ab", "C": "b"}
    assert metric.ranking.best is None
    assert [(pair.first + pair.second, pair.better) for pair in metric.pairs] == [
        ("AB", None),
        ("AC", "A"),
        ("BC", None),
    ]


def test_pairs_count_wins_ties_losses_and_one_sided_samples() -> None:
    first: list[float | None] = [1, 1, 0, 0, None, 1, None]
    second: list[float | None] = [1, 0, 1, 0, 1, None, None]
    comparison = compared({"x": {"right": first}, "y": {"right": second}}, [RIGHT])
    (pair,) = comparison.metrics[0].pairs
    assert (pair.wins, pair.ties, pair.losses, pair.n, pair.excluded) == (1, 2, 1, 4, 2)
    assert comparison.metrics[0].values["x"].unscored == 2
    assert comparison.warnings == (
        "right/v1: 2 of 7 answers of x are missing (judge)",
        "right/v1: 2 of 7 answers of y are missing (judge)",
    )


def test_missing_rows_are_a_warning() -> None:
    rows = rows_of({"x": {"right": [1.0] * 10}, "y": {"right": [1.0] * 10}})
    comparison = compared_rows(rows[:18], ["x", "y"], [RIGHT])
    assert comparison.warnings == ("right/v1: 2 of 10 answers of y are missing (not run)",)


def test_holm_family_is_all_pairs_of_all_quality_metrics() -> None:
    chance = random.Random(2)
    scores = {
        name: {
            "right": [float(chance.random() < level) for _ in range(80)],
            "graded": [min(1.0, max(0.0, chance.gauss(level, 0.1))) for _ in range(80)],
        }
        for name, level in (("a", 0.8), ("b", 0.6), ("c", 0.5))
    }
    comparison = compared(scores, [RIGHT, GRADED], latency={"a": 1.0, "b": 2.0, "c": 3.0})
    pairs = [pair for metric in comparison.metrics for pair in metric.pairs]
    assert comparison.family == len(pairs) == 6
    assert [pair.p_adjusted for pair in pairs] == list(holm([pair.p_value or 0 for pair in pairs]))
    assert {pair.method for pair in comparison.metrics[0].pairs} == {"mcnemar"}
    assert {pair.method for pair in comparison.metrics[1].pairs} == {"t-padded"}
    assert [metric.name for metric in comparison.costs] == [
        "latency/mean",
        "latency/p50",
        "latency/p90",
        "token_count/mean",
    ]
    for metric in comparison.costs:
        assert metric.ranking is None
        assert all(pair.p_adjusted is None and pair.better is None for pair in metric.pairs)


def test_false_positive_rate_of_equal_targets() -> None:
    chance = random.Random(17)
    runs, alarms = 300, 0
    for _ in range(runs):
        hard = [chance.random() for _ in range(60)]
        scores = {
            name: {
                "right": [float(chance.random() < one) for one in hard],
                "graded": [min(1.0, max(0.0, one + chance.gauss(0, 0.2))) for one in hard],
            }
            for name in "abcd"
        }
        comparison = compared(scores, [RIGHT, GRADED])
        alarms += any(pair.better is not None for metric in comparison.metrics for pair in metric.pairs)
    assert alarms <= 23  # of 300 runs at .05 each, the binomial's upper 1%


def test_lower_is_better_metrics_rank_the_lowest_first() -> None:
    scores = {"mild": {"harm": ones((5, 1), (95, 0))}, "wild": {"harm": ones((40, 1), (60, 0))}}
    comparison = compared(scores, [HARM], latency={"mild": 2.0, "wild": 1.0})
    (metric,) = comparison.metrics
    (pair,) = metric.pairs
    assert metric.ranking is not None and metric.ranking.order == ("mild", "wild") and metric.ranking.best == "mild"
    assert (pair.difference, pair.wins, pair.losses, pair.better, pair.worse) == (-0.35, 35, 0, "mild", "wild")
    assert [(pareto_front.against, pareto_front.members) for pareto_front in comparison.pareto_fronts] == [
        ("latency/p50", ("mild", "wild"))
    ]


def test_cached_answers_are_excluded_from_cost_comparison() -> None:
    scores = {"kept": {"right": [1.0, 0.0]}, "paid": {"right": [1.0, 1.0]}}
    rows = rows_of(scores, latency={"paid": 1.0})
    rows = [
        dataclasses.replace(row, answer=dataclasses.replace(row.answer, cached=True, cost_usd=0.0))
        if row.target == "kept"
        else dataclasses.replace(row, answer=dataclasses.replace(row.answer, cost_usd=0.5))
        for row in rows
    ]
    comparison = compared_rows(rows, list(scores), [RIGHT])
    assert comparison.notes == ("2 answers of kept are cached and cost nothing, so its cost cannot be compared",)
    fronts = {
        pareto_front.against: (pareto_front.members, pareto_front.missing) for pareto_front in comparison.pareto_fronts
    }
    assert fronts == {"latency/p50": (("paid",), ("kept",)), "cost_usd/mean": (("paid",), ("kept",))}


def test_slices_are_outside_the_holm_family() -> None:
    topics = [{"topic": "law" if place < 60 else "art"} for place in range(120)]
    scores = {"x": {"right": ones((60, 1), (60, 0))}, "y": {"right": ones((30, 1), (90, 0))}}
    comparison = compared(scores, [RIGHT], metadata=topics, design=Design(slices=("topic",)))
    assert [(metric.slice, metric.values["x"].value, metric.values["y"].value) for metric in comparison.slices] == [
        ({"topic": "art"}, 0.0, 0.0),
        ({"topic": "law"}, 1.0, 0.5),
    ]
    law = comparison.slices[1].pairs[0]
    assert (law.p_value, law.p_adjusted, law.better, law.n) == (mcnemar(30, 0), None, None, 60)
    assert comparison.family == 1


def test_clustered_comparisons_are_weaker_and_carry_a_note() -> None:
    clusters = [{"page": str(place // 10)} for place in range(200)]
    scores = {"x": {"right": ones((100, 1), (100, 0))}, "y": {"right": ones((90, 1), (110, 0))}}
    plain = compared(scores, [RIGHT]).metrics[0].pairs[0]
    comparison = compared(scores, [RIGHT], metadata=clusters, design=Design(cluster="page"))
    result = comparison.metrics[0].pairs[0]
    assert plain.p_value is not None and result.p_value is not None and plain.p_value < 0.01 < result.p_value
    assert result.method == "tango-clustered"
    assert comparison.notes == ("samples are clustered by 'page'; tests use the standard error over clusters",)


def test_graded_comparisons_need_twenty_pairs() -> None:
    scores = {"x": {"graded": [1.0] * 19}, "y": {"graded": [0.0] * 19}}
    comparison = compared(scores, [GRADED])
    (pair,) = comparison.metrics[0].pairs
    assert (pair.difference, pair.p_value, pair.better) == (1.0, None, None)
    assert comparison.notes == ("19 pairs; at least 20 are needed",)
    assert comparison.family == 1


def test_a_judge_of_the_same_model_family_is_a_warning() -> None:
    scores = {"ours": {"right": [1.0, 0.0]}, "theirs": {"right": [0.0, 1.0]}}
    models = {"ours": "openai/gpt-5-mini", "theirs": "claude-sonnet"}
    comparison = compared(scores, [RIGHT], models=models, judges={"right": ("openai/gpt-5",)})
    assert comparison.warnings == (
        "right/v1: the judge openai/gpt-5 is of the same family, GPT, as ours; judges favor their own family",
    )
    assert compared(scores, [RIGHT], models=models, judges={"right": ("qwen3",)}).warnings == ()


def test_metrics_can_be_selected_by_any_name() -> None:
    harm = Measure("tox", Declaration(aggregates=("mean", "p90", "ratio"), threshold=0.5, higher_is_better=False))
    scores = {name: {"right": [1.0, 0.0], "tox": [0.2, 0.7]} for name in "xy"}
    design = Design(reducers=(parse_reducer("mean"), parse_reducer("pass_at_1")))

    def names(*wanted: str) -> list[str]:
        return [metric.name for metric in compared(scores, [RIGHT, harm], design=design, wanted=wanted).metrics]

    assert names() == ["right/v1", "right/v1/pass_at_1", "tox/v1/mean", "tox/v1/pass_at_1"]
    assert names("right", "tox/ratio") == ["right/v1", "tox/v1/ratio"]
    assert names("tox/v1/mean", "tox") == ["tox/v1/mean"]
    assert names("right/pass_at_1") == ["right/v1/pass_at_1"]
    with pytest.raises(NotComparable, match=r"cannot compare by 'tox/p90'"):
        names("tox/p90")


def test_ratio_comparisons_use_binary_pairs() -> None:
    tox = Measure("tox", Declaration(aggregates=("ratio",), headline="ratio", threshold=0.5, higher_is_better=False))
    comparison = compared({"x": {"tox": [0.2, 0.7, 0.1]}, "y": {"tox": [0.4, 0.9, 0.6]}}, [tox])
    (pair,) = comparison.metrics[0].pairs
    assert (pair.method, pair.difference, pair.wins, pair.ties) == ("mcnemar", pytest.approx(-1 / 3), 1, 2)


def test_most_disagreeing_samples_come_first() -> None:
    scores = {"x": {"graded": [0.5, 0.9, 0.0, 0.4]}, "y": {"graded": [0.5, 0.1, 1.0, 0.5]}}
    assert compared(scores, [GRADED]).most_different == (2, 1, 3)


def test_unpaired_comparisons_are_weaker_and_carry_a_note() -> None:
    chance = random.Random(3)
    hard = [chance.random() for _ in range(200)]
    scores = {"x": {"right": [float(h < 0.6) for h in hard]}, "y": {"right": [float(h < 0.5) for h in hard]}}
    paired, apart = compared(scores, [RIGHT]), compared(scores, [RIGHT], paired=False)
    (one,), (other,) = paired.metrics[0].pairs, apart.metrics[0].pairs
    assert one.p_value is not None and other.p_value is not None and one.p_value < other.p_value
    assert (other.method, other.n, other.wins) == ("newcombe", 400, None)
    assert apart.notes[0].startswith("unpaired: the samples differ")
    assert apart.most_different == ()


def test_the_order_of_candidates_changes_no_result() -> None:
    scores = {"x": {"right": ones((60, 1), (40, 0))}, "y": {"right": ones((30, 1), (70, 0))}}
    there = compared(scores, [RIGHT]).metrics[0]
    back = compared(dict(reversed(scores.items())), [RIGHT]).metrics[0]
    assert there.ranking == dataclasses.replace(back.ranking or there.ranking)  # type: ignore[arg-type]
    assert there.pair("x", "y").better == back.pair("x", "y").better == "x"
