"""The pages of the runs folder by address, each from the runs on disk at that moment, with charts of metrics over time.

Content of runs is untrusted: it is escaped, and control characters are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from evalrunner.domain import Metric
from evalrunner.errors import EvalrunError, RunNotFoundError
from evalrunner.formatting import duration, interval, number, one_line, signed
from evalrunner.redact import redact
from evalrunner.reports.comparison import (
    amount,
    missing_counts,
    p_value,
    pareto_lines,
    ranking_text,
    reading_notes,
    slice_p_value,
)
from evalrunner.reports.conclusions import conclusions, cost_conclusion
from evalrunner.reports.html.page import ASSETS
from evalrunner.reports.row_lines import output_with_status
from evalrunner.runs.folder import RunFolder, list_runs
from evalrunner.runs.notes import RunNotes
from evalrunner.runs.record import MetricsRecord, RunRecord
from evalrunner.view.editing import delete_one, prune_suite, save_notes

FILES = ("report.html", "summary.md", "table.csv", "metrics.json", "run.json")  # of a run that may be served

WIDTH: Final = 760
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 26
COLORS: Final = 6  # further targets reuse them

TEMPLATES: Final = Path(__file__).parent / "templates"
STYLES: Final = (
    ASSETS / "base.css",
    ASSETS / "components.css",
    TEMPLATES / "style.css",
)  # as in reports, and what is added
MAX_INDEX_RUNS: Final = 10  # of a suite on the first page
MAX_SUITE_RUNS: Final = 200  # on the page of a suite
MAX_DIFFERENT_SAMPLES: Final = 5  # below a comparison
MAX_OUTPUT_LENGTH: Final = 4000
TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "csv": "text/plain; charset=utf-8",  # shown, not opened in a spreadsheet
    "md": "text/plain; charset=utf-8",
}
POLICY: Final = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
REPORT_POLICY: Final = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
"""A report has its own policy; the sandbox gives it a separate origin, so it cannot read from this server."""


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
    def notes(self) -> RunNotes:
        """Note and tags; empty if they cannot be read."""
        try:
            return RunNotes.load(self.folder.path)
        except RunNotFoundError:
            return RunNotes()

    @property
    def files(self) -> list[str]:
        return [name for name in FILES if (self.folder.path / name).is_file()]

    @property
    def headlines(self) -> dict[str, Metric]:
        """The headline metric of the first scorer by target."""
        return self.headlines_of(self.record.headline_scorer)

    def headlines_of(self, scorer: str) -> dict[str, Metric]:
        """The headline metric of a scorer by target, for those that have it."""
        declared = self.record.scorers.get(scorer)
        if self.metrics is None or declared is None:
            return {}
        metrics = {name: target.headline(scorer, declared) for name, target in self.metrics.targets.items()}
        return {name: metric for name, metric in metrics.items() if metric is not None}


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
    no_ends = metric.low is None and metric.high is None
    between = "" if no_ends else f" ({interval(metric.low, metric.high, beside=(metric.value,))})"
    text = number(metric.value, metric.unit, beside=(metric.low, metric.high))
    label = f"{target}: {text}{between} n={metric.n}"
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


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a request. `body` is a text, or a file that is sent unchanged."""

    status: int
    body: str | Path
    kind: str = "html"
    policy: str = POLICY
    location: str | None = None  # of a redirect


class PageError(Exception):
    """An error that is shown as a page, with an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Pages:
    """The pages of one runs folder."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir

    def get(self, address: str, *, editable: bool = False) -> Response:
        """The page of an address, with forms if it is `editable`; an unknown address gets an error page."""
        return self._answer(address, lambda parts, query: self._route(parts, query, editable=editable))

    def post(self, address: str, form: Mapping[str, Sequence[str]]) -> Response:
        """Make the change of a form, and lead to the page that shows it."""
        return self._answer(address, lambda parts, _query: Response(303, "", location=self._change(parts, form)))

    def _answer(
        self, address: str, respond: Callable[[Sequence[str], Mapping[str, Sequence[str]]], Response]
    ) -> Response:
        try:
            split = urlsplit(address)
            parts = [unquote(part, errors="replace") for part in split.path.split("/") if part]
            return respond(parts, parse_qs(split.query, max_num_fields=100, errors="replace"))
        except PageError as problem:
            return self._page("problem.html", status=problem.status, title="Not found", message=str(problem))
        except (EvalrunError, ValueError) as error:
            return self._page("problem.html", status=400, title="Invalid request", message=str(error))

    def _change(self, parts: Sequence[str], form: Mapping[str, Sequence[str]]) -> str:
        """Make a change; the address of the page that shows it."""
        if len(parts) == 4 and parts[0] == "runs" and parts[3] in ("notes", "delete"):
            run = self._load(parts[1], parts[2]).folder
            return save_notes(run, form) if parts[3] == "notes" else delete_one(run)
        if len(parts) == 3 and parts[0] == "suites" and parts[2] == "prune" and parts[1] in suites(self.output_dir):
            return prune_suite(self.output_dir, parts[1], form)
        raise PageError(404, "Unknown page.")

    def _route(self, parts: Sequence[str], query: Mapping[str, Sequence[str]], *, editable: bool) -> Response:
        if not parts:
            return self._index()
        if list(parts) == ["style.css"]:
            return Response(200, "".join(sheet.read_text(encoding="utf-8") for sheet in STYLES), "css")
        if list(parts) == ["compare"]:
            return self._compare(query)
        if parts[0] == "suites" and len(parts) == 2:
            return self._suite(parts[1], editable=editable)
        if parts[0] == "runs" and len(parts) == 3:
            return self._run(parts[1], parts[2], editable=editable)
        if parts[0] == "runs" and len(parts) == 4:
            return self._file(*parts[1:])
        raise PageError(404, "Unknown page.")

    def _index(self) -> Response:
        runs_by_suite = suites(self.output_dir)
        sections = [(name, readable(runs[:MAX_INDEX_RUNS]), len(runs)) for name, runs in runs_by_suite.items()]
        return self._page("index.html", title="Runs", suites=sections, folder=str(self.output_dir))

    def _suite(self, name: str, *, editable: bool) -> Response:
        folders = suites(self.output_dir).get(name)
        if folders is None:
            raise PageError(404, f"No runs of suite {name!r}.")
        runs = readable(folders[:MAX_SUITE_RUNS])
        return self._page(
            "suite.html", title=name, suite=name, runs=runs, charts=charts(list(reversed(runs))), editable=editable
        )

    def _run(self, suite: str, run_id: str, *, editable: bool) -> Response:
        run = self._load(suite, run_id)
        return self._page(
            "run.html",
            title=f"{suite} {run_id}",
            run=run,
            comparison=run.metrics.comparison if run.metrics is not None else None,
            editable=editable,
        )

    def _file(self, suite: str, run_id: str, name: str) -> Response:
        run = self._load(suite, run_id)
        path = file_of(self.output_dir, run.folder, name)
        if path is None:
            raise PageError(404, f"The run has no file {name!r}.")
        return Response(200, path, path.suffix[1:], REPORT_POLICY if path.suffix == ".html" else POLICY)

    def _load(self, suite: str, run_id: str) -> StoredRun:
        folder = find(self.output_dir, suite, run_id)
        run = None if folder is None else read_run(folder)
        if run is None:
            raise PageError(404, f"No readable run {run_id!r} of suite {suite!r}.")
        return run

    def _compare(self, query: Mapping[str, Sequence[str]]) -> Response:
        """The comparison of the selected runs, each as suite/id."""
        from evalrunner.commands.compare import compare_runs

        selected = [text.partition("/") for text in query.get("run", ())]
        if not selected:
            raise PageError(400, "Select two or more runs, or one run with several targets.")
        paths = [str(self._load(suite, run_id).folder.path) for suite, _, run_id in selected]
        paired = "unpaired" not in query
        try:
            result = compare_runs(paths, self.output_dir, paired=paired)
        except EvalrunError as error:
            again = "&".join(f"run={quote(text, safe='')}" for text in query["run"])
            unpaired = f"/compare?{again}&unpaired=1" if "--unpaired" in str(error) else None
            return self._page(
                "problem.html", status=400, title="Runs not comparable", message=str(error), unpaired=unpaired
            )
        rows = result.differing(MAX_DIFFERENT_SAMPLES)
        return self._page(
            "comparison.html", title="Comparison", comparison=result.comparison, runs=result.runs, rows=rows
        )

    def _page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        return Response(status, redact(self._environment.get_template(template).render(**values)))

    @cached_property
    def _environment(self) -> Any:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            autoescape=True, loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        environment.filters.update(FILTERS)
        return environment


def _plain(value: Any, limit: int = 200) -> str:
    """Text on one line, without control and direction characters."""
    return one_line(str(value), limit)


def _signed(value: float | None) -> str:
    return "–" if value is None else signed(value)


FILTERS: Mapping[str, Callable[..., str]] = {
    "plain": _plain,
    "number": number,
    "duration": duration,
    "amount": amount,
    "conclusions": lambda metric: "\n".join(conclusions(metric)),
    "cost": lambda comparison: cost_conclusion(comparison) or "",
    "missing": missing_counts,
    "slice_p": slice_p_value,
    "pareto_fronts": lambda comparison: "\n".join(pareto_lines(comparison)),
    "p_value": p_value,
    "signed": _signed,
    "address": lambda text: quote(str(text), safe=""),
    "ends": lambda metric: interval(metric.low, metric.high),
    "ranking": ranking_text,
    "output": lambda row: _plain(output_with_status(row), MAX_OUTPUT_LENGTH),
    "notes": lambda comparison: "\n".join(reading_notes(comparison)),
}
