"""Binding and calling of scorers. An exception is an error of its cell, never of the run."""

from __future__ import annotations

import asyncio
import functools
import math
import sys
import time

import pytest

from evalrunner.domain import (
    CalibrationExample,
    Cell,
    Completion,
    Declaration,
    Failure,
    JudgeCall,
    Sample,
    Score,
    Scorer,
)
from evalrunner.plugins import SignatureError
from evalrunner.redact import register_secret
from evalrunner.scorers.call import BoundScorer, call_async, call_sync, cell_without_call, offer
from evalrunner.scorers.text import exact_match
from tests.scorers.scorer_calls import ScriptedJudge, cell_of, choosing, sample

OPEN = Declaration(low=None, high=None)


def test_an_exception_is_reported_with_function_and_line(tmp_path) -> None:
    path = tmp_path / "tone.py"
    path.write_text("import json\n\n\ndef polite(output):\n    return json.loads(output)\n", encoding="utf-8")
    scope: dict = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)
    assert cell_of(Scorer(scope["polite"]), "no json") == Cell(
        "error",
        reason="polite() in tone.py:5 raised JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        cause="function",
    )


def leaver(output):
    sys.exit("bye")


def silent(output):
    raise ValueError


def unspeakable(output):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    raise Mute


def tattler(output):
    raise RuntimeError("401 for Bearer abcdefghijkl, key sk-very-secret-key")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (leaver, "raised SystemExit: bye"),
        (silent, "raised ValueError"),
        (unspeakable, "raised Mute"),
        (tattler, "raised RuntimeError: 401 for Bearer [redacted], key [redacted]"),
    ],
)
def test_any_exception_is_an_error_of_the_cell_without_traceback_or_secrets(function, said) -> None:
    register_secret("sk-very-secret-key")
    cell = cell_of(Scorer(function), "x")
    assert cell.state == "error" and cell.value is None and cell.message is not None
    assert cell.message.startswith(f"function: {function.__name__}() in ") and cell.message.endswith(said)
    assert "\n" not in cell.message


def test_long_messages_are_truncated() -> None:
    def loud(output):
        raise ValueError("x" * 10_000)

    assert len(cell_of(Scorer(loud), "x").reason or "") < 500


def test_functions_get_the_parameters_that_they_name() -> None:
    def all_of_it(output, input, expected, sample, completion):
        assert (output, input, sample.id, completion.text) == ("out", "a question", "1", "out")
        return Score(1, repr(expected))

    def rest(**offered):
        return Score(1, " ".join(sorted(offered)))

    def explain(function, *expected):
        return (cell_of(Scorer(function), "out", *expected).detail or {})["explanation"]

    assert explain(all_of_it) == "None"
    assert explain(all_of_it, "a") == "'a'"
    assert explain(all_of_it, "a", "b") == "('a', 'b')"
    assert explain(rest) == "completion expected input output sample"
    assert cell_of(Scorer(str.isupper), "OUT") == Cell("scored", 1.0)  # one parameter of any name gets the output
    assert cell_of(Scorer(functools.partial(lambda output, least: len(output) >= least, least=3)), "out").value == 1.0


def test_an_unknown_parameter_is_an_error_before_the_run() -> None:
    def wrong(output, expcted):
        return 1

    with pytest.raises(SignatureError, match="needs 'expcted', .*did you mean 'expected'"):
        BoundScorer.bind("wrong", Scorer(wrong))


def test_only_functions_with_a_judge_parameter_get_a_judge() -> None:
    async def asks(output, judge):
        return 1

    async def takes_all(**offered):
        return 1

    def cannot_wait(output, judge):
        return 1

    assert BoundScorer.bind("asks", Scorer(asks)).wants_judge
    assert not BoundScorer.bind("takes_all", Scorer(takes_all)).wants_judge
    with pytest.raises(SignatureError, match="asks a judge, so it should be an `async def`"):
        BoundScorer.bind("cannot_wait", Scorer(cannot_wait))


def test_calibration_examples_need_a_declared_range() -> None:
    pair = CalibrationExample("q", "e", "o", good=True)
    with pytest.raises(SignatureError, match="should declare its range"):
        BoundScorer.bind("pairs", Scorer(lambda output: 1, OPEN, (pair,)))


def test_the_version_of_the_suite_replaces_that_of_the_scorer() -> None:
    assert BoundScorer.bind("a", exact_match()).scorer.declaration.version == "v1"
    assert BoundScorer.bind("a", exact_match(), version="v2").scorer.declaration.version == "v2"


@pytest.mark.parametrize(
    ("declared", "expected", "answer", "on_no_answer", "cell"),
    [
        ({}, "x", Failure("rate_limit", "gave up"), "zero", Cell("error", reason="gave up", cause="rate_limit")),
        ({"needs_expected": True}, "", Completion("", "empty"), "zero", Cell("skipped", reason="no expected answer")),
        ({}, "x", Completion("half", "length"), "unscored", Cell("unscored", reason="length", cause="no_answer")),
        ({}, "x", Completion(" \n"), "unscored", Cell("unscored", reason="empty", cause="no_answer")),
        ({}, "x", Completion("", "tool_calls"), "unscored", Cell("unscored", reason="tool_calls", cause="no_answer")),
        ({}, "x", Completion("", "refused"), "zero", Cell("scored", 0.0, "refused", cause="no_answer")),
        (
            {"low": 1.0, "high": 5.0},
            "x",
            Completion("", "refused"),
            "zero",
            Cell("scored", 1.0, "refused", cause="no_answer"),
        ),
        (
            {"low": -5.0, "high": -1.0},
            "x",
            Completion("", "empty"),
            "zero",
            Cell("scored", -1.0, "empty", cause="no_answer"),
        ),
        ({"low": None}, "x", Completion("", "empty"), "zero", Cell("scored", 0.0, "empty", cause="no_answer")),
        ({"needs_answer": False}, "x", Completion("", "empty"), "unscored", None),
        ({}, "x", Completion("fine"), "unscored", None),
    ],
)
def test_cells_without_a_call(declared, expected, answer, on_no_answer, cell) -> None:
    bound = BoundScorer.bind("s", Scorer(lambda output: 1, Declaration(**declared)), on_no_answer=on_no_answer)
    row = sample(expected) if expected else sample()
    assert cell_without_call(bound, row, answer) == cell


def test_async_scorers_are_awaited_and_record_judge_calls() -> None:
    async def asks(output, judge):
        await judge.ask([{"role": "user", "content": output}])
        await judge.ask([{"role": "user", "content": output}])
        return 0.5

    judge = ScriptedJudge(lambda text: choosing("A"))
    bound = BoundScorer.bind("asks", Scorer(asks))
    assert bound.is_async
    call = JudgeCall("scripted", 0.1, 10, 5, 0.001)
    cell = asyncio.run(call_async(bound, sample(), Completion("x"), judge))
    assert cell == Cell("scored", 0.5, calls=(call, call))


def test_async_exceptions_are_errors_and_cancellation_propagates() -> None:
    async def breaks(output):
        raise KeyError("x")

    async def ends(output):
        raise asyncio.CancelledError

    def run(function):
        return asyncio.run(call_async(BoundScorer.bind("s", Scorer(function)), sample(), Completion("x"), None))

    cell = run(breaks)
    assert cell.state == "error" and (cell.message or "").endswith("raised KeyError: 'x'")
    with pytest.raises(asyncio.CancelledError):
        run(ends)


def test_an_unawaited_coroutine_is_an_error() -> None:
    async def inner(output):
        return 1

    cell = cell_of(Scorer(lambda output: inner(output)), "x")
    assert (cell.message or "").endswith("returned a coroutine; a function that awaits should be an `async def`")


def test_the_overhead_of_a_scorer_is_microseconds() -> None:
    """The bound is far above the measured 4 µs, so that a busy machine does not fail the test."""
    bound = BoundScorer.bind("s", Scorer(lambda output: True))
    row, completion = Sample("1", "q", ("a",)), Completion("out")
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2_000):
            call_sync(bound, offer(row, completion))
        best = min(best, (time.perf_counter() - started) / 2_000)
    assert best < 50e-6
