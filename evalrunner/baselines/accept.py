"""Accepts a stored run as a baseline: only if it finished and passed. The origin of the first baseline is inherited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import (
    Baseline,
    BaselineHead,
    baseline_path,
    collect_rows,
    metric_key,
    read_baseline,
    write_baseline,
)
from evalrunner.baselines.resolve import NAME, is_path
from evalrunner.errors import SuiteError
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.provenance import Provenance, scorer_changes
from evalrunner.runs.record import RunRecord, TargetMetrics
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.options import RunOptions
from evalrunner.verdicts import ACCEPTABLE


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where a baseline was written, how many rows it has, and the run of the baseline it replaced."""

    path: Path
    rows: int
    replaced: str | None


def accept_run(
    folder: RunFolder, *, name: str, suite_file: Path | None = None, force: bool = False, outputs: bool = False
) -> Accepted:
    """Write a run's scores as the baseline `name` beside its suite file.

    Raises SuiteError if the run did not finish or pass; `force` accepts it anyway, as long as it has rows.
    """
    if not NAME.fullmatch(name) or is_path(name):
        raise SuiteError(f"--name {name!r}: use letters, digits, '.', '_' and '-', such as main; not a file name")
    run = RunRecord.load(folder.path)
    refused = _refusal_reason(run)
    if refused is not None and not force:
        raise SuiteError(f"cannot accept run {folder.id}: it {refused}. Use --force to accept it anyway")
    base = _suite_folder(run, suite_file)
    path = baseline_path(base, run.suite, name)
    untrusted = run.options.get("untrusted") or RunOptions().untrusted
    if untrusted and not path.resolve().is_relative_to(base.resolve()):
        raise SuiteError(
            f"cannot accept run {folder.id}: its suite is untrusted, and {str(path)!r} leads out of its folder"
        )
    before = _before(path, force=force)
    rows = collect_rows(read_rows(folder.path), epochs=run.epochs, outputs=outputs, slices=run.slices)
    if not rows:
        raise SuiteError(f"cannot accept run {folder.id}: it has no rows")
    provenance = run.provenance
    head = BaselineHead(
        name=name,
        run_id=folder.id,
        finished_at=run.finished_at,
        provenance=provenance,
        origin=inherited_origin(new_origin(folder.id, _metrics(run, folder), provenance), provenance, before),
        outputs=outputs,
    )
    write_baseline(path, head, rows.values())
    return Accepted(path, len(rows), before.head.run_id if before is not None else None)


def _refusal_reason(run: RunRecord) -> str | None:
    if run.status != "finished":
        return "did not finish" if run.status == "running" else f"was {run.status}"
    if run.decided is not None:
        rows = f"{run.decided.rows:,} of {run.decided.rows_planned:,} rows"
        return f"stopped when its gates were decided, after {rows}; finish it: evalrun --resume {run.run_id} --no-gates"
    if run.part is not None:
        return run.part
    return None if run.verdict in ACCEPTABLE else f"did not pass ({run.verdict})"


def _suite_folder(run: RunRecord, suite_file: Path | None) -> Path:
    file = suite_file if suite_file is not None else run.suite_file
    if not file.is_file():
        raise SuiteError(
            f"suite {str(file)!r} not found; baselines are stored beside it. Run the command in the folder where the run was "
            "started, or pass --suite FILE"
        )
    return file.parent


def _before(path: Path, *, force: bool) -> Baseline | None:
    try:
        return read_baseline(path, label=path.stem)
    except FileNotFoundError:
        return None
    except SuiteError:
        if force:
            return None
        raise


def _metrics(run: RunRecord, folder: RunFolder) -> Mapping[str, TargetMetrics]:
    """The metrics by target; none where the run did not finish."""
    return numbers.targets if (numbers := run.load_metrics(folder.path)) is not None else {}


def new_origin(run_id: str, targets: Mapping[str, TargetMetrics], provenance: Provenance) -> dict[str, Any]:
    """The origin that a run is for itself: for each scorer the values of its metrics, by target."""
    origin: dict[str, Any] = {}
    for scorer in provenance.scorers:
        values = {
            name: {metric_key(one.name, one.slice): one.value for one in target.metrics if one.scorer == scorer}
            for name, target in targets.items()
        }
        origin[scorer] = {"run_id": run_id, "values": values}
    return origin


def inherited_origin(new: Mapping[str, Any], provenance: Provenance, before: Baseline | None) -> dict[str, Any]:
    """The origin of a baseline that replaces `before`: inherited for scorers that have not changed, with new targets added."""
    if before is None:
        return dict(new)
    origins: dict[str, Any] = {}
    for scorer, fresh in new.items():
        stored = before.head.origin.get(scorer)
        known = scorer in before.head.provenance.scorers
        if stored is None or not known or scorer_changes(before.head.provenance, provenance, scorer, judges=False):
            origins[scorer] = fresh
        else:
            origins[scorer] = {**stored, "values": {**fresh["values"], **stored["values"]}}
    return origins
