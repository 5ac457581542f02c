"""A plan as lines of text: what would run, and what would be sent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.reports.planned_gates import gate_lines
from evalrunner.reports.table import plain_text
from evalrunner.reports.text import counted, one_line
from evalrunner.stats.grouping import Design


def render_plan(plan: Plan, *, runs: Path = Path("runs")) -> Iterator[str]:
    """The plan line by line. Earlier runs are in `runs`."""
    suite = plan.suite
    epochs = f" × {suite.run.epochs} epochs" if suite.run.epochs > 1 else ""
    size = f"{counted(plan.scan.count, 'sample')} × {counted(len(plan.targets), 'target')}{epochs}"
    yield f"{suite.name}: {size} = {counted(plan.rows, 'row')}"
    yield f"  columns: {', '.join(one_line(name, 40) for name in plan.scan.columns)}"
    for target in plan.targets:
        yield f"  target {one_line(target.name, 60)}: {_target(target)}"
    for scorer in plan.scorers:
        yield f"  scorer {one_line(scorer.bound.name, 60)}: {_scorer(scorer, plan.design)}"
    if plan.design.cluster is not None:
        yield f"  clusters by {one_line(plan.design.cluster, 40)}"
    for column in plan.design.slices:
        yield f"  slices by {one_line(column, 40)}"
    for gate in plan.gates:
        yield f"  gate {one_line(gate.spec.text, 80)} on {gate.metric}" + (
            f" (line {gate.spec.line})" if gate.spec.line else ""
        )
        for line in gate_lines(plan, gate, runs):
            yield f"    {line}"
    for notice in plan.scan.notices:
        yield f"  note: {notice}"


def _target(target: PlannedTarget) -> str:
    if target.host is None:
        return target.kind
    params = ", ".join(f"{name}={value}" for name, value in target.params.items() if value is not None)
    return f"{one_line(target.model or target.kind, 80)} at {target.host}" + (
        f" with {one_line(params, 200)}" if params else ""
    )


def _scorer(scorer: PlannedScorer, design: Design) -> str:
    declaration = scorer.bound.scorer.declaration
    measured = [scorer.measure.metric_name(name) for name in declaration.aggregates]
    names = ", ".join(measured + [scorer.measure.reducer_name(reducer) for reducer in design.further])
    backend = f" ({declaration.backend})" if declaration.backend else ""
    if scorer.judge is None:
        return f"{names}{backend}"
    pairs = len(scorer.bound.scorer.calibration_examples)
    check = f", checked on {pairs} known pairs first" if pairs and scorer.judge.mode != "off" else ""
    return f"{names}{backend}; judge {one_line(scorer.judge.name, 80)} at {scorer.judge.host}{check}"


def render_prompts(plan: Plan, show: int) -> Iterator[str]:
    """The rendered prompts of so many samples, for each target that has one."""
    for sample in islice(plan.dataset, show):
        for target in plan.targets:
            if target.prompt is None:
                continue
            yield ""
            yield f"sample {one_line(sample.id, 60)} to {one_line(target.name, 60)}:"
            for message in target.prompt.render(sample):
                yield f"  {one_line(str(message['role']), 20)}:"
                for line in plain_text(message["content"]).splitlines():
                    yield f"    {one_line(line, 2000)}"
