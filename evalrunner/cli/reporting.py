"""`evalrun report`: the page of a stored run, made again from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli.options import OutputDir


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

    from evalrunner.reports.html.rebuild import check_picture, write_again
    from evalrunner.runs.folder import REPORT_FILE, find_run

    folder = find_run(run, output_dir)
    paths = [Path(name) for name in output or ()] or [folder.path / REPORT_FILE]
    for path in paths:
        check_picture(path)
    for path in paths:
        write_again(folder, path, runs=output_dir)
        typer.echo(path)
    if show:
        pages = [path for path in paths if path.suffix.lower() == ".html"] or [
            write_again(folder, folder.path / REPORT_FILE, runs=output_dir)
        ]
        webbrowser.open(pages[0].resolve().as_uri())
