"""One row of a run in GitHub's Markdown: folded, its texts cut short, on one line of the file."""

from __future__ import annotations

from collections.abc import Iterator

from evalrunner.domain import Cell, Completion, Row
from evalrunner.formatting import number
from evalrunner.reports.csv import plain_text
from evalrunner.reports.markdown_escaping import block, code
from evalrunner.reports.worst_rows import BaselineScores, ShownRow

MAX_REASON = 500  # characters of a scorer's reason


def render_row(shown: ShownRow, limit: int) -> str:
    """The row as one `<details>`, each of its texts cut to `limit` characters."""
    row = shown.row
    epoch = f" epoch {row.epoch}" if row.epoch > 1 else ""
    scores = " · ".join(_score(name, cell, shown.before) for name, cell in row.cells.items())
    texts = "".join(f"<b>{title}</b>{block(text, limit)}" for title, text in _texts(shown))
    reasons = "".join(f"<b>reason</b> {code(name, 60)}{block(text, MAX_REASON)}" for name, text in _reasons(row))
    return f"<details><summary>{code(row.sample.id, 60)}{epoch} · {scores}</summary>{texts}{reasons}</details>"


def _score(name: str, cell: Cell, before: BaselineScores | None) -> str:
    value = number(cell.value) if cell.state == "scored" else cell.state
    previous = before.scores.get(name) if before is not None else None
    return f"{code(name, 60)} {value}" + (f" (was {number(previous)})" if previous is not None else "")


def _texts(shown: ShownRow) -> Iterator[tuple[str, str]]:
    sample, answer = shown.row.sample, shown.row.answer
    yield "input", plain_text(sample.input)
    if sample.expected:
        yield "expected", "\n".join(sample.expected)
    if shown.before is not None and shown.before.output is not None:
        yield "baseline output", shown.before.output
    if isinstance(answer, Completion):
        yield "output" if answer.finish_reason == "stop" else f"output ({answer.finish_reason})", answer.text
    else:
        yield "no output", str(answer)


def _reasons(row: Row) -> Iterator[tuple[str, str]]:
    """The reasons that scorers gave."""
    for name, cell in row.cells.items():
        reason = cell.message or (cell.detail or {}).get("explanation")
        if reason:
            yield name, str(reason)
