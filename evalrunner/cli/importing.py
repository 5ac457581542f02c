"""The command `import`: a project of another tool to suites, with a report of the move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalrunner.verdicts import INCONCLUSIVE, PASSED

if TYPE_CHECKING:
    from evalrunner.commands.import_project import ImportResult

MAX_SHOWN = 400  # characters of an entry on the screen
MAX_LINES = 20  # of each outcome on the screen; MIGRATION.md has them all


def import_command(
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="openai-evals, lm-eval, inspect, deepeval …")],
    source: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder of that tool.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write to.")] = Path("evals"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Import suites, data or results of another tool.

    Writes suites, data and MIGRATION.md, which says line by line what was carried, changed or left. Nothing is called.

    Exit codes: 0 if everything was carried, 4 if something needs a hand, 2 if the source cannot be read.
    """
    from evalrunner.commands.import_project import import_project

    result = import_project(tool, source, output, force=force)
    _print(result)
    raise typer.Exit(INCONCLUSIVE if result.migration.needs_a_hand else PASSED)


def _print(result: ImportResult) -> None:
    from evalrunner.commands.import_project import REPORT
    from evalrunner.formatting import one_line
    from evalrunner.imports.migration import TITLES, Outcome, summary

    for outcome, entries in result.migration.by_outcome():
        if outcome is not Outcome.CARRIED:
            typer.echo(f"{TITLES[outcome][0]}:")
            for entry in entries[:MAX_LINES]:
                now = f" → {entry.to}" if entry.to else ""
                why = f": {entry.reason}" if entry.reason else ""
                typer.echo("  " + one_line(f"{entry.place}  {entry.what}{now}{why}", MAX_SHOWN))
            if len(entries) > MAX_LINES:
                typer.echo(f"  … and {len(entries) - MAX_LINES:,} more in {REPORT}")
    typer.echo(f"{summary(result.migration)}; see {result.folder / REPORT}")
    for name in result.suites[:MAX_LINES]:
        typer.echo(f"  evalrun run {result.folder / name}")
