"""Logs of Inspect (`.eval`, `.json`) as recorded answers with their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import SuiteError
from evalrunner.imports.eval_archive import EvalArchive
from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import json_lines, kind, message_text, read_json, slug, text_of, unread, unreadable
from evalrunner.storage import load_json

HEADER: Final = frozenset({
    "version", "status", "eval", "plan", "results", "stats", "error", "invalidated", "tags", "metadata", "samples",
    "reductions", "location", "etag", "log_updates",
})  # fmt: skip
SAMPLE: Final = frozenset({
    "id", "epoch", "input", "choices", "target", "scores", "metadata", "output", "messages", "error", "uuid", "store",
    "events", "events_data", "attachments", "model_usage", "role_usage", "started_at", "completed_at", "total_time",
    "working_time", "error_retries", "turn_count", "sandbox", "files", "setup", "limit", "invalidation", "timelines",
})  # fmt: skip
WORDS: Final = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What Inspect's `value_to_float` makes of texts, as its metrics use it."""


class Log:
    """One log: its header, its samples one by one, and the scores of its samples after reducing epochs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive: EvalArchive | None = None
        if path.suffix.lower() == ".json":
            self.header = self._mapping(read_json(path), "log")
            return
        self.archive = EvalArchive(path)
        try:
            self.header = self._header(self.archive)
        except SuiteError:
            self.archive.close()
            raise

    def _header(self, archive: EvalArchive) -> dict[str, Any]:
        """The header; of a log that did not finish, what it began with."""
        self.complete = "header.json" in archive.names
        if not self.complete and "_journal/start.json" not in archive.names:
            raise unreadable(self.path, "has no header.json in it; it is no .eval log of Inspect")
        return self._mapping(archive.json("header.json" if self.complete else "_journal/start.json"), "log")

    complete: bool = True

    def _mapping(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise unreadable(self.path, f"its {what} is {kind(value)}, not an object")
        return value

    def samples(self) -> Iterator[dict[str, Any]]:
        """The samples in the order of the log, with the texts that it keeps apart put back."""
        if self.archive is None:
            items = self.header.get("samples")
            for item in items if isinstance(items, list) else []:
                yield _with_attachments(self._mapping(item, "sample"))
            return
        for name in self.archive.names:
            if name.startswith("samples/") and name.endswith(".json"):
                yield _with_attachments(self._mapping(self.archive.json(name), f"sample {name!r}"))

    def reductions(self) -> list[dict[str, Any]]:
        """The scores of the samples by scorer and reducer."""
        if self.archive is None:
            value = self.header.get("reductions")
        else:
            value = self.archive.json("reductions.json") if "reductions.json" in self.archive.names else None
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _with_attachments(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample with `attachment://…` replaced in what is carried."""
    kept = sample.get("attachments")
    if not isinstance(kept, dict) or not kept:
        return sample

    def resolve(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("attachment://"):
            return text_of(kept.get(value.removeprefix("attachment://"), value))
        if isinstance(value, list):
            return [resolve(item) for item in value]
        return {key: resolve(item) for key, item in value.items()} if isinstance(value, dict) else value

    carried = ("input", "target", "choices", "output", "scores", "metadata")
    return sample | {key: resolve(sample[key]) for key in carried if key in sample}


def import_project(source: Path, migration: Migration) -> Project:
    """A log, a folder of logs, or an `eval.yaml` as suites. Raises SuiteError if it cannot be read."""
    if source.suffix.lower() in (".yaml", ".yml"):
        from evalrunner.imports import inspect_task

        return inspect_task.import_project(source, migration)
    project = Project()
    if not source.is_dir():
        _import_log(source, migration, project)
        return project
    logs = sorted(path for path in source.iterdir() if path.suffix.lower() in (".eval", ".json") and path.is_file())
    if not logs:
        raise unreadable(source, "has no .eval or .json log in it")
    for path in logs:
        _import_log(path, migration, project)
    return project


def _import_log(path: Path, migration: Migration, project: Project) -> None:
    log = Log(path)
    try:
        _Translation(log, migration, project).translate()
    finally:
        if log.archive is not None:
            log.archive.close()


class _Translation:
    """One log to its suite and data."""

    def __init__(self, log: Log, migration: Migration, project: Project) -> None:
        self.log, self.migration, self.project = log, migration, project
        self.file = log.path.name
        about = log.header.get("eval")
        self.about: dict[str, Any] = about if isinstance(about, dict) else {}
        names = {suite.name.partition(".")[0] for suite in project.suites}
        self.name = slug(text_of(self.about.get("task")).replace(".", "-"), "inspect", taken=names).lower()
        self.columns: dict[str, str] = {}  # score of the log to its column
        self.odd: Counter[str] = Counter()

    def place(self, path: str) -> Place:
        """A place in the log."""
        return Place(self.file, None, path)

    def translate(self) -> None:
        """Write the data and the suites, and report what became of every part."""
        epochs, rows, failed = 0, [], []
        for sample in self.log.samples():
            epochs = max(epochs, sample["epoch"] if isinstance(sample.get("epoch"), int) else 1)
            if sample.get("error"):
                failed.append(f"{text_of(sample.get('id'))} (epoch {sample.get('epoch', 1)})")
            else:
                rows.append(self._row(sample))
            for _, key in unread(self.place(""), sample, SAMPLE):
                self.odd[f"samples[].{key}"] += 1
        if not rows:
            raise unreadable(self.log.path, "has no finished sample in it; nothing can be recorded")
        for row in rows:
            row["id"] = f"{row['sample']}#{row['epoch']}" if epochs > 1 else row["sample"]
            row["scores"] = {column: row["scores"].get(column) for column in self.columns.values()}
        self.project.files[f"{self.name}.jsonl"] = json_lines(rows)
        self.project.suites.append(self._suite(self.name, epochs))
        self._report(len(rows), failed)
        self._add_reductions()

    def _row(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        given, target = sample.get("input"), sample.get("target")
        row: dict[str, Any] = {
            "id": "",
            "sample": text_of(sample.get("id")),
            "epoch": sample["epoch"] if isinstance(sample.get("epoch"), int) else 1,
            "input": _question(given),
        }
        if isinstance(given, list):
            row["messages"] = [
                {"role": text_of(item.get("role")), "content": message_text(item.get("content"))}
                for item in given
                if isinstance(item, dict)
            ]
        if target not in (None, "", []):
            row["expected"] = [text_of(item) for item in target] if isinstance(target, list) else text_of(target)
        if isinstance(sample.get("choices"), list):
            row["choices"] = [text_of(choice) for choice in sample["choices"]]
        row["output"] = completion_of(sample)
        row["scores"], row["explanations"] = self._scores(sample.get("scores"))
        if sample.get("metadata"):
            row["sample_metadata"] = sample["metadata"]
        return row

    def _scores(self, scores: Any) -> tuple[dict[str, float | None], dict[str, str]]:
        values: dict[str, float | None] = {}
        reasons: dict[str, str] = {}
        for name, score in flat_scores(scores):
            column = self.columns.setdefault(name, slug(name, "score", taken=self.columns.values()).replace(".", "_"))
            number = number_of(score["value"])
            if number is None and score["value"] is not None:
                self.odd[
                    f"samples[].scores.{name}: a value that is no number, such as {text_of(score['value'])[:40]!r}"
                ] += 1
            values[column] = number
            if score["explanation"]:
                reasons[column] = score["explanation"]
        return values, reasons

    def _suite(self, name: str, epochs: int) -> SuiteFile:
        dataset: dict[str, Any] = {"path": f"{name}.jsonl"}
        if epochs > 1:
            dataset["cluster"] = "sample"
        model = slug(self.about.get("model"), "answers").replace("/", "-")
        return SuiteFile(f"{name}.eval.yaml", {
            "name": name,
            "description": f"Recorded answers of {text_of(self.about.get('model')) or 'a model'}, from a log of Inspect.",
            "dataset": dataset,
            "target": {"type": "recorded", "name": model, "column": "output"},
            "scorers": [
                {"type": "column", "name": column, "column": f"scores.{column}", **self._range(column)}
                for column in self.columns.values()
            ],
        })  # fmt: skip

    def _range(self, column: str) -> dict[str, float]:
        """0 to 1 where all scores of the log are in it, so that intervals and gates know the worst score."""
        text = self.project.files[f"{self.name}.jsonl"]
        values = [load_json(line.encode())["scores"][column] for line in str(text).splitlines()]
        return {"low": 0, "high": 1} if all(value is None or 0 <= value <= 1 for value in values) else {}

    def _report(self, rows: int, failed: list[str]) -> None:
        data, suite = f"{self.name}.jsonl", f"{self.name}.eval.yaml"
        carried, changed, left = self.migration.carried, self.migration.changed, self.migration.left
        carried(self.place("samples"), f"{rows:,} answers with input, target and metadata", data)
        for name, column in self.columns.items():
            carried(self.place(f"samples[].scores.{name}"), f"scores of {name!r}", f"{suite}: scorers.{column}")
        if failed:
            shown = ", ".join(failed[:5]) + (", …" if len(failed) > 5 else "")
            left(self.place("samples"), f"{len(failed)} samples that ended in an error", f"have no answer: {shown}")
        if not self.log.complete or self.log.header.get("status") not in (None, "success"):
            status = text_of(self.log.header.get("status")) or "unfinished"
            left(self.place("status"), f"a log with the status {status!r}", "samples that did not run are not in it")
        changed(self.place("plan"), "solvers and generation settings", f"{suite}: target",
                "answers are recorded and not generated again; set a model as `target` and a `prompt` to ask one")  # fmt: skip
        changed(self.place("samples[]"), "transcripts, events, stores, usage and times", "", "stay in the log")
        changed(
            self.place("eval"), "provenance: packages, revision, arguments", f"{suite}: description", "stays in the log"
        )
        for place, key in unread(self.place(""), self.log.header, HEADER):
            left(place, key, "unknown key")
        for what, count in self.odd.items():
            key, _, value = what.partition(": ")
            left(self.place(key), f"{value or 'unknown key'} ({count} times)", "not carried")

    def _add_reductions(self) -> None:
        """A suite for each way in which the log reduces epochs, other than the mean, which `cluster` gives."""
        by_reducer: dict[str, dict[str, dict[str, Any]]] = {}
        for item in self.log.reductions():
            reducer, scorer = text_of(item.get("reducer")), text_of(item.get("scorer"))
            if not reducer or reducer == "mean" or not isinstance(item.get("samples"), list):
                continue
            rows = by_reducer.setdefault(reducer, {})
            for sample in item["samples"]:
                if isinstance(sample, dict):
                    key = text_of(sample.get("sample_id"))
                    row = rows.setdefault(key, {"id": key, "input": key, "output": "(epochs reduced)", "scores": {}})
                    for name, score in flat_scores({scorer: sample}):
                        if name in self.columns:
                            row["scores"][self.columns[name]] = number_of(score["value"])
        for reducer, rows in by_reducer.items():
            name = f"{self.name}-{slug(reducer, 'reduced')}"
            for row in rows.values():
                row["scores"] = {column: row["scores"].get(column) for column in self.columns.values()}
            self.project.files[f"{name}.jsonl"] = json_lines(rows.values())
            suite = self._suite(name, 1)
            self.project.suites.append(suite)
            self.migration.carried(self.place("reductions"), f"scores by the reducer {reducer!r}", suite.name)


def completion_of(sample: Mapping[str, Any]) -> str:
    """The answer that Inspect scored: the completion of the output."""
    output = sample.get("output")
    if not isinstance(output, dict):
        return ""
    if isinstance(output.get("completion"), str):
        return str(output["completion"])
    choices = output.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = first.get("message")
    return message_text(message.get("content")) if isinstance(message, dict) else ""


def _question(given: Any) -> str:
    """The input of a sample as text: of messages, that of the last one of the user."""
    if not isinstance(given, list):
        return text_of(given)
    users = [item for item in given if isinstance(item, dict) and item.get("role") == "user"]
    return message_text(users[-1].get("content")) if users else ""


def flat_scores(scores: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name, value and explanation of each score; those of a scorer with several are `SCORER_KEY`."""
    for name, score in scores.items() if isinstance(scores, dict) else ():
        if not isinstance(score, dict):
            continue
        value, reason = score.get("value"), text_of(score.get("explanation"))
        parts = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else None
        if parts is None:
            yield str(name), {"value": value, "explanation": reason}
        else:
            for key, part in parts.items():
                yield f"{name}_{key}", {"value": part, "explanation": reason}


def number_of(value: Any) -> float | None:
    """A score as Inspect's metrics count it; None if it is no number."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        if value in WORDS or value.lower() in WORDS:
            return WORDS.get(value, WORDS.get(value.lower()))
        try:
            number = float(value)
        except ValueError:
            return None
        return number if abs(number) < float("inf") else None
    return None
