"""Make one run of several: shards of a suite, or runs of other parts of its samples.

The merged run is that of the whole suite, whose rows are those of the parts: nothing is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from evalrunner import __version__
from evalrunner.commands.execution import execute, new_run
from evalrunner.commands.resume import ResumableRun, ResumeState
from evalrunner.commands.run import Session, plan_suite, priced
from evalrunner.datasets.columns import digest_line
from evalrunner.datasets.selection import Shard, shard_number
from evalrunner.domain import Reporter, Row
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.engine.attached_content import sum_of
from evalrunner.engine.plan import Job, Plan
from evalrunner.engine.result import RunResult
from evalrunner.errors import NotStartedError, SuiteError, listed
from evalrunner.formatting import counted
from evalrunner.runs.folder import RunFolder, find_run
from evalrunner.runs.provenance import DATASET_FIELDS, differences
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import FinishedRows, RowLog, row_at, scan_keys
from evalrunner.storage import spool_folder
from evalrunner.suite.options import (
    RunOptions,
    merge_options,
    options_from,
    require_own_options,
    require_redacted_options,
)
from evalrunner.suite.untrusted import check_location

MAX_NAMED: Final = 3  # samples or runs in a message
PARTS: Final = ("rows", "offset", "limit", "where", "sample", "failed_from")  # options that select samples
PART_FIELDS: Final = tuple(name for name in DATASET_FIELDS if name not in ("columns", "shuffle"))  # of a dataset


@dataclass(slots=True)
class Part:
    """A run to merge, with its finished rows."""

    folder: RunFolder
    record: RunRecord
    options: RunOptions
    finished: FinishedRows
    used: int = 0

    @property
    def name(self) -> str:
        shard = self.record.dataset.shard
        return self.folder.id if shard is None else f"{self.folder.id} (shard {shard})"

    @property
    def shard(self) -> Shard | None:
        return None if self.record.dataset.shard is None else Shard.parse(self.record.dataset.shard)


@dataclass(slots=True)
class Problems:
    """What keeps parts from being one run: rows of two parts, of none, and changed samples."""

    overlaps: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    missing_shards: Counter[str] = field(default_factory=Counter)
    changed: dict[str, list[str]] = field(default_factory=dict)

    def lines(self, parts: Sequence[Part]) -> Iterator[str]:
        """A sentence for each kind."""
        for (first, second), names in self.overlaps.items():
            yield f"runs {first} and {second} both have {_samples(names)}; merge each part once"
        for shard, rows in sorted(self.missing_shards.items()):
            yield f"shard {shard} is missing: {counted(rows, 'row')}; run it: evalrun SUITE --shard {shard}"
        if self.missing and not self.missing_shards:
            yield f"no run has {_samples(list(self.missing))}; run the missing part and merge it too"
        for name, names in self.changed.items():
            yield f"run {name} has another text or other columns of {_samples(names)} than the dataset; run that part again"
        for part in parts:
            if (extra := len(part.finished) - part.used) and not self.overlaps:
                yield f"run {part.name} has {counted(extra, 'row')} that the dataset of the merged run has not"


def _samples(names: Sequence[str]) -> str:
    shown = listed([repr(name) for name in names[:MAX_NAMED]], "and")
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return f"sample{'s' if len(names) > 1 else ''} {shown}{more}"


async def merge_runs(references: Sequence[str], session: Session, reporters: Sequence[Reporter]) -> RunResult:
    """The result of one run with the rows of all. Raises SuiteError that names overlaps, gaps and differences."""
    given = session.options
    parts = [_load(reference, given) for reference in references]
    _require_distinct(parts)
    _require_finished(parts)
    _require_one_suite(parts)
    first = parts[0]
    options = _merged_options(parts, given)
    suite = ResumableRun(first.folder, first.record, options).find_suite()
    check_location(suite, options)
    session = replace(session, options=options, resumed=first.folder.path, pinned=first.record.dataset_from)
    async with EndpointPool(http_client=session.http_client, user_agent=f"evalrunner/{__version__}") as pool:
        with spool_folder() as spool:
            plan = await priced(plan_suite(suite, session, pool, spool))
            _require_same(parts, plan)
            return await _merge(parts, plan, options, reporters)


def _load(reference: str, given: RunOptions) -> Part:
    folder = find_run(reference, given.output_dir)
    record = RunRecord.load(folder.path)
    require_redacted_options(record.options, given)
    options = options_from(record.options)
    if given.untrusted:
        require_own_options(options, given)
    return Part(folder, record, options, scan_keys(folder.path))


def _require_distinct(parts: Sequence[Part]) -> None:
    if len(parts) < 2:
        raise SuiteError("name at least two runs to merge: evalrun merge RUN RUN…")
    places = Counter(part.folder.path.resolve() for part in parts)
    for part in parts:
        if places[part.folder.path.resolve()] > 1:
            raise SuiteError(f"run {part.folder.id} is named twice; name each part once")


def _require_finished(parts: Sequence[Part]) -> None:
    problems = []
    for part in parts:
        record = part.record
        if record.decided is not None:
            problems.append(f"run {part.name} stopped when its gates were decided; finish it with --no-gates")
        elif record.status != "finished" or record.scored_from is not None:
            state = "did not finish" if record.scored_from is None else "has answers of another run, scored again"
            remedy = f"; resume it: evalrun --resume {part.folder.path}" if record.scored_from is None else ""
            problems.append(f"run {part.name} {state} ({counted(len(part.finished), 'row')}){remedy}")
    if problems:
        raise SuiteError("\n".join(problems))


def _require_one_suite(parts: Sequence[Part]) -> None:
    """Refuse runs of several suites, and shards of several datasets or numbers of shards."""
    first = parts[0]
    for part in parts[1:]:
        if part.record.suite != first.record.suite:
            raise SuiteError(
                f"run {first.name} is of suite {first.record.suite!r} and run {part.name} of {part.record.suite!r}; "
                "only runs of one suite can be merged"
            )
        one, other = first.shard, part.shard
        if one is not None and other is not None and one.of != other.of:
            raise SuiteError(
                f"run {first.name} is one of {one.of} shards and run {part.name} one of {other.of}; "
                "merge shards of one number"
            )
        before, now = _definition(first), _definition(part)
        if changes := differences(before, now) or differences(now, before):  # more epochs are no difference to a resume
            lines = "\n".join(f"  {line}" for line in changes)
            raise SuiteError(f"runs {first.name} and {part.name} are of different suites:\n{lines}")


def _definition(part: Part) -> dict[str, Any]:
    """What defines the rows of a run, apart from which samples they are of."""
    return _without_selection(part.record.definition())


def _without_selection(definition: dict[str, Any]) -> dict[str, Any]:
    return {**definition, "dataset": {**definition["dataset"], **dict.fromkeys(PART_FIELDS)}}


def _merged_options(parts: Sequence[Part], given: RunOptions) -> RunOptions:
    """The options of the first part without those that select a part; a selection that all have is kept."""
    first = parts[0].options
    changes: dict[str, Any] = {"shard": None, "outputs": (), "gates": True}
    fields = RunOptions()
    for name in PARTS:
        if any(getattr(part.options, name) != getattr(first, name) for part in parts):
            changes[name] = getattr(fields, name)
            if name == "offset":
                changes["limit"] = None
    merged = merge_options(replace(first, **changes), given)
    return replace(merged, gates=given.gates, output_dir=given.output_dir)


def _require_same(parts: Sequence[Part], plan: Plan) -> None:
    """Refuse parts of a suite or a dataset that has changed since."""
    now, dataset = plan.provenance.definition(), plan.provenance.dataset
    changed = sum_of(part.record.dataset.attachments for part in parts) != dataset.attachments
    for part in parts:
        before, after = _definition(part), _without_selection(now)
        changes = differences(before, after) or differences(after, before)
        stored = part.record.dataset
        whole = stored.whole_rows, stored.whole_digest
        if stored.shard is not None and not changes and whole != (dataset.rows, dataset.digest):
            changes = [f"dataset: {stored.whole_rows:,} samples of another content → {dataset.rows:,} samples"]
        if stored.shard is not None and not changes and changed and part is parts[-1] and _is_whole(parts):
            changes = ["dataset: the images, audio or files that prompts attach changed"]
        if changes:
            lines = "\n".join(f"  {line}" for line in changes)
            raise SuiteError(f"cannot merge run {part.name}: the suite has changed since:\n{lines}")


def _is_whole(parts: Sequence[Part]) -> bool:
    """Whether the parts are all shards; a missing one has a message of its own."""
    shards = [part.shard for part in parts if part.shard is not None]
    return len(shards) == len(parts) == shards[0].of


async def _merge(parts: Sequence[Part], plan: Plan, options: RunOptions, reporters: Sequence[Reporter]) -> RunResult:
    with new_run(plan, options, datetime.now(UTC)) as folder:
        _write_rows(parts, plan, folder.path)
        notice = f"merged from {counted(len(parts), 'run')}: {listed([part.name for part in parts], 'and')}"
        started_at = min(part.record.started_at for part in parts)
        state = ResumeState(folder, started_at, scan_keys(folder.path), 0, (notice,))
        return await execute(plan, options, reporters, state)


def _write_rows(parts: Sequence[Part], plan: Plan, folder: Path) -> None:
    """Write the row log of the merged run, in the order of its plan. Raises NotStartedError if the parts are not the whole."""
    problems = Problems()
    with RowLog(folder) as log:
        for job in plan.jobs():
            if (row := _row_of(job, parts, problems)) is not None:
                log.write(row)
    if lines := list(problems.lines(parts)):
        raise NotStartedError("\n".join(lines))


def _row_of(job: Job, parts: Sequence[Part], problems: Problems) -> Row | None:
    """The row of a job, numbered as in the whole dataset; None if no part or several have it."""
    sample, target = job.sample, job.target.name
    found = [(part, entry) for part in parts if (entry := part.finished.find(sample.id, target, job.epoch)) is not None]
    for part, _ in found:
        part.used += 1
    if not found:
        problems.missing[sample.id] = None
        if (shard := parts[0].shard) is not None:
            problems.missing_shards[f"{shard_number(sample.id, shard.of)}/{shard.of}"] += 1
        return None
    part, entry = found[0]
    if len(found) > 1:
        names = problems.overlaps.setdefault((part.name, found[1][0].name), [])
        if sample.id not in names[-1:]:
            names.append(sample.id)
        return None
    row = row_at(part.folder.path, entry.offset)
    numbered = replace(row.sample, index=sample.index)
    if digest_line(numbered) != digest_line(sample):
        names = problems.changed.setdefault(part.name, [])
        if sample.id not in names[-1:]:
            names.append(sample.id)
    return replace(row, sample=numbered)
