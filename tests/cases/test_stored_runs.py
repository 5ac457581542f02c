"""Verdicts on stored answers: of runs that did not finish, that were scored again, and that serve as recorded targets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cases.suites import at_least, command, run, samples, write
from tests.cases.test_looks import half_by_half

ABORTED = {"fail_on_error": 3, "concurrency": 1}
GATES = ["exact_match >= 0.9", at_least(0.8)]


def aborted(**keys: Any) -> None:
    """A run that ends after 63 of its 100 samples: 60 right answers and three failures."""
    ended = run(samples((60, "right"), (40, "error")), GATES, run=ABORTED, **keys)
    assert (ended.code, ended.verdict) == (3, "untrusted")


@pytest.mark.parametrize("again", [("gate", "last"), ("score", "last")])
def test_rows_that_never_ran_are_missing_in_the_stored_run(again: tuple[str, str]) -> None:
    aborted()
    for _ in range(2):
        ended = command(*again, "--json")
        assert (ended.code, ended.verdict) == (3, "untrusted")
        assert "60 of 100 answers" in ended.text
        again = ("gate", "last")


def test_aborted_run_as_a_recorded_target_is_untrusted() -> None:
    aborted()
    ended = run(samples((60, "right"), (40, "error")), GATES, target={"name": "m", "type": "recorded", "run": "last"})
    assert (ended.code, ended.verdict) == (3, "untrusted")


@pytest.mark.parametrize("again", [("gate", "last"), ("score", "last")])
@pytest.mark.parametrize(("bound", "verdict"), [(0.8, "untrusted"), (0.76, "pass"), (0.81, "fail")])
def test_failed_answers_stay_missing_in_the_stored_run(again: tuple[str, str], bound: float, verdict: str) -> None:
    run(samples((76, "right"), (20, "wrong"), (4, "error")), [f"exact_match >= {bound}"])
    assert command(*again, "--json").verdict == verdict


def test_scoring_a_run_again_does_not_forget_that_it_was_looked_at() -> None:
    path = write(half_by_half(), [at_least(0.8)])
    command(path, "--limit", "100", "-q")
    command(path, "--resume", "last", "--limit", "200", "-q")
    ended = command("score", "last", "--json")
    assert ended.verdict == "inconclusive"
    assert "looked at again" in ended.text


def test_scoring_a_finished_run_again_gives_its_verdict() -> None:
    assert run(half_by_half(), [at_least(0.8)]).verdict == "pass"
    assert command("score", "last", "--json").verdict == "pass"


def test_resumed_run_counts_its_failures_in_place_of_rows_that_did_not_run() -> None:
    aborted()
    ended = command("--resume", "last", "--set", "run.fail_on_error=100", "--json")
    assert (ended.code, ended.verdict) == (3, "untrusted"), ended.err  # the other 37 fail as well
    assert "failed on 40" in ended.text
