"""The command line in its own process, in the working folder of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def evalrun(
    *args: str, stdin: str | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished process of `evalrun ARGS…`."""
    return subprocess.run(
        [sys.executable, "-m", "evalrunner", *args],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=120,
        env=command_env(env),
        check=False,
    )


def command_env(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the process: that of the test, this checkout first on the path, then `env`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120", **(env or {})}
