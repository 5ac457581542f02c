"""Addresses to pages. Everything that runs hold is anybody's text: it is escaped, and cleaned of what could steer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from evalrunner.errors import EvalrunError
from evalrunner.formatting import duration, interval, number, one_line
from evalrunner.redact import redact
from evalrunner.reports.comparison import amount, output_text, p_value, pareto_lines, ranking_text, reading_notes
from evalrunner.view.history import StoredRun, charts, file_of, find, read_run, readable, suites

TEMPLATES: Final = Path(__file__).parent / "templates"
NEWEST: Final = 10  # runs of a suite on the first page
MOST: Final = 200  # runs of a suite on its own
DIFFERING: Final = 5  # samples below a comparison
LONGEST: Final = 4000  # characters of an answer on a page
TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "csv": "text/plain; charset=utf-8",  # shown, not handed to whatever opens tables
    "md": "text/plain; charset=utf-8",
}
POLICY: Final = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
REPORT_POLICY: Final = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
"""A report brings its own policy; in the sandbox it has an origin of its own, so it could read nothing of this server."""


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent. `body` is a text, or a file that is sent as it is."""

    status: int
    body: str | Path
    kind: str = "html"
    policy: str = POLICY


class Problem(Exception):
    """What a page says instead. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Pages:
    """The pages of one runs folder."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir

    def get(self, address: str) -> Response:
        """The page of an address, whatever it is: an unknown one gets a page that says so."""
        try:
            split = urlsplit(address)
            parts = [unquote(part, errors="replace") for part in split.path.split("/") if part]
            query = parse_qs(split.query, max_num_fields=100, errors="replace")
            return self._route(parts, query)
        except Problem as problem:
            return self._page("problem.html", status=problem.status, title="Not here", message=str(problem))
        except (EvalrunError, ValueError) as said:
            return self._page("problem.html", status=400, title="That cannot be shown", message=str(said))

    def _route(self, parts: Sequence[str], query: Mapping[str, Sequence[str]]) -> Response:
        if not parts:
            return self._index()
        if list(parts) == ["style.css"]:
            return Response(200, TEMPLATES / "style.css", "css")
        if list(parts) == ["compare"]:
            return self._compare(query)
        if parts[0] == "suites" and len(parts) == 2:
            return self._suite(parts[1])
        if parts[0] == "runs" and len(parts) == 3:
            return self._run(parts[1], parts[2])
        if parts[0] == "runs" and len(parts) == 4:
            return self._file(*parts[1:])
        raise Problem(404, "There is no such page.")

    def _index(self) -> Response:
        found = suites(self.output_dir)
        shown = [(name, readable(runs[:NEWEST]), len(runs)) for name, runs in found.items()]
        return self._page("index.html", title="Runs", suites=shown, folder=str(self.output_dir))

    def _suite(self, name: str) -> Response:
        folders = suites(self.output_dir).get(name)
        if folders is None:
            raise Problem(404, f"There is no run of a suite {name!r}.")
        runs = readable(folders[:MOST])
        return self._page("suite.html", title=name, suite=name, runs=runs, charts=charts(list(reversed(runs))))

    def _run(self, suite: str, run_id: str) -> Response:
        run = self._found(suite, run_id)
        return self._page(
            "run.html",
            title=f"{suite} {run_id}",
            run=run,
            comparison=run.metrics.comparison if run.metrics is not None else None,
        )

    def _file(self, suite: str, run_id: str, name: str) -> Response:
        run = self._found(suite, run_id)
        path = file_of(self.output_dir, run.folder, name)
        if path is None:
            raise Problem(404, f"That run has no {name!r}.")
        return Response(200, path, path.suffix[1:], REPORT_POLICY if path.suffix == ".html" else POLICY)

    def _found(self, suite: str, run_id: str) -> StoredRun:
        folder = find(self.output_dir, suite, run_id)
        run = None if folder is None else read_run(folder)
        if run is None:
            raise Problem(404, f"There is no run {run_id!r} of a suite {suite!r} that can be read.")
        return run

    def _compare(self, query: Mapping[str, Sequence[str]]) -> Response:
        """The comparison of the runs that are ticked, each as suite/id."""
        from evalrunner.commands.compare import compare_runs

        ticked = [text.partition("/") for text in query.get("run", ())]
        if not ticked:
            raise Problem(400, "Tick two runs or more to compare them, or one that has several targets.")
        paths = [str(self._found(suite, run_id).folder.path) for suite, _, run_id in ticked]
        paired = "unpaired" not in query
        try:
            found = compare_runs(paths, self.output_dir, paired=paired)
        except EvalrunError as said:
            again = "&".join(f"run={quote(text, safe='')}" for text in query["run"])
            way = f"/compare?{again}&unpaired=1" if "--unpaired" in str(said) else None
            return self._page(
                "problem.html", status=400, title="These runs cannot be compared", message=str(said), way=way
            )
        rows = found.differing(DIFFERING)
        return self._page(
            "comparison.html", title="Side by side", comparison=found.comparison, runs=found.runs, rows=rows
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
    """Text on one line, without what would turn its direction or steer a terminal it is copied to."""
    return one_line(str(value), limit)


def _half(metric: Any) -> str:
    """`±0.024`, or nothing."""
    return (
        "" if metric is None or metric.low is None or metric.high is None else f"±{(metric.high - metric.low) / 2:.3f}"
    )


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


FILTERS: Mapping[str, Callable[..., str]] = {
    "plain": _plain,
    "number": number,
    "duration": duration,
    "amount": amount,
    "pareto_fronts": lambda comparison: "\n".join(pareto_lines(comparison)),
    "p_value": p_value,
    "half": _half,
    "signed": _signed,
    "address": lambda text: quote(str(text), safe=""),
    "ends": lambda metric: interval(metric.low, metric.high),
    "ranking": ranking_text,
    "output": lambda row: _plain(output_text(row), LONGEST),
    "beside": lambda comparison: "\n".join(reading_notes(comparison)),
}
