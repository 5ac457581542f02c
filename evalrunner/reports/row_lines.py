"""Rows on a terminal: a line each with the start of their texts; two lines where the console is narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from evalrunner.domain import Cell, Completion, Row
from evalrunner.formatting import DASH, number, one_line, styled
from evalrunner.reports.checks import FAILED, PASSED, CheckResult, changed_checks, check_line, failing_checks
from evalrunner.reports.text_table import shortened
from evalrunner.tool_calls import tool_calls_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from evalrunner.compare.diff import Change
    from evalrunner.reports.worst_rows import NotableRow

MAX_TEXT: Final = 300  # characters of a text, before its column cuts it
MAX_NAME: Final = 40
MAX_SENTENCE: Final = 600
MAX_ID: Final = 16  # cells
MIN_TEXT: Final = 16  # cells of each text of a row, if it has them, before its scores may stand beside it
MAX_SCORES: Final = 48  # cells of the scores beside a row; more stand below it
SHORT_ID: Final = 8  # characters of an id that is a hash
ONE_LINE: Final = 72  # cells from which a row has one line
MAX_CHECK_LINES: Final = 3  # of the failing checks of a row
INDENT: Final = 2
GAP: Final = 3
INPUT_SHARE: Final = 3  # of the width that the texts of a row share; each other text has two
_HASH: Final = re.compile(r"[0-9a-f]{16,}")


@dataclass(frozen=True, slots=True)
class RowLine:
    """A row: its id and input, texts with a label each, such as `got`, its scores, and lines on its checks."""

    id: str
    input: str
    texts: Mapping[str, str]
    scores: str = ""
    checks: Sequence[str] = ()


class RowLines:
    """A title and a line for each row; `more` says how to see the others."""

    def __init__(self, title: str, rows: Sequence[RowLine], *, more: str = "") -> None:
        self.title, self.rows, self.more = title, rows, more

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines, as rich asks for them."""
        from rich.cells import cell_len

        yield styled(self.title, "bold")
        width = options.max_width
        ids = [shortened(row.id, min(MAX_ID, max(width // 4, 4))) for row in self.rows]
        first = max(map(cell_len, ids), default=0)
        scores = max((cell_len(row.scores) for row in self.rows), default=0)
        beside = scores + GAP if 0 < scores <= min(MAX_SCORES, width // 3) else 0
        if width < ONE_LINE or width - first - beside < ONE_LINE // 2:
            for row, name in zip(self.rows, ids, strict=True):
                yield from self._stacked(row, name, first, width)
        else:
            yield from self._beside(ids, first, width, beside)
        if self.more:
            yield from command_lines(self.more, width, "dim", indent=INDENT)

    def _beside(self, ids: Sequence[str], first: int, width: int, beside: int) -> Iterator[Text]:
        from rich.cells import cell_len

        labels = list(dict.fromkeys(label for row in self.rows for label in row.texts))
        needed = [max(cell_len(row.input) for row in self.rows)]
        needed += [max(cell_len(row.texts.get(label, "")) for row in self.rows) for label in labels]
        room = width - INDENT - first - 2 - sum(len(label) + 1 + GAP for label in labels)
        if room - beside < sum(min(cells, MIN_TEXT) for cells in needed):
            beside = 0  # the scores stand below the row, so that its texts say something
        widths = shares(needed, [INPUT_SHARE, *[2] * len(labels)], max(room - beside, 0))
        for row, name in zip(self.rows, ids, strict=True):
            line = styled(" " * INDENT)
            line.append(padded(name, first), style="dim").append("  ")
            line.append(padded(shortened(row.input, widths[0]), widths[0]))
            for label, room in zip(labels, widths[1:], strict=True):
                line.append(" " * GAP + f"{label} ", style="dim")
                line.append(padded(shortened(row.texts.get(label, DASH), room), room))
            if beside:
                line.append(" " * GAP + row.scores, style="dim")
            line.rstrip()
            yield line
            if row.scores and not beside:
                yield from self._scores(row, first, width)
            yield from check_lines(row.checks, width, INDENT + first + 2)

    def _stacked(self, row: RowLine, name: str, first: int, width: int) -> Iterator[Text]:
        line = styled(" " * INDENT)
        line.append(padded(name, first), style="dim").append("  ")
        yield line.append(shortened(row.input, width - line.cell_len))
        for label, text in row.texts.items():
            line = styled(" " * (INDENT + first + 2))
            line.append(f"{label} ", style="dim")
            yield line.append(shortened(text, max(width - line.cell_len, 1)))
        if row.scores:
            yield from self._scores(row, first, width)
        yield from check_lines(row.checks, width, INDENT + first + 2)

    def _scores(self, row: RowLine, first: int, width: int) -> Iterator[Text]:
        yield from wrapped(styled(row.scores, "dim"), width, INDENT + first + 2)


def check_lines(checks: Sequence[str], width: int, indent: int) -> Iterator[Text]:
    """Checks below their row: those that fit beside each other on one line, at most `MAX_CHECK_LINES` lines, each cut."""
    from rich.cells import cell_len

    room = max(width - indent, 8)
    lines: list[list[str]] = []
    for check in checks:
        if lines and sum(cell_len(each) + GAP for each in lines[-1]) + cell_len(check) <= room:
            lines[-1].append(check)
        else:
            lines.append([check])
    more = sum(map(len, lines[MAX_CHECK_LINES:]))
    for place, line in enumerate(lines[:MAX_CHECK_LINES]):
        rest = f"{' ' * GAP}{more} more" if more and place == MAX_CHECK_LINES - 1 else ""
        text = shortened((" " * GAP).join(line), max(room - len(rest), 1))
        yield styled(" " * indent + text, "red" if line[0].startswith(FAILED) else "dim").append(rest, style="dim")


def command_lines(text: str, width: int, style: str, *, indent: int = 0) -> Iterator[Text]:
    """A sentence that ends with a colon and a command; a command that does not fit has a line of its own, unbroken."""
    from rich.cells import cell_len

    sentence, _, command = text.partition(": ")
    if indent + cell_len(text) <= width or not command:
        yield styled(" " * indent + text, style)
        return
    yield styled(f"{' ' * indent}{sentence}:", style)
    line: Text = styled(f"{' ' * (indent + INDENT)}{command.strip()}", style)
    line.no_wrap, line.overflow = True, "ignore"
    yield line


def wrapped(text: Text, width: int, indent: int) -> Iterator[Text]:
    """A text in lines that begin with `indent` spaces; a word that is too long is broken."""
    from rich.console import Console

    for part in text.wrap(Console(width=width), max(width - indent, 8)):
        part.rstrip()
        yield styled(" " * indent).append_text(part)


class Paragraph:
    """A sentence in one style, wrapped, its further lines indented; cut where it is very long."""

    def __init__(self, text: str, style: str | None = None, *, limit: int = MAX_SENTENCE) -> None:
        self.text, self.style = one_line(text, limit), style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines, as rich asks for them."""
        first, *others = wrapped(styled(self.text, self.style), options.max_width, 0)
        yield first
        rest = self.text[len(first.plain) :].strip()
        if others and rest:
            yield from wrapped(styled(rest, self.style), options.max_width, INDENT)


def shares(needed: Sequence[int], weights: Sequence[int], room: int) -> list[int]:
    """The widths of columns that share a room by weight; what one does not need is for the others."""
    widths = [0] * len(needed)
    open_columns = list(range(len(needed)))
    while open_columns:
        total = sum(weights[at] for at in open_columns)
        small = [at for at in open_columns if needed[at] * total <= room * weights[at]]
        if not small:
            for at in open_columns:
                widths[at] = room * weights[at] // total
            break
        for at in small:
            widths[at] = needed[at]
            room -= needed[at]
            open_columns.remove(at)
    return widths


def padded(text: str, width: int) -> str:
    """A text with spaces up to `width` cells."""
    from rich.cells import cell_len

    return text + " " * max(width - cell_len(text), 0)


def short_id(sample_id: str) -> str:
    """The id of a sample, or the first characters of one that is a hash."""
    name = one_line(sample_id, 60)
    return name[:SHORT_ID] if _HASH.fullmatch(name) else name


def output_with_status(row: Row) -> str:
    """The output of a row, or how its call failed."""
    answer = row.answer
    if not isinstance(answer, Completion):
        return f"[{answer}]"
    if answer.called_tools:
        return " ".join(filter(None, [answer.text.strip(), f"[{tool_calls_text(answer.tool_calls)}]"]))
    return answer.text if answer.finish_reason == "stop" else f"{answer.text} [{answer.missing_reason}]"


def result_line(row: Row, *, scores: bool = False) -> RowLine:
    """A row with what was expected and what came."""
    texts = {"expected": _expected(row)} if row.sample.expected else {}
    texts["got"] = one_line(output_with_status(row), MAX_TEXT)
    shown = _scores(row.cells) if scores else ""
    return RowLine(short_id(row.sample.id), _input(row), texts, shown, _failing(row))


def regression_line(notable: NotableRow) -> RowLine:
    """A row that got worse than its baseline: both outputs, or the scores where the baseline has no outputs."""
    row, before = notable.row, notable.before
    texts, scores = {"now": one_line(output_with_status(row), MAX_TEXT)}, ""
    if before is not None and before.output is not None:
        texts = {"was": one_line(before.output, MAX_TEXT), **texts}
    elif before is not None:
        changes = [
            f"{one_line(name, MAX_NAME)} {number(value)} → {score_text(cell)}"
            for name, value in before.scores.items()
            if (cell := row.cells.get(name)) is not None and cell.value != value
        ]
        scores = ", ".join(changes)
    return RowLine(short_id(row.sample.id), _input(row), texts, scores, _failing(row))


def change_line(change: Change, scorers: Sequence[str]) -> RowLine:
    """A row in two runs: both outputs, and the scores that changed."""
    before, after = change.before, change.after
    texts = {
        "was": one_line(output_with_status(before), MAX_TEXT),
        "now": one_line(output_with_status(after), MAX_TEXT),
    }
    if texts["was"] == texts["now"]:
        del texts["was"]
    pairs = [
        f"{one_line(name, MAX_NAME)} {score_text(before.cells.get(name))} → {score_text(after.cells.get(name))}"
        for name in scorers
        if name in change.scores
    ]
    return RowLine(
        short_id(after.sample.id), _input(after), texts, ", ".join(pairs), changed_check_texts(before, after)
    )


def _failing(row: Row) -> list[str]:
    """`✗ contains: 30 days`: the checks that a row fails, with their reasons."""
    return [_check(check) for check in failing_checks(row)]


def changed_check_texts(before: Row, after: Row) -> list[str]:
    """`✗ contains: 30 days`, `✓ max_words: 60`: the checks that fail now and passed before, then those that pass now."""
    broken, fixed = changed_checks(before, after)
    return [*map(_check, broken), *(f"{PASSED} {one_line(check.label, MAX_NAME)}" for check in fixed)]


def _check(check: CheckResult) -> str:
    return f"{FAILED} {check_line(check)}"


class DifferingRows:
    """Samples on which targets differ: a line with the input, then one for each target with its output and a score.

    The score is that of the first scorer whose scores differ; with `verbose` all scores.
    """

    def __init__(self, title: str, groups: Sequence[Sequence[Row]], *, verbose: bool = False) -> None:
        self.title, self.groups, self.verbose = title, groups, verbose

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines, as rich asks for them."""
        from rich.cells import cell_len

        width = options.max_width
        yield styled(self.title, "bold")
        names = [one_line(row.target, MAX_NAME) for group in self.groups for row in group]
        first = max(map(cell_len, names), default=0)
        for rows in self.groups:
            yield from self._sample(rows[0], width)
            scorers = list(rows[0].cells) if self.verbose else _differing_scorers(rows)[:1]
            for row in rows:
                yield from self._output(row, scorers, first if first <= width // 3 else 0, width)

    def _sample(self, row: Row, width: int) -> Iterator[Text]:
        from rich.cells import cell_len

        line = styled(" " * INDENT).append(shortened(short_id(row.sample.id), MAX_ID), style="dim").append("  ")
        text = _input(row)
        expected = f"expected {_expected(row)}" if row.sample.expected else ""
        if expected and line.cell_len + cell_len(text) + GAP + cell_len(expected) <= width:
            yield line.append(text).append(" " * GAP + expected, style="dim")
            return
        yield line.append(shortened(text, width - line.cell_len))
        if expected:
            yield styled(" " * 2 * INDENT + shortened(expected, width - 2 * INDENT), "dim")

    def _output(self, row: Row, scorers: Sequence[str], first: int, width: int) -> Iterator[Text]:
        from rich.cells import cell_len

        line = styled(" " * 2 * INDENT)
        name = one_line(row.target, MAX_NAME)
        if first:
            line.append(padded(name, first)).append(" " * GAP)
        else:  # the names have lines of their own
            yield line.append(shortened(name, width - line.cell_len))
            line = styled(" " * 3 * INDENT)
        indent = line.cell_len
        scores = _scores({name: row.cells[name] for name in scorers if name in row.cells})
        room = width - indent
        beside = cell_len(scores) + GAP <= room // 2
        text = room - GAP - cell_len(scores) if beside else room
        line.append(padded(shortened(one_line(output_with_status(row), MAX_TEXT), text), text if beside else 0))
        if beside and scores:
            line.append(" " * GAP + scores, style="dim")
        line.rstrip()
        yield line
        if not beside:
            yield from wrapped(styled(scores, "dim"), width, indent)
        yield from check_lines(_failing(row), width, indent)


def _differing_scorers(rows: Sequence[Row]) -> list[str]:
    """The scorers whose scores differ between rows; all of them where none do."""
    names = list(rows[0].cells)
    differing = [name for name in names if len({row.cells[name].value for row in rows if name in row.cells}) > 1]
    return differing or names


def score_text(cell: Cell | None) -> str:
    """`1`, `0.250`, `unscored`; whole scores without decimals."""
    if cell is None:
        return DASH
    if cell.value is None:
        return cell.state
    return f"{cell.value:.0f}" if cell.value in (0.0, 1.0) else number(cell.value)


def _scores(cells: Mapping[str, Cell]) -> str:
    return ", ".join(f"{one_line(name, MAX_NAME)} {score_text(cell)}" for name, cell in cells.items())


def _input(row: Row) -> str:
    return one_line(str(row.sample.input), MAX_TEXT)


def _expected(row: Row) -> str:
    return one_line(" | ".join(map(str, row.sample.expected)), MAX_TEXT)
