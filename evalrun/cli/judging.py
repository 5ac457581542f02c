"""Commands that go on from stored answers: gate judges a run again, score runs other scorers over it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrun.cli import options

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
    import json

    from evalrun.errors import SuiteError
    from evalrun.judging import judge_run
    from evalrun.redact import redact, register_environment
    from evalrun.reports.judged import judged_data, render_judged
    from evalrun.reports.terminal import open_console
    from evalrun.runs.folder import find_run, write_json

    if output is not None and output.suffix != ".json":
        raise SuiteError(f"--output {str(output)!r}: the path should end in .json")
    register_environment()
    folder = find_run(run, output_dir)
    judged = judge_run(folder, runs=output_dir, suite_file=suite, baseline=baseline, settings=settings or ())
    if output is not None:
        write_json(output, judged_data(judged))
    if as_json:
        typer.echo(redact(json.dumps(judged_data(judged), indent=2)))
    else:
        console = open_console(sys.stdout)
        for part in render_judged(judged):
            console.print(part)
    raise typer.Exit(judged.exit_code)
