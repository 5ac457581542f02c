"""`evalrun list`: scorers, targets and datasets with their options, and suites."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from evalrunner.errors import SuiteError, nearest
from evalrunner.example_models import HOSTED, LOCAL

if TYPE_CHECKING:
    from evalrunner.domain import Declaration, Scorer
    from evalrunner.plugin_table import Group
    from evalrunner.plugins import Factory

NOT_BY_TYPE: Final = {
    "targets": [f"a model string such as {HOSTED} or {LOCAL}, or {{model, base_url, …}}"],
    "datasets": ["a path (its extension selects the reader), rows: […] inline, or - for standard input"],
    "scorers": [],
}
WIDTH: Final = 80
NAME_WIDTH: Final = 20
PRESET_GROUP: Final = "presets, each several scorers"


def list_parts(
    group: Annotated[
        Literal["scorers", "targets", "datasets", "suites"],
        typer.Argument(metavar="KIND", help="scorers, targets, datasets or suites."),
    ],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one with its options.")] = None,
) -> None:
    """List scorers by group, targets, datasets or suites.

    With NAME, shows the options of one with their types and defaults; of a scorer also its range, when a check by it
    passes, what it needs, and an example. The suites of the working folder are *.eval.yaml in it and below, and all
    suites in its folders evals and suites.
    """
    if group == "suites":
        if name is not None:
            raise SuiteError("list suites takes no name; run the suite itself, or check it: evalrun validate SUITE")
        lines = suite_lines()
    elif name is not None:
        lines = _detail_lines(group, name)
    elif group == "scorers":
        lines = _scorer_lines()
    else:
        lines = _plugin_lines(group)
    if sys.stdout.isatty():
        from evalrunner.reports.terminal import print_indented

        for line in lines:
            print_indented(line, sys.stdout)
        return
    for line in lines:
        typer.echo(line)


def show_suites() -> None:
    """Show the suites of the working folder and how to run them, and end with 2: code 0 means that all gates passed."""
    for line in (*suite_lines(), "all commands: evalrun --help"):
        typer.echo(line)
    raise typer.Exit(2)


def suite_lines() -> Iterator[str]:
    """A command for each suite of the working folder, or how to write the first one."""
    import shlex

    from evalrunner.suite.discovery import find_suites

    found = find_suites(Path())
    for path in found:
        yield f"evalrun {shlex.quote(str(path))}"
    if not found:
        yield "no suite here: no *.eval.yaml, and none in evals or suites; write one: evalrun init"
    elif len(found) > 1:
        yield f"all {len(found)}: evalrun ."


def _scorer_lines() -> Iterator[str]:
    """The scorers by group, a line each."""
    from evalrunner.plugin_table import CATALOGUE, OTHER, group_of
    from evalrunner.plugins import known_names, resolve
    from evalrunner.suite.presets import PRESETS, name_of
    from evalrunner.suite.scorer_schema import first_line

    names = known_names("scorers")
    for group in (*CATALOGUE, OTHER):
        order = list(CATALOGUE.get(group, ()))
        members = [name for name in names if group_of(name) == group]
        if members:
            yield group
        for name in sorted(members, key=lambda each: (order.index(each) if each in order else 0, each)):
            summary = first_line(resolve("scorers", name, folder=Path()))
            yield _fitting(f"  {name:<{NAME_WIDTH}}  ", summary)
    yield PRESET_GROUP
    for name, scorers in PRESETS.items():
        first, second, *_ = map(name_of, scorers)
        yield f"  {name:<{NAME_WIDTH}}  {len(scorers)} scorers, such as {first} and {second}"
    yield "options, pass rule and an example of one: evalrun list scorers NAME"


def _plugin_lines(group: Group) -> Iterator[str]:
    """Each plug-in of a group with its summary and its options."""
    from evalrunner.plugins import known_names

    yield from NOT_BY_TYPE[group]
    for name in sorted(known_names(group)):
        yield from _lines_of(group, name)


def _detail_lines(group: Group, name: str) -> Iterator[str]:
    """One plug-in with its summary and its options, or a preset. Raises SuiteError for an unknown name."""
    from evalrunner.plugins import known_names
    from evalrunner.suite.presets import PRESETS, name_of

    if group == "scorers" and name in PRESETS:
        yield f"{name}: the scorers {', '.join(map(name_of, PRESETS[name]))}"
        yield f"    example: scorers: [{{preset: {name}}}]"
        return
    names = known_names(group)
    wanted = name.removeprefix("not_") if group == "scorers" and name not in names else name
    if wanted not in names:
        raise SuiteError(
            f"unknown {group.removesuffix('s')} {name!r}{nearest(wanted, names)}; all: evalrun list {group}"
        )
    yield from _lines_of(group, wanted)
    if group == "scorers":
        yield from (f"    {label}: {text}" for label, text in _scorer_facts(wanted).items())


def _lines_of(group: Group, name: str) -> Iterator[str]:
    from evalrunner.plugins import factory_options, known_names, main_option_of, resolve
    from evalrunner.suite.scorer_schema import first_line, option_docs
    from evalrunner.suite.validate import describe_type

    home, factory = known_names(group)[name], resolve(group, name, folder=Path())
    yield f"{name}: {first_line(factory)}"
    if not home.startswith("evalrunner."):
        yield f"    from {home}"
    docs, main = option_docs(factory), main_option_of(factory)
    for option in factory_options(factory).values():
        default = "required" if option.default is inspect.Parameter.empty else f"default {option.default!r}"
        short = ", main option" if option.name == main else ""
        about = f": {docs[option.name]}" if option.name in docs else ""
        yield f"    {option.name} ({describe_type(option.annotation)}, {default}{short}){about}"


def _scorer_facts(name: str) -> Mapping[str, str]:
    """What a check or metric by a scorer means and needs, and an example; without a range where the example needs more."""
    from evalrunner.plugin_table import example_of
    from evalrunner.plugins import main_option_of, resolve

    factory, example = resolve("scorers", name, folder=Path()), example_of(name)
    facts: dict[str, str] = {}
    if scorer := _built(factory, name, example):
        declaration = scorer.declaration
        facts |= {"range": _range(declaration), "a check passes": _passes(declaration)}
        if needs := _needs(scorer):
            facts["needs"] = ", ".join(needs)
    if main := main_option_of(factory):
        facts["short form"] = f"{{{name}: {main.upper()}}}; the opposite: {{not_{name}: {main.upper()}}}"
    if example is not None:
        facts["example"] = f"scorers: [{example}]"
    return facts


def _built(factory: Factory, name: str, example: str | None) -> Scorer | None:
    """The scorer of an example; None where the factory needs what this machine does not have, such as an extra."""
    from evalrunner.domain import Scorer
    from evalrunner.plugins import PluginContext, call_factory

    context = PluginContext(folder=Path(), runs=Path("runs"), args={})
    try:
        scorer = call_factory(factory, _options(factory, name, example), context)
    except Exception:  # a factory of another package may raise anything; its options are listed
        return None
    return scorer if isinstance(scorer, Scorer) else None


def _options(factory: Factory, name: str, example: str | None) -> dict[str, Any]:
    """The options of an example: those beside the keys of every scorer."""
    import yaml

    from evalrunner.plugin_table import OPTION_OF_NAME
    from evalrunner.plugins import RESERVED_OPTIONS, factory_options, main_option_of

    entry = yaml.safe_load(example) if example else name
    if not isinstance(entry, dict):
        return {}
    value, main = entry.pop(name, None), main_option_of(factory)
    if isinstance(value, dict):
        entry |= value
    elif value is not None and main is not None:
        entry[main] = value
    if (option := OPTION_OF_NAME.get(name)) is not None and "name" in entry:
        entry[option] = entry.pop("name")
    known = factory_options(factory)
    return {key: value for key, value in entry.items() if key in known and key not in RESERVED_OPTIONS}


def _range(declaration: Declaration) -> str:
    ends = [("any" if end is None else f"{end:g}") for end in (declaration.low, declaration.high)]
    numbers = "0 or 1" if declaration.binary else "any number" if ends == ["any", "any"] else " to ".join(ends)
    unit = f" {declaration.unit}" if declaration.unit else ""
    return f"{numbers}{unit}; {'higher' if declaration.higher_is_better else 'lower'} is better"


def _passes(declaration: Declaration) -> str:
    sign = "at least" if declaration.higher_is_better else "at most"
    if declaration.passes is not None:
        return f"{sign} {declaration.passes:g}, or the check's threshold"
    return (
        f"at {1 if declaration.higher_is_better else 0}"
        if declaration.binary
        else f"{sign} the check's threshold, which is required"
    )


def _needs(scorer: Scorer) -> list[str]:
    """An expected answer, an answer, a judge: what a row must have for a score."""
    parameters = inspect.signature(scorer.function).parameters
    needs = {
        "an expected answer": scorer.declaration.needs_expected,
        "a judge": "judge" in parameters,
        "a model that embeds or moderates: model": "model" in parameters,
        "an answer that is not empty, refused or cut off": scorer.declaration.needs_answer
        and not scorer.declaration.takes_tool_calls,
        "an answer of text or tool calls": scorer.declaration.takes_tool_calls,
    }
    return [text for text, needed in needs.items() if needed]


def _fitting(head: str, summary: str) -> str:
    """A line of at most `WIDTH` characters with the first sentence of a summary, cut off with an ellipsis if it is longer."""
    sentence = summary.partition(". ")[0].rstrip(".")
    room = WIDTH - len(head)
    return head + (sentence if len(sentence) <= room else sentence[: room - 1].rstrip() + "…")
