"""Progress of a run: a bar on a terminal, plain lines every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from evalrunner.domain import Failure, Row
from evalrunner.formatting import counted, duration, number, one_line

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.text import Text

    from evalrunner.reports.view import RunView

LINE_INTERVAL_S = 5.0  # between plain lines
MIN_ROWS = 5  # from which the rate is trusted
QUIET_S = 5.0  # without a row, after which the line says so
MIN_HOLD_S = 1.0  # of waiting for a server's rate limit, from which the line says so
IDLE_LINE_INTERVAL_S = 30.0  # between plain lines while no row finishes


class Pace:
    """Counts of a run in progress, with the running mean of its first metric."""

    def __init__(self, run: RunView, clock: Callable[[], float]) -> None:
        self.total = run.rows_planned
        self.clock = clock
        self.started = clock()
        self.done = self.rows_before = run.rows
        self.failures = 0
        first = run.measures[0]
        self.scorer = first.name
        self.label = first.metric_name("mean")
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
        rate = (self.done - self.rows_before) / max(self.clock() - self.started, 1e-9)
        parts = [f"{rate:.1f} rows/s", f"{self.failures} failed"]
        # the first rows may wait for the sanity check of a judge
        if self.done - self.rows_before >= MIN_ROWS and self.done < self.total:
            parts.insert(1, f"{duration((self.total - self.done) / rate)} left")
        if retries := sum(tally.retries for tally in self.tallies):
            parts.append(counted(retries, "retry", "retries"))
        if self.scored:
            parts.append(f"{self.label} {number(self.sum / self.scored)}")
        quiet_s = self.clock() - self.newest
        if quiet_s >= QUIET_S:
            parts.append(f"no row for {duration(quiet_s)}")
        hold_s = max((tally.limiter.hold_s for tally in self.tallies if tally.limiter is not None), default=0.0)
        if hold_s >= MIN_HOLD_S:
            parts.append(f"waiting {duration(hold_s)} for the rate limit")
        return ", ".join(parts)


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
    """A bar for terminals, which also moves on while no row finishes."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.pace: Pace | None = None
        self.bar: Progress | None = None
        self.task: Task | None = None

    def on_start(self, run: RunView, /) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        pace = self.pace = Pace(run, time.monotonic)

        class PaceColumn(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(pace.text())

        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            PaceColumn(),
            console=Console(file=self.out),
            transient=True,
            refresh_per_second=8,
        )
        self.bar.add_task(one_line(run.suite, 30), total=run.rows_planned, completed=pace.done)
        (self.task,) = self.bar.tasks
        try:
            self.bar.start()
        except RuntimeError:  # no thread to be had
            self.bar.stop()
            self.bar = None

    def on_row(self, row: Row, /) -> None:
        assert self.pace is not None and self.task is not None  # a run starts before its first row
        self.pace.add(row)
        self.task.completed = self.pace.done  # redrawn eight times a second

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
        line = f"downloading the weights of the embedded model, once: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
        if is_terminal:
            filled = done * 30 // max(total, 1)
            line = f"\r{line} [{'━' * filled}{' ' * (30 - filled)}]" + ("\n" if done >= total else "")
        print(line, file=self.out, end="" if is_terminal else "\n", flush=True)
