"""A dataset as samples: scanned once before the first call, then streamed as often as needed.

Rows go through where, shuffle and limit, in this order. Neither pass holds more than one row at a time; what grows with
the dataset are 8-byte keys and offsets.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from evalrunner.datasets.columns import (
    ColumnMapper,
    FirstPassIds,
    LaterPassIds,
    PossibleDuplicate,
    digest_line,
    is_list,
    known_columns,
    sample_columns,
)
from evalrunner.datasets.conditions import SearchFailed, compile_where
from evalrunner.datasets.csv import DelimitedReader
from evalrunner.datasets.getters import MissingColumnError, RecordError, TemplateFailedError, getter
from evalrunner.datasets.hub import fetched
from evalrunner.datasets.json import parse_list
from evalrunner.datasets.records import InvalidRecord, Reader, Record, is_own_table
from evalrunner.datasets.scan_report import SAMPLES, ScanObserver, ScanReport, StrictObserver
from evalrunner.datasets.selection import EVERYTHING, StratifiedSample, Subset
from evalrunner.datasets.shuffle import Shuffle
from evalrunner.datasets.xlsx import ExcelSheet
from evalrunner.domain import Sample
from evalrunner.errors import PlacedProblem, Problem, RunError, SuiteError, nearest
from evalrunner.prompts import ABSENT
from evalrunner.suite.conditions import condition_columns
from evalrunner.suite.schema import DatasetSpec

CELL_READERS = (DelimitedReader, ExcelSheet)  # formats whose cells hold no lists, only texts of lists
MAX_VALUES_NAMED = 5  # values of a column in the message for a `where` that matches nothing
MAX_VALUES_READ = 1000  # to find the nearest one
MAX_VALUE_LENGTH = 40  # characters of a value in a message

SampleCheck: TypeAlias = Callable[[Sample], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of the first pass.

    `columns` are the source's own, in order of appearance. `digest` is the sha256 of the canonical JSON of every
    sample in order; `prefix_digest` is that of the first ones, as many as were asked for, None if there are fewer.
    `expected` counts the samples that have an accepted answer. `nested` are dotted names of keys one level below columns
    that are mappings, as the records that introduced a column have them. `whole` is count and digest of all samples if only
    those of a shard are used.
    """

    count: int
    columns: tuple[str, ...]
    digest: str
    notices: tuple[str, ...] = ()
    expected: int = 0
    prefix_digest: str | None = None
    nested: tuple[str, ...] = ()
    whole: tuple[int, str] | None = None
    attachments: tuple[str | None, str | None] = (None, None)  # digests of what prompts attach: all, and of the prefix


class SampleSource:
    """Samples in a fixed order with fixed ids, streamed from the source each time they are iterated over.

    `spooled` is the copy of standard input, None if the dataset is not read from it. `origin` is what exactly was read
    from another system. Only the samples of `subset` are used, its shard after the limit; all that are named must exist.
    """

    origin: Mapping[str, str] | None = None

    def __init__(
        self,
        spec: DatasetSpec,
        sources: Sequence[Source],
        spool_folder: Path,
        *,
        spooled: Path | None = None,
        subset: Subset = EVERYTHING,
    ) -> None:
        self.spooled = spooled
        self._spec = spec
        self._rows = SourceRows(spec, tuple(sources))
        self._failed, self._named, self._shard = subset.failed, subset.named, subset.shard
        self._sample = None if spec.sample is None else StratifiedSample(spec.sample, spec.by, spec.sample_seed)
        self._unseen: set[str] = set()
        self._spool_folder = spool_folder
        self._shuffle: Shuffle | None = None
        self._stamps: list[tuple[int, int] | None] = []
        self._repeats: dict[str, int] = {}
        self._count: int | None = None

    @property
    def display_name(self) -> str:
        """The name of the dataset in messages."""
        return self._rows.display_name

    def scan(self, check: SampleCheck, *, prefix: int | None = None) -> Scan:
        """Read everything once, and call `check` for every sample that will be used; it returns the problems of one.

        `prefix` is the number of first samples to digest apart. Raises SuiteError with the first problems, and for an
        empty dataset.
        """
        self._stamps = [source.stamp() for source in self._rows.sources]
        lists = self._rows.find_lists()
        self._choose_sample()
        report, ids = (
            ScanReport(unseen={*condition_columns(self._spec.where), *self._spec.columns.optional()}),
            FirstPassIds(),
        )
        count, answered, prefix_digest = 0, 0, None
        digest, every = hashlib.sha256(), _WholeDigest()
        for sample, location in self._of_shard(self._in_order(report, ids), every):
            count += 1
            answered += bool(sample.expected)
            report.on_candidate(SAMPLES)
            try:
                digest.update(digest_line(sample) + b"\n")
            except RecordError as wrong:
                report.on_problem(Problem(location, "", str(wrong)))
                continue
            if count == prefix:
                prefix_digest = digest.hexdigest()
            for message in check(sample):
                place = message.where if isinstance(message, PlacedProblem) else location
                whole = Problem(place, "", f"{message} (the same for every sample)")
                report.on_problem(Problem(location, "", message), group=(SAMPLES, message), whole=whole)
        problems = self._rows.problems(report, ids) or self._unknown_ids(report)
        if problems or not count:
            raise SuiteError(problems or [self._empty_reason(report, every.count)])
        self._repeats, self._count = ids.repeats, count if self._shard is None else every.count
        notices = (*self._rows.notices(), *_list_notices(lists, report), *_duplicate_notices(ids.repeats))
        columns = sample_columns(report.columns, self._spec.columns)
        return Scan(
            count, columns, digest.hexdigest(), notices, answered, prefix_digest, tuple(report.nested),
            None if self._shard is None else (every.count, every.digest.hexdigest()),
        )  # fmt: skip

    def _choose_sample(self) -> None:
        """Choose the samples of `sample`, for which everything is read once more."""
        if self._sample is None:
            return
        samples = self._rows.iter_samples(ScanObserver(), FirstPassIds())
        self._sample.choose(sample for sample, _ in samples if self._is_named(sample.id))

    def _unknown_ids(self, report: ScanReport) -> list[Problem]:
        """A problem for the ids that were named and that no row has, unless a limit may have left them out."""
        if not self._unseen or self._spec.limit is not None or not report.rows:
            return []
        names = sorted(self._unseen)
        known = itertools.islice(self._rows.iter_samples(ScanObserver(), FirstPassIds()), MAX_VALUES_READ)
        hint = nearest(names[0], [sample.id for sample, _ in known])
        more = f" and {len(names) - MAX_VALUES_NAMED:,} more" if len(names) > MAX_VALUES_NAMED else ""
        where = f" where {dict(self._spec.where)}" if self._spec.where else ""
        listed = ", ".join(map(repr, names[:MAX_VALUES_NAMED]))
        return [Problem("", "", f"--rows: no sample {listed}{more} in {self.display_name}{where}{hint}")]

    def _empty_reason(self, report: ScanReport, whole: int) -> Problem:
        if whole:
            samples = "the only sample is" if whole == 1 else f"none of the {whole:,} samples is"
            return Problem("", "", f"--shard {self._shard}: {samples} in this shard; use fewer shards")
        if self._spec.offset and report.candidates:
            left = f"leaves none of {report.candidates:,} samples"
            return Problem("", "dataset.offset", f"is {self._spec.offset:,}, which {left}; use a smaller one")
        if self._failed is None or not report.rows:
            return self._rows.empty_reason(report)
        where = f" where {dict(self._spec.where)}" if self._spec.where else ""
        samples = f"none of the {len(self._failed.ids):,} samples that {self._failed.reason}"
        return Problem("", "dataset", f"{samples} is in {self.display_name}{where}; did their ids or texts change?")

    def peek(self) -> Iterator[Sample]:
        """The samples as far as they can be read, also beyond the limit, before the scan. Problems are left to the scan."""
        rows = self._rows if self._count is None else replace(self._rows, sources=fetched(self._rows.sources))
        return (item for item, _ in rows.iter_samples(ScanObserver(), FirstPassIds()))

    def __iter__(self) -> Iterator[Sample]:
        """The samples, with the ids and in the order of the scan. Raises RunError if the source has changed."""
        if self._count is None:
            self.scan(lambda sample: ())
        samples = self._stream() if self._shuffle is None else self._window(self._shuffle)
        return (sample for sample, _ in self._of_shard(samples))

    def _stream(self) -> Iterator[tuple[Sample, str]]:
        for source, stamp in zip(self._rows.sources, self._stamps, strict=True):
            if source.stamp() != stamp:
                raise RunError(f"{source.display_name} changed after it was checked; run again")
        count = 0
        samples = self._selected(self._rows.iter_samples(StrictObserver(), LaterPassIds(self._repeats)))
        for item in self._window(samples):
            count += 1
            if count > (self._count or 0):
                break
            yield item
        if count != self._count:
            raise RunError(f"the dataset changed after it was checked: it had {self._count:,} samples; run again")

    def _selected(self, samples: Iterator[tuple[Sample, str]]) -> Iterator[tuple[Sample, str]]:
        """The samples that are selected, numbered anew; all of them if there is no selection."""
        if self._failed is None and self._named is None and self._sample is None:
            return samples
        sample_takes = None if self._sample is None else self._sample.takes
        return _numbered(
            (sample, location)
            for sample, location in samples
            if self._is_named(sample.id) and (sample_takes is None or sample_takes(sample))
        )

    def _is_named(self, id: str) -> bool:
        """Whether the selections have an id."""
        if self._named is not None and id in self._named.ids:
            self._unseen.discard(id)
        return all(one is None or id in one.ids for one in (self._failed, self._named))

    def _window(self, samples: Iterable[tuple[Sample, str]]) -> Iterator[tuple[Sample, str]]:
        """The samples from the offset up to the limit."""
        offset, limit = self._spec.offset, self._spec.limit
        items = itertools.islice(samples, offset, None if limit is None else offset + limit)
        return _numbered(items) if offset else items

    def _of_shard(
        self, samples: Iterator[tuple[Sample, str]], whole: _WholeDigest | None = None
    ) -> Iterator[tuple[Sample, str]]:
        """The samples of the shard, numbered anew; all of them without one. `whole` sees all, if there is a shard."""
        shard = self._shard
        if shard is None:
            return samples
        seen = samples if whole is None else whole.watch(samples)
        return _numbered((sample, location) for sample, location in seen if shard.has(sample.id))

    def _in_order(self, report: ScanReport, ids: FirstPassIds) -> Iterator[tuple[Sample, str]]:
        """The samples of the first pass with their locations, in the order of the run."""
        self._unseen = set(self._named.ids if self._named is not None else ())
        samples = self._selected(self._rows.iter_samples(report, ids))
        if self._spec.shuffle is None:
            return self._window(samples)
        self._spool_folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="shuffled-", suffix=".jsonl", dir=self._spool_folder)
        os.close(handle)
        path = Path(name)
        weakref.finalize(self, path.unlink, missing_ok=True)
        cluster = self._spec.cluster if self._spec.keep_clusters else None
        limit = None if self._spec.limit is None else self._spec.offset + self._spec.limit
        self._shuffle = Shuffle(path, seed=self._spec.shuffle, limit=limit, cluster=cluster)
        self._shuffle.fill(samples)
        return self._window(self._shuffle)


@dataclass(slots=True)
class _WholeDigest:
    """Counts and digests the samples of all shards."""

    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def watch(self, samples: Iterable[tuple[Sample, str]]) -> Iterator[tuple[Sample, str]]:
        """The samples as they are."""
        for sample, location in samples:
            self.count += 1
            with suppress(RecordError):  # a problem of its own shard
                self.digest.update(digest_line(sample) + b"\n")
            yield sample, location


def _numbered(samples: Iterable[tuple[Sample, str]]) -> Iterator[tuple[Sample, str]]:
    """The samples, numbered from 0."""
    return ((replace(sample, index=place), location) for place, (sample, location) in enumerate(samples))


def _list_notices(lists: Iterable[str], report: ScanReport) -> tuple[str, ...]:
    """What was done with lists in the cells of a text format."""
    notices = [
        f"every cell of {column!r} is a JSON list: each item is an accepted answer; to accept the texts as they are, set columns: {{expected: {{column: {column}, json: false}}}}"
        for column in lists
    ]
    if report.lists_as_text:
        cells = (
            "1 cell of the accepted answers is a list that was"
            if report.lists_as_text == 1
            else f"{report.lists_as_text:,} cells of the accepted answers are lists that were"
        )
        notices.append(
            f"{cells} read as one text; to accept each item, set columns: {{expected: {{column: {report.list_column}, json: true}}}}"
        )
    return tuple(notices)


def _duplicate_notices(repeats: Mapping[str, int]) -> tuple[str, ...]:
    extra = sum(repeats.values()) - len(repeats)
    if not extra:
        return ()
    if extra == 1:
        return ("1 sample is an exact duplicate of another one (same input and expected); its id ends in -2",)
    suffixes = "-2, -3 …" if max(repeats.values()) > 2 else "-2"
    return (f"{extra:,} samples are exact duplicates of others (same input and expected); their ids end in {suffixes}",)


@dataclass(frozen=True, slots=True)
class Source:
    """One reader with its name in messages. `file` is what it reads, None if that is no file."""

    reader: Reader
    display_name: str
    file: Path | None = None

    def records(self) -> Iterator[tuple[Record, str]]:
        """Each record with its location as messages show it: `stdin`, not the name of its copy."""
        if self.file is None or self.display_name == str(self.file):
            return self.reader()
        path = str(self.file)
        return (
            (record, self.display_name + place.removeprefix(path) if place.startswith(path) else place)
            for record, place in self.reader()
        )

    def stamp(self) -> tuple[int, int] | None:
        """Size and time of the file, to see whether it changed after the check."""
        try:
            stat = self.file.stat() if self.file is not None else None
        except OSError:
            return None
        return None if stat is None else (stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The rows of all sources of a dataset, read from the start as often as needed."""

    spec: DatasetSpec
    sources: tuple[Source, ...]
    lists: dict[str, None] = field(default_factory=dict)  # columns whose cells are all JSON lists

    def find_lists(self) -> Iterable[str]:
        """The columns of accepted answers in text files whose cells are all JSON lists.

        Most columns are decided by their first cell. Only a column of lists is read to its end.
        """
        mapper = ColumnMapper(self.spec.columns, text_only=True)
        files = [source for source in self.sources if isinstance(source.reader, CELL_READERS)]
        if not mapper.detects_lists or len(files) < len(self.sources):
            return ()
        for column in mapper.expected_columns:
            cells = (cell for source in files for cell in _cells(source, column))
            first = next(cells, None)
            if (
                first is not None
                and parse_list(first) is not None
                and all(parse_list(cell) is not None for cell in cells)
            ):
                self.lists[column] = None
        return self.lists

    def iter_samples(self, observer: ScanObserver, ids: FirstPassIds | LaterPassIds) -> Iterator[tuple[Sample, str]]:
        """Every sample that `where` selects, with its location. `observer` gets the problems of the others."""
        index, where = 0, self.spec.where
        for source in self.sources:
            text_only = bool(getattr(source.reader, "text_only", False))
            mapper = ColumnMapper(self.spec.columns, text_only=text_only)
            selects = compile_where(where, "text" if text_only else "typed") if where else None
            mapper.lists = frozenset(self.lists)
            cells = text_only or isinstance(source.reader, CELL_READERS)
            detects, first = mapper.detects_lists, True
            for record, location in source.records():
                if isinstance(record, InvalidRecord):
                    observer.on_problem(Problem(location, "", record.message))
                    continue
                if first and detects and is_own_table(record):
                    mapper.lists = frozenset(mapper.expected_columns)
                first = False
                observer.on_record(record)
                try:
                    if selects is not None and not selects(record):
                        continue
                except SearchFailed as slow:
                    raise SuiteError([Problem(location, "", str(slow))]) from None  # others would take as long
                observer.on_candidate(source.display_name)
                try:
                    fields = mapper.fields(record)
                    name = ids.assign(fields, location)
                except RecordError as wrong:
                    for problem in mapper.problems(record) or [wrong]:
                        self._report(observer, source, location, problem)
                    continue
                if cells and detects and not mapper.lists and any(map(is_list, fields.expected)):
                    observer.on_list(mapper.expected_columns[0])
                yield mapper.sample(name, fields, record, index), location
                index += 1

    def problems(self, report: ScanReport, ids: FirstPassIds) -> list[Problem]:
        """All problems of the first pass."""
        hint = "" if self.spec.columns.id else "; if 'id' does not identify samples, map columns: {id: …}"
        for duplicate, name, first in self._firsts(ids.duplicates):
            same = f"of {first}" if name == duplicate.id else f"and {first} has {name!r}: only spaces differ"
            message = f"has the id {duplicate.id!r} {same}; ids must be unique"
            report.on_problem(Problem(duplicate.location, "", message + hint))
            hint = ""  # once is enough
        report.total += ids.duplicate_count - len(ids.duplicates)
        places = {
            **self.spec.columns.optional(),
            **{name: f"where.{name}" for name in condition_columns(self.spec.where)},
        }
        unknown = [(name, place) for name, place in places.items() if name in report.unseen] if report.rows else []
        return [*(self._unknown_column(name, place, report.columns) for name, place in unknown), *report.problems()]

    def empty_reason(self, report: ScanReport) -> Problem:
        """Why there is no sample: no rows, or none that `where` selects, with the values that there are."""
        if not report.rows:
            message = f"none of the {len(self.sources)} files that match {self.spec.path!r} has a row"
            return Problem("", "dataset", message if len(self.sources) > 1 else f"{self.display_name} has no rows")
        conditions = ", ".join(f"{column}: {_display(wanted)}" for column, wanted in self.spec.where.items())
        values = "; ".join(self._values(column) for column in condition_columns(self.spec.where))
        message = f"{{{conditions}}} matches none of the {report.rows:,} rows of {self.display_name}; {values}"
        return Problem("", "dataset.where", message)

    def notices(self) -> Iterator[str]:
        """What the readers have left out in the last pass."""
        for source in self.sources:
            yield from (f"{source.display_name}: {notice}" for notice in getattr(source.reader, "notices", ()))

    @property
    def display_name(self) -> str:
        """The name of the file, or what several have in common."""
        return self.sources[0].display_name if len(self.sources) == 1 else str(self.spec.path)

    def _report(self, observer: ScanObserver, source: Source, location: str, wrong: RecordError) -> None:
        problem = Problem(location, "", str(wrong))
        if isinstance(wrong, TemplateFailedError):
            everywhere = Problem("", f"dataset.columns.{wrong.role}", f"{wrong.problem} ({source.display_name})")
            observer.on_problem(problem, group=(source.display_name, str(wrong)), whole=everywhere)
            return
        if not isinstance(wrong, MissingColumnError):
            observer.on_problem(problem)
            return
        mapped = getattr(self.spec.columns, wrong.role) is not None
        key = f"dataset.columns.{wrong.role}" if mapped else "dataset"
        whole = Problem("", key, f"no column {wrong.column!r} in {source.display_name}{wrong.hint}")
        observer.on_problem(problem, group=(source.display_name, (wrong.role, wrong.column)), whole=whole)

    def _firsts(self, duplicates: Iterable[PossibleDuplicate]) -> Iterator[tuple[PossibleDuplicate, str, str]]:
        """Each true duplicate with id and location of the first sample of its id. Reads everything again."""
        duplicates = list(duplicates)
        wanted = {duplicate.id.strip() for duplicate in duplicates}
        firsts: dict[str, tuple[int, str, str]] = {}
        if wanted:
            for number, (sample, location) in enumerate(self.iter_samples(ScanObserver(), LaterPassIds({}))):
                if sample.id.strip() in wanted:
                    firsts.setdefault(sample.id.strip(), (number, sample.id, location))
        for duplicate in duplicates:
            number, name, location = firsts[duplicate.id.strip()]
            if number != duplicate.number:  # else two ids share their 64-bit key
                yield duplicate, name, location

    def _unknown_column(self, column: str, place: str, columns: Iterable[str]) -> Problem:
        known = list(columns)
        message = f"no column {column!r} in {self.display_name}; it has: {known_columns(known)}{nearest(column, known)}"
        return Problem("", f"dataset.{place}", message)

    def _values(self, column: str) -> str:
        """The values that a column has, with the one nearest to the condition."""
        get = getter(column)
        values: dict[str, Any] = {}
        for record in self._records():
            value = get(record)
            if value is not ABSENT:
                values.setdefault(_display(value), value)
            if len(values) > MAX_VALUES_READ:
                break
        texts = [value for value in values.values() if isinstance(value, str)]
        wanted = self.spec.where.get(column)
        hint = nearest(wanted, texts) if isinstance(wanted, str) and wanted not in texts else ""
        more = ", …" if len(values) > MAX_VALUES_NAMED else ""
        return f"{column!r} has {', '.join(list(values)[:MAX_VALUES_NAMED])}{more}{hint}"

    def _records(self) -> Iterator[Record]:
        for source in self.sources:
            yield from (record for record, _ in source.records() if not isinstance(record, InvalidRecord))


def _cells(source: Source, column: str) -> Iterator[str]:
    """The texts of a column that are not empty. Nothing more is read of a file without the column."""
    get = getter(column)
    for record, _ in source.records():
        cell = get(record)
        if cell is ABSENT and not isinstance(record, InvalidRecord):
            return
        if isinstance(cell, str) and cell:
            yield cell


def _display(value: Any) -> str:
    """A value as the suite would write it, cut to MAX_VALUE_LENGTH."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_display(item) for item in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"
