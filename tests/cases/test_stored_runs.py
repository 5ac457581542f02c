"""Verdicts on stored answers: of runs that did not finish, that were scored again, and that serve as recorded targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import at_least, command, drop, run, samples, write
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


@pytest.mark.parametrize("accepted", [True, False])
def test_unfinished_run_as_a_baseline_lacks_the_rows_that_never_ran(accepted: bool) -> None:
    """37 samples of the baseline never ran; the new run is wrong on all of them."""
    aborted()
    (folder,) = Path("runs/case").iterdir()
    if accepted:
        assert command("baseline", "accept", "--force").code == 0
    gate = {**drop(0.3), "baseline": "main" if accepted else f"run:{folder.name}"}
    ended = run(samples((60, "right"), (40, "wrong")), [gate])
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "60 of 100 samples" in ended.text and "new" not in ended.text


def test_run_that_stopped_because_it_was_decided_is_a_whole_baseline() -> None:
    data = samples((600, "right"))
    assert run(data, [at_least(0.8)], run={"stop_early": True}).verdict == "pass"
    (folder,) = Path("runs/case").iterdir()
    ended = run(data, [{**drop(0.3), "baseline": f"run:{folder.name}"}], dataset={"path": "data.jsonl", "shuffle": 0})
    assert (ended.code, ended.verdict) == (0, "pass")


def test_slice_gate_on_a_stored_run_counts_only_samples_removed_from_its_slice() -> None:
    data = samples((200, "right"), topic=["a"] * 100 + ["b"] * 100)
    run(data, [], slices=["topic"])
    (folder,) = Path("runs/case").iterdir()
    gates = [{**drop(0.1, f"exact_match[topic={topic}]"), "baseline": f"run:{folder.name}"} for topic in "ab"]
    ended = run(data[:140], gates, slices=["topic"])
    assert (ended.code, ended.verdicts) == (3, ("pass", "untrusted"))
