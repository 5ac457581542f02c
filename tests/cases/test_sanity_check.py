"""A judge is used only if it knows five of six good and five of six bad answers, or ten of twelve after a second dozen."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalrunner.scorers.autoevals import CALIBRATION_EXAMPLES
from tests.cases.suites import Ended, command
from tests.engine.test_judge import chosen, parts_of
from tests.fakes.server import Action, Answer, Script, ScriptedServer, Status

GOOD = {(pair.input, pair.output): pair.good for pair in CALIBRATION_EXAMPLES}


def judged(script: Script, gate: str = "factuality >= 0.4") -> Ended:
    data = [{"input": f"Question {i}?", "expected": "right", "out": "right" if i % 2 else "false"} for i in range(6)]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, data)))
    with ScriptedServer(script) as server:
        Path("j.yaml").write_text(
            "name: j\ndataset: data.jsonl\ntarget: {type: recorded, column: out}\nrun: {concurrency: 1}\n"
            f'judge: {{model: judge-1, base_url: "{server.base_url}"}}\nscorers: [factuality]\ngates: [{gate}]\n'
        )
        return command("j.yaml", "--json")


def mistaken(*, good: int = 0, bad: int = 0) -> Script:
    """A judge that is wrong on the first so and so many good and bad known answers."""
    wrong: Counter[bool] = Counter()

    def script(request: Any, nth: int) -> Action:
        question, output = parts_of(request)
        truth = GOOD.get((question, output))
        if truth is None:
            return chosen("C" if "right" in output else "D")
        wrong[truth] += 1
        right = wrong[truth] > (good if truth else bad)
        return chosen("C" if truth == right else "D")

    return script


@pytest.mark.parametrize(
    ("good", "bad", "used"),
    [
        (0, 0, True),
        (1, 1, True),  # five of six on each side
        (0, 3, False),  # three of six
        (3, 0, False),
        (6, 0, False),  # always the same
        (0, 6, False),
        (2, 0, True),  # four of six, then six of six: ten of twelve
        (2, 2, True),
        (0, 2, True),
    ],
)
def test_judge_is_used_only_if_it_knows_enough_of_each_side(good: int, bad: int, used: bool) -> None:
    ended = judged(mistaken(good=good, bad=bad))
    assert (ended.code, ended.verdict) == ((0, "pass") if used else (3, "untrusted")), ended.text
    if not used:
        assert "sanity check" in ended.text


def test_judge_that_tosses_a_coin_on_bad_answers_is_not_used() -> None:
    seen: Counter[bool] = Counter()

    def script(request: Any, nth: int) -> Action:
        question, output = parts_of(request)
        truth = GOOD.get((question, output), "right" in output)
        seen[truth] += 1
        return chosen("C" if truth or seen[False] % 2 else "D")

    ended = judged(script)
    assert (ended.code, ended.verdict) == (3, "untrusted")


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (Status(400, "no"), "the judge's provider failed on 1"),
        (Answer("I cannot say."), "the judge's reply was unreadable on 1"),
    ],
)
@pytest.mark.parametrize(("bound", "verdict"), [(0.5, "untrusted"), (0.33, "pass"), (0.55, "fail")])
def test_verdict_that_one_lost_judgment_could_change_is_untrusted(
    failure: Action, cause: str, bound: float, verdict: str
) -> None:
    """Of six answers the judge finds two right and three wrong; the sixth is lost: .33 to .5."""

    def script(request: Any, nth: int) -> Action:
        question, output = parts_of(request)
        if question == "Question 5?":
            return failure
        return chosen("C" if GOOD.get((question, output), "right" in output) else "D")

    ended = judged(script, f"{{metric: factuality, min: {bound}, min_coverage: 0.8}}")
    assert ended.verdict == verdict, ended.text
    assert cause in ended.text
