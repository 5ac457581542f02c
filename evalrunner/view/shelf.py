"""The runs below a folder as pages show them: read anew for every page, so that a new run is there at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from evalrunner.domain import Metric
from evalrunner.errors import RunNotFoundError
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.record import MetricsRecord, RunRecord

FILES = ("report.html", "summary.md", "table.csv", "metrics.json", "run.json")  # of a run that a page may link to


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run: its record and its numbers, which are None where it did not finish."""

    folder: RunFolder
    record: RunRecord
    metrics: MetricsRecord | None

    @property
    def verdict(self) -> str:
        return self.record.verdict or "not finished"

    @property
    def started_at(self) -> str:
        """`2026-11-23 10:15`, UTC."""
        return f"{self.record.started_at.astimezone(UTC):%Y-%m-%d %H:%M}"

    @property
    def files(self) -> list[str]:
        return [name for name in FILES if (self.folder.path / name).is_file()]

    @property
    def headlines(self) -> dict[str, Metric]:
        """The headline metric of the first scorer by target."""
        return self.headlines_of(next(iter(self.record.scorers)))

    def headlines_of(self, scorer: str) -> dict[str, Metric]:
        """The headline metric of a scorer by target, for those that have it."""
        declared = self.record.scorers.get(scorer)
        if self.metrics is None or declared is None:
            return {}
        found = {name: target.headline(scorer, declared) for name, target in self.metrics.targets.items()}
        return {name: metric for name, metric in found.items() if metric is not None}


def read_run(folder: RunFolder) -> StoredRun | None:
    """The run of a folder, or None where it cannot be read."""
    try:
        record = RunRecord.load(folder.path)
        return StoredRun(folder, record, record.load_metrics(folder.path))
    except RunNotFoundError:
        return None


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


def readable(folders: Sequence[RunFolder]) -> list[StoredRun]:
    """Those of the runs that can be read, newest first: ids tell no more than the second."""
    found = [run for folder in folders if (run := read_run(folder)) is not None]
    return sorted(found, key=lambda run: (run.record.started_at, run.folder.id), reverse=True)
