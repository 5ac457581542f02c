"""The rows of a dataset as samples, in the order of the source, and why there are none or too many of an id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from evalrunner.datasets.checks import ScanObserver, ScanReport
from evalrunner.datasets.columns import Mapper, MissingColumn, known_columns
from evalrunner.datasets.conditions import compile_where, getter
from evalrunner.datasets.identity import FirstPass, LaterPass, RowProblem, Suspect
from evalrunner.datasets.records import Record
from evalrunner.datasets.sources import Source
from evalrunner.datasets.text_files import BrokenLine
from evalrunner.domain import Sample
from evalrunner.errors import Problem, nearest
from evalrunner.prompts import ABSENT
from evalrunner.suite.schema import DatasetSpec

MOST_SHOWN = 5  # values of a column, named where a condition kept nothing
MOST_VALUES = 1000  # looked at to find the nearest one
LONGEST_VALUE = 40  # characters of a value in a message


@dataclass(frozen=True, slots=True)
class SourceRows:
    """All parts of one dataset, read from the start as often as asked."""

    spec: DatasetSpec
    parts: tuple[Source, ...]

    def iter_samples(self, watch: ScanObserver, ids: FirstPass | LaterPass) -> Iterator[tuple[Sample, str]]:
        """Every sample that `where` keeps with its place; `watch` hears of all the others that are wrong."""
        index = 0
        where = self.spec.where
        for part in self.parts:
            mapper = Mapper(self.spec.columns, text_only=part.text_only)
            keeps = compile_where(where, text_only=part.text_only) if where else None
            for record, place in part.records():
                if isinstance(record, BrokenLine):
                    watch.problem(Problem(place, "", record.message))
                    continue
                watch.on_record(record)
                if keeps is not None and not keeps(record):
                    continue
                watch.on_candidate(part.display_name)
                try:
                    fields = mapper.fields(record)
                    name = ids.name(fields, place)
                except RowProblem as wrong:
                    for problem in mapper.problems(record) or [wrong]:
                        self._report(watch, part, place, problem)
                    continue
                yield Sample(name, fields.input, fields.expected, record, fields.messages, index), place
                index += 1

    def problems(self, findings: ScanReport, ids: FirstPass) -> list[Problem]:
        """Everything that the first pass found wrong."""
        hint = "" if self.spec.columns.id else "; if 'id' is not what tells samples apart, map columns: {id: …}"
        for suspect, first in self._firsts(ids.suspects):
            said = f"has the id {suspect.id!r} of {first}; ids have to be unique"
            findings.problem(Problem(suspect.place, "", said + hint))
            hint = ""  # once is enough
        findings.total += ids.suspected - len(ids.suspects)
        unknown = [column for column in self.spec.where if column in findings.unseen] if findings.rows else []
        return [*(self._unknown(column, findings.columns) for column in unknown), *findings.problems()]

    def why_empty(self, findings: ScanReport) -> Problem:
        """Why there is no sample: no rows at all, or none that `where` keeps, with the values that there are."""
        if not findings.rows:
            several = f"none of the {len(self.parts)} files that {self.spec.path!r} matches has a row"
            return Problem("", "dataset", several if len(self.parts) > 1 else f"{self._shown} has no rows")
        conditions = ", ".join(f"{column}: {_shown(wanted)}" for column, wanted in self.spec.where.items())
        values = "; ".join(self._values(column) for column in self.spec.where)
        said = f"{{{conditions}}} keeps none of the {findings.rows:,} rows of {self._shown}; {values}"
        return Problem("", "dataset.where", said)

    @property
    def _shown(self) -> str:
        return self.parts[0].display_name if len(self.parts) == 1 else str(self.spec.path)

    def _report(self, watch: ScanObserver, part: Source, place: str, wrong: RowProblem) -> None:
        problem = Problem(place, "", str(wrong))
        if not isinstance(wrong, MissingColumn):
            watch.problem(problem)
            return
        mapped = getattr(self.spec.columns, wrong.role) is not None
        key = f"dataset.columns.{wrong.role}" if mapped else "dataset"
        whole = Problem("", key, f"no column {wrong.column!r} in {part.display_name}{wrong.hint}")
        watch.problem(problem, group=(part.display_name, (wrong.role, wrong.column)), whole=whole)

    def _firsts(self, suspects: Iterable[Suspect]) -> Iterator[tuple[Suspect, str]]:
        """Each suspect that has indeed been there before, with the place of the first. Reads everything again."""
        suspects = list(suspects)
        wanted = {suspect.id for suspect in suspects}
        firsts: dict[str, tuple[int, str]] = {}
        if wanted:
            for number, (sample, place) in enumerate(self.iter_samples(ScanObserver(), LaterPass({}))):
                if sample.id in wanted:
                    firsts.setdefault(sample.id, (number, place))
        for suspect in suspects:
            number, place = firsts[suspect.id]
            if number != suspect.number:  # else two ids share their 64-bit key
                yield suspect, place

    def _unknown(self, column: str, known: Iterable[str]) -> Problem:
        known = list(known)
        said = f"no column {column!r} in {self._shown}; it has: {known_columns(known)}{nearest(column, known)}"
        return Problem("", f"dataset.where.{column}", said)

    def _values(self, column: str) -> str:
        """The values that a column has, the nearest one to what was wanted named."""
        get = getter(column)
        found: dict[str, Any] = {}
        for record in self._records():
            value = get(record)
            if value is not ABSENT:
                found.setdefault(_shown(value), value)
            if len(found) > MOST_VALUES:
                break
        texts = [value for value in found.values() if isinstance(value, str)]
        wanted = self.spec.where[column]
        hint = nearest(wanted, texts) if isinstance(wanted, str) and wanted not in texts else ""
        more = ", …" if len(found) > MOST_SHOWN else ""
        return f"{column!r} has {', '.join(list(found)[:MOST_SHOWN])}{more}{hint}"

    def _records(self) -> Iterator[Record]:
        for part in self.parts:
            yield from (record for record, _ in part.records() if not isinstance(record, BrokenLine))


def _shown(value: Any) -> str:
    """A value as the suite would write it, cut short."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
