"""`evalrun run`: options to `RunOptions`, Ctrl-C to a wish to stop, results to the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evalrun.calls.stopping import StopSignal
    from evalrun.domain import Reporter, Row
    from evalrun.engine.plan import Plan
    from evalrun.engine.result import RunResult
    from evalrun.reports.worst import WorstRows
    from evalrun.suite.options import RunOptions

Suites = Annotated[list[str], typer.Argument(metavar="SUITE…", help="Suite files (YAML).")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", "-t", metavar="NAME|MODEL", help="Only this target of the suite, or this model instead. Repeatable."
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="OpenAI-compatible address of the targets.")
]
JudgeModel = Annotated[str | None, typer.Option("--judge", metavar="MODEL", help="The judge's model.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many samples.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Keep such samples. Repeatable; [a, b] is any of both."),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="How often each sample is asked.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", "-j", min=1, help="Rows under way at once.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of all that is drawn at random.")]
OutputDir = Annotated[Path, typer.Option("--output-dir", help="Where run folders are made.")]
Outputs = Annotated[
    list[str] | None,
    typer.Option("--output", "-o", metavar="PATH", help="Also write .csv .parquet .xlsx .jsonl or .json. Repeatable."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Set any key of the suite, typed as YAML. Repeatable."),
]


def run(
    suites: Suites,
    target: Targets = None,
    base_url: BaseUrl = None,
    judge: JudgeModel = None,
    limit: Limit = None,
    where: Where = None,
    epochs: Epochs = None,
    concurrency: Concurrency = None,
    seed: Seed = None,
    output_dir: OutputDir = Path("runs"),
    output: Outputs = None,
    settings: Settings = None,
    no_gates: Annotated[bool, typer.Option("--no-gates", help="Measure only; no verdict.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="One line a suite, no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics as JSON and nothing else.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print requests and answers to stderr, keys redacted.")
    ] = False,
) -> None:
    """Run suites, one after the other, and end with the code of their verdict.

    Exit codes: 0 all gates pass, 1 a gate failed, 2 usage or suite error (nothing was called),
    3 untrusted or stopped early, 130 interrupted.
    """
    from evalrun.suite.options import RunOptions

    options = RunOptions(
        targets=tuple(target or ()),
        base_url=base_url,
        judge=judge,
        limit=limit,
        where=conditions(where),
        epochs=epochs,
        concurrency=concurrency,
        seed=seed,
        settings=tuple(settings or ()),
        output_dir=output_dir,
        outputs=tuple(output or ()),
        gates=not no_gates,
        debug=debug,
    )
    printer = Printer(quiet=quiet, as_json=as_json)
    results = run_and_print(suites, options, printer)
    raise typer.Exit(printer.finish(results))


def conditions(where: list[str] | None) -> dict[str, Any]:
    """The conditions of `--where`, column to value."""
    from evalrun.suite.overrides import parse_condition

    return dict(parse_condition(text) for text in where or ())


def run_and_print(suites: list[str], options: RunOptions, printer: Printer) -> list[RunResult]:
    """Run suites with progress on stderr and each summary on stdout as it is known."""
    import asyncio

    from evalrun.api import Session, run_suites
    from evalrun.calls.stopping import StopSignal
    from evalrun.reports.progress import FetchProgress

    async def run_all() -> list[RunResult]:
        trace = _to_stderr if options.debug else None
        fetching = FetchProgress(sys.stderr)
        session = Session(options, StopSignal(), trace, listen=_listen_to_ctrl_c, fetching=fetching)
        return await run_suites(suites, session, printer.reporters())

    return asyncio.run(run_all())


def _listen_to_ctrl_c(stop: StopSignal) -> None:
    def asked() -> None:
        stop.request()
        if stop.times == 1:
            print("\nstopping: calls in flight may finish (Ctrl-C again drops them)", file=sys.stderr)
        elif stop.times > 2:
            os._exit(130)

    import asyncio
    import signal

    try:
        for sign in (signal.SIGINT, signal.SIGTERM):  # the second is how CI cancels a job
            asyncio.get_running_loop().add_signal_handler(sign, asked)
    except NotImplementedError:  # Windows has no signal handlers on the loop: Ctrl-C raises KeyboardInterrupt there
        return


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@contextlib.contextmanager
def unless_closed() -> Iterator[None]:
    """Print what is inside, unless whoever reads it has gone: that is no reason to change the exit code."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Printer:
    """What a run prints: progress and summary, one line, or JSON."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self.quiet = quiet
        self.as_json = as_json

    def reporters(self) -> list[Reporter]:
        """Who listens to the run: progress, then the summary."""
        from evalrun.reports.progress import BarProgress, PlainProgress

        if self.as_json:
            return []
        if self.quiet:
            return [Summary(quiet=True)]
        progress = BarProgress(sys.stderr) if sys.stderr.isatty() else PlainProgress(sys.stderr)
        return [progress, Summary(quiet=False)]

    def finish(self, results: list[RunResult]) -> int:
        """Print what is printed at the end of all; returns the exit code of the command."""
        from evalrun.gates.verdicts import exit_code

        if self.as_json:
            import json

            from evalrun.redact import redact
            from evalrun.reports.metrics_file import metrics_data

            found = [metrics_data(result) for result in results]
            with unless_closed():
                print(redact(json.dumps(found[0] if len(found) == 1 else found, indent=2)), flush=True)
        return exit_code(result.exit_code for result in results)


def import_drawing() -> None:
    """Import what summaries are drawn with."""
    from rich import box, console, table, text  # noqa: F401


class Summary:
    """Prints a run's summary at its end, with the rows that did worst."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.worst: WorstRows | None = None

    def on_start(self, plan: Plan, folder: Any, /) -> None:
        from evalrun.reports.worst import WorstRows

        # What the summary is drawn with takes a while to import: done while the first answers are waited for.
        threading.Thread(target=import_drawing, name="import-drawing", daemon=True).start()
        self.worst = WorstRows(plan.measures)

    def on_row(self, row: Row, /) -> None:
        assert self.worst is not None  # a run starts before its first row
        self.worst.add(row)

    def on_end(self, result: RunResult, /) -> None:
        assert self.worst is not None  # a run starts before it ends
        from evalrun.reports.terminal import headline, open_console, render_result

        console = open_console(sys.stdout)
        with unless_closed():
            if self.quiet:
                line = headline(result)
                line.append(f" · {result.folder}")
                console.print(line, soft_wrap=True)
                return
            for part in render_result(result, {name: self.worst.of(name) for name in result.targets}):
                console.print(part)
