"""What changed between two runs, row by row, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from evalrunner.compare.diff import Change, Changes, RunDiff
from evalrunner.domain import Cell, Row
from evalrunner.reports.compared import output_text
from evalrunner.reports.drawing import plain_table, styled
from evalrunner.reports.text import DASH, counted, number, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LONGEST: Final = 300
SHARES: Final = {"input": 2, "before": 3, "after": 3}  # of the width that the table has for texts


def render_changes(found: RunDiff) -> Iterator[RenderableType]:
    """A line that counts, what was measured otherwise, then the rows that got worst."""
    changes = found.changes
    sides = [f"{one_line(run, 40)}/{one_line(target, 40)}" for run, target in (found.before, found.after)]
    yield styled(f"{sides[0]} → {sides[1]}: {'; '.join(_counts(changes))}", "bold")
    for note in found.notes:
        yield styled(f"note: {one_line(note, 300)}", "yellow")
    if changes.rows:
        yield _table(found)
    if changes.changed > len(changes.rows):
        yield styled(f"and {changes.changed - len(changes.rows):,} more (--limit shows more)", "dim")


def changes_data(found: RunDiff) -> dict[str, Any]:
    """The same as JSON has it, texts whole."""
    changes = found.changes
    names = ("same", "worse", "better", "moved", "worded", "other", "before_only", "after_only")
    return {
        "before": {"run": found.before[0], "target": found.before[1]},
        "after": {"run": found.after[0], "target": found.after[1]},
        "counts": {name: getattr(changes, name) for name in names},
        "notes": list(found.notes),
        "rows": [_row_data(change) for change in changes.rows],
    }


def _counts(changes: Changes) -> Iterator[str]:
    kinds = {
        "worse": changes.worse,
        "better": changes.better,
        "scored otherwise": changes.state_changed,
        "in words only": changes.output_changed,
    }
    listed = ", ".join(f"{count:,} {name}" for name, count in kinds.items() if count)
    yield f"{counted(changes.changed, 'row')} changed" + (f" ({listed})" if listed else "")
    yield f"{changes.same:,} the same"
    if changes.different_sample:
        yield f"{changes.different_sample:,} left out, as their samples are not the same"
    if changes.before_only or changes.after_only:
        yield f"{changes.before_only:,} only before, {changes.after_only:,} only after"


def _table(found: RunDiff) -> Table:
    table = plain_table("", ("id", *SHARES, *[one_line(name, 40) for name in found.scorers]))
    table.title, table.expand = None, True
    for column, share in zip(table.columns[1:4], SHARES.values(), strict=True):
        column.no_wrap, column.overflow, column.ratio = True, "ellipsis", share
    for change in found.changes.rows:
        texts = [str(change.after.sample.input), output_text(change.before), output_text(change.after)]
        scores = [_score(change, name) for name in found.scorers]
        table.add_row(
            styled(one_line(change.after.sample.id, 24)), *[styled(one_line(text, LONGEST)) for text in texts], *scores
        )
    return table


def _score(change: Change, name: str) -> Any:
    """`1.000 → 0.000`, or the one score where it is the same."""
    before, after = (_said(row.cells.get(name)) for row in (change.before, change.after))
    return styled(after if before == after else f"{before} → {after}", None if name in change.scores else "dim")


def _said(cell: Cell | None) -> str:
    if cell is None:
        return DASH
    return number(cell.value) if cell.value is not None else cell.state


def _row_data(change: Change) -> dict[str, Any]:
    sample = change.after.sample
    return {
        "id": sample.id,
        "epoch": change.after.epoch,
        "input": sample.input,
        "expected": list(sample.expected),
        "worse": change.worse,
        "before": _side(change.before),
        "after": _side(change.after),
    }


def _side(row: Row) -> dict[str, Any]:
    return {
        "output": output_text(row),
        "scores": {name: {"state": cell.state, "value": cell.value} for name, cell in row.cells.items()},
    }
