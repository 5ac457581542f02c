"""Find the suites of a folder: `*.eval.yaml` in it and below, and the suites in its folders `evals` and `suites`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ENDINGS: Final = (".eval.yaml", ".eval.yml")
YAML: Final = (".yaml", ".yml")
FOLDERS: Final = ("evals", "suites")
SKIPPED: Final = frozenset(
    {"runs", "node_modules", "venv", "build", "dist", "site-packages", "__pycache__", "baselines"}
)
MAX_DEPTH: Final = 4  # folders below the first
MAX_ENTRIES: Final = 20_000  # files and folders looked at, so that a home folder ends in time
HEAD_BYTES: Final = 65_536  # of a file that is looked at
SCORERS: Final = re.compile(rb"^scorers[ \t]*:", re.MULTILINE)
SUBJECT: Final = re.compile(rb"^(?:target|targets|dataset)[ \t]*:", re.MULTILINE)


def find_suites(folder: Path, *, named: bool = False) -> list[Path]:
    """The suites of a folder, sorted. If the user `named` it, its own YAML files count as well, as in `evals`."""
    found: set[Path] = set()
    for path, depth in _files(folder):
        place = path.parent.relative_to(folder).parts
        inside = (named and depth == 0) or (bool(place) and place[0] in FOLDERS)
        if path.name.endswith(ENDINGS) or (inside and path.name.endswith(YAML) and is_suite(path)):
            found.add(path)
    return sorted(found)


def is_suite(path: Path) -> bool:
    """Whether a YAML file has the keys of a suite at its top level."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return bool(SCORERS.search(head) and SUBJECT.search(head))


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """The regular files of a folder and below with their depth; links to folders and hidden folders are not followed."""
    pending, seen = [(folder, 0)], 0
    while pending:
        place, depth = pending.pop(0)
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > MAX_ENTRIES:
                return
            try:
                if entry.is_file():
                    yield place / entry.name, depth
                elif entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH and not _is_skipped(entry.name):
                    pending.append((place / entry.name, depth + 1))
            except OSError:
                continue


def _is_skipped(name: str) -> bool:
    return name in SKIPPED or name.startswith(".")
