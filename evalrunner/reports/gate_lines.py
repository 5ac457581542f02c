"""Gates on a terminal of any width: a line with the verdict, then the reason on at most two lines; all with `verbose`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from evalrunner.domain import GateResult
from evalrunner.formatting import counted, interval, number, numbers, one_line, styled
from evalrunner.reports.text_table import shortened
from evalrunner.reports.view import verdict_word
from evalrunner.verdicts import VERDICTS

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

MAX_GATE: Final = 80  # characters of a gate's name
MAX_TARGET: Final = 40
MAX_REASON: Final = 600
REASON_LINES: Final = 2
MAX_GATES: Final = 8  # without -v, if the others pass
SELF_EVIDENT: Final = "meets the threshold"  # of a pass: its value and its threshold say the same


class GateLines:
    """The gates of a run, in the width that the console has."""

    def __init__(self, gates: Sequence[GateResult], *, verbose: bool = False, file: str = "") -> None:
        self.gates, self.more = (gates, 0) if verbose else _first_gates(gates)
        self.verbose, self.file = verbose, file
        targets = len({gate.target for gate in self.gates})
        self.names = [
            one_line(gate.gate, MAX_GATE) + (f" · {one_line(gate.target, MAX_TARGET)}" if targets > 1 else "")
            for gate in self.gates
        ]
        self.words = [verdict_word(gate.verdict) for gate in self.gates]

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
                    lines = self._shortened(lines, width, self._place(gate))
                for part in lines:
                    part.rstrip()
                    yield styled(" " * indent).append_text(part)
            hidden += bool(gate.details) and gate.verdict != "pass"
        if self.more:
            yield styled(f"{'PASS':{indent}}", VERDICTS["pass"].style).append(
                f"{counted(self.more, 'more gate')} (-v shows all)", style="default"
            )
        if hidden and not self.verbose:
            yield styled(" " * indent + "-v shows the details", "dim")

    def _place(self, gate: GateResult) -> str:
        """Where a gate stands: ` (qa.yaml:18)`."""
        return f" ({self.file}:{gate.line})" if gate.line and self.file else f" (line {gate.line})" if gate.line else ""

    def _shortened(self, lines: list[Text], width: int, line: str) -> list[Text]:
        """The first lines of a reason, with the line of its gate in the suite at the end."""
        rest = " ".join(part.plain.strip() for part in lines[REASON_LINES - 1 :])
        cut = shortened(rest, max(width - len(line), 1))
        return [*lines[: REASON_LINES - 1], styled(cut + line)]

    def _folded(self, console: Console, head: Text, text: str, width: int, indent: int) -> Iterator[Text]:
        """A line that is too long, with its further lines indented."""
        first, *others = styled(text).wrap(console, max(width - indent, 20))
        first.rstrip()
        yield head.append_text(first)
        for other in others:
            other.rstrip()
            yield styled(" " * indent).append_text(other)

    def _texts(self, gate: GateResult) -> Iterator[str]:
        """The reason, and with `verbose` the details, each starts a line."""
        reason = one_line(gate.reason, MAX_REASON)
        line = self._place(gate)
        if self.verbose:
            yield reason + line
            yield from (one_line(note, MAX_REASON) for note in gate_notes(gate))
        elif gate.verdict != "pass":
            yield reason + line
        elif reason != SELF_EVIDENT:
            yield reason


def _first_gates(gates: Sequence[GateResult]) -> tuple[Sequence[GateResult], int]:
    """The gates that are shown, in their order, and how many that pass are not: all that do not pass are shown."""
    passed = [gate for gate in gates if gate.verdict == "pass"]
    room = max(0, MAX_GATES - (len(gates) - len(passed)))
    hidden = passed[room:] if len(passed) > room + 1 else []
    return [gate for gate in gates if gate not in hidden], len(hidden)


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
    """`0.906   95% CI 0.868–0.934`, or `0.906 → 0.825` since the baseline, with enough digits to tell them from the threshold."""
    if gate.value is None:
        return ""
    if gate.baseline is not None and gate.baseline.value is not None:
        before, now = numbers((gate.baseline.value, gate.value))
        return f"{before} → {now}"
    value = number(gate.value, beside=(gate.low, gate.high, gate.bound))
    if gate.low is None and gate.high is None:
        return value
    return f"{value}   95% CI {interval(gate.low, gate.high, beside=(gate.value, gate.bound))}"
