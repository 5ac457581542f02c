"""The page of several runs side by side: their targets as if they were of one run, and the rows of the same samples."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from evalrunner.compare.result import Comparison
from evalrunner.domain import Metric, Row
from evalrunner.formatting import counted
from evalrunner.reports.comparison import ComparedRun
from evalrunner.reports.html.data import (
    ANSWER,
    CELL,
    GROUP,
    STATES,
    RowIndex,
    comparison_part,
    scorer_part,
    target_part,
)
from evalrunner.reports.html.page import PageSize, write_page
from evalrunner.runs.record import to_json


def write_comparison(
    path: Path, runs: Sequence[ComparedRun], comparison: Comparison, metrics: Mapping[str, Sequence[Metric]]
) -> Path:
    """Write the page of compared runs; `metrics` holds all of each candidate. Raises RunError where the disk refuses."""
    names = [candidate.name for candidate in comparison.candidates]
    indexes = [RowIndex(run.folder.path, list(run.names)) for run in runs]
    paired = comparison.paired
    groups = [index.groups for index in indexes]
    size = PageSize(
        groups=max(groups) if paired else sum(groups),
        answers=sum(len(index.places) for index in indexes),
        log_bytes=sum(index.size for index in indexes),
    )
    return write_page(path, _overview(runs, comparison, metrics), _groups(runs, indexes, names), size)


def _groups(
    runs: Sequence[ComparedRun], indexes: Sequence[RowIndex], names: Sequence[str]
) -> Iterator[Mapping[int, Row]]:
    """The rows of one sample and epoch after the other, by the place of their candidate."""
    place_of = {name: place for place, name in enumerate(names)}
    streams = [_placed(run, index, place_of) for run, index in zip(runs, indexes, strict=True)]
    together = heapq.merge(*streams, key=lambda item: item[0])
    for _, found in groupby(together, key=lambda item: item[0]):
        yield {place: row for _, rows in found for place, row in rows.items()}


def _placed(
    run: ComparedRun, index: RowIndex, place_of: Mapping[str, int]
) -> Iterator[tuple[tuple[int, int], dict[int, Row]]]:
    for rows in index.read_groups():
        some = next(iter(rows.values()))
        key = some.sample.index + run.first, some.epoch
        yield (
            key,
            {place_of[run.names[row.target]]: replace(row, target=run.names[row.target]) for row in rows.values()},
        )


def _overview(
    runs: Sequence[ComparedRun], comparison: Comparison, metrics: Mapping[str, Sequence[Metric]]
) -> dict[str, Any]:
    first = runs[0].record
    rows = sum(run.record.rows or 0 for run in runs)
    candidates = comparison.candidates
    differs = [
        f"{item.name} differs from {candidates[0].name} in {line}" for item in candidates for line in item.differs
    ]
    return {
        "suite": ", ".join(dict.fromkeys(run.folder.suite for run in runs)),
        "run_id": ", ".join(run.folder.id for run in runs),
        "description": None,
        "word": "DONE",
        "sentence": f"{counted(len(candidates), 'target')} of {counted(len(runs), 'run')} side by side.",
        "verdict": None,
        "exit_code": 0,
        "about": {
            "status": "finished" if all(run.record.status == "finished" for run in runs) else "in part",
            "started_at": to_json(first.started_at),
            "seed": first.seed,
            "epochs": max(run.record.epochs for run in runs),
            "rows": rows,
            "rows_planned": sum(run.record.rows_planned for run in runs),
            "stopped": None,
        },
        "dataset_hash": first.dataset.digest if comparison.paired else None,
        "versions": dict(first.versions),
        "notices": differs,
        "columns": [name for name in first.columns if name not in ("id", "input", "expected")],
        "scorers": [scorer_part(name, scorer) for name, scorer in first.scorers.items() if name in runs[0].scorers],
        "judges": {name: to_json(judge) for name, judge in first.judges.items() if name in runs[0].scorers},
        "targets": [_target(run, target, metrics) for run in runs for target in run.names],
        "gates": [],
        "comparison": comparison_part(comparison),
        "shape": {"group": GROUP, "answer": ANSWER, "cell": CELL, "states": STATES},
    }


def _target(run: ComparedRun, target: str, metrics: Mapping[str, Sequence[Metric]]) -> dict[str, Any]:
    name = run.names[target]
    numbers = run.record.load_metrics(run.folder.path)
    usage = numbers.targets[target].usage if numbers is not None and target in numbers.targets else None
    return target_part(name, run.record.targets[target], metrics[name], usage)
