"""A candidate is better only if it is better for every way to fill in what is missing."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import pytest

from evalrunner.compare.compare import pareto_front
from evalrunner.compare.pairs import CandidateScores, Scale, pair_scores, samples_to_separate, unpaired_scores
from evalrunner.compare.result import Comparison, Pair
from evalrunner.domain import Cell, Declaration
from evalrunner.stats.aggregates import parse_reducer
from evalrunner.stats.hypothesis_tests import holm, mcnemar, paired_difference, two_sample_difference
from evalrunner.stats.summary import Design, Measure, Population, summarize
from tests.compare.builders import (
    FAILED,
    GRADED,
    HARM,
    NO_ANSWER,
    RIGHT,
    SKIPPED,
    compared,
    compared_rows,
    rows_of,
)  # fmt: skip


def runs(*counts: tuple[int, float | Cell | None]) -> list[float | Cell | None]:
    return [value for count, value in counts for _ in range(count)]


def only_pair(comparison: Comparison) -> Pair:
    return comparison.metrics[0].pairs[0]


# 30 samples that only x gets right, 10 that only y does, and 60 that both do
WINS = {"x": runs((30, 1.0), (10, 0.0), (60, 1.0)), "y": runs((30, 0.0), (10, 1.0), (60, 1.0))}


def right(x: Sequence[float | Cell | None], y: Sequence[float | Cell | None]) -> dict[str, Any]:
    return {"x": {"right": x}, "y": {"right": y}}


def test_nothing_missing_leaves_the_p_value_as_it_is() -> None:
    pair = only_pair(compared(right(WINS["x"], WINS["y"]), [RIGHT]))
    assert pair.p_value == pair.p_missing == pair.p_adjusted == mcnemar(30, 10)
    assert (pair.better, pair.better_scored, pair.missing, pair.doubt) == ("x", "x", None, None)


def test_missing_answers_of_the_winner_count_as_wrong() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[FAILED] * 8], [*WINS["y"], *[1.0] * 8]), [RIGHT]))
    assert pair.p_value == mcnemar(30, 10)
    assert pair.p_missing == mcnemar(30, 18)
    assert (pair.better, pair.better_scored, pair.excluded) == (None, "x", 8)
    assert pair.doubt == (
        "x vs y: not conclusive: 8 of 108 answers of x are missing (provider: timeout) and could reverse it"
    )


def test_missing_answers_of_the_loser_count_as_right() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[0.0] * 8], [*WINS["y"], *[None] * 8]), [RIGHT]))
    assert pair.p_missing == mcnemar(30, 18)
    assert pair.doubt == "x vs y: not conclusive: 8 of 108 answers of y are missing (judge) and could reverse it"


def test_the_second_candidate_can_be_the_winner() -> None:
    pair = only_pair(compared(right([*WINS["y"], *[0.0] * 8], [*WINS["x"], *[None] * 8]), [RIGHT]))
    assert (pair.better, pair.better_scored, pair.p_missing) == ("y", "y", mcnemar(10, 30))
    pair = only_pair(compared(right([*WINS["y"], *[1.0] * 8], [*WINS["x"], *[None] * 8]), [RIGHT]))
    assert (pair.better, pair.p_missing) == (None, mcnemar(18, 30))


def test_samples_missing_on_both_sides_are_filled_against_the_winner() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[FAILED] * 8], [*WINS["y"], *[FAILED] * 8]), [RIGHT]))
    assert (pair.p_missing, pair.excluded) == (mcnemar(30, 18), 0)
    assert pair.missing == (
        "8 of 108 answers of x (provider: timeout) and 8 of 108 answers of y (provider: timeout) are missing"
    )


def test_few_missing_answers_do_not_prevent_a_better_candidate() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[FAILED] * 2], [*WINS["y"], *[1.0] * 2]), [RIGHT]))
    assert pair.p_missing == pair.p_adjusted == mcnemar(30, 12)
    assert (pair.better, pair.doubt) == ("x", None)
    assert pair.missing == "2 of 102 answers of x are missing (provider: timeout)"


def test_p_is_one_if_missing_answers_turn_the_difference_around() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[FAILED] * 60], [*WINS["y"], *[1.0] * 60]), [RIGHT]))
    assert (pair.p_missing, pair.p_adjusted, pair.better) == (1.0, 1.0, None)


def test_an_answer_that_the_model_did_not_give_is_never_right() -> None:
    """The loser's refusals are left out at best, so they cannot reverse the difference; the winner's count as wrong."""
    pair = only_pair(compared(right([*WINS["x"], *[0.0] * 30], [*WINS["y"], *[NO_ANSWER] * 30]), [RIGHT]))
    assert (pair.p_missing, pair.better) == (mcnemar(30, 10), "x")
    pair = only_pair(compared(right([*WINS["x"], *[NO_ANSWER] * 8], [*WINS["y"], *[1.0] * 8]), [RIGHT]))
    assert (pair.p_missing, pair.better) == (mcnemar(30, 18), None)
    assert pair.missing == "8 of 108 answers of x are missing (model: refused)"


def test_a_sample_skipped_on_one_side_only_is_missing_there() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[SKIPPED] * 8], [*WINS["y"], *[1.0] * 8]), [RIGHT]))
    assert (pair.p_missing, pair.better) == (mcnemar(30, 18), None)
    assert pair.missing == "8 of 108 answers of x are missing (skipped here only)"


def test_samples_skipped_on_both_sides_are_out() -> None:
    pair = only_pair(compared(right([*WINS["x"], *[SKIPPED] * 80], [*WINS["y"], *[SKIPPED] * 80]), [RIGHT]))
    assert (pair.p_missing, pair.better, pair.missing) == (mcnemar(30, 10), "x", None)


def test_rows_that_did_not_run_are_missing() -> None:
    scores = right([*WINS["x"], *[1.0] * 8], [*WINS["y"], *[1.0] * 8])
    rows = [row for row in rows_of(scores) if row.target == "y" or row.sample.index < 100]
    comparison = compared_rows(rows, ["x", "y"], [RIGHT])
    assert only_pair(comparison).p_missing == mcnemar(30, 18)
    assert comparison.warnings == ("right/v1: 8 of 108 answers of x are missing (not run)",)


def test_samples_that_no_candidate_was_asked_are_missing_on_both_sides() -> None:
    from evalrunner.compare.compare import compare
    from evalrunner.compare.result import Candidate

    summary = summarize(rows_of(right(WINS["x"], WINS["y"])), [RIGHT], ["x", "y"])
    summary.population = Population(None, {}, count=108)
    known = {name: summary.all_metrics(name) for name in "xy"}
    comparison = compare(summary, [Candidate(name=name, target=name) for name in "xy"], known)
    assert only_pair(comparison).p_missing == mcnemar(30, 18)
    assert comparison.warnings[0] == "right/v1: 8 of 108 answers of x are missing (not run)"


def test_lower_is_better_metrics_are_filled_the_other_way_around() -> None:
    scores = {"x": {"harm": [*WINS["y"], *[FAILED] * 8]}, "y": {"harm": [*WINS["x"], *[0.0] * 8]}}
    pair = only_pair(compared(scores, [HARM]))
    assert (pair.better_scored, pair.p_missing, pair.better) == ("x", mcnemar(18, 30), None)


def test_a_missing_epoch_counts_as_an_answer_and_moves_the_mean_of_its_sample() -> None:
    first = rows_of({"x": {"right": [1.0] * 30 + [0.0] * 10}, "y": {"right": [0.0] * 30 + [1.0] * 10}})
    second = rows_of({"x": {"right": [1.0] * 30 + [FAILED] * 10}, "y": {"right": [0.0] * 30 + [1.0] * 10}}, epoch=2)
    comparison = compared_rows([*first, *second], ["x", "y"], [RIGHT], epochs=2)
    pair = only_pair(comparison)
    assert comparison.warnings == ("right/v1: 10 of 80 answers of x are missing (provider: timeout)",)
    assert (pair.n, pair.excluded) == (40, 0)  # every sample has a score
    assert pair.p_value is not None and pair.p_missing is not None and pair.p_missing >= pair.p_value
    drops = [1.0] * 30 + [-1.0] * 10  # at their worst as they were scored
    assert pair.p_missing == max(
        paired_difference(each, span=1.0).p_value or 1.0
        for each in (drops, [1.0] * 30 + [-0.5] * 10)
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_no_filling_of_graded_scores_has_a_larger_p_value(seed: int) -> None:
    """Against every combination of both ends, a superset of what any filling can do."""
    chance = random.Random(seed)
    n, missing = 40, 7
    base = [chance.uniform(0.2, 0.7) for _ in range(n)]
    gap = chance.choice([0.05, 0.1, 0.2])
    noise = chance.choice([0.01, 0.1])
    first = {place: min(1.0, max(0.0, value + gap + chance.gauss(0, noise))) for place, value in enumerate(base)}
    second = dict(enumerate(base))
    lost = chance.sample(range(n), missing)
    ahead = CandidateScores(
        {place: value for place, value in first.items() if place not in lost[:4]},
        dict.fromkeys(lost[:4], 0.0), dict.fromkeys(lost[:4], 1.0), dict.fromkeys(lost[:4], 1),
    )  # fmt: skip
    behind = CandidateScores(
        {place: value for place, value in second.items() if place not in lost[4:]},
        dict.fromkeys(lost[4:], 0.0), dict.fromkeys(lost[4:], 1.0), dict.fromkeys(lost[4:], 1),
    )  # fmt: skip
    pair = pair_scores(("a", "b"), ahead, behind, Scale(binary=False, low=0.0, high=1.0, higher_is_better=True))
    assert pair.p_value is not None and pair.p_missing is not None
    largest = pair.p_value
    for ends in itertools.product((0.0, 1.0), repeat=missing):
        one, other = (
            {**first, **dict(zip(lost[:4], ends, strict=False))},
            {**second, **dict(zip(lost[4:], ends[4:], strict=True))},
        )
        result = paired_difference([one[place] - other[place] for place in range(n)], span=1.0)
        assert result.p_value is not None and result.estimate is not None
        largest = max(largest, result.p_value if result.estimate > 0 else 1.0)
    assert largest * 0.98 <= pair.p_missing <= largest * (1 + 1e-9)


def test_a_filling_with_both_ends_can_be_the_worst_one() -> None:
    """Steady small gains: some scores far above them hide the difference more than all at their lower end."""
    steady = {place: 0.52 if place % 2 else 0.51 for place in range(300)}
    lost = range(300, 320)
    ahead = CandidateScores(steady, dict.fromkeys(lost, 0.49), dict.fromkeys(lost, 1.0), dict.fromkeys(lost, 1))
    behind = CandidateScores(dict.fromkeys(range(320), 0.5), {}, {}, {})
    scale = Scale(binary=False, low=0.49, high=1.0, higher_is_better=True)
    pair = pair_scores(("a", "b"), ahead, behind, scale)
    gains = [value - 0.5 for value in steady.values()]
    fillings = [[*gains, *[0.49 - 0.5] * (20 - high), *[0.5] * high] for high in range(21)]
    p_values = [paired_difference(filling, span=scale.span()).p_value or 0.0 for filling in fillings]
    assert pair.p_missing == pytest.approx(max(p_values), rel=1e-9)
    assert max(p_values) > 20 * max(p_values[0], p_values[20])


@pytest.mark.parametrize("binary", [True, False])
def test_clustered_pairs_stay_clustered_when_they_are_filled(binary: bool) -> None:
    clusters = [{"page": str(place // 10)} for place in range(200)]
    name, measure = ("right", RIGHT) if binary else ("graded", GRADED)
    first, second = runs((70, 1.0), (110, 0.0), (20, FAILED)), runs((20, 1.0), (180, 0.0))
    scores = {"x": {name: first}, "y": {name: second}}
    pair = only_pair(compared(scores, [measure], metadata=clusters, design=Design(cluster="page")))
    codes = [place // 10 for place in range(200)]
    gains = [1.0 if 20 <= place < 70 else 0.0 for place in range(200)]
    span = None if binary else 1.0
    filled = [paired_difference(gains[:180] + [end] * 20, span=span, clusters=codes) for end in (0.0, 1.0)]
    alone = paired_difference(gains[:180], span=span, clusters=codes[:180])
    assert pair.p_value == alone.p_value
    assert pair.p_missing is not None
    assert pair.p_missing >= max(result.p_value or 0.0 for result in (*filled, alone))
    unrelated = only_pair(compared(scores, [measure]))
    assert unrelated.p_missing is not None and pair.p_missing > 10 * unrelated.p_missing


def test_unpaired_sides_are_filled_against_the_winner() -> None:
    scores = right(runs((139, 1.0), (55, 0.0), (6, FAILED)), runs((115, 1.0), (79, 0.0), (6, FAILED)))
    pair = only_pair(compared(scores, [RIGHT], paired=False))
    observed = two_sample_difference([1.0] * 139 + [0.0] * 55, [1.0] * 115 + [0.0] * 79)
    filled = two_sample_difference([1.0] * 139 + [0.0] * 61, [1.0] * 121 + [0.0] * 79)
    assert (pair.p_value, pair.p_missing) == (observed.p_value, filled.p_value)
    assert pair.p_value is not None and pair.p_missing is not None and pair.p_value < 0.05 <= pair.p_missing
    assert (pair.better, pair.better_scored) == (None, "x")
    refused = right(runs((139, 1.0), (61, 0.0)), runs((115, 1.0), (79, 0.0), (6, NO_ANSWER)))
    assert only_pair(compared(refused, [RIGHT], paired=False)).better == "x"


def test_unpaired_graded_sides_are_tried_at_both_ends() -> None:
    scale = Scale(binary=False, low=0.0, high=1.0, higher_is_better=True)
    ahead = CandidateScores(dict.fromkeys(range(50), 0.1), {50: 0.0}, {50: 1.0}, {50: 1})
    behind = CandidateScores(dict.fromkeys(range(100, 150), 0.0), {}, {}, {})
    pair = unpaired_scores(("a", "b"), ahead, behind, scale)
    ends = [two_sample_difference([0.1] * 50 + [end], [0.0] * 50, span=1.0).p_value for end in (0.0, 1.0)]
    assert pair.p_missing == max(filter(None, [pair.p_value, *ends]))


OPEN = Measure("words", Declaration(low=None, high=None))
HALF_OPEN = Measure("words", Declaration(low=0.0, high=None))


@pytest.mark.parametrize("measure", [OPEN, HALF_OPEN])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("missing", "better"), [(0, "x"), (5, "x"), (6, None)])
def test_a_metric_without_bounds_needs_95_percent_of_the_answers(
    missing: int, better: str | None, measure: Measure, paired: bool
) -> None:
    chance = random.Random(1)
    second = [chance.gauss(10, 1) for _ in range(100)]
    first: list[float | Cell | None] = [value + chance.gauss(2, 1) for value in second]
    first[:missing] = [FAILED] * missing
    comparison = compared({"x": {"words": first}, "y": {"words": second}}, [measure], paired=paired)
    pair = only_pair(comparison)
    assert (pair.better_scored, pair.better) == ("x", better)
    assert pair.p_missing == (pair.p_value if better else 1.0)
    assert bool(comparison.warnings) == bool(missing)  # said in any case
    note = "words/v1/mean has no bounds: with over 5% of the answers missing nothing is significant"
    assert (note in comparison.notes) == (better is None)


def test_an_open_range_is_tested_with_the_width_of_the_observed_scores() -> None:
    first, second = [5.0 + place % 3 for place in range(30)], [4.0 + place % 5 / 2 for place in range(30)]
    pair = only_pair(compared({"x": {"words": first}, "y": {"words": second}}, [OPEN]))
    assert pair.p_value == paired_difference([a - b for a, b in zip(first, second, strict=True)], span=3.0).p_value


def test_graded_scores_of_which_lower_is_better_are_mirrored() -> None:
    lower = Measure("graded", Declaration(higher_is_better=False))
    chance = random.Random(8)
    first = [chance.uniform(0.4, 0.9) for _ in range(80)]
    second = [value - chance.uniform(0.0, 0.2) for value in first]
    lost = {3, 40, 41}
    for values in (first, second):
        values[10:12] = [0.5, 0.5]
    scores = [[FAILED if place in lost else value for place, value in enumerate(first)], second]
    mirrored = [[value if isinstance(value, Cell) else 1.0 - value for value in values] for values in scores]
    one = only_pair(compared({name: {"graded": values} for name, values in zip("xy", scores, strict=True)}, [GRADED]))
    other = only_pair(
        compared({name: {"graded": values} for name, values in zip("xy", mirrored, strict=True)}, [lower])
    )
    assert one.better == other.better == "x"
    assert one.p_missing == pytest.approx(other.p_missing, rel=1e-9)
    assert one.p_value is not None and one.p_missing is not None and one.p_missing > 10 * one.p_value


def test_holm_is_over_the_p_values_with_missing_scores() -> None:
    chance = random.Random(5)
    scores = {
        name: {"right": [float(chance.random() < level) if chance.random() > 0.02 else FAILED for _ in range(200)]}
        for name, level in (("a", 0.8), ("b", 0.6), ("c", 0.5))
    }
    pairs = compared(scores, [RIGHT]).metrics[0].pairs
    assert [pair.p_adjusted for pair in pairs] == list(holm([pair.p_missing or 0.0 for pair in pairs]))
    alone = holm([pair.p_value or 0.0 for pair in pairs])
    assert [pair.better_scored is not None for pair in pairs] == [p < 0.05 for p in alone]
    assert all(pair.better in (None, pair.better_scored) for pair in pairs)


def test_ranking_and_letters_follow_the_verdict_with_missing_scores() -> None:
    scores = right([*WINS["x"], *[FAILED] * 8], [*WINS["y"], *[1.0] * 8])
    metric = compared(scores, [RIGHT]).metrics[0]
    assert metric.ranking is not None
    assert (metric.ranking.signs, metric.ranking.best, metric.ranking.letters) == (("≈",), None, {"x": "a", "y": "a"})


def test_slices_mark_p_values_that_do_not_hold_with_missing_scores() -> None:
    topics = [{"topic": "law"}] * 108 + [{"topic": "art"}] * 108
    x, y = [*WINS["x"], *[FAILED] * 8], [*WINS["y"], *[1.0] * 8]
    whole = [*WINS["x"], *[1.0] * 8]
    comparison = compared(right([*x, *whole], [*y, *y]), [RIGHT], metadata=topics, design=Design(slices=("topic",)))
    art, law = (metric.pairs[0] for metric in comparison.slices)
    assert (art.p_value, art.p_missing, art.depends_on_missing) == (mcnemar(30, 10), mcnemar(30, 10), False)
    assert (law.p_value, law.p_missing, law.depends_on_missing) == (mcnemar(30, 10), mcnemar(30, 18), True)
    assert law.p_adjusted is None and law.better is None
    assert law.missing == "8 of 108 answers of x are missing (provider: timeout)"


def test_a_candidate_is_dominated_only_if_it_is_for_every_filling() -> None:
    quality, cost = {"a": 0.8, "b": 0.7}, {"a": 1.0, "b": 2.0}

    def members(**ends: tuple[float, float]) -> tuple[str, ...]:
        front = pareto_front(("q", quality), ("cost", cost), higher_is_better=True, ends=ends)
        assert front is not None
        return front.members

    assert members() == ("a",)
    assert members(a=(0.75, 0.85)) == ("a",)
    assert members(a=(0.65, 0.85)) == ("a", "b")
    assert members(b=(0.6, 0.81)) == ("a", "b")


def test_pareto_optimality_of_a_comparison_counts_missing_scores() -> None:
    scores = right([*WINS["x"], *[FAILED] * 40], [*WINS["y"], *[1.0] * 40])
    (front,) = compared(scores, [RIGHT], latency={"x": 1.0, "y": 2.0}).pareto_fronts
    assert front.members == ("x", "y")


def test_scorers_with_only_quantiles_are_named_as_not_compared() -> None:
    tail = Measure("tail", Declaration(aggregates=("p50", "p90"), headline="p90"))
    comparison = compared({name: {"right": [1.0, 0.0], "tail": [0.1, 0.2]} for name in "xy"}, [RIGHT, tail])
    assert [metric.name for metric in comparison.metrics] == ["right/v1"]
    assert comparison.notes == ("tail/v1 is not compared: p50, p90 cannot be compared in pairs; the mean can",)


def test_a_comparison_is_read_back_from_json_as_it_was() -> None:
    scores = right([*WINS["x"], *[FAILED] * 8], [*WINS["y"], *[1.0] * 8])
    comparison = compared(scores, [RIGHT])
    again = Comparison.from_json(comparison.to_json())
    assert again.metrics[0].pairs == comparison.metrics[0].pairs
    assert again.metrics[0].pairs[0].doubt is not None


def test_ratios_fill_with_the_sides_of_the_threshold() -> None:
    toxic = Measure("tox", Declaration(aggregates=("ratio",), headline="ratio", threshold=0.5, higher_is_better=False))
    low, high = 0.1, 0.9
    first = [low if value == 1.0 else high for value in WINS["x"]]
    second = [low if value == 1.0 else high for value in WINS["y"]]
    scores = {"x": {"tox": [*first, *[FAILED] * 8]}, "y": {"tox": [*second, *[low] * 8]}}
    assert only_pair(compared(scores, [toxic])).p_missing == mcnemar(18, 30)


@pytest.mark.parametrize(("wins", "losses", "n"), [(15, 8, 100), (40, 30, 200)])
def test_samples_to_separate_a_pair_have_80_percent_power(wins: int, losses: int, n: int) -> None:
    pair = only_pair(compared(right(runs((wins, 1.0), (losses, 0.0), (n - wins - losses, 1.0)),
                                    runs((wins, 0.0), (losses, 1.0), (n - wins - losses, 1.0))), [RIGHT]))  # fmt: skip
    assert pair.better_scored is None
    count = samples_to_separate(pair, 0.05, paired=True)
    assert pair.samples_to_decide == count is not None
    numpy = pytest.importorskip("numpy")
    draws = numpy.random.default_rng(7).multinomial(count, [wins / n, losses / n, 1 - (wins + losses) / n], 1500)
    found = sum(b > c and mcnemar(int(b), int(c)) < 0.05 for b, c, _ in draws)
    assert 0.74 < found / 1500 < 0.84  # the exact test is a little conservative


def test_the_number_of_samples_follows_the_error_and_the_level() -> None:
    """((z_{1−α/2} + z_.8)·s/d)² times the samples."""
    z = NormalDist().inv_cdf

    def expected(pair: Pair, error: float, n: int, alpha: float) -> int:
        assert pair.difference is not None
        return math.ceil(n * ((z(1 - alpha / 2) + z(0.8)) * error / pair.difference) ** 2)

    scores = right(runs((12, 1.0), (6, 0.0), (82, 1.0)), runs((12, 0.0), (6, 1.0), (82, 1.0)))
    pair = only_pair(compared(scores, [RIGHT]))
    assert pair.samples_to_decide == expected(pair, math.sqrt((18 / 100 - 0.06**2) / 100), 100, 0.05)
    assert samples_to_separate(pair, 0.01, paired=True) == expected(
        pair, math.sqrt((18 / 100 - 0.06**2) / 100), 100, 0.01
    )
    graded = {"x": {"graded": [0.1, 0.4, 0.9, 0.6] * 25}, "y": {"graded": [0.3, 0.4, 0.5, 0.6] * 25}}
    for paired in (True, False):
        pair = only_pair(compared(graded, [GRADED], paired=paired))
        assert pair.low is not None and pair.high is not None and pair.low < 0 < pair.high
        assert pair.samples_to_decide == expected(pair, (pair.high - pair.low) / 2 / z(0.975), 100, 0.05)


def test_level_of_the_number_of_samples_is_holms_for_the_next_test() -> None:
    """Of three pairs two are significant, so the third is tested at .05."""
    good = runs((60, 1.0), (20, 0.0))
    near = [*runs((56, 1.0), (4, 0.0)), *runs((2, 1.0), (18, 0.0))]
    comparison = compared({"a": {"right": good}, "b": {"right": near}, "c": {"right": [0.0] * 80}}, [RIGHT])
    close = comparison.metrics[0].pair("a", "b")
    assert [pair.better is not None for pair in comparison.metrics[0].pairs] == [False, True, True]
    assert close.samples_to_decide == samples_to_separate(close, 0.05, paired=True)


def test_samples_without_a_row_of_an_unpaired_candidate_are_missing() -> None:
    side = CandidateScores({0: 1.0}, {1: 0.0}, {1: 1.0}, {1: 1}, frozenset({2}))
    whole = side.with_samples(range(5), (0.0, 1.0), epochs=2)
    assert whole.worst == {1: 0.0, 3: 0.0, 4: 0.0}
    assert whole.best == {1: 1.0, 3: 1.0, 4: 1.0}
    assert whole.gaps == {1: 1, 3: 2, 4: 2}
    assert (whole.values, whole.skipped) == (side.values, side.skipped)


def test_no_number_of_samples_where_it_is_impractical() -> None:
    equal = only_pair(compared(right(runs((10, 1.0), (10, 0.0)), runs((10, 0.0), (10, 1.0))), [RIGHT]))
    close = only_pair(compared(right(runs((101, 1.0), (100, 0.0)), runs((101, 0.0), (100, 1.0))), [RIGHT]))
    assert equal.samples_to_decide is close.samples_to_decide is None


def test_equal_models_with_wrong_answers_missing_are_better_as_rarely_as_with_all_answers() -> None:
    """4% of the rows of one model are missing, all of them rows that it got wrong: filled, they are wrong again."""
    chance = random.Random(23)
    scored = robust = whole = 0
    for _ in range(60):
        hard = [chance.betavariate(1.4, 0.6) for _ in range(1000)]
        first, second = ([float(chance.random() < level) for level in hard] for _ in range(2))
        lost = set(chance.sample([place for place, value in enumerate(first) if value == 0.0], 40))
        missing = [FAILED if place in lost else value for place, value in enumerate(first)]
        pair = only_pair(compared(right(missing, second), [RIGHT]))
        scored += pair.better_scored == "x"
        robust += pair.better == "x"
        whole += only_pair(compared(right(first, second), [RIGHT])).better == "x"
    assert robust == whole <= 5  # of 60 at .025, the binomial's upper 2%
    assert scored >= 12


@pytest.mark.slow
@pytest.mark.parametrize("n", [300, 1000, 3000])
@pytest.mark.parametrize("cell", ["0/1", "graded", "0/1, unpaired"])
def test_equal_models_are_rarely_better_with_the_worst_rows_missing(n: int, cell: str) -> None:
    from benchmarks.verdicts_ranking import CELLS, Loss, better_rates

    alone, robust = better_rates(n=n, loss=Loss(), repeats=400, **CELLS[cell])
    assert robust <= 0.05
    assert alone > robust


@pytest.mark.slow
def test_a_better_model_is_found_with_rows_missing_at_random() -> None:
    from benchmarks.verdicts_ranking import CELLS, GAP, Loss, better_rates

    alone, robust = better_rates(n=1000, loss=Loss(at_random=True), repeats=300, gap=GAP, **CELLS["0/1"])
    assert 0.7 < robust < alone


def test_epochs_of_a_candidate_can_differ() -> None:
    """A run of one epoch beside one of three has no missing epochs."""
    from evalrunner.compare.compare import compare
    from evalrunner.compare.result import Candidate

    one = rows_of({"x": {"right": runs((30, 1.0), (10, 0.0))}})
    three = [row for epoch in (1, 2, 3) for row in rows_of({"y": {"right": runs((20, 1.0), (20, 0.0))}}, epoch=epoch)]
    summary = summarize([*one, *three], [RIGHT], ["x", "y"], epochs=3)
    known = {name: summary.all_metrics(name) for name in "xy"}
    candidates = [Candidate(name=name, target=name) for name in "xy"]
    comparison = compare(summary, candidates, known, epochs={"x": 1, "y": 3})
    assert comparison.warnings == ()
    assert only_pair(comparison).p_missing == only_pair(comparison).p_value


def test_epochs_that_did_not_run_are_named() -> None:
    first = rows_of(right([1.0] * 20, [1.0] * 20))
    second = rows_of(right([1.0] * 20, [1.0] * 20), epoch=2)[:35]
    comparison = compared_rows([*first, *second], ["x", "y"], [RIGHT], epochs=2)
    assert comparison.warnings == ("right/v1: 5 of 40 answers of y are missing (not run)",)


def test_nan_marks_what_is_left_out() -> None:
    side = CandidateScores({0: 1.0}, {1: 0.0}, {1: math.nan}, {1: 1})
    assert side.ends(0, (0.0, 1.0)) == (1.0, 1.0)
    assert side.ends(2, (0.0, 1.0)) == (0.0, 1.0)
    worst, best = side.ends(1, (0.0, 1.0))
    assert worst == 0.0 and math.isnan(best)
    assert side.split(array("i", [3, 4])) == {
        3: CandidateScores({0: 1.0}, {}, {}, {}),
        4: CandidateScores({}, {1: 0.0}, {1: best}, {1: 1}),
    }


LEVELS = {"a": 0.75, "b": 0.6, "c": 0.5}
LOST = {
    "wrong": (0.15, 0.0),
    "right": (0.0, 0.12),
    "any": (0.06, 0.06),
    "none": (0.0, 0.0),
}  # of wrong, of right answers


def both_ways(seed: int, *, reducer: str, epochs: int, clustered: bool, paired: bool) -> tuple[Comparison, Comparison]:
    """The comparison of three models with every answer, and with some lost: wrong ones, right ones, or any."""
    chance = random.Random(seed)
    n = chance.choice([60, 120])
    easy = [chance.gauss(0, 0.2) for _ in range(n)]
    patterns = {name: LOST[chance.choice(list(LOST))] for name in LEVELS}
    rows: list[list[Any]] = [[], []]
    for epoch in range(1, epochs + 1):
        whole = {
            name: {
                "right": [float(chance.random() < level + each) for each in easy],
                "graded": [min(1.0, max(0.0, level + each + chance.gauss(0, 0.1))) for each in easy],
            }
            for name, level in LEVELS.items()
        }
        gone = {
            name: [chance.random() < patterns[name][int(value)] for value in scores["right"]]
            for name, scores in whole.items()
        }
        lossy = {
            name: {
                scorer: [FAILED if lost else value for value, lost in zip(values, gone[name], strict=True)]
                for scorer, values in scores.items()
            }
            for name, scores in whole.items()
        }
        pages = [{"page": str(place // 3)} for place in range(n)]
        for group, scores in zip(rows, (whole, lossy), strict=True):
            group.extend(rows_of(scores, epoch=epoch, metadata=pages))
    design = Design(cluster="page" if clustered else None, reducers=(parse_reducer(reducer),))
    full, partial = (
        compared_rows(group, list(LEVELS), [RIGHT, GRADED], design=design, epochs=epochs, paired=paired)
        for group in rows
    )
    return full, partial


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize(
    ("reducer", "epochs"), [("mean", 1), ("mean", 3), ("max", 3), ("mode", 3), ("median", 3), ("at_least_2", 3)]
)
def test_every_answer_would_confirm_what_is_called_better(reducer: str, epochs: int, clustered: bool) -> None:
    called = 0
    for seed in range(5):
        paired = seed < 4
        full, partial = both_ways(seed, reducer=reducer, epochs=epochs, clustered=clustered, paired=paired)
        for one, other in zip(full.metrics, partial.metrics, strict=True):
            for whole, lossy in zip(one.pairs, other.pairs, strict=True):
                assert lossy.better in (None, whole.better), (seed, one.name, whole, lossy)
                called += lossy.better is not None
    assert called >= (0 if clustered else 3)  # ten to twenty clusters seldom tell targets apart
