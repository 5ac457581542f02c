"""Commands that read stored runs: show and runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options


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
