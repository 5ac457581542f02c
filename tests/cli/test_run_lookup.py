"""Resume from another folder, and the errors of runs that cannot be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.command import evalrun
from tests.fakes.server import ScriptedServer

SUITE = 'name: s\ndataset: data.csv\ntarget: {{model: m, name: m, base_url: "{address}"}}\nscorers: [exact_match]\n'


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server, and an interrupted run with six of its ten rows, in the sibling folder `there`."""
    with ScriptedServer() as server:
        Path("there/suites").mkdir(parents=True)
        os.chdir("there")
        Path("suites/data.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i},ok\n" for i in range(10)))
        Path("suites/s.yaml").write_text(SUITE.format(address=server.base_url))
        assert evalrun("suites/s.yaml").returncode == 0
        log = run_folder() / "rows.jsonl"
        log.write_bytes(b"".join(log.read_bytes().splitlines(True)[:6]))
        yield server


def run_folder() -> Path:
    (folder,) = Path("runs/s").absolute().iterdir()
    return folder


def test_resume_works_from_any_working_directory(server: ScriptedServer) -> None:
    folder = run_folder()
    elsewhere = Path("../elsewhere/suites")
    elsewhere.mkdir(parents=True)
    (elsewhere / "s.yaml").write_text("name: another\n")  # same name, unrelated to this run
    os.chdir(elsewhere.parent)
    done = evalrun("--resume", str(folder))
    assert done.returncode == 0, done.stderr
    assert "6 of 10 rows were finished, 4 remaining" in done.stdout
    assert server.calls == 14
    os.chdir(folder.parent)  # the second time by a relative path, from within
    again = evalrun("--resume", folder.name)
    assert (again.returncode, server.calls) == (0, 14), again.stderr


def test_resume_asks_for_a_moved_suite_and_accepts_its_path(server: ScriptedServer) -> None:
    Path("suites").rename("moved")
    refused = evalrun("--resume", "last")
    assert refused.returncode == 2
    folder = run_folder().relative_to(Path.cwd())
    assert (
        f"suite 'suites/s.yaml' of run {folder.name} not found; name its file: evalrun SUITE --resume {folder}"
        in refused.stderr
    )
    done = evalrun("moved/s.yaml", "--resume", "last")
    assert done.returncode == 0, done.stderr
    assert server.calls == 14


def test_folder_without_run_json_is_an_error(server: ScriptedServer) -> None:
    (run_folder() / "run.json").unlink()
    done = evalrun("--resume", str(run_folder()))
    assert done.returncode == 2
    assert "has no run.json, which describes the run" in done.stderr


def test_corrupt_row_is_named_and_can_be_removed(server: ScriptedServer) -> None:
    log = run_folder() / "rows.jsonl"
    lines = log.read_bytes().splitlines(True)
    log.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"text":"ok"', b'"text":"no"'), *lines[3:]]))
    refused = evalrun("--resume", "last")
    assert refused.returncode == 2
    assert "rows.jsonl:3: wrong checksum" in refused.stderr
    assert "restore it, or remove the line, and a resumed run repeats its row" in refused.stderr
    log.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    done = evalrun("--resume", "last")
    assert "5 of 10 rows were finished, 5 remaining" in done.stdout
    assert len({json.loads(line)["id"] for line in log.read_text().splitlines()}) == 10
