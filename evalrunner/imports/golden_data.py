"""Datasets of deepeval, ragas, Langfuse and Braintrust as suites over JSON Lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import SuiteError
from evalrunner.example_models import HOSTED
from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import json_lines, message_text, parse_json, read_records, slug, text_of, unreadable

ROLES: Final = ("system", "user", "assistant", "developer")


@dataclass(frozen=True)
class Form:
    """The columns of a tool's dataset: old name to the column here; None is left out on purpose, with the reason."""

    tool: str
    columns: Mapping[str, str]
    dropped: Mapping[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    records: tuple[str, ...] = ("items", "data", "goldens", "samples", "rows", "events")
    input_keys: tuple[str, ...] = ("input", "question", "query", "prompt", "text", "user_input")
    answer_keys: tuple[str, ...] = ("answer", "output", "expected", "expected_output", "text", "label")


DEEPEVAL: Final = Form(
    "deepeval",
    {
        "input": "input", "expected_output": "expected", "expectedOutput": "expected", "actual_output": "output",
        "actualOutput": "output", "context": "context", "retrieval_context": "retrieval_context",
        "retrievalContext": "retrieval_context", "tools_called": "tools_called", "toolsCalled": "tools_called",
        "expected_tools": "expected_tools", "expectedTools": "expected_tools", "additional_metadata": "about",
        "additionalMetadata": "about", "source_file": "source_file", "sourceFile": "source_file", "name": "name",
        "comments": "comments", "custom_column_key_values": "custom", "customColumnKeyValues": "custom",
        "tags": "tags", "id": "id",
    },
    lists=("context", "retrieval_context"),
)  # fmt: skip
RAGAS: Final = Form(
    "ragas",
    {
        "user_input": "input", "question": "input", "response": "output", "answer": "output", "reference": "expected",
        "ground_truth": "expected", "ground_truths": "expected", "retrieved_contexts": "retrieval_context",
        "contexts": "retrieval_context", "reference_contexts": "context", "rubrics": "rubrics", "rubric": "rubrics",
        "multi_responses": "multi_responses", "reference_tool_calls": "expected_tools", "synthesizer_name": "synthesizer",
        "persona_name": "persona", "query_style": "query_style", "query_length": "query_length", "id": "id",
        "retrieved_context_ids": "retrieved_ids", "reference_context_ids": "reference_ids", "episode_done": "episode_done",
        "evolution_type": "evolution_type", "metadata": "about",
    },
    lists=("context", "retrieval_context", "expected"),
)  # fmt: skip
LANGFUSE: Final = Form(
    "langfuse",
    {
        "id": "id", "input": "input", "expectedOutput": "expected", "expected_output": "expected", "metadata": "about",
        "status": "status",
    },
    dict.fromkeys(
        ("datasetId", "dataset_id", "datasetName", "dataset_name", "createdAt", "created_at", "updatedAt", "updated_at",
         "sourceTraceId", "source_trace_id", "sourceObservationId", "source_observation_id", "projectId", "project_id",
         "validFrom", "valid_from", "htmlSourcePath", "media", "mediaReferences"),
        "belongs to the project in Langfuse",
    ),
)  # fmt: skip
BRAINTRUST: Final = Form(
    "braintrust",
    {"id": "id", "input": "input", "expected": "expected", "output": "output", "metadata": "about", "tags": "tags", "scores": "scores"},
    dict.fromkeys(
        ("_xact_id", "_pagination_key", "created", "project_id", "dataset_id", "experiment_id", "span_id", "root_span_id",
         "is_root", "origin", "comments", "audit_data", "org_id", "log_id", "classifications", "facets", "span_parents",
         "span_attributes", "context", "metrics", "error"),
        "belongs to the project in Braintrust",
    ),
)  # fmt: skip


def import_deepeval(source: Path, migration: Migration) -> Project:
    """Goldens and test cases of deepeval: JSON, CSV or JSON Lines."""
    return _import(source, DEEPEVAL, migration)


def import_ragas(source: Path, migration: Migration) -> Project:
    """An evaluation dataset or test set of ragas: JSON, CSV or JSON Lines."""
    return _import(source, RAGAS, migration)


def import_langfuse(source: Path, migration: Migration) -> Project:
    """The items of a dataset of Langfuse: JSON, CSV or JSON Lines."""
    return _import(source, LANGFUSE, migration)


def import_braintrust(source: Path, migration: Migration) -> Project:
    """A dataset, or an experiment, of Braintrust: JSON, CSV or JSON Lines."""
    return _import(source, BRAINTRUST, migration)


def _import(source: Path, form: Form, migration: Migration) -> Project:
    records = read_records(source, keys=form.records)
    if not records:
        raise unreadable(source, "has no records")
    if not any(old in record for _, record in records for old, new in form.columns.items() if new == "input"):
        known = ", ".join(old for old, new in form.columns.items() if new == "input")
        raise unreadable(source, f"has no column {known}; is it a dataset of {form.tool}?")
    rows: list[dict[str, Any]] = []
    empty, archived = [], []
    for number, (line, record) in enumerate(records):
        row = _row(record, form)
        where = Place(source.name, line, "" if line else f"[{number}]")
        if not row.get("input"):
            empty.append(where)
        elif text_of(row.get("status")).upper() == "ARCHIVED":
            archived.append(where)
        else:
            rows.append({"id": text_of(row.pop("id", None)) or str(number + 1), **row})
    for places, what in ((empty, "no input"), (archived, "the status ARCHIVED")):
        if places:
            migration.left(
                places[0],
                f"{len(places)} records with {what}",
                "cannot be asked" if places is empty else "are not asked there either",
            )
    if not rows:
        raise unreadable(source, "has no record with an input")
    _make_ids_unique(rows)
    _report_columns(source, records, form, migration)
    return _project(source, form, rows, migration)


def _row(record: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """A record with the columns of evalrun; what a column of CSV holds as JSON is read."""
    row: dict[str, Any] = {}
    for old, value in record.items():
        new = form.columns.get(old)
        if new is None or value is None or (value == "" and new != "output"):
            if new is not None or old in form.dropped or old in ROW_KEYS:
                continue
            row.setdefault("other", {})[old] = value
            continue
        value = _opened(value) if new in form.lists or new in ("about", "scores", "input", "expected") else value  # noqa: PLW2901
        if new == "input":
            _put_input(row, value, form)
        elif new == "expected":
            given = _answer(value, form)
            if given not in ("", []):
                row["expected"] = given
        elif new == "output":
            row["output"] = message_text(_last_content(value)) if isinstance(value, list) else text_of(value)
        elif new in row and isinstance(row[new], dict) and isinstance(value, dict):
            row[new] |= value
        else:
            row[new] = value
    return row


ROW_KEYS: Final = frozenset({"checks"})


def _opened(value: Any) -> Any:
    """A cell of CSV that holds a JSON list or object as that; others as they are."""
    if isinstance(value, str) and value[:1] in "[{" and value[-1:] in "]}":
        try:
            return parse_json(value, Path("cell"))
        except SuiteError:  # text that begins like JSON
            return value
    return value


def _put_input(row: dict[str, Any], value: Any, form: Form) -> None:
    """The input as text; messages and fields are kept beside it."""
    messages = value.get("messages") if isinstance(value, dict) and isinstance(value.get("messages"), list) else value
    if isinstance(messages, list) and messages and all(isinstance(item, dict) for item in messages):
        roles = {"human": "user", "ai": "assistant"}
        row["messages"] = [
            {"role": roles.get(text_of(item.get("role") or item.get("type")), text_of(item.get("role") or item.get("type"))),
             "content": message_text(item.get("content"))}
            for item in messages
        ]  # fmt: skip
        row["messages"] = [item if item["role"] in ROLES else item | {"role": "user"} for item in row["messages"]]
        row["input"] = next((item["content"] for item in reversed(row["messages"]) if item["role"] == "user"), "")
    elif isinstance(value, dict):
        row["fields"] = value
        row["input"] = next((text_of(value[key]) for key in form.input_keys if value.get(key)), text_of(value))
    else:
        row["input"] = text_of(value)


def _answer(value: Any, form: Form) -> Any:
    if isinstance(value, dict):
        return next((text_of(value[key]) for key in form.answer_keys if value.get(key)), text_of(value))
    return [text_of(item) for item in value] if isinstance(value, list) else text_of(value)


def _last_content(messages: list[Any]) -> Any:
    return next((item.get("content") for item in reversed(messages) if isinstance(item, dict)), text_of(messages))


def _make_ids_unique(rows: list[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["id"]] = seen.get(row["id"], 0) + 1
        if seen[row["id"]] > 1:
            row["id"] = f"{row['id']}-{seen[row['id']]}"


def _report_columns(
    source: Path, records: list[tuple[int | None, dict[str, Any]]], form: Form, migration: Migration
) -> None:
    for name in dict.fromkeys(key for _, record in records for key in record):
        place, new = Place(source.name, None, f"[].{name}"), form.columns.get(name)
        used = any(record.get(name) not in (None, "", [], {}) for _, record in records)
        if new is not None:
            migration.carried(
                place, name if used else f"{name}, empty in every record", f"column {new}" if used else ""
            )
        elif name in form.dropped:
            migration.changed(place, name, "", f"{form.dropped[name]}; stays there")
        elif name in ROW_KEYS:
            migration.left(place, name, "would be read as checks of evalrun; write checks in the suite")
        else:
            migration.carried(place, f"{name}, a column of your own", f"column other.{name}")


def _project(source: Path, form: Form, rows: list[dict[str, Any]], migration: Migration) -> Project:
    name = slug(source.stem, form.tool).lower().replace(".", "-")
    data, suite_file, place = f"data/{name}.jsonl", f"{name}.eval.yaml", Place(source.name)
    suite: dict[str, Any] = {"name": name, "dataset": data}
    answers = sum("output" in row for row in rows)
    if answers == len(rows):
        suite["target"] = {"type": "recorded", "column": "output"}
        migration.carried(place, f"{answers:,} answers", f"{suite_file}: target, recorded")
    else:
        if answers:
            migration.left(
                place,
                f"{answers:,} of {len(rows):,} records with an answer",
                "all rows are asked anew; the answers stay in the data",
            )
        suite["prompt"] = (
            [{"messages": "messages"}] if all("messages" in row for row in rows) else [{"user": "{{ input }}"}]
        )
        suite["target"] = HOSTED
        migration.changed(
            place,
            "the application, which is code there",
            f"{suite_file}: target",
            f"{HOSTED} is an example; set your model or service",
        )
    if any("expected" in row for row in rows):
        suite["scorers"] = ["exact_match", "token_f1"]
    else:
        suite["scorers"] = [{"type": "min_chars", "name": "answered", "value": 1}]
    migration.changed(
        place,
        "metrics, which are code there",
        f"{suite_file}: scorers",
        "a dataset names none; these are a start, set yours",
    )
    return Project({data: json_lines(rows)}, [SuiteFile(suite_file, suite)])
