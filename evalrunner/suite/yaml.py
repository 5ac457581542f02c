"""YAML text to plain data with the position of each value, and the `${VAR}` in it.

Plain scalars of YAML 1.2: `no`, `on` and `12:30` are text, as dataset authors expect. Duplicate keys are errors,
anchors and merge keys work, dates stay text.
"""

from __future__ import annotations

import gc
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from evalrunner.egress import ANY_HOST, EgressPolicy
from evalrunner.errors import Problem, SuiteError, nearest
from evalrunner.redact import redact, register_secrets_of_text
from evalrunner.spelling import spelled
from evalrunner.storage import EncodingError, FileTooLargeError, decode_utf8, read_file
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.yaml_errors import control_character, explain, quoted_template

if TYPE_CHECKING:
    from evalrunner.suite.untrusted import Restrictions

MAX_BYTES = 16 * 1024 * 1024  # of a suite file; data belongs in a dataset
MAX_PYTHON_LENGTH = 512 * 1024  # characters that PyYAML's own scanner reads; it takes a second for them
ODD = re.compile(r"[\t\ufeff]|(?<!\S)!(?!\S)")
"""Tabs, byte order marks and tags without a name, which libyaml reads otherwise than PyYAML's own scanner."""
SPELLED_KINDS = frozenset({int, float, bool})
MAX_DEPTH = 100  # levels of nesting
MAX_VALUES = 250_000  # after aliases are resolved: a few lines can expand to billions
MERGE = "tag:yaml.org,2002:merge"
TAGS: Mapping[type[yaml.Node], frozenset[str]] = {
    yaml.ScalarNode: frozenset({"null", "bool", "int", "float", "str", "merge"}),
    yaml.SequenceNode: frozenset({"seq"}),
    yaml.MappingNode: frozenset({"map"}),
}
"""The tags of the core schema by what they stand on; others make values that no suite can use."""


class _CoreSchema(SafeConstructor, Resolver):
    """Resolves plain scalars by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  the attribute of PyYAML


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):  # fmt: skip
    _CoreSchema.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class _BoundedComposer(Composer):
    """Limits depth and values while it composes, with aliases counted as what they expand to."""

    depth = 0
    values = 0

    def compose_document(self) -> yaml.Node | None:
        """The document; its anchors mean nothing in another one."""
        self.sizes: dict[str, int] = {}  # values below each anchor; one that is not complete yet has none
        return super().compose_document()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node."""
        event = self.peek_event()  # type: ignore[attr-defined]  # of the parser
        before = self.values
        self.values += self.sizes.get(event.anchor or "", 0) if isinstance(event, yaml.AliasEvent) else 1
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            raise _too_deep(event.start_mark)
        if self.values > MAX_VALUES:
            raise _too_many_values(event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self.sizes[event.anchor] = self.values - before
        return node


class _PythonLoader(_BoundedComposer, _CoreSchema, yaml.SafeLoader):
    """Scans with PyYAML's own code: slow, but its errors say most. Builds the tree and values of the other loader."""


if yaml.__with_libyaml__:

    class _CLoader(_BoundedComposer, yaml.cyaml.CParser, _CoreSchema):  # type: ignore[name-defined,misc]  # stubs lack it
        """Scans with libyaml, in a thirtieth of the time."""

        def __init__(self, text: str) -> None:
            yaml.cyaml.CParser.__init__(self, text)  # type: ignore[attr-defined]
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


VERBATIM_SECTIONS: frozenset[KeyPath] = frozenset({("dataset", "rows"), ("dataset", "where")})
"""Where scalars are data: 1.10, 007 and True keep how they are written."""


def _limit_error(what: str, mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    """The error of a file that is YAML, but has something that no suite may have."""
    return yaml.constructor.ConstructorError(None, None, what, mark)


def _too_deep(mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    return _limit_error(f"more than {MAX_DEPTH} levels", mark)


def _too_many_values(mark: yaml.Mark) -> yaml.constructor.ConstructorError:
    return _limit_error(f"more than {MAX_VALUES:,} values; put the data into a dataset file (JSON Lines, CSV, …)", mark)


def _construct_int(loader: _CoreSchema, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if len(text) > (4000 if text.isdigit() else 3000):  # Python prints no longer ones; hexadecimal digits count more
        raise _limit_error("a number of more than 3,000 digits; put it in quotes", node.start_mark)
    return int(text, 16) if text.startswith("0x") else int(text)


_CoreSchema.add_constructor("tag:yaml.org,2002:int", _construct_int)  # type: ignore[type-var]  # a mixin of loaders


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
    files: list[Path] = field(default_factory=list)  # prompts that it names, directly or in other files
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)  # what `${VAR}` in its values means
    hosts: EgressPolicy = ANY_HOST  # that the command line allows
    restrictions: Restrictions | None = None  # what it may use; None if it is trusted
    owner_paths: set[KeyPath] = field(default_factory=set)  # values of the command line

    def is_owners(self, path: KeyPath) -> bool:
        """Whether the value at `path` was set by the command line."""
        return any(path[:length] in self.owner_paths for length in range(1, len(path) + 1))

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
    line, column = numbers if len(numbers) == 2 else (0, *numbers[:1], 0)[:2]  # a line of data has no column
    return line, column, str(problem)


def dotted(path: KeyPath) -> str:
    """`scorers[1].type` for `("scorers", 1, "type")`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


VALUES = frozenset(["all", "false", "judges", "no", "off", "on", "true", "yes"])
"""Words that stand for the value of an option which takes none, so that they are read as suites."""


def load_document(path: Path, *, label: str, regular: bool = False) -> Document:
    """The document in a file. Raises SuiteError if it cannot be read or is not YAML.

    `regular` refuses pipes and devices, for a file that a suite names; one on the command line may be `<(…)`.
    """
    try:
        raw = read_file(path, max_bytes=MAX_BYTES, regular=regular)
    except FileNotFoundError:
        known = [str(other) for other in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
        advice = "; --cache, --untrusted and the like take no value" if str(path).lower() in VALUES else ""
        raise SuiteError([Problem(label, "", f"file not found{nearest(str(path), known)}{advice}")]) from None
    except FileTooLargeError:
        raise SuiteError(
            [Problem(label, "", f"is larger than {MAX_BYTES // 2**20} MiB; put the data into a dataset file")]
        ) from None
    except OSError as refused:
        raise SuiteError([Problem(label, "", f"cannot be read: {refused.strerror or refused}")]) from None
    try:
        text = decode_utf8(raw)
    except EncodingError as wrong:
        where = f"{label}:{wrong.line}:1" if wrong.line else label
        raise SuiteError([Problem(where, "", str(wrong))]) from None
    return parse_document(text, file=label)


def parse_document(
    text: str, *, file: str, base: KeyPath = (), libyaml: bool = bool(yaml.__with_libyaml__)
) -> Document:
    """The document in `text`. Raises SuiteError with line and column if it is not YAML.

    `base` is the place in a suite that the text is for, where it is only a part of one. Without `libyaml`, PyYAML's own
    scanner is used, as where PyYAML has no libyaml.
    """
    document = Document(file)
    if (strange := yaml.reader.Reader.NON_PRINTABLE.search(text)) is not None:
        slip = control_character(text, strange.start())
        raise SuiteError([Problem(slip.place(file), "", slip.message)])
    try:
        with _without_collections():
            loader, node = _compose(text, libyaml=libyaml)
            if node is not None:
                builder = _Builder(loader, document, text, base)
                document.data = builder.build(node, (), 0)
                if builder.unreadable:
                    document.raise_problems()
    except yaml.YAMLError as broken:
        register_secrets_of_text(text)
        slip = explain(broken, text)
        raise SuiteError([Problem(slip.place(file), "", redact(slip.message))]) from None
    return document


def _compose(text: str, *, libyaml: bool) -> tuple[_CoreSchema, yaml.Node | None]:
    """The loader and the tree of a text. Raises YAMLError.

    What libyaml refuses is read again by PyYAML's own scanner, which says more, and which takes some forms that libyaml
    does not, such as characters beyond 16 bits in two escapes.
    """
    short = len(text) <= MAX_PYTHON_LENGTH
    if libyaml and not (short and ODD.search(text)):
        fast = _CLoader(text)
        try:
            return fast, fast.get_single_node()
        except (yaml.scanner.ScannerError, yaml.parser.ParserError):
            if not short:
                raise
    elif not short:
        raise _limit_error(
            f"more than {MAX_PYTHON_LENGTH:,} characters, which takes PyYAML with libyaml; install a wheel of PyYAML, or "
            "put the data into a dataset file",
            yaml.Mark("", 0, 0, 0, None, 0),
        )
    loader = _PythonLoader(text)
    try:
        return loader, loader.get_single_node()
    finally:
        loader.dispose()


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage collections, which take most of the time where a hundred thousand objects are made at once."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _verbatim(value: float | bool, text: str) -> Any:
    """A number or boolean of the data with its spelling, plain where Python writes it the same."""
    if text == (str(value).lower() if isinstance(value, bool) else str(value)):
        return value
    if not math.isfinite(value):
        return text
    try:
        return spelled(text)
    except ValueError:  # a tag such as !!bool or !!float made it of other text
        return value


class _Builder:
    """Builds data and positions from the node tree, in one pass. `unreadable` values are reported and left out."""

    def __init__(self, loader: _CoreSchema, document: Document, text: str, base: KeyPath) -> None:
        self.loader = loader
        self.base = base
        self.document = document
        self.text = text
        self.values = 0
        self.unreadable = False
        self.parents: set[int] = set()
        self.merging: set[int] = set()

    def build(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise _too_many_values(node.start_mark) if depth <= MAX_DEPTH else _too_deep(node.start_mark)
        if id(node) in self.parents:
            raise _limit_error("an anchor that contains its own alias", node.start_mark)
        self.document.marks[path] = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
        kind, _, name = str(node.tag).rpartition(":")
        if kind != "tag:yaml.org,2002" or name not in TAGS[type(node)]:
            shown = (f"!!{name}" if kind == "tag:yaml.org,2002" else str(node.tag))[:40]
            return self._refuse(node, path, f"the tag {shown} is not known here; put the text in quotes, without a tag")
        if isinstance(node, yaml.MappingNode | yaml.SequenceNode):
            self.parents.add(id(node))
            built: Any = (
                self._mapping(node, path, depth)
                if isinstance(node, yaml.MappingNode)
                else self._sequence(node, path, depth)
            )
            self.parents.discard(id(node))
            return built
        if name == "merge":  # the text << as a value
            return str(node.value)
        try:
            value = self.loader.construct_object(node)
            if type(value) in SPELLED_KINDS and (*self.base, *path)[:2] in VERBATIM_SECTIONS:
                return _verbatim(value, str(node.value))
            if isinstance(value, float) and not math.isfinite(value):  # JSON, which stores runs, has no such number
                self._report(node, dotted(path), f"is {value}; it should be a finite number")
            return joined_surrogates(value) if isinstance(value, str) and not value.isascii() else value
        except UnicodeError:
            return self._refuse(
                node, path, "has half of a surrogate pair, which is no text; write the character itself"
            )
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):  # of !!int abc, !!bool maybe …
            return self._refuse(node, path, f"{str(node.value)[:40]!r} is not a value of !!{name}; remove the tag")

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath, depth: int) -> list[Any]:
        return [self.build(child, (*path, place), depth + 1) for place, child in enumerate(node.value)]

    def _refuse(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.unreadable = True
        self._report(node, dotted(path), message)

    def _report(self, node: yaml.Node, key: str, message: str) -> None:
        where = f"{self.document.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        self.document.problems.append(Problem(where, key, message))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> Mapping[str, Any] | None:
        if any(not isinstance(key, yaml.ScalarNode) for key, _ in node.value):
            self._refuse_key(node, path)
            return None
        self._report_duplicates(node, path)
        data: dict[str, Any] = {}
        for name, (key, value) in self._entries(node).items():
            inner = (*path, name)
            self.document.keys[inner] = Mark(key.start_mark.line + 1, key.start_mark.column + 1)
            data[name] = self.build(value, inner, depth + 1)
        return data

    def _refuse_key(self, node: yaml.MappingNode, path: KeyPath) -> None:
        """Report a key that is a list or a mapping; most often it is a template without quotes."""
        written = self.text[node.start_mark.index : node.end_mark.index]
        if written.startswith("{{"):
            self._refuse(node, path, quoted_template(written))
            return
        key = next(key for key, _ in node.value if not isinstance(key, yaml.ScalarNode))
        self._refuse(key, path, "a list or a mapping cannot be a key; keys are text")

    def _report_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != MERGE:
                self._report(key, dotted((*path, str(key.value))), "duplicate key; remove one")
            seen.add(key.value)

    def _entries(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Key and value by name, merged ones first. Keys of the mapping itself win, then those of earlier mappings.

        Each name is kept once, so that merges of merges cannot multiply.
        """
        if id(node) in self.merging or len(self.merging) > MAX_DEPTH:
            raise _limit_error("a mapping that is merged into itself, or merges nested too deep", node.start_mark)
        self.merging.add(id(node))
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _limit_error("a key that is a list or a mapping; keys are text", key.start_mark)
            if key.tag != MERGE:
                own[_key_text(key)] = (key, value)
                continue
            for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(each, yaml.MappingNode):
                    raise _limit_error("'<<' with something that is no mapping; write <<: *defaults", each.start_mark)
                self.values += len(each.value)
                if self.values > MAX_VALUES:
                    raise _too_many_values(each.start_mark)
                for name, entry in self._entries(each).items():
                    merged.setdefault(name, entry)
        self.merging.discard(id(node))
        return {**merged, **own}


def _key_text(key: yaml.ScalarNode) -> str:
    try:
        return joined_surrogates(str(key.value))
    except UnicodeError:
        raise _limit_error("a key with half of a surrogate pair, which is no text", key.start_mark) from None


def joined_surrogates(text: str) -> str:
    """The text with pairs of surrogates, as JSON escapes them, as one character. Raises UnicodeError for halves."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
