"""Answers of `promptfoo eval -o out.json` as recorded runs to compare with: one target for each provider and prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import json_lines, kind, read_json, slug, text_of, unreadable

RESULT: Final = frozenset({
    "cost", "error", "failureReason", "gradingResult", "id", "latencyMs", "namedScores", "prompt", "promptId", "promptIdx",
    "provider", "response", "score", "success", "testCase", "testIdx", "tokenUsage", "vars", "metadata", "description",
})  # fmt: skip


def import_project(source: Path, migration: Migration) -> Project:
    """The answers and verdicts of a result file. Raises SuiteError if it is not one."""
    data = read_json(source)
    found = data.get("results") if isinstance(data, dict) else None
    results = found.get("results") if isinstance(found, dict) else found
    path = "results.results" if isinstance(found, dict) else "results"
    if not isinstance(results, list) or not results:
        raise unreadable(source, f"has no results: {path} is {kind(results)}; write it with promptfoo eval -o out.json")
    rows: dict[str, list[dict[str, Any]]] = {}
    unknown: set[str] = set()
    failed = 0
    for index, result in enumerate(results):
        if not isinstance(result, dict):
            migration.left(Place(source.name, None, f"{path}[{index}]"), kind(result), "is no result")
            continue
        unknown |= {key for key in result if key not in RESULT}
        response = result.get("response")
        output = response.get("output") if isinstance(response, dict) else None
        if output is None:
            failed += 1
            continue
        rows.setdefault(_target(result), []).append(_row(result, text_of(output), index))
    if not rows:
        raise unreadable(source, "has no result with an answer")
    project = Project()
    stem = slug(source.stem, "promptfoo").lower().replace(".", "-")
    for target, items in rows.items():
        _add_suite(project, stem, target, items, migration, Place(source.name, None, path))
    if failed:
        migration.left(
            Place(source.name, None, path),
            f"{failed} results without an answer",
            "the call failed; there is nothing to score",
        )
    for key in sorted(unknown):
        migration.left(Place(source.name, None, f"{path}[].{key}"), key, "unknown key")
    for key in data:
        if key != "results":
            migration.changed(
                Place(source.name, None, str(key)),
                str(key),
                "",
                "stays in the file; evalrun import promptfoo reads the configuration",
            )
    return project


def _add_suite(
    project: Project, stem: str, target: str, items: list[dict[str, Any]], migration: Migration, place: Place
) -> None:
    taken = {suite.name.removesuffix(".eval.yaml") for suite in project.suites}
    name = slug(f"{stem}-{target}", stem, taken=taken).lower().replace(".", "-")
    _number_repeats(items)
    metrics = dict.fromkeys(key for row in items for key in row["named"])
    project.files[f"data/{name}.jsonl"] = json_lines(items)
    suite = {
        "name": name,
        "description": f"Recorded answers and verdicts of {target}.",
        "dataset": f"data/{name}.jsonl",
        "target": {"type": "recorded", "name": slug(target, "answers"), "column": "output"},
        "scorers": [
            {"type": "column", "name": "success", "column": "success", "low": 0, "high": 1},
            {"type": "column", "name": "score", "column": "score"},
            *({"type": "column", "name": f"named-{key}", "column": f"named.{key}"} for key in metrics),
        ],
    }
    project.suites.append(SuiteFile(f"{name}.eval.yaml", suite))
    migration.carried(place, f"{len(items):,} answers and verdicts of {target}", f"data/{name}.jsonl")


def _target(result: Mapping[str, Any]) -> str:
    """Provider, and prompt where the file has its number."""
    provider = result.get("provider")
    label = (provider.get("label") or provider.get("id")) if isinstance(provider, dict) else provider
    number = result.get("promptIdx")
    return text_of(label) + (f"-prompt{number + 1}" if isinstance(number, int) and not isinstance(number, bool) else "")


def _row(result: Mapping[str, Any], output: str, index: int) -> dict[str, Any]:
    variables = _mapping(result.get("vars"))
    prompt = result.get("prompt")
    asked = prompt.get("raw") if isinstance(prompt, dict) else prompt
    named = _mapping(result.get("namedScores"))
    score = result.get("score")
    test = result.get("testIdx")
    return {
        "id": text_of(test if test is not None else index),
        "input": text_of(asked) or text_of(variables),
        "vars": variables,
        "output": output,
        "success": bool(result.get("success")),
        "score": score if isinstance(score, int | float) else None,
        "named": {
            slug(key, "score").replace(".", "_"): value
            for key, value in named.items()
            if isinstance(value, int | float)
        },
        "reasons": _reasons(result.get("gradingResult")),
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _reasons(grading: Any) -> list[dict[str, Any]]:
    """Type, verdict and reason of each assertion."""
    parts = grading.get("componentResults") if isinstance(grading, dict) else None
    reasons = []
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict):
            assertion = part.get("assertion")
            kind_of = assertion.get("type") if isinstance(assertion, dict) else None
            reasons.append(
                {"type": kind_of, "pass": part.get("pass"), "score": part.get("score"), "reason": part.get("reason")}
            )
    return reasons


def _number_repeats(items: list[dict[str, Any]]) -> None:
    """Make the ids of repeated tests different: `3`, `3#2`."""
    seen: dict[str, int] = {}
    for row in items:
        seen[row["id"]] = seen.get(row["id"], 0) + 1
        if seen[row["id"]] > 1:
            row["id"] = f"{row['id']}#{seen[row['id']]}"
        row["named"] = dict(row["named"])
    keys = {key for row in items for key in row["named"]}
    for row in items:
        row["named"] = {key: row["named"].get(key) for key in sorted(keys)}
