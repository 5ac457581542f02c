"""The report of a large run: its size, the time to write it, and the time until it is usable in a browser.

    python benchmarks/report.py [--rows 10000 --targets 4 --characters 1000 --repeats 3]

Scores recorded answers, then opens report.html in the system's Chromium with Playwright. Times are measured in the browser
from the start of the navigation; medians over the repeats. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
ARGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
WORDS = Path(__file__).read_text(encoding="utf-8").split()

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
FILTER = """
(text) => new Promise((done) => {
  const started = performance.now(), count = document.getElementById("count"), before = count.textContent;
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)))).observe(count, {childList: true});
  const search = document.getElementById("search");
  search.value = text;
  search.dispatchEvent(new Event("input", {bubbles: true}));
})
"""
SORT = """
() => new Promise((done) => {
  const started = performance.now();
  document.querySelector("button[data-sort='input']").click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
})
"""

VIEW = """
(view) => new Promise((done) => {
  const started = performance.now();
  document.getElementById(`tab-${view}`).click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
})
"""


def text_of(drawn: random.Random, characters: int) -> str:
    """Words and numbers in random order, which compress poorly. `characters` long."""
    words: list[str] = []
    size = 0
    while size < characters:
        words.append(drawn.choice(WORDS) if drawn.random() < 0.7 else f"{drawn.getrandbits(40):x}")
        size += len(words[-1]) + 1
    return " ".join(words)[:characters]


def write_suite(folder: Path, options: argparse.Namespace) -> None:
    """A dataset with recorded answers, and a suite that scores them."""
    drawn = random.Random(7)
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
        for place in range(options.rows):
            line: dict[str, Any] = {
                "id": f"q{place}",
                "input": text_of(drawn, 200),
                "expected": str(place),
                "topic": f"t{place % 9}",
            }
            for target in range(options.targets):
                line[f"a{target}"] = f"{text_of(drawn, options.characters)} {place if drawn.random() < 0.7 else ''}"
            file.write(json.dumps(line) + "\n")
    targets = "\n".join(
        f"  - {{type: recorded, column: a{target}, name: target-{target}}}" for target in range(options.targets)
    )
    (folder / "bench.yaml").write_text(
        f"name: bench\ndataset: answers.jsonl\ntargets:\n{targets}\nscorers: [contains, token_f1]\n"
        "gates: [contains >= 0.5]\n",
        encoding="utf-8",
    )


def open_page(browser: Any, page_file: Path) -> dict[str, float]:
    """Milliseconds from navigation to each event of one page view."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
    found = {"overview complete": page.evaluate("performance.now()"), "first paint": page.evaluate(PAINTED)}
    found["statistics drawn, from the click"] = page.evaluate(VIEW, "statistics")
    page.goto("about:blank")
    page.goto(page_file.as_uri() + "#rows")
    page.wait_for_selector("#row-table tbody tr.row", timeout=120_000)
    found["first rows"] = page.evaluate("performance.now()")
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
    found["all rows loaded"] = page.evaluate("performance.now()")
    found["search to a filtered table"] = page.evaluate(FILTER, "import")
    found["sort by input"] = page.evaluate(SORT)
    context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from evalrunner.reports.html.page import write_report
    from evalrunner.reports.view import stored_view
    from evalrunner.runs.folder import RunFolder

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_suite(folder, options)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-m", "evalrunner", "bench.yaml", "-q"],
            cwd=folder,
            env=env,
            check=True,
            capture_output=True,
        )
        (run,) = folder.glob("runs/bench/*")
        report = folder / "report.html"
        view = stored_view(RunFolder(run))
        write_report(view, report)
        started = time.perf_counter()
        write_report(view, report)
        written = time.perf_counter() - started
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, headless=True, args=ARGS.split())
            open_page(browser, report)
            visits = [open_page(browser, report) for _ in range(options.repeats)]
            browser.close()
        size = report.stat().st_size
        log = (run / "rows.jsonl").stat().st_size
    print(f"{options.rows:,} rows × {options.targets} targets, {options.characters:,} characters per answer\n")
    print("| | |\n|---|---|")
    print(f"| report.html | {size / 1e6:.1f} MB (rows.jsonl {log / 1e6:.1f} MB) |")
    print(f"| written in | {written:.2f} s |")
    for what in (
        "first paint",
        "overview complete",
        "first rows",
        "all rows loaded",
        "statistics drawn, from the click",
        "search to a filtered table",
        "sort by input",
    ):
        print(f"| {what} | {statistics.median(visit[what] for visit in visits) / 1000:.2f} s |")


if __name__ == "__main__":
    main()
