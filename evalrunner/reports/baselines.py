"""Baselines as lines of text: what each is of, and how its targets did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from evalrunner.baselines.file import Baseline, read_baseline
from evalrunner.errors import SuiteError
from evalrunner.reports.text import counted, number, one_line


def render_baseline(baseline: Baseline) -> Iterator[str]:
    """A baseline line by line: its run, what it depends on, and the mean score of each scorer by target."""
    head = baseline.head
    yield f"{one_line(baseline.label, 120)}: baseline {one_line(head.name, 60)!r} of suite {one_line(head.suite, 60)!r}"
    outputs = ", with outputs" if head.outputs else ""
    yield f"  run {one_line(head.run_id, 60)}, {counted(len(baseline.rows), 'row')}, {counted(head.epochs, 'epoch')}{outputs}"
    for name in head.provenance["targets"]:
        yield f"  target {one_line(name, 60)}: {', '.join(_means(baseline, name))}"
    for scorer, origin in head.origin.items():
        if origin.get("run_id") != head.run_id:
            yield f"  {one_line(scorer, 60)} began with run {one_line(str(origin.get('run_id')), 60)}"


def _means(baseline: Baseline, target: str) -> Iterator[str]:
    for scorer in baseline.head.provenance["scorers"]:
        reduced = [
            math.fsum(values) / len(values)
            for (at, _), row in baseline.rows.items()
            if at == target and (values := [value for value in row.scores.get(scorer, ()) if value is not None])
        ]
        mean = math.fsum(reduced) / len(reduced) if reduced else None
        yield f"{one_line(scorer, 60)} {number(mean)} (n={len(reduced)})"


def baseline_lines(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each file: the run that it is of and how many rows it has, or what is wrong with it."""
    for path in paths:
        try:
            found = read_baseline(path, label=str(path))
        except (SuiteError, FileNotFoundError) as broken:
            yield one_line(str(broken), 200)
        else:
            yield f"{path}: run {one_line(found.head.run_id, 60)}, {counted(len(found.rows), 'row')}"
