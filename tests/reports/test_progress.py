"""Progress on stderr: how far a run is, and that it waits rather than hangs."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Row
from evalrunner.reports.progress import (
    FetchProgress,
    Pace,
    PlainProgress,
    ReadProgress,
    bar_text,
    clock_text,
)
from evalrunner.reports.view import RunView
from tests.fakes.server import Action, Answer, ScriptedServer, Slow, Status
from tests.fakes.terminal import drawn_on_terminal

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def write(address: str, rows: int) -> str:
    Path("data.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i},ok\n" for i in range(rows)))
    Path("s.yaml").write_text(
        f'name: s\ndataset: data.csv\ntarget: {{model: m, base_url: "{address}"}}\nscorers: [exact_match]\n'
    )
    return "s.yaml"


def refuses_twice(request: Any, nth: int) -> Action:
    return Slow(0.5, Status(500) if nth <= 2 else Answer())


def test_log_reports_retries_while_no_row_finishes() -> None:
    out = io.StringIO()
    with ScriptedServer(refuses_twice) as server:
        evalrunner.run_suite(write(server.base_url, 2), reporters=[PlainProgress(out, silent_s=0.1)])
    lines = out.getvalue().splitlines()
    assert lines and lines[0].startswith("s: 0/2 rows, 0.0 rows/s, 0 failed")
    assert any("2 retries" in line for line in lines)


def test_log_reports_progress_and_no_time_left_at_the_end() -> None:
    out = io.StringIO()
    with ScriptedServer() as server:
        evalrunner.run_suite(write(server.base_url, 20), reporters=[PlainProgress(out, every_s=0.0)])
    lines = out.getvalue().splitlines()
    assert len(lines) == 20
    assert " left, 0 failed, exact_match 1.000" in lines[10]
    assert lines[-1].startswith("s: 20/20 rows, ") and " left" not in lines[-1]


def test_log_reports_a_wait_for_the_rate_limit() -> None:
    none_left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "99999"}
    out = io.StringIO()
    with ScriptedServer(lambda _request, _nth: Answer(headers=none_left)) as server:
        evalrunner.run_suite(write(server.base_url, 5), reporters=[PlainProgress(out, silent_s=0.1)])
    assert re.search(r"waiting [12]\S* s? ?for the rate limit", out.getvalue())


def test_bar_reports_retries_while_no_row_finishes() -> None:
    with ScriptedServer(refuses_twice) as server:
        command = [sys.executable, "-m", "evalrunner", write(server.base_url, 2)]
        drawn = drawn_on_terminal(command, {"TERM": "xterm"}, stdout=False)
    frames = ESCAPE.sub("", drawn).replace("\r", "\n").splitlines()
    assert any("0/2" in frame and "2 retries" in frame for frame in frames)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class PaceReporter:
    """Keeps the pace of a run that was half done after ten seconds."""

    def on_start(self, run: RunView) -> None:
        self.clock = Clock()
        self.pace = Pace(run, self.clock)

    def on_row(self, row: Row) -> None:
        if self.pace.done < self.pace.total // 2:
            self.clock.now += 1.0
            self.pace.add(row)

    def on_end(self, run: RunView) -> None: ...


@pytest.mark.parametrize("width", range(10, 130, 6))
def test_the_line_fits_every_width_and_keeps_its_numbers(half_done: Pace, width: int) -> None:
    line = half_done.line(width)
    assert len(line) <= width and "10/20" in line and "…" not in line
    if width >= 40:
        assert "0:10 left" in line and "exact_match 1.00" in line


def test_the_whole_line(half_done: Pace) -> None:
    assert half_done.line(80) == "s  " + "━" * 14 + "─" * 14 + "  10/20  1/s  0:10 left  exact_match 1.00"


@pytest.fixture
def half_done() -> Pace:
    reporter = PaceReporter()
    with ScriptedServer() as server:
        evalrunner.run_suite(write(server.base_url, 20), reporters=[reporter])
    return reporter.pace


def test_bars_and_times() -> None:
    assert [bar_text(done, 8, 4) for done in (0, 1, 3, 8)] == ["────", "╸───", "━╸──", "━━━━"]
    assert [clock_text(seconds) for seconds in (6, 760, 3900)] == ["0:06", "12:40", "1:05:00"]


def test_a_long_read_is_reported_and_a_short_one_is_not() -> None:
    for out, lines in ((io.StringIO(), "reading 300,000 rows\n"), (Terminal(), "\rreading 300,000 rows\n")):
        clock = Clock()
        reading = ReadProgress(out, clock=clock)
        reading(1000)
        assert out.getvalue() == ""
        clock.now = 2.0
        reading(300_000)
        reading(301_000)  # too soon after the last line
        reading.close()
        assert out.getvalue() == lines


def test_a_download_is_one_line_on_a_terminal_and_four_in_a_log() -> None:
    screen, log = Terminal(), io.StringIO()
    for out in (screen, log):
        fetching = FetchProgress(out)
        for done in range(94):
            fetching(done * 1_000_000, 93_000_000)
    assert "\rdownloading the model 38/93 MB" in screen.getvalue() and screen.getvalue().count("\n") == 1
    assert log.getvalue().splitlines()[1:] == [f"downloading the model {done}/93 MB" for done in (24, 47, 70, 93)]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_progress_on_a_terminal_is_one_line(width: int) -> None:
    with ScriptedServer(lambda _request, nth: Slow(0.1)) as server:
        command = [sys.executable, "-m", "evalrunner", write(server.base_url, 12), "--concurrency", "2"]
        drawn = drawn_on_terminal(command, {"TERM": "xterm", "COLUMNS": str(width)}, stdout=False)
    frames = ESCAPE.sub("", drawn).replace("\r", "\n").splitlines()
    assert max(map(len, frames)) <= width
    assert any("/12" in frame for frame in frames)
    assert not any(re.search(r"\d…", frame) for frame in frames)
