"""The command `evalrun`: dispatches to its commands, prints errors, and exits with the right code."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evalrunner import __version__
from evalrunner.cli import (
    calibrate,
    datasets,
    doctor,
    importing,
    init,
    inspect,
    listing,
    merge,
    options,
    run,
    runs,
    stored,
)  # fmt: skip
from evalrunner.cli.guard import exit_now, interrupt_on_signals, refuse_exit
from evalrunner.cli.streams import flush_streams, protect_streams, report
from evalrunner.errors import EvalrunError, RunError, SuiteError, exhausted
from evalrunner.redact import redact_message
from evalrunner.verdicts import INTERRUPTED, UNTRUSTED

# addresses that may follow --mlflow; the last two are refused later, with a reason
ADDRESS = re.compile(r"[A-Za-z][\w+]*://|databricks$|file:|mlruns/?$")
CALLING = ("run", "score", "gate", "track", "merge")  # commands with a code for a run that could not continue
MIN_ADDRESS_SPACE = 512 * 2**20  # a small run takes 250 MB of it
THREAD_COUNTS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
M_ARENA_MAX = -8  # of malloc.h of the GNU C library
SUITE_ENDINGS = (".yaml", ".yml")
TYPE_NAME = re.compile(r"a valid (int|float)(?:eger)?(?: range)?(?=\.$)")  # as Typer names the type of an option
NUMBERS = {"int": "a whole number", "float": "a number"}
ROOT_OPTIONS = ("-h", "--help", "--version", "--install-completion", "--show-completion")


class DefaultToRun(TyperGroup):
    """`evalrun SUITE…` is `evalrun run SUITE…`, with options before or after; a mistyped command stays an error."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if not args and not ctx.resilient_parsing:
            listing.show_suites()
        if args and self._means_run(args):
            args = ["run", *args]
        args = [with_address(args, place) for place in range(len(args))]
        return super().parse_args(ctx, args)

    def _means_run(self, args: list[str]) -> bool:
        first = args[0]
        if first in self.commands or first in ROOT_OPTIONS:
            return False
        if first.startswith("-") and first != "-":
            return True
        return looks_like_suite(first)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Commands and the suites of this folder."""
        from click.shell_completion import CompletionItem

        suites = [CompletionItem(path) for path in options.complete_suites(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *suites]

    def invoke(self, ctx: Any) -> Any:
        """Run the command. What ends it without a verdict does not have the exit code of one."""
        require_memory()
        try:
            return super().invoke(ctx)
        except typer.BadParameter as wrong:
            wrong.message = TYPE_NAME.sub(lambda match: NUMBERS[match[1]], wrong.message)
            raise
        except RunError as error:
            if ctx.invoked_subcommand in CALLING:
                raise
            raise SuiteError(str(error)) from None
        except OSError as refused:
            if isinstance(refused.filename, str | bytes):
                raise SuiteError(f"{os.fsdecode(refused.filename)!r}: {refused.strerror}") from None
            if not _has_working_folder():
                raise SuiteError("the working folder no longer exists; change to another one") from None
            raise_exhausted(refused)
            raise RuntimeError("the system refused an operation") from refused  # Typer ends with 1 if it was on a pipe
        except KeyboardInterrupt:  # Typer ends with 130 without a word
            report("evalrun: interrupted")
            raise
        except (MemoryError, ImportError, RuntimeError) as crash:
            raise_exhausted(crash)
            raise
        except (SystemExit, EOFError) as ended:
            raise RuntimeError(f"ended by {type(ended).__name__}") from ended


def address_space() -> int | None:
    """The bytes of address space that this process may use, None if nothing limits them."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def save_memory(environ: MutableMapping[str, str]) -> None:
    """Let numerical libraries reserve memory for one thread where memory is limited, not for every core.

    Without memory OpenBLAS ends the process with 1, which means that a gate failed. This program ends by `os._exit`, so
    an ordinary exit is that of a library, and gets another code.
    """
    if address_space() is None:
        return
    for name in THREAD_COUNTS:
        environ.setdefault(name, "1")
    if sys.platform == "linux":
        import ctypes

        library = ctypes.CDLL(None)
        with contextlib.suppress(AttributeError):  # another C library
            library["__cxa_atexit"](library["_exit"], ctypes.c_void_p(UNTRUSTED), None)
            library["mallopt"](M_ARENA_MAX, 2)  # else every thread reserves 64 MB for its own memory


def require_memory() -> None:
    """Refuse to start with so little memory that OpenBLAS hangs.

    Raises SuiteError.
    """
    limit = address_space()
    if limit is not None and limit < MIN_ADDRESS_SPACE:
        raise SuiteError(
            f"the address space is limited to {limit / 2**20:,.0f} MiB; evalrun needs {MIN_ADDRESS_SPACE / 2**20:.0f} MiB "
            "(ulimit -v)"
        )


def raise_exhausted(crash: BaseException) -> None:
    """Raise RunError if the machine has too little of something."""
    if (reason := exhausted(crash)) is not None:
        raise RunError(reason) from None


def _has_working_folder() -> bool:
    try:
        return Path.cwd().is_dir()
    except OSError:
        return False


def looks_like_suite(word: str) -> bool:
    """Whether a word is a suite, or a folder of suites, rather than a mistyped command."""
    return word.endswith(SUITE_ENDINGS) or os.sep in word or os.path.exists(word)  # noqa: PTH110  never raises


def with_address(args: list[str], place: int) -> str:
    """The argument at a place; `--mlflow` without an address gets an empty one, so that it does not consume a suite."""
    following = args[place + 1] if place + 1 < len(args) else ""
    if args[place] == "--mlflow" and not ADDRESS.match(following):
        return "--mlflow="
    return args[place]


app = typer.Typer(
    cls=DefaultToRun,
    name="evalrun",
    rich_markup_mode=None,  # rich markup triples the time that --help takes
    pretty_exceptions_enable=False,
    help="Run evaluation suites for language models. 'evalrun SUITE…' is short for 'evalrun run SUITE…'.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evalrunner {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run evaluation suites for language models. 'evalrun SUITE…' is short for 'evalrun run SUITE…'."""


app.command("run", short_help="Run suites. The exit code reflects the verdict.")(run.run)
app.command("plan")(inspect.plan)
app.command("validate")(inspect.validate)
app.command("schema")(inspect.schema)
app.command("list")(listing.list_parts)
app.add_typer(datasets.datasets, name="datasets")
app.command("init")(init.init)
app.command("import")(importing.import_command)
app.command("doctor")(doctor.doctor)
app.command("show")(stored.show)
runs.runs.callback()(runs.list_stored)
app.add_typer(runs.runs, name="runs")
app.command("report")(stored.report)
app.command("comment")(stored.comment)
app.command("compare")(stored.compare)
app.command("diff")(stored.diff)
app.command("view")(stored.view)
app.add_typer(stored.cache, name="cache")
app.command("track")(stored.track)
app.command("gate")(run.gate)
app.command("score")(run.score)
app.command("merge")(merge.merge)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(stored.baseline, name="baseline")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    protect_streams()
    refuse_exit()
    save_memory(os.environ)
    try:
        interrupt_on_signals()
        code = app(prog_name="evalrun")
    except SystemExit as ended:
        code = ended.code
    except EvalrunError as error:
        print_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        report("evalrun: interrupted")
        code = INTERRUPTED
    except BaseException:  # a bug must not exit with 1, which means that a gate failed
        from evalrunner.formatting import for_log

        report(for_log(redact_message(traceback.format_exc())))
        report("evalrun: this is a bug in evalrun; please report it with the lines above")
        code = UNTRUSTED
    leave(code if isinstance(code, int) else 0)


def print_error(error: EvalrunError) -> None:
    """Print an error, each of several problems on its own line; below it the line of the file that it is in."""
    from evalrunner.cli.excerpt import excerpt
    from evalrunner.formatting import for_log

    if isinstance(error, SuiteError) and len(error.problems) > 1:
        for problem in error.problems:
            report(for_log("\n".join([redact_message(str(problem)), *excerpt(problem.where)])))
        report(f"evalrun: {len(error.problems)} problems; nothing was called")
    else:
        lines = excerpt(error.problems[0].where) if isinstance(error, SuiteError) and error.problems else []
        report(for_log("\n".join([f"evalrun: {redact_message(str(error))}", *lines])))
    if isinstance(error, SuiteError) and os.environ.get("GITHUB_ACTIONS"):
        from evalrunner.reports.github import problem_annotations, workspace_of

        workspace = workspace_of(os.environ)
        if workspace is not None:
            report("\n".join(problem_annotations(error.problems, workspace)))


def leave(code: int) -> None:
    """End the process at once, with everything written.

    Skips the interpreter's shutdown, which would wait for threads that hang in a user function, and which can abort in
    Rust threads after cancelled calls.
    """
    flush_streams()
    exit_now(code)
