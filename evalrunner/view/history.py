"""The runs below a folder, read anew for every page, and charts of their metrics over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from evalrunner.domain import Metric
from evalrunner.errors import RunNotFoundError
from evalrunner.formatting import interval, number
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.record import MetricsRecord, RunRecord

FILES = ("report.html", "summary.md", "table.csv", "metrics.json", "run.json")  # of a run that may be served


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run folder with its record and its metrics, which are None if the run did not finish."""

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
    """The run of a folder, or None if it cannot be read."""
    try:
        record = RunRecord.load(folder.path)
        return StoredRun(folder, record, record.load_metrics(folder.path))
    except RunNotFoundError:
        return None


def suites(output_dir: Path) -> dict[str, list[RunFolder]]:
    """The runs of each suite, newest first; the suite of the latest run comes first."""
    runs: dict[str, list[RunFolder]] = {}
    for folder in list_runs(output_dir):
        runs.setdefault(folder.suite, []).append(folder)
    return runs


def find(output_dir: Path, suite: str, run_id: str) -> RunFolder | None:
    """The run of that suite and id, if it is listed; so no path leads outside the folder."""
    return next((folder for folder in suites(output_dir).get(suite, ()) if folder.id == run_id), None)


def file_of(output_dir: Path, folder: RunFolder, name: str) -> Path | None:
    """A file of a run that may be served; None for any other, also if a link leads outside the folder."""
    path = folder.path / name
    if name not in FILES or not path.is_file():
        return None
    return path if path.resolve().is_relative_to(output_dir.resolve()) else None


def readable(folders: Sequence[RunFolder]) -> list[StoredRun]:
    """The runs that can be read, newest first; start times are more precise than ids."""
    runs = [run for folder in folders if (run := read_run(folder)) is not None]
    return sorted(runs, key=lambda run: (run.record.started_at, run.folder.id), reverse=True)


WIDTH: Final = 760
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 26
COLORS: Final = 6  # further targets reuse them


@dataclass(frozen=True, slots=True)
class Point:
    """The value of one run: its coordinates and its label."""

    x: float
    y: float
    low: float | None
    high: float | None
    run: StoredRun
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """The values of one target. `paths` connect its points, except across a change of dataset or scorers."""

    target: str
    color: int
    points: tuple[Point, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric over runs. `ticks` are positions and labels of the axis, `breaks` the positions where dataset or scorers changed."""

    name: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    breaks: tuple[float, ...]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    bottom: int = HEIGHT - BOTTOM


def charts(runs: Sequence[StoredRun]) -> list[Chart]:
    """A chart of the headline metric of each scorer over runs, oldest first; scorers without any value are omitted."""
    ended = [run for run in runs if run.metrics is not None]
    names = list(dict.fromkeys(name for run in reversed(ended) for name in run.record.scorers))
    return [chart for name in names if (chart := _chart(name, ended)) is not None]


def _chart(scorer: str, runs: Sequence[StoredRun]) -> Chart | None:
    values = [_values(run, scorer) for run in runs]
    ends = [
        end
        for of_run in values
        for metric in of_run.values()
        for end in (metric.value, metric.low, metric.high)
        if isinstance(end, int | float)
    ]
    if not ends:
        return None
    low, high = _axis(ends)
    columns = [LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / len(runs) for place in range(len(runs))]

    def height(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low)), 2)

    breaks = [place for place in range(1, len(runs)) if _measures(runs[place]) != _measures(runs[place - 1])]
    targets = list(dict.fromkeys(name for of_run in values for name in of_run))
    lines: list[Line] = []
    for place, target in enumerate(targets):
        points: dict[int, Point] = {}
        for column, of_run in enumerate(values):
            metric = of_run.get(target)
            if metric is not None:
                points[column] = _point(runs[column], target, metric, round(columns[column], 2), height)
        lines.append(Line(target, place % COLORS, tuple(points.values()), tuple(_paths(points, breaks))))
    name = next(metric.name for of_run in values for metric in of_run.values())
    ticks = tuple((height(low + (high - low) * step / 4), number(low + (high - low) * step / 4)) for step in range(5))
    between = tuple(round((columns[place] + columns[place - 1]) / 2, 2) for place in breaks)
    newest = "; ".join(line.points[-1].label for line in lines)
    return Chart(name, tuple(lines), ticks, between, f"{name} over {len(runs)} runs. Last: {newest}")


def _values(run: StoredRun, scorer: str) -> dict[str, Metric]:
    """The headline metric of a scorer by target, for those with a value."""
    return {name: metric for name, metric in run.headlines_of(scorer).items() if metric.value is not None}


def _point(run: StoredRun, target: str, metric: Metric, x: float, height: Any) -> Point:
    ends = [None if end is None else height(end) for end in (metric.low, metric.high)]
    label = f"{target}: {number(metric.value, metric.unit)} ({interval(metric.low, metric.high)}) n={metric.n}"
    return Point(x, height(metric.value), ends[0], ends[1], run, f"{label}, {run.started_at}")


def _axis(ends: Sequence[float]) -> tuple[float, float]:
    """The range of the axis: 0 to 1 for proportions, else that of the values with a margin."""
    low, high = min(ends), max(ends)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _measures(run: StoredRun) -> tuple[Any, Any]:
    """What must be the same for two points to be connected."""
    return run.record.dataset.digest, run.record.definition()["scorers"]


def _paths(points: Mapping[int, Point], breaks: Sequence[int]) -> list[str]:
    """SVG polylines of consecutive points, split at the breaks."""
    cut: list[list[Point]] = [[]]
    edges = set(breaks)
    before = -1
    for column, point in points.items():
        if any(edge in edges for edge in range(before + 1, column + 1)):
            cut.append([])
        cut[-1].append(point)
        before = column
    return [" ".join(f"{point.x},{point.y}" for point in part) for part in cut if len(part) > 1]
