"""The text of a new suite: a template filled in with the columns of the data and the targets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from evalrunner.example_models import HOSTED, LOCAL
from evalrunner.starter.columns import Roles
from evalrunner.starter.table import Table
from evalrunner.starter.templates import Template

PLAIN: Final = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)  # texts that YAML reads unchanged without quotes
YAML_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
KEY_VARIABLE: Final = "LLM_API_KEY"
MAX_FIELDS: Final = 5  # of expected JSON objects that get a scorer each
COMMENT_COLUMN: Final = 42  # where the comments of the suite begin


@dataclass(frozen=True, slots=True)
class Model:
    """A model that answers: its name, and the address and the variable of the API key of its server."""

    name: str
    base_url: str | None = None
    key_variable: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A suite to write. `data` is the path of the dataset from the suite; without models, recorded outputs are scored.

    `own_data` says that the rows are the user's, not the sample of the template.
    """

    name: str
    template: Template
    table: Table
    roles: Roles
    data: str
    file: str
    models: Sequence[Model] = ()
    recorded: Sequence[str] = ()
    note: str = ""
    own_data: bool = False

    def text(self) -> str:
        """The suite as YAML with comments."""
        parts = [self._head(), self._dataset(), self._prompt(), self._targets(), self._scorers(), self._gates()]
        return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines) + "\n"

    def _head(self) -> Iterator[str]:
        yield f"# {self.template.name}: {self.template.about}. Run it with:  evalrun {self.file}"
        yield "# yaml-language-server: $schema=suite.schema.json      (evalrun schema > suite.schema.json)"
        yield f"name: {quoted(self.name)}"

    def _dataset(self) -> Iterator[str]:
        yield "dataset:"
        yield f"  path: {quoted(self.data)}"
        for name, value in self.table.options.items() if self.table.direct else ():
            yield f"  {name}: {quoted(value)}"
        columns = dict(self._columns())
        if columns:
            yield "  columns:"
            yield from (f"    {role}: {value}" for role, value in columns.items())

    def _columns(self) -> Iterator[tuple[str, str]]:
        """The columns whose names are not the default ones."""
        roles = self.roles
        for role, column in (("id", roles.id), ("input", roles.input)):
            if column is not None and column != role:
                yield role, quoted(column)
        if roles.expected is None:
            return
        if roles.several:
            yield "expected", f'{{column: {quoted(roles.expected)}, split: "|"}}    # several accepted answers'
        elif roles.expected != "expected":
            yield "expected", quoted(roles.expected)

    def _prompt(self) -> Iterator[str]:
        if self._two_prompts or not self.models:
            return
        yield from self._commented_prompt()

    def _commented_prompt(self) -> Iterator[str]:
        first, *rest = self._messages(self.template.system)
        yield f"{first:<{COMMENT_COLUMN}}# Jinja2; every column of the dataset can be used"
        yield from rest

    @property
    def _two_prompts(self) -> bool:
        """Whether the suite compares two prompts of one model."""
        return self.template.name == "compare" and len(self.models) == 1

    def _messages(self, system: str) -> Iterator[str]:
        yield "prompt:"
        yield f"  - system: {quoted(self._filled(system))}"
        yield f'  - user: "{self._filled(self.template.user)}"'

    def _filled(self, text: str) -> str:
        labels = [label for label in self.roles.labels if "{" not in label]
        context = "{{ " + variable(self.roles.context or "context").replace('"', r"\"") + " }}"
        if self.template.name == "json" and self.own_data and text == self.template.system:
            text = self._json_system()
        return text.replace("{labels}", ", ".join(labels) or "the labels of your data").replace("{context}", context)

    def _json_system(self) -> str:
        """The system message for JSON objects with the fields of the user's data."""
        fields = self._json_fields() or (self._field(),)
        shape = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: …" for name in fields if "{" not in name)
        rule = f" The {fields[0]} is one of {{labels}}." if self.roles.labels and not self._json_fields() else ""
        return f"Reply with one JSON object and nothing else: {{{shape}}}.{rule}"

    def _field(self) -> str:
        """The field of JSON outputs that holds the expected answer."""
        column = self.roles.expected or ""
        return column if column.isidentifier() and column not in ("expected", "answer") else "category"

    def _targets(self) -> Iterator[str]:
        if self.note:
            yield f"# {self.note}"
        if self._two_prompts:
            yield "targets:"
            for name, system in (("brief", self.template.short_system), ("sentence", self.template.system)):
                yield f"  - name: {name}"
                yield from (f"    {line}" for line in model_lines(self.models[0]))
                yield from (f"    {line}" for line in self._messages(system))
        elif len(self.models) > 1:
            yield "targets:"
            for model in self.models:
                first, *rest = model_lines(model)
                yield f"  - {first}"
                yield from (f"    {line}" for line in rest)
        elif self.models:
            lines = list(model_lines(self.models[0]))
            plain = self.models[0].base_url is None
            yield f"target: {quoted(self.models[0].name)}" if plain else "target:"
            yield from () if plain else (f"  {line}" for line in lines)
        elif len(self.recorded) > 1:
            yield "targets:"
            for column in self.recorded:
                yield f"  - {{name: {quoted(column)}, type: recorded, column: {quoted(column)}}}"
        else:
            yield f"{self._recorded_line():<{COMMENT_COLUMN}}# recorded outputs; a model would be"
            yield f"{f'# target: {HOSTED}':<{COMMENT_COLUMN}}# any model string (needs its key), or, after"
            yield f"{f'# target: {LOCAL}':<{COMMENT_COLUMN}}# pip install '.[local]', one on this machine"
        if not self.models:
            yield "# The prompt of a model:"
            yield from (f"# {line}" for line in self._commented_prompt())
        if any(model.name.startswith("local/") for model in self.models):
            yield "params: {temperature: 0, max_tokens: 64}"

    def _recorded_line(self) -> str:
        return f"target: {{type: recorded, column: {quoted(self.recorded[0])}}}"

    def _scorers(self) -> Iterator[str]:
        yield "scorers:"
        yield from (f"  {line}" for line in bulleted(self._scorer_lines()))

    def _scorer_lines(self) -> Iterator[str]:
        fields = self._json_fields()
        if self.template.name == "json" and fields:
            yield self.template.scorers[0]
            for name in fields[:MAX_FIELDS]:
                pattern = single_quoted(f'"{re.escape(name)}"\\s*:')
                yield f"{{type: regex, name: {scorer_name(name)}, pattern: {pattern}}}"
            return
        for line in self.template.scorers:
            if "urgent" in line and self.own_data:
                continue
            yield line.replace("'{pattern}'", single_quoted(self._pattern()))

    def _pattern(self) -> str:
        """The pattern of a template: one of the labels, or the value of a JSON field."""
        if self.template.name == "json":
            return f'"{self._field()}"\\s*:\\s*"([^"]*)"'
        return r"\A\s*(" + "|".join(map(re.escape, self.roles.labels)) + r")\W*\Z"

    def _json_fields(self) -> tuple[str, ...]:
        """The keys of expected answers that are JSON objects."""
        values = self.table.values(self.roles.expected) if self.roles.expected else []
        try:
            first = json.loads(values[0]) if values else None
        except ValueError:
            return ()
        return tuple(first) if isinstance(first, dict) else ()

    def _gates(self) -> Iterator[str]:
        yield "gates:"
        gates = self.template.gates[:1] if self._json_fields() and self.template.name == "json" else self.template.gates
        yield from (f"  {line}" for line in bulleted(gates))


def bulleted(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """The lines as a list; comments stay comments."""
    for line in lines:
        if line.startswith(("# {", "# factuality")):
            yield f"# - {line[2:]}"
        else:
            yield line if line.startswith("#") else f"- {line}"


def model_lines(model: Model) -> Iterator[str]:
    """The keys of a model in a target."""
    yield f"model: {quoted(model.name)}"
    if model.base_url is not None:
        yield f"base_url: {quoted(model.base_url)}"
        yield f"api_key: ${{{model.key_variable or KEY_VARIABLE}:-none}}"


def quoted(text: str) -> str:
    """A text as YAML reads it back, in double quotes where it needs them."""
    if PLAIN.fullmatch(text) and text.lower() not in YAML_WORDS:
        return text
    if '"' in text and "'" not in text and text.isprintable():
        return single_quoted(text)
    return json.dumps(text, ensure_ascii=not text.isprintable())


def single_quoted(text: str) -> str:
    """A text without escapes in single quotes, as patterns need it."""
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else quoted(text)


def scorer_name(field: str) -> str:
    """The name of the scorer that looks for a field."""
    return "has_" + re.sub(r"\W", "_", field)


def variable(column: str) -> str:
    """A column in a template: its name, or its place in `metadata` if that is no name of Jinja2."""
    if column.isidentifier() and column.isascii():
        return column
    return f"metadata[{json.dumps(column, ensure_ascii=False)}]"


def summary(roles: Roles, table: Table) -> Mapping[str, str]:
    """The column of each role that was found, in the order of the roles."""
    outputs = ", ".join(roles.outputs)
    found = {"id": roles.id, "input": roles.input, "expected": roles.expected, "context": roles.context}
    return {role: column for role, column in {**found, "output": outputs}.items() if column}
