"""The commands about data files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

datasets = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look into data files.")


@datasets.callback()
def group() -> None:
    """Look into data files."""


@datasets.command("peek")
def peek(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Data file, or a glob.")],
) -> None:
    """Show columns, rows and a suite section of a file.

    Prints the columns with their types, three rows, and a `dataset:` section to paste. The encoding, the delimiter, the key of the rows and the columns are guessed from at most 200 rows.
    """
    from evalrunner.reports.terminal import print_indented
    from evalrunner.starter.peek import peek as look
    from evalrunner.starter.peek import peek_lines

    for line in peek_lines(look(path)):
        print_indented(line, sys.stdout)
