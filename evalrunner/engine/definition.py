"""What defines the run of a plan: whatever changes what its rows mean, and nothing that only changes how it goes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalrunner.engine.judge import JudgeSession
from evalrunner.engine.plan import Plan, PlannedScorer, PlannedTarget
from evalrunner.plugins import known_names
from evalrunner.prompts import Prompt
from evalrunner.redact import without_secrets
from evalrunner.suite.schema import DatasetSpec, TargetSpec
from evalrunner.targets.recorded import RecordedRun

VERSION = 1


def definition_of(plan: Plan) -> dict[str, Any]:
    """The definition as plain JSON data without keys, for `run.json` and `runs.definition.differences`.

    The rows of the dataset are told by their digest, people's code by the sha256 of the file that is named (what that
    file imports is not looked at). Left out, so free to change: where the dataset lies, cost cap, concurrency, times,
    retries, cache, streaming, gates, outputs.
    """
    suite = plan.suite
    specs = {spec.name: spec for spec in suite.targets}
    data = {
        "version": VERSION,
        "suite": suite.name,
        "dataset": {"digest": plan.scan.digest, "rows": plan.scan.count, **_selection(suite.dataset)},
        "targets": {target.name: _target(target, specs[target.name], suite.folder) for target in plan.targets},
        "scorers": {scorer.bound.name: _scorer(scorer, suite.folder) for scorer in plan.scorers},
        "seed": suite.run.seed,
        "epochs": suite.run.epochs,
    }
    plain: dict[str, Any] = without_secrets(json.loads(json.dumps(data, default=str)))
    return plain


def _selection(spec: DatasetSpec) -> dict[str, Any]:
    columns = {
        item.name: {"column": column.column, **({"split": column.split} if column.split is not None else {})}
        for item in dataclasses.fields(spec.columns)
        if (column := getattr(spec.columns, item.name)) is not None
    }
    return {"columns": columns, "where": dict(spec.where), "shuffle": spec.shuffle, "limit": spec.limit}


def _target(target: PlannedTarget, spec: TargetSpec, folder: Path) -> dict[str, Any]:
    if spec.type is None:
        return {
            "model": target.model,
            "host": target.host,
            "params": dict(target.params),
            "prompt": None if target.prompt is None else _prompt(target.prompt),
        }
    options = dict(spec.options)
    if isinstance(target.call, RecordedRun):
        options["run"] = target.call.run  # `last` would be another one by the time the run goes on
    return {
        "type": spec.type,
        "options": options,
        "args": dict(spec.args),
        "files": _files([spec.type, *_texts(spec.options)], folder),
        **({} if target.model is None else {"model": target.model}),  # the version that an alias meant
    }


def _prompt(prompt: Prompt) -> list[dict[str, str]] | None:
    """The templates, one mapping of role to text for each message; None where samples are asked as they are."""
    return None if prompt.parts is None else [{role: template} for role, template in prompt.parts]


def _scorer(scorer: PlannedScorer, folder: Path) -> dict[str, Any]:
    spec, declaration = scorer.spec, scorer.bound.scorer.declaration
    reference = spec.type if ":" in spec.type else known_names("scorers").get(spec.type, spec.type)
    own = [] if reference.startswith("evalrunner.") else [reference]  # our own say by their version that they changed
    return {
        "type": spec.type,
        "options": dict(spec.options),
        "args": dict(spec.args),
        "version": declaration.version,
        "backend": declaration.backend,
        "on_no_answer": scorer.bound.on_no_answer,
        "judge": None if scorer.judge is None else _judge(scorer.judge),
        "files": _files([*own, *_texts(spec.options)], folder),
    }


def _judge(session: JudgeSession) -> dict[str, Any]:
    return {
        "name": session.name,
        "model": session.model,
        "host": session.host,
        "params": dict(session.params),
        "judge_check": session.mode,
    }


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in options.values() if isinstance(value, str))


def _files(references: Iterable[str], folder: Path) -> dict[str, str]:
    """The sha256 of each file that a `path/file.py:name` or an imported `package.module:name` leads to."""
    found: dict[str, str] = {}
    for reference in references:
        location, colon, name = reference.rpartition(":")
        if not colon or not name.replace(".", "_").isidentifier():
            continue
        file = folder / location if location.endswith(".py") else _file_of_module(location)
        try:
            if file is not None:
                found[location] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError:
            continue  # no file after all, or none that can be read
    return found


def _file_of_module(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file is not None else None
