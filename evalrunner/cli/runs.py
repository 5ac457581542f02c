"""The command `runs`: list stored runs, delete them, and write notes and tags."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from evalrunner.cli import options
from evalrunner.errors import RunLockedError, SuiteError
from evalrunner.suite.options import RunOptions

if TYPE_CHECKING:
    from evalrunner.runs.folder import RunFolder

runs = typer.Typer(rich_markup_mode=None, invoke_without_command=True, no_args_is_help=False)


@options.takes_options("runs")
def list_stored(
    run_options: RunOptions,
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Maximum runs to list.")] = 20,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only runs with this tag.")] = None,
) -> None:
    """List stored runs, newest first; delete them or write notes."""
    if ctx.invoked_subcommand is not None:
        _refuse_options_before(ctx)
        return
    from evalrunner.reports.run_list import runs_table
    from evalrunner.reports.terminal import open_console
    from evalrunner.runs.folder import list_runs
    from evalrunner.runs.notes import RunNotes

    folders = list_runs(run_options.output_dir)
    if not folders:
        typer.echo(f"no runs in {str(run_options.output_dir)!r} yet; 'evalrun SUITE' starts one")
        return
    if tag is not None:
        folders = [folder for folder in folders if tag in RunNotes.load(folder.path).tags]
        if not folders:
            typer.echo(f"no run has the tag {tag!r}; 'evalrun runs note RUN --tag {tag}' sets it")
            return
    open_console(sys.stdout).print(runs_table(folders[:limit]))
    if len(folders) > limit:
        typer.echo(f"and {len(folders) - limit} older runs (--limit shows more)")


def _refuse_options_before(ctx: typer.Context) -> None:
    """Raise SuiteError for an option before a command, which would not apply to it."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise SuiteError(f"write {parameter.opts[0]} after {ctx.invoked_subcommand!r}: before it, it has no effect")


@runs.command("prune")
@options.takes_options("runs")
def prune(
    run_options: RunOptions,
    suite: Annotated[str | None, typer.Argument(metavar="SUITE", help="Name of a suite. Default: all.")] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", min=0, metavar="N", help="Newest runs to keep of each suite.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only runs older than this, such as 12h or 30d.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs without deleting them.")] = False,
) -> None:
    """Delete old runs. Runs with a tag are kept."""
    from evalrunner.runs.folder import list_runs
    from evalrunner.runs.prune import delete_leftovers, plan_prune
    from evalrunner.suite.sections import age_s

    if keep is None and older_than is None:
        raise SuiteError("say which runs to delete: --keep 20 keeps the newest 20 of each suite, --older-than 30d")
    older_than_s = 0 if older_than is None else age_s(older_than)
    if older_than_s is None:
        raise SuiteError(f"--older-than is {older_than!r}; it should be a time such as 90s, 12h or 30d")
    names = {run.suite for run in list_runs(run_options.output_dir)}
    if suite is not None and suite not in names:
        raise SuiteError(f"no runs of suite {suite!r} in {str(run_options.output_dir)!r} ('evalrun runs' lists them)")
    plan = plan_prune(run_options.output_dir, keep=keep or 0, older_than_s=older_than_s, suite=suite)
    if not dry_run:
        delete_leftovers(run_options.output_dir)
    _delete(plan.delete, dry_run=dry_run)
    if plan.tagged:
        typer.echo(f"{plan.tagged} with a tag kept")


@runs.command("delete")
@options.takes_options("runs")
def delete(
    run_options: RunOptions,
    run: options.Runs,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs without deleting them.")] = False,
) -> None:
    """Delete runs."""
    from evalrunner.runs.folder import find_run

    found = {folder.path.resolve(): folder for folder in (find_run(each, run_options.output_dir) for each in run)}
    _delete(list(found.values()), dry_run=dry_run)


@runs.command("note")
@options.takes_options("runs")
def note(
    run_options: RunOptions,
    run: options.Run,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The note; '' removes it.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Add a tag. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", metavar="TAG", help="Remove a tag. Repeatable.")] = None,
) -> None:
    """Write a note on a run, or show it."""
    from evalrunner.formatting import one_line
    from evalrunner.runs.folder import find_run
    from evalrunner.runs.notes import RunNotes

    folder = find_run(run, run_options.output_dir)
    notes = RunNotes.load(folder.path)
    for missing in set(untag or ()) - set(notes.tags):
        raise SuiteError(f"run {folder.id} has no tag {missing!r}; its tags: {', '.join(notes.tags) or 'none'}")
    changed = notes.with_tags(tag or (), untag or ())
    if text is not None:
        changed = changed.with_note(text)
    if changed != notes:
        changed.write(folder.path)
    typer.echo(f"run {folder.id}")
    typer.echo(f"tags: {', '.join(changed.tags) or 'none'}")
    for line in changed.note.splitlines() or ["no note"]:
        typer.echo(one_line(line, 1000))


def _delete(folders: list[RunFolder] | tuple[RunFolder, ...], *, dry_run: bool) -> None:
    """Delete runs and print what was freed. Runs in progress are kept, with a note."""
    from evalrunner.formatting import counted, size
    from evalrunner.runs.prune import delete_run, folder_bytes

    freed, deleted = 0, 0
    locked: list[str] = []
    for folder in folders:
        try:
            freed += folder_bytes(folder.path) if dry_run else delete_run(folder)
        except RunLockedError as error:
            locked.append(str(error))
            continue
        deleted += 1
        typer.echo(f"{'would delete' if dry_run else 'deleted'} {folder.suite}/{folder.id}")
    typer.echo(f"{counted(deleted, 'run')} {'to delete' if dry_run else 'deleted'}, {size(freed)}")
    for reason in locked:
        typer.echo(f"note: {reason}", err=True)
