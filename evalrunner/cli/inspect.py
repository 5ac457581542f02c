"""The commands that run nothing: validate, plan and schema."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalrunner.cli import options
from evalrunner.errors import SuiteError
from evalrunner.suite.options import RunOptions

if TYPE_CHECKING:
    from evalrunner.engine.plan import Plan


def _print_plans(suites: list[str], run_options: RunOptions, lines: Callable[[str, Plan], AsyncIterator[str]]) -> None:
    """Plan every suite and print its `lines`. No model is called."""
    import asyncio

    from evalrunner import __version__
    from evalrunner.commands.run import Session, plan_suites
    from evalrunner.endpoints.factory import EndpointPool
    from evalrunner.middleware.deadline import StopSignal
    from evalrunner.reports.terminal import print_indented
    from evalrunner.storage import spool_folder

    async def plan_all() -> None:
        async with EndpointPool(user_agent=f"evalrunner/{__version__}") as pool:
            with spool_folder() as spool:
                plans = plan_suites(suites, Session(run_options, StopSignal()), pool, spool)
                for suite, plan in zip(suites, plans, strict=True):
                    async for line in lines(suite, plan):
                        print_indented(line, sys.stdout)

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

    _print_plans(options.expand_folders(suites), run_options, lines)


@options.takes_options("plan")
def plan(
    run_options: RunOptions,
    suites: options.Suites,
    show: Annotated[int, typer.Option("--show", min=0, metavar="N", help="Samples whose prompts to show.")] = 0,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not request prices or model lists from servers.")
    ] = False,
    endpoints: Annotated[
        bool, typer.Option("--endpoints", help="List hosts, secrets and files; contact none.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what would run and what it may cost.

    Samples, calls, targets, judges, scorers and gates; no model is called. Without --offline, prices are requested
    from LiteLLM proxies in the suite, and lists of models from all servers, for the dates on which models retire.
    Shows what each gate can decide, and how often an equal model would be stopped.
    With --endpoints, lists instead each host with the secrets that go there, and files outside of the suite's folder:
    no host is contacted and no user-defined code is imported.
    """
    if json and not endpoints:
        raise SuiteError("--json needs --endpoints; a run prints its results as JSON: evalrun SUITE --json")
    suites = options.expand_folders(suites)
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
        {name: known for (side, name), known in plan.prices.items() if side == "users"},
    )
    estimates = await estimate(plan, prices, is_cached=plan.calls.is_cached)
    for line in render_estimates(estimates, attached=plan.scan.attachments[0] is not None):
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
