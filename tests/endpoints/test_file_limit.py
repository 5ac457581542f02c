"""A run under a low limit of open files has fewer requests in flight; it never ends by a signal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.command import command_env
from tests.fakes.server import ScriptedServer, Slow, always

resource = pytest.importorskip("resource")
ROWS = 300


def run_limited(folder: Path, server: ScriptedServer, limits: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The finished run of a suite with many rows, started by a shell that sets the limits first."""
    rows = [{"id": f"r{number}", "input": str(number), "expected": "ok"} for number in range(ROWS)]
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "suite.yaml").write_text(
        f"dataset: rows.json\nscorers: [contains]\ntarget: {{model: m, base_url: '{server.base_url}'}}\n"
        "gates: [contains >= 1]\n"
    )
    command = f'{limits}; exec "$0" -m evalrunner suite.yaml --quiet "$@"'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *options],
        cwd=folder, env=command_env(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("options", [("--concurrency", "200"), ()])
@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
def test_a_hard_limit_of_open_files_lowers_concurrency(
    tmp_path: Path, options: tuple[str, ...], transport: str
) -> None:
    with ScriptedServer(always(Slow(0.05))) as server:
        done = run_limited(tmp_path, server, "ulimit -n 64", "--set", f"target.transport={transport}", *options)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert server.calls == ROWS
        assert 2 < server.most_in_flight < 64


def test_a_limit_that_is_nearly_too_low_still_ends_with_a_verdict_or_a_sentence(tmp_path: Path) -> None:
    with ScriptedServer(always(Slow(0.02))) as server:
        for limit in (24, 32, 44):
            done = run_limited(tmp_path, server, f"ulimit -n {limit}", "--concurrency", "100")
            assert done.returncode >= 0, (limit, done.stderr)
            assert "Fatal Python error" not in done.stderr


def test_the_soft_limit_is_raised_where_concurrency_needs_it(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 1024:
        pytest.skip("the hard limit of this machine is too low")
    with ScriptedServer(always(Slow(0.5))) as server:
        done = run_limited(tmp_path, server, "ulimit -Sn 64", "--concurrency", "150")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert server.most_in_flight > 100
