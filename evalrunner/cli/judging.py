"""Commands that go on from stored answers: gate judges a run again, score runs other scorers over it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options

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
    from evalrunner.cli.running import annotate
    from evalrunner.errors import RunError, SuiteError
    from evalrunner.judging import judge_run
    from evalrunner.redact import redact, register_environment
    from evalrunner.reports.ci import add_stored_to_step
    from evalrunner.reports.judged import judged_data, judged_view, render_judged
    from evalrunner.reports.terminal import open_console
    from evalrunner.reports.text import json_for_log
    from evalrunner.runs.folder import find_run, write_json

    if output is not None and output.suffix != ".json":
        raise SuiteError(f"--output {str(output)!r}: the path should end in .json")
    register_environment()
    folder = find_run(run, output_dir)
    judged = judge_run(folder, runs=output_dir, suite_file=suite, baseline=baseline, settings=settings or ())
    if output is not None:
        write_json(output, judged_data(judged))
    if as_json:
        typer.echo(redact(json_for_log(judged_data(judged))))
    else:
        console = open_console(sys.stdout)
        for part in render_judged(judged):
            console.print(part)
    view = judged_view(judged, suite)
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
    from evalrunner.cli.running import Printer, run_and_print
    from evalrunner.engine.stored_answers import find_answers
    from evalrunner.errors import SuiteError
    from evalrunner.suite.options import RunOptions

    stored = find_answers(run, output_dir)
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
