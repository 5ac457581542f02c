"""Progress of a run: one line on a terminal, plain lines every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from evalrunner.domain import Failure, Row
from evalrunner.formatting import counted, duration, number, one_line
from evalrunner.reports.text_table import shortened

if TYPE_CHECKING:
    from rich.progress import Progress, Task

    from evalrunner.reports.view import RunView

LINE_INTERVAL_S = 5.0  # between plain lines
MIN_ROWS = 5  # from which the rate is trusted
QUIET_S = 5.0  # without a row, after which the line says so
MIN_HOLD_S = 1.0  # of waiting for a server's rate limit, from which the line says so
IDLE_LINE_INTERVAL_S = 30.0  # between plain lines while no row finishes
FIRST_READ_LINE_S = 1.0  # of reading a dataset, after which a line says so
READ_REDRAW_S = 0.2
PART_GAP = "  "  # between the parts of the line
BAR_WIDTH = 28
MIN_BAR = 10  # cells that must be free for a bar


class Pace:
    """Counts of a run in progress, with the running mean of its first metric."""

    def __init__(self, run: RunView, clock: Callable[[], float]) -> None:
        self.total = run.rows_planned
        self.clock = clock
        self.started = clock()
        self.done = self.rows_before = run.rows
        self.failures = 0
        self.name = one_line(run.suite, 30)
        self.scorer = run.headline
        self.phase = run.phase
        self.tallies = run.tallies
        self.newest = self.started
        self.sum = 0.0
        self.scored = 0

    def add(self, row: Row) -> None:
        """Count one row."""
        self.done += 1
        self.newest = self.clock()
        self.failures += isinstance(row.answer, Failure)
        value = row.cells[self.scorer].value
        if value is not None:
            self.sum += value
            self.scored += 1

    def text(self) -> str:
        """Rate, time left, failures, retries, running mean, and waits of some length, in one line."""
        parts = [f"{self.rate:.1f} rows/s", f"{self.failures} failed"]
        if (left_s := self.left_s) is not None:
            parts.insert(1, f"{duration(left_s)} left")
        if retries := self.retries:
            parts.append(counted(retries, "retry", "retries"))
        if self.scored:
            parts.append(f"{self.scorer} {number(self.sum / self.scored)}")
        return ", ".join([*parts, *self.waits()])

    @property
    def rate(self) -> float:
        """Rows per second."""
        return (self.done - self.rows_before) / max(self.clock() - self.started, 1e-9)

    @property
    def left_s(self) -> float | None:
        """The seconds that the other rows take at this rate; None while it is not known yet, and at the end."""
        if self.done - self.rows_before < MIN_ROWS or self.done >= self.total:
            return None  # the first rows may wait for the sanity check of a judge
        return (self.total - self.done) / self.rate

    @property
    def retries(self) -> int:
        """The retries of all targets and judges."""
        return sum(tally.retries for tally in self.tallies)

    def waits(self) -> Iterator[str]:
        """What the run waits for, if it waits for some time."""
        if self.done == self.rows_before and (phase := self.phase()):
            yield phase
        quiet_s = self.clock() - self.newest
        if quiet_s >= QUIET_S:
            yield f"no row for {duration(quiet_s)}"
        hold_s = max((tally.limiter.hold_s for tally in self.tallies if tally.limiter is not None), default=0.0)
        if hold_s >= MIN_HOLD_S:
            yield f"waiting {duration(hold_s)} for the rate limit"

    def line(self, width: int) -> str:
        """One line of at most `width` cells: `qa  ━━━━━╸━━━  182/300  18/s  0:06 left  contains 0.90`.

        Where it is narrow, parts are left out: the bar, the rate and the name first.
        """
        from rich.cells import cell_len

        if self.done == self.rows_before and (phase := self.phase()):
            return shortened(phase, width)
        left_s = self.left_s
        texts = {  # in the order of the line
            "name": self.name,
            "count": f"{self.done:,}/{self.total:,}",
            "rate": f"{self.rate:.3g}/s",
            "left": "" if left_s is None else f"{clock_text(left_s)} left",
            "metric": f"{one_line(self.scorer, 30)} {self.sum / self.scored:.2f}" if self.scored else "",
            "failed": f"{self.failures:,} failed" if self.failures else "",
            "retries": counted(self.retries, "retry", "retries") if self.retries else "",
            "waits": ", ".join(self.waits()),
        }
        kept: set[str] = set()
        room = width
        for part in ("count", "waits", "failed", "retries", "left", "metric", "name", "rate"):
            size = cell_len(texts[part]) + (len(PART_GAP) if kept else 0)
            if texts[part] and size <= room:
                kept.add(part)
                room -= size
        bar = bar_text(self.done, self.total, min(room - len(PART_GAP), BAR_WIDTH)) if room >= MIN_BAR else ""
        parts = [text for part, text in texts.items() if part in kept]
        if bar:
            parts.insert("name" in kept, bar)
        return PART_GAP.join(parts)


def bar_text(done: int, total: int, width: int) -> str:
    """`━━━━━╸───`: a bar of `width` cells."""
    halves = 2 * width * done // max(total, 1)
    filled = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return filled + "─" * (width - len(filled))


def clock_text(seconds: float) -> str:
    """`0:06`, `12:40`, `1:05:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class PlainProgress:
    """A line every few seconds, for logs; fewer while no row finishes, so that a run that waits does not look hung."""

    def __init__(
        self,
        out: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = LINE_INTERVAL_S,
        silent_s: float = IDLE_LINE_INTERVAL_S,
    ) -> None:
        self.out = out
        self.clock = clock
        self.every_s = every_s
        self.silent_s = silent_s
        self.pace: Pace | None = None
        self.name = ""
        self.next = 0.0
        self.ended = threading.Event()

    def on_start(self, run: RunView, /) -> None:
        self.pace = Pace(run, self.clock)
        self.name = one_line(run.suite, 60)
        self.next = self.clock() + self.every_s
        self.ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(self.pace, self.ended), name="progress", daemon=True)
        with contextlib.suppress(RuntimeError):  # no thread to be had: no line while no row finishes
            watcher.start()

    def on_row(self, row: Row, /) -> None:
        assert self.pace is not None  # a run starts before its first row
        self.pace.add(row)
        if self.clock() >= self.next:
            self.next = self.clock() + self.every_s
            self._print(self.pace)

    def on_end(self, run: RunView, /) -> None:
        self.close()

    def close(self) -> None:
        """End the progress of a run, also of one that could not continue."""
        self.ended.set()
        self.pace = None

    def _watch(self, pace: Pace, ended: threading.Event) -> None:
        while not ended.wait(self.silent_s):
            if self.clock() - pace.newest >= self.silent_s:
                self._print(pace)

    def _print(self, pace: Pace) -> None:
        print(f"{self.name}: {pace.done}/{pace.total} rows, {pace.text()}", file=self.out, flush=True)


class BarProgress:
    """One line for terminals, redrawn while no row finishes too."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.pace: Pace | None = None
        self.bar: Progress | None = None

    def on_start(self, run: RunView, /) -> None:
        from rich.console import Console
        from rich.progress import Progress, ProgressColumn
        from rich.table import Column
        from rich.text import Text

        pace = self.pace = Pace(run, time.monotonic)
        console = Console(file=self.out)

        class Line(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(pace.line(console.width - 1))  # no terminal wraps a line that leaves its last cell free

        self.bar = Progress(
            Line(table_column=Column(no_wrap=True)), console=console, transient=True, refresh_per_second=8
        )
        self.bar.add_task("", total=run.rows_planned)
        try:
            self.bar.start()
        except RuntimeError:  # no thread to be had
            self.bar.stop()
            self.bar = None

    def on_row(self, row: Row, /) -> None:
        assert self.pace is not None  # a run starts before its first row
        self.pace.add(row)

    def on_end(self, run: RunView, /) -> None:
        self.close()

    def close(self) -> None:
        """End the progress of a run, also of one that could not continue."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def progress(out: TextIO) -> PlainProgress | BarProgress:
    """A bar on a terminal, plain lines elsewhere."""
    return BarProgress(out) if out.isatty() else PlainProgress(out)


class FetchProgress:
    """The progress of a download: redrawn on a terminal, a line for every quarter elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.last_step = -1

    def __call__(self, done: int, total: int, /) -> None:
        is_terminal = self.out.isatty()
        step = done * (100 if is_terminal else 4) // max(total, 1)
        if step == self.last_step:
            return
        self.last_step = step
        line = f"downloading the model {done / 1e6:.0f}/{total / 1e6:.0f} MB"
        if is_terminal:
            line = f"\r{line}" + ("\n" if done >= total else "")
        print(line, file=self.out, end="" if is_terminal else "\n", flush=True)


class ReadProgress:
    """How many rows of a dataset are read: redrawn on a terminal, a line now and then elsewhere; nothing for a short one."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.out, self.clock = out, clock
        self.next = clock() + FIRST_READ_LINE_S
        self.drawn = False

    def __call__(self, count: int, /) -> None:
        if self.clock() < self.next:
            return
        is_terminal = self.out.isatty()
        self.next = self.clock() + (READ_REDRAW_S if is_terminal else LINE_INTERVAL_S)
        self.drawn = self.drawn or is_terminal
        line = f"reading {count:,} rows"
        print(f"\r{line}" if is_terminal else line, file=self.out, end="" if is_terminal else "\n", flush=True)

    def close(self) -> None:
        """End the line on a terminal."""
        if self.drawn:
            print(file=self.out, flush=True)
            self.drawn = False
