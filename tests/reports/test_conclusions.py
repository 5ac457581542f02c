"""What a comparison shows, in sentences."""

from __future__ import annotations

import dataclasses

import pytest

from evalrunner.compare.compare import rank
from evalrunner.compare.result import Candidate, ComparedMetric, Comparison, Pair, ParetoFront
from evalrunner.domain import Metric
from evalrunner.reports.conclusions import conclusions, cost_conclusion, rounded_up, signed


def pair(
    first: str, second: str, better: str | None = None, *, samples: int | None = None, p: float | None = None
) -> Pair:
    return Pair(
        first=first, second=second, difference=0.1, low=0.0, high=0.2, p_value=p or 0.5, p_missing=p or 0.5,
        p_adjusted=p or 0.5, better=better, better_scored=better, samples_to_decide=samples,
    )  # fmt: skip


def metric(*pairs: Pair, **values: float) -> ComparedMetric:
    numbers = {name: Metric(name="m", scorer="m", aggregate="mean", value=value, n=9) for name, value in values.items()}
    better = [(each.better, each.worse) for each in pairs if each.better is not None and each.worse is not None]
    return ComparedMetric(
        name="m", scorer="m", aggregate="mean", reducer="mean", unit=None, higher_is_better=True, values=numbers,
        pairs=pairs, ranking=rank(values, better, higher_is_better=True),
    )  # fmt: skip


def test_a_single_pair_has_its_difference() -> None:
    assert list(conclusions(metric(pair("a", "b", "a", p=0.0004), a=0.9, b=0.8))) == ["a beats b (+0.10, p < 0.001)."]
    assert list(conclusions(metric(pair("a", "b", "b", p=0.02), a=0.8, b=0.9))) == ["b beats a (-0.10, p = 0.020)."]


def test_targets_that_beat_the_same_ones_share_a_sentence() -> None:
    three = metric(pair("a", "b"), pair("a", "c", "a"), pair("b", "c", "b"), a=0.9, b=0.8, c=0.1)
    assert list(conclusions(three)) == ["a and b beat c.", "Too close to call: a vs b."]
    chain = metric(pair("a", "b", "a"), pair("a", "c", "a"), pair("b", "c", "b"), a=0.9, b=0.5, c=0.1)
    assert list(conclusions(chain)) == ["a beats b and c. b beats c (+0.10, p = 0.500)."]


def test_the_number_of_samples_covers_all_close_pairs_or_names_one() -> None:
    both = metric(pair("a", "b", samples=312), pair("b", "c", samples=4021), a=0.9, b=0.8, c=0.7)
    assert list(conclusions(both)) == ["Too close to call: a vs b, b vs c. About 4,100 samples would decide."]
    one = metric(pair("a", "b", samples=312), pair("b", "c"), a=0.9, b=0.8, c=0.7)
    assert list(conclusions(one)) == ["Too close to call: a vs b, b vs c. About 320 samples would decide a vs b."]
    close = [pair(f"t{n}", "z") for n in range(9)]
    values = {f"t{n}": 0.5 for n in range(9)}
    many = metric(*close, pair("t9", "z", "t9"), **values, t9=0.9, z=0.5)
    assert list(conclusions(many))[1].endswith("t5 vs z and 3 more pairs.")
    assert list(conclusions(metric(*close, **values, z=0.5))) == ["Too close to call: all 9 pairs."]


def test_the_number_of_samples_stands_beside_close_pairs() -> None:
    sized = dataclasses.replace(pair("a", "b"), n=120)
    assert list(conclusions(metric(sized, a=0.9, b=0.8))) == ["Too close to call (120 samples): a vs b."]


def test_a_pair_that_missing_answers_could_reverse_is_neither_a_win_nor_close() -> None:
    doubtful = dataclasses.replace(
        pair("a", "b"), better_scored="a", missing="40 of 1,000 answers of a are missing (provider: timeout)"
    )
    assert list(conclusions(metric(doubtful, a=0.9, b=0.8))) == [
        "a vs b: not conclusive: 40 of 1,000 answers of a are missing (provider: timeout) and could reverse it."
    ]


def test_many_doubtful_pairs_are_counted() -> None:
    pairs = [dataclasses.replace(pair("a", f"t{n}"), better_scored="a", missing="x") for n in range(9)]
    lines = list(conclusions(metric(*pairs, a=0.9, **{f"t{n}": 0.5 for n in range(9)})))
    assert len(lines) == 7
    assert lines[-1] == "3 more pairs are not conclusive: missing answers could reverse them."


def test_pairs_without_a_test_are_not_called_close() -> None:
    untested = dataclasses.replace(pair("a", "b"), p_value=None, p_missing=None, p_adjusted=None)
    assert list(conclusions(metric(untested, a=0.9, b=0.8))) == []


def costs(usd: dict[str, float], seconds: dict[str, float], *, cached: tuple[str, ...] = ()) -> Comparison:
    groups = [
        dataclasses.replace(metric(**values), name=name) for name, values in (("cost_usd/mean", usd), ("latency/p50", seconds))
    ]  # fmt: skip
    front = ParetoFront(quality="m", against="cost_usd/mean", members=(), missing=cached)
    candidates = tuple(Candidate(name=name, target=name) for name in usd)
    return Comparison(candidates=candidates, metrics=(), costs=tuple(groups), pareto_fronts=(front,))


@pytest.mark.parametrize(
    ("usd", "seconds", "sentence"),
    [
        ({"a": 0.007, "b": 0.0001}, {"a": 0.5, "b": 0.1}, "b is 70× cheaper than a and 5× faster."),
        ({"a": 0.007, "b": 0.0001}, {"a": 0.1, "b": 0.25}, "b is 70× cheaper than a. a is 2.5× faster than b."),
        ({"a": 0.001, "b": 0.0011}, {"a": 0.1, "b": 0.11}, None),
        ({"a": 0.001, "b": 0.0}, {"a": 0.2, "b": 0.1}, "b is 2× faster than a."),
    ],
)
def test_cost_and_latency_are_compared_by_their_extremes(
    usd: dict[str, float], seconds: dict[str, float], sentence: str | None
) -> None:
    assert cost_conclusion(costs(usd, seconds)) == sentence


def test_cached_answers_do_not_make_a_target_cheap() -> None:
    usd = {"a": 0.007, "b": 0.0001, "c": 0.002}
    assert cost_conclusion(costs(usd, {"a": 1.0, "b": 1.0, "c": 1.0}, cached=("b",))) == "c is 3.5× cheaper than a."


def test_numbers_have_two_digits() -> None:
    assert [rounded_up(count) for count in (7, 99, 312, 4021, 10_000)] == [7, 99, 320, 4100, 10_000]
    assert [signed(value) for value in (0.2345, -0.0432, 0.0052, 12.5, 0.0)] == [
        "+0.23", "-0.043", "+0.0052", "+12.50", "+0.00",
    ]  # fmt: skip
