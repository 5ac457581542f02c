"""The command `evalrun`: finds the command, says errors in one sentence, ends with the right exit code."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evalrunner import __version__
from evalrunner.cli import groups, inspect, run, stored
from evalrunner.errors import EvalrunError, SuiteError
from evalrunner.redact import redact_message
from evalrunner.verdicts import INTERRUPTED, UNTRUSTED

# what may follow --mlflow; the last two are refused
ADDRESS = re.compile(r"[A-Za-z][\w+]*://|databricks$|file:|mlruns/?$")
SUITE_ENDINGS = (".yaml", ".yml")


class DefaultToRun(TyperGroup):
    """`evalrun SUITE…` is `evalrun run SUITE…`, with options before or after; a mistyped command stays an error."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if args and self._means_run(args):
            args = ["run", *args]
        args = [with_address(args, place) for place in range(len(args))]
        return super().parse_args(ctx, args)

    def _means_run(self, args: list[str]) -> bool:
        first = args[0]
        if first in self.commands or first in ("--help", "--version", "--install-completion", "--show-completion"):
            return False
        if first.startswith("-") and first != "-":
            return True
        return looks_like_suite(first)


def looks_like_suite(word: str) -> bool:
    """Whether a word is a suite rather than a mistyped command."""
    return word.endswith(SUITE_ENDINGS) or os.sep in word or Path(word).is_file()


def with_address(args: list[str], place: int) -> str:
    """The argument at a place; `--mlflow` without an address gets an empty one, so that it takes no suite for it."""
    following = args[place + 1] if place + 1 < len(args) else ""
    if args[place] == "--mlflow" and not ADDRESS.match(following):
        return "--mlflow="
    return args[place]


app = typer.Typer(
    cls=DefaultToRun,
    name="evalrun",
    rich_markup_mode=None,  # rich markup triples the time that --help takes
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    help="Run evaluation suites for language models. 'evalrun SUITE…' is short for 'evalrun run SUITE…'.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evalrunner {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Run evaluation suites for language models. 'evalrun SUITE…' is short for 'evalrun run SUITE…'."""


app.command("run")(run.run)
app.command("plan")(inspect.plan)
app.command("validate")(inspect.validate)
app.command("schema")(inspect.schema)
app.command("list")(inspect.list_parts)
app.command("init")(inspect.init)
app.command("show")(stored.show)
app.command("runs")(stored.runs)
app.command("report")(stored.report)
app.command("compare")(stored.compare)
app.command("diff")(stored.diff)
app.command("view")(stored.view)
app.add_typer(groups.cache, name="cache")
app.command("track")(stored.track)
app.command("gate")(run.gate)
app.command("score")(run.score)
app.add_typer(groups.baseline, name="baseline")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = app(prog_name="evalrun")
    except SystemExit as ended:
        code = ended.code
    except EvalrunError as said:
        tell(said)
        code = said.exit_code
    except KeyboardInterrupt:
        print("evalrun: interrupted", file=sys.stderr)
        code = INTERRUPTED
    except Exception:  # a mistake of ours must not end with 1, which says that a gate failed
        from evalrunner.formatting import for_log

        print(for_log(redact_message(traceback.format_exc())), file=sys.stderr)
        print("evalrun: this is a mistake in evalrun itself; please report it with the lines above", file=sys.stderr)
        code = UNTRUSTED
    leave(code if isinstance(code, int) else 0)


def tell(said: EvalrunError) -> None:
    """Print an error, each of several problems on its own line."""
    from evalrunner.formatting import for_log

    if isinstance(said, SuiteError) and len(said.problems) > 1:
        for problem in said.problems:
            print(for_log(redact_message(str(problem))), file=sys.stderr)
        print(f"evalrun: {len(said.problems)} problems; nothing was called", file=sys.stderr)
    else:
        print(f"evalrun: {for_log(redact_message(str(said)))}", file=sys.stderr)
    if isinstance(said, SuiteError) and os.environ.get("GITHUB_ACTIONS"):
        from evalrunner.reports.github import problem_annotations, workspace_of

        workspace = workspace_of(os.environ)
        if workspace is not None:
            print(*problem_annotations(said.problems, workspace), sep="\n", file=sys.stderr)


def leave(code: int) -> None:
    """End the process at once, with everything written.

    Without the interpreter's own end: that would wait for threads that hang in someone's function, and with calls that
    were cancelled it can abort in Rust's threads.
    """
    for out in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # whoever read it has seen enough
            out.flush()
    os._exit(code)
