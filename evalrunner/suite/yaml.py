"""YAML text to plain data with the position of each value, and the `${VAR}` in it.

Plain scalars of YAML 1.2: `no`, `on` and `12:30` are text, as dataset authors expect. Duplicate keys are errors,
anchors and merge keys work, dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evalrunner.errors import Problem, SuiteError, nearest
from evalrunner.suite.schema import KeyPath

MAX_BYTES = 16 * 1024 * 1024  # of a suite file; data belongs in a dataset
MAX_DEPTH = 100  # levels of nesting
MAX_VALUES = 1_000_000  # after aliases are resolved: a few lines can expand to billions


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  the attribute of PyYAML


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if len(text) > 4000:  # Python refuses longer ones, with an error of its own
        raise yaml.constructor.ConstructorError(None, None, "a number of more than 4,000 digits", node.start_mark)
    return int(text, 16) if text.startswith("0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in a file: line and column, counted from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Document:
    """The data of one file, the positions of its values and keys by path, and the problems reported so far."""

    file: str
    data: Any = None
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overridden: dict[KeyPath, str] = field(default_factory=dict)
    excluded_targets: set[str] = field(default_factory=set)  # targets of the suite that the command line did not select

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        """Report a problem at `path`."""
        self.problems.append(self.problem_at(path, message, at_key=at_key))

    def problem_at(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """The problem with its position; for a value set by the command line, that is its option."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return Problem(self.overridden[path[:length]], dotted(path), message)
        mark = self.keys.get(path) if at_key else None
        mark = mark or self.mark(path)
        where = f"{self.file}:{mark.line}:{mark.column}" if mark else self.file
        return Problem(where, dotted(path), message)

    def mark(self, path: KeyPath) -> Mark | None:
        """The position of `path`, or of its nearest parent."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return None

    def raise_problems(self) -> None:
        """Raise SuiteError with all problems in file order, if there are any."""
        if self.problems:
            raise SuiteError(sorted(set(self.problems), key=_place))


def _place(problem: Problem) -> tuple[int, int, str]:
    parts = problem.where.rsplit(":", 2)
    numbers = [int(part) for part in parts[1:] if part.isdigit()]
    return (numbers[0], numbers[1], str(problem)) if len(numbers) == 2 else (0, 0, str(problem))


def dotted(path: KeyPath) -> str:
    """`scorers[1].type` for `("scorers", 1, "type")`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def load_document(path: Path, *, label: str) -> Document:
    """The document in a file. Raises SuiteError if it cannot be read or is not YAML."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        known = [str(other) for other in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
        raise SuiteError([Problem(label, "", f"file not found{nearest(str(path), known)}")]) from None
    except OSError as refused:
        raise SuiteError([Problem(label, "", f"cannot be read: {refused.strerror or refused}")]) from None
    if len(raw) > MAX_BYTES:
        raise SuiteError(
            [Problem(label, "", f"is larger than {MAX_BYTES // 2**20} MiB; put the data into a dataset file")]
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = raw.count(b"\n", 0, broken.start) + 1
        raise SuiteError([Problem(f"{label}:{line}:1", "", "is not UTF-8; save the file as UTF-8")]) from None
    return parse_document(text, file=label)


def parse_document(text: str, *, file: str) -> Document:
    """The document in `text`. Raises SuiteError with line and column if it is not YAML."""
    document = Document(file)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.data = _Builder(loader, document).build(node, (), 0)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError, RecursionError) as broken:
        raise SuiteError([_yaml_problem(broken, file)]) from None
    finally:
        loader.dispose()
    return document


def _yaml_problem(broken: Exception, file: str) -> Problem:
    mark = getattr(broken, "problem_mark", None)
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    if isinstance(broken, RecursionError):
        return Problem(file, "", f"is nested deeper than {MAX_DEPTH} levels")
    what = getattr(broken, "problem", None) or getattr(broken, "reason", None) or str(broken)
    context = getattr(broken, "context", None)
    hint = "; quote text that contains ? : , # or brackets" if mark is not None else ""
    return Problem(where, "", f"is not valid YAML: {what}{f' ({context})' if context else ''}{hint}")


class _Builder:
    """Builds data and positions from the node tree, in one pass."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self.loader = loader
        self.document = document
        self.values = 0

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_VALUES:,} values"
            raise yaml.constructor.ConstructorError(None, None, f"more than {limit}", node.start_mark)
        self.document.marks[path] = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, place), depth + 1) for place, child in enumerate(node.value)]
        return self.loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> Mapping[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                mark = Mark(key.start_mark.line + 1, key.start_mark.column + 1)
                where = f"{self.document.file}:{mark.line}:{mark.column}"
                name = dotted((*path, str(key.value)))
                self.document.problems.append(Problem(where, name, "duplicate key; remove one"))
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        self.loader.flatten_mapping(node)  # merged keys come first, so the keys of the mapping itself win
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is not plain text", key.start_mark)
            name = str(key.value)
            inner = (*path, name)
            self.document.keys[inner] = Mark(key.start_mark.line + 1, key.start_mark.column + 1)
            data[name] = self.build(value, inner, depth + 1)
        return data
