"""The command groups `evalrun baseline` and `evalrun cache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options
from evalrunner.suite.options import RunOptions

baseline = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Accept, show and list baselines.")


@baseline.command("accept")
@options.takes_options("baseline accept")
def accept(
    run_options: RunOptions,
    run: options.Run = "last",
    name: Annotated[str, typer.Option("--name", help="Name of the baseline in gates.")] = "main",
    force: Annotated[bool, typer.Option("--force", help="Accept a run that failed or did not finish.")] = False,
    with_outputs: Annotated[
        bool, typer.Option("--with-outputs", help="Store inputs and outputs, for scoring them again.")
    ] = False,
    suite: options.SuiteFile = None,
) -> None:
    """Accept a run as a baseline.

    Writes its scores to baselines/SUITE/NAME.jsonl next to the suite file, to be committed to git.
    """
    from evalrunner.baselines.accept import accept_run
    from evalrunner.redact import register_environment
    from evalrunner.runs.folder import find_run

    register_environment()
    folder = find_run(run, run_options.output_dir)
    done = accept_run(folder, name=name, suite_file=suite, force=force, outputs=with_outputs)
    instead = f", in place of {done.replaced}" if done.replaced not in (None, folder.id) else ""
    typer.echo(f"{done.path}: {done.rows:,} rows of run {folder.id}{instead}; commit it")


@baseline.command("show")
def show(path: Annotated[Path, typer.Argument(metavar="FILE", help="The .jsonl file of a baseline.")]) -> None:
    """Show the provenance and metrics of a baseline."""
    from evalrunner.baselines.file import read_baseline
    from evalrunner.errors import SuiteError
    from evalrunner.reports.plan import render_baseline

    try:
        stored = read_baseline(path, label=str(path))
    except FileNotFoundError:
        raise SuiteError(f"{str(path)!r}: file not found") from None
    for line in render_baseline(stored):
        typer.echo(line)


@baseline.command("list")
def list_baselines(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the suite files.")] = Path(),
) -> None:
    """List the baselines in a folder and its subfolders."""
    from evalrunner.baselines.file import FOLDER
    from evalrunner.reports.plan import baseline_lines

    files = sorted(folder.rglob(f"{FOLDER}/*/*.jsonl"))
    for line in baseline_lines(files):
        typer.echo(line)
    if not files:
        typer.echo(f"no baselines in {str(folder)!r} yet; 'evalrun baseline accept' makes one from the last run")


cache = typer.Typer(
    no_args_is_help=True,
    help="Show or clear cached answers.",
    rich_markup_mode=None,
)


@cache.command("info")
def info() -> None:
    """Show the location, number, size and age of cached answers."""
    from evalrunner.formatting import age, size
    from evalrunner.middleware.cache import CACHE_FILE, cache_info
    from evalrunner.storage import cache_folder

    cached = cache_info(cache_folder() / CACHE_FILE)
    typer.echo(f"path: {cached.path}")
    if not cached.entries:
        typer.echo("answers: none yet")
        return
    typer.echo(f"answers: {cached.entries:,}, {size(cached.size)}")
    if cached.oldest_s is not None and cached.newest_s is not None:
        typer.echo(f"oldest: {age(cached.oldest_s)}, newest: {age(cached.newest_s)}")


@cache.command("clear")
def clear(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only answers older than this, such as 12h or 7d.")
    ] = None,
) -> None:
    """Remove cached answers. Runs in progress continue."""
    from evalrunner.errors import SuiteError
    from evalrunner.formatting import counted
    from evalrunner.middleware.cache import CACHE_FILE, clear_cache
    from evalrunner.storage import cache_folder
    from evalrunner.suite.sections import age_s

    older_than_s = None if older_than is None else age_s(older_than)
    if older_than is not None and older_than_s is None:
        raise SuiteError(f"--older-than is {older_than!r}; it should be a time such as 90s, 12h or 7d")
    removed = clear_cache(cache_folder() / CACHE_FILE, older_than_s=older_than_s)
    typer.echo(f"{counted(removed, 'answer')} removed")
