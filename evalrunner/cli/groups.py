"""The command groups `evalrun baseline` and `evalrun cache`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalrunner.cli import options

baseline = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Keep the scores of a good run as a file to compare with."
)

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of it, its path, or last.")]
Suite = Annotated[
    Path | None, typer.Option("--suite", metavar="FILE", help="The suite file, where it is not where it was.")
]


@baseline.command("accept")
def accept(
    run: Run = "last",
    name: Annotated[str, typer.Option("--name", help="What gates call it.")] = "main",
    force: Annotated[bool, typer.Option("--force", help="Take a run that did not pass or is not finished.")] = False,
    with_outputs: Annotated[
        bool, typer.Option("--with-outputs", help="Keep inputs and outputs too, so that they can be scored again.")
    ] = False,
    suite: Suite = None,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Write the scores of a run to baselines/SUITE/NAME.jsonl beside the suite file, for git."""
    from evalrunner.baselines.accept import accept_run
    from evalrunner.redact import register_environment
    from evalrunner.runs.folder import find_run

    register_environment()
    folder = find_run(run, output_dir)
    done = accept_run(folder, name=name, suite_file=suite, force=force, outputs=with_outputs)
    instead = f", in place of {done.before}" if done.before not in (None, folder.id) else ""
    typer.echo(f"{done.path}: {done.rows:,} rows of run {folder.id}{instead}; commit it")


@baseline.command("show")
def show(path: Annotated[Path, typer.Argument(metavar="FILE", help="A baseline's .jsonl file.")]) -> None:
    """Show what a baseline is of, and its metrics by target."""
    from evalrunner.baselines.file import read_baseline
    from evalrunner.errors import SuiteError
    from evalrunner.reports.plan import render_baseline

    try:
        stored = read_baseline(path, label=str(path))
    except FileNotFoundError:
        raise SuiteError(f"{str(path)!r}: there is no such file") from None
    for line in render_baseline(stored):
        typer.echo(line)


@baseline.command("list")
def list_baselines(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where suite files are.")] = Path(),
) -> None:
    """List the baselines below a folder."""
    from evalrunner.baselines.file import FOLDER
    from evalrunner.reports.plan import baseline_lines

    found = sorted(folder.rglob(f"{FOLDER}/*/*.jsonl"))
    for line in baseline_lines(found):
        typer.echo(line)
    if not found:
        typer.echo(f"no baselines below {str(folder)!r} yet; 'evalrun baseline accept' makes one of the last run")


cache = typer.Typer(
    no_args_is_help=True,
    help="Show or clear the answers that are kept for later runs.",
    rich_markup_mode=None,
)


@cache.command("info")
def info() -> None:
    """Show where answers are kept, how many, and how old they are."""
    from evalrunner.formatting import age, size
    from evalrunner.middleware.cache import CACHE_FILE, cache_info
    from evalrunner.storage import cache_folder

    found = cache_info(cache_folder() / CACHE_FILE)
    typer.echo(f"path: {found.path}")
    if not found.entries:
        typer.echo("answers: none yet")
        return
    typer.echo(f"answers: {found.entries:,}, {size(found.size)}")
    if found.oldest_s is not None and found.newest_s is not None:
        typer.echo(f"oldest: {age(found.oldest_s)}, newest: {age(found.newest_s)}")


@cache.command("clear")
def clear(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only answers of an age such as 12h or 7d.")
    ] = None,
) -> None:
    """Remove the answers that are kept for later runs. Runs that are under way go on."""
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
