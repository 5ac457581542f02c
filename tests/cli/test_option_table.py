"""Options of the command line follow from the fields of `RunOptions`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evalrunner.cli.main import app
from evalrunner.cli.options import takes_options
from evalrunner.suite.options import RunOptions, flag_of, options_of
from tests.fakes.command import evalrun


def parse(*args: str) -> RunOptions:
    """The options that the command `run` gets for arguments of the command line."""
    parsed: list[RunOptions] = []

    @takes_options("run")
    def command(run_options: RunOptions) -> None:
        parsed.append(run_options)

    scratch = typer.Typer()
    scratch.command()(command)
    done = CliRunner().invoke(scratch, args)
    assert done.exit_code == 0, done.output
    return parsed[0]


def test_no_arguments_give_the_defaults() -> None:
    assert parse() == RunOptions()


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (("-t", "a", "--target", "b"), "targets", ("a", "b")),
        (("--where", "n=3", "--where", "topic=[law, tax]"), "where", {"n": 3, "topic": ["law", "tax"]}),
        (("-j", "auto"), "concurrency", "auto"),
        (("-j", "8"), "concurrency", 8),
        (("--cache",), "cache", "all"),
        (("--no-cache",), "cache", "off"),
        (("--no-gates",), "gates", False),
        (("--refresh",), "refresh", True),
        (("--fail-on-error", "5%"), "fail_on_error", "5%"),
        (("--max-cost", "0.5"), "max_cost", 0.5),
        (("--set", "run.seed=1", "--set", "run.epochs=2"), "settings", ("run.seed=1", "run.epochs=2")),
        (("--output-dir", "elsewhere"), "output_dir", Path("elsewhere")),
    ],
)
def test_arguments_become_run_options(args: tuple[str, ...], field: str, value: Any) -> None:
    assert parse(*args) == dataclasses.replace(RunOptions(), **{field: value})


@pytest.mark.parametrize("command", ["run", "plan", "score", "gate", "track", "show", "runs", "report", "compare"])
def test_every_declared_option_is_in_the_help_of_its_commands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(app, [command, "--help"]).stdout
    assert [flag_of(item) for item in options_of(command) if flag_of(item) not in text] == []


@pytest.mark.parametrize("command", ["", *(command.name or "" for command in app.registered_commands)])
def test_help_is_not_truncated_at_80_columns(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(app, [*([command] if command else []), "--help"]).stdout
    assert "..." not in text.replace("[ARGS]...", "") and max(map(len, text.splitlines())) <= 80


def test_help_texts_are_at_most_ten_words() -> None:
    declared = [item.metadata["help"] for item in dataclasses.fields(RunOptions) if "help" in item.metadata]
    assert [text for text in declared if len(text.split()) > 10] == []


def test_the_list_of_commands_is_not_cut_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = evalrun("--help").stdout.splitlines()  # a process: the runner of tests has a wider limit for short texts
    commands = lines[lines.index("Commands:") + 1 :]
    assert len(commands) == len(app.registered_commands) + len(app.registered_groups)
    assert [line for line in commands if line.endswith("...") or len(line) > 80] == []
