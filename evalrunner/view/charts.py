"""Charts of metrics over the runs of a suite: values with CIs, gates as lines, and the runs accepted as baselines.

Positions across are percentages and heights are pixels, so that a chart fits any width while its text stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from evalrunner.domain import GateResult, Metric
from evalrunner.formatting import interval, number
from evalrunner.view.stored import StoredRun

HEIGHT: Final = 260
TOP, BOTTOM = 40, 44  # for the label of a point, and for baselines and dates
COLORS: Final = 6  # further targets reuse them
DODGE: Final = 5  # pixels between targets, so that their CIs do not cover each other
MAX_WIDE_RUNS: Final = 40  # with more, points are small and have no CI
MAX_DATES: Final = 5
LABEL_HEIGHT: Final = 15
MARGIN: Final = 0.04  # of the axis, above and below the values


@dataclass(frozen=True, slots=True)
class Point:
    """The value of one run: its place, and two lines of text about it."""

    x: float
    y: float
    low: float | None
    high: float | None
    run: StoredRun
    label: str
    facts: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Line:
    """The values of one target. `segments` connect its points, except across a change of dataset or scorers."""

    target: str
    color: int
    shift: float
    points: tuple[Point, ...]
    segments: tuple[tuple[Point, Point], ...]


@dataclass(frozen=True, slots=True)
class GateLine:
    """The threshold of a gate, and at which height its value stands beside it. `color` is that of its target, None for all."""

    y: float
    text_y: float
    value: str
    label: str
    color: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that was accepted as the baselines of these names."""

    x: float
    names: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A metric over runs.

    `ticks` are heights and labels of the axis, `dates` places, labels and whether narrow screens have them, `breaks` the
    places where dataset or scorers changed. `dense` charts have no room for CIs.
    """

    name: str
    lines: tuple[Line, ...]
    gates: tuple[GateLine, ...]
    accepted: tuple[Accepted, ...]
    ticks: tuple[tuple[float, str], ...]
    dates: tuple[tuple[float, str, bool], ...]
    breaks: tuple[float, ...]
    summary: str
    dense: bool
    unit: str | None
    height: int = HEIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class _Series:
    """A metric of each run by target, and the gates of the newest run on it."""

    name: str
    values: Sequence[Mapping[str, Metric]]
    gates: Sequence[GateResult]


def charts(runs: Sequence[StoredRun], accepted: Mapping[str, Sequence[str]]) -> list[Chart]:
    """A chart for the headline metric of each scorer, and for each other metric with a gate; oldest run first.

    `accepted` holds the names of the baselines by run id. Metrics without any value are omitted, and so are runs of failed
    samples only.
    """
    ended = [run for run in runs if run.metrics is not None and run.record.failed_from is None]
    return [_chart(series, ended, accepted) for series in _series(ended)]


def _series(runs: Sequence[StoredRun]) -> Iterator[_Series]:
    if not runs:
        return
    newest = runs[-1]
    names = dict.fromkeys([newest.record.headline_scorer])
    names.update(dict.fromkeys(name for run in reversed(runs) for name in run.record.scorers))
    gates = [gate for gate in (newest.metrics.gates if newest.metrics is not None else ()) if gate.slice is None]
    shown: set[str] = set()
    for scorer in names:
        values = [_with_value(run.headlines_of(scorer)) for run in runs]
        if any(values):
            name = next(metric.name for of_run in reversed(values) for metric in of_run.values())
            shown.add(name)
            yield _Series(name, values, [gate for gate in gates if gate.metric == name])
    for name in dict.fromkeys(gate.metric for gate in gates if gate.metric not in shown):
        values = [_with_value(_named(run, name)) for run in runs]
        if any(values):
            yield _Series(name, values, [gate for gate in gates if gate.metric == name])


def _with_value(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if metric.value is not None}


def _named(run: StoredRun, name: str) -> dict[str, Metric]:
    """The metric of that name over all samples, by target."""
    targets = run.metrics.targets if run.metrics is not None else {}
    found = {
        target: next((metric for metric in data.metrics if metric.name == name and metric.slice is None), None)
        for target, data in targets.items()
    }
    return {target: metric for target, metric in found.items() if metric is not None}


def _chart(series: _Series, runs: Sequence[StoredRun], accepted: Mapping[str, Sequence[str]]) -> Chart:
    levels = [level for gate in series.gates if (level := gate_level(gate, series.values)) is not None]
    ends = [
        end for of_run in series.values for metric in of_run.values() for end in (metric.value, metric.low, metric.high)
    ]
    axis = Axis.of([end for end in (*ends, *levels) if end is not None])
    columns = [round(100 * (place + 0.5) / len(runs), 3) for place in range(len(runs))]
    breaks = [place for place in range(1, len(runs)) if _measures(runs[place]) != _measures(runs[place - 1])]
    targets = list(dict.fromkeys(name for of_run in series.values for name in of_run))
    lines = tuple(
        _line(target, (place, len(targets)), series, runs, columns, axis, breaks)
        for place, target in enumerate(targets)
    )
    newest = "; ".join(f"{line.points[-1].label}, {line.points[-1].facts}" for line in lines)
    return Chart(
        name=series.name,
        lines=lines,
        gates=tuple(_gate_lines(series, targets, axis)),
        accepted=tuple(
            Accepted(x, ", ".join(accepted[run.folder.id]))
            for x, run in zip(columns, runs, strict=True)
            if run.folder.id in accepted
        ),
        ticks=tuple((axis.height(tick), number(tick)) for tick in axis.ticks),
        dates=tuple(_dates(columns, [run.record.started_at for run in runs])),
        breaks=tuple(round((columns[place] + columns[place - 1]) / 2, 3) for place in breaks),
        summary=f"{series.name} over {len(runs)} runs. Last: {newest}",
        dense=len(runs) > MAX_WIDE_RUNS,
        unit=next((metric.unit for of_run in reversed(series.values) for metric in of_run.values()), None),
    )


def _line(
    target: str, place: tuple[int, int], series: _Series, runs: Sequence[StoredRun], columns: Sequence[float],
    axis: Axis, breaks: Sequence[int],
) -> Line:  # fmt: skip
    """The line of a target, which is number `place[0]` of `place[1]`."""
    points = {
        column: _point(runs[column], target, of_run[target], columns[column], axis.height)
        for column, of_run in enumerate(series.values)
        if target in of_run
    }
    segments = tuple(
        (points[before], points[column])
        for before, column in pairwise(points)
        if not any(before < edge <= column for edge in breaks)
    )
    shift = 0.0 if len(runs) > MAX_WIDE_RUNS else (place[0] - (place[1] - 1) / 2) * min(DODGE, 20 / place[1])
    return Line(target, place[0] % COLORS, round(shift, 2), tuple(points.values()), segments)


def _point(run: StoredRun, target: str, metric: Metric, x: float, height: Callable[[float], float]) -> Point:
    low, high = (None if end is None else height(end) for end in (metric.low, metric.high))
    no_ends = metric.low is None and metric.high is None
    between = "" if no_ends else f" ({interval(metric.low, metric.high, beside=(metric.value,))})"
    text = number(metric.value, metric.unit, beside=(metric.low, metric.high))
    anchor = "start" if x < 25 else "end" if x > 75 else "middle"
    facts = f"n={metric.n}, {run.started_at}, {run.verdict}"
    assert metric.value is not None  # those without one are not drawn
    return Point(x, height(metric.value), low, high, run, f"{target}: {text}{between}", facts, anchor)


def gate_level(gate: GateResult, values: Sequence[Mapping[str, Metric]]) -> float | None:
    """Where the threshold of a gate is on the axis of its metric; None if its baseline has no value."""
    if gate.kind in ("point", "confidence"):
        return gate.bound
    if gate.baseline is None or gate.baseline.value is None:
        return None
    metric = next((of_run[gate.target] for of_run in reversed(values) if gate.target in of_run), None)
    falls = metric is None or metric.higher_is_better
    return gate.baseline.value - gate.bound if falls else gate.baseline.value + gate.bound


def _gate_lines(series: _Series, targets: Sequence[str], axis: Axis) -> Iterator[GateLine]:
    """The gates as lines, the topmost first, each value clear of the one above it."""
    levels: dict[tuple[str, float], list[str]] = {}
    for gate in series.gates:
        level = gate_level(gate, series.values)
        if level is not None:
            levels.setdefault((gate.gate, level), []).append(gate.target)
    lowest = float("-inf")
    for (text, level), names in sorted(levels.items(), key=lambda item: -item[0][1]):
        own = len(names) == 1 and len(targets) > 1 and names[0] in targets
        y = axis.height(level)
        lowest = max(y + 4, lowest + LABEL_HEIGHT)
        color = targets.index(names[0]) % COLORS if own else None
        yield GateLine(y, round(lowest, 2), number(level), f"{text} ({names[0]})" if own else text, color)


def _dates(columns: Sequence[float], times: Sequence[datetime]) -> Iterator[tuple[float, str, bool]]:
    """Places and labels of some dates; of every second one whether narrow screens have it. UTC."""
    count = min(MAX_DATES, len(columns))
    places = sorted({round(step * (len(columns) - 1) / max(1, count - 1)) for step in range(count)})
    utc = [time.astimezone(UTC) for time in times]
    pattern = "%H:%M" if utc[0].date() == utc[-1].date() and len(utc) > 1 else "%Y-%m-%d"
    before = ""
    for position, place in enumerate(places):
        text = f"{utc[place]:{pattern}}"
        if text != before:
            yield columns[place], text, len(places) < 4 or position % 2 == 0
        before = text


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of values of a chart, with round ends."""

    low: float
    high: float
    step: float

    @classmethod
    def of(cls, ends: Sequence[float]) -> Axis:
        """The axis of these values; that of proportions does not leave 0 to 1."""
        low, high = min(ends), max(ends)
        share = low >= 0 and high <= 1
        margin = (high - low) * MARGIN or abs(high) * 0.1 or 1.0
        start, end = low - margin, high + margin
        if share:
            start, end = max(0.0, start), min(1.0, end)
        elif low >= 0:
            start = max(0.0, start)
        step = _round_step((end - start) / 4)
        start, end = math.floor(start / step + 1e-9) * step, math.ceil(end / step - 1e-9) * step
        return cls(start, end, step)

    @property
    def ticks(self) -> list[float]:
        count = round((self.high - self.low) / self.step)
        return [round(self.low + self.step * place, 12) for place in range(count + 1)]

    def height(self, value: float) -> float:
        """Where a value is drawn, in pixels from the top."""
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.low) / (self.high - self.low)), 2)


def _round_step(width: float) -> float:
    """The next of 1, 2, 2.5, 5 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= width * (1 - 1e-9))


def _measures(run: StoredRun) -> tuple[Any, Any]:
    """What must be the same for two points to be connected."""
    return run.record.dataset.digest, run.record.definition()["scorers"]
