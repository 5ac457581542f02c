"""`--failed-from RUN`: the samples that failed there, as a new run without a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner import RunOptions
from evalrunner.baselines.resolve import baseline_of_run
from evalrunner.errors import RunNotFoundError
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import RunRecord
from tests.fakes.command import evalrun

SUITE = """\
name: qa
dataset: rows.jsonl
targets:
  - {name: a, type: recorded, column: a}
  - {name: b, type: recorded, column: b}
scorers: [exact_match, token_f1]
gates: [exact_match >= 0.9]
"""
# right, wrong, empty and right for a; only r1 is wrong for b
ROWS = [
    {"id": "r1", "input": "1?", "expected": "1", "a": "1", "b": "x"},
    {"id": "r2", "input": "2?", "expected": "2", "a": "x", "b": "2"},
    {"id": "r3", "input": "3?", "expected": "3", "a": "", "b": "3"},
    {"id": "r4", "input": "4?", "expected": "4", "a": "4", "b": "4"},
]


def write(rows: list[dict[str, Any]] | None = None, suite: str = SUITE) -> None:
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, ROWS if rows is None else rows)))
    Path("qa.yaml").write_text(suite)


def ids_of(folder: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return sorted((row["target"], row["id"]) for row in rows if "id" in row)


def first_run(**options: Any) -> str:
    write()
    return evalrunner.run_suite("qa.yaml", options=RunOptions(**options)).run_id


def test_wrong_and_unscored_samples_of_any_target_are_repeated_with_all_targets() -> None:
    first = first_run()
    result = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first))
    assert ids_of(result.folder) == [(target, name) for target in "ab" for name in ("r1", "r2", "r3")]
    assert result.run_id != first


def test_with_one_target_only_its_failures_are_repeated() -> None:
    first = first_run()
    result = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first, targets=("b",)))
    assert ids_of(result.folder) == [("b", "r1")]


def test_another_target_repeats_the_failures_of_all() -> None:
    first = first_run()
    write(suite=SUITE.replace("name: a,", "name: c,").replace("name: b,", "name: d,"))
    result = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first, targets=("c",)))
    assert ids_of(result.folder) == [("c", "r1"), ("c", "r2"), ("c", "r3")]


def test_the_run_counts_what_passes_now_and_has_no_verdict() -> None:
    first = first_run()
    write([{**row, "a": row["expected"]} for row in ROWS])
    done = evalrun("qa.yaml", "--failed-from", "last")
    assert done.returncode == 0
    text = " ".join((done.stdout + done.stderr).split())
    assert f"of the samples that failed in run {first}, 2 of 2 pass now with a and 0 of 1 pass now with b" in text
    assert "gates were not checked: samples that were selected because they failed say nothing about the suite" in text
    assert "FAIL" not in text and "PASS" not in text


def test_the_suite_of_the_run_is_used_if_none_is_named_and_last_is_stored_as_its_id() -> None:
    first = first_run()
    assert evalrun("--failed-from", "last", "-q").returncode == 0
    newest = max(Path("runs/qa").iterdir(), key=lambda path: (path / "run.json").stat().st_mtime_ns)
    assert RunRecord.load(newest).failed_from == first


def test_a_part_is_neither_gated_nor_accepted_nor_a_baseline_also_after_scoring_it_again() -> None:
    first = first_run()
    part = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first))
    assert evalrun("score", "last", "-q").returncode == 0
    for command in (
        ["gate", part.run_id],
        ["gate", "last"],
        ["baseline", "accept", part.run_id],
        ["baseline", "accept"],
    ):
        refused = evalrun(*command)
        assert (refused.returncode, f"only the samples that failed in run {first}" in refused.stderr) == (2, True)
    with pytest.raises(RunNotFoundError, match="is no baseline: it has only the samples that failed"):
        baseline_of_run(RunFolder(part.folder))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["qa.yaml", "--failed-from", "nowhere"], "no run 'nowhere' in 'runs'; the newest is "),
        (["qa.yaml", "other.yaml", "--failed-from", "last"], "--failed-from takes one suite, because the failed rows are those of one run"),
        (["--failed-from", "last", "--resume", "last"], "--failed-from starts a new run, and --resume continues one; leave one of them out"),
        (["other.yaml", "--failed-from", "last"], "is of suite 'qa', not of 'other'"),
        (["qa.yaml", "--failed-from", "last", "--where", "id=r4"], "none of the 3 samples that failed in run "),
    ],
)  # fmt: skip
def test_mistakes_are_usage_errors_with_a_sentence(args: list[str], message: str) -> None:
    first_run()
    Path("other.yaml").write_text(SUITE.replace("name: qa", "name: other"))
    done = evalrun(*args)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert len(list(Path("runs/qa").iterdir())) == 1


def test_nothing_to_repeat_is_a_sentence() -> None:
    write([{**row, "a": row["expected"], "b": row["expected"]} for row in ROWS])
    first = evalrunner.run_suite("qa.yaml").run_id
    done = evalrun("--failed-from", "last")
    assert (done.returncode, done.stderr) == (
        2,
        f"evalrun: --failed-from: none of the 8 rows of run {first} failed; nothing to repeat\n",
    )
    write([{**row, "a": row["expected"]} for row in ROWS])
    first = evalrunner.run_suite("qa.yaml").run_id
    done = evalrun("--failed-from", "last", "-t", "a")
    assert done.stderr == f"evalrun: --failed-from: no row of the target a failed in run {first}\n"


def test_samples_that_left_the_dataset_are_reported() -> None:
    first = first_run()
    write(ROWS[:2])
    result = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first))
    assert (
        f"1 of the 3 samples that failed in run {first} are not in the dataset" in RunRecord.load(result.folder).notices
    )


def test_shuffle_and_limit_apply_to_the_failed_samples() -> None:
    rows = [{"id": f"r{n}", "input": f"{n}?", "expected": "x", "a": "xy"[n % 2], "b": "x"} for n in range(40)]
    write(rows, SUITE.replace("dataset: rows.jsonl", "dataset: {path: rows.jsonl, shuffle: 3, limit: 30}"))
    first = evalrunner.run_suite("qa.yaml")
    failed = {name for target, name in ids_of(first.folder) if target == "a" and int(name[1:]) % 2}
    again = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first.run_id))
    assert {name for _, name in ids_of(again.folder)} == failed
    some = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first.run_id, limit=3))
    assert len({name for _, name in ids_of(some.folder)} & failed) == 3


def test_repeated_content_keeps_its_ids() -> None:
    rows = [{"input": "1?", "expected": "x", "a": answer, "b": "x"} for answer in ("x", "y", "x", "y")]
    write(rows)
    first = evalrunner.run_suite("qa.yaml")
    failed = {row["id"] for row in map(json.loads, (first.folder / "rows.jsonl").read_text().splitlines()) if row["target"] == "a" and row["completion"]["text"] == "y"}  # fmt: skip
    again = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first.run_id))
    assert {name for _, name in ids_of(again.folder)} == failed
    assert len(failed) == 2


def test_a_part_can_be_resumed() -> None:
    first = first_run()
    part = evalrunner.run_suite("qa.yaml", options=RunOptions(failed_from=first))
    log = part.folder / "rows.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    resumed = evalrun("--resume", part.run_id)
    assert resumed.returncode == 0, resumed.stderr
    assert ids_of(part.folder) == [(target, name) for target in "ab" for name in ("r1", "r2", "r3")]
    assert "gates were not checked" in resumed.stdout + resumed.stderr
