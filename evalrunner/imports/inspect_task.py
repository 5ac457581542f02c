"""Tasks in the `eval.yaml` of a dataset on the Hugging Face hub, as Inspect runs them, as suites."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evalrunner.example_models import HOSTED, LARGE
from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import line_of, plain, read_yaml, slug, text_of, unreadable
from evalrunner.suite.yaml import Document, dotted

TASK: Final = frozenset({
    "id", "config", "split", "field_spec", "shuffle_choices", "epochs", "epoch_reducer", "solvers", "scorers",
})  # fmt: skip
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]\w*)\}")
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHOICE_PROMPT: Final = (
    "Answer the multiple choice question. End with a line of the form 'ANSWER: X', where X is one of the letters.\n\n"
    "{{ input }}\n\n{% for choice in choices %}{{ 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[loop.index0] }}) {{ choice }}\n{% endfor %}"
)
REASONING: Final = "{{ input }}\n\nReason step by step before you answer. End with a line of the form 'ANSWER: X', where X is your answer."
MAX_TASKS: Final = 500


def import_project(source: Path, migration: Migration) -> Project:
    """The tasks of an `eval.yaml` as suites. Raises SuiteError if it is not one."""
    document = read_yaml(source)
    data = document.data
    if not isinstance(data, Mapping) or not isinstance(data.get("tasks"), list) or not data["tasks"]:
        raise unreadable(source, "has no list of tasks under the key 'tasks'; is it an eval.yaml of the hub?")
    project = Project()
    for index, task in enumerate(data["tasks"][:MAX_TASKS]):
        if isinstance(task, Mapping):
            _Task(source, document, index, plain(task), migration).add_to(project, plain(data))
        else:
            migration.left(_place(source, document, ("tasks", index)), text_of(plain(task))[:80], "a task is a mapping")
    for key in data:
        place = _place(source, document, (key,))
        if key in ("name", "description"):
            migration.carried(place, key, "name and description of the suites")
        elif key == "evaluation_framework":
            migration.changed(place, key, "", "evalrun runs the suites")
        elif key != "tasks":
            migration.left(place, str(key), "unknown key")
    return project


def _place(source: Path, document: Document, path: tuple[str | int, ...]) -> Place:
    return Place(source.name, line_of(document, path), dotted(path))


class _Task:
    """One task to a suite."""

    def __init__(
        self, source: Path, document: Document, index: int, task: dict[str, Any], migration: Migration
    ) -> None:
        self.source, self.document, self.index, self.task, self.migration = source, document, index, task, migration
        self.prompt: list[dict[str, Any]] = []
        self.scorers: list[dict[str, Any]] = []
        self.judge = False
        fields = task.get("field_spec")
        self.fields: dict[str, Any] = fields if isinstance(fields, dict) else {}

    def place(self, *path: str | int) -> Place:
        """A place in the task."""
        return _place(self.source, self.document, ("tasks", self.index, *path))

    def add_to(self, project: Project, data: Mapping[str, Any]) -> None:
        """Add the suite to the project."""
        taken = {suite.name.removesuffix(".eval.yaml") for suite in project.suites}
        name = slug(self.task.get("id") or data.get("name"), "task", taken=taken).lower()
        columns = self._columns()
        for index, solver in enumerate(_items(self.task.get("solvers"))):
            self._solver(solver, index)
        for index, scorer in enumerate(_items(self.task.get("scorers"))):
            self._scorer(scorer, index)
        for key in self.task:
            if key not in TASK:
                self.migration.left(self.place(key), key, "unknown key")
        suite: dict[str, Any] = {"name": name}
        if data.get("description"):
            suite["description"] = " ".join(text_of(data["description"]).split())[:300]
        suite["dataset"] = {
            "path": "hf://${DATASET}",
            "config": text_of(self.task.get("config") or "default"),
            "split": text_of(self.task.get("split") or "test"),
            "columns": columns,
        }
        if not any("user" in message for message in self.prompt):
            self.prompt.append({"user": "{{ input }}"})
        suite["prompt"] = self.prompt
        suite["target"] = HOSTED
        if self.judge:
            suite["judge"] = LARGE
        suite["on_no_answer"] = "zero"
        suite["scorers"] = self.scorers or [{"type": "exact_match"}]
        self._epochs(suite)
        self._report_source(name)
        project.suites.append(SuiteFile(f"{name}.eval.yaml", suite))

    def _report_source(self, name: str) -> None:
        suite = f"{name}.eval.yaml"
        self.migration.left(
            self.place(), "the name of the dataset",
            f"eval.yaml does not have it: it is that of its repository; set the variable DATASET to owner/name, or write it in {suite}",
        )  # fmt: skip
        for key in ("config", "split", "id"):
            if key in self.task:
                self.migration.carried(self.place(key), key, f"{suite}: {'name' if key == 'id' else 'dataset.' + key}")
        self.migration.changed(
            self.place(), "the model, which Inspect takes from the command line", f"{suite}: target",
            f"{HOSTED} is an example; set yours",
        )  # fmt: skip
        if self.task.get("shuffle_choices"):
            self.migration.left(self.place("shuffle_choices"), "shuffle_choices", "choices keep their order here")

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for key, value in self.fields.items():
            place = self.place("field_spec", key)
            if key == "input" and isinstance(value, str):
                columns["input"] = value
                self.migration.carried(place, f"input: {value}", "dataset.columns.input")
            elif key == "target" and isinstance(value, str) and not value.startswith("literal:"):
                columns["expected"] = value
                self.migration.carried(place, f"target: {value}", "dataset.columns.expected")
            elif key == "target" and isinstance(value, str):
                self.literal = value.removeprefix("literal:")
                self.migration.carried(place, f"target: {value}", "value of the scorers")
            elif key == "choices" and isinstance(value, str):
                self.choices = value
                self.migration.carried(place, f"choices: {value}", "the prompt and the scorer choice")
            elif key in ("metadata", "id"):
                self.migration.carried(place, key, "every column can be used by its name")
            else:
                self.migration.left(place, key, "cannot be said by a suite")
        return columns

    literal: str | None = None
    choices: str = "choices"

    def _solver(self, solver: Mapping[str, Any], index: int) -> None:
        name, args = text_of(solver.get("name")), solver.get("args")
        args = args if isinstance(args, dict) else {}
        place, template = self.place("solvers", index), text_of(args.get("template"))
        if name == "system_message":
            self.prompt.insert(0, {"system": self._template(template)})
            self.migration.carried(place, name, "prompt: system")
        elif name in ("prompt_template", "user_message"):
            self.prompt.append({"user": self._template(template)})
            self.migration.carried(place, name, "prompt: user")
        elif name == "chain_of_thought":
            self.prompt.append({"user": self._template(template) if template else REASONING})
            self.migration.changed(place, name, "prompt: user", "the request for reasoning is worded by evalrun")
        elif name == "multiple_choice":
            self.prompt.append({"user": CHOICE_PROMPT.replace("in choices", f"in {self.choices}")})
            self.migration.changed(place, name, "prompt: user", "the request for a letter is worded by evalrun")
        elif name == "generate":
            self.migration.carried(place, name, "target")
        else:
            self.migration.left(place, name or text_of(solver), "a suite asks once; write a target of your own for it")

    def _template(self, text: str) -> str:
        """A template of Inspect, `{prompt}`, as one of Jinja."""
        doubled = text.replace("{{", "\0").replace("}}", "\1")
        jinja = PLACEHOLDER.sub(
            lambda found: "{{{{ {} }}}}".format(found[1].replace("prompt", "input", found[1] == "prompt")), doubled
        )
        return jinja.replace("\0", "{{ '{' }}").replace("\1", "}")

    def _scorer(self, scorer: Mapping[str, Any], index: int) -> None:
        name, args = text_of(scorer.get("name")), scorer.get("args")
        args = dict(args) if isinstance(args, dict) else {}
        place = self.place("scorers", index)
        made = self._known(name, args)
        if made is None:
            self.migration.left(place, name or text_of(scorer), "no scorer of evalrun counts the same")
            return
        spec, meaning = made
        spec["name"] = slug(name, "score", taken=[item["name"] for item in self.scorers])
        if self.literal is not None and spec["type"] not in ("rubric", "factuality"):
            spec["value"] = self.literal
        self.scorers.append(spec)
        if meaning:
            self.migration.changed(place, name, f"scorers.{spec['name']}", meaning)
        else:
            self.migration.carried(place, name, f"scorers.{spec['name']}")
        for key in args:
            self.migration.left(self.place("scorers", index, "args", key), key, "this argument has no option here")

    def _known(self, name: str, args: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
        """The scorer of evalrun and what it changes, without the arguments that it takes from `args`."""
        case = {"ignore_case": bool(args.pop("ignore_case", True))}
        if name == "includes":
            return {"type": "contains", **case}, ""
        if name == "exact":
            return {
                "type": "exact_match",
                "normalize": "squad",
            }, "articles, case and punctuation are ignored as by SQuAD"
        if name == "f1":
            return {"type": "token_f1"}, "" if not args else "words are those of SQuAD"
        if name == "match":
            where, numeric = args.pop("location", "end"), args.pop("numeric", False)
            if numeric:
                return {"type": "numeric_match"}, "the last number of the answer is compared"
            kinds = {"end": "ends_with", "begin": "starts_with", "any": "contains", "exact": "exact_match"}
            kind = kinds.get(text_of(where), "ends_with")
            return {
                "type": kind,
                **case,
                "ignore_punctuation": True,
            }, "punctuation is ignored everywhere, not at the end only"
        if name == "pattern" and isinstance(args.get("pattern"), str):
            return {"type": "regex", "pattern": args.pop("pattern"), "group": 1, **case}, "the first group is compared"
        if name == "answer":
            args.pop("pattern", None)
            return {
                "type": "exact_match",
                "ignore_case": True,
                "extract": {"regex": r"ANSWER\s*:\s*([^\n]+)", "ignore_case": True},
            }, ("the rest of the line after ANSWER: is compared")
        if name == "choice":
            return {
                "type": "choice",
                "column": self.choices,
                "extract": {"regex": r"ANSWER\s*:\s*([A-Z])", "ignore_case": True},
            }, ""
        if name in ("model_graded_qa", "model_graded_fact"):
            self.judge = True
            meaning = "a judge with evalrun's wording grades pass or fail, without partial credit"
            return {
                "type": "rubric",
                "criteria": "The answer agrees with the expected answer.",
                "reference": True,
            }, meaning
        return None

    def _epochs(self, suite: dict[str, Any]) -> None:
        epochs, reducer = self.task.get("epochs"), self.task.get("epoch_reducer")
        if isinstance(epochs, int) and not isinstance(epochs, bool) and 1 <= epochs <= 1000:
            suite["run"] = {"epochs": epochs}
            self.migration.carried(self.place("epochs"), f"epochs: {epochs}", "run.epochs")
        elif epochs is not None:
            self.migration.left(self.place("epochs"), f"epochs: {text_of(epochs)}", "is no number of epochs")
        if isinstance(reducer, str) and re.fullmatch(r"(pass_at|at_least)_\d+|max|mode|median|mean", reducer):
            suite.setdefault("run", {})["reducer"] = reducer
            self.migration.carried(self.place("epoch_reducer"), f"epoch_reducer: {reducer}", "run.reducer")
        elif reducer is not None:
            self.migration.left(self.place("epoch_reducer"), text_of(reducer), "is no reducer")


def _items(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; a text stands for `{name: TEXT}`."""
    items = value if isinstance(value, list) else []
    return [{"name": item} if isinstance(item, str) else item for item in items if isinstance(item, str | dict)]
