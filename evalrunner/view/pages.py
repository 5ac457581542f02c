"""The pages of the runs folder by address, each from the runs on disk at that moment.

Content of runs is untrusted: it is escaped, and control characters are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from evalrunner.domain import Row
from evalrunner.errors import EvalrunError
from evalrunner.formatting import duration, interval, number, one_line, signed
from evalrunner.redact import redact
from evalrunner.reports.comparison import (
    amount,
    diff_counts,
    missing_counts,
    p_value,
    pareto_lines,
    ranking_text,
    reading_notes,
    slice_p_value,
)
from evalrunner.reports.conclusions import conclusions_of, cost_conclusion
from evalrunner.reports.html.page import ASSETS
from evalrunner.reports.row_lines import changed_check_texts, output_with_status, score_text
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.prune import plan_prune
from evalrunner.view.charts import charts
from evalrunner.view.editing import delete_one, prune_suite, runs_to_keep, save_notes
from evalrunner.view.stored import (
    MAX_SEARCHED_RUNS,
    VERDICTS,
    RunFilter,
    RunStore,
    StoredRun,
    accepted_baselines,
    baselines_by_run,
    known_tags,
    read_run,
    verdict_counts,
)

TEMPLATES: Final = Path(__file__).parent / "templates"
STYLES: Final = (
    ASSETS / "base.css",
    ASSETS / "components.css",
    TEMPLATES / "style.css",
)  # as in reports, and what is added
MAX_SUITE_HISTORY: Final = 20  # runs of a suite on the first page
MAX_INDEX_RUNS: Final = 400  # of all suites on the first page; with more suites, each has a shorter history
MAX_LATEST_RUNS: Final = 20  # in the list on the first page
MAX_SUITE_RUNS: Final = 200  # on the page of a suite, and in a filtered list
MAX_COMPARED_RUNS: Final = 12
MAX_DIFFERENT_SAMPLES: Final = 5  # below a comparison
MAX_CHANGED_ROWS: Final = 100
MAX_CHECKS: Final = 6  # that changed in a row
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
    location: str | None = None  # of a redirect


class PageError(Exception):
    """An error that is shown as a page, with an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.title = "Not found" if status == 404 else "Nothing to show"


class Pages:
    """The pages of one runs folder. Baselines are looked for below the current folder and beside the runs folder."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self.store = RunStore(output_dir)
        self.roots = tuple(dict.fromkeys((Path.cwd(), output_dir.absolute().parent)))

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
            return self._page("problem.html", status=problem.status, title=problem.title, message=str(problem))
        except (EvalrunError, ValueError) as error:
            return self._page("problem.html", status=400, title="Invalid request", message=str(error))

    def _change(self, parts: Sequence[str], form: Mapping[str, Sequence[str]]) -> str:
        """Make a change; the address of the page that shows it."""
        if len(parts) == 4 and parts[0] == "runs" and parts[3] in ("notes", "delete"):
            run = self._load(parts[1], parts[2]).folder
            return save_notes(run, form) if parts[3] == "notes" else delete_one(run)
        if len(parts) == 3 and parts[0] == "suites" and parts[2] == "prune" and parts[1] in self.store.suites():
            return prune_suite(self.output_dir, parts[1], form)
        raise PageError(404, "Unknown page.")

    def _route(self, parts: Sequence[str], query: Mapping[str, Sequence[str]], *, editable: bool) -> Response:
        match list(parts):
            case []:
                return self._index(query)
            case ["style.css"]:
                return Response(200, "".join(sheet.read_text(encoding="utf-8") for sheet in STYLES), "css")
            case ["compare"]:
                return self._compare(query)
            case ["diff"]:
                return self._diff(query)
            case ["suites", suite]:
                return self._suite(suite, query, editable=editable)
            case ["suites", suite, "prune"] if editable:
                return self._prune(suite, query)
            case ["runs", suite, run_id]:
                return self._run(suite, run_id, editable=editable)
            case ["runs", suite, run_id, name]:
                return self._file(suite, run_id, name)
        raise PageError(404, "Unknown page.")

    def _index(self, query: Mapping[str, Sequence[str]]) -> Response:
        by_suite = self.store.suites()
        folders = sorted((run for runs in by_suite.values() for run in runs), key=lambda run: run.id, reverse=True)
        wanted = _filter(query)
        runs = self.store.matching(folders, wanted, limit=MAX_SUITE_RUNS if wanted else MAX_LATEST_RUNS)
        history = max(1, min(MAX_SUITE_HISTORY, MAX_INDEX_RUNS // max(1, len(by_suite))))
        newest = {} if wanted else {name: self.store.readable(own[:history]) for name, own in by_suite.items()}
        return self._page(
            "index.html",
            title="Runs",
            suites=[(name, own, len(by_suite[name]), verdict_counts(own)) for name, own in newest.items() if own],
            runs=runs,
            count=len(folders),
            searched=MAX_SEARCHED_RUNS,
            folder=str(self.output_dir),
            wanted=wanted,
            tags=known_tags(folders),
            verdicts=VERDICTS,
        )

    def _suite(self, name: str, query: Mapping[str, Sequence[str]], *, editable: bool) -> Response:
        folders = self._folders(name)
        newest = self.store.readable(folders[:MAX_SUITE_RUNS])
        baselines = accepted_baselines(newest, self.roots)
        accepted = baselines_by_run(baselines)
        wanted = _filter(query)
        known = {folder.id for folder in folders}
        return self._page(
            "suite.html",
            title=name,
            suite=name,
            runs=self.store.matching(folders, wanted, limit=MAX_SUITE_RUNS) if wanted else newest,
            count=len(folders),
            searched=MAX_SEARCHED_RUNS,
            charts=charts(list(reversed(newest)), accepted),
            accepted=accepted,
            elsewhere=[baseline for baseline in baselines if baseline.run_id not in known],
            wanted=wanted,
            tags=known_tags(folders),
            verdicts=VERDICTS,
            editable=editable,
        )

    def _prune(self, suite: str, query: Mapping[str, Sequence[str]]) -> Response:
        """What a pruning would delete, with the button that does it."""
        self._folders(suite)
        keep = runs_to_keep(query)
        plan = plan_prune(self.output_dir, keep=keep, suite=suite)
        return self._page("prune.html", title=f"Delete old runs of {suite}", suite=suite, keep=keep, plan=plan)

    def _run(self, suite: str, run_id: str, *, editable: bool) -> Response:
        run = self._load(suite, run_id)
        ids = [folder.id for folder in self._folders(suite)]
        before = ids[ids.index(run_id) + 1 :][:1] if run_id in ids else []
        return self._page(
            "run.html",
            title=f"{suite} {run_id}",
            run=run,
            comparison=run.metrics.comparison if run.metrics is not None else None,
            accepted=baselines_by_run(accepted_baselines([run], self.roots)).get(run_id, ()),
            before=_query([f"{suite}/{before[0]}", f"{suite}/{run_id}"]) if before else None,
            editable=editable,
        )

    def _file(self, suite: str, run_id: str, name: str) -> Response:
        run = self._load(suite, run_id)
        path = self.store.file_of(run.folder, name)
        if path is None:
            raise PageError(404, f"The run has no file {name!r}.")
        return Response(200, path, path.suffix[1:], REPORT_POLICY if path.suffix == ".html" else POLICY)

    def _folders(self, suite: str) -> list[RunFolder]:
        """The runs of a suite, newest first."""
        folders = self.store.suites().get(suite)
        if folders is None:
            raise PageError(404, f"No runs of suite {suite!r}.")
        return folders

    def _load(self, suite: str, run_id: str) -> StoredRun:
        folder = self.store.find(suite, run_id)
        run = None if folder is None else read_run(folder)
        if run is None:
            raise PageError(404, f"No readable run {run_id!r} of suite {suite!r}.")
        return run

    def _selected(self, query: Mapping[str, Sequence[str]]) -> list[StoredRun]:
        """The selected runs, each as suite/id; the oldest first, whatever the order of the boxes."""
        selected = [text.partition("/") for text in dict.fromkeys(query.get("run", ()))]
        if not selected:
            raise PageError(400, "No run is selected. Go back and select two runs, or one run with several targets.")
        if len(selected) > MAX_COMPARED_RUNS:
            raise PageError(400, f"{len(selected)} runs are selected. Select at most {MAX_COMPARED_RUNS}.")
        runs = [self._load(suite, run_id) for suite, _, run_id in selected]
        return sorted(runs, key=lambda run: (run.record.started_at, run.folder.id))

    def _compare(self, query: Mapping[str, Sequence[str]]) -> Response:
        """The comparison of the selected runs."""
        from evalrunner.commands.compare import compare_runs

        runs = self._selected(query)
        names = [f"{run.folder.suite}/{run.folder.id}" for run in runs]
        labels = {run.folder.id: letter for run, letter in zip(runs, ascii_uppercase, strict=False)}
        if len(runs) == 1:
            _check_targets(runs[0])
        try:
            result = compare_runs(
                [str(run.folder.path) for run in runs], self.output_dir, paired="unpaired" not in query, labels=labels
            )
        except EvalrunError as error:
            message, unpaired = str(error), None
            if "--unpaired" in message:  # which is an option of the command; here it is a link
                message, unpaired = message.rpartition("\n")[0], f"/compare?{_query(names)}&unpaired=1"
            return self._page(
                "problem.html", status=400, title="Runs not comparable", message=message, unpaired=unpaired, runs=runs
            )
        rows = result.differing(MAX_DIFFERENT_SAMPLES)
        has_pair = len(runs) == 2 or (len(runs) == 1 and len(runs[0].record.targets) == 2)
        diff = f"/diff?{_query(names)}" if has_pair else None
        return self._page(
            "comparison.html",
            title="Comparison",
            comparison=result.comparison,
            runs=runs,
            rows=rows,
            diff=diff,
            labels=labels,
        )

    def _diff(self, query: Mapping[str, Sequence[str]]) -> Response:
        """The changed rows between two runs, or between two targets of one."""
        from evalrunner.commands.diff import diff_runs

        runs = self._selected(query)
        if len(runs) == 1:
            _check_targets(runs[0])
        if len(runs) > 2:
            raise PageError(400, f"{len(runs)} runs are selected. Changed rows are those between two runs.")
        targets = [text for name in ("before", "after") for text in query.get(name, ())[:1]]
        sides = [list(run.record.targets) for run in (runs[0], runs[-1])]
        diffs, problem = [], None
        try:
            diffs = diff_runs(
                [str(run.folder.path) for run in runs], self.output_dir,
                targets=targets if len(targets) == 2 else (), keep=MAX_CHANGED_ROWS,
            )  # fmt: skip
        except EvalrunError as error:
            chosen = len(targets) == 2 or "--targets" not in str(error)  # an option of the command; here it is a form
            problem = str(error).removeprefix("--targets: ") if chosen else "Select the targets to compare."
        return self._page(
            "diff.html", status=200 if diffs else 400, title="Changed rows", runs=runs, before=runs[0],
            after=runs[-1], diffs=diffs, problem=problem, sides=sides, targets=targets,
            compare=f"/compare?{_query([f'{run.folder.suite}/{run.folder.id}' for run in runs])}",
        )  # fmt: skip

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


def _filter(query: Mapping[str, Sequence[str]]) -> RunFilter:
    """The filter in an address: `?tag=release-1&verdict=no_baseline`."""
    return RunFilter(query.get("tag", [""])[0], query.get("verdict", [""])[0].replace("_", " "))


def _check_targets(run: StoredRun) -> None:
    """Raise PageError if there is nothing in a run to compare."""
    if len(run.record.targets) == 1:
        raise PageError(400, f"Run {run.folder.id} has one target. Go back and select another run as well.")


def _query(runs: Sequence[str]) -> str:
    """The part of an address that selects runs, each `suite/id`."""
    return urlencode([("run", name) for name in runs], quote_via=quote)


def _row_link(row: Row) -> str:
    """The hash of a row in its report."""
    epoch = f"&epoch={row.epoch}" if row.epoch > 1 else ""
    return f"#rows&row={quote(row.sample.id, safe='', errors='replace')}{epoch}"


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
    "conclusions": lambda metric, comparison: "\n".join(conclusions_of(comparison, metric)),
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
    "counts": lambda diff: "; ".join(diff_counts(diff.changes)),
    "row_link": _row_link,
    "score": score_text,
    "checks": lambda change: "\n".join(changed_check_texts(change.before, change.after)[:MAX_CHECKS]),
    "notes": lambda comparison: "\n".join(reading_notes(comparison)),
}
