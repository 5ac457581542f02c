"""What a pass over a dataset notes beside its samples: problems, counts, columns.

What is wrong with every record alike, such as a column that the file does not have, is said once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from evalrunner.datasets.conditions import getter
from evalrunner.datasets.records import Record
from evalrunner.errors import Problem, RunError
from evalrunner.prompts import ABSENT

MOST_PROBLEMS = 20
MOST_GROUPS = 100  # what is wrong with every record is wrong with the first, so its group comes early

Group: TypeAlias = tuple[Hashable, Hashable]
"""A scope (a file, or all samples) and what is wrong in it."""


class ScanObserver:
    """What the passes tell; this one does not listen."""

    def on_record(self, record: Record) -> None:
        """A record was read."""

    def on_candidate(self, scope: Hashable) -> None:
        """A record was kept by `where`, or a sample is about to be checked."""

    def problem(self, problem: Problem, *, group: Group | None = None, whole: Problem | None = None) -> None:
        """Something is wrong; `whole` is what to say if it is so for everything in the group's scope."""


class StrictObserver(ScanObserver):
    """For later passes: what was right in the first one can only be wrong now because the data changed."""

    def problem(self, problem: Problem, *, group: Group | None = None, whole: Problem | None = None) -> None:
        raise RunError(f"the dataset changed after it was checked: {problem}")


@dataclass(slots=True)
class ScanReport(ScanObserver):
    """For the first pass: the first problems of all, counted, with the columns and rows that were seen."""

    rows: int = 0
    kept: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    total: int = 0
    _found: list[tuple[Problem, Group | None]] = field(default_factory=list)
    _wholes: dict[Group, Problem] = field(default_factory=dict)
    _members: Counter[Group | None] = field(default_factory=Counter)
    _scopes: Counter[Hashable] = field(default_factory=Counter)

    def on_record(self, record: Record) -> None:
        self.rows += 1
        if not self.columns.keys() >= record.keys():
            self.columns.update(dict.fromkeys(record))
        if self.unseen:
            self.unseen = {column for column in self.unseen if getter(column)(record) is ABSENT}

    def on_candidate(self, scope: Hashable) -> None:
        self._scopes[scope] += 1

    def problem(self, problem: Problem, *, group: Group | None = None, whole: Problem | None = None) -> None:
        self.total += 1
        first = group is not None and whole is not None and group not in self._members
        if len(self._found) < MOST_PROBLEMS or (first and len(self._wholes) < MOST_PROBLEMS):
            self._found.append((problem, group))
            if first and group is not None and whole is not None:
                self._wholes[group] = whole
        if group in self._members or len(self._members) < MOST_GROUPS:
            self._members[group] += 1

    def problems(self) -> list[Problem]:
        """The first problems in the order they were found, and a last line that counts the others."""
        total = self.total
        shown: list[Problem] = []
        said: set[Group] = set()
        for problem, group in self._found:
            if group is None or self._members[group] < self._scopes[group[0]]:
                shown.append(problem)
            elif group not in said:
                said.add(group)
                shown.append(self._wholes.get(group, problem))
                total -= self._members[group] - 1
        shown = shown[:MOST_PROBLEMS]
        if total > len(shown):
            shown.append(Problem("", "", f"… and {total - len(shown):,} more"))
        return shown
