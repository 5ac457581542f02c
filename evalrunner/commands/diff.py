"""Diff two stored runs row by row, or two targets of one run. Offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evalrunner.compare.diff import RunDiff, diff_rows
from evalrunner.domain import Row
from evalrunner.errors import SuiteError, nearest
from evalrunner.runs.folder import RunFolder, find_run
from evalrunner.runs.provenance import differences
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows, row_at, scan_keys


def diff_runs(references: Sequence[str], output_dir: Path, *, targets: Sequence[str], keep: int) -> list[RunDiff]:
    """The changes from the first run to the second, for each target of both or for the two `targets`.

    With one run, from one of its targets to another. `keep` limits the changed rows. Raises SuiteError if it is not clear
    what to compare.
    """
    if not 1 <= len(references) <= 2:
        raise SuiteError(f"diff takes two runs, or one with --targets A,B; got {len(references)}")
    folders = [find_run(reference, output_dir) for reference in references]
    folders = folders * 2 if len(folders) == 1 else folders
    data = [RunRecord.load(folder.path) for folder in folders]
    names = [list(run.targets) for run in data]
    same = folders[0].path.resolve() == folders[1].path.resolve()
    return [
        _diff((folders[0], one), (folders[1], other), data, keep) for one, other in _pairs(names, targets, same=same)
    ]


def _pairs(names: Sequence[Sequence[str]], wanted: Sequence[str], *, same: bool) -> list[tuple[str, str]]:
    """The pairs of a target of the first run and one of the second."""
    if wanted:
        one, other = _two_names(wanted, names)
        for name, known in ((one, names[0]), (other, names[1])):
            if name not in known:
                raise SuiteError(f"--targets: unknown target {name!r}{nearest(name, known) or _known(known)}")
        if same and one == other:
            raise SuiteError("--targets: a target cannot be compared with itself; name two")
        return [(one, other)]
    if same:
        if len(names[0]) == 2:
            return [(names[0][0], names[0][1])]
        if len(names[0]) == 1:
            raise SuiteError(f"the run has one target only, {names[0][0]!r}; name a second run to compare it with")
        raise SuiteError(f"a run cannot be compared with itself; name two targets: --targets A,B{_known(names[0])}")
    shared = [(name, name) for name in names[0] if name in names[1]]
    if shared:
        return shared
    if len(names[0]) == len(names[1]) == 1:
        return [(names[0][0], names[1][0])]
    raise SuiteError(f"the runs have no target in common; name two: --targets A,B{_known([*names[0], *names[1]])}")


def _two_names(pieces: Sequence[str], names: Sequence[Sequence[str]]) -> tuple[str, str]:
    """The two target names in a text that was split at its commas; a name of a run may contain commas itself."""
    for cut in range(1, len(pieces)):
        one, other = ",".join(pieces[:cut]).strip(), ",".join(pieces[cut:]).strip()
        if one in names[0] and other in names[1]:
            return one, other
    if len(pieces) > 2:
        raise SuiteError(f"--targets takes two names, A,B; got {len(pieces)}")
    return pieces[0].strip(), pieces[-1].strip()


def _known(names: Sequence[str]) -> str:
    return f"; known: {', '.join(map(repr, names))}"


def _diff(before: tuple[RunFolder, str], after: tuple[RunFolder, str], data: Sequence[RunRecord], keep: int) -> RunDiff:
    measures = [measure for measure in data[1].measures if measure.name in data[0].scorers]
    find_before = _row_finder(*before)
    matched = 0

    def find(row: Row) -> Row | None:
        nonlocal matched
        partner = find_before(row)
        matched += partner is not None
        return partner

    rows = (row for row in read_rows(after[0].path) if row.target == after[1])
    changes = diff_rows(rows, find, measures, keep=keep)
    total = sum(1 for row in read_rows(before[0].path) if row.target == before[1])
    changes = replace(changes, before_only=total - matched)
    sections = [{"scorers": run.definition()["scorers"]} for run in data]
    notes = tuple(f"measured differently: {line}" for line in differences(sections[0], sections[1]))
    ends = [(folder.id, target) for folder, target in (before, after)]
    return RunDiff(ends[0], ends[1], tuple(measure.name for measure in measures), changes, notes)


def _row_finder(folder: RunFolder, target: str) -> Callable[[Row], Row | None]:
    """A function that reads the row of a target for the sample and epoch of another row."""
    finished = scan_keys(folder.path)

    def find(row: Row) -> Row | None:
        entry = finished.find(row.sample.id, target, row.epoch)
        return None if entry is None else row_at(folder.path, entry.offset)

    return find
