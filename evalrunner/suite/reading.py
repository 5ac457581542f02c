"""What every section of a suite is read with: known keys, checked values, filled-in variables."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.errors import nearest
from evalrunner.suite.document import Document
from evalrunner.suite.interpolate import UnsetVariable, interpolate
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.values import check_value, shown


@dataclass(frozen=True, slots=True)
class SectionReader:
    """A document being read, with what its problems are reported to. `environ` fills `${VAR}`."""

    document: Document
    folder: Path
    environ: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)

    def report(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        self.document.problem(path, message, at_key=at_key)

    def mapping(self, data: Any, path: KeyPath) -> Mapping[str, Any] | None:
        """`data` if it is a mapping, else None and a problem."""
        if isinstance(data, Mapping):
            return data
        self.report(path, f"is {shown(data)}; it should be a mapping")
        return None

    def check_keys(
        self, data: Mapping[str, Any], path: KeyPath, known: Collection[str], *, later: Collection[str] = ()
    ) -> None:
        """Report every key that is not known, with the nearest that is, and those whose work comes later."""
        for name in data:
            if name in known:
                continue
            if name in later:
                self.report(
                    (*path, name), "not yet: this version of evalrun cannot do it; take the key out", at_key=True
                )
            else:
                hint = nearest(name, known) or f"; known here: {', '.join(known)}"
                self.report((*path, name), f"unknown key{hint}", at_key=True)

    def value(self, data: Any, annotation: Any, path: KeyPath) -> Any:
        """`data` checked against an annotation; None where it did not fit."""
        before = len(self.document.problems)
        checked = check_value(data, annotation, path, self.report)
        return checked if len(self.document.problems) == before else None

    def text(self, data: Any, path: KeyPath, *, fill: bool = False) -> str | None:
        """`data` as text, with its variables filled in where `fill` allows it; None and a problem otherwise."""
        checked: str | None = self.value(data, str, path)
        if checked is None or not fill:
            return checked
        try:
            return interpolate(checked, self.environ)
        except UnsetVariable as unset:
            self.report(path, str(unset))
            return None

    def typed(self, kind: type[Any], data: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
        """The fields of the dataclass `kind` that `data` gives, checked by annotation and rules."""
        hints = typing.get_type_hints(kind)
        found: dict[str, Any] = {}
        for item in dataclasses.fields(kind):
            if item.name not in data or "doc" not in item.metadata:
                continue
            place = (*path, item.name)
            if item.metadata.get("path"):
                checked = self.text(data[item.name], place, fill=True)
            else:
                checked = self.value(data[item.name], hints[item.name], place)
            if checked is not None and self._within(checked, item.metadata, place):
                found[item.name] = checked
        return found

    def _within(self, value: Any, rules: Mapping[str, Any], path: KeyPath) -> bool:
        if not isinstance(value, int | float):
            return True  # a word such as auto has no size
        if "minimum" in rules and value < rules["minimum"]:
            self.report(path, f"is {value}; it should be at least {rules['minimum']}")
            return False
        if "above" in rules and value <= rules["above"]:
            self.report(path, f"is {value}; it should be above {rules['above']}")
            return False
        return True
