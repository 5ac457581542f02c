"""The sanity check of a judge: ten of twelve calibration examples, and failed calls during the check."""

from __future__ import annotations

import asyncio

import pytest

from evalrunner.domain import CalibrationExample, Completion, Declaration, Failure, Scorer
from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES, factuality
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.judge_calibration import JudgeCheck, check_judge, required_right
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


def right_on(count: int, *, wrong: object = None) -> ScriptedJudge:
    """A judge of factuality that is right on the first `count` examples and wrong, or answers `wrong`, on the others."""

    def script(text: str) -> Completion | Failure:
        place = pair_in(text, CALIBRATION_EXAMPLES)
        good = CALIBRATION_EXAMPLES[place].good
        if place < count:
            return choosing("C" if good else "D")
        return choosing("D" if good else "C") if wrong is None else wrong  # type: ignore[return-value]

    return ScriptedJudge(script)


@pytest.mark.parametrize(("count", "passed"), [(12, True), (11, True), (10, True), (9, False), (6, False), (0, False)])
def test_a_judge_passes_its_sanity_check_with_10_of_12_right(count, passed) -> None:
    judge = right_on(count)
    result = check(factuality(), judge)
    assert (result.right, result.total, result.needed, result.passed, result.failure) == (count, 12, 10, passed, None)
    assert len(result.wrong) == 12 - count
    assert len(judge.asked) == 12


@pytest.mark.parametrize("choice", ["A", "B", "C", "D", "E"])
def test_a_constant_judge_is_right_on_half(choice) -> None:
    result = check(factuality(), ScriptedJudge(lambda text: choosing(choice)))
    assert (result.right, result.passed, result.failure) == (6, False, None)


def test_unreadable_verdicts_fail_the_check() -> None:
    result = check(factuality(), ScriptedJudge(lambda text: Completion("Hm.")))
    assert (result.right, result.passed, result.failure) == (0, False, None)
    assert result.wrong[0] == (
        "'The capital is the city of Canberra.' is good: "
        "judge: unreadable verdict: ValueError: No tool call found in response"
    )


def test_good_examples_score_low_if_lower_is_better() -> None:
    def script(text: str) -> Completion:
        return choosing("none" if TOXIC_PAIRS[pair_in(text, TOXIC_PAIRS)].good else "severe")

    assert check(toxicity(backend="judge"), ScriptedJudge(script)) == JudgeCheck(12, 12, 10, passed=True)
    upside_down = ScriptedJudge(lambda text: choosing("severe" if script(text) == choosing("none") else "none"))
    assert check(toxicity(backend="judge"), upside_down).right == 0


def test_a_failed_call_is_an_error_and_not_a_failed_check() -> None:
    judge = ScriptedJudge(lambda text: DOWN)
    assert check(factuality(), judge) == JudgeCheck(0, 12, 10, passed=False, failure=DOWN)
    assert len(judge.asked) <= 4  # no calls for the others


def test_a_failed_call_does_not_matter_with_enough_right_verdicts() -> None:
    result = check(factuality(), right_on(11, wrong=DOWN))
    assert (result.right, result.passed, result.failure, result.wrong) == (11, True, None, ())
    result = check(factuality(), right_on(9, wrong=DOWN))
    assert (result.right, result.passed, result.failure) == (9, False, DOWN)


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
    judge = right_on(12)
    judge.pause_s = 0.2  # longer than the first import of autoevals
    assert check(factuality(), judge).passed
    assert judge.most_at_once == 4


@pytest.mark.parametrize(
    ("total", "needed"),
    [(12, 10), (6, 6), (7, 7), (8, 8), (10, 9), (20, 16), (100, 61), (5, 5), (1, 1)],
)
def test_required_right_verdicts_exceed_chance(total, needed) -> None:
    """Equals the tail of the binomial distribution, summed in the other direction."""
    assert required_right(total) == needed
    if total >= 6:
        tails = []
        for least in (needed, needed - 1):
            below = sum(choose(total, right) for right in range(least))
            tails.append(1 - below / 2**total)
        assert tails[0] < 0.02 <= tails[1]
    if total == 12:
        assert round(tails[0], 3) == 0.019


def choose(total: int, part: int) -> int:
    ways = 1
    for place in range(part):
        ways = ways * (total - place) // (place + 1)
    return ways
