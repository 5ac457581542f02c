"""The command `evalrun cache`: what is kept of answers for later runs, and clearing it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Show or clear the answers that are kept for later runs.",
    rich_markup_mode=None,
)


@app.command("info")
def info() -> None:
    """Show where answers are kept, how many, and how old they are."""
    from evalrunner.cache_folder import cache_folder
    from evalrunner.middleware.cache_admin import cache_info
    from evalrunner.middleware.response_cache import NAME
    from evalrunner.reports.text import age, size

    found = cache_info(cache_folder() / NAME)
    typer.echo(f"path: {found.path}")
    if not found.entries:
        typer.echo("answers: none yet")
        return
    typer.echo(f"answers: {found.entries:,}, {size(found.size)}")
    if found.oldest_s is not None and found.newest_s is not None:
        typer.echo(f"oldest: {age(found.oldest_s)}, newest: {age(found.newest_s)}")


@app.command("clear")
def clear(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only answers of an age such as 12h or 7d.")
    ] = None,
) -> None:
    """Remove the answers that are kept for later runs. Runs that are under way go on."""
    from evalrunner.cache_folder import cache_folder
    from evalrunner.errors import SuiteError
    from evalrunner.middleware.cache_admin import clear as clear_store
    from evalrunner.middleware.response_cache import NAME
    from evalrunner.reports.text import counted
    from evalrunner.suite.running import age_s

    older_than_s = None if older_than is None else age_s(older_than)
    if older_than is not None and older_than_s is None:
        raise SuiteError(f"--older-than is {older_than!r}; it should be a time such as 90s, 12h or 7d")
    removed = clear_store(cache_folder() / NAME, older_than_s=older_than_s)
    typer.echo(f"{counted(removed, 'answer')} removed")
