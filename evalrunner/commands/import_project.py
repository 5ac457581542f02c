"""Import a project of another tool: read it, write suites and data, and report what became of every part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalrunner.imports.migration import Migration
from evalrunner.imports.project import REPORT
from evalrunner.imports.tools import load_tool


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The report, the folder, the files in it, and which of them are suites."""

    migration: Migration
    folder: Path
    files: tuple[str, ...]
    suites: tuple[str, ...]


def import_project(tool: str, source: Path, folder: Path, *, force: bool = False) -> ImportResult:
    """Write the suites of a project. Raises SuiteError if it cannot be read, or the folder has files."""
    reader = load_tool(tool)
    migration = Migration()
    project = reader(source, migration)
    title = f"Import of {source.name or source} ({tool})"
    files = project.write(folder, migration.to_markdown(title), force=force)
    return ImportResult(migration, folder, tuple(files), tuple(suite.name for suite in project.suites))


__all__ = ["REPORT", "ImportResult", "import_project"]
