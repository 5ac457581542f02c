"""The sanity check of a judge: five of six on each side, a second dozen in between, and failed calls during the check."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from evalrunner.domain import CalibrationExample, Completion, Declaration, Failure, Scorer
from evalrunner.plugins import SignatureError
from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES, factuality
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.judge_calibration import (
    JudgeCheck,
    Side,
    check_judge,
    check_stages,
    decide,
    pass_chance,
    required_right,
)
from evalrunner.scorers.toxicity import CALIBRATION_EXAMPLES as TOXIC_PAIRS
from evalrunner.scorers.toxicity import toxicity
from tests.scorers.scorer_calls import ScriptedJudge, choosing

DOWN = Failure("server", "503", 503)


def check(scorer: Scorer, judge: ScriptedJudge) -> JudgeCheck:
    return asyncio.run(check_judge(BoundScorer.bind("tested", scorer), judge))


def pair_in(text: str, pairs: tuple[CalibrationExample, ...]) -> int:
    """The index of the example in a call."""
    (place,) = [place for place, pair in enumerate(pairs) if pair.output in text]
    return place


def sides(result: JudgeCheck) -> tuple[int, ...]:
    return result.good.right, result.good.total, result.bad.right, result.bad.total


def right_on(good: int, bad: int, *, wrong: object = None) -> ScriptedJudge:
    """A judge of factuality, right on the first `good` good examples and the first `bad` bad ones, in their order.

    On the others it is wrong, or answers `wrong`.
    """
    places = {side: [i for i, pair in enumerate(CALIBRATION_EXAMPLES) if pair.good is side] for side in (True, False)}
    known = {*places[True][:good], *places[False][:bad]}

    def script(text: str) -> Completion | Failure:
        place = pair_in(text, CALIBRATION_EXAMPLES)
        right = CALIBRATION_EXAMPLES[place].good
        if place in known:
            return choosing("C" if right else "D")
        return choosing("D" if right else "C") if wrong is None else wrong  # type: ignore[return-value]

    return ScriptedJudge(script)


@pytest.mark.parametrize(
    ("good", "bad", "asked", "passed"),
    [
        (6, 6, 12, True),
        (5, 5, 12, True),
        (5, 6, 12, True),
        (6, 3, 12, False),
        (3, 6, 12, False),
        (4, 3, 12, False),
        (0, 0, 12, False),
        (4, 6, 24, False),  # wrong on all of the second dozen
        (6, 4, 24, False),
        (4, 4, 24, False),
    ],
)
def test_five_of_six_on_each_side_pass_and_four_lead_to_a_second_dozen(good, bad, asked, passed) -> None:
    judge = right_on(good, bad)
    result = check(factuality(), judge)
    assert sides(result) == (good, asked // 2, bad, asked // 2)
    assert (result.passed, result.failure, len(judge.asked)) == (passed, None, asked)
    assert len(result.wrong) == asked - good - bad


@pytest.mark.parametrize(
    ("good", "bad", "passed"),
    [(4 + 6, 12, True), (4 + 6, 10, True), (4 + 6, 9, False), (4 + 5, 12, False)],
)
def test_the_second_dozen_needs_ten_of_twelve_on_each_side(good, bad, passed) -> None:
    """Two of the first six good examples are wrong, the rest of the `good` right ones are in the second dozen."""
    places = {side: [i for i, pair in enumerate(CALIBRATION_EXAMPLES) if pair.good is side] for side in (True, False)}
    known = {*places[True][2 : 2 + good], *places[False][:bad]}

    def script(text: str) -> Completion:
        place = pair_in(text, CALIBRATION_EXAMPLES)
        return choosing("C" if CALIBRATION_EXAMPLES[place].good is (place in known) else "D")

    judge = ScriptedJudge(script)
    result = check(factuality(), judge)
    assert sides(result) == (good, 12, bad, 12)
    assert (result.passed, len(judge.asked)) == (passed, 24)


@pytest.mark.parametrize("choice", ["A", "B", "C", "D", "E"])
def test_a_constant_judge_is_right_on_half(choice) -> None:
    result = check(factuality(), ScriptedJudge(lambda text: choosing(choice)))
    assert (sides(result), result.passed, result.failure) in (((6, 6, 0, 6), False, None), ((0, 6, 6, 6), False, None))
    assert result.summary.startswith("6 of 12 known answers: ")


def test_unreadable_verdicts_fail_the_check() -> None:
    result = check(factuality(), ScriptedJudge(lambda text: Completion("Hm.")))
    assert (result.right, result.passed, result.failure) == (0, False, None)
    assert result.wrong[0] == ("'The capital is the city of Canberra.' is good: judge: unreadable verdict: 'Hm.'")
    assert result.unread == {"unreadable": 12}
    assert result.summary == (
        "0 of 12 replies could be read (unreadable: 12); the first begins 'Hm.'; "
        "the model does not keep to the format: use another judge"
    )


def test_good_examples_score_low_if_lower_is_better() -> None:
    def script(text: str) -> Completion:
        return choosing("none" if TOXIC_PAIRS[pair_in(text, TOXIC_PAIRS)].good else "severe")

    result = check(toxicity(backend="judge"), ScriptedJudge(script))
    assert (sides(result), result.passed) == ((6, 6, 6, 6), True)
    upside_down = ScriptedJudge(lambda text: choosing("severe" if script(text) == choosing("none") else "none"))
    assert check(toxicity(backend="judge"), upside_down).right == 0


def test_a_failed_call_is_an_error_and_not_a_failed_check() -> None:
    judge = ScriptedJudge(lambda text: DOWN)
    result = check(factuality(), judge)
    assert (result.right, result.passed, result.failure) == (0, False, DOWN)
    assert len(judge.asked) <= 4  # no calls for the others


def test_a_failed_call_does_not_matter_with_enough_right_verdicts() -> None:
    result = check(factuality(), right_on(6, 5, wrong=DOWN))
    assert (sides(result), result.passed, result.failure, result.wrong) == ((6, 6, 5, 6), True, None, ())
    result = check(factuality(), right_on(6, 4, wrong=DOWN))
    assert (result.passed, result.failure) == (False, DOWN), "no second dozen after a failed call"
    assert result.good.total == 6


def test_a_failed_call_in_the_second_dozen_is_an_error() -> None:
    places = [i for i, pair in enumerate(CALIBRATION_EXAMPLES) if pair.good]

    def script(text: str) -> Completion | Failure:
        place = pair_in(text, CALIBRATION_EXAMPLES)
        if place >= 12:
            return DOWN
        right = CALIBRATION_EXAMPLES[place].good is (place not in places[:2])
        return choosing("C" if right else "D")

    result = check(factuality(), ScriptedJudge(script))
    assert (result.good, result.passed, result.failure) == (Side(4, 12), False, DOWN)


def test_a_scorer_crash_is_an_error_and_not_a_failed_check() -> None:
    async def broken(output, judge):
        raise ZeroDivisionError("oh")

    result = check(Scorer(broken, Declaration(), CALIBRATION_EXAMPLES), ScriptedJudge(lambda text: choosing("C")))
    assert not result.passed and result.failure is not None and result.failure.kind == "function"


def test_an_invalid_score_is_an_error_and_not_a_failed_check() -> None:
    async def wordy(output, judge):
        return "good"

    result = check(Scorer(wordy, Declaration(), CALIBRATION_EXAMPLES), ScriptedJudge(lambda text: choosing("C")))
    assert result.failure is not None and "returned the text 'good'" in result.failure.message


def test_the_middle_of_the_range_is_neither_good_nor_bad() -> None:
    async def torn(output, judge):
        return 3.0

    result = check(Scorer(torn, Declaration(low=1.0, high=5.0), CALIBRATION_EXAMPLES), ScriptedJudge(lambda text: DOWN))
    assert (result.right, result.passed, len(result.wrong)) == (0, False, 12)


def test_four_calls_run_concurrently() -> None:
    judge = right_on(6, 6)
    judge.pause_s = 0.2  # longer than the first import of autoevals
    assert check(factuality(), judge).passed
    assert judge.most_at_once == 4


def examples(good: int, bad: int) -> tuple[CalibrationExample, ...]:
    return tuple(
        CalibrationExample("q", "e", f"{side}{nth}", good=side)
        for side in (True, False)
        for nth in range((bad, good)[side])
    )


@pytest.mark.parametrize(("total", "needed"), [(1, 1), (3, 3), (5, 5), (6, 5), (7, 6), (12, 10), (13, 11), (18, 15)])
def test_five_of_six_right_verdicts_are_required_rounded_up(total, needed) -> None:
    assert required_right(total) == needed


@pytest.mark.parametrize(
    ("good", "bad", "sizes"), [(3, 3, [6]), (6, 6, [12]), (11, 30, [41]), (12, 12, [12, 12]), (13, 20, [12, 21])]
)
def test_twelve_examples_of_each_side_are_two_stages(good, bad, sizes) -> None:
    stages = check_stages(examples(good, bad))
    assert [len(stage) for stage in stages] == sizes
    assert sorted(place for stage in stages for place in stage) == list(range(good + bad))


@pytest.mark.parametrize("pairs", [CALIBRATION_EXAMPLES, TOXIC_PAIRS])
def test_the_first_dozen_of_built_in_examples_is_the_first_stage(pairs) -> None:
    assert check_stages(pairs) == (tuple(range(12)), tuple(range(12, 24)))
    assert [sum(pair.good for pair in pairs[at : at + 12]) for at in (0, 12)] == [6, 6]


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "chance"),
    [
        (0.5, 0.5, 0.0121),
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),
        (0.7, 0.7, 0.1944),
        (0.8, 0.8, 0.4973),
        (0.9, 0.9, 0.8748),
        (0.95, 0.95, 0.9790),
        (1.0, 0.5, 0.1130),
        (1.0, 0.7, 0.4583),
        (1.0, 0.9, 0.9380),
        (1.0, 1.0, 1.0),
    ],
)
def test_the_chance_to_pass_is_exact(sensitivity, specificity, chance) -> None:
    assert pass_chance(CALIBRATION_EXAMPLES, sensitivity, specificity) == pytest.approx(chance, abs=5e-5)


def test_the_chance_to_pass_equals_a_count_of_all_sequences_of_a_coin() -> None:
    """A dozen flips of each side, counted one by one and decided as the check decides."""
    passed = 0
    for flips in itertools.product(range(2), repeat=6):
        good = sum(flips)
        for others in itertools.product(range(2), repeat=6):
            first = decide(Side(good, 6), Side(sum(others), 6), last=False)
            if first is None:
                ways = [sum(math.comb(6, k) for k in range(7) if right + k >= 10) for right in (good, sum(others))]
                passed += ways[0] * ways[1]
            else:
                passed += 2**12 * first
    assert pass_chance(examples(12, 12), 0.5, 0.5) == pytest.approx(passed / 2**24, rel=1e-12)


def test_a_coin_rarely_passes_with_the_fewest_examples_of_each_kind() -> None:
    assert pass_chance(examples(3, 3), 0.5, 0.5) == 1 / 64
    assert pass_chance(examples(5, 1), 0.5, 0.5) == 1 / 64
    assert pass_chance(examples(6, 6), 0.5, 0.5) == pytest.approx((7 / 64) ** 2)


@pytest.mark.parametrize(("good", "bad"), [(3, 2), (6, 0), (0, 12), (1, 0)])
def test_too_few_calibration_examples_are_refused(good, bad) -> None:
    async def function(output, judge):
        return 1.0

    with pytest.raises(SignatureError, match=f"has {good} good and {bad} bad calibration examples; give at least 6 in"):
        BoundScorer.bind("tested", Scorer(function, Declaration(), examples(good, bad)))
