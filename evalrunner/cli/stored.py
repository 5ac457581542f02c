"""The commands that read stored runs: show, runs, report, compare, diff, view and track."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options
from evalrunner.cli.options import OutputDir
from evalrunner.errors import SuiteError


def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, its path, or last.")
    ] = "last",
    failed: Annotated[bool, typer.Option("--failed", help="Only rows that need a look, all of them.")] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Write .md .xml .html .svg .png .csv .json or .jsonl instead. Repeatable.",
        ),
    ] = None,
    max_kib: Annotated[
        int, typer.Option("--max-kib", min=4, help="How large a .md may be; a comment on GitHub takes 60.")
    ] = 512,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Show a stored run: verdict, metrics, gates and rows."""
    from evalrunner.reports.stored import render_run
    from evalrunner.reports.terminal import open_console
    from evalrunner.runs.folder import find_run

    if output:
        from evalrunner.reports.outputs import write_stored

        for path in output:
            write_stored(find_run(run, output_dir), Path(path), runs=output_dir, max_bytes=max_kib * 1024)
        return
    console = open_console(sys.stdout)
    for part in render_run(find_run(run, output_dir), failed_only=failed):
        console.print(part)


def runs(
    output_dir: options.OutputDir = Path("runs"),
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at the most.")] = 20,
) -> None:
    """List stored runs, newest first."""
    from evalrunner.reports.stored import runs_table
    from evalrunner.reports.terminal import open_console
    from evalrunner.runs.folder import list_runs

    found = list_runs(output_dir)
    if not found:
        typer.echo(f"no runs in {str(output_dir)!r} yet; 'evalrun SUITE' makes one")
        return
    open_console(sys.stdout).print(runs_table(found[:limit]))
    if len(found) > limit:
        typer.echo(f"and {len(found) - limit} older ones (--limit shows more)")


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, its path, or last.")
    ] = "last",
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="PATH", help="Write .html .svg or .png there instead. Repeatable."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    output_dir: OutputDir = Path("runs"),
) -> None:
    """Write a stored run's report.html or interval plot again, from its folder."""
    import webbrowser

    from evalrunner.reports.html.write import check_png_support, rewrite_report
    from evalrunner.runs.folder import REPORT_FILE, find_run

    folder = find_run(run, output_dir)
    paths = [Path(name) for name in output or ()] or [folder.path / REPORT_FILE]
    for path in paths:
        check_png_support(path)
    for path in paths:
        rewrite_report(folder, path, runs=output_dir)
        typer.echo(path)
    if show:
        pages = [path for path in paths if path.suffix.lower() == ".html"] or [
            rewrite_report(folder, folder.path / REPORT_FILE, runs=output_dir)
        ]
        webbrowser.open(pages[0].resolve().as_uri())


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
    from evalrunner.commands.compare import compare_runs
    from evalrunner.reports.html.comparison_page import write_comparison
    from evalrunner.reports.json import comparison_data
    from evalrunner.storage import write_json

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
    from evalrunner.reports.comparison import render_comparison, slice_comparison_tables
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
    from evalrunner.commands.diff import diff_runs

    found = diff_runs(runs, output_dir, targets=targets.split(",") if targets else (), keep=limit)
    from evalrunner.reports.comparison import diff_data, render_diff

    if as_json:
        import json

        from evalrunner.redact import redact

        data = [diff_data(each) for each in found]
        typer.echo(redact(json.dumps(data[0] if len(data) == 1 else data, indent=2)))
        return
    from evalrunner.reports.terminal import open_console

    console = open_console(sys.stdout)
    for each in found:
        for part in render_diff(each):
            console.print(part)


def track(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, its path, or last.")
    ] = "last",
    mlflow: options.Mlflow = None,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Send a stored run to MLflow. What is there already is found again, not doubled.

    Exit codes: 0 it is there, 2 nobody says where to or the extra is missing, 3 it could not be sent.
    """
    from evalrunner.commands.track import track_run
    from evalrunner.errors import RunError
    from evalrunner.redact import register_environment
    from evalrunner.runs.folder import find_run

    register_environment()
    folder = find_run(run, output_dir)
    sent = track_run(folder.path, {} if mlflow is None else {"mlflow": mlflow})
    for name, result in sent.items():
        if result.problem is None:
            typer.echo(f"{name}: {result}")
    problems = [f"{name}: not sent to {one.destination}: {one.problem}" for name, one in sent.items() if one.problem]
    if problems:
        raise RunError("; ".join(problems) + "; what arrived is recorded, so try again")


def view(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Show the runs folder in a browser: history of each suite, runs side by side, reports. Reads only.

    The server listens on 127.0.0.1 and ends with Ctrl-C.
    """
    from evalrunner.view.server import ADDRESS, make_server

    server = make_server(output_dir, port)
    address = f"http://{ADDRESS}:{server.server_port}/"
    typer.echo(f"{address} shows {str(output_dir)!r}; Ctrl-C ends it")
    if not no_open:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("ended", err=True)
    finally:
        server.server_close()
