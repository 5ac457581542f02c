"""The commands `run`, `gate` and `score`: options to a call of the package, results to the terminal, an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TextIO, runtime_checkable

import typer

from evalrunner.cli import options
from evalrunner.cli.guard import Guard, exit_now, interrupt_on_signals
from evalrunner.suite.options import RunOptions, with_trust_of
from evalrunner.verdicts import INTERRUPTED, exit_code

if TYPE_CHECKING:
    from evalrunner.domain import Reporter
    from evalrunner.engine.plan import StoredAnswers
    from evalrunner.engine.result import RunResult
    from evalrunner.middleware.deadline import StopSignal
    from evalrunner.reports.view import RunView


@runtime_checkable
class Closable(Protocol):
    """A reporter with something to end after the last run, also if that could not continue."""

    def close(self) -> None: ...


@options.takes_options("run")
def run(
    run_options: RunOptions,
    suites: options.MaybeSuites = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
    diff: options.Diff = None,
    show: options.Open = False,
) -> None:
    """Run suites. The exit code reflects the verdict.

    Exit codes: 0 all gates pass, 1 a gate failed, 2 usage or suite error (nothing was called),
    3 untrusted or stopped early, 4 inconclusive, 130 interrupted.

    Formats of --output: OUTPUT_FORMATS
    """
    options.refuse_unprinted(quiet=quiet, as_json=as_json, verbose=verbose, diff=diff)
    shown = options.DEFAULT_DIFF if diff is None else diff
    printer = Printer(quiet=quiet, verbose=verbose, as_json=as_json, diff=shown)
    results = run_and_print(options.expand_folders(suites or []), run_options, printer)
    code = printer.finish(results)
    if show:
        open_reports(result.folder for result in results)
    raise typer.Exit(code)


def open_reports(folders: Iterable[Path]) -> None:
    """Open the reports of runs in a browser."""
    import webbrowser

    from evalrunner.runs.folder import REPORT_FILE

    for folder in folders:
        report = folder / REPORT_FILE
        if not report.is_file():
            print(f"note: {str(folder)!r} has no {REPORT_FILE}; 'evalrun report' writes it", file=sys.stderr)
        elif not webbrowser.open(report.resolve().as_uri()):
            print(f"note: no browser was found; open {report}", file=sys.stderr)


def run_and_print(
    suites: list[str], run_options: RunOptions, printer: Printer, stored: StoredAnswers | None = None
) -> list[RunResult]:
    """Run suites with progress on stderr and each summary on stdout as it is known."""
    import asyncio

    from evalrunner.commands.run import Session, run_suites
    from evalrunner.middleware.deadline import StopSignal
    from evalrunner.reports.progress import FetchProgress, ReadProgress

    reading = None if printer.quiet or printer.as_json else ReadProgress(sys.stderr)

    def listen(stop: StopSignal) -> None:
        if reading is not None:
            reading.close()
        _listen_to_ctrl_c(stop, guard)

    async def run_all() -> list[RunResult]:
        _interrupt_at_once()
        trace = _to_stderr if run_options.debug else None
        session = Session(
            run_options, StopSignal(), trace, listen=listen, fetching=FetchProgress(sys.stderr), stored=stored,
            notify=_to_stderr, reading=reading,
        )  # fmt: skip
        return await run_suites(suites, session, reporters)

    guard = Guard()
    # rows leave hardly any cycles behind: looking for them as often as usual is a twentieth of a run's time
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    reporters = printer.reporters()
    # output of user functions and models is not part of the results; what they do to the streams ends with the run
    with contextlib.redirect_stderr(sys.stderr), contextlib.redirect_stdout(sys.stderr):
        try:
            results = asyncio.run(run_all())
        finally:
            guard.stop()
            interrupt_on_signals()  # the loop of the run has removed its own handlers
            if reading is not None:
                reading.close()
            for reporter in reporters:
                if isinstance(reporter, Closable):
                    reporter.close()
    if results and (not_started := suites[len(results) :]):
        print(f"not started: {' '.join(map(shlex.quote, not_started))}", file=sys.stderr)
    return results


def _interrupt_at_once() -> None:
    """Let Ctrl-C end the command while suites are read and checked, which waits for nothing: asyncio would wait for it."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _listen_to_ctrl_c(stop: StopSignal, guard: Guard) -> None:
    def on_interrupt() -> None:
        guard.acknowledge()
        stop.request()
        if stop.count == 1:
            print("\nstopping: waiting for in-flight requests (Ctrl-C again cancels them)", file=sys.stderr)
        elif stop.count > 2:
            exit_now(INTERRUPTED)

    def on_hangup() -> None:
        if stop.count == 0:  # a closed terminal may say so twice
            on_interrupt()

    import asyncio
    import signal

    loop = asyncio.get_running_loop()
    try:
        for sign in (signal.SIGINT, signal.SIGTERM):  # the second is how CI cancels a job
            loop.add_signal_handler(sign, on_interrupt)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
            loop.add_signal_handler(signal.SIGHUP, on_hangup)
    except NotImplementedError:  # Windows has no signal handlers on the loop: Ctrl-C raises KeyboardInterrupt there
        return
    guard.start((signal.SIGINT, signal.SIGTERM))


def _to_stderr(line: str) -> None:
    from evalrunner.formatting import for_log

    print(for_log(line), file=sys.stderr)


class Printer:
    """What a run prints: progress and summary, one line, or JSON."""

    def __init__(self, *, quiet: bool, as_json: bool, verbose: bool = False, diff: int = 0) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.diff = diff
        self.as_json = as_json

    def reporters(self) -> list[Reporter]:
        """The reporters that print: progress, then the summary."""
        from evalrunner.plugins import load

        if self.as_json:
            return []
        terminal = load("reporters", "terminal")(sys.stdout, quiet=self.quiet, verbose=self.verbose, diff=self.diff)
        return [terminal] if self.quiet else [load("reporters", "progress")(sys.stderr), terminal]

    def finish(self, results: list[RunResult]) -> int:
        """Print the JSON and the annotations of all runs; returns the exit code of the command."""
        if self.as_json or "GITHUB_ACTIONS" in os.environ:
            from evalrunner.reports.view import view_of

            views = [view_of(result) for result in results]
            if self.as_json:
                _print_json(views)
            annotate(views, sys.stderr if self.as_json else sys.stdout)
        return exit_code(result.exit_code for result in results)


def _print_json(views: list[RunView]) -> None:
    """Print the metrics of all runs as one JSON document, and the next steps to stderr."""
    from evalrunner.formatting import json_for_log
    from evalrunner.redact import redact

    records = [view.numbers.to_json() for view in views if view.numbers is not None]
    print(redact(json_for_log(records[0] if len(records) == 1 else records)), flush=True)
    _print_next_steps(views)


def _print_next_steps(views: list[RunView]) -> None:
    """Print to stderr which runs did not finish, why, and how to continue them: the JSON on stdout has no field for it."""
    from evalrunner.reports.terminal import next_step_lines, quiet_line

    for view in views:
        if list(next_step_lines(view)):
            print(quiet_line(view), file=sys.stderr)


def annotate(views: list[RunView], out: TextIO) -> None:
    """Annotate gates that did not pass, in GitHub Actions."""
    from evalrunner.reports.github import gate_annotations, workspace_of

    workspace = workspace_of(os.environ)
    if workspace is not None:
        for line in gate_annotations(views, workspace):
            print(line, file=out, flush=True)


@options.takes_options("gate")
def gate(
    run_options: RunOptions,
    run: options.Run = "last",
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME|PATH|RUN", help="Baseline in place of the suite's."),
    ] = None,
    suite: options.SuiteFile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Also write the verdicts as .json.")
    ] = None,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
) -> None:
    """Check the gates of a stored run again, offline.

    Exit codes: 0 all gates pass, 1 a gate failed, 2 usage or suite error, 3 untrusted or not finished, 4 inconclusive.
    """
    from evalrunner.commands.regate import reevaluate_gates
    from evalrunner.errors import SuiteError
    from evalrunner.formatting import json_for_log
    from evalrunner.redact import redact, register_environment
    from evalrunner.reports.gate_report import gate_report_data, gate_report_view, render_gate_report
    from evalrunner.reports.terminal import open_console
    from evalrunner.runs.folder import find_run
    from evalrunner.storage import write_json

    if output is not None and output.suffix != ".json":
        raise SuiteError(f"--output {str(output)!r}: the path should end in .json")
    options.refuse_unprinted(as_json=as_json, verbose=verbose)
    register_environment()
    folder = find_run(run, run_options.output_dir)
    report = reevaluate_gates(
        folder, runs=run_options.output_dir, suite_file=suite, baseline=baseline, options=run_options
    )
    if output is not None:
        write_json(output, gate_report_data(report))
    if as_json:
        typer.echo(redact(json_for_log(gate_report_data(report))))
    else:
        console = open_console(sys.stdout)
        for part in render_gate_report(report, verbose=verbose):
            console.print(part)
    view = gate_report_view(report, suite, run_options.output_dir)
    annotate([view], sys.stderr if as_json else sys.stdout)
    _add_to_step_summary(view)
    raise typer.Exit(report.exit_code)


def _add_to_step_summary(view: RunView) -> None:
    """Add the summary of a stored run to that of the step, in GitHub Actions."""
    from evalrunner.errors import RunError
    from evalrunner.plugins import load
    from evalrunner.reports.outputs import STEP_SUMMARY, send_rows

    try:
        if step := os.environ.get("GITHUB_STEP_SUMMARY"):
            send_rows(view, [load("reporters", STEP_SUMMARY)(Path(step))])
    except (OSError, RunError) as refused:  # the verdict is not affected
        print(f"note: a report could not be written: {refused}", file=sys.stderr)


@options.takes_options("score")
def score(
    run_options: RunOptions,
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
    from evalrunner.suite.untrusted import check_location

    stored = load_answers(run, run_options.output_dir)
    file = suite if suite is not None else stored.suite_file
    if file is None or not file.is_file():
        state = "a baseline does not name its suite" if file is None else f"suite {str(file)!r} not found"
        raise SuiteError(f"{state}; pass it: --suite FILE")
    if suite is None:
        check_location(file, run_options)
    run_options = with_trust_of(stored.options, run_options)
    failed_from = stored.options.get("failed_from")  # part of a suite has no verdict, however it is scored
    gates = run_options.gates and stored.suite_file is not None and failed_from is None
    gates = gates and stored.options.get("shard") is None
    run_options = dataclasses.replace(run_options, gates=gates, failed_from=failed_from)
    printer = Printer(quiet=quiet, as_json=as_json)
    results = run_and_print([str(file)], run_options, printer, stored)
    raise typer.Exit(printer.finish(results))
