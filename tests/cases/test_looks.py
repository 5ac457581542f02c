"""Gates that are looked at again after rows were added, and gates that may be looked at after every row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import accept, at_least, command, drop, run, samples, write

FIRST, SECOND = (85, 15), (85, 15)  # .85 of 100, and of 200: at least .8025 by the ordinary test


def half_by_half() -> list[dict[str, Any]]:
    """200 samples, in each half the same share of right answers in a random order."""
    halves = []
    for right, wrong in (FIRST, SECOND):
        half = ["right"] * right + ["wrong"] * wrong
        random.Random(3).shuffle(half)
        halves += half
    return samples(*((1, outcome) for outcome in halves))


def looks() -> list[int]:
    (file,) = Path("runs/case").glob("*/run.json")
    return [look["samples"] for look in json.loads(file.read_text())["looks"]]


def test_one_look_at_all_samples_passes() -> None:
    assert run(half_by_half(), [at_least(0.8)]).verdict == "pass"


def test_second_look_at_more_samples_is_not_by_the_ordinary_test() -> None:
    path = write(half_by_half(), [at_least(0.8)])
    first = command(path, "--limit", "100", "--json")
    assert first.verdict == "inconclusive"
    assert "samples are needed" in first.text
    second = command(path, "--resume", "last", "--limit", "200", "--json")
    assert second.verdict == "inconclusive"
    assert "looked at again" in second.text
    assert command("gate", "last", "--json").verdict == "inconclusive"
    assert looks() == [100, 200]


def test_first_look_by_another_gate_is_a_look_as_well() -> None:
    path = write(half_by_half(), [at_least(0.81)])
    command(path, "--limit", "100", "-q")
    path = write(half_by_half(), [at_least(0.8)])
    assert command(path, "--resume", "last", "--limit", "200", "--json").verdict == "inconclusive"


def test_rows_added_without_gates_are_looked_at_by_the_gate_command() -> None:
    path = write(half_by_half(), [at_least(0.8)])
    command(path, "--limit", "100", "-q")
    command(path, "--resume", "last", "--limit", "200", "--no-gates", "-q")
    ended = command("gate", "last", "--json")
    assert ended.verdict == "inconclusive"
    assert "looked at again" in ended.text


def test_repeated_gate_command_on_the_same_rows_is_no_look() -> None:
    run(half_by_half(), [at_least(0.8)])
    for _ in range(3):
        ended = command("gate", "last", "--json")
        assert ended.verdict == "pass" and "again" not in ended.text
    assert looks() == [200]


def test_retried_errors_are_no_look_at_more_samples() -> None:
    Path("flag").write_text("down")
    data = samples((170, "right"), (30, "wrong"))
    Path("flaky.py").write_text(
        "from pathlib import Path\n\n\ndef answer(sample):\n    if Path('flag').exists() and sample.index % 5 == 0:\n"
        "        raise RuntimeError('down')\n    return 'yes' if sample.metadata['plan'] == ['right'] else 'no'\n"
    )
    path = write(data, [at_least(0.8)], target={"name": "m", "type": "python", "function": "flaky.py:answer"})
    assert command(path, "--json").verdict == "untrusted"
    Path("flag").unlink()
    ended = command("--resume", "last", "--retry-errors", "--json")
    assert (ended.code, ended.verdict) == (0, "pass")


def test_more_epochs_of_the_same_samples_are_a_look() -> None:
    plans = [["right", "right"]] * 80 + [["right", "wrong"]] * 5 + [["wrong", "right"]] * 9 + [["wrong", "wrong"]] * 6
    path = write(samples(*((1, plan) for plan in plans)), [at_least(0.8)])
    assert command(path, "--json").verdict == "inconclusive"
    ended = command(path, "--resume", "last", "--set", "run.epochs=2", "--json")
    assert ended.verdict == "inconclusive", ended.text
    assert "again" in ended.text


def test_point_gates_may_be_looked_at_again() -> None:
    path = write(half_by_half(), ["exact_match >= 0.8"])
    command(path, "--limit", "100", "-q")
    assert command(path, "--resume", "last", "--limit", "200", "--json").verdict == "pass"


def test_baseline_gate_that_is_looked_at_again() -> None:
    whole = samples((200, "right"))
    accept(whole)
    now = half_by_half()
    path = write(now, [drop(0.1), drop(0.4)])
    first = command(path, "--limit", "100", "--json")
    second = command(path, "--resume", "last", "--limit", "200", "--json")
    assert first.verdicts == ("inconclusive", "pass")
    assert second.verdicts[0] != "fail" and "again" in second.gates[0]["reason"]


# ---- gates that may be looked at after every row -----------------------------------------------------------------------


def shuffled(*groups: tuple[int, Any], seed: int = 5) -> list[dict[str, Any]]:
    outcomes = [outcome for count, outcome in groups for _ in range(count)]
    random.Random(seed).shuffle(outcomes)
    return samples(*((1, outcome) for outcome in outcomes))


EARLY = {"stop_early": True}


@pytest.mark.parametrize(("right", "verdict", "code"), [(570, "pass", 0), (390, "fail", 1)])
def test_run_stops_when_its_gate_is_decided(right: int, verdict: str, code: int) -> None:
    ended = run(shuffled((right, "right"), (600 - right, "wrong")), [at_least(0.8)], run=EARLY)
    assert (ended.code, ended.verdict) == (code, verdict)
    (file,) = Path("runs/case").glob("*/run.json")
    assert json.loads(file.read_text())["rows"] < 300
    assert command("gate", "last", "--json").verdict == verdict


@pytest.mark.parametrize("lost", ["error", "refused"])
def test_missing_answers_count_against_an_early_pass(lost: str) -> None:
    """With one answer in 25 missing, a share of .82 of the others may be .787 of all."""
    ended = run(shuffled((1890, "right"), (414, "wrong"), (96, lost)), [at_least(0.8)], run=EARLY)
    assert ended.verdict != "pass", ended.text


def test_lost_answers_count_against_an_early_fail() -> None:
    """.767 of those that answered fails `>= 0.8` at once, .806 of all would not."""
    ended = run(shuffled((1840, "right"), (464, "wrong"), (96, "error")), [at_least(0.8)], run=EARLY)
    assert ended.verdict != "fail", ended.text


def test_dead_provider_does_not_decide_a_sequential_gate() -> None:
    ended = run(samples((60, "error")), [at_least(0.8), "exact_match >= 0.2"], run=EARLY)
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_refused_answers_of_a_lower_is_better_metric_do_not_pass_early() -> None:
    ended = run(shuffled((300, 0.05), (300, "refused")), [{"metric": "harm", "max": 0.2, "confidence": 0.95}], scorers=["harm"], run=EARLY)  # fmt: skip
    assert ended.verdict != "pass", ended.text


def test_epochs_that_fail_do_not_decide_a_sequential_gate() -> None:
    ended = run(samples((200, ["right", "error", "error"])), [at_least(0.8)], run={**EARLY, "epochs": 3})
    assert ended.verdict not in ("pass", "fail"), ended.text


def test_sequential_baseline_gate_stops_and_counts_changed_samples() -> None:
    accept(samples((600, "right")))
    same = run(samples((600, "right")), [drop(0.1)], run=EARLY)
    assert (same.code, same.verdict) == (0, "pass")
    changed = [{**line, "input": line["input"] + " ", "plan": ["wrong"]} if at % 3 == 0 else line
               for at, line in enumerate(samples((600, "right")))]  # fmt: skip
    ended = run(changed, [drop(0.1)], run=EARLY)
    assert ended.verdict not in ("pass", "fail"), ended.text


def test_scorer_that_skips_half_of_the_rows_is_named_in_an_early_verdict() -> None:
    ended = run(shuffled((300, "right"), (300, "skip")), [at_least(0.8, "own")], scorers=["own"], run=EARLY)
    assert (ended.code, ended.verdict) == (0, "pass")
    assert "own skipped" in ended.gates[0]["reason"]
    assert command("gate", "last", "--json").gates[0]["reason"] == ended.gates[0]["reason"]
