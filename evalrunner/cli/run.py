"""The commands `run`, `gate` and `score`: options to a call of the package, results to the terminal, an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from evalrunner.cli import options
from evalrunner.suite.options import RunOptions
from evalrunner.verdicts import INTERRUPTED, exit_code

if TYPE_CHECKING:
    from evalrunner.domain import Reporter, Row
    from evalrunner.engine.plan import Plan, StoredAnswers
    from evalrunner.engine.result import RunResult
    from evalrunner.middleware.cancellation import StopSignal
    from evalrunner.reports.view import RunView
    from evalrunner.reports.worst_rows import WorstRows


DRAWING_AFTER_S = 0.04


@options.takes_options("run")
def run(
    asked: RunOptions,
    suites: options.MaybeSuites = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    diff: options.Diff = 3,
) -> None:
    """Run suites. The exit code reflects the verdict.

    Exit codes: 0 all gates pass, 1 a gate failed, 2 usage or suite error (nothing was called),
    3 untrusted or stopped early, 4 inconclusive, 130 interrupted.

    Formats of --output: .csv .parquet .xlsx .jsonl .json .html .md .xml .svg .png
    """
    printer = Printer(quiet=quiet, as_json=as_json, diff=diff)
    results = run_and_print(suites or [], asked, printer)
    raise typer.Exit(printer.finish(results))


def run_and_print(
    suites: list[str], asked: RunOptions, printer: Printer, stored: StoredAnswers | None = None
) -> list[RunResult]:
    """Run suites with progress on stderr and each summary on stdout as it is known."""
    import asyncio

    from evalrunner.commands.run import Session, run_suites
    from evalrunner.middleware.cancellation import StopSignal
    from evalrunner.reports.progress import FetchProgress

    async def run_all() -> list[RunResult]:
        trace = _to_stderr if asked.debug else None
        fetching = FetchProgress(sys.stderr)
        session = Session(
            asked, StopSignal(), trace, listen=_listen_to_ctrl_c, fetching=fetching, stored=stored, tell=_to_stderr
        )
        return await run_suites(suites, session, reporters)

    # rows leave hardly any cycles behind: looking for them as often as usual is a twentieth of a run's time
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    reporters = printer.reporters()
    with contextlib.redirect_stdout(sys.stderr):  # output of user functions and models is not part of the results
        results = asyncio.run(run_all())
    if results and (left := suites[len(results) :]):
        print(f"not started: {' '.join(map(shlex.quote, left))}", file=sys.stderr)
    return results


def _listen_to_ctrl_c(stop: StopSignal) -> None:
    def asked() -> None:
        stop.request()
        if stop.count == 1:
            print("\nstopping: waiting for in-flight requests (Ctrl-C again cancels them)", file=sys.stderr)
        elif stop.count > 2:
            os._exit(INTERRUPTED)

    import asyncio
    import signal

    try:
        for sign in (signal.SIGINT, signal.SIGTERM):  # the second is how CI cancels a job
            asyncio.get_running_loop().add_signal_handler(sign, asked)
    except NotImplementedError:  # Windows has no signal handlers on the loop: Ctrl-C raises KeyboardInterrupt there
        return


def _to_stderr(line: str) -> None:
    from evalrunner.formatting import for_log

    print(for_log(line), file=sys.stderr)


@contextlib.contextmanager
def unless_closed(out: TextIO) -> Iterator[None]:
    """Print to `out`; a reader that has closed the pipe does not change the exit code."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


class Printer:
    """What a run prints: progress and summary, one line, or JSON."""

    def __init__(self, *, quiet: bool, as_json: bool, diff: int = 0) -> None:
        self.quiet = quiet
        self.diff = diff
        self.as_json = as_json

    def reporters(self) -> list[Reporter]:
        """The reporters of the run: progress, then the summary."""
        from evalrunner.reports.progress import BarProgress, PlainProgress

        if self.as_json:
            return []
        if self.quiet:
            return [Summary(sys.stdout, quiet=True)]
        progress = BarProgress(sys.stderr) if sys.stderr.isatty() else PlainProgress(sys.stderr)
        return [progress, Summary(sys.stdout, quiet=False, diff=self.diff)]

    def finish(self, results: list[RunResult]) -> int:
        """Print the JSON and the annotations of all runs; returns the exit code of the command."""

        if self.as_json:
            from evalrunner.engine.result import metrics_record
            from evalrunner.formatting import json_for_log
            from evalrunner.redact import redact

            records = [metrics_record(result).to_json() for result in results]
            with unless_closed(sys.stdout):
                print(redact(json_for_log(records[0] if len(records) == 1 else records)), flush=True)
            _print_next_steps(results)
        from evalrunner.reports.view import view_of

        annotate([view_of(result) for result in results], sys.stderr if self.as_json else sys.stdout)
        return exit_code(result.exit_code for result in results)


def _print_next_steps(results: list[RunResult]) -> None:
    """Print to stderr which runs did not finish, why, and how to continue them: the JSON on stdout has no field for it."""
    from evalrunner.reports.terminal import headline, next_step_lines

    for result in results:
        if lines := list(next_step_lines(result)):
            print(headline(result), *lines, sep="\n", file=sys.stderr)


def annotate(views: list[RunView], out: TextIO) -> None:
    """Annotate gates that did not pass, in GitHub Actions."""
    from evalrunner.reports.github import gate_annotations, workspace_of

    workspace = workspace_of(os.environ)
    if workspace is not None:
        with unless_closed(out):
            for line in gate_annotations(views, workspace):
                print(line, file=out, flush=True)


def rows_that_differ(result: RunResult, count: int) -> tuple[tuple[Row, ...], ...]:
    """The rows of the samples on which the targets of a run differ most, read from its row log."""
    if result.comparison is None or count == 0:
        return ()
    from evalrunner.compare.disagreement import disagreeing_rows
    from evalrunner.runs.row_log import read_rows

    return disagreeing_rows(read_rows(result.folder), result.comparison.most_different[:count], list(result.targets))


def import_drawing() -> None:
    """Import what the summary is rendered with."""
    from rich import box, console, table, text  # noqa: F401


class Summary:
    """Prints the summary of a run at its end, with its worst rows, or the `diff` samples on which targets differ most."""

    def __init__(self, out: TextIO, *, quiet: bool, diff: int = 0) -> None:
        self.out = out
        self.quiet = quiet
        self.diff = diff
        self.worst: WorstRows | None = None

    def on_start(self, plan: Plan, folder: Any, /) -> None:
        from evalrunner.reports.worst_rows import WorstRows

        # Rendering takes a while to import: done while the run waits for its first calls.
        drawing = threading.Timer(DRAWING_AFTER_S, import_drawing)
        drawing.daemon = True
        drawing.start()
        self.worst = WorstRows(plan.measures)

    def on_row(self, row: Row, /) -> None:
        assert self.worst is not None  # set by on_start
        self.worst.add(row)

    on_replayed_row = on_row

    def on_end(self, result: RunResult, /) -> None:
        assert self.worst is not None  # set by on_start
        from evalrunner.reports.terminal import headline, next_step_lines, open_console, render_result

        console = open_console(self.out)
        with unless_closed(self.out):
            if self.quiet:
                line = headline(result)
                line.append(f" · {result.folder}")
                console.print(line, *next_step_lines(result), sep="\n", soft_wrap=True)
                return
            worst = {name: self.worst.of(name) for name in result.targets}
            for part in render_result(result, worst, rows_that_differ(result, self.diff)):
                console.print(part)


@options.takes_options("gate")
def gate(
    asked: RunOptions,
    run: options.Run = "last",
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME|PATH|RUN", help="Baseline in place of the suite's."),
    ] = None,
    suite: options.SuiteFile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Also write the verdicts as .json.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check the gates of a stored run again, offline.

    Exit codes: 0 all gates pass, 1 a gate failed, 2 usage or suite error, 3 untrusted or not finished, 4 inconclusive.
    """
    from evalrunner.commands.regate import reevaluate_gates
    from evalrunner.errors import RunError, SuiteError
    from evalrunner.formatting import json_for_log
    from evalrunner.redact import redact, register_environment
    from evalrunner.reports.ci import add_stored_to_step
    from evalrunner.reports.gate_report import gate_report_data, gate_report_view, render_gate_report
    from evalrunner.reports.terminal import open_console
    from evalrunner.runs.folder import find_run
    from evalrunner.storage import write_json

    if output is not None and output.suffix != ".json":
        raise SuiteError(f"--output {str(output)!r}: the path should end in .json")
    register_environment()
    folder = find_run(run, asked.output_dir)
    report = reevaluate_gates(
        folder, runs=asked.output_dir, suite_file=suite, baseline=baseline, settings=asked.settings
    )
    if output is not None:
        write_json(output, gate_report_data(report))
    if as_json:
        typer.echo(redact(json_for_log(gate_report_data(report))))
    else:
        console = open_console(sys.stdout)
        for part in render_gate_report(report):
            console.print(part)
    view = gate_report_view(report, suite)
    annotate([view], sys.stderr if as_json else sys.stdout)
    try:
        add_stored_to_step(folder, view, asked.output_dir)
    except (OSError, RunError) as refused:  # the verdict is not affected
        print(f"note: a report could not be written: {refused}", file=sys.stderr)
    raise typer.Exit(report.exit_code)


@options.takes_options("score")
def score(
    asked: RunOptions,
    run: Annotated[str, typer.Argument(metavar="RUN|FILE", help="Run, or a baseline .jsonl with outputs.")] = "last",
    suite: options.SuiteFile = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Score stored outputs again, as a new run.

    No target is called; judges are. To update a baseline with outputs to changed scorers, score it and accept the new
    run. Runs of a baseline have no verdict.
    """
    from evalrunner.commands.rescore import load_answers
    from evalrunner.errors import SuiteError

    stored = load_answers(run, asked.output_dir)
    file = suite if suite is not None else stored.suite_file
    if file is None or not file.is_file():
        state = "a baseline does not name its suite" if file is None else f"suite {str(file)!r} not found"
        raise SuiteError(f"{state}; pass it: --suite FILE")
    asked = dataclasses.replace(asked, gates=asked.gates and stored.suite_file is not None)
    printer = Printer(quiet=quiet, as_json=as_json)
    results = run_and_print([str(file)], asked, printer, stored)
    raise typer.Exit(printer.finish(results))
