"""The commands on stored data: show, report, compare, diff, view and track; baseline; cache."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from evalrunner.cli import options
from evalrunner.errors import SuiteError
from evalrunner.suite.options import RunOptions

if TYPE_CHECKING:
    from evalrunner.commands.compare import RunComparison

baseline = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Accept, show and list baselines.")


class CacheCommands(TyperGroup):
    """The commands of the cache. A mode of caching in their place belongs to a run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in ("all", "judges", "off"):
            flags = {"all": "--cache", "off": "--no-cache"}.get(args[0])
            ctx.fail(
                f"To set the cache of a run, write: evalrun SUITE{f' {flags}' if flags else '; judges is the default'}"
            )
        return super().resolve_command(ctx, args)


cache = typer.Typer(
    cls=CacheCommands,
    no_args_is_help=True,
    help="Show or clear cached answers.",
    rich_markup_mode=None,
)


@options.takes_options("show")
def show(
    run_options: RunOptions,
    run: options.Run = "last",
    failed: Annotated[bool, typer.Option("--failed", help="Only failed and unscored rows, all of them.")] = False,
    verbose: options.Verbose = False,
    browse: options.Open = False,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="PATH", help="Write PATH instead of printing. Repeatable."),
    ] = None,
    max_kib: Annotated[
        int | None,
        typer.Option("--max-kib", min=4, metavar="KIB", help="Maximum size of a .md; GitHub comments allow 60."),
    ] = None,
    junit_rows: options.JunitRows = False,
) -> None:
    """Show a stored run: verdict, metrics, gates and rows.

    Formats of --output: OUTPUT_FORMATS
    """
    from evalrunner.reports.outputs import check_junit_rows, replay, send_rows
    from evalrunner.reports.terminal import TerminalReporter
    from evalrunner.reports.view import stored_view
    from evalrunner.runs.folder import find_run

    folder = find_run(run, run_options.output_dir)
    paths = [Path(path) for path in output or ()]
    if max_kib is not None and not any(path.suffix.lower() == ".md" for path in paths):
        raise SuiteError("--max-kib limits the size of a Markdown file; add -o PATH.md")
    if junit_rows:
        check_junit_rows(paths)
    if paths:
        if verbose:
            raise SuiteError("--verbose changes what is printed, and -o prints nothing; leave one of them out")
        sizes = {} if max_kib is None else {"max_bytes": max_kib * 1024}
        _print_notices(replay(folder, paths, runs=run_options.output_dir, failed_only=failed, rows=junit_rows, **sizes))
    else:
        send_rows(
            stored_view(folder, run_options.output_dir),
            [TerminalReporter(sys.stdout, failed_only=failed, diff=options.DEFAULT_DIFF, verbose=verbose)],
        )
    if browse:
        from evalrunner.cli.run import open_reports

        open_reports([folder.path])


def _print_notices(notices: Sequence[str]) -> None:
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)


@options.takes_options("report")
def report(
    run_options: RunOptions,
    run: options.Run = "last",
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="PATH", help="Write PATH instead. Repeatable."),
    ] = None,
    junit_rows: options.JunitRows = False,
    show: options.Open = False,
) -> None:
    """Write the report or other outputs of a stored run.

    Formats of --output: OUTPUT_FORMATS
    """
    import webbrowser

    from evalrunner.reports.outputs import check_junit_rows, replay
    from evalrunner.runs.folder import REPORT_FILE, find_run

    folder = find_run(run, run_options.output_dir)
    paths = [Path(name) for name in output or ()] or [folder.path / REPORT_FILE]
    if junit_rows:
        check_junit_rows(paths)
    pages = [path for path in paths if path.suffix.lower() == ".html"]
    if show and not pages:
        pages = [folder.path / REPORT_FILE]
    _print_notices(replay(folder, list(dict.fromkeys([*paths, *pages])), runs=run_options.output_dir, rows=junit_rows))
    for path in paths:
        typer.echo(path)
    if show:
        webbrowser.open(pages[0].resolve().as_uri())


@options.takes_options("comment")
def comment(
    run_options: RunOptions,
    runs: options.MaybeRuns = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Write PATH instead of printing.")
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", metavar="URL", help="Where the reports are, such as an artifact.")
    ] = None,
    max_kib: Annotated[
        int, typer.Option("--max-kib", min=4, max=64, metavar="KIB", help="Maximum size of the comment.")
    ] = 60,
) -> None:
    """Write a pull request comment about stored runs.

    Markdown for GitHub and GitLab: verdicts, gates, leaderboard, rows that got worse, cost. Without RUN it is the newest
    run. Nothing is sent.
    """
    from evalrunner.reports.comment import ChangedRows, render_comment
    from evalrunner.reports.outputs import send_rows
    from evalrunner.reports.view import stored_view
    from evalrunner.runs.folder import find_run
    from evalrunner.storage import write_text

    if link is not None and not link.startswith(("https://", "http://")):
        raise SuiteError(f"--link {link!r}: the address should start with https://")
    folders = {
        folder.path.resolve(): folder for folder in (find_run(run, run_options.output_dir) for run in runs or ["last"])
    }
    changed = []
    for folder in folders.values():
        view = stored_view(folder, run_options.output_dir)
        rows = ChangedRows(view)
        send_rows(view, [rows])
        changed.append(rows)
    text = render_comment(changed, max_bytes=max_kib * 1024, link=link)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text(output, text)


@options.takes_options("compare")
def compare(
    run_options: RunOptions,
    runs: options.Runs,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", metavar="NAME", help="Compare only this metric. Repeatable.")
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Compare runs of different datasets (less power).")
    ] = False,
    diff: options.Diff = None,
    verbose: options.Verbose = False,
    as_json: options.Json = False,
    output: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="PATH", help="Also write .html or .json. Repeatable.")
    ] = None,
) -> None:
    """Compare the targets of stored runs.

    Shows which is better, by how much, with what confidence and at what cost. Runs with different datasets, scorers
    or judges are refused; prompts, params and models may differ and are listed.
    """
    from evalrunner.commands.compare import compare_runs

    options.refuse_unprinted(as_json=as_json, verbose=verbose, diff=diff)
    paths = [Path(name) for name in output or ()]
    for path in paths:
        if path.suffix.lower() not in (".html", ".json"):
            raise SuiteError(f"-o {str(path)!r}: the extension should be .html or .json")
    result = compare_runs(runs, run_options.output_dir, wanted=metric or (), paired=not unpaired)
    for path in paths:
        _write_comparison(path, result)
    if as_json:
        import json

        from evalrunner.redact import redact

        typer.echo(redact(json.dumps(result.comparison.to_json(), indent=2)))
    else:
        _print_comparison(result, options.DEFAULT_DIFF if diff is None else diff, verbose=verbose)


def _write_comparison(path: Path, result: RunComparison) -> None:
    """Write a comparison as a page or as JSON, by the extension."""
    from evalrunner.reports.html.page import write_comparison
    from evalrunner.storage import write_json

    if path.suffix.lower() == ".html":
        write_comparison(path, result.runs, result.comparison, result.metrics)
    else:
        write_json(path, result.comparison.to_json())


def _print_comparison(result: RunComparison, samples: int, *, verbose: bool) -> None:
    """Print a comparison, and the samples on which the targets differ most."""
    from evalrunner.reports.comparison import render_comparison, slice_comparison_tables
    from evalrunner.reports.row_lines import DifferingRows
    from evalrunner.reports.terminal import open_console

    console = open_console(sys.stdout)
    for part in render_comparison(result.comparison, verbose=verbose, differences=True):
        console.print(part)
    for part in slice_comparison_tables(result.comparison, verbose=verbose):
        console.print(part)
    if rows := result.differing(samples):
        console.print("")
        console.print(DifferingRows("largest differences between targets", rows, verbose=verbose))


@options.takes_options("diff")
def diff(
    run_options: RunOptions,
    runs: options.Runs,
    targets: Annotated[
        str | None, typer.Option("--targets", metavar="A,B", help="Target of the first run and of the second.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="Maximum rows to show.")] = 20,
    as_json: options.Json = False,
) -> None:
    """Show the rows that changed between two runs.

    Rows whose output or score changed, largest regressions first. With one run, its targets are compared.
    """
    from evalrunner.commands.diff import diff_runs
    from evalrunner.reports.comparison import diff_data, render_diff

    diffs = diff_runs(runs, run_options.output_dir, targets=targets.split(",") if targets else (), keep=limit)
    if as_json:
        import json

        from evalrunner.redact import redact

        data = [diff_data(each) for each in diffs]
        typer.echo(redact(json.dumps(data[0] if len(data) == 1 else data, indent=2)))
        return
    from evalrunner.reports.terminal import open_console

    console = open_console(sys.stdout)
    for each in diffs:
        for part in render_diff(each):
            console.print(part)


@options.takes_options("track")
def track(
    run_options: RunOptions,
    run: options.Run = "last",
) -> None:
    """Send a stored run to MLflow.

    A run that was sent before is updated, not duplicated.

    Exit codes: 0 sent, 2 no address or the extra is missing, 3 sending failed.
    """
    from evalrunner.commands.track import track_run
    from evalrunner.errors import RunError
    from evalrunner.redact import register_environment
    from evalrunner.runs.folder import find_run

    register_environment()
    folder = find_run(run, run_options.output_dir)
    sent = track_run(folder.path, {} if run_options.mlflow is None else {"mlflow": run_options.mlflow})
    for name, result in sent.items():
        if result.problem is None:
            typer.echo(f"{name}: {result}")
    problems = [f"{name}: not sent to {one.destination}: {one.problem}" for name, one in sent.items() if one.problem]
    if problems:
        raise RunError("; ".join(problems) + "; the parts that arrived are recorded, so you can try again")


@options.takes_options("view")
def view(
    run_options: RunOptions,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="Local port; 0 picks a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Allow no notes, tags and deletions.")] = False,
) -> None:
    """Browse stored runs in a web browser.

    Shows the history of each suite, comparisons, reports and notes. The server listens on 127.0.0.1 until Ctrl-C.
    """
    from evalrunner.view.server import make_server

    server = make_server(run_options.output_dir, port, editable=not read_only)
    empty = "" if run_options.output_dir.is_dir() else ", which does not exist yet"
    typer.echo(f"{server.address} shows {str(run_options.output_dir)!r}{empty}; stop it with Ctrl-C")
    if not no_open:
        import webbrowser

        webbrowser.open(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
    finally:
        server.server_close()


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
    accepted = accept_run(folder, name=name, suite_file=suite, force=force, outputs=with_outputs)
    instead = f", in place of {accepted.replaced}" if accepted.replaced not in (None, folder.id) else ""
    typer.echo(f"{accepted.path}: {accepted.rows:,} rows of run {folder.id}{instead}; commit it")


@baseline.command("show")
def show_baseline(path: Annotated[Path, typer.Argument(metavar="FILE", help="The .jsonl file of a baseline.")]) -> None:
    """Show the provenance and metrics of a baseline."""
    from evalrunner.baselines.file import read_baseline
    from evalrunner.reports.plan import render_baseline

    try:
        stored = read_baseline(path, label=str(path))
    except FileNotFoundError:
        raise SuiteError(
            f"{str(path)!r}: file not found; name the file of a baseline, such as "
            "baselines/SUITE/main.jsonl ('evalrun baseline list' lists them)"
        ) from None
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
        typer.echo(f"no baselines in {str(folder)!r} yet; 'evalrun baseline accept' creates one from the last run")


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
    from evalrunner.formatting import counted
    from evalrunner.middleware.cache import CACHE_FILE, clear_cache
    from evalrunner.storage import cache_folder
    from evalrunner.suite.sections import age_s

    older_than_s = None if older_than is None else age_s(older_than)
    if older_than is not None and older_than_s is None:
        raise SuiteError(f"--older-than is {older_than!r}; it should be a time such as 90s, 12h or 7d")
    removed = clear_cache(cache_folder() / CACHE_FILE, older_than_s=older_than_s)
    typer.echo(f"{counted(removed, 'answer')} removed")
