"""A dataset of a suite as samples: scanned once before the first call, then streamed as often as asked.

Rows go where → shuffle → limit. Neither pass holds more than one row at a time; what grows with the dataset are
8-byte keys and offsets.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from evalrunner.datasets.checks import ScanReport, StrictObserver
from evalrunner.datasets.identity import FirstPass, LaterPass, RowProblem, digest_line
from evalrunner.datasets.order import Shuffle
from evalrunner.datasets.resolve import DatasetResolver
from evalrunner.datasets.rows import SourceRows
from evalrunner.datasets.sources import Source
from evalrunner.domain import EMPTY, Sample
from evalrunner.errors import Problem, RunError, SuiteError
from evalrunner.suite.schema import DatasetSpec

Check = Callable[[Sample], Sequence[str]]
SAMPLES = "samples"  # the scope of what is wrong with every sample


@dataclass(frozen=True, slots=True)
class Scan:
    """What the first pass found.

    `columns` are the source's own, in order of appearance. `digest` is the sha256 of the canonical JSON of every
    sample in order. `expected` counts the samples that have an accepted answer.
    """

    count: int
    columns: tuple[str, ...]
    digest: str
    notices: tuple[str, ...] = ()
    expected: int = 0


def open_dataset(
    spec: DatasetSpec,
    *,
    folder: Path,
    spool_folder: Path,
    stdin: BinaryIO | None = None,
    stored_stdin: Path | None = None,
    addresses: Mapping[str, str | None] = EMPTY,
) -> SampleSource:
    """The dataset of a suite. Raises SuiteError where it names no file, no reader or wrong options.

    Paths are relative to `folder`. `spool_folder` takes standard input, downloads and shuffled samples, for as long as
    the source lives. `stored_stdin` is a file that is read in place of standard input, where a run goes on. `addresses`
    are those of the suite's trackers.
    """
    opening = DatasetResolver(spec, folder, spool_folder, stdin, stored_stdin, addresses)
    source = SampleSource(spec, opening.parts(), spool_folder, spooled=opening.spooled)
    source.origin = opening.origin
    return source


class SampleSource:
    """Samples in a fixed order with fixed ids, streamed from the source each time they are iterated over.

    `spooled` is the file that standard input was written to, None where the dataset is not read from there. `origin` says
    what exactly was read from another system.
    """

    origin: Mapping[str, str] | None = None

    def __init__(
        self, spec: DatasetSpec, parts: Sequence[Source], spool_folder: Path, *, spooled: Path | None = None
    ) -> None:
        self.spooled = spooled
        self._spec = spec
        self._rows = SourceRows(spec, tuple(parts))
        self._spool_folder = spool_folder
        self._shuffle: Shuffle | None = None
        self._stamps: list[tuple[int, int] | None] = []
        self._repeats: dict[str, int] = {}
        self._count: int | None = None

    def scan(self, check: Check) -> Scan:
        """Read everything once, and `check` every sample that will be used; it returns what is wrong with one.

        Raises SuiteError with the first problems, and for a dataset that comes out empty.
        """
        self._stamps = [part.stamp() for part in self._rows.parts]
        findings, ids = ScanReport(unseen=set(self._spec.where)), FirstPass()
        count, answered = 0, 0
        digest = hashlib.sha256()
        for sample, place in self._ordered(findings, ids):
            count += 1
            answered += bool(sample.expected)
            findings.on_candidate(SAMPLES)
            try:
                digest.update(digest_line(sample) + b"\n")
            except RowProblem as wrong:
                findings.problem(Problem(place, "", str(wrong)))
                continue
            for said in check(sample):
                whole = Problem(place, "", f"{said} (so for every sample)")
                findings.problem(Problem(place, "", said), group=(SAMPLES, said), whole=whole)
        problems = self._rows.problems(findings, ids)
        if problems or not count:
            raise SuiteError(problems or [self._rows.why_empty(findings)])
        self._repeats, self._count = ids.repeats, count
        return Scan(count, tuple(findings.columns), digest.hexdigest(), _notices(ids.repeats), answered)

    def __iter__(self) -> Iterator[Sample]:
        """The samples, with the ids and in the order of the scan. Raises RunError where the source has changed."""
        if self._count is None:
            self.scan(lambda sample: ())
        if self._shuffle is not None:
            return (sample for sample, _ in self._shuffle)
        return self._again()

    def _again(self) -> Iterator[Sample]:
        for part, stamp in zip(self._rows.parts, self._stamps, strict=True):
            if part.stamp() != stamp:
                raise RunError(f"{part.display_name} changed after it was checked; run again")
        count = 0
        for sample, _ in self._limited(self._rows.iter_samples(StrictObserver(), LaterPass(self._repeats))):
            count += 1
            if count > (self._count or 0):
                break
            yield sample
        if count != self._count:
            raise RunError(f"the dataset changed after it was checked: it had {self._count:,} samples; run again")

    def _ordered(self, findings: ScanReport, ids: FirstPass) -> Iterator[tuple[Sample, str]]:
        """The samples of the first pass with their places, in the order of the run."""
        kept = self._rows.iter_samples(findings, ids)
        if self._spec.shuffle is None:
            return self._limited(kept)
        self._spool_folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="shuffled-", suffix=".jsonl", dir=self._spool_folder)
        os.close(handle)
        path = Path(name)
        weakref.finalize(self, path.unlink, missing_ok=True)
        self._shuffle = Shuffle(path, seed=self._spec.shuffle, limit=self._spec.limit)
        self._shuffle.fill(kept)
        return iter(self._shuffle)

    def _limited(self, samples: Iterator[tuple[Sample, str]]) -> Iterator[tuple[Sample, str]]:
        return itertools.islice(samples, self._spec.limit)


def _notices(repeats: Mapping[str, int]) -> tuple[str, ...]:
    extra = sum(repeats.values()) - len(repeats)
    if not extra:
        return ()
    if extra == 1:
        return ("1 sample is an exact duplicate of another one (same input and expected); its id ends in -2",)
    endings = "-2, -3 …" if max(repeats.values()) > 2 else "-2"
    return (f"{extra:,} samples are exact duplicates of others (same input and expected); their ids end in {endings}",)
