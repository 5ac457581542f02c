"""Samples that left the pairing with a baseline are missing answers, not proof that nothing changed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, accept, command, drop, run, samples

BASE = samples((160, "right"), (40, "wrong"))
IMPROVED = {"metric": "exact_match", "baseline": "main", "improved": True}


def changed(data: Sequence[Mapping[str, Any]], places: range, outcome: str | None = None) -> list[dict[str, Any]]:
    """The samples with a blank added to the inputs at some places, all of them with another outcome if there is one."""
    return [
        {**line, "input": line["input"] + " ", **({"plan": [outcome]} if outcome else {})}
        if at in places
        else dict(line)
        for at, line in enumerate(data)
    ]


def checked(data: Sequence[Mapping[str, Any]], *gates: Any, **keys: Any) -> Ended:
    """The verdict of a run, and the same from its stored rows."""
    ended = run(data, gates, **keys)
    again = command("gate", "last", "--json")
    assert (again.code, again.verdicts) == (ended.code, ended.verdicts)
    return ended


@pytest.mark.parametrize("allowed", [0.02, 0.05, 0.2])
def test_sixty_changed_samples_of_200_are_untrusted(allowed: float) -> None:
    accept(BASE)
    ended = checked(changed(BASE, range(60), "wrong"), drop(allowed))
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "140 of 200" in ended.text and "60" in ended.text and "changed" in ended.text
    assert "0.8 → 0.5" in ended.gates[0]["reason"]  # without pairing


def test_sixty_changed_samples_are_untrusted_whatever_became_of_them() -> None:
    accept(BASE)
    for outcome in ("right", "wrong", None):
        assert checked(changed(BASE, range(60), outcome), drop(0.05), IMPROVED).verdict == "untrusted"


def test_deleted_hard_samples_are_untrusted() -> None:
    accept(BASE)
    ended = checked(BASE[:160], drop(0.05))
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "160 of 200" in ended.text and "40" in ended.text and "removed" in ended.text


def test_deleted_hard_samples_of_a_slice_are_untrusted() -> None:
    data = samples((160, "right"), (40, "wrong"), topic=["a", "b"])
    accept(data, slices=["topic"])
    ended = checked(data[:160], drop(0.05, "exact_match[topic=a]"), slices=["topic"])
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_slice_without_changes_is_not_blamed_for_the_other() -> None:
    data = samples((200, "right"), topic=["a"] * 150 + ["b"] * 50)
    accept(data, slices=["topic"])
    gates = [drop(0.1, "exact_match[topic=a]"), drop(0.1, "exact_match[topic=b]")]
    ended = checked(changed(data, range(150, 180)), *gates, slices=["topic"])
    assert (ended.code, ended.verdicts) == (3, ("pass", "untrusted"))
    ended = checked(data[:170], *gates, slices=["topic"])
    assert (ended.code, ended.verdicts) == (3, ("pass", "untrusted"))


def test_baseline_of_a_run_with_failures_is_untrusted() -> None:
    accept(samples((140, "right"), (60, "error")))
    ended = checked(samples((140, "right"), (60, "wrong")), drop(0.05))
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "140 of 200" in ended.text and "baseline" in ended.text


def test_few_failures_of_the_baseline_range_over_both_ends() -> None:
    accept(samples((192, "right"), (8, "error")))
    now = samples((192, "right"), (8, "wrong"))
    assert checked(now, drop(0.03)).verdict == "untrusted"  # the eight may have been right: a drop of four points
    assert checked(now, drop(0.1)).verdict == "pass"
    now = samples((150, "right"), (50, "wrong"))
    assert checked(now, drop(0.05)).verdict == "fail"  # 42 of 192, or 42 of 200 if the eight were wrong as well


def test_failures_on_both_sides_add_up() -> None:
    accept(samples((194, "right"), (6, "error")))
    ended = checked(samples((6, "error"), (194, "right")), drop(0.2))
    assert (ended.code, ended.verdict) == (3, "untrusted")  # 188 of 200 pairs
    assert "188 of 200" in ended.text


@pytest.mark.parametrize("kind", ["changed", "removed"])
@pytest.mark.parametrize(("count", "allowed", "verdict"), [(5, 0.1, "pass"), (8, 0.03, "untrusted"), (8, 0.12, "pass")])
def test_few_excluded_samples_are_filled_at_both_ends(kind: str, count: int, allowed: float, verdict: str) -> None:
    accept(samples((200, "right")))
    data = samples((200, "right"))
    now = changed(data, range(count)) if kind == "changed" else data[count:]
    ended = checked(now, drop(allowed))
    assert ended.verdict == verdict, ended.text
    assert f"{count}" in ended.text and kind in ended.text


def test_fail_that_the_excluded_samples_cannot_undo() -> None:
    accept(BASE)
    now = samples((100, "right"), (60, "wrong"), (40, "wrong"))
    assert checked(changed(now, range(195, 200)), drop(0.05)).verdict == "fail"
    assert checked(now[:195], drop(0.05)).verdict == "fail"


def test_fail_that_the_excluded_samples_could_undo() -> None:
    accept(BASE)
    now = samples((141, "right"), (19, "wrong"), (40, "wrong"))  # 19 of 200 worse: more than .05, but not by much
    assert checked(now, drop(0.05)).verdict == "fail"
    assert checked(changed(now, range(192, 200)), drop(0.05)).verdict == "untrusted"


def test_new_samples_are_harmless_and_reported() -> None:
    accept(BASE)
    grown = samples((160, "right"), (40, "wrong"), (100, "wrong"))
    ended = checked(grown, drop(0.05))
    assert (ended.code, ended.verdict) == (0, "pass")
    assert "100" in ended.text and "new" in ended.text


def test_new_samples_do_not_make_up_for_deleted_ones() -> None:
    accept(BASE)
    grown = samples((160, "right"), (40, "wrong"), (100, "right"))
    ended = checked(grown[:160] + grown[200:], drop(0.05))
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_renamed_samples_are_removed_ones() -> None:
    accept(BASE)
    ended = checked([{**line, "id": f"r{at}"} if at < 60 else line for at, line in enumerate(BASE)], drop(0.05))
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_changed_expected_outputs_are_changed_samples() -> None:
    accept(BASE)
    ended = checked(
        [{**line, "expected": ["yes", "Yes"]} if at < 60 else line for at, line in enumerate(BASE)], drop(0.05)
    )
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "changed" in ended.text


def test_limited_run_says_that_it_is_compared_with_a_part_of_the_baseline() -> None:
    accept(BASE)
    ended = run(BASE, [drop(0.05)], "--limit", "100")
    assert (ended.code, ended.verdict) == (0, "pass")
    assert "100 beyond the limit" in ended.text


def test_samples_that_a_filter_leaves_out_are_removed_ones() -> None:
    data = samples((160, "right"), (40, "wrong"), level=["easy"] * 160 + ["hard"] * 40)
    accept(data)
    ended = run(data, [drop(0.05)], "--set", "dataset={path: data.jsonl, where: {level: easy}}")
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_accepting_a_new_baseline_settles_a_changed_dataset() -> None:
    accept(BASE)
    now = changed(BASE, range(60))
    assert checked(now, drop(0.05)).code == 3
    assert command("baseline", "accept").code == 2  # untrusted
    assert command("baseline", "accept", "--force").code == 0
    assert checked(now, drop(0.05)).code == 0


def test_missing_ignored_by_name_compares_what_is_left() -> None:
    accept(samples((200, "right")))
    data = samples((200, "right"))
    assert checked(data[8:], drop(0.03)).verdict == "untrusted"
    ended = checked(data[8:], drop(0.03, missing="ignore"))
    assert (ended.code, ended.verdict) == (0, "pass")
    assert "ignore" in ended.gates[0]["reason"]
    assert checked(data[60:], drop(0.03, missing="ignore")).verdict == "untrusted"  # below min_coverage all the way


@pytest.mark.parametrize("scorer", ["mistakes", "graded", "signed", "harm"])
def test_other_metrics_on_a_changed_dataset(scorer: str) -> None:
    good, bad = {"mistakes": ("right", "wrong"), "graded": (0.9, 0.1), "signed": (0.9, -0.9), "harm": (0.1, 0.9)}[
        scorer
    ]
    data = samples((160, good), (40, bad))
    accept(data, scorers=[scorer])
    assert checked(data, drop(0.3, scorer), scorers=[scorer]).verdict == "pass"
    assert checked(data[:160], drop(0.3, scorer), scorers=[scorer]).verdict == "untrusted"
    assert checked(changed(data, range(60)), drop(0.3, scorer), scorers=[scorer]).verdict == "untrusted"


def test_open_metric_without_pairs_for_some_samples() -> None:
    data = samples((200, 5.0))
    accept(data, scorers=["open"])
    ended = checked(data[4:], drop(1.0, "open"), scorers=["open"])
    assert "4" in ended.text and "removed" in ended.text
    assert checked(data[20:], drop(1.0, "open"), scorers=["open"]).verdict == "untrusted"


def test_skipped_in_one_run_only_is_not_paired() -> None:
    accept(samples((200, "right")), scorers=["own"])
    ended = checked(samples((140, "right"), (60, "skip")), drop(0.05, "own"), scorers=["own"])
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "skipped" in ended.text


def test_epochs_missing_on_either_side_of_a_baseline() -> None:
    three = {"epochs": 3}
    whole, holes = samples((100, ["right"] * 3)), samples((100, ["right", "error", "error"]))
    accept(whole, run=three)
    assert checked(holes, drop(0.05), run=three).verdict == "untrusted"
    assert checked(holes, drop(0.05, min_coverage=0.1), run=three).verdict == "untrusted"
    assert checked(whole, drop(0.05), run=three).verdict == "pass"
    Path("baselines/case/main.jsonl").unlink()
    accept(holes, run=three)
    assert checked(whole, drop(0.05), run=three).verdict == "untrusted"


def test_counting_reducer_with_missing_epochs_in_the_baseline() -> None:
    keys = {"run": {"epochs": 3, "reducer": "at_least_2"}}
    accept(samples((190, ["right"] * 3), (10, ["right", "wrong", "error"])), **keys)
    now = samples((190, ["right"] * 3), (10, ["wrong"] * 3))
    assert checked(now, drop(0.04), **keys).verdict == "untrusted"  # the ten may have been right
    assert checked(now, drop(0.15), **keys).verdict == "pass"


def test_baseline_that_is_a_run_and_other_names() -> None:
    accept(BASE, "--name", "release")
    now = changed(BASE, range(60), "wrong")
    assert checked(now, {**drop(0.05), "baseline": "release"}).verdict == "untrusted"
    ended = command("gate", "last", "--baseline", "baselines/case/release.jsonl", "--json")
    assert (ended.code, ended.verdict) == (3, "untrusted")


def test_several_targets_on_one_baseline() -> None:
    Path("second.py").write_text("def answer(input):\n    return 'yes' if not input.endswith(' ') else 'no'\n")
    targets = [
        {"name": "m", "type": "python", "function": "own.py:answer"},
        {"name": "n", "type": "python", "function": "second.py:answer"},
    ]
    data = samples((200, "right"))
    accept(data, targets=targets)
    ended = checked(samples((192, "right"), (8, "error")), drop(0.03), targets=targets)
    assert (ended.code, ended.verdicts) == (3, ("untrusted", "pass"))


def test_untrusted_comparison_keeps_its_numbers() -> None:
    accept(BASE)
    ended = checked(changed(BASE, range(60), "wrong"), drop(0.05))
    baseline = ended.gates[0]["baseline"]
    assert baseline["n"] == 140


def test_samples_that_moved_to_another_slice_are_missing_in_their_own() -> None:
    data = samples((200, "right"), topic=["a", "b"])
    accept(data, slices=["topic"])
    moved = [
        {**line, "topic": "b", "plan": ["wrong"]} if at < 60 and at % 2 == 0 else line for at, line in enumerate(data)
    ]
    ended = checked(moved, drop(0.1, "exact_match[topic=a]"), slices=["topic"])
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "30 changed" in ended.text


def test_slice_that_was_removed_as_a_whole_has_a_gate_of_its_own() -> None:
    data = samples((200, "right"), topic=["a", "b"])
    accept(data, slices=["topic"])
    ended = checked(
        [line for line in data if line["topic"] == "b"], drop(0.1, "exact_match[topic=*]"), slices=["topic"]
    )
    assert (ended.code, ended.verdicts) == (3, ("untrusted", "pass"))
    assert "100 removed" in ended.text


def test_limit_does_not_hide_deleted_samples() -> None:
    data = samples((160, "right"), (40, "wrong"), (100, "right"))
    limited = {"path": "data.jsonl", "limit": 200}
    accept(data, dataset=limited)
    ended = checked(data[:160] + data[200:], drop(0.05), dataset=limited)
    assert (ended.code, ended.verdict) == (3, "untrusted")
    assert "40 removed" in ended.text
    assert checked(data, drop(0.05), dataset=limited).verdict == "pass"
    assert checked(data, drop(0.05), dataset={**limited, "limit": 150}).verdict == "pass"


@pytest.mark.parametrize("seed", [3, 8, 17])
def test_removed_samples_may_all_be_of_one_cluster(seed: int) -> None:
    """The five answers of one passage are removed, all of which got worse: as five passages they would weigh less."""
    chance = random.Random(seed)
    count = chance.choice([20, 30, 40])
    risks = [chance.choice([0, 0, 0, 0.3, 0.6]) for _ in range(count)]
    now = ["wrong" if chance.random() < risks[at // 5] else "right" for at in range(5 * count)]
    passages = [f"p{at // 5}" for at in range(5 * count)]
    clustered = {"path": "data.jsonl", "cluster": "passage"}
    accept(samples((5 * count, "right"), passage=passages), dataset=clustered)
    data = samples(*((1, outcome) for outcome in now), passage=passages)
    worst = max(range(count), key=lambda cluster: now[5 * cluster : 5 * cluster + 5].count("wrong"))
    share = now.count("wrong") / len(now)
    gates = [drop(round(share + more, 3), family="none") for more in (0.05, 0.07, 0.09, 0.12, 0.16)]
    whole = run(data, gates, dataset=clustered).verdicts
    part = checked(data[: 5 * worst] + data[5 * worst + 5 :], *gates, dataset=clustered).verdicts
    assert [now for now, full in zip(part, whole, strict=True) if now in ("pass", "fail") and now != full] == []


def test_sequential_gate_counts_samples_that_left_its_slice() -> None:
    """The hard samples of a slice are removed, or moved to another one: what is left looks as good as before."""
    data = samples((320, "right"), (80, "wrong"), topic=["a", "b"])
    accept(data, slices=["topic"])
    gate = drop(0.1, "exact_match[topic=a]", sequential=True)
    hard = [row["id"] for row in data if row["topic"] == "a" and row["plan"] == ["wrong"]]
    for ids, rest in (
        ([], data),
        (hard, [row for row in data if row["id"] not in hard]),
        (hard, [{**row, "topic": "b"} if row["id"] in hard else row for row in data]),
    ):
        verdict = run(rest, [gate], slices=["topic"]).verdict
        assert (verdict == "pass") == (not ids), (verdict, len(rest))


def test_sequential_gate_sees_samples_replaced_behind_a_limit() -> None:
    data = samples((320, "right"), (80, "wrong"))
    accept(data)
    rest = [row if row["plan"] == ["right"] else {**row, "id": f"new-{row['id']}", "plan": ["right"]} for row in data]
    assert run(data, [drop(0.1, sequential=True)], "--limit", "400").verdict == "pass"
    assert run(rest, [drop(0.1, sequential=True)], "--limit", "400").verdict != "pass"
