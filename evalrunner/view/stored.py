"""The stored runs behind the pages: listed, read, kept in memory until their files change, and filtered."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from evalrunner.baselines.file import FOLDER, read_baseline_head
from evalrunner.domain import Metric
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.reports.view import run_word
from evalrunner.runs.folder import METRICS_FILE, REPORT_FILE, RUN_FILE, RunFolder, list_runs
from evalrunner.runs.notes import NOTES_FILE, RunNotes
from evalrunner.runs.record import MetricsRecord, RunRecord

FILES: Final = (REPORT_FILE, "summary.md", "table.csv", METRICS_FILE, RUN_FILE)  # of a run that may be served
VERDICTS: Final = (
    "pass", "fail", "inconclusive", "untrusted", "no baseline", "done", "interrupted", "not finished",
)  # fmt: skip
"""The words of runs in lists and filters."""
MAX_CACHED_RUNS: Final = 1500  # about 40 kB each with three targets
MAX_SEARCHED_RUNS: Final = 1000  # by a filter; each takes about 5 ms the first time
MAX_BASELINES: Final = 50  # of a suite
Signature: TypeAlias = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run folder with its record, its notes, and its metrics, which are None if the run did not finish."""

    folder: RunFolder
    record: RunRecord
    metrics: MetricsRecord | None
    notes: RunNotes = RunNotes()

    @property
    def verdict(self) -> str:
        """The run in a word of `VERDICTS`: `done` where there is no gate."""
        gated = self.metrics is not None and bool(self.metrics.gates)
        return run_word(self.record.verdict, self.record.exit_code, gated=gated).lower()

    @property
    def started_at(self) -> str:
        """`2026-11-23 10:15`, UTC."""
        return f"{self.record.started_at.astimezone(UTC):%Y-%m-%d %H:%M}"

    @property
    def files(self) -> list[str]:
        return [name for name in FILES if (self.folder.path / name).is_file()]

    @property
    def has_report(self) -> bool:
        return (self.folder.path / REPORT_FILE).is_file()

    @property
    def headlines(self) -> dict[str, Metric]:
        """The headline metric of the headline scorer by target."""
        return self.headlines_of(self.record.headline_scorer)

    def headlines_of(self, scorer: str) -> dict[str, Metric]:
        """The headline metric of a scorer by target, for those that have it."""
        declared = self.record.scorers.get(scorer)
        if self.metrics is None or declared is None:
            return {}
        metrics = {name: target.headline(scorer, declared) for name, target in self.metrics.targets.items()}
        return {name: metric for name, metric in metrics.items() if metric is not None}


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The runs with a tag and a verdict; an empty text is any."""

    tag: str = ""
    verdict: str = ""

    def __bool__(self) -> bool:
        return bool(self.tag or self.verdict)

    def matches(self, run: StoredRun) -> bool:
        return (not self.tag or self.tag in run.notes.tags) and (not self.verdict or self.verdict == run.verdict)


@dataclass(frozen=True, slots=True)
class AcceptedBaseline:
    """A baseline beside a suite file: its name and the id of the run that was accepted."""

    name: str
    run_id: str


class RunStore:
    """The runs below one folder. What lists and charts need of a run is kept in memory while its files stay the same."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self._cached: dict[Path, tuple[Signature, StoredRun | None]] = {}
        self._lock = threading.Lock()

    def suites(self) -> dict[str, list[RunFolder]]:
        """The runs of each suite, newest first; the suite of the latest run comes first."""
        runs: dict[str, list[RunFolder]] = {}
        for folder in list_runs(self.output_dir):
            runs.setdefault(folder.suite, []).append(folder)
        return runs

    def find(self, suite: str, run_id: str) -> RunFolder | None:
        """The run of that suite and id, if it is listed; so no path leads outside the folder."""
        return next((folder for folder in self.suites().get(suite, ()) if folder.id == run_id), None)

    def file_of(self, folder: RunFolder, name: str) -> Path | None:
        """A file of a run that may be served; None for any other, also if a link leads outside the folder."""
        path = folder.path / name
        if name not in FILES or not path.is_file():
            return None
        return path if path.resolve().is_relative_to(self.output_dir.resolve()) else None

    def overall(self, folder: RunFolder) -> StoredRun | None:
        """A run without its slices and its comparison, or None if it cannot be read."""
        signature = tuple(_signature(folder.path / name) for name in (RUN_FILE, METRICS_FILE, NOTES_FILE))
        with self._lock:
            before, run = self._cached.get(folder.path, (None, None))
        if before == signature:
            return run
        run = read_run(folder, overall=True)
        with self._lock:
            self._cached[folder.path] = (signature, run)
            while len(self._cached) > MAX_CACHED_RUNS:
                del self._cached[next(iter(self._cached))]
        return run

    def readable(self, folders: Sequence[RunFolder]) -> list[StoredRun]:
        """The runs that can be read, newest first; start times are more precise than ids."""
        runs = [run for folder in folders if (run := self.overall(folder)) is not None]
        return sorted(runs, key=lambda run: (run.record.started_at, run.folder.id), reverse=True)

    def matching(self, folders: Sequence[RunFolder], wanted: RunFilter, *, limit: int) -> list[StoredRun]:
        """The newest runs that match, newest first. Of those with the tag, `MAX_SEARCHED_RUNS` are searched."""
        if not wanted:
            return self.readable(folders[:limit])
        tagged = (folder for folder in folders if not wanted.tag or wanted.tag in read_notes(folder).tags)
        found: list[RunFolder] = []
        for folder in islice(tagged, MAX_SEARCHED_RUNS):
            run = self.overall(folder)
            if run is not None and wanted.matches(run):
                found.append(folder)
                if len(found) == limit:
                    break
        return self.readable(found)


def read_run(folder: RunFolder, *, overall: bool = False) -> StoredRun | None:
    """The run of a folder, or None if it cannot be read; `overall` as in `MetricsRecord.load`."""
    try:
        record = RunRecord.load(folder.path)
        metrics = record.load_metrics(folder.path, overall=overall)
    except RunNotFoundError:
        return None
    return StoredRun(folder, record, metrics, read_notes(folder))


def read_notes(folder: RunFolder) -> RunNotes:
    """Note and tags of a run; empty if they cannot be read."""
    try:
        return RunNotes.load(folder.path)
    except RunNotFoundError:
        return RunNotes()


def known_tags(folders: Sequence[RunFolder]) -> list[str]:
    """All tags of runs, sorted."""
    return sorted({tag for folder in folders for tag in read_notes(folder).tags})


def verdict_counts(runs: Sequence[StoredRun]) -> str:
    """`17 pass, 3 fail`."""
    counts = Counter(run.verdict for run in runs)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def accepted_baselines(runs: Sequence[StoredRun], roots: Sequence[Path]) -> list[AcceptedBaseline]:
    """The baselines beside the suite files of runs of one suite, by name.

    A suite file is named by `run.json`, which may come from elsewhere. So only folders below `roots` are read.
    """
    found: dict[Path, AcceptedBaseline] = {}
    for folder in _suite_folders(runs, roots):
        try:
            paths = sorted(folder.glob("*.jsonl"))[:MAX_BASELINES]
        except (OSError, ValueError):  # not to be listed, or no path at all
            continue
        for path in paths:
            try:
                found[path] = AcceptedBaseline(path.stem, read_baseline_head(path).run_id)
            except SuiteError:
                continue
    return list(dict.fromkeys(sorted(found.values(), key=lambda baseline: (baseline.name, baseline.run_id))))


def _suite_folders(runs: Sequence[StoredRun], roots: Sequence[Path]) -> Iterator[Path]:
    """The folders of the baselines of runs, each once. Paths are compared as text, before any is opened."""
    seen: set[str] = set()
    for root in (os.path.abspath(root) for root in roots):  # noqa: PTH100  resolve() would follow links first
        for run in runs:
            beside = os.path.abspath(Path(root) / run.record.suite_file.parent / FOLDER / run.folder.suite)  # noqa: PTH100
            if beside not in seen and Path(beside).is_relative_to(root):
                seen.add(beside)
                yield Path(beside)


def baselines_by_run(baselines: Sequence[AcceptedBaseline]) -> Mapping[str, tuple[str, ...]]:
    """The names of the baselines that each run was accepted as."""
    names: dict[str, tuple[str, ...]] = {}
    for baseline in baselines:
        names[baseline.run_id] = (*names.get(baseline.run_id, ()), baseline.name)
    return names


def _signature(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written; None if it is missing."""
    try:
        data = path.stat()
    except OSError:
        return None
    return data.st_mtime_ns, data.st_size, data.st_ino
