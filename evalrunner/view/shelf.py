"""The runs below a folder as pages show them: read anew for every page, so that a new run is there at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.errors import RunNotFoundError
from evalrunner.reports.stored import headline_metric, stored_metrics
from evalrunner.runs.folder import RUN_FILE, RunFolder, list_runs, read_json

FILES = ("report.html", "summary.md", "table.csv", "metrics.json", "run.json")  # of a run that a page may link to
BROKEN = (RunNotFoundError, KeyError, TypeError, AttributeError, StopIteration, ValueError)


@dataclass(frozen=True, slots=True)
class ShelvedRun:
    """A run: what `run.json` and `metrics.json` hold of it, the latter None where it did not come to its end."""

    folder: RunFolder
    data: Mapping[str, Any]
    metrics: Mapping[str, Any] | None

    @property
    def verdict(self) -> str:
        return str(self.data.get("verdict") or "not finished")

    @property
    def started_at(self) -> str:
        """`2026-11-23 10:15`, UTC."""
        return str(self.data["started_at"])[:16].replace("T", " ")

    @property
    def files(self) -> list[str]:
        return [name for name in FILES if (self.folder.path / name).is_file()]

    @property
    def headlines(self) -> dict[str, Mapping[str, Any]]:
        """The headline metric of the first scorer by target."""
        if self.metrics is None:
            return {}
        found = {name: headline_metric(self.data, one["metrics"]) for name, one in self.metrics["targets"].items()}
        return {name: metric for name, metric in found.items() if metric is not None}


def read_run(folder: RunFolder) -> ShelvedRun | None:
    """The run of a folder, or None where it cannot be read."""
    try:
        data = read_json(folder.path / RUN_FILE)
        run = ShelvedRun(folder, data, stored_metrics(folder, data))
        _ = run.headlines, run.started_at, data["scorers"], data["targets"]
    except BROKEN:
        return None
    return run


def suites(output_dir: Path) -> dict[str, list[RunFolder]]:
    """The runs of each suite, newest first; the suite that ran last comes first."""
    found: dict[str, list[RunFolder]] = {}
    for folder in list_runs(output_dir):
        found.setdefault(folder.suite, []).append(folder)
    return found


def find(output_dir: Path, suite: str, run_id: str) -> RunFolder | None:
    """The run of that suite and id: only one that is listed, so that no path leads elsewhere."""
    return next((folder for folder in suites(output_dir).get(suite, ()) if folder.id == run_id), None)


def file_of(output_dir: Path, folder: RunFolder, name: str) -> Path | None:
    """A file of a run that may be shown; None for any other, and for one that a link puts outside the runs."""
    path = folder.path / name
    if name not in FILES or not path.is_file():
        return None
    return path if path.resolve().is_relative_to(output_dir.resolve()) else None


def readable(folders: Sequence[RunFolder]) -> list[ShelvedRun]:
    """Those of the runs that can be read, newest first: ids tell no more than the second."""
    found = [run for folder in folders if (run := read_run(folder)) is not None]
    return sorted(found, key=lambda run: (str(run.data["started_at"]), run.folder.id), reverse=True)
