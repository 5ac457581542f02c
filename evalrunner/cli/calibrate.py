"""The command `calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options
from evalrunner.suite.options import RunOptions


@options.takes_options("calibrate")
def calibrate(
    run_options: RunOptions,
    run: options.Run = "last",
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="Labels (CSV) in place of the suite's.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare the judges of a stored run with people's labels.

    Nothing is called. A suite file stands for its last run.
    """
    import json

    from evalrunner.commands.calibrate import calibrate as compare_with_labels
    from evalrunner.reports.calibration import calibration_lines
    from evalrunner.reports.terminal import open_console
    from evalrunner.runs.folder import find_run, list_runs
    from evalrunner.runs.record import to_json

    name = run
    if Path(run).suffix in (".yaml", ".yml") and Path(run).is_file():
        from evalrunner.suite.loader import open_suite

        data = open_suite(Path(run), run_options).data
        suite = str(data.get("name") or Path(run).stem) if isinstance(data, dict) else Path(run).stem
        name = next((folder.id for folder in list_runs(run_options.output_dir) if folder.suite == suite), run)
    result = compare_with_labels(find_run(name, run_options.output_dir), labels)
    if as_json:
        typer.echo(json.dumps(to_json(result), indent=2))
        return
    console = open_console(sys.stdout)
    for line in calibration_lines(result):
        console.print(line)
