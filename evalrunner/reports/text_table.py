"""Tables of a screen in any width: a column that does not fit begins a further table; names are folded, numbers never cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from evalrunner.formatting import styled

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

GAP: Final = 3  # between columns
MIN_NAME: Final = 16  # cells of a folded name
ELLIPSIS: Final = "…"
_NUMBER_END: Final = re.compile(r"[\d.,–+-]+$")
_BREAK: Final = re.compile(r"[^/\-_. ]*[/\-_. ]*")  # a name is folded behind one of these


@dataclass(slots=True)
class Column:
    """A column: its head, and a cell for each row, a text or a `Text`. `right` aligns numbers."""

    head: str
    cells: list[Any] = field(default_factory=list)
    right: bool = False


class TextTable:
    """Columns beside the names of their rows. Columns without any cell are left out.

    In a narrow console the columns are divided among several tables, each with the names, in the order of `stacked`.
    `optional` columns are left out where they do not fit.
    """

    def __init__(
        self,
        names: Column,
        columns: Sequence[Column],
        *,
        stacked: Sequence[Column] = (),
        optional: Sequence[Column] = (),
    ) -> None:
        self.names = names
        self.columns = _filled(columns)
        self.stacked = _filled(stacked) or self.columns
        self.optional = _filled(optional)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines, as rich asks for them."""
        room = options.max_width
        first = _width(self.names)
        columns, widths = self.columns, [_width(column) for column in self.columns]
        if first + sum(GAP + width for width in widths) > room:
            columns = self.stacked
            widths = [_width(column) for column in columns]
            # a long name is folded where that makes room for the first column
            first = min(first, max(MIN_NAME, room // 3, room - GAP - max(widths, default=0)))
            if first + GAP + max(widths, default=0) > room:
                first = max(8, room - GAP - max(widths, default=0))
        else:
            columns, widths = self._with_optional(room - first)
        for number, group in enumerate(column_groups(widths, room - first - GAP)):
            if number:
                yield styled("")
            yield from self._lines([columns[at] for at in group], [widths[at] for at in group], first)
        if not widths:
            yield from self._lines([], [], first)

    def _with_optional(self, room: int) -> tuple[list[Column], list[int]]:
        """The columns and as many optional ones as fit, with their widths."""
        columns, widths = list(self.columns), [_width(column) for column in self.columns]
        for column in self.optional:
            if sum(GAP + width for width in (*widths, _width(column))) > room:
                break
            columns.append(column)
            widths.append(_width(column))
        return columns, widths

    def _lines(self, columns: Sequence[Column], widths: Sequence[int], first: int) -> Iterator[Text]:
        head = [styled(self.names.head, "dim"), *(styled(column.head, "dim") for column in columns)]
        yield self._line(head, columns, widths, first)
        for place, name in enumerate(self.names.cells):
            parts = list(folded(_text(name), first))
            yield self._line([parts[0], *(column.cells[place] for column in columns)], columns, widths, first)
            yield from parts[1:]

    def _line(self, cells: Sequence[Any], columns: Sequence[Column], widths: Sequence[int], first: int) -> Text:
        line = _text(cells[0])
        used = line.cell_len
        start = first + GAP
        for cell, column, width in zip(cells[1:], columns, widths, strict=True):
            text = _text(cell)
            left = start + (width - text.cell_len if column.right else 0)
            if text.cell_len:
                line.append(" " * (left - used)).append_text(text)
                used = left + text.cell_len
            start += width + GAP
        return line


def column_groups(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The places of columns that fit side by side, group by group; a column that is too wide is alone."""
    group: list[int] = []
    used = 0
    for at, width in enumerate(widths):
        if group and used + width > room:
            yield group
            group, used = [], 0
        group.append(at)
        used += width + GAP
    if group:
        yield group


def folded(text: Text, width: int) -> Iterator[Text]:
    """A name in lines of at most `width` cells, broken behind `/`, `-`, `_`, `.` or a space where there is one."""
    from rich.cells import cell_len

    plain = text.plain
    start = end = 0
    for piece in _BREAK.findall(plain):
        if end > start and cell_len(plain[start : end + len(piece)].rstrip()) > width:
            yield _part(text, start, end)
            start = end
        end += len(piece)
        while cell_len(plain[start:end].rstrip()) > width and end - start > 1:
            size = end - start
            while size > 1 and cell_len(plain[start : start + size]) > width:
                size -= 1
            yield _part(text, start, start + size)
            start += size
    yield _part(text, start, len(plain))


def shortened(text: str, width: int) -> str:
    """A text of at most `width` cells; where it is cut, it ends with an ellipsis, and no number is cut in two."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    kept = set_cell_size(text, max(width - 1, 0)).rstrip()
    kept = _NUMBER_END.sub("", kept).rstrip()  # `expected 2007` is not cut to `expected 20…`
    return kept + ELLIPSIS if width > 0 else ""


def _part(text: Text, start: int, end: int) -> Text:
    part = text[start:end]
    part.rstrip()
    return part


def _text(cell: Any) -> Text:
    text: Text = styled(cell) if isinstance(cell, str) else cell.copy()
    return text


def _filled(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if any(map(_is_filled, column.cells))]


def _is_filled(cell: Any) -> bool:
    return bool(cell) if isinstance(cell, str) else cell.cell_len > 0


def _width(column: Column) -> int:
    """The cells that a column needs."""
    return max((_text(cell).cell_len for cell in (column.head, *column.cells)), default=0)
