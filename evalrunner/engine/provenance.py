"""The provenance of a plan: what its run will be a run of, before the first call and with the models that served it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from evalrunner.engine.judge import JudgeSession
from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.plugins import known_names
from evalrunner.redact import without_secrets
from evalrunner.runs.provenance import (
    DatasetProvenance,
    JudgeProvenance,
    Provenance,
    ScorerProvenance,
    TargetProvenance,
)
from evalrunner.suite.schema import DatasetSpec, TargetSpec
from evalrunner.targets.recorded import RecordedRun


def provenance_of_plan(plan: Plan) -> Provenance:
    """What was planned. Custom code goes by the sha256 of the file that is named; what that file imports is not read."""
    suite = plan.suite
    specs = {spec.name: spec for spec in suite.targets}
    return Provenance(
        suite=suite.name,
        dataset=DatasetProvenance(digest=plan.scan.digest, rows=plan.scan.count, **_selection(suite.dataset)),
        targets={target.name: _target(target, specs[target.name], suite.folder) for target in plan.targets},
        scorers={scorer.bound.name: _scorer(scorer, suite.folder) for scorer in plan.scorers},
        judges={scorer.bound.name: _judge(scorer.judge) for scorer in plan.scorers if scorer.judge is not None},
        seed=suite.run.seed,
        epochs=suite.run.epochs,
    )


def tested_provenance(plan: Plan) -> Provenance:
    """What a baseline is compared with: where stored answers are scored, the targets that gave them."""
    provenance = provenance_of_plan(plan)
    return provenance if plan.stored is None else replace(provenance, targets=plan.stored.provenance.targets)


def plain(data: Any) -> Any:
    """Data as it is read back from JSON, without secrets."""
    return without_secrets(json.loads(json.dumps(data, default=str)))


def _selection(spec: DatasetSpec) -> dict[str, Any]:
    columns = {
        item.name: {"column": column.column, **({"split": column.split} if column.split is not None else {})}
        for item in fields(spec.columns)
        if (column := getattr(spec.columns, item.name)) is not None
    }
    return {"columns": columns, "where": plain(dict(spec.where)), "shuffle": spec.shuffle, "limit": spec.limit}


def _target(target: PlannedTarget, spec: TargetSpec, folder: Path) -> TargetProvenance:
    served_models = tuple(sorted(target.calls.usage.served_models))
    if spec.type is None:
        return TargetProvenance(
            type=target.kind,
            model=target.model,
            host=target.host,
            params=plain(dict(target.params)),
            prompt=None if target.prompt is None else _templates(target.prompt.parts),
            prompt_digest=None if target.prompt is None else target.prompt.digest,
            served_models=served_models,
        )
    options = dict(spec.options)
    if isinstance(target.call, RecordedRun):
        options["run"] = target.call.run  # `last` would be another run when this one is resumed
    return TargetProvenance(
        type=spec.type,
        model=target.model,  # the version that an alias meant
        host=target.host,
        params=plain(dict(target.params)),
        options=plain(options),
        args=plain(dict(spec.args)),
        files=_files([spec.type, *_texts(spec.options)], folder),
        served_models=served_models,
    )


def _templates(parts: tuple[tuple[str, str], ...] | None) -> tuple[Mapping[str, str], ...] | None:
    """A mapping of role to text for each message; None where samples are sent as they are."""
    return None if parts is None else tuple(plain([{role: template} for role, template in parts]))


def _scorer(scorer: PlannedScorer, folder: Path) -> ScorerProvenance:
    spec, declaration = scorer.spec, scorer.bound.scorer.declaration
    reference = spec.type if ":" in spec.type else known_names("scorers").get(spec.type, spec.type)
    custom = [] if reference.startswith("evalrunner.") else [reference]  # built-in ones have a version
    return ScorerProvenance(
        type=spec.type,
        options=plain(dict(spec.options)),
        args=plain(dict(spec.args)),
        files=_files([*custom, *_texts(spec.options)], folder),
        version=declaration.version,
        backend=declaration.backend,
        on_no_answer=scorer.bound.on_no_answer,
        range=(declaration.low, declaration.high),
        higher_is_better=declaration.higher_is_better,
        binary=declaration.binary,
        unit=declaration.unit,
        threshold=declaration.threshold,
        needs_answer=declaration.needs_answer,
        needs_expected=declaration.needs_expected,
        aggregates=tuple(declaration.aggregates),
        headline=declaration.headline,
    )


def _judge(session: JudgeSession) -> JudgeProvenance:
    return JudgeProvenance(
        name=session.name,
        model=session.model,
        host=session.host,
        mode=session.mode,
        params=plain(dict(session.params)),
        served_models=tuple(sorted(session.calls.usage.served_models)),
    )


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in options.values() if isinstance(value, str))


def _files(references: Iterable[str], folder: Path) -> dict[str, str]:
    """The sha256 of each file that a `path/file.py:name` or an imported `package.module:name` leads to."""
    digests: dict[str, str] = {}
    for reference in references:
        location, colon, name = reference.rpartition(":")
        if not colon or not name.replace(".", "_").isidentifier():
            continue
        file = folder / location if location.endswith(".py") else _file_of_module(location)
        try:
            if file is not None:
                digests[location] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError:
            continue  # not a file after all, or not readable
    return digests


def _file_of_module(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file is not None else None
