"""What a pass over a dataset finds: its columns, its rows, and its problems, each group of them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeAlias

from evalrunner.datasets.getters import getter
from evalrunner.datasets.records import MAX_COLUMNS, Record, names_problem
from evalrunner.errors import Problem, RunError, SuiteError
from evalrunner.prompts import ABSENT

MAX_PROBLEMS = 20
MAX_GROUPS = 100  # a problem of every record is one of the first record, so its group comes early
SAMPLES = "samples"  # the scope of problems that every sample has

Group: TypeAlias = tuple[Hashable, Hashable]
"""A scope (a file, or all samples) and a problem in it."""


class ScanObserver:
    """Is notified of what a pass reads. This one ignores it."""

    def on_record(self, record: Record) -> None:
        """A record was read."""

    def on_candidate(self, scope: Hashable) -> None:
        """`where` selected a record, or a sample will be checked."""

    def on_list(self, column: str) -> None:
        """An accepted answer is a list that was read as one text."""

    def on_problem(self, problem: Problem, *, group: Group | None = None, whole: Problem | None = None) -> None:
        """A problem was found. `whole` replaces it if everything in the scope of the group has it."""


class StrictObserver(ScanObserver):
    """For later passes: a problem that the first pass did not find means that the data changed."""

    def on_problem(self, problem: Problem, *, group: Group | None = None, whole: Problem | None = None) -> None:
        raise RunError(f"the dataset changed after it was checked: {problem}")


@dataclass(slots=True)
class ScanReport(ScanObserver):
    """For the first pass: the first problems, the number of all, and the columns and rows read."""

    rows: int = 0
    candidates: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    nested: dict[str, None] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    total: int = 0
    lists_as_text: int = 0
    list_column: str = ""
    _first: list[tuple[Problem, Group | None]] = field(default_factory=list)
    _wholes: dict[Group, Problem] = field(default_factory=dict)
    _members: Counter[Group | None] = field(default_factory=Counter)
    _scopes: Counter[Hashable] = field(default_factory=Counter)

    def on_record(self, record: Record) -> None:
        self.rows += 1
        if not self.columns.keys() >= record.keys():
            self.columns.update(dict.fromkeys(record))
            if problem := names_problem(record if len(self.columns) <= MAX_COLUMNS else self.columns):
                raise SuiteError([Problem("", "dataset", problem)])
            for name, value in record.items():
                if isinstance(value, dict) and len(self.nested) <= MAX_COLUMNS:
                    self.nested.update(dict.fromkeys(f"{name}.{key}" for key in value))
        if self.unseen:
            self.unseen = {column for column in self.unseen if getter(column)(record) is ABSENT}

    def on_candidate(self, scope: Hashable) -> None:
        self._scopes[scope] += 1
        self.candidates += scope != SAMPLES

    def on_list(self, column: str) -> None:
        self.lists_as_text += 1
        self.list_column = column

    def on_problem(self, problem: Problem, *, group: Group | None = None, whole: Problem | None = None) -> None:
        self.total += 1
        first = group is not None and whole is not None and group not in self._members
        if len(self._first) < MAX_PROBLEMS or (first and len(self._wholes) < MAX_PROBLEMS):
            self._first.append((problem, group))
            if first and group is not None and whole is not None:
                self._wholes[group] = whole
        if group in self._members or len(self._members) < MAX_GROUPS:
            self._members[group] += 1

    def problems(self) -> list[Problem]:
        """The first problems in order, and a last line that counts the others. One of every record is reported once."""
        total = self.total
        listed: list[Problem] = []
        reported: set[Group] = set()
        for problem, group in self._first:
            if group is None or self._members[group] < self._scopes[group[0]]:
                listed.append(problem)
            elif group not in reported:
                reported.add(group)
                listed.append(self._wholes.get(group, problem))
                total -= self._members[group] - 1
        listed = listed[:MAX_PROBLEMS]
        if total > len(listed):
            listed.append(Problem("", "", f"… and {total - len(listed):,} more"))
        return listed
