"""Command-line options: those of `RunOptions` made from its fields, and the others that commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import shlex
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evalrunner.errors import SuiteError
from evalrunner.plugin_table import BUILTIN
from evalrunner.suite.options import RunOptions, options_of


def complete_suites(incomplete: str) -> list[str]:
    """The suites of the working folder that begin with a text, and the folders on the way, for the shell."""
    from evalrunner.suite.discovery import find_suites, is_suite

    folder = Path(incomplete).parent if incomplete else Path()
    near = [path for path in sorted(folder.glob("*.y*ml")) if is_suite(path)]
    found = dict.fromkeys(str(path) for path in (*find_suites(Path()), *near))
    return [path for path in found if path.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """The ids of the runs in the default folder that begin with a text, newest first, for the shell."""
    ids = sorted((path.parent.name for path in Path("runs").glob("*/*/run.json")), reverse=True)
    return [run for run in ("last", *ids) if run.startswith(incomplete)]


Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Run id, unique prefix, path, or last.", autocompletion=complete_runs),
]
Runs = Annotated[
    list[str],
    typer.Argument(metavar="RUN…", help="Run ids, unique prefixes, paths, or last.", autocompletion=complete_runs),
]
MaybeRuns = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN…", help="Run ids, unique prefixes, paths, or last.", autocompletion=complete_runs),
]
Suites = Annotated[
    list[str],
    typer.Argument(metavar="SUITE…", help="Suite files (YAML), or folders of them.", autocompletion=complete_suites),
]
MaybeSuites = Annotated[
    list[str] | None,
    typer.Argument(metavar="SUITE…", help="Suite files (YAML), or folders of them.", autocompletion=complete_suites),
]
SuiteFile = Annotated[
    Path | None, typer.Option("--suite", metavar="FILE", help="Suite file. Default: that of the run.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="One line per suite, no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show details: gates, pairs, slices, counts, rows.")]
Open = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Diff = Annotated[
    int | None,
    typer.Option("--diff", min=0, metavar="N", help="Samples to show on which targets differ most. Default: 2."),
]
JunitRows = Annotated[bool, typer.Option("--junit-rows", help="Add the rows to JUnit reports.")]
DEFAULT_DIFF = 2
DATA_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".xlsx", ".parquet")
OUTPUT_FORMATS = " ".join(name for name in BUILTIN["reporters"] if name.startswith("."))
"""The extensions of outputs, in place of this name in the docstring of a command."""


def expand_folders(suites: Iterable[str]) -> list[str]:
    """The suites, with those of each folder in its place. Raises SuiteError for a folder without one, and for a data file."""
    from evalrunner.suite.discovery import find_suites

    paths: list[str] = []
    for suite in suites:
        if suite.lower().endswith(DATA_ENDINGS) and os.path.isfile(suite):  # noqa: PTH113  never raises
            raise SuiteError(
                f"{suite}: is a data file, not a suite; write a suite for it: evalrun init --from {shlex.quote(suite)}"
            )
        if not os.path.isdir(suite):  # noqa: PTH112  never raises
            paths.append(suite)
        elif found := find_suites(Path(suite), named=True):
            paths += map(str, found)
        else:
            raise SuiteError(
                f"folder {suite!r} has no suite: no *.eval.yaml, and none in evals or suites; "
                f"write one: evalrun init{'' if suite == '.' else f' {shlex.quote(suite)}'}"
            )
    return list(dict.fromkeys(paths))


def refuse_unprinted(
    *, quiet: bool = False, as_json: bool = False, verbose: bool = False, diff: int | None = None
) -> None:
    """Raise SuiteError for an option about details if the output has none."""
    short = "--json" if as_json else "--quiet" if quiet else None
    for flag, given in (("--verbose", verbose), ("--diff", diff is not None)):
        if given and short is not None:
            raise SuiteError(f"{flag} shows details, and {short} prints none; leave one of them out")


def takes_options(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the function gets the options that `RunOptions` declares for `command` as its first argument."""
    fields = options_of(command)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [*inspect.signature(function, eval_str=True).parameters.values()][1:]

        def call(**given: Any) -> None:
            run_options = {item.name: value_of(item, given.pop(item.name)) for item in fields}
            function(RunOptions(**run_options), **given)

        declared = [_parameters()[item.name] for item in fields]
        shared = [parameter for parameter in declared if parameter.name == "output_dir"]  # the last of every command
        parameters = [*(each for each in declared if each not in shared), *own, *shared]
        signature = inspect.Signature([each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters])
        call.__dict__["__signature__"] = signature  # Typer reads it
        call.__annotations__ = {}
        call.__doc__ = (function.__doc__ or "").replace("OUTPUT_FORMATS", OUTPUT_FORMATS)
        call.__name__ = function.__name__
        return call

    return decorate


@functools.cache
def _parameters() -> dict[str, inspect.Parameter]:
    """The parameter of each option, made once for all commands."""
    hints = typing.get_type_hints(RunOptions)
    declared = [item for item in dataclasses.fields(RunOptions) if "help" in item.metadata]
    return {item.name: _parameter(item, hints[item.name]) for item in declared}


def _parameter(item: dataclasses.Field[Any], annotation: Any) -> inspect.Parameter:
    """The parameter of a command from which Typer makes the option."""
    about, kind, default = item.metadata, _value_type(annotation), item.default
    if about["values"] is not None:
        kind, default = bool | None, None
    elif isinstance(default, bool):
        kind, default = bool, False  # a flag says the other of the two
    elif kind == list[str] | None:
        default = None
    flags = about["flags"] or (f"--{item.name.replace('_', '-')}",)
    option = typer.Option(
        *flags,
        help=about["help"],
        metavar=about["metavar"],
        min=about["minimum"],
        show_default=isinstance(default, Path),
    )
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _value_type(annotation: Any) -> Any:
    """The type that Typer reads for an annotation: text where there are several, a list for repeated options."""
    choices = [choice for choice in typing.get_args(annotation) if choice is not type(None)]
    if annotation in (bool, Path):
        return annotation
    if type(None) not in typing.get_args(annotation) or typing.get_origin(choices[0]) is Mapping:
        return list[str] | None
    return choices[0] | None if len(choices) == 1 and choices[0] in (int, float, str) else str | None


def value_of(item: dataclasses.Field[Any], given: Any) -> Any:
    """What the option that was `given` means as a field of `RunOptions`."""
    if item.metadata["values"] is not None:
        yes, no = item.metadata["values"]
        return None if given is None else yes if given else no
    if item.name == "where":
        from evalrunner.suite.conditions import parse_conditions

        return parse_conditions(given or ()) or None
    if item.name == "concurrency":
        return concurrency_of(given)
    if isinstance(item.default, bool):
        return item.default != given  # a flag inverts the default
    return tuple(given or ()) if isinstance(item.default, tuple) else given


def concurrency_of(text: str | None) -> Any:
    """The number, `auto`, or None of `--concurrency`."""
    if text is None or text == "auto":
        return text
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither a number from 1 nor auto", param_hint="'--concurrency' / '-j'")
    return int(text)
