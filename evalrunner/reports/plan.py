"""What a suite would do, as lines of text: plan, prompts, cost estimate, power of its gates; and its baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evalrunner.attachments import content_lines
from evalrunner.baselines.file import Baseline, read_baseline
from evalrunner.domain import CalibrationExample
from evalrunner.egress import Destination
from evalrunner.engine.deprecation import deprecation_notices
from evalrunner.engine.destinations import Reach
from evalrunner.engine.estimate import Estimate, Total, total_of
from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.engine.result import early_stop_notices
from evalrunner.errors import SuiteError
from evalrunner.formatting import counted, money, number, one_line, plain_text
from evalrunner.reports.power import PowerReport
from evalrunner.stats.summary import Design
from evalrunner.suite.schema import Suite

UNKNOWN = "price unknown"


def render_plan(plan: Plan, *, runs: Path = Path("runs")) -> Iterator[str]:
    """The plan line by line. Earlier runs are in `runs`."""
    suite = plan.suite
    power = PowerReport(plan, runs)
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
        for line in power.gate_lines(gate):
            yield f"    {line}"
    for line in power.run_lines():
        yield f"  {line}"
    for notice in (*plan.scan.notices, *deprecation_notices(plan), *early_stop_notices(plan, None)):
        yield f"  note: {notice}"


def _target(target: PlannedTarget) -> str:
    if target.host is None:
        return target.kind
    params = ", ".join(f"{name}={value}" for name, value in target.params.items() if value is not None)
    return f"{one_line(target.model or target.kind, 80)} {_where(target.host)}" + (
        f" with {one_line(params, 200)}" if params else ""
    )


def _scorer(scorer: PlannedScorer, design: Design) -> str:
    declaration = scorer.bound.scorer.declaration
    names = ", ".join(
        name
        for measure in scorer.measures
        for name in (
            *(measure.metric_name(aggregate) for aggregate in measure.declaration.aggregates),
            *(measure.reducer_name(reducer) for reducer in design.other_reducers),
        )
    )
    backend = f" ({declaration.backend})" if declaration.backend else ""
    if scorer.panel is None:
        return f"{names}{backend}"
    judges = [f"{one_line(judge.name, 80)} {_where(judge.host)}" for judge in scorer.judges]
    by = f"{scorer.judges[0].role} {judges[0]}" if len(judges) == 1 else f"judges {', '.join(judges)}"
    if (companion := scorer.judges[0].companion) is not None:
        by += f"; {companion.role} {one_line(companion.name, 80)} {_where(companion.host)}"
    samples = f", {scorer.panel.samples} votes each" if scorer.panel.samples > 1 else ""
    check = _sanity_check(scorer.bound.scorer.calibration_examples) if scorer.judges[0].mode != "off" else ""
    return f"{names}{backend}; {by}{samples}{check}"


def _sanity_check(examples: Sequence[CalibrationExample]) -> str:
    if not examples:
        return ""
    from evalrunner.scorers.judge_calibration import check_stages, pass_chance

    first, *later = map(len, check_stages(examples))
    asked = f"{first} to {first + sum(later)}" if later else f"{first}"
    return f", sanity check on {asked} known answers (a coin passes {100 * pass_chance(examples, 0.5, 0.5):.2g}%)"


def _where(host: str) -> str:
    """`at models.example`, `on this machine`."""
    return f"on {host}" if host == "this machine" else f"at {host}"


def render_reach(suite: Suite, reach: Reach) -> Iterator[str]:
    """What a suite reaches, line by line: hosts with their secrets, proxies, files and code outside of its folder."""
    yield f"{suite.name}: {counted(len(_by_host(reach)), 'host') if reach.destinations else 'no host'}"
    for address, items in _by_host(reach).items():
        yield f"  {one_line(address, 200) or 'unknown host: LiteLLM decides (allow_hosts limits it)'}"
        for purpose in dict.fromkeys(item.purpose for item in items):
            yield f"    for: {one_line(purpose, 200)}"
        secrets = list(dict.fromkeys(secret for item in items for secret in item.secrets))
        yield f"    secrets: {', '.join(one_line(secret, 120) for secret in secrets) or 'none'}"
        if (refusal := items[0].refusal(suite.run.egress)) is not None:
            yield f"    not allowed: {one_line(refusal, 300)}"
    for name, address in reach.proxies:
        yield f"  {'without a proxy' if name == 'NO_PROXY' else 'proxy'}: {one_line(address, 200)} ({name})"
    for path, purposes in _by_path(reach).items():
        yield f"  file outside of the suite's folder: {one_line(path, 400)} ({one_line(', '.join(purposes), 200)})"
    for reference, purpose in reach.code:
        yield f"  code, which may contact any host and read any file: {one_line(reference, 200)} ({one_line(purpose, 120)})"


def reach_data(suite: Suite, reach: Reach) -> Mapping[str, Any]:
    """The same as JSON data."""
    return {
        "suite": str(suite.path),
        "hosts": [
            {
                "address": address or None,
                "for": list(dict.fromkeys(item.purpose for item in items)),
                "secrets": list(dict.fromkeys(secret for item in items for secret in item.secrets)),
                "refusal": items[0].refusal(suite.run.egress),
            }
            for address, items in _by_host(reach).items()
        ],
        "proxies": [{"variable": name, "address": address} for name, address in reach.proxies],
        "files": [{"path": path, "for": purposes} for path, purposes in _by_path(reach).items()],
        "code": [{"reference": reference, "for": purpose} for reference, purpose in reach.code],
    }


def _by_host(reach: Reach) -> Mapping[str, list[Destination]]:
    hosts: dict[str, list[Destination]] = {}
    for item in reach.destinations:
        hosts.setdefault(item.address, []).append(item)
    return hosts


def _by_path(reach: Reach) -> Mapping[str, list[str]]:
    paths: dict[str, list[str]] = {}
    for path, purpose in reach.files:
        paths.setdefault(path, []).append(purpose)
    return paths


def render_prompts(plan: Plan, show: int) -> Iterator[str]:
    """The rendered prompts of the first `show` samples, for each target that has one."""
    for sample in islice(plan.dataset, show):
        for target in plan.targets:
            if target.prompt is None:
                continue
            yield ""
            yield f"sample {one_line(sample.id, 60)} to {one_line(target.name, 60)}:"
            for message in target.prompt.render(sample):
                yield f"  {one_line(str(message['role']), 20)}:"
                lines = content_lines(message["content"])
                text = plain_text(message["content"]) if lines is None else "\n".join(lines)
                for line in text.splitlines():
                    yield f"    {one_line(line, 2000)}"


def render_estimates(estimates: Sequence[Estimate], *, attached: bool = False) -> Iterator[str]:
    """A line for each target and judge, then the totals, then notes on the estimate. `attached`: prompts attach files."""
    for item in estimates:
        who = {"targets": "target ", "users": ""}.get(item.side, f"{item.role} of ") + one_line(item.name, 60)
        yield f"  {who}: {', '.join(_parts(item))}"
    sides = [f"targets {_range(total_of(estimates, 'targets'))}"]
    if any(item.side == "judges" for item in estimates):
        sides.append(f"judges {_range(total_of(estimates, 'judges'))}")
    if any(item.side == "users" for item in estimates):
        sides.append(f"simulated user {_range(total_of(estimates, 'users'))}")
    yield f"  cost: {', '.join(sides)}"
    if any(item.price.price is None for item in estimates):
        yield "  note: set unknown prices with prices: {MODEL: {input: …, output: …}}, per million tokens"
    if any(item.high_usd is None and item.price.price is not None for item in estimates):
        yield "  note: params: {max_tokens: …} bounds a cost that has no upper end"
    if any(item.prompt_tokens for item in estimates):
        yield "  note: prompt tokens are estimated at 4 bytes each; max_cost reserves the upper end of a cost"
    if attached:
        yield "  note: images, audio and files are not counted in tokens and costs: what they cost depends on the model"
    if any(item.side == "judges" for item in estimates):
        yield "  note: judge tokens depend on the answers; cache hits are known for the sanity check only"


def _parts(item: Estimate) -> Iterator[str]:
    extra = [f"including {_from_to(item.checks, item.second_checks)} for the sanity check"] if item.checks else []
    extra += [f"{item.cached:,} cached"] if item.cached else []
    calls = "call" if item.calls + item.second_checks == 1 else "calls"
    yield f"{_from_to(item.calls, item.second_checks)} {calls}" + (f" ({', '.join(extra)})" if extra else "")
    if item.model is None:
        yield "not billed here"
        return
    yield f"about {counted(item.prompt_tokens, 'prompt token')}"
    yield "free" if item.price.source == "free" else _range(Total(item.low_usd, item.high_usd))


def _from_to(least: int, more: int) -> str:
    """`412`, or `412 to 424` where up to `more` can follow."""
    return f"{least:,} to {least + more:,}" if more else f"{least:,}"


def _range(total: Total) -> str:
    if total.low_usd is None:
        return UNKNOWN
    if total.high_usd is None:
        return f"{money(total.low_usd)} or more"
    if total.high_usd == total.low_usd:
        return money(total.low_usd)
    return f"{money(total.low_usd)} to {money(total.high_usd)}"


def render_baseline(baseline: Baseline) -> Iterator[str]:
    """A baseline line by line: its run, its size, and the mean score of each scorer by target."""
    head = baseline.head
    yield f"{one_line(baseline.label, 120)}: baseline {one_line(head.name, 60)!r} of suite {one_line(head.suite, 60)!r}"
    outputs = ", with outputs" if head.outputs else ""
    yield f"  run {one_line(head.run_id, 60)}, {counted(len(baseline.rows), 'row')}, {counted(head.epochs, 'epoch')}{outputs}"
    for name in head.provenance.targets:
        yield f"  target {one_line(name, 60)}: {', '.join(_means(baseline, name))}"
    for scorer, origin in head.origin.items():
        if origin.get("run_id") != head.run_id:
            yield f"  {one_line(scorer, 60)} has its origin in run {one_line(str(origin.get('run_id')), 60)}"


def _means(baseline: Baseline, target: str) -> Iterator[str]:
    for scorer in baseline.head.provenance.scorers:
        reduced = [
            math.fsum(values) / len(values)
            for (at, _), row in baseline.rows.items()
            if at == target and (values := [value for value in row.scores.get(scorer, ()) if value is not None])
        ]
        mean = math.fsum(reduced) / len(reduced) if reduced else None
        yield f"{one_line(scorer, 60)} {number(mean)} (n={len(reduced)})"


def baseline_lines(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each file: its run and its number of rows, or what is wrong with it."""
    for path in paths:
        try:
            baseline = read_baseline(path, label=str(path))
        except (SuiteError, FileNotFoundError) as broken:
            yield one_line(str(broken), 200)
        else:
            yield f"{path}: run {one_line(baseline.head.run_id, 60)}, {counted(len(baseline.rows), 'row')}"
