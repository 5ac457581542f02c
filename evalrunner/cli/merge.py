"""The command `merge`."""

from __future__ import annotations

import typer

from evalrunner.cli import options
from evalrunner.suite.options import RunOptions


@options.takes_options("merge")
def merge(
    run_options: RunOptions,
    runs: options.Runs,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
) -> None:
    """Merge shards or other parts of a suite into one run.

    Nothing is called. Metrics and verdict are those of one run over all samples. Overlaps, gaps and runs of
    different suites are refused.

    Exit codes: as of a run.
    """
    import asyncio
    import sys

    from evalrunner.cli.run import Printer
    from evalrunner.commands.merge import merge_runs
    from evalrunner.commands.run import Session
    from evalrunner.middleware.deadline import StopSignal

    options.refuse_unprinted(quiet=quiet, as_json=as_json, verbose=verbose)
    printer = Printer(quiet=quiet, verbose=verbose, as_json=as_json, diff=options.DEFAULT_DIFF)
    session = Session(run_options, StopSignal(), notify=lambda line: print(line, file=sys.stderr))
    result = asyncio.run(merge_runs(runs, session, printer.reporters()[-1:]))
    raise typer.Exit(printer.finish([result]))
