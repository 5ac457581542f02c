"""Metrics by slice on a terminal of any width: further tables in place of columns that would not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from evalrunner.domain import Metric
from evalrunner.formatting import DASH, interval, number, one_line, plain_table, styled
from evalrunner.reports.missing import ALWAYS, is_marked, side_by_side, value_cell

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

MAX_SLICES: Final = 20  # values of a column on a terminal
MAX_NAME: Final = 40
GAP: Final = 3  # between columns


class SliceTable:
    """A line for each value of a slice column, with every scorer's first metric."""

    def __init__(self, title: str, column: str, values: Mapping[str, Mapping[str, Metric]]) -> None:
        self.title, self.column, self.more = title, column, max(0, len(values) - MAX_SLICES)
        self.lines = list(values.items())[:MAX_SLICES]
        self.heads = [one_line(metric.name, MAX_NAME) for metric in next(iter(values.values())).values()]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The tables, as rich asks for them."""
        names = [one_line(text, MAX_NAME) or DASH for text, _ in self.lines]
        cells = [[_cell(metric) for metric in metrics.values()] for _, metrics in self.lines]
        widths = [
            max(len(head), *(line[at].cell_len for line in cells if at < len(line)))
            for at, head in enumerate(self.heads)
        ]
        first = min(max(len(name) for name in (self.column, *names)), options.max_width // 3)
        title = self.title
        for group in column_groups(widths, options.max_width - first - GAP):
            table = plain_table(title, (self.column, *(self.heads[at] for at in group)))
            table.columns[0].no_wrap = False
            for name, line in zip(names, cells, strict=True):
                table.add_row(styled(name), *(line[at] for at in group if at < len(line)))
            yield table
            title = ""
        if self.more:
            yield styled(f"… and {self.more:,} more in metrics.json", "dim")
        intervals = sum(
            metric.low is not None or metric.high is not None
            for _, metrics in self.lines
            for metric in metrics.values()
        )
        if intervals > 1:
            yield styled(side_by_side(intervals), "dim")


def slice_tables(name: str, metrics: Sequence[Metric]) -> Iterator[SliceTable]:
    """A table for each slice column of a target."""
    by_column: dict[str, dict[str, dict[str, Metric]]] = {}
    for metric in metrics:
        for column, text in (metric.slice or {}).items():
            if metric.scorer not in ALWAYS:
                by_column.setdefault(column, {}).setdefault(text, {}).setdefault(metric.scorer, metric)
    for column, values in by_column.items():
        head = one_line(column, MAX_NAME)
        yield SliceTable(f"{one_line(name, 80)} by {head}", head, values)


def column_groups(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The places of columns that fit side by side, group by group; a column that is too wide is alone."""
    group: list[int] = []
    used = 0
    for at, width in enumerate(widths):
        if group and used + width + GAP > room:
            yield group
            group, used = [], 0
        group.append(at)
        used += width + GAP
    if group:
        yield group


def _cell(metric: Metric) -> Any:
    """`0.720 (0.583–0.825) n=50`"""
    value = number(metric.value, metric.unit, beside=(metric.low, metric.high))
    ends = interval(metric.low, metric.high, beside=(metric.value,))
    between = "" if metric.low is None and metric.high is None else f" ({ends})"
    return value_cell(f"{value}{between} n={metric.n:,}", is_marked(metric))
