"""Commands that look at suites and parts without running anything: validate, plan, schema, list."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evalrun.cli import running
from evalrun.suite.options import RunOptions, parse_condition

if TYPE_CHECKING:
    from evalrun.engine.plan import Plan


def _plans(suites: list[str], options: RunOptions, show: int = 0) -> None:
    """Plan every suite and print what it comes to. Nothing is called."""
    import asyncio

    from evalrun.api import Session, plan_suites
    from evalrun.endpoints.opening import EndpointPool
    from evalrun.engine.runner import StopSignal

    async def plan_all() -> None:
        session = Session(options, StopSignal())
        async with EndpointPool() as pool:
            with tempfile.TemporaryDirectory(prefix="evalrun-") as spool:
                for plan in plan_suites(suites, session, pool, Path(spool)):
                    _print_plan(plan, show)

    asyncio.run(plan_all())


def _print_plan(plan: Plan, show: int) -> None:
    from evalrun.reports.planned import render_plan

    for line in render_plan(plan, show=show):
        typer.echo(line)


def validate(suites: running.Suites) -> None:
    """Check suites with their data and parts; every problem is told, nothing is called."""
    import asyncio

    from evalrun.api import Session, plan_suites
    from evalrun.endpoints.opening import EndpointPool
    from evalrun.engine.runner import StopSignal

    async def check_all() -> list[Plan]:
        async with EndpointPool() as pool:
            with tempfile.TemporaryDirectory(prefix="evalrun-") as spool:
                return plan_suites(suites, Session(RunOptions(), StopSignal()), pool, Path(spool))

    for suite, plan in zip(suites, asyncio.run(check_all()), strict=True):
        counts = f"{plan.scan.count} samples, {len(plan.targets)} targets, {len(plan.scorers)} scorers, {len(plan.gates)} gates"
        typer.echo(f"{suite}: ok ({counts})")
        for notice in plan.scan.notices:
            typer.echo(f"  note: {notice}")


def plan(
    suites: running.Suites,
    show: Annotated[int, typer.Option("--show", min=0, help="Show the rendered prompts of so many samples.")] = 0,
    target: running.Targets = None,
    base_url: running.BaseUrl = None,
    judge: running.JudgeModel = None,
    limit: running.Limit = None,
    where: running.Where = None,
    epochs: running.Epochs = None,
    settings: running.Settings = None,
) -> None:
    """Show what would run: samples, calls, targets, scorers, gates. Nothing is called."""
    options = RunOptions(
        targets=tuple(target or ()),
        base_url=base_url,
        judge=judge,
        limit=limit,
        where=dict(parse_condition(text) for text in where or ()),
        epochs=epochs,
        settings=tuple(settings or ()),
    )
    _plans(suites, options, show)


def schema() -> None:
    """Print the JSON Schema of a suite, for editors: evalrun schema > suite.schema.json."""
    import json

    from evalrun.suite.jsonschema import suite_schema

    json.dump(suite_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")


def list_parts(
    group: Annotated[Literal["scorers", "targets", "datasets"], typer.Argument(help="scorers, targets or datasets")],
) -> None:
    """List what a suite can name, with the options of each."""
    from evalrun.reports.parts import render_parts

    for line in render_parts(group):
        typer.echo(line)
