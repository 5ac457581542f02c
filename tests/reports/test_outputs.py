"""Outputs are reporters: found by extension, written live or from a stored run, none lost because another fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import evalrunner
from tests.fakes.command import evalrun
from tests.fakes.server import Answer, ScriptedServer
from tests.reports.test_results import write_suite

GATED = """\
name: sums
dataset: rows.jsonl
target: {model: m, base_url: "ADDRESS"}
scorers: [exact_match, token_f1]
slices: [topic]
gates: [exact_match >= 0.9, token_f1 >= 0.1]
"""
PLUGIN = """\
class Lines:
    def __init__(self, path):
        self.path, self.ids = path, []

    def on_start(self, run):
        self.ids.append(run.suite)

    def on_row(self, row):
        self.ids.append(f"{row.target} {row.sample.id}")

    def on_end(self, run):
        self.path.write_text("\\n".join([self.ids[0], *sorted(self.ids[1:]), run.verdict]))


class Broken:
    def __init__(self, path):
        pass

    def on_start(self, run):
        pass

    def on_row(self, row):
        raise ValueError("no such row")

    def on_end(self, run):
        pass
"""


@pytest.fixture
def plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with an installed package that adds the outputs `.lines` and `.broken`."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "lines_output.py").write_text(PLUGIN)
    info = folder / "lines_output-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-output\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[evalrunner.reporters]\n.lines = lines_output:Lines\n.broken = lines_output:Broken\n"
    )
    return str(folder)


def write_gated(address: str) -> str:
    rows = [{"input": f"{place}+0?", "expected": str(place), "topic": "ab"[place % 2]} for place in range(6)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("sums.yaml").write_text(GATED.replace("ADDRESS", address))
    return "sums.yaml"


def test_show_prints_the_same_text_as_the_live_run() -> None:
    with ScriptedServer(lambda request, nth: Answer(str(nth % 4))) as server:
        live = evalrun(write_gated(server.base_url))
    assert live.returncode == 1
    assert "95% CI" in live.stdout and "lowest scores" in live.stdout and " by topic" in live.stdout
    assert evalrun("show").stdout == live.stdout


def test_show_prints_the_same_comparison_as_the_live_run() -> None:
    live = evalrun(write_suite(40))
    assert "largest differences between targets" in live.stdout
    assert evalrun("show").stdout == live.stdout


def test_stored_run_gives_the_same_files_as_the_live_run() -> None:
    names = ("csv", "json", "jsonl", "html", "md", "svg")
    result = evalrunner.run_suite(
        write_suite(20), options=evalrunner.RunOptions(outputs=tuple(f"live/t.{name}" for name in names))
    )
    done = evalrun("report", *[part for name in names for part in ("-o", f"again/t.{name}")])
    assert done.returncode == 0, done.stderr
    for name in names:
        assert Path(f"again/t.{name}").read_bytes() == Path(f"live/t.{name}").read_bytes(), name
    assert (result.folder / "table.csv").read_bytes() == Path("again/t.csv").read_bytes()


def test_output_of_another_package_is_written_live_and_from_a_stored_run(plugin: str) -> None:
    env = {"PYTHONPATH": f"{plugin}:{':'.join(sys.path[1:])}"}
    done = evalrun(write_suite(5), "-q", "-o", "live.lines", env=env)
    assert done.returncode == 3, done.stderr
    lines = Path("live.lines").read_text().splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("rec", 12, "untrusted")
    assert evalrun("report", "-o", "again.lines", env=env).returncode == 0
    assert Path("again.lines").read_bytes() == Path("live.lines").read_bytes()
    assert ".lines" in evalrun("report", "-o", "x.pdf", env=env).stderr


def test_output_that_fails_does_not_stop_the_others(plugin: str) -> None:
    env = {"PYTHONPATH": f"{plugin}:{':'.join(sys.path[1:])}"}
    done = evalrun(write_suite(5), "-q", "-o", "x.broken", "-o", "out.lines", env=env)
    assert done.returncode != 0
    assert "no such row" in done.stderr and "finished rows are saved" in done.stderr
    assert Path("out.lines").exists()
    (folder,) = Path("runs/rec").iterdir()
    assert {"table.csv", "metrics.json", "run.json", "report.html"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "run.json").read_text())["verdict"] == "untrusted"
