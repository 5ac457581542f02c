"""Evals of OpenAI's hosted product, as its API returned them: evals, runs and output items in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.openai_graders import Check, check_of
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import json_lines, message_text, read_records, slug, text_of, unread, unreadable
from evalrunner.storage import dump_json

EVAL: Final = frozenset({
    "object", "id", "name", "data_source_config", "testing_criteria", "metadata", "created_at", "share_with_openai",
    "runs", "output_items", "data", "modified_at", "created_by", "modified_by", "is_template", "version",
})  # fmt: skip
RUN: Final = frozenset({
    "object", "id", "name", "eval_id", "data_source", "model", "status", "created_at", "metadata", "error", "report_url",
    "result_counts", "per_model_usage", "per_testing_criteria_results", "output_items", "share_with_openai",
    "modified_at", "created_by",
})  # fmt: skip
MAX_OBJECTS: Final = 2_000_000
PARAMS: Final = {
    "max_completions_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_tokens": "max_tokens",
}


@dataclass
class Export:
    """Everything in an export by its kind, with the place of each."""

    evals: list[tuple[Place, dict[str, Any]]] = field(default_factory=list)
    runs: list[tuple[Place, dict[str, Any], str]] = field(default_factory=list)  # with the id of the eval around it
    items: list[tuple[Place, dict[str, Any], str]] = field(default_factory=list)  # with the id of the run around it
    data: list[tuple[Place, dict[str, Any]]] = field(default_factory=list)  # rows of data files: {item: …}


def read_export(source: Path) -> Export:
    """The objects in a file, or in all JSON files of a folder. Raises SuiteError."""
    paths = sorted(path for path in source.glob("*.json*") if path.is_file()) if source.is_dir() else [source]
    if not paths:
        raise unreadable(source, "has no .json or .jsonl file in it")
    export = Export()
    for path in paths:
        for index, (line, record) in enumerate(read_records(path)):
            _collect(record, Place(path.name, line, "" if line else f"[{index}]"), export, "", "")
    return export


def _collect(value: Any, place: Place, export: Export, eval_id: str, run_id: str) -> None:
    """Add the objects in a value; runs and items inside of another object belong to it."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _collect(item, Place(place.file, place.line, f"{place.path}[{index}]"), export, eval_id, run_id)
        return
    if not isinstance(value, dict):
        return
    kind = value.get("object")
    if kind == "eval" or ("testing_criteria" in value and kind is None):
        eval_id = text_of(value.get("id")) or f"eval-{len(export.evals)}"
        export.evals.append((place, value | {"id": eval_id}))
    elif kind == "eval.run":
        run_id = text_of(value.get("id")) or f"run-{len(export.runs)}"
        export.runs.append((place, value | {"id": run_id}, text_of(value.get("eval_id")) or eval_id))
    elif kind == "eval.run.output_item":
        export.items.append((place, value, text_of(value.get("run_id")) or run_id))
        return
    elif isinstance(value.get("item"), dict) and kind is None:
        export.data.append((place, value))
        return
    for key in ("eval", "evals", "data", "runs", "output_items"):
        if isinstance(value.get(key), list | dict):
            step = f"{place.path}.{key}" if place.path else key
            _collect(value[key], Place(place.file, place.line, step), export, eval_id, run_id)


def import_project(source: Path, migration: Migration) -> Project:
    """An export of hosted evals, or a file or folder of the open-source registry. Raises SuiteError."""
    registry = source.suffix.lower() in (".yaml", ".yml") or (source.is_dir() and not any(source.glob("*.json*")))
    if registry:
        from evalrunner.imports import openai_registry

        return openai_registry.import_project(source, migration)
    export = read_export(source)
    if not export.evals:
        raise unreadable(source, "has no eval in it: an object with 'testing_criteria'; export the eval itself too")
    project = Project()
    known = {value["id"] for _, value in export.evals}
    for place, value in export.evals:
        _Eval(place, value, export, project, migration).translate()
    for place, run, eval_id in export.runs:
        if eval_id not in known and len(known) > 1:
            migration.left(place, f"run {run['id']}", f"its eval {eval_id!r} is not in the export")
    return project


class _Eval:
    """One eval to a suite that asks the model, and one for the recorded answers of each run."""

    def __init__(
        self, place: Place, value: dict[str, Any], export: Export, project: Project, migration: Migration
    ) -> None:
        self.place, self.value, self.export, self.project, self.migration = place, value, export, project, migration
        taken = {suite.name.partition(".eval.")[0] for suite in project.suites}
        self.name = slug(value.get("name") or value["id"], "eval", taken=taken).lower().replace(".", "-")
        only = sum(1 for _ in export.evals) == 1
        self.runs = [(at, run) for at, run, eval_id in export.runs if only or eval_id == value["id"]]
        self.checks: list[Check] = []

    def at(self, path: str) -> Place:
        """A place in the eval."""
        return Place(self.place.file, self.place.line, f"{self.place.path}.{path}" if self.place.path else path)

    def translate(self) -> None:
        """Add the suites, and report what became of every part."""
        criteria = self.value.get("testing_criteria")
        names: list[str] = []
        for index, criterion in enumerate(criteria if isinstance(criteria, list) else []):
            place = self.at(f"testing_criteria[{index}]")
            if isinstance(criterion, dict):
                check = check_of(criterion, place, names, self.project, self.migration)
                names.append(check.name)
                self.checks.append(check)
            else:
                self.migration.left(place, text_of(criterion)[:60], "a criterion is an object")
        if not self.checks:
            self.migration.left(
                self.at("testing_criteria"), "testing_criteria", "has no criterion; there is nothing to check"
            )
            return
        for place, run in self.runs:
            self._add_run(place, run)
        self._add_live()
        self._report_rest()

    def _items(self, run: Mapping[str, Any]) -> list[tuple[Place, dict[str, Any]]]:
        only = len(self.export.runs) == 1
        return [
            (place, item) for place, item, run_id in self.export.items if run_id == run["id"] or (only and not run_id)
        ]

    def _add_run(self, place: Place, run: dict[str, Any]) -> None:
        """A suite over the recorded answers of a run."""
        rows, failed = [], 0
        for at, item in self._items(run):
            given = item.get("sample")
            sample: dict[str, Any] = given if isinstance(given, dict) else {}
            if sample.get("error"):
                failed += 1
                continue
            rows.append(self._row(item, sample) | {"results": self._results(item, at)})
        for odd, key in unread(place, run, RUN):
            self.migration.left(odd, key, "unknown key")
        if failed:
            self.migration.left(place, f"{failed} items of run {run['id']}", "ended in an error and have no answer")
        if not rows:
            self.migration.left(
                place, f"run {run['id']}", "has no output items in the export; download them to carry its answers"
            )
            return
        taken = {suite.name.removesuffix(".eval.yaml") for suite in self.project.suites}
        name = (
            slug(f"{self.name}-{text_of(run.get('name') or run.get('model') or 'run')}", "run", taken=taken)
            .lower()
            .replace(".", "-")
        )
        self.project.files[f"data/{name}.jsonl"] = json_lines(rows)
        model = text_of(run.get("model"))
        suite = {
            "name": name,
            "description": f"Recorded answers of the run {run['id']}" + (f", model {model}." if model else "."),
            "dataset": f"data/{name}.jsonl",
            "target": {"type": "recorded", "name": slug(model, "answers"), "column": "output"},
            "on_no_answer": "zero",
            "checks": [check.recorded for check in self.checks],
        }
        self.project.suites.append(SuiteFile(f"{name}.eval.yaml", suite))
        self.migration.carried(place, f"run {run['id']}: {len(rows):,} answers", f"data/{name}.jsonl")

    def _row(self, item: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
        given = item.get("datasource_item")
        given = given if isinstance(given, dict) else {}
        given = given["item"] if isinstance(given.get("item"), dict) else given
        row = {
            "id": text_of(
                item["id"]
                if item.get("datasource_item_id") is None and "id" in item
                else item.get("datasource_item_id")
            ),
            "input": _input_of(sample, given),
            "item": given,
        }
        return row | {"output": _output_of(sample)}

    def _results(self, item: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """The recorded score and verdict of each check, by its name; 0 or 1 where only the verdict is known."""
        found: dict[str, Any] = {}
        results = (
            [result for result in item.get("results") or [] if isinstance(result, dict)]
            if isinstance(item.get("results"), list)
            else []
        )
        for check in self.checks:
            result = next((item for item in results if text_of(item.get("name")) == check.title), None) or next(
                (item for item in results if text_of(item.get("name")).startswith(check.title + "-")), None
            )
            passed = result.get("passed") if result else None
            found[check.name] = (
                None
                if not isinstance(passed, bool)
                else {"passed": passed, "score": result.get("score") if result else None}
            )
        return {name: result for name, result in found.items() if result is not None} | {
            name: {"passed": None, "score": None} for name, result in found.items() if result is None
        }

    def _add_live(self) -> None:
        """The suite that asks the model of the first run with a prompt, on the items of the export."""
        rows = [
            {"id": str(index), "input": _input_of({}, row["item"]), "item": row["item"]}
            for index, (_, row) in enumerate(self.export.data)
        ]
        source: dict[str, Any] = {}
        place, model = self.place, ""
        for at, run in self.runs:
            given = run.get("data_source")
            if isinstance(given, dict) and (not source or not source.get("input_messages")):
                source, place = given, Place(at.file, at.line, f"{at.path}.data_source" if at.path else "data_source")
                model = text_of(given.get("model") or run.get("model"))
            if not rows:
                rows = list(
                    {
                        row["id"]: {key: row[key] for key in ("id", "input", "item")} for row in self._live_rows(run)
                    }.values()
                )
        if not rows:
            self.migration.left(
                self.at("data_source_config"), "the items",
                'are not in the export; put them as {"item": {…}} lines into a .jsonl file of a folder with the export, and import that',
            )  # fmt: skip
            return
        self.project.files[f"data/{self.name}.jsonl"] = json_lines(rows)
        suite: dict[str, Any] = {"name": self.name, "dataset": f"data/{self.name}.jsonl"}
        suite["prompt"] = self._prompt(source, place)
        suite["target"] = f"openai/{model}" if model and "/" not in model else model or "openai/gpt-5.4-mini"
        if not model:
            self.migration.changed(
                place,
                "the model, which the export does not name",
                f"{self.name}.eval.yaml: target",
                "it is an example; set yours",
            )
        params = self._params(source, place)
        if params:
            suite["params"] = params
        suite["on_no_answer"] = "zero"
        suite["checks"] = [check.live for check in self.checks]
        if any("judge" in check.live for check in self.checks):
            suite["judge_check"] = "off"
        self.project.suites.append(SuiteFile(f"{self.name}.eval.yaml", suite))
        self.migration.carried(self.at("data_source_config"), f"{len(rows):,} items", f"data/{self.name}.jsonl")

    def _live_rows(self, run: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for _, item in self._items(run):
            yield self._row(item, {})
        source = run.get("data_source")
        inner = source.get("source") if isinstance(source, dict) else None
        content = inner.get("content") if isinstance(inner, dict) else None
        for index, row in enumerate(content if isinstance(content, list) else []):
            if isinstance(row, dict) and isinstance(row.get("item"), dict):
                yield {"id": str(index), "input": _input_of({}, row["item"]), "item": row["item"]}

    def _prompt(self, source: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
        given = source.get("input_messages")
        template = given.get("template") if isinstance(given, dict) else None
        messages = []
        for item in template if isinstance(template, list) else []:
            if isinstance(item, dict):
                role = text_of(item.get("role"))
                role = role if role in ("system", "developer", "user", "assistant") else "user"
                messages.append({role: message_text(item.get("content"))})
        if messages:
            self.migration.carried(place, "input_messages", f"{self.name}.eval.yaml: prompt")
            return messages
        self.migration.left(
            place, "the prompt", f"is not in the export; write it in {self.name}.eval.yaml, which sends the input"
        )
        return [{"user": "{{ input }}"}]

    def _params(self, source: Mapping[str, Any], place: Place) -> dict[str, Any]:
        params: dict[str, Any] = {}
        given = source.get("sampling_params")
        for key, value in given.items() if isinstance(given, dict) else ():
            if value is None:
                continue
            if key in ("temperature", "top_p", "seed", "reasoning_effort", *PARAMS) and isinstance(
                value, int | float | str
            ):
                params[PARAMS.get(key, text_of(key))] = value
                self.migration.carried(place, f"sampling_params.{key}", f"params.{PARAMS.get(key, key)}")
            else:
                self.migration.left(place, f"sampling_params.{key}", "write it under params if your provider takes it")
        return params

    def _report_rest(self) -> None:
        config = self.value.get("data_source_config")
        if isinstance(config, dict) and config.get("type") not in ("custom", None):
            self.migration.changed(self.at("data_source_config.type"), text_of(config["type"]), "dataset",
                                   "stored completions and logs are not read; the items of the export are")  # fmt: skip
        if self.value.get("metadata"):
            self.migration.changed(self.at("metadata"), text_of(self.value["metadata"])[:60], "", "stays in the export")
        for odd, key in unread(self.place, self.value, EVAL):
            self.migration.left(odd, key, "unknown key")


def _output_of(sample: Mapping[str, Any]) -> str:
    """The text of the model's answer: of the last message with one."""
    output = sample.get("output")
    messages = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    texts = [message_text(item.get("content")) for item in messages if item.get("content")]
    return texts[-1] if texts else text_of(sample.get("output_text")) if not messages else ""


def _input_of(sample: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    """What the model was asked: the last message of the user, or the first text of the item."""
    given = sample.get("input")
    messages = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
    asked = [message_text(entry.get("content")) for entry in messages if entry.get("role") == "user"]
    if asked and asked[-1]:
        return asked[-1]
    texts = [
        value for key in ("input", "question", "prompt", "query", "text") if isinstance(value := item.get(key), str)
    ]
    return (
        texts[0] if texts else next((value for value in item.values() if isinstance(value, str)), dump_json(dict(item)))
    )
