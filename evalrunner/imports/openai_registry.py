"""Evals of the open-source registry of OpenAI Evals: YAML with a class and its samples, as suites."""

from __future__ import annotations

import string
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import SuiteError
from evalrunner.example_models import HOSTED, LARGE
from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import (
    json_lines,
    line_of,
    message_text,
    plain,
    read_records,
    read_yaml,
    slug,
    text_of,
    unread,
    unreadable,
)  # fmt: skip
from evalrunner.imports.stub import PORT_FILE, TO_BE_PORTED, TO_PORT
from evalrunner.storage import is_file
from evalrunner.suite.yaml import Document, dotted

ROLES: Final = {"system", "user", "assistant", "developer"}
MATCH: Final = "scorers/openai_evals_match.py"
JUDGE: Final = "scorers/openai_evals_judge.py"
PREFIXES: Final = {"system": "System: ", "user": "User: ", "assistant": "Assistant: "}
COMMON: Final = frozenset({"samples_jsonl", "max_tokens", "num_few_shot", "few_shot_jsonl"})
GRADED: Final = frozenset({"modelgraded_spec", "eval_type", "modelgraded_spec_args", "samples_renamings"})
SPEC: Final = frozenset(
    {"prompt", "choice_strings", "choice_scores", "eval_type", "input_outputs", "args", "key", "group", "format_type"}
)
MAX_EVALS: Final = 1_000


def import_project(source: Path, migration: Migration) -> Project:
    """The evals of a registry file, or of all files in a folder, as suites. Raises SuiteError if none can be read."""
    project = Project()
    folder = source / "evals" if (source / "evals").is_dir() else source
    files = sorted(path for path in folder.glob("*.y*ml") if path.is_file()) if source.is_dir() else [source]
    if not files:
        raise unreadable(source, "has no registry files (.yaml) in it")
    for path in files:
        document = read_yaml(path)
        if not isinstance(document.data, Mapping):
            raise unreadable(path, "is no registry file: it should be a mapping of names to evals")
        entries = plain(document.data)
        for name, entry in list(entries.items())[:MAX_EVALS]:
            if isinstance(entry, dict) and "class" in entry:
                _Eval(path, document, name, entry, migration).add_to(project, entries)
            elif isinstance(entry, dict) and "id" in entry:
                _report_alias(path, document, name, entry, entries, migration)
            else:
                place = Place(path.name, line_of(document, (name,)), dotted((name,)))
                migration.left(place, name, "has neither a class nor an id")
    return project


def _report_alias(
    path: Path, document: Document, name: str, entry: dict[str, Any], entries: Mapping[str, Any], migration: Migration
) -> None:
    place = Place(path.name, line_of(document, (name,)), dotted((name,)))
    if text_of(entry["id"]) in entries:
        migration.carried(place, f"{name}: {text_of(entry['id'])}", "the suite of that eval")
    else:
        migration.left(place, f"{name}: {text_of(entry['id'])}", "the eval that it names is not in this file")
    for odd, key in unread(place, entry, ("id", "description", "metrics", "disclaimer", "key", "group")):
        migration.left(odd, key, "unknown key")


class _Eval:
    """One eval to a suite."""

    def __init__(self, path: Path, document: Document, name: str, entry: dict[str, Any], migration: Migration) -> None:
        self.path, self.document, self.key, self.entry, self.migration = path, document, name, entry, migration
        args = entry.get("args")
        self.args: dict[str, Any] = args if isinstance(args, dict) else {}
        self.read = set(COMMON)

    def place(self, *path: str) -> Place:
        """A place in the eval."""
        return Place(self.path.name, line_of(self.document, (self.key, *path)), dotted((self.key, *path)))

    def add_to(self, project: Project, entries: Mapping[str, Any]) -> None:
        """Add the suite and its data, or say why there is none."""
        samples = self._file(self.args.get("samples_jsonl"), "data", self.place("args", "samples_jsonl"))
        if samples is None:
            return
        taken = {suite.name.removesuffix(".eval.yaml") for suite in project.suites}
        name = slug(self.key, "eval", taken=taken).lower()
        rows = self._rows(samples)
        if not rows:
            self.migration.left(self.place("args", "samples_jsonl"), samples.name, "has no samples")
            return
        scorers, judge = self._scorers(rows, project)
        project.files[f"data/{name}.jsonl"] = json_lines(rows)
        alias = next(
            (entry for entry in entries.values() if isinstance(entry, dict) and entry.get("id") == self.key), {}
        )
        suite: dict[str, Any] = {"name": name}
        if alias.get("description"):
            suite["description"] = " ".join(text_of(alias["description"]).split())
        suite["dataset"] = f"data/{name}.jsonl"
        suite["prompt"] = [{"messages": "messages"}]
        suite["target"] = HOSTED
        suite["params"] = {"temperature": 0}
        limit = self.args.get("max_tokens")
        suite["params"]["max_tokens"] = limit if isinstance(limit, int) and not isinstance(limit, bool) else 1024
        if judge:
            suite["judge"] = LARGE
        suite["on_no_answer"] = "zero"
        suite["scorers"] = scorers
        project.suites.append(SuiteFile(f"{name}.eval.yaml", suite))
        self.migration.carried(self.place("args", "samples_jsonl"), f"{len(rows):,} samples", f"data/{name}.jsonl")
        self.migration.changed(self.place(), "the model, which oaieval takes from the command line", f"{name}.eval.yaml: target",
                               f"{HOSTED} is an example; set yours")  # fmt: skip
        for odd, key in unread(self.place("args"), self.args, self.read):
            self.migration.left(odd, f"args.{key}", "unknown argument")
        for odd, key in unread(self.place(), self.entry, ("class", "args", "key", "group")):
            self.migration.left(odd, key, "unknown key")

    def _file(self, named: Any, folder: str, place: Place) -> Path | None:
        """A file that the eval names: beside it, or in the folder of the registry for it."""
        if not isinstance(named, str) or not named:
            self.migration.left(place, text_of(named), "names no file")
            return None
        for root in (self.path.parent, self.path.parent.parent / folder, self.path.parent / folder):
            path = root / named
            if path.resolve().is_relative_to(root.resolve()) and is_file(path):
                return path
        self.migration.left(place, named, f"is not beside {self.path.name} and not in ../{folder}")
        return None

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        shots: list[dict[str, str]] = []
        number = self.args.get("num_few_shot")
        if isinstance(number, int) and number > 0:
            place = self.place("args", "few_shot_jsonl")
            found = self._file(self.args.get("few_shot_jsonl"), "data", place)
            if found is not None:
                for _, record in read_records(found)[:number]:
                    shots += _messages(record.get("sample"))
                self.migration.carried(place, f"{number} examples", "the messages of each row")
        rows = []
        renamings = self.args.get("samples_renamings")
        for index, (_, record) in enumerate(read_records(path)):
            if isinstance(renamings, dict):
                record = {text_of(renamings.get(key, key)): value for key, value in record.items()}  # noqa: PLW2901
            messages = _messages(record.get("input"))
            row = {
                key: value
                for key, value in record.items()
                if key not in ("input", "ideal", "id", "expected", "messages", "checks")
            }
            row = {
                "id": str(index),
                "input": _as_text(record.get("input")),
                "messages": [*messages[:-1], *shots, *messages[-1:]],
                **row,
            }
            ideal = record.get("ideal")
            if ideal is not None:
                row["expected"] = [text_of(item) for item in ideal] if isinstance(ideal, list) else text_of(ideal)
            rows.append(row)
        return rows

    def _scorers(self, rows: list[dict[str, Any]], project: Project) -> tuple[list[dict[str, Any]], bool]:
        kind = text_of(self.entry.get("class")).rpartition(":")[2]
        place = self.place("class")
        carried, changed = self.migration.carried, self.migration.changed
        if kind == "Match":
            changed(place, kind, "scorers.accuracy", "whitespace before the answer is ignored")
            return [{"type": "starts_with", "name": "accuracy"}], False
        if kind == "Includes":
            self.read.add("ignore_case")
            carried(place, kind, "scorers.accuracy")
            return [
                {"type": "contains", "name": "accuracy"}
                | ({"ignore_case": True} if self.args.get("ignore_case") is True else {})
            ], False
        if kind == "JsonValidator":
            carried(place, kind, "scorers.accuracy")
            return [{"type": "json", "name": "accuracy"}], False
        if kind in ("FuzzyMatch", "JsonMatch"):
            function = "fuzzy_match" if kind == "FuzzyMatch" else "json_match"
            project.files[MATCH] = _copied("openai_evals_match.py")
            carried(place, kind, f"{MATCH}:{function}")
            scorers: list[dict[str, Any]] = [{"type": "python", "name": "accuracy", "function": f"{MATCH}:{function}"}]
            return scorers + ([{"type": "token_f1", "name": "f1_score"}] if kind == "FuzzyMatch" else []), False
        if kind == "ModelBasedClassify":
            self.read |= GRADED
            graded = self._graded(rows)
            if graded is not None:
                project.files[JUDGE] = _copied("openai_evals_judge.py")
                return graded, True
        self.read |= set(self.args)
        self.migration.port(place, text_of(self.entry.get("class")), PORT_FILE)
        project.files[PORT_FILE] = TO_PORT
        return [{"type": "python", "name": "accuracy", "function": TO_BE_PORTED}], False

    def _graded(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
        """The scorers of a model-graded eval; None, and the reason, if there are none."""
        named = self.args.get("modelgraded_spec")
        place = self.place("args", "modelgraded_spec")
        spec_path = self._file(f"{named}.yaml", "modelgraded", place) if isinstance(named, str) else None
        if spec_path is None:
            return None
        document = read_yaml(spec_path)
        data = plain(document.data)
        spec = data.get(named, data) if isinstance(data, dict) else {}
        spec = spec if isinstance(spec, dict) else {}
        outputs, prompt = spec.get("input_outputs"), spec.get("prompt")
        choices = spec.get("choice_strings")
        choices = list(choices) if isinstance(choices, str) and not choices.startswith("from_") else choices
        if not isinstance(prompt, str) or not isinstance(choices, list) or not choices:
            self.migration.left(place, text_of(named), "has no prompt of one text, or no fixed list of choices")
            return None
        if not isinstance(outputs, dict) or len(outputs) != 1 or "input" not in outputs:
            self.migration.left(
                place, text_of(named), "compares several answers in one prompt; a suite has one answer for a row"
            )
            return None
        for odd, key in unread(Place(spec_path.name), spec, SPEC):
            self.migration.left(odd, key, "unknown key")
        return self._classifiers(spec, text_of(outputs["input"]), [text_of(choice) for choice in choices], rows, place)

    def _classifiers(
        self, spec: dict[str, Any], answer: str, choices: list[str], rows: list[dict[str, Any]], place: Place
    ) -> list[dict[str, Any]] | None:
        prompt, kind = (
            text_of(spec["prompt"]),
            text_of(self.args.get("eval_type") or spec.get("eval_type") or "cot_classify"),
        )
        first = kind.startswith("cot_classify")
        meaning = "a reply without a choice is unscored; there it counts as the lowest score"
        if self.args.get("eval_type"):
            prompt += "\n\n" + _request(choices, first)
            meaning += "; the request for a choice is worded by evalrun"
        scores = spec.get("choice_scores")
        scores = {choice: choice for choice in choices} if scores == "from_strings" else scores
        try:
            numbers = {choice: float(scores[choice]) for choice in choices} if isinstance(scores, dict) else None
        except (KeyError, TypeError, ValueError):
            self.migration.left(place, "choice_scores", "do not have a number for every choice")
            return None
        args: dict[str, Any] = {"prompt": prompt, "choices": choices, "answer": answer, "reasons_first": first}
        if numbers is not None:
            args["scores"] = numbers
        else:
            meaning += "; NAME/CHOICE is the share of each choice, and NAME that of replies with one"
        fields = [field for _, field, _, _ in _fields(prompt) if field and field not in (answer, "input", "ideal")]
        given = self.args.get("modelgraded_spec_args") or spec.get("args")
        scorers = []
        for label, values in _combinations(given if isinstance(given, dict) else {}, fields):
            missing = [field for field in fields if field not in values and any(field not in row for row in rows)]
            if missing:
                self.migration.left(
                    place, f"{{{missing[0]}}} of the prompt", "neither the samples nor the arguments have it"
                )
                return None
            low, high = (min(numbers.values()), max(numbers.values())) if numbers else (0.0, 1.0)
            scorers.append({
                "type": "python", "name": slug(label, "choice"), "function": f"{JUDGE}:classify", "low": low, "high": high,
                "parts": {choice: {"low": 0, "high": 1} for choice in choices}, "args": args | ({"values": values} if values else {}),
            })  # fmt: skip
        self.migration.changed(place, text_of(self.args.get("modelgraded_spec")), f"{JUDGE}:classify", meaning)
        self.migration.changed(
            place, "the judge, which oaieval takes from the command line", "judge", f"{LARGE} is an example; set yours"
        )
        return scorers


def _fields(prompt: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError:  # a single brace
        return []


def _combinations(given: Mapping[str, Any], fields: list[str]) -> list[tuple[str, dict[str, str]]]:
    """Name and values of each prompt: one for every named text of an argument that the prompt uses."""
    result: list[tuple[str, dict[str, str]]] = [("choice", {})]
    for key, texts in given.items():
        if key in fields and isinstance(texts, dict) and texts and len(result) * len(texts) <= 50:
            result = [
                (f"{label}-{name}" if label != "choice" else text_of(name), {**values, key: text_of(text)})
                for label, values in result
                for name, text in texts.items()
            ]
    return result if len(result) > 1 else [("choice", result[0][1])]


def _request(choices: list[str], reasons_first: bool) -> str:
    listed = " or ".join(f'"{choice}"' for choice in choices)
    if reasons_first:
        return f"Explain your reasoning step by step. Then write your choice, {listed}, alone on the last line."
    return f"Write your choice, {listed}, alone on the first line."


def _messages(given: Any) -> list[dict[str, str]]:
    """The messages of a sample: of a text, one of the user. Examples named in OpenAI's way get the role that they show."""
    if not isinstance(given, list):
        return [{"role": "user", "content": text_of(given)}]
    messages = []
    for item in given:
        if isinstance(item, dict):
            role, named = text_of(item.get("role")), text_of(item.get("name"))
            role = {"example_user": "user", "example_assistant": "assistant"}.get(named, role)
            messages.append({"role": role if role in ROLES else "user", "content": message_text(item.get("content"))})
    return messages or [{"role": "user", "content": ""}]


def _as_text(given: Any) -> str:
    """A chat as the text that model-graded prompts of OpenAI Evals show."""
    if not isinstance(given, list):
        return text_of(given)
    items = [item for item in given if isinstance(item, dict)]
    if len(items) == 1:
        return message_text(items[0].get("content"))
    lines = []
    for item in items:
        role = text_of(item.get("name") or item.get("role"))
        lines.append(f"{PREFIXES.get(role, role.capitalize() + ': ')}{message_text(item.get('content'))}\n")
    return "".join(lines).lstrip()


def _copied(name: str) -> str:
    """The text of a scorer that is copied into projects."""
    try:
        return resources.files("evalrunner.imports.scorers").joinpath(name).read_text("utf-8")
    except OSError as missing:
        raise SuiteError(f"the file {name} of evalrun cannot be read: {missing}; install it again") from None
