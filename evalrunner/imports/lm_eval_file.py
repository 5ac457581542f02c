"""A task file of lm-evaluation-harness with the files that it includes, and the lines of its values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.source_data import line_of, plain, read_text, read_yaml, unreadable
from evalrunner.suite.yaml import Document, dotted

FUNCTION: Final = re.compile(r"(:|-)[ \t]+!function[ \t]+['\"]?([^\s'\"#]+)['\"]?", re.MULTILINE)
MAX_INCLUDES: Final = 20


@dataclass
class TaskFile:
    """The keys of a task, and for each the document that it is from."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)

    def place(self, path: tuple[str | int, ...]) -> Place:
        """Where a value is written."""
        document = self.documents.get(str(path[0])) if path else None
        if document is None:
            return Place(self.path.name, None, dotted(path))
        return Place(Path(document.file).name, line_of(document, path), dotted(path))


def read_task(path: Path, root: Path, migration: Migration) -> TaskFile:
    """The task in a file. `include` is followed inside of `root` only. Raises SuiteError if it cannot be read."""
    task = TaskFile(path)
    _merge(task, path, root, migration, set())
    return task


def _merge(task: TaskFile, path: Path, root: Path, migration: Migration, seen: set[Path]) -> None:
    """Add the keys of a file that the task does not have yet, then those of the files that it includes."""
    resolved = path.resolve()
    if resolved in seen:
        raise unreadable(path, "includes itself")
    if len(seen) >= MAX_INCLUDES:
        raise unreadable(path, f"includes more than {MAX_INCLUDES} files")
    seen.add(resolved)
    document = read_yaml(path, FUNCTION.sub(r"\1 '!function \2'", read_text(path, max_bytes=16 * 2**20)))
    if not isinstance(document.data, Mapping):
        raise unreadable(path, "is no task: it should be a mapping with the key 'task'")
    data = plain(document.data)
    for key, value in data.items():
        if key not in task.data:
            task.data[key] = value
            task.documents[key] = document
    included = data.get("include")
    if included is None:
        return
    place = Place(path.name, line_of(document, ("include",)), "include")
    for name in included if isinstance(included, list) else [included]:
        other = path.parent / name if isinstance(name, str) else None
        if other is None or not other.resolve().is_relative_to(root.resolve()):
            migration.left(
                place, f"include: {name}", f"is outside of {root.name or '.'}; import the folder that has both files"
            )
        else:
            _merge(task, other, root, migration, seen)
            migration.carried(place, f"include: {name}", "the suite")
