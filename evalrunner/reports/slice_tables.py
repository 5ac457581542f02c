"""Metrics by slice on a terminal of any width: further tables in place of columns that would not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from evalrunner.domain import Metric
from evalrunner.formatting import DASH, interval, number, one_line, styled
from evalrunner.reports.metric_tables import marked, screen_names
from evalrunner.reports.missing import ALWAYS, side_by_side
from evalrunner.reports.text_table import Column, TextTable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

MAX_SLICES: Final = 20  # values of a column on a terminal
MAX_SLICES_SHORT: Final = 6  # without -v
MAX_NAME: Final = 40


class SliceTable:
    """A line for each value of a slice column, with every scorer's first metric; without `intervals` its value alone."""

    def __init__(
        self, title: str, column: str, values: Mapping[str, Mapping[str, Metric]], *, intervals: bool = True
    ) -> None:
        limit = MAX_SLICES if intervals else MAX_SLICES_SHORT
        self.title, self.column, self.more = title, column, max(0, len(values) - limit)
        self.lines, self.intervals = list(values.items())[:limit], intervals
        first = next(iter(values.values()))
        short = screen_names(metric.name for metric in first.values())
        self.heads = {scorer: one_line(short[metric.name], MAX_NAME) for scorer, metric in first.items()}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The tables, as rich asks for them."""
        yield styled("")
        yield styled(self.title, "bold")
        names = Column(self.column, [one_line(text, MAX_NAME) or DASH for text, _ in self.lines])
        columns = []
        if not self.intervals:
            counts = [max((metric.n for metric in metrics.values()), default=0) for _, metrics in self.lines]
            columns.append(Column("n", [f"{count:,}" for count in counts], right=True))
        for scorer, head in self.heads.items():
            found = [metrics.get(scorer) for _, metrics in self.lines]
            cells = ["" if metric is None else _cell(metric, intervals=self.intervals) for metric in found]
            columns.append(Column(head, cells))
        yield TextTable(names, columns)
        if self.more:
            yield styled(f"… and {self.more:,} more {'in metrics.json' if self.intervals else '(-v)'}", "dim")
        count = sum(_has_interval(metric) for _, metrics in self.lines for metric in metrics.values())
        if self.intervals and count > 1:
            yield styled(side_by_side(count), "dim")


def slice_tables(name: str, metrics: Sequence[Metric], *, intervals: bool = True) -> Iterator[SliceTable]:
    """A table for each slice column of a target."""
    by_column: dict[str, dict[str, dict[str, Metric]]] = {}
    for metric in metrics:
        for column, text in (metric.slice or {}).items():
            if metric.scorer not in ALWAYS:
                by_column.setdefault(column, {}).setdefault(text, {}).setdefault(metric.scorer, metric)
    for column, values in by_column.items():
        head = one_line(column, MAX_NAME)
        yield SliceTable(f"{one_line(name, 80)} by {head}", head, values, intervals=intervals)


def _has_interval(metric: Metric) -> bool:
    return metric.low is not None or metric.high is not None


def _cell(metric: Metric, *, intervals: bool) -> Any:
    """`0.720 (0.583–0.825) n=50`, or `0.720`"""
    value = number(metric.value, metric.unit, beside=(metric.low, metric.high))
    if not intervals:
        return marked(value, metric)
    ends = interval(metric.low, metric.high, beside=(metric.value,))
    return marked(f"{value}{f' ({ends})' if _has_interval(metric) else ''} n={metric.n:,}", metric)
