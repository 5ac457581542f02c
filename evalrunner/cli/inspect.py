"""The commands that run nothing: validate, plan, schema, list and init."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evalrunner.cli import options
from evalrunner.errors import SuiteError
from evalrunner.suite.options import RunOptions

if TYPE_CHECKING:
    from evalrunner.engine.plan import Plan
    from evalrunner.plugin_table import Group

NOT_BY_TYPE = {
    "targets": ["a model string such as openai/gpt-5-mini or local/smollm2-135m-instruct, or {model, base_url, …}"],
    "datasets": ["a path (its extension selects the reader), rows: […] inline, or - for standard input"],
    "scorers": [],
}

SUITE = """\
# A first suite. Run it with:  evalrun {name}
# yaml-language-server: $schema=suite.schema.json      (evalrun schema > suite.schema.json)
name: first

dataset:
  path: questions.csv               # csv, tsv, json, jsonl or parquet
  columns:                          # default columns are id, input and expected; here expected has several answers
    expected: {{column: expected, split: "|"}}

prompt:                             # Jinja2; every column of the dataset can be used
  - system: Answer with the shortest correct answer, without a sentence around it.
  - user: "{{{{ input }}}}"

{target}

scorers:
  - {{type: exact_match, normalize: squad}}
  - {{type: contains, normalize: squad, whole_words: true}}
  - token_f1

gates:
  - contains >= 0.3                 # metric, operator, number; `evalrun list scorers` shows what there is
"""

LOCAL = """\
target: local/smollm2-135m-instruct # a small model that runs here; any model string, such as openai/gpt-5-mini
params: {temperature: 0, max_tokens: 256}"""

RECORDED = """\
target: {type: recorded, column: output}   # recorded outputs; a model would be
# target: openai/gpt-5-mini                # any model string (needs its key), or, after pip install '.[local]':
# target: local/smollm2-135m-instruct
# params: {temperature: 0, max_tokens: 256}"""

DATA = """\
id,input,expected,output
q1,What is the capital of France?,Paris,Paris
q2,How many legs does a spider have?,"8|eight",Eight
q3,What is 7 times 6?,42,The answer is 42.
q4,What color do you get from blue and yellow paint?,green,Green
q5,Which planet is closest to the sun?,Mercury,Venus
"""


def _print_plans(suites: list[str], run_options: RunOptions, lines: Callable[[str, Plan], AsyncIterator[str]]) -> None:
    """Plan every suite and print its `lines`. No model is called."""
    import asyncio

    from evalrunner import __version__
    from evalrunner.commands.run import Session, plan_suites
    from evalrunner.endpoints.factory import EndpointPool
    from evalrunner.middleware.deadline import StopSignal
    from evalrunner.storage import spool_folder

    async def plan_all() -> None:
        async with EndpointPool(user_agent=f"evalrunner/{__version__}") as pool:
            with spool_folder() as spool:
                plans = plan_suites(suites, Session(run_options, StopSignal()), pool, spool)
                for suite, plan in zip(suites, plans, strict=True):
                    async for line in lines(suite, plan):
                        typer.echo(line)

    asyncio.run(plan_all())


@options.takes_options("validate")
def validate(run_options: RunOptions, suites: options.Suites) -> None:
    """Check suites and their data without calling a model."""
    from evalrunner.formatting import counted

    async def lines(suite: str, plan: Plan) -> AsyncIterator[str]:
        sizes = {
            "sample": plan.scan.count,
            "target": len(plan.targets),
            "scorer": len(plan.scorers),
            "gate": len(plan.gates),
        }
        yield f"{suite}: ok ({', '.join(counted(count, noun) for noun, count in sizes.items())})"
        for notice in plan.scan.notices:
            yield f"  note: {notice}"

    _print_plans(suites, run_options, lines)


@options.takes_options("plan")
def plan(
    run_options: RunOptions,
    suites: options.Suites,
    show: Annotated[int, typer.Option("--show", min=0, metavar="N", help="Samples whose prompts to show.")] = 0,
    offline: Annotated[bool, typer.Option("--offline", help="Do not request prices from servers.")] = False,
    endpoints: Annotated[
        bool, typer.Option("--endpoints", help="List hosts, secrets and files; contact none.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what would run and what it may cost.

    Samples, calls, targets, judges, scorers and gates; no model is called. Without --offline, prices are requested
    from LiteLLM proxies in the suite. Shows what each gate can decide, and how often an equal model would be stopped.
    With --endpoints, lists instead each host with the secrets that go there, and files outside of the suite's folder:
    no host is contacted and no user-defined code is imported.
    """
    if json and not endpoints:
        raise SuiteError("--json needs --endpoints; a run prints its results as JSON: evalrun SUITE --json")
    if endpoints:
        _print_reach(suites, run_options, as_json=json)
        return
    _print_plans(
        suites, run_options, lambda _, plan: _plan_lines(plan, show=show, offline=offline, runs=run_options.output_dir)
    )


def _print_reach(suites: list[str], run_options: RunOptions, *, as_json: bool) -> None:
    """Print what each suite reaches."""
    from dataclasses import replace
    from json import dumps

    from evalrunner.engine.destinations import reach_of
    from evalrunner.reports.plan import reach_data, render_reach
    from evalrunner.suite.environment import SuiteEnvironment
    from evalrunner.suite.loader import open_suite, read_suite

    found = []
    for path in suites:
        document = open_suite(path, run_options)
        if isinstance(document.environ, SuiteEnvironment):  # a list for somebody without the keys
            document.environ = replace(document.environ, names_unset=True)
        suite = read_suite(document)
        document.raise_problems()
        assert suite is not None  # None is a problem
        found.append((suite, reach_of(suite, document)))
    if as_json:
        typer.echo(dumps([reach_data(suite, reach) for suite, reach in found], indent=2))
        return
    for suite, reach in found:
        for line in render_reach(suite, reach):
            typer.echo(line)


async def _plan_lines(plan: Plan, *, show: int, offline: bool, runs: Path) -> AsyncIterator[str]:
    from evalrunner.commands.run import priced
    from evalrunner.engine.estimate import ModelPrices, estimate
    from evalrunner.reports.plan import render_estimates, render_plan, render_prompts

    plan = await priced(plan, ask_servers=not offline)
    for line in render_plan(plan, runs=runs):
        yield line
    prices = ModelPrices(
        {name: known for (side, name), known in plan.prices.items() if side == "targets"},
        {name: known for (side, name), known in plan.prices.items() if side == "judges"},
    )
    for line in render_estimates(await estimate(plan, prices, is_cached=plan.calls.is_cached)):
        yield line
    for line in render_prompts(plan, show):
        yield line


def schema() -> None:
    """Print the JSON Schema of a suite, for editors.

    Save it as suite.schema.json: evalrun schema > suite.schema.json
    """
    import json

    from evalrunner.suite.json_schema import suite_schema

    json.dump(suite_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")


def list_parts(
    group: Annotated[Literal["scorers", "targets", "datasets"], typer.Argument(help="What to list.")],
) -> None:
    """List scorers, targets or datasets with their options."""
    for line in _plugin_lines(group):
        typer.echo(line)


def _plugin_lines(group: Group) -> Iterator[str]:
    """Each plug-in of a group with its summary and its options."""
    import inspect

    from evalrunner.plugins import factory_options, known_names, resolve
    from evalrunner.suite.json_schema import first_line, option_docs
    from evalrunner.suite.validate import describe_type

    yield from NOT_BY_TYPE[group]
    for name, home in sorted(known_names(group).items()):
        factory = resolve(group, name, folder=Path())
        yield f"{name}: {first_line(factory)}"
        if not home.startswith("evalrunner."):
            yield f"    from {home}"
        docs = option_docs(factory)
        for option in factory_options(factory).values():
            default = "required" if option.default is inspect.Parameter.empty else f"default {option.default!r}"
            about = f": {docs[option.name]}" if option.name in docs else ""
            yield f"    {option.name} ({describe_type(option.annotation)}, {default}){about}"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; created if missing.")] = Path(),
) -> None:
    """Write a first suite with its data."""
    suite, data = folder / "suite.yaml", folder / "questions.csv"
    for path in (suite, data):
        if path.exists():
            raise SuiteError(f"{str(path)!r} already exists; name another folder: evalrun init DIR")
    local = importlib.util.find_spec("xllamacpp") is not None
    text = SUITE.format(name=suite, target=LOCAL if local else RECORDED)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        suite.write_text(text, encoding="utf-8")
        data.write_text(DATA, encoding="utf-8")
    except OSError as refused:
        raise SuiteError(f"{str(folder)!r} cannot be written to: {refused.strerror}") from None
    typer.echo(f"wrote {suite} and {data}")
    typer.echo(f"run it: evalrun {suite}")
