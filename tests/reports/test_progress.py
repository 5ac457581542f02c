"""Progress on stderr: how far a run is, and that it waits rather than hangs."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import evalrunner
from evalrunner.reports.progress import PlainProgress
from tests.fakes.command import command_env
from tests.fakes.server import Action, Answer, ScriptedServer, Slow, Status

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
    assert " left, 0 failed, exact_match/v1 1.000" in lines[10]
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
        ours, theirs = pty.openpty()
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=command_env({"TERM": "xterm"}))
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 65536):
                drawn += piece
        except OSError:  # how a terminal says that nobody writes any more
            pass
        os.close(ours)
        run.communicate(timeout=30)
    assert run.returncode == 0
    frames = ESCAPE.sub("", drawn.decode()).replace("\r", "\n").splitlines()
    assert any("0/2" in frame and "2 retries" in frame for frame in frames)
