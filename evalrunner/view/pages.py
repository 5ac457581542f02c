"""The pages of the runs folder by address. Content of runs is untrusted: it is escaped, and control characters removed."""

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
class Response:
    """The response to a request. `body` is a text, or a file that is sent unchanged."""

    status: int
    body: str | Path
    kind: str = "html"
    policy: str = POLICY


class PageError(Exception):
    """An error that is shown as a page, with an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Pages:
    """The pages of one runs folder."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir

    def get(self, address: str) -> Response:
        """The page of an address; an unknown address gets an error page."""
        try:
            split = urlsplit(address)
            parts = [unquote(part, errors="replace") for part in split.path.split("/") if part]
            query = parse_qs(split.query, max_num_fields=100, errors="replace")
            return self._route(parts, query)
        except PageError as problem:
            return self._page("problem.html", status=problem.status, title="Not found", message=str(problem))
        except (EvalrunError, ValueError) as error:
            return self._page("problem.html", status=400, title="Invalid request", message=str(error))

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
        raise PageError(404, "Unknown page.")

    def _index(self) -> Response:
        found = suites(self.output_dir)
        sections = [(name, readable(runs[:MAX_INDEX_RUNS]), len(runs)) for name, runs in found.items()]
        return self._page("index.html", title="Runs", suites=sections, folder=str(self.output_dir))

    def _suite(self, name: str) -> Response:
        folders = suites(self.output_dir).get(name)
        if folders is None:
            raise PageError(404, f"No runs of suite {name!r}.")
        runs = readable(folders[:MAX_SUITE_RUNS])
        return self._page("suite.html", title=name, suite=name, runs=runs, charts=charts(list(reversed(runs))))

    def _run(self, suite: str, run_id: str) -> Response:
        run = self._load(suite, run_id)
        return self._page(
            "run.html",
            title=f"{suite} {run_id}",
            run=run,
            comparison=run.metrics.comparison if run.metrics is not None else None,
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
            found = compare_runs(paths, self.output_dir, paired=paired)
        except EvalrunError as error:
            again = "&".join(f"run={quote(text, safe='')}" for text in query["run"])
            unpaired = f"/compare?{again}&unpaired=1" if "--unpaired" in str(error) else None
            return self._page(
                "problem.html", status=400, title="Runs not comparable", message=str(error), unpaired=unpaired
            )
        rows = found.differing(MAX_DIFFERENT_SAMPLES)
        return self._page(
            "comparison.html", title="Comparison", comparison=found.comparison, runs=found.runs, rows=rows
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


def _half(metric: Any) -> str:
    """`±0.024`, or an empty text."""
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
    "output": lambda row: _plain(output_text(row), MAX_OUTPUT_LENGTH),
    "notes": lambda comparison: "\n".join(reading_notes(comparison)),
}
