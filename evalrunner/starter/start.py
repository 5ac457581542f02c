"""Decide what a new suite holds from what the user has: data, models, keys, and the extras that are installed."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from evalrunner.errors import SuiteError, nearest
from evalrunner.example_models import BY_KEY, LOCAL
from evalrunner.formatting import counted, one_line
from evalrunner.starter.columns import MAX_LABELS, Roles, guess_roles
from evalrunner.starter.suite import KEY_VARIABLE, Draft, Model, summary
from evalrunner.starter.table import Table, as_text, read_table
from evalrunner.starter.templates import PATHS, TEMPLATES, System, Template, workflow
from evalrunner.suite.environment import keys_of_provider, provider_of

ENDING: Final = ".eval.yaml"
FIRST_ROWS: Final = 20  # of a larger dataset, for a first run
REFERENCE_FREE: Final = Template(
    "open",
    "outputs without accepted answers",
    "Answer the request.",
    (r"{type: regex, name: no_refusal, pattern: '\b(I (cannot|can.t|am unable)|as an AI)\b', ignore_case: true, negate: true}",),
    ("no_refusal >= 0.9               # metric, operator, number",),
    "",
    needs=("input",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. `data` is a file, `root` the folder of the workflow and `.gitignore`."""

    folder: Path
    root: Path
    data: Path | None = None
    template: str | None = None
    models: Sequence[str] = ()
    base_url: str | None = None
    key_variable: str | None = None
    ci: System | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """The files to write, what was guessed, as lines, and the command to run next."""

    files: Mapping[Path, str]
    lines: Sequence[str]
    command: str
    hint: str = ""


def plan_start(wish: Wish, environ: Mapping[str, str]) -> Start:
    """The files of a new suite. Nothing is written. Raises SuiteError if the data does not fit."""
    if wish.template is not None and wish.template not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise SuiteError(
            f"--template {wish.template!r}: unknown template{nearest(wish.template, TEMPLATES)}; choose {known}"
        )
    if wish.base_url is not None and not wish.models:
        raise SuiteError("--base-url needs --target MODEL: the name that the server gives to its model")
    wanted = TEMPLATES.get(wish.template or ("qa" if wish.data is None else ""))
    if wish.data is None:
        assert wanted is not None  # checked above
        table, name = sample_table(wanted), wanted.name
    else:
        table, name = read_table(wish.data), slug(wish.data.stem)
    roles = guess_roles(table)
    if roles.input is None:
        raise SuiteError(
            f"--from {str(table.path)!r} has no column for the input; name one of them 'input': {', '.join(table.columns)}"
        )
    template = wanted or guess_template(table, roles)
    roles = with_labels(roles, table, template)
    check_needs(template, roles, table)
    if roles.expected is None and template.name != "json":
        template = replace(REFERENCE_FREE, name=template.name, user=template.user)
    return Choice(wish, environ, template, table, roles, name or template.name).start()


@dataclass(frozen=True, slots=True)
class Choice:
    """The template, the data and its columns, before the target is chosen."""

    wish: Wish
    environ: Mapping[str, str]
    template: Template
    table: Table
    roles: Roles
    name: str
    lines: list[str] = field(default_factory=list)

    def start(self) -> Start:
        """The files and the lines for the terminal."""
        folder, wish = self.wish.folder, self.wish
        suite_file = folder / f"{self.name}{ENDING}"
        files: dict[Path, str] = {}
        data = self._data(files)
        self._describe()
        models, recorded, note = self._target()
        draft = Draft(
            self.name, self.template, self.table, self.roles, data, shell_path(suite_file), models, recorded, note,
            own_data=wish.data is not None,
        )  # fmt: skip
        files[suite_file] = draft.text()
        variables, extras = needs_of(models)
        if wish.ci is not None:
            files[wish.root / PATHS[wish.ci]] = workflow(
                wish.ci, Path(os.path.relpath(suite_file, wish.root)).as_posix(), variables, extras
            )
        command, hint = f"evalrun {shell_path(suite_file)}", ""
        if models and len(self.table.rows) > FIRST_ROWS:
            hint = f"all {len(self.table.rows):,} rows: {command}"
            command += f" --limit {FIRST_ROWS}"
        return Start(files, tuple(self.lines), command, hint)

    def _data(self, files: dict[Path, str]) -> str:
        """The path of the dataset from the suite; a copy is added to the files if the suite cannot read the original."""
        source, folder = self.wish.data, self.wish.folder
        if source is None:
            files[folder / f"{self.name}.csv"] = self.template.data
            return f"{self.name}.csv"
        if self.table.direct:
            return Path(os.path.relpath(source.resolve(), folder.resolve())).as_posix()
        nested = any(isinstance(value, list | dict) for row in self.table.rows for value in row.values())
        copy = folder / f"{self.name}-data.{'jsonl' if nested else 'csv'}"
        files[copy] = as_jsonl(self.table) if nested else as_csv(self.table)
        self.lines.append(f"copied as UTF-8 with a line of names to {copy}; the original is unchanged")
        return copy.name

    def _describe(self) -> None:
        """Say what was read, and which column was taken for what."""
        table, roles = self.table, self.roles
        if self.wish.data is None:
            self.lines.insert(0, f"template {self.template.name}: {self.template.about}")
            return
        notes = "".join(f"; {note}" for note in table.notes)
        self.lines.insert(0, f"read {self.wish.data}: {counted(len(table.rows), 'row')}{notes}")
        found = summary(roles, table)
        for role, column in found.items():
            sample = next((value for name in column.split(", ")[:1] for value in table.values(name) if value), "")
            guess = "   (a guess: check it)" if column in roles.guesses else ""
            self.lines.append(f"  {role:<9}{one_line(column, 20):<21}{one_line(sample, 40)}{guess}".rstrip())
        used = {*found.values(), *roles.outputs}
        if unused := [column for column in table.columns if column not in used]:
            self.lines.append(f"  not used {one_line(', '.join(unused), 60)}")
        if roles.not_id:
            self.lines.append(f"  no id: {roles.not_id}")
        if roles.several:
            self.lines.append(f"  | in {roles.expected!r} separates accepted answers")
        self.lines.append(f"template {self.template.name}: {self.template.about}")

    def _target(self) -> tuple[tuple[Model, ...], tuple[str, ...], str]:
        """Models, or else columns with recorded outputs, and a comment for the suite; the choice is added to the lines."""
        wish, outputs = self.wish, self.roles.outputs
        compares = self.template.name == "compare"
        if wish.models:
            models = tuple(self._model(name) for name in wish.models)
            for model in models:
                key = f", key in {model.key_variable}" if model.key_variable else ""
                self.lines.append(f"target {model.name}{f' at {model.base_url}' if model.base_url else ''}{key}")
            return models, (), ""
        if len(outputs) > 1 or (outputs and not compares):
            recorded = outputs if compares else outputs[:1]
            self.lines.append(f"target: recorded outputs in {' and '.join(map(repr, recorded))}, so no model is called")
            return (), recorded, ""
        for variable, hosted in BY_KEY.items():
            if self.environ.get(variable) and (hosted.startswith("openai/") or _installed("litellm")):
                self.lines.append(f"target {hosted}, because {variable} is set; another one: --target MODEL")
                return (Model(hosted),), (), ""
        if _installed("xllamacpp"):
            self.lines.append(f"target {LOCAL}, which runs on this machine: no API key is set; another: --target MODEL")
            return (Model(LOCAL),), (), ""
        if compares or self.roles.expected is None:
            raise SuiteError(
                "no model: no API key is set and the extra 'local' is not installed; name one: --target MODEL"
            )
        self.lines.append(
            "target: the accepted answers themselves, which shows that the data is read; no API key is set and the "
            "extra 'local' is not installed. Name a model: --target MODEL"
        )
        return (), (self.roles.expected,), "Replace this target: it compares the accepted answers with themselves."

    def _model(self, name: str) -> Model:
        if not name.strip():
            raise SuiteError("--target is empty; name a model, such as " + next(iter(BY_KEY.values())))
        if self.wish.base_url is None:
            return Model(name)
        return Model(name, self.wish.base_url, self.wish.key_variable or KEY_VARIABLE)


def guess_template(table: Table, roles: Roles) -> Template:
    """The template that fits the columns."""
    expected = next((value for value in table.values(roles.expected) if value), "") if roles.expected else ""
    if len(roles.outputs) > 1:
        return TEMPLATES["compare"]
    if roles.context is not None:
        return TEMPLATES["rag"]
    if expected.lstrip().startswith("{"):
        return TEMPLATES["json"]
    return TEMPLATES["classification" if roles.labels else "qa"]


def with_labels(roles: Roles, table: Table, template: Template) -> Roles:
    """The roles with every different answer as a label, if the template has labels and the data is small."""
    if template.name != "classification" or roles.labels or roles.expected is None:
        return roles
    labels = tuple(dict.fromkeys(value.strip() for value in table.values(roles.expected) if value.strip()))
    return replace(roles, labels=labels) if 1 <= len(labels) <= MAX_LABELS else roles


def check_needs(template: Template, roles: Roles, table: Table) -> None:
    """Raise SuiteError if the data lacks a column that the template cannot do without."""
    columns = ", ".join(table.columns)
    if "context" in template.needs and roles.context is None:
        raise SuiteError(f"--template rag needs a column 'context'; the data has: {columns}")
    if template.name == "classification" and not roles.labels:
        raise SuiteError(
            f"--template classification needs a column with at most {MAX_LABELS} labels; it has: {columns}"
        )


def needs_of(models: Sequence[Model]) -> tuple[list[str], list[str]]:
    """The variables with API keys, and the extras, that models need."""
    variables, extras = [], []
    for model in models:
        if model.base_url is not None:
            variables.append(model.key_variable or KEY_VARIABLE)
            continue
        provider = provider_of(model.name)
        variables += keys_of_provider(provider)[:1]
        if provider != "openai" or "/" not in model.name:
            extras.append("local" if provider == "local" else "litellm")
    return list(dict.fromkeys(variables)), list(dict.fromkeys(extras))


def sample_table(template: Template) -> Table:
    """The sample of a template as a table."""
    rows = list(csv.DictReader(io.StringIO(template.data)))
    return Table(Path(f"{template.name}.csv"), tuple(rows[0]), [dict(row) for row in rows])


def as_csv(table: Table) -> str:
    """A table as CSV with commas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([as_text(row.get(name)) for name in table.columns] for row in table.rows)
    return out.getvalue()


def as_jsonl(table: Table) -> str:
    """A table as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.rows)


def slug(text: str) -> str:
    """A text as the name of a file and a suite: ASCII letters, digits and hyphens; empty if it has none of them."""
    plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"\W+", "-", plain).strip("-_")[:60]


def shell_path(path: Path) -> str:
    """A path as an argument of a command."""
    import shlex

    return shlex.quote(str(path))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
