"""Ctrl-C: finished rows are on disk and the process exits with 130."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalrunner.runs.row_log import read_rows
from tests.fakes.command import command_env
from tests.fakes.server import Answer, ScriptedServer, Slow

SUITE = """\
name: long
dataset: data.csv
target: {{model: m, base_url: "{address}"}}
scorers: [exact_match]
run: {{concurrency: 4}}
"""


def start(address: str, rows: int = 2000) -> subprocess.Popen[str]:
    Path("data.csv").write_text("id,input,expected\n" + "".join(f"q{i},{i}?,ok\n" for i in range(rows)))
    Path("long.yaml").write_text(SUITE.format(address=address))
    command = [sys.executable, "-m", "evalrunner", "long.yaml"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_env())


def wait_for(server: ScriptedServer, calls: int) -> None:
    until = time.monotonic() + 30
    while server.calls < calls and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_first_ctrl_c_preserves_finished_rows(sign: signal.Signals) -> None:
    with ScriptedServer(lambda request, nth: Slow(0.02)) as server:
        run = start(server.base_url)
        wait_for(server, 20)
        run.send_signal(sign)
        out, err = run.communicate(timeout=30)
        calls = server.calls
    assert run.returncode == 130
    assert "stopping: waiting for in-flight requests" in err and "Traceback" not in err
    assert "INTERRUPTED  long · " in out
    (folder,) = Path("runs/long").iterdir()
    assert f"report  {folder}/report.html" in out
    assert len(list(read_rows(folder))) == calls  # every call that was made has its row
    files = {"metrics.json", "report.html", "rows.jsonl", "run.json", "table.csv"}
    assert files <= {path.name for path in folder.iterdir()}
    assert f"rows unfinished. Resume: evalrun --resume {folder}" in out


def test_second_ctrl_c_cancels_hanging_calls() -> None:
    with ScriptedServer(lambda request, nth: Answer() if nth <= 10 else Slow(30)) as server:
        run = start(server.base_url)
        wait_for(server, 14)
        run.send_signal(signal.SIGINT)
        time.sleep(0.3)
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert time.monotonic() - began < 4  # of the thirty that the calls would take
    assert "Traceback" not in err
    (folder,) = Path("runs/long").iterdir()
    assert len(list(read_rows(folder))) == 10


def test_hanging_user_function_does_not_block_the_exit() -> None:
    Path("app.py").write_text(
        "import time\ndef answer(input):\n    time.sleep(0 if input == '0?' else 60)\n    return 'ok'\n"
    )
    Path("data.csv").write_text("input\n0?\n1?\n")
    Path("hang.yaml").write_text(
        'name: hang\ndataset: data.csv\ntarget: {type: python, function: "app.py:answer"}\n'
        "scorers: [{type: contains, values: [ok]}]\n"
    )
    command = [sys.executable, "-m", "evalrunner", "hang.yaml"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_env())
    until = time.monotonic() + 20
    while time.monotonic() < until and not any(path.stat().st_size for path in Path("runs").glob("hang/*/rows.jsonl")):
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    began = time.monotonic()
    run.communicate(timeout=30)
    assert run.returncode == 130
    assert time.monotonic() - began < 10
