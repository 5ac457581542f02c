"""MLflow's web pages of a sent run, in a browser: rows, scores and explanations are visible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mlflow.conftest import Arrived
from tests.mlflow.runs import run, tracking
from tests.reports.html.conftest import ARGS, SCREENSHOTS

pytestmark = [pytest.mark.mlflow, pytest.mark.browser, pytest.mark.slow]
WAIT_MS = 90_000  # MLflow's pages are large, and the machine may be busy


@pytest.fixture
def page() -> Iterator[Any]:
    """A page in the system's Chromium; skips the test if there is none."""
    import shutil

    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(ARGS))
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(WAIT_MS)
        yield opened
        browser.close()


def test_the_evaluation_page_shows_rows_scores_and_answers(server: str, client: Any, page: Any) -> None:
    wrong: list[str] = []
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    result = run("shown", tracking(server, "log: [metrics, table, dataset, traces]"))
    arrived = Arrived(client, "shown")
    good = arrived.targets["good"].info.run_id
    page.goto(f"{server}/#/experiments/{arrived.experiment_id}/runs/{good}/traces")
    page.get_by_text("The answer is 6.").first.wait_for()
    page.get_by_text("3+3?").first.wait_for()
    page.get_by_text("exact_match").first.wait_for()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "mlflow-evaluation.png")
    page.get_by_text("<script>alert(1)</script>").first.wait_for()
    page.goto(f"{server}/#/experiments/{arrived.experiment_id}/evaluation-runs")
    page.get_by_text(f"shown {result.run_id}"[:12]).first.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow-runs.png")
    bad = arrived.targets["bad"].info.run_id
    page.goto("about:blank")  # MLflow does not reload for another address
    page.goto(
        f"{server}/#/experiments/{arrived.experiment_id}/evaluation-runs?selectedRunUuid={good}&compareToRunUuid={bad}"
    )
    page.get_by_text("Comparing").first.wait_for()
    page.get_by_text("The answer is 6.").first.wait_for()  # the answers of both, below one question
    page.get_by_text("five").first.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow-compare.png")
    trace = next(actual for actual in arrived.traces("good") if actual.info.request_preview == "3+3?")
    page.goto("about:blank")
    page.goto(f"{server}/#/experiments/{arrived.experiment_id}/traces?selectedEvaluationId={trace.info.trace_id}")
    page.get_by_text("The answer is 6.").last.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow-trace.png")
    assert wrong == []


def test_the_table_opens_among_the_files_of_its_run(server: str, client: Any, page: Any) -> None:
    run("filed", tracking(server, "log: [metrics, table, report]"))
    arrived = Arrived(client, "filed")
    good = arrived.targets["good"].info.run_id
    page.goto(f"{server}/#/experiments/{arrived.experiment_id}/runs/{good}/artifacts/eval_results_table.json")
    page.get_by_text("ground_truth").first.wait_for()
    page.get_by_text("The answer is 6.").first.wait_for()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "mlflow-table.png")
    parent = arrived.parent.info.run_id
    page.goto(f"{server}/#/experiments/{arrived.experiment_id}/runs/{parent}/artifacts/report.html")
    page.frame_locator("iframe").get_by_text("Fail").first.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow-report.png")
    assert Path("runs").is_dir()
