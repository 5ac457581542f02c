"""Gates on a terminal of any width: a line with the verdict, then the reason on at most two lines; all with `verbose`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from evalrunner.domain import GateResult
from evalrunner.formatting import counted, interval, number, one_line, styled
from evalrunner.reports.view import verdict_word
from evalrunner.verdicts import VERDICTS

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

MAX_GATE: Final = 80  # characters of a gate's name
MAX_TARGET: Final = 40
MAX_REASON: Final = 600
REASON_LINES: Final = 2
SELF_EVIDENT: Final = "meets the threshold"  # of a pass: its value and its threshold say the same


class GateLines:
    """The gates of a run, in the width that the console has."""

    def __init__(self, gates: Sequence[GateResult], *, verbose: bool = False) -> None:
        self.gates, self.verbose = gates, verbose
        targets = len({gate.target for gate in gates})
        self.names = [
            one_line(gate.gate, MAX_GATE) + (f" · {one_line(gate.target, MAX_TARGET)}" if targets > 1 else "")
            for gate in gates
        ]
        self.words = [verdict_word(gate.verdict) for gate in gates]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines, as rich asks for them."""
        from rich.cells import cell_len

        indent = max(map(len, self.words)) + 2
        numbers = [_numbers(gate) for gate in self.gates]
        room = options.max_width - indent - max(map(len, numbers)) - 3
        column = max((cell_len(name) for name in self.names if cell_len(name) <= room), default=0)
        hidden = 0
        yield styled("")
        for gate, word, name, figures in zip(self.gates, self.words, self.names, numbers, strict=True):
            line = styled(f"{word:{indent}}", VERDICTS[gate.verdict].style)
            if indent + cell_len(name) + 3 + len(figures) <= options.max_width:
                gap = " " * max(column - cell_len(name), 0)
                yield line.append(f"{name}{gap}   {figures}".rstrip(), style="default")
                texts = self._texts(gate)
            else:  # the name and the numbers each have lines of their own
                yield from self._folded(console, line, name, options.max_width, indent)
                texts = chain([figures] if figures else [], self._texts(gate))
            for text in texts:
                width = max(options.max_width - indent, 20)
                lines = list(styled(text).wrap(console, width))
                if len(lines) > REASON_LINES and not self.verbose:
                    hidden += 1
                    lines = self._shortened(lines, width, f" (line {gate.line})" if gate.line else "")
                for part in lines:
                    yield styled(" " * indent).append_text(part)
            hidden += bool(gate.details) and gate.verdict != "pass"
        if hidden and not self.verbose:
            yield styled(" " * indent + "-v shows the details", "dim")
        yield styled("")

    def _shortened(self, lines: list[Text], width: int, line: str) -> list[Text]:
        """The first lines of a reason, with the line of its gate in the suite at the end."""
        last = lines[REASON_LINES - 1]
        last.truncate(width - len(line) - 1)
        last.rstrip()
        last.append(f"…{line}")
        return lines[:REASON_LINES]

    def _folded(self, console: Console, head: Text, text: str, width: int, indent: int) -> Iterator[Text]:
        """A line that is too long, with its further lines indented."""
        first, *others = styled(text).wrap(console, max(width - indent, 20))
        yield head.append_text(first)
        for other in others:
            yield styled(" " * indent).append_text(other)

    def _texts(self, gate: GateResult) -> Iterator[str]:
        """The reason, and with `verbose` the details, each starts a line."""
        reason = one_line(gate.reason, MAX_REASON)
        line = f" (line {gate.line})" if gate.line else ""
        if self.verbose:
            yield reason + line
            yield from (one_line(note, MAX_REASON) for note in gate_notes(gate))
        elif gate.verdict != "pass":
            yield reason + line
        elif reason != SELF_EVIDENT:
            yield reason


def gate_notes(gate: GateResult) -> Iterator[str]:
    """Facts about a gate that its reason does not contain: its baseline or its one-sided bound, then its details."""
    before = gate.baseline
    if before is not None and before.value is not None:
        excluded = f", {counted(before.excluded, 'sample')} excluded" if before.excluded else ""
        missing = f", {before.missing:,} without a score" if before.missing else ""
        yield f"baseline {before.name}: {number(before.value)}, {counted(before.n, 'pair')}{excluded}{missing}"
    elif gate.confidence is not None and (gate.gate_low is not None or gate.gate_high is not None):
        bounds = interval(gate.gate_low, gate.gate_high, beside=(gate.bound,))
        yield f"one-sided {100 * gate.confidence:.4g}% bounds: {bounds}"
    yield from gate.details


def _numbers(gate: GateResult) -> str:
    """`0.906   95% CI 0.868–0.934`, with enough digits to tell them from the threshold."""
    if gate.value is None:
        return ""
    value = number(gate.value, beside=(gate.low, gate.high, gate.bound))
    if gate.low is None and gate.high is None:
        return value
    return f"{value}   95% CI {interval(gate.low, gate.high, beside=(gate.value, gate.bound))}"
