"""Checks of the suite and of rows, from data to their typed form: `{contains: 30 days}`, `refusal`, `{all: […]}`.

Data of a row has no positions, so problems go to a function that gets the path inside the checks and a message.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, get_args

from evalrunner.domain import EMPTY, NoAnswer
from evalrunner.errors import nearest
from evalrunner.plugin_table import OPTION_OF_NAME
from evalrunner.plugins import NEGATION, OWN_MODEL, ReferenceProblem, known_names, main_option_of, resolve
from evalrunner.suite.conditions import condition_problems
from evalrunner.suite.schema import AnyCheck, CheckGroup, CheckSpec, ChecksSpec, KeyPath, ModelSpec
from evalrunner.suite.validate import FORMS, SectionReader, describe_value, reads
from evalrunner.suite.yaml import Document

GROUPS: Final = ("all", "any")
MAX_CHECKS: Final = 1_000  # of one row
MAX_REPORTED: Final = 20  # problems of inline rows beside those of the suite
MAX_DEPTH: Final = 8  # levels of groups
CHECK_KEYS: Final = ("type", "name", "weight", "threshold", "extract", "judge", "model", "on_no_answer", "args", "turn")
GROUP_KEYS: Final = ("all", "any", "name", "weight", "threshold")
BROKEN_NAME: Final = frozenset("/[]<>= \t\r\n")
FOREIGN: Final[Mapping[str, str]] = {
    "icontains": "{contains: …, ignore_case: true}",
    "equals": "{exact_match: …}",
    "is-json": "json",
    "contains-json": "{json: …, extract: …}",
    "llm-rubric": "{rubric: …}",
    "javascript": "{expr: …}",
    "assert-set": "{all: […]}",
    "latency": "{latency_under: …}",
    "cost": "{cost_under: …}",
    "similar": "{embedding_similarity: …}",
    "word-count": "{max_words: …}",
}
"""Types of promptfoo whose name here is not near, with the form here."""

Report: TypeAlias = Callable[[KeyPath, str], None]
ReadJudge: TypeAlias = "Callable[[Any, KeyPath], ModelSpec | str | None]"


@functools.cache
def check_types() -> frozenset[str]:
    """The names of all scorers: each is a type of check, and so is its negation."""
    return frozenset(known_names("scorers"))


def is_type(name: str) -> bool:
    """Whether a key is a type of check: a scorer, its negation, or a reference to a custom one."""
    return (
        name in check_types() or ":" in name or (name.startswith(NEGATION) and name[len(NEGATION) :] in check_types())
    )


@functools.cache
def main_option(kind: str) -> str | None:
    """The option that the short form of a type sets; None for types without one, and for references."""
    try:
        return None if ":" in kind else main_option_of(resolve("scorers", kind, folder=Path()))
    except ReferenceProblem:  # reported where the scorer is made
        return None


def has_own_model(form: Mapping[str, Any]) -> bool:
    """Whether `model` is an option of the scorer itself, not the model that it asks over the network."""
    named = [form["type"]] if "type" in form else list(form)
    return any(isinstance(kind, str) and kind in OWN_MODEL for kind in named)


def split_negation(kind: str) -> tuple[str, bool]:
    """The type without `not_`, and whether it had it."""
    inner = kind.removeprefix(NEGATION)
    negated = inner != kind and kind not in check_types()
    return (inner, True) if negated else (kind, False)


class Form(NamedTuple):
    """A check or scorer as it is written: its type, its options, and the keys beside them."""

    type: Any
    options: Mapping[str, Any]
    beside: Mapping[str, Any]


def read_form(item: Mapping[str, Any], keys: Collection[str], path: KeyPath, report: Report) -> Form | None:
    """The form of `{type: TYPE, …}` or `{TYPE: VALUE, …}`; None and a problem if no key is one type.

    `keys` are those that are no options. A mapping as VALUE holds options, whatever their names.
    """
    if "type" in item:
        kind, value = item["type"], None
    else:
        types = [name for name in item if name not in keys and is_type(name)]
        if len(types) != 1:
            report(path, _type_problem(item, keys, types))
            return None
        kind, value = types[0], item[types[0]]
    beside = {name: inner for name, inner in item.items() if name in keys and name != "type"}
    short = None if "type" in item else kind  # the one key that is neither an option nor beside them
    options = {name: inner for name, inner in item.items() if name not in keys and name not in ("type", short)}
    if "type" in item or value is None:
        return Form(kind, options, beside)
    if isinstance(value, Mapping):
        inside = dict(value)
    elif (option := main_option(split_negation(kind)[0])) is not None:
        inside = {option: value}
    else:
        form = f"{{type: {kind}, OPTION: …}}" if ":" in kind else f"{kind}: {{OPTION: …}}"
        report((*path, kind), f"is {describe_value(value)}, but {kind!r} has no main option; write {form}")
        return None
    if twice := next((name for name in inside if name in options), None):
        report((*path, twice), f"is set twice: beside {kind!r} and as its value; keep one of them")
        return None
    return Form(kind, {**inside, **options}, beside)


def _type_problem(item: Mapping[str, Any], keys: Collection[str], types: list[str]) -> str:
    """Why a mapping names no single type."""
    if len(types) > 1:
        return f"has several types: {', '.join(types)}; write each as an item of its own, or {{type: {types[0]}, …}}"
    others = [str(name) for name in item if name not in keys]
    if not others:
        return "needs a type, such as {contains: 30 days}"
    return unknown_type(others[0])


def unknown_type(name: str) -> str:
    """That there is no such type, with the nearest one."""
    if name in FOREIGN:
        return f"unknown check {name!r}; write {FOREIGN[name]}"
    plain, negated = split_negation(name.replace("-", "_"))
    hint = nearest(plain, check_types())
    if negated and hint:
        hint = hint.replace("mean '", f"mean '{NEGATION}")
    return f"unknown check {name[:80]!r}{hint or '; run `evalrun list scorers` to see all'}"


class ChecksReader:
    """Reads checks and reports their problems. `read_judge` is for the judges of checks in a suite; rows name one.

    With `narrows`, a check may have `where:`.
    """

    def __init__(self, report: Report, *, read_judge: ReadJudge | None = None, narrows: bool = False) -> None:
        self.report = report
        self.read_judge = read_judge
        self.keys = (*CHECK_KEYS, "where") if narrows else CHECK_KEYS
        self.group_keys = (*GROUP_KEYS, "where") if narrows else GROUP_KEYS
        self.count = 0

    def read(self, data: Any, path: KeyPath = ()) -> ChecksSpec:
        """The checks in a list, in one item, or in `{threshold: 0.7, all: […]}`."""
        if data is None or (isinstance(data, str) and not data.strip()):
            return ChecksSpec()
        if isinstance(data, Mapping) and "all" in data and not {"name", "weight", "where"} & data.keys():
            self._unknown(data, ("all", "threshold"), path)
            threshold = self._share(data.get("threshold"), (*path, "threshold"))
            return ChecksSpec(self._items(data["all"], (*path, "all"), 0), threshold)
        if isinstance(data, list | tuple):
            return ChecksSpec(self._items(data, path, 0))
        item = self.item(data, path, 0)
        return ChecksSpec((item,) if item is not None else ())

    def _items(self, data: Any, path: KeyPath, depth: int) -> tuple[AnyCheck, ...]:
        if not isinstance(data, list | tuple):
            self.report(path, f"is {describe_value(data)}; it should be a list of checks")
            return ()
        items: list[AnyCheck] = []
        for place, inner in enumerate(data):
            self.count += 1
            if self.count > MAX_CHECKS:
                self.report(path, f"has more than {MAX_CHECKS:,} checks")
                break
            item = self.item(inner, (*path, place), depth)
            if item is not None:
                items.append(item)
        return tuple(items)

    def item(self, data: Any, path: KeyPath, depth: int) -> AnyCheck | None:
        """One check or group; None and its problems."""
        if isinstance(data, str):
            kind = data.strip()
            scorer, _, value = kind.partition(":")
            if value and main_option(split_negation(scorer)[0]) is not None:
                entry = f"{scorer}: {value.strip()[:80]}"
                self.report(path, f"is text; write {entry} with a space after the colon, and no quotes around both")
                return None
            if not is_type(kind):
                quoted = f"; for a text to look for, write {{contains: {describe_value(kind)}}}" if " " in kind else ""
                self.report(path, unknown_type(kind) if not quoted else f"unknown check {kind[:80]!r}{quoted}")
                return None
            data = {"type": kind}
        if not isinstance(data, Mapping):
            self.report(path, f"is {describe_value(data)}; it should be a check such as {{contains: 30 days}}")
            return None
        if any(not isinstance(name, str) for name in data):
            self.report(path, "has a key that is no text")
            return None
        if "type" not in data and (rule := next((name for name in GROUPS if name in data), None)) is not None:
            return self._group(rule, data, path, depth)
        keys = tuple(name for name in self.keys if name != "model") if has_own_model(data) else self.keys
        form = read_form(data, keys, path, self.report)
        if form is None:
            return None
        check = self._check(form, path)
        empty = "type" not in data and data[form.type] is None
        return replace(check, empty=True) if empty and check is not None else check

    def _group(self, rule: str, data: Mapping[str, Any], path: KeyPath, depth: int) -> CheckGroup | None:
        self._unknown(data, self.group_keys, path)
        if all(name in data for name in GROUPS):
            self.report(path, "has both 'all' and 'any'; nest one in the other")
            return None
        if depth >= MAX_DEPTH:
            self.report(path, f"is nested more than {MAX_DEPTH} levels deep")
            return None
        if rule == "any" and data.get("threshold") is not None:
            self.report((*path, "threshold"), "goes with 'all'; one check is enough for 'any'")
        checks = self._items(data[rule], (*path, rule), depth + 1)
        if isinstance(data[rule], list | tuple) and not data[rule]:
            self.report((*path, rule), "is empty; a group needs a check")
        return CheckGroup(
            rule, checks, name=self._name(data.get("name"), (*path, "name")),
            weight=self._weight(data.get("weight"), (*path, "weight")),
            threshold=self._share(data.get("threshold"), (*path, "threshold")) if rule == "all" else None,
            where=self._where(data.get("where"), (*path, "where")), key_path=path,
        )  # fmt: skip

    def _check(self, form: Form, path: KeyPath) -> CheckSpec | None:
        kind, beside = form.type, form.beside
        if not isinstance(kind, str):
            self.report((*path, "type"), f"is {describe_value(kind)}; it should be the name of a scorer")
            return None
        if not is_type(kind):
            self.report((*path, "type"), unknown_type(kind))
            return None
        inner, negated = split_negation(kind)
        options = dict(form.options)
        if (option := OPTION_OF_NAME.get(inner)) is not None and isinstance(beside.get("name"), str):
            options.setdefault(option, beside["name"])
        args = beside.get("args")
        if args is not None and not isinstance(args, Mapping):
            self.report((*path, "args"), f"is {describe_value(args)}; it should be a mapping")
            args = None
        if not beside:
            return CheckSpec(inner, options, negated=negated, key_path=path)
        return CheckSpec(
            inner, options, negated=negated, name=self._name(beside.get("name"), (*path, "name")),
            weight=self._weight(beside.get("weight"), (*path, "weight")),
            threshold=self._number(beside.get("threshold"), (*path, "threshold")),
            extract=beside.get("extract"), judge=self._judge(beside.get("judge"), (*path, "judge")),
            model=self._judge(beside.get("model"), (*path, "model")), on_no_answer=self._no_answer(beside.get("on_no_answer"), (*path, "on_no_answer")), args=args or EMPTY,
            where=self._where(beside.get("where"), (*path, "where")), turn=self._turn(beside.get("turn"), (*path, "turn")), key_path=path,
        )  # fmt: skip

    def _turn(self, value: Any, path: KeyPath) -> int | None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            self.report(path, f"is {describe_value(value)}; it should be the number of a turn, from 1")
            return None
        return value

    def _unknown(self, data: Mapping[str, Any], known: tuple[str, ...], path: KeyPath) -> None:
        for name in data:
            if name not in known:
                hint = nearest(str(name), known) or f"; valid keys: {', '.join(known)}"
                self.report((*path, str(name)), f"unknown key{hint}")

    def _name(self, value: Any, path: KeyPath) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self.report(path, f"is {describe_value(value)}; it should be text")
        elif not value or BROKEN_NAME & set(value) or not value.isprintable():
            self.report(path, f"{value[:80]!r} should have no spaces and none of / [ ] < > =")
        elif len(value) > 100:
            self.report(path, "should have at most 100 characters")
        else:
            return value
        return None

    def _number(self, value: Any, path: KeyPath) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.report(path, f"is {describe_value(value)}; it should be a number")
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.report(path, "should be a finite number")
            return None
        return number

    def _weight(self, value: Any, path: KeyPath) -> float:
        number = self._number(value, path)
        if number is not None and not 0 <= number <= 1e9:
            self.report(path, f"is {number:g}; it should be at least 0 and at most 1e9")
            return 1.0
        return 1.0 if number is None else number

    def _share(self, value: Any, path: KeyPath) -> float | None:
        number = self._number(value, path)
        if number is not None and not 0 <= number <= 1:
            self.report(path, f"is {number:g}; it should be a share from 0 to 1")
            return None
        return number

    def _no_answer(self, value: Any, path: KeyPath) -> NoAnswer | None:
        choice: NoAnswer | None = next((one for one in get_args(NoAnswer) if one == value), None)
        if value is not None and choice is None:
            self.report(path, f"is {describe_value(value)}; it should be one of {', '.join(get_args(NoAnswer))}")
        return choice

    def _judge(self, value: Any, path: KeyPath) -> ModelSpec | str | None:
        if value is None:
            return None
        if self.read_judge is not None:
            return self.read_judge(value, path)
        if not isinstance(value, str):
            self.report(path, f"is {describe_value(value)}; a row names a {path[-1]} of the suite")
            return None
        return value

    def _where(self, value: Any, path: KeyPath) -> Mapping[str, Any]:
        if value is None:
            return EMPTY
        if not isinstance(value, Mapping) or not value:
            self.report(path, f"is {describe_value(value)}; it should be columns with their values")
            return EMPTY
        for name, item in value.items():
            if isinstance(item, list | tuple) and not item:
                self.report((*path, name), f"is {describe_value(item)}; it should be a value or a list of values")
        for place, problem in condition_problems(value):
            self.report((*path, *place), problem)
        return dict(value)


def report_inline_checks(document: Document) -> None:
    """Report the problems of the checks of inline rows beside those of a suite that ends the command before its rows are read."""
    data = document.data if isinstance(document.data, Mapping) else {}
    dataset = data.get("dataset")
    rows = dataset.get("rows") if isinstance(dataset, Mapping) and not dataset.get("columns") else None
    before = len(document.problems)
    for number, row in enumerate(rows if isinstance(rows, list) else ()):
        checks = row.get("checks") if isinstance(row, Mapping) else None
        if isinstance(checks, list | dict) and len(document.problems) - before < MAX_REPORTED:
            ChecksReader(document.problem).read(checks, ("dataset", "rows", number, "checks"))


@reads(ChecksSpec)
def read_checks(reader: SectionReader, data: Any, path: KeyPath) -> ChecksSpec:
    """The checks of the suite, for every row unless `where:` narrows one."""
    checks = ChecksReader(
        reader.report, read_judge=lambda item, place: FORMS[ModelSpec](reader, item, place), narrows=True
    ).read(data, path)
    if not checks.checks and data in ([], {}, ""):
        reader.report(path, "is empty; add a check such as {contains: 30 days}, or remove the key")
    return checks
