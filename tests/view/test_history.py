"""The history of a suite: its axis, gates as lines, runs that were accepted as baselines, and what is kept in memory."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.baselines.accept import accept_run
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.notes import RunNotes
from evalrunner.view.charts import HEIGHT, TOP, Axis
from evalrunner.view.stored import RunStore
from tests.fakes.command import evalrun
from tests.view.test_server import EVIL, ONE, Browser, browser, plain, write_suite  # noqa: F401

GATES = """target: {type: recorded, column: a, name: one}
gates:
  - exact_match >= 0.5
  - {metric: exact_match, max_drop: 0.1, baseline: main}
"""


def run(suite: str, **changes: Any) -> RunFolder:
    """A new run; `changes` are made to its run.json."""
    folder = Path(evalrunner.run_suite(suite).folder)
    if changes:
        data = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**data, **changes}))
    return RunFolder(folder)


def accept(folder: RunFolder, name: str = "main") -> None:
    accept_run(folder, name=name, suite_file=None, force=True, outputs=False)


def test_gates_are_lines_with_their_threshold_and_text(browser: Browser) -> None:  # noqa: F811
    suite = write_suite(more=GATES)
    accept(run(suite))
    run(suite)
    page = browser.page("/suites/s")
    assert len(re.findall('<line class="gate"', page)) == 2
    text = plain(page)
    assert "0.650 exact_match at most 0.1 worse than main" in text  # 0.75 in the baseline
    assert "0.500 exact_match >= 0.5" in text
    assert "Dashed lines across: gates of the newest run." in text


def test_a_gate_on_another_metric_than_the_headline_has_a_chart(browser: Browser) -> None:  # noqa: F811
    Path("bot.py").write_text("def answer(input):\n    return 'yes'\n")
    more = "target: {type: python, function: 'bot.py:answer', name: one}\ngates: [latency/p90 <= 100]\n"
    run(write_suite(more=more))
    page = browser.page("/suites/s")
    assert re.findall(r"<figcaption><h2>([^<]+)", page) == ["exact_match/v1", "latency/p90 (s)"]
    assert "100.000 latency/p90 <= 100" in plain(page)


def test_accepted_runs_are_marked_in_chart_list_and_run(browser: Browser) -> None:  # noqa: F811
    suite = write_suite(more=ONE)
    first, second = run(suite), run(suite)
    accept(first, "main")
    accept(first, "release")
    page = browser.page("/suites/s")
    assert '<text class="accepted"' in page
    assert "◆ main, release" in page
    assert f"{first.id} ◆ main ◆ release" in plain(page)
    assert f"{second.id} ◆" not in plain(page)
    assert "Accepted as baseline ◆ main ◆ release" in plain(browser.page(f"/runs/s/{first.id}"))
    shutil.rmtree(first.path)
    assert f"Baseline main is run {first.id}, which is not in this folder." in plain(browser.page("/suites/s"))


def test_runs_of_failed_samples_are_listed_but_not_drawn(browser: Browser) -> None:  # noqa: F811
    suite = write_suite(more=ONE)
    whole = run(suite)
    assert evalrun(suite, "-q", "--failed-from", whole.id).returncode == 0
    (again,) = [path for path in Path("runs/s").iterdir() if path.name != whole.id]
    page = browser.page("/suites/s")
    assert len(re.findall('class="point"', page)) == 1
    assert f"{again.name} failed samples of {whole.id}" in plain(page)
    assert f"Only the samples that failed in {whole.id}" in plain(browser.page(f"/runs/s/{again.name}"))


@pytest.mark.parametrize("place", ["{outside}/s.yaml", "../outside/s.yaml", "\x00/s.yaml", "//host/share/s.yaml"])
def test_baselines_outside_the_current_folder_are_not_read(
    browser: Browser,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
    place: str,
) -> None:
    folder = run(write_suite(more=ONE))
    accept(folder)
    outside = Path.cwd().parent / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    shutil.move("baselines", outside / "baselines")
    data = json.loads((folder.path / "run.json").read_text())
    data["suite_file"] = place.format(outside=outside)
    (folder.path / "run.json").write_text(json.dumps(data))
    assert "◆" not in browser.page("/suites/s")


def test_hostile_and_broken_baselines_do_not_break_the_page(browser: Browser) -> None:  # noqa: F811
    folder = run(write_suite(more=ONE))
    accept(folder)
    path = Path("baselines/s/main.jsonl")
    head = json.loads(path.read_text().splitlines()[0])
    path.with_name("<img src=x>\u202e.jsonl").write_text(json.dumps({**head, "run_id": EVIL}) + "\n")
    path.with_name("empty.jsonl").write_text("")
    path.with_name("text.jsonl").write_text("<<<<<<< HEAD\n")
    path.with_name("folder.jsonl").mkdir()
    page = browser.page("/suites/s")
    assert not re.search(r"<script|<img|\x1b|\u202e", page)
    assert "Baseline <img src=x> is run <script>alert(1)</script>" in plain(page)
    assert f"{folder.id} ◆ main" in plain(page)


def test_dates_stand_below_the_chart(browser: Browser) -> None:  # noqa: F811
    suite = write_suite(more=ONE)
    for day in range(1, 8):
        run(suite, started_at=f"2026-03-{day:02}T10:00:00Z")
    page = browser.page("/suites/s")
    dates = re.findall(r"<text [^>]*>(2026-[\d-]+)</text>", page)
    assert dates == ["2026-03-01", "2026-03-03", "2026-03-04", "2026-03-05", "2026-03-07"]
    assert page.count('class="minor"') == 2
    assert "n=40, 2026-03-07 10:00, pass" in html.unescape(page)


@pytest.mark.parametrize(
    ("ends", "axis"),
    [
        ([0.5, 0.9], (0.4, 1.0)),
        ([1.0, 1.0], (0.9, 1.0)),
        ([0.0, 0.0], (0.0, 1.0)),
        ([12.0, 480.0], (0.0, 600.0)),
        ([-3.0, 5.0], (-5.0, 7.5)),
        ([7e99, 7e99], None),
        ([1e-9, 2e-9], None),
    ],
)
def test_axes_have_round_ends_and_hold_all_values(ends: list[float], axis: tuple[float, float] | None) -> None:
    found = Axis.of(ends)
    assert axis is None or (found.low, found.high) == pytest.approx(axis)
    assert 2 <= len(found.ticks) <= 8
    for end in ends:
        assert TOP <= found.height(end) <= HEIGHT


def test_a_run_is_read_again_only_when_its_files_change(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(write_suite(more=ONE))
    store = RunStore(Path("runs"))
    before = store.overall(folder)
    assert before is not None
    assert store.overall(folder) is before
    RunNotes("", ("tag",)).write(folder.path)
    after = store.overall(folder)
    assert after is not None
    assert after.notes.tags == ("tag",)
    (folder.path / "metrics.json").unlink()
    assert store.overall(folder) is None
