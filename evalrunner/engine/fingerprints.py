"""What a run is made of, as data: what each scorer, judge and target is, and the hashes that define a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.gates.check import Comparison
from evalrunner.gates.regression import CandidateRun
from evalrunner.suite.schema import ScorerSpec, TargetSpec
from evalrunner.targets.recorded import RecordedRun


def digest(data: Any) -> str:
    """The sha256 of data as canonical JSON."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def hashes(plan: Plan) -> dict[str, Any]:
    """What defines the run, as sha256: its data, prompts, params and scorers."""
    return {
        "dataset": plan.scan.digest,
        "prompts": {target.name: target.prompt.digest for target in plan.targets if target.prompt is not None},
        "params": {target.name: digest(dict(target.params)) for target in plan.targets},
        "scorers": {scorer.bound.name: digest(scorer_data(scorer, plan.suite.folder)) for scorer in plan.scorers},
    }


def scorer_data(scorer: PlannedScorer, folder: Path) -> dict[str, Any]:
    """What a scorer is and what it says of its scores. `code` is the sha256 of the file that holds its function."""
    spec = scorer.bound.scorer.declaration
    return {
        "type": scorer.spec.type,
        "options": dict(scorer.spec.options),
        "args": dict(scorer.spec.args),
        "version": spec.version,
        "backend": spec.backend,
        "code": _code(scorer.spec, folder),
        "range": [spec.low, spec.high],
        "higher_is_better": spec.higher_is_better,
        "binary": spec.binary,
        "unit": spec.unit,
        "threshold": spec.threshold,
        "needs_answer": spec.needs_answer,
        "needs_expected": spec.needs_expected,
        "aggregates": list(spec.aggregates),
        "headline": spec.headline,
        "on_no_answer": scorer.bound.on_no_answer,
    }


def _code(spec: ScorerSpec, folder: Path) -> str | None:
    reference = spec.options.get("function") if spec.type == "python" else spec.type
    location = str(reference).rpartition(":")[0]
    if not location.endswith(".py"):
        return None
    try:
        return hashlib.sha256((folder / location).read_bytes()).hexdigest()
    except OSError:
        return None


def judge_data(scorer: PlannedScorer) -> dict[str, Any] | None:
    """Which judge a scorer asks and how; None for one that asks none."""
    session = scorer.judge
    return None if session is None else {"name": session.name, "model": session.model, "params": dict(session.params)}


def target_data(target: PlannedTarget, spec: TargetSpec) -> dict[str, Any]:
    """What a target is, and which models have served it so far."""
    return {
        "type": target.kind,
        "model": target.model,
        "params": dict(target.params),
        "options": _options(target, spec),
        "prompt": target.prompt.digest if target.prompt is not None else None,
        "served_models": sorted(target.calls.usage.served_models),
    }


def _options(target: PlannedTarget, spec: TargetSpec) -> dict[str, Any] | None:
    """The options of a target that has a type, as the definition of a run has them."""
    if spec.type is None:
        return None
    run = {"run": target.call.run} if isinstance(target.call, RecordedRun) else {}
    return {**spec.options, **run}


def provenance_of_plan(plan: Plan) -> Mapping[str, Any]:
    """What a run is made of, as its baseline would have it."""
    judges = {scorer.bound.name: judge_data(scorer) for scorer in plan.scorers}
    specs = {spec.name: spec for spec in plan.suite.targets}
    found: dict[str, Any] = {
        "dataset": plan.scan.digest,
        "targets": {target.name: target_data(target, specs[target.name]) for target in plan.targets},
        "scorers": {scorer.bound.name: scorer_data(scorer, plan.suite.folder) for scorer in plan.scorers},
        "judges": {name: judge for name, judge in judges.items() if judge is not None},
    }
    if plan.stored is not None:  # what is under test are the targets that gave the answers
        found["targets"] = dict(plan.stored.provenance["targets"])
    made: Mapping[str, Any] = json.loads(json.dumps(found, default=str))
    return made


def baseline_context_of(plan: Plan) -> Comparison:
    """What the gates on a baseline of a plan are judged with, the models that have served by now among it."""
    if not plan.baselines:
        return Comparison()
    return Comparison(CandidateRun(provenance_of_plan(plan), plan.keys), plan.baselines)
