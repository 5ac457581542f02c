"""A metric over the runs of a suite: where each point of the drawing lies, its interval, and where it cannot go on."""

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

WIDTH: Final = 760
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 26
COLOURS: Final = 6  # targets that are told apart by colour; further ones start again


@dataclass(frozen=True, slots=True)
class Point:
    """One run's value: places in the drawing, and the words of it."""

    x: float
    y: float
    low: float | None
    high: float | None
    run: StoredRun
    said: str


@dataclass(frozen=True, slots=True)
class Line:
    """One target's values; `paths` are its points that may be joined: nothing is joined over a change of the data."""

    target: str
    colour: int
    points: tuple[Point, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric over runs. `ticks` are places and words of the axis; `breaks` where dataset or scorers changed."""

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
    """A chart for each scorer's headline metric over runs, oldest first; those without any number are left out."""
    ended = [run for run in runs if run.metrics is not None]
    names = list(dict.fromkeys(name for run in reversed(ended) for name in run.record.scorers))
    found = [_chart(name, ended) for name in names]
    return [chart for chart in found if chart is not None]


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
        lines.append(Line(target, place % COLOURS, tuple(points.values()), tuple(_paths(points, breaks))))
    name = next(metric.name for of_run in values for metric in of_run.values())
    ticks = tuple((height(low + (high - low) * step / 4), number(low + (high - low) * step / 4)) for step in range(5))
    between = tuple(round((columns[place] + columns[place - 1]) / 2, 2) for place in breaks)
    newest = "; ".join(line.points[-1].said for line in lines)
    return Chart(name, tuple(lines), ticks, between, f"{name} over {len(runs)} runs. Last: {newest}")


def _values(run: StoredRun, scorer: str) -> dict[str, Metric]:
    """The scorer's headline metric of each target, where it has a value."""
    return {name: metric for name, metric in run.headlines_of(scorer).items() if metric.value is not None}


def _point(run: StoredRun, target: str, metric: Metric, x: float, height: Any) -> Point:
    ends = [None if end is None else height(end) for end in (metric.low, metric.high)]
    said = f"{target}: {number(metric.value, metric.unit)} ({interval(metric.low, metric.high)}) n={metric.n}"
    return Point(x, height(metric.value), ends[0], ends[1], run, f"{said}, {run.started_at}")


def _axis(ends: Sequence[float]) -> tuple[float, float]:
    """From 0 to 1 for shares, else what was seen with a little room."""
    low, high = min(ends), max(ends)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _measures(run: StoredRun) -> tuple[Any, Any]:
    """What has to be the same for two runs to lie on one line."""
    return run.record.dataset.digest, run.record.definition()["scorers"]


def _paths(points: Mapping[int, Point], breaks: Sequence[int]) -> list[str]:
    """Points in a row as SVG has them, cut where the measure changed."""
    cut: list[list[Point]] = [[]]
    edges = set(breaks)
    before = -1
    for column, point in points.items():
        if any(edge in edges for edge in range(before + 1, column + 1)):
            cut.append([])
        cut[-1].append(point)
        before = column
    return [" ".join(f"{point.x},{point.y}" for point in part) for part in cut if len(part) > 1]


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
