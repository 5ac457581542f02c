"""The commands that run nothing: validate, plan, schema, list and init."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evalrunner.cli import options
from evalrunner.errors import SuiteError

if TYPE_CHECKING:
    from evalrunner.engine.plan import Plan
    from evalrunner.suite.options import RunOptions


def _tell_plans(suites: list[str], asked: RunOptions, tell: Callable[[str, Plan], AsyncIterator[str]]) -> None:
    """Plan every suite and print what `tell` says of it. No model is called."""
    import asyncio
    import tempfile

    from evalrunner import __version__
    from evalrunner.commands.run import Session, plan_suites
    from evalrunner.endpoints.factory import EndpointPool
    from evalrunner.middleware.cancellation import StopSignal

    async def plan_all() -> None:
        async with EndpointPool(user_agent=f"evalrunner/{__version__}") as pool:
            with tempfile.TemporaryDirectory(prefix="evalrun-") as spool:
                plans = plan_suites(suites, Session(asked, StopSignal()), pool, Path(spool))
                for suite, plan in zip(suites, plans, strict=True):
                    async for line in tell(suite, plan):
                        typer.echo(line)

    asyncio.run(plan_all())


def validate(suites: options.Suites) -> None:
    """Check suites with their data and parts; every problem is told, nothing is called."""
    from evalrunner.formatting import counted
    from evalrunner.suite.options import RunOptions

    async def tell(suite: str, plan: Plan) -> AsyncIterator[str]:
        sizes = {
            "sample": plan.scan.count,
            "target": len(plan.targets),
            "scorer": len(plan.scorers),
            "gate": len(plan.gates),
        }
        yield f"{suite}: ok ({', '.join(counted(count, noun) for noun, count in sizes.items())})"
        for notice in plan.scan.notices:
            yield f"  note: {notice}"

    _tell_plans(suites, RunOptions(), tell)


def plan(
    suites: options.Suites,
    show: Annotated[int, typer.Option("--show", min=0, help="Show the rendered prompts of so many samples.")] = 0,
    target: options.Targets = None,
    base_url: options.BaseUrl = None,
    judge: options.JudgeModel = None,
    limit: options.Limit = None,
    where: options.Where = None,
    epochs: options.Epochs = None,
    cache: options.Cache = None,
    refresh: options.Refresh = False,
    max_cost: options.MaxCost = None,
    settings: options.Settings = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server for prices.")] = False,
    output_dir: options.OutputDir = Path("runs"),
) -> None:
    """Show what would run and what it may cost: samples, calls, targets, judges, scorers, gates. No model is called.

    A LiteLLM proxy that the suite names is asked for its prices; --offline asks nobody. What gates can see is
    told from earlier runs, where there are any.
    """
    from evalrunner.suite.options import RunOptions

    asked = RunOptions(
        targets=tuple(target or ()),
        base_url=base_url,
        judge=judge,
        limit=limit,
        where=options.conditions(where),
        epochs=epochs,
        cache=options.cache_mode(cache),
        refresh=refresh,
        max_cost=max_cost,
        settings=tuple(settings or ()),
        output_dir=output_dir,
    )
    _tell_plans(suites, asked, lambda _, plan: _plan_lines(plan, show=show, offline=offline, runs=output_dir))


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
    """Print the JSON Schema of a suite, for editors: evalrun schema > suite.schema.json."""
    import json

    from evalrunner.suite.json_schema import suite_schema

    json.dump(suite_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")


def list_parts(
    group: Annotated[Literal["scorers", "targets", "datasets"], typer.Argument(help="scorers, targets or datasets")],
) -> None:
    """List what a suite can name, with the options of each."""
    from evalrunner.reports.plan import render_plugins

    for line in render_plugins(group):
        typer.echo(line)


SUITE = """\
# A first suite. Run it with:  evalrun {name}
# yaml-language-server: $schema=suite.schema.json      (evalrun schema > suite.schema.json)
name: first

dataset:
  path: questions.csv               # csv, tsv, json, jsonl or parquet
  columns:                          # id, input and expected are found by these names; here expected holds several
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
target: {type: recorded, column: output}   # answers that are already there; a model would be
# target: openai/gpt-5-mini                # any model string (needs its key), or, after pip install '.[local]':
# target: local/smollm2-135m-instruct
# params: {temperature: 0, max_tokens: 256}"""

DATA = """\
id,input,expected,output
q1,What is the capital of France?,Paris,Paris
q2,How many legs does a spider have?,"8|eight",Eight
q3,What is 7 times 6?,42,The answer is 42.
q4,What colour do you get from blue and yellow paint?,green,Green
q5,Which planet is closest to the sun?,Mercury,Venus
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if it is not there.")] = Path(),
) -> None:
    """Write a first suite and its data, ready to run."""
    suite, data = folder / "suite.yaml", folder / "questions.csv"
    for path in (suite, data):
        if path.exists():
            raise SuiteError(f"{str(path)!r} is already there; name another folder: evalrun init DIR")
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
