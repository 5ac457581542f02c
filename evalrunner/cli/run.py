"""The commands `run`, `gate` and `score`: options to a call of the package, results to the terminal, an exit code."""

from __future__ import annotations

import contextlib
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
from evalrunner.verdicts import INTERRUPTED, exit_code

if TYPE_CHECKING:
    from evalrunner.domain import Reporter, Row
    from evalrunner.engine.plan import Plan, StoredAnswers
    from evalrunner.engine.result import RunResult
    from evalrunner.middleware.cancellation import StopSignal
    from evalrunner.reports.view import RunView
    from evalrunner.reports.worst_rows import WorstRows
    from evalrunner.suite.options import RunOptions


DRAWING_AFTER_S = 0.04


def run(
    suites: options.MaybeSuites = None,
    target: options.Targets = None,
    base_url: options.BaseUrl = None,
    judge: options.JudgeModel = None,
    limit: options.Limit = None,
    where: options.Where = None,
    epochs: options.Epochs = None,
    concurrency: options.Concurrency = None,
    retries: options.Retries = None,
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
    fail_on_error: options.FailOnError = None,
    cache: options.Cache = None,
    refresh: options.Refresh = False,
    resume: options.Resume = None,
    retry_errors: options.RetryErrors = False,
    seed: options.Seed = None,
    output_dir: options.OutputDir = Path("runs"),
    output: options.Outputs = None,
    settings: options.Settings = None,
    mlflow: options.Mlflow = None,
    mlflow_required: options.MlflowRequired = False,
    no_gates: Annotated[bool, typer.Option("--no-gates", help="Measure only; no verdict.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line a suite, no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics as JSON and nothing else.")] = False,
    diff: options.Diff = 3,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print requests and answers to stderr, keys redacted.")
    ] = False,
) -> None:
    """Run suites, one after the other, and end with the code of their verdict.

    Exit codes: 0 all gates pass, 1 a gate failed, 2 usage or suite error (nothing was called),
    3 untrusted or stopped early, 4 inconclusive, 130 interrupted.
    """
    from evalrunner.suite.options import RunOptions

    asked = RunOptions(
        targets=tuple(target or ()),
        base_url=base_url,
        judge=judge,
        limit=limit,
        where=options.conditions(where),
        epochs=epochs,
        concurrency=options.concurrency_of(concurrency),
        retries=retries,
        timeout=timeout,
        max_cost=max_cost,
        fail_on_error=fail_on_error,
        cache=options.cache_mode(cache),
        refresh=refresh,
        resume=resume,
        retry_errors=retry_errors,
        seed=seed,
        settings=tuple(settings or ()),
        output_dir=output_dir,
        outputs=tuple(output or ()),
        gates=not no_gates,
        debug=debug,
        mlflow=mlflow,
        mlflow_required=mlflow_required,
    )
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
    with contextlib.redirect_stdout(sys.stderr):  # what people's functions and models print is no part of the results
        results = asyncio.run(run_all())
    if results and (left := suites[len(results) :]):
        print(f"not begun: {' '.join(map(shlex.quote, left))}", file=sys.stderr)
    return results


def _listen_to_ctrl_c(stop: StopSignal) -> None:
    def asked() -> None:
        stop.request()
        if stop.count == 1:
            print("\nstopping: calls in flight may finish (Ctrl-C again drops them)", file=sys.stderr)
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
    """Print what is inside to `out`, unless whoever reads it has gone: that is no reason to change the exit code."""
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
        """Who listens to the run: progress, then the summary."""
        from evalrunner.reports.progress import BarProgress, PlainProgress

        if self.as_json:
            return []
        if self.quiet:
            return [Summary(sys.stdout, quiet=True)]
        progress = BarProgress(sys.stderr) if sys.stderr.isatty() else PlainProgress(sys.stderr)
        return [progress, Summary(sys.stdout, quiet=False, diff=self.diff)]

    def finish(self, results: list[RunResult]) -> int:
        """Print what is printed at the end of all; returns the exit code of the command."""

        if self.as_json:
            from evalrunner.formatting import json_for_log
            from evalrunner.redact import redact
            from evalrunner.reports.json import metrics_data

            found = [metrics_data(result) for result in results]
            with unless_closed(sys.stdout):
                print(redact(json_for_log(found[0] if len(found) == 1 else found)), flush=True)
            _tell_how_to_go_on(results)
        from evalrunner.reports.view import view_of

        annotate([view_of(result) for result in results], sys.stderr if self.as_json else sys.stdout)
        return exit_code(result.exit_code for result in results)


def _tell_how_to_go_on(results: list[RunResult]) -> None:
    """What JSON has no place for, on stderr: which runs did not do all they had to, why, and the commands for the rest."""
    from evalrunner.reports.terminal import headline, next_step_lines

    for result in results:
        if lines := list(next_step_lines(result)):
            print(headline(result), *lines, sep="\n", file=sys.stderr)


def annotate(views: list[RunView], out: TextIO) -> None:
    """Tell GitHub of gates that did not pass, where it is GitHub that runs us."""
    from evalrunner.reports.github import gate_annotations, workspace_of

    workspace = workspace_of(os.environ)
    if workspace is not None:
        with unless_closed(out):
            for line in gate_annotations(views, workspace):
                print(line, file=out, flush=True)


def rows_that_differ(result: RunResult, count: int) -> tuple[tuple[Row, ...], ...]:
    """The rows of the samples on which the targets of a run differ most, read back from its row log."""
    if result.comparison is None or count == 0:
        return ()
    from evalrunner.compare.disagreement import disagreeing_rows
    from evalrunner.runs.row_log import read_rows

    return disagreeing_rows(read_rows(result.folder), result.comparison.most_different[:count], list(result.targets))


def import_drawing() -> None:
    """Import what summaries are drawn with."""
    from rich import box, console, table, text  # noqa: F401


class Summary:
    """Prints a run's summary at its end, with the rows that did worst, or `diff` on which several targets differ."""

    def __init__(self, out: TextIO, *, quiet: bool, diff: int = 0) -> None:
        self.out = out
        self.quiet = quiet
        self.diff = diff
        self.worst: WorstRows | None = None

    def on_start(self, plan: Plan, folder: Any, /) -> None:
        from evalrunner.reports.worst_rows import WorstRows

        # What the summary is drawn with takes a while to import: done once the first calls are out, while they are waited for.
        drawing = threading.Timer(DRAWING_AFTER_S, import_drawing)
        drawing.daemon = True
        drawing.start()
        self.worst = WorstRows(plan.measures)

    def on_row(self, row: Row, /) -> None:
        assert self.worst is not None  # a run starts before its first row
        self.worst.add(row)

    on_replayed_row = on_row

    def on_end(self, result: RunResult, /) -> None:
        assert self.worst is not None  # a run starts before it ends
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


Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, its path, or last.")]


def gate(
    run: Run = "last",
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME|PATH|RUN", help="Compare with this one instead of the suite's."),
    ] = None,
    suite: Annotated[
        Path | None, typer.Option("--suite", metavar="FILE", help="Take the gates of this file instead.")
    ] = None,
    settings: options.Settings = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Write verdicts as .json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts as JSON and nothing else.")] = False,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Judge a stored run again by the gates of its suite, offline; nothing is called.

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
    folder = find_run(run, output_dir)
    judged = reevaluate_gates(folder, runs=output_dir, suite_file=suite, baseline=baseline, settings=settings or ())
    if output is not None:
        write_json(output, gate_report_data(judged))
    if as_json:
        typer.echo(redact(json_for_log(gate_report_data(judged))))
    else:
        console = open_console(sys.stdout)
        for part in render_gate_report(judged):
            console.print(part)
    view = gate_report_view(judged, suite)
    annotate([view], sys.stderr if as_json else sys.stdout)
    try:
        add_stored_to_step(folder, view, output_dir)
    except (OSError, RunError) as refused:  # the verdict stands all the same
        print(f"note: a report could not be written: {refused}", file=sys.stderr)
    raise typer.Exit(judged.exit_code)


def score(
    run: Annotated[
        str, typer.Argument(metavar="RUN|FILE", help="A run, or the .jsonl file of a baseline that has outputs.")
    ] = "last",
    suite: Annotated[
        Path | None, typer.Option("--suite", metavar="FILE", help="The suite with the scorers; the run's own without.")
    ] = None,
    judge: options.JudgeModel = None,
    settings: options.Settings = None,
    concurrency: options.Concurrency = None,
    output: options.Outputs = None,
    no_gates: Annotated[bool, typer.Option("--no-gates", help="Measure only; no verdict.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line a suite, no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics as JSON and nothing else.")] = False,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Run scorers over stored answers as a run of its own; no target is called, judges are.

    A baseline with outputs is brought up to changed scorers so: score it, then accept the run. It is measured only.
    """
    from evalrunner.commands.rescore import load_answers
    from evalrunner.errors import SuiteError
    from evalrunner.suite.options import RunOptions

    stored = load_answers(run, output_dir)
    file = suite if suite is not None else stored.suite_file
    if file is None or not file.is_file():
        where = "a baseline does not say where its suite is" if file is None else f"the suite {str(file)!r} is not here"
        raise SuiteError(f"{where}; name it: --suite FILE")
    asked = RunOptions(
        judge=judge,
        concurrency=options.concurrency_of(concurrency),
        settings=tuple(settings or ()),
        output_dir=output_dir,
        outputs=tuple(output or ()),
        gates=not no_gates and stored.suite_file is not None,
    )
    printer = Printer(quiet=quiet, as_json=as_json)
    results = run_and_print([str(file)], asked, printer, stored)
    raise typer.Exit(printer.finish(results))
