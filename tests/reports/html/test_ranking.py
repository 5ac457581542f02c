"""Targets side by side in the page: the ranking of a run, and the page of several runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from evalrunner.reports.html.data import GROUP
from tests.fakes.command import evalrun
from tests.reports.html.conftest import Visit
from tests.reports.html.test_page import packs_of

EVIL = "</script><img src=x onerror=alert(1)>"
SUITE = """\
name: s
dataset: rows.jsonl
targets:
  - {type: recorded, column: a, name: good}
  - {type: recorded, column: b, name: "%s"}
  - {type: recorded, column: c, name: poor}
scorers: [exact_match]
"""


def write() -> None:
    rows = [
        {"input": f"{n}?", "expected": "yes", "a": "yes" if n % 12 else EVIL, "b": "yes" if n % 8 else "no", "c": "yes" if n % 2 else "no"}
        for n in range(96)
    ]  # fmt: skip
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("s.yaml").write_text(SUITE % EVIL.replace('"', ""))


def overview_of(page: Path) -> dict[str, object]:
    result = re.search(r'id="overview">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert result is not None
    return dict(json.loads(result[1]))


def compared() -> Path:
    """The page of three runs, each of one target."""
    write()
    for name in ("good", EVIL, "poor"):
        assert evalrun("s.yaml", "-t", name, "--output-dir", f"of-{len(name)}", "-q").returncode == 0
    runs = [str(next(Path(folder, "s").iterdir())) for folder in ("of-4", f"of-{len(EVIL)}")]
    both = sorted(Path("of-4/s").iterdir())
    done = evalrun("compare", *map(str, both), runs[1], "-o", "out/side.html", "-o", "out/side.json", "--diff", "0")
    assert done.returncode == 0, done.stderr
    return Path("out/side.html")


def test_comparison_page_has_all_targets_and_rows_of_the_same_samples() -> None:
    page = compared()
    overview = overview_of(page)
    names = [target["name"] for target in overview["targets"]]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(["good", "poor", EVIL])
    assert overview["comparison"]["family"] == 3  # type: ignore[index]
    assert "<img" not in page.read_text(encoding="utf-8")
    groups = packs_of(page)
    assert len(groups) == 96
    answers = GROUP.index("answers")
    assert all(len(group[answers]) == 3 and None not in group[answers] for group in groups)
    written = json.loads(Path("out/side.json").read_text())
    assert [metric["name"] for metric in written["metrics"]] == ["exact_match/v1"]
    wrong = evalrun("compare", "last", "-o", "out/side.pdf")
    assert wrong.returncode == 2 and "the extension should be .html or .json" in wrong.stderr


@pytest.mark.browser
def test_ranking_shows_signs_and_letters(visit: Callable[..., Visit]) -> None:
    write()
    assert evalrun("s.yaml", "-q").returncode == 0
    opened = visit(next(Path("runs/s").glob("*/report.html")).resolve())
    conclusions = opened.page.inner_text(".conclusions")
    assert f"good and {EVIL} beat poor." in conclusions and "Too close to call (96 samples): good vs" in conclusions
    opened.page.click("#tab-statistics")
    opened.shoot("ranking")
    section = opened.page.locator("#ranking")
    assert " ".join(section.locator(".order").inner_text().split()) == f"good 0.917 a ≈ {EVIL} 0.875 a > poor 0.500 b"
    assert section.locator(".order b").count() == 0  # nobody is better than every other one
    section.locator("summary").click()
    rows = section.locator("tbody tr")
    assert rows.count() == 3
    assert " ".join(rows.nth(1).inner_text().split()).startswith("good − poor +0.417 ")


@pytest.mark.browser
def test_rows_of_several_runs_are_side_by_side(visit: Callable[..., Visit]) -> None:
    opened = visit(compared().resolve())
    opened.shoot("compared-runs")
    assert opened.page.locator("h1").inner_text() == "s"
    assert "3 targets of 3 runs side by side." in opened.page.locator("#top").inner_text()
    assert opened.count() == "96 samples"
