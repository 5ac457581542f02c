"""The JSON outputs of a run: its numbers, and its row log."""

from __future__ import annotations

import shutil
from pathlib import Path

from evalrunner.errors import RunNotFoundError
from evalrunner.reports.view import RunView
from evalrunner.runs.folder import METRICS_FILE, ROWS_FILE
from evalrunner.storage import replacing, write_json


class JsonReporter:
    """Writes `.json`: every metric with its counts and interval, every gate with its verdict."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        if run.numbers is None:
            raise RunNotFoundError(f"run {run.run_id} has no {METRICS_FILE}: it did not finish")
        write_json(self.path, run.numbers.to_json())


class JsonlReporter:
    """Writes `.jsonl`: a copy of the run's row log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, run: RunView, /) -> None:
        return

    def on_end(self, run: RunView, /) -> None:
        with replacing(self.path) as part:
            shutil.copyfile(run.folder / ROWS_FILE, part)
