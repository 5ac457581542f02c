"""`evalrun runs`: list, delete and prune stored runs, and write notes and tags."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

import evalrunner
from evalrunner.errors import InvalidRunError, RunError, RunLockedError, SuiteError
from evalrunner.runs.folder import RunFolder, RunLock, list_runs
from evalrunner.runs.notes import RunNotes
from evalrunner.runs.prune import delete_leftovers, delete_run, plan_prune
from tests.fakes.command import evalrun

SUITE = "dataset: {rows: [{id: a, input: q, expected: x, out: x}]}\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
DAYS = range(1, 6)  # of November 2026


@pytest.fixture
def stored() -> list[str]:
    """The ids of five runs of the suite `s`, oldest first."""
    Path("s.yaml").write_text(SUITE)
    folder = evalrunner.run_suite("s.yaml").folder
    names = [f"202611{day:02}T120000Z-00{day:02}" for day in DAYS]
    for name in names:
        shutil.copytree(folder, folder.with_name(name))
    shutil.rmtree(folder)
    return names


def remaining(suite: str = "s") -> list[str]:
    return sorted(path.name for path in (Path("runs") / suite).iterdir())


def test_prune_keeps_the_newest_runs_of_each_suite(stored: list[str]) -> None:
    shutil.copytree("runs/s", "runs/other")
    done = evalrun("runs", "prune", "--keep", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("6 runs deleted, ")
    assert remaining() == remaining("other") == stored[-2:]


def test_prune_of_one_suite_leaves_the_others(stored: list[str]) -> None:
    shutil.copytree("runs/s", "runs/other")
    assert evalrun("runs", "prune", "other", "--keep", "0").returncode == 0
    assert (remaining(), remaining("other")) == (stored, [])


def test_a_dry_run_of_prune_deletes_nothing(stored: list[str]) -> None:
    done = evalrun("runs", "prune", "--keep", "3", "--dry-run")
    assert [line for line in done.stdout.splitlines() if line.startswith("would delete")] == [
        f"would delete s/{name}" for name in (stored[1], stored[0])
    ]
    assert remaining() == stored


def test_keep_and_older_than_delete_what_both_allow(stored: list[str]) -> None:
    now = datetime(2026, 11, 5, 12, tzinfo=UTC)
    day_s = 86_400
    assert deleted(older_than_s=3 * day_s, now=now) == stored[:2][::-1]
    assert deleted(keep=4, older_than_s=3 * day_s, now=now) == stored[:1]
    assert deleted(keep=1, older_than_s=3 * day_s, now=now) == stored[:2][::-1]


def deleted(*, now: datetime, keep: int = 0, older_than_s: float = 0) -> list[str]:
    return [run.id for run in plan_prune(Path("runs"), keep=keep, older_than_s=older_than_s, now=now).delete]


def test_runs_with_a_tag_are_kept_and_do_not_count(stored: list[str]) -> None:
    assert evalrun("runs", "note", stored[0], "--tag", "release-1").returncode == 0
    done = evalrun("runs", "prune", "--keep", "1")
    assert remaining() == [stored[0], stored[-1]]
    assert done.stdout.splitlines()[-1] == "1 with a tag kept"


def test_a_run_in_progress_is_kept_with_a_note(stored: list[str]) -> None:
    with RunLock(Path("runs/s") / stored[0]):
        done = evalrun("runs", "prune", "--keep", "4")
    assert done.returncode == 0
    assert "0 runs deleted" in done.stdout
    assert "is being written by process" in done.stderr
    assert remaining() == stored


def test_delete_removes_the_named_runs_once(stored: list[str]) -> None:
    done = evalrun("runs", "delete", stored[0], str(Path("runs/s") / stored[0]), "last")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 runs deleted")
    assert remaining() == stored[1:-1]


def test_a_link_to_a_run_is_not_deleted(stored: list[str]) -> None:
    target = Path("kept") / stored[0]
    shutil.move(Path("runs/s") / stored[0], target)
    (Path("runs/s") / stored[0]).symlink_to(target.absolute())
    done = evalrun("runs", "delete", stored[0])
    assert (done.returncode, "is a link to another folder" in done.stderr) == (2, True)
    assert (target / "run.json").is_file()


def test_what_an_interrupted_deletion_left_is_deleted_by_the_next(stored: list[str]) -> None:
    leftover = Path("runs/s") / f".{stored[0]}.deleted"
    (Path("runs/s") / stored[0]).rename(leftover)
    (Path("runs/s") / ".mine.deleted").mkdir()
    assert [run.id for run in list_runs(Path("runs"))] == stored[1:][::-1]
    delete_leftovers(Path("runs"))
    assert remaining() == [".mine.deleted", *stored[1:]]


def test_a_run_that_cannot_be_deleted_is_an_error_and_stays(stored: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RunError, match="cannot delete .*Permission denied"):
        delete_run(RunFolder(Path("runs/s") / stored[0]))
    assert remaining() == stored


def test_a_locked_run_cannot_be_deleted(stored: list[str]) -> None:
    folder = Path("runs/s") / stored[0]
    with RunLock(folder), pytest.raises(RunLockedError):
        delete_run(RunFolder(folder))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("prune",), "say which runs to delete: --keep 20"),
        (("prune", "--older-than", "soon"), "--older-than is 'soon'; it should be a time such as 90s, 12h or 30d"),
        (("prune", "nosuch", "--keep", "1"), "no runs of suite 'nosuch' in 'runs'"),
        (("--output-dir", "x", "prune", "--keep", "1"), "write --output-dir after 'prune'"),
        (("note", "last", "--tag", "two words"), "tag 'two words' should be one word"),
        (("note", "last", "--untag", "gone"), "has no tag 'gone'; its tags: none"),
        (("note", "last", "x" * 10_001), "the note has 10,001 characters; at most 10,000 are allowed"),
        (("delete", "2099"), "no run '2099' in 'runs'"),
    ],
)
def test_mistakes_end_with_code_2_and_delete_nothing(stored: list[str], args: tuple[str, ...], words: str) -> None:
    done = evalrun("runs", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert remaining() == stored


def test_notes_and_tags_are_shown_changed_and_removed(stored: list[str]) -> None:
    first = evalrun("runs", "note", stored[0], "judge changed\nto a newer one", "--tag", "b", "--tag", "a")
    assert first.stdout == f"run {stored[0]}\ntags: a, b\njudge changed\nto a newer one\n"
    assert evalrun("runs", "note", stored[0], "--untag", "a").stdout.splitlines()[1:3] == ["tags: b", "judge changed"]
    assert evalrun("runs", "note", stored[0], "").stdout == f"run {stored[0]}\ntags: b\nno note\n"
    assert evalrun("runs", "note", stored[0], "--untag", "b").stdout.endswith("tags: none\nno note\n")
    assert not (Path("runs/s") / stored[0] / "notes.json").exists()


def test_the_list_shows_tags_and_filters_by_them(stored: list[str]) -> None:
    assert "tags" not in evalrun("runs").stdout
    RunNotes(tags=("release-1",)).write(Path("runs/s") / stored[2])
    listed = evalrun("runs").stdout
    assert [line.split()[-1] for line in listed.splitlines() if stored[2] in line] == ["release-1"]
    filtered = evalrun("runs", "--tag", "release-1").stdout
    assert [name for name in stored if name in filtered] == [stored[2]]
    assert evalrun("runs", "--tag", "other").stdout == (
        "no run has the tag 'other'; 'evalrun runs note RUN --tag other' sets it\n"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"evalrun_notes": 1}', '{"evalrun_notes": 1, "note": 3, "tags": []}',
             '{"evalrun_notes": 1, "note": "", "tags": ["a b"]}', '{"evalrun_notes": 9, "note": "", "tags": []}'],
)  # fmt: skip
def test_broken_notes_are_an_error_of_note_and_protect_the_run_from_pruning(stored: list[str], text: str) -> None:
    (Path("runs/s") / stored[0] / "notes.json").write_text(text)
    with pytest.raises((InvalidRunError, evalrunner.RunNotFoundError)):
        RunNotes.load(Path("runs/s") / stored[0])
    assert [run.id for run in plan_prune(Path("runs"), keep=0).delete] == stored[:0:-1]


def test_notes_are_kept_as_data() -> None:
    Path("run").mkdir()
    notes = RunNotes().with_note(" a \x1b[31m note ").with_tags(["x", "x", "ä"])
    notes.write(Path("run"))
    assert RunNotes.load(Path("run")) == RunNotes("a \x1b[31m note", ("x", "ä"))
    assert json.loads(Path("run/notes.json").read_text()) == {
        "evalrun_notes": 1, "note": "a \x1b[31m note", "tags": ["x", "ä"],
    }  # fmt: skip
    with pytest.raises(SuiteError, match="a run may have 50 tags, not 51"):
        RunNotes().with_tags(str(number) for number in range(51))


def test_notes_of_a_read_only_run_are_an_error(stored: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("evalrunner.runs.notes.write_json", refuse)
    with pytest.raises(RunError, match="cannot write .*Read-only file system"):
        RunNotes("text").write(Path("runs/s") / stored[0])
