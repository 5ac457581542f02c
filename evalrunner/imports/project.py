"""The files of an imported project: suites as readable YAML, data, scorers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from evalrunner.errors import SuiteError
from evalrunner.storage import write_bytes

REPORT: Final = "MIGRATION.md"
WIDTH: Final = 110
MAX_FLOW: Final = 70  # characters of a list or mapping on one line
NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*")


@dataclass
class SuiteFile:
    """A suite: its file name, its keys in their order, and comments above keys at its top level."""

    name: str
    data: dict[str, Any]
    comments: dict[str, str] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """The suite as YAML, one key after the other."""
        parts = []
        for key, value in self.data.items():
            note = self.comments.get(key)
            parts += [f"# {line}\n" for line in note.splitlines()] if note else []
            parts.append(yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH))
        return "".join(parts)


@dataclass
class Project:
    """Files by their path in the output folder, and suites."""

    files: dict[str, bytes | str] = field(default_factory=dict)
    suites: list[SuiteFile] = field(default_factory=list)

    def write(self, folder: Path, report: str = "", *, force: bool = False) -> list[str]:
        """Write everything; the names of the files. Raises SuiteError if the folder has files and `force` is not set."""
        if not force and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SuiteError(f"{folder} is not empty; name another folder with -o, or overwrite its files with --force")
        content = dict(self.files) | {suite.name: suite.to_yaml() for suite in self.suites}
        content |= {REPORT: report} if report else {}
        for name in content:
            self._check_name(name)
        for name, data in content.items():
            path = folder / name
            if not path.parent.resolve().is_relative_to(folder.resolve()):
                raise SuiteError(f"{path.parent} is a link out of {folder}; remove it")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
        return list(content)

    def _check_name(self, name: str) -> None:
        """Raise if a name could lead out of the folder, whatever a source wanted."""
        steps = name.split("/")
        if not all(NAME.fullmatch(step) for step in steps):
            raise SuiteError(f"{name!r} is no name for a file of a project; rename it in the source")


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, short lists and mappings on one line, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Repeat values instead of naming them."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    block = "\n" in text and not re.search(r"[ \t]\n|^[ \t\n]|[\r\x85\u2028\u2029\ufeff]|\t", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if block else None)


def _is_short(value: Any) -> bool:
    items = list(value.values()) if isinstance(value, Mapping) else value
    simple = all(isinstance(item, str | int | float | bool | None) and "\n" not in str(item) for item in items)
    return (
        simple
        and sum(len(str(item)) + 4 for item in [*items, *(value if isinstance(value, Mapping) else ())]) <= MAX_FLOW
    )


def _list(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=bool(value) and _is_short(value))


def _mapping(dumper: _Dumper, value: dict[str, Any]) -> yaml.Node:
    nested = len(dumper.represented_objects) > 1  # not the suite itself
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=nested and _is_short(value))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(dict, _mapping)
