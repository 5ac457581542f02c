"""Run folders: creating, listing and finding them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evalrunner.errors import RunError, RunNotFoundError
from evalrunner.runs.folder import RunFolder, create_run_folder, find_run, list_runs, read_json
from evalrunner.storage import write_json


def make_run(when: datetime, suite: str = "qa") -> RunFolder:
    folder = create_run_folder(Path("runs"), suite, now=when)
    write_json(folder.path / "run.json", {"suite": suite})
    return folder


def test_a_run_is_found_by_path_id_prefix_or_last() -> None:
    old = make_run(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    new = make_run(datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC), "other")
    assert old.id.startswith("20260102T030405Z-")
    assert list_runs(Path("runs")) == [new, old]
    for reference in (str(old.path), old.id, "20260102T030405"):
        assert find_run(reference, Path("runs")) == old
    assert find_run("last", Path("runs")) == new


def test_missing_or_ambiguous_run_is_an_error() -> None:
    with pytest.raises(RunNotFoundError, match="no runs in 'runs' yet"):
        find_run("last", Path("runs"))
    make_run(datetime(2026, 1, 2, tzinfo=UTC))
    make_run(datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(RunNotFoundError, match="is ambiguous: .*; give more of the id"):
        find_run("2026", Path("runs"))
    with pytest.raises(RunNotFoundError, match="no run '1999' in 'runs'; the newest is 2026"):
        find_run("1999", Path("runs"))


def test_files_are_written_atomically() -> None:
    path = Path("run.json")
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}
    assert [item.name for item in Path().iterdir()] == ["run.json"]


def test_a_file_in_place_of_the_run_folder_is_a_plain_error() -> None:
    Path("runs").write_text("")
    with pytest.raises(RunError, match="cannot create run folder"):
        create_run_folder(Path("runs"), "qa", now=datetime.now(UTC))


def test_last_run_of_the_same_second_is_the_one_written_last(tmp_path: Path) -> None:
    for place, name in enumerate(["20261124T071801Z-ffff", "20261124T071801Z-0000"]):
        folder = tmp_path / "qa" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        os.utime(folder / "run.json", ns=(place, place))
    assert find_run("last", tmp_path).id == "20261124T071801Z-0000"
