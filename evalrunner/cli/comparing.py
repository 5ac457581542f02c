"""Commands that hold stored runs against each other: compare and diff. Nothing is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options
from evalrunner.errors import SuiteError

Runs = Annotated[list[str], typer.Argument(metavar="RUN…", help="Runs: an id, a unique prefix, a path, or last.")]


def compare(
    runs: Runs,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", metavar="NAME", help="Compare only this metric. Repeatable.")
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Compare runs of different datasets, the weaker way.")
    ] = False,
    diff: options.Diff = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON and nothing else.")] = False,
    output: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="PATH", help="Also write .html or .json. Repeatable.")
    ] = None,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Compare the targets of stored runs: which is better, by how much, how sure, and what it costs.

    Runs whose dataset, scorers or judge differ are refused; prompts, params and models may differ and are named.
    """
    from evalrunner.reports.comparison_file import comparison_data
    from evalrunner.reports.html.several import write_comparison
    from evalrunner.runs.folder import write_json
    from evalrunner.side_by_side import compare_runs

    paths = [Path(name) for name in output or ()]
    for path in paths:
        if path.suffix.lower() not in (".html", ".json"):
            raise SuiteError(f"-o {str(path)!r}: the extension should be .html or .json")
    found = compare_runs(runs, output_dir, wanted=metric or (), paired=not unpaired)
    for path in paths:
        if path.suffix.lower() == ".html":
            write_comparison(path, found.runs, found.comparison, found.metrics)
        else:
            write_json(path, comparison_data(found.comparison))
    if as_json:
        import json

        from evalrunner.redact import redact

        typer.echo(redact(json.dumps(comparison_data(found.comparison), indent=2)))
        return
    from evalrunner.reports.compared import render_comparison, slice_comparison_tables
    from evalrunner.reports.terminal import open_console

    console = open_console(sys.stdout)
    for part in render_comparison(found.comparison, found.differing(diff)):
        console.print(part)
    for table in slice_comparison_tables(found.comparison):
        console.print(table)


def diff(
    runs: Runs,
    targets: Annotated[
        str | None, typer.Option("--targets", metavar="A,B", help="Target of the first run, target of the second.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show at most so many rows.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the changes as JSON and nothing else.")] = False,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Show the rows that changed from one run to another in output or score, those that got worst first.

    With one run, from one of its targets to another.
    """
    from evalrunner.row_changes import diff_runs

    found = diff_runs(runs, output_dir, targets=targets.split(",") if targets else (), keep=limit)
    from evalrunner.reports.changed import changes_data, render_changes

    if as_json:
        import json

        from evalrunner.redact import redact

        data = [changes_data(each) for each in found]
        typer.echo(redact(json.dumps(data[0] if len(data) == 1 else data, indent=2)))
        return
    from evalrunner.reports.terminal import open_console

    console = open_console(sys.stdout)
    for each in found:
        for part in render_changes(each):
            console.print(part)
