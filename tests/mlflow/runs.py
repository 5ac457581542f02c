"""Suites with recorded outputs, whose runs the tests send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalrunner import RunOptions, run_suite
from evalrunner.api import SuiteResult

SUITE = """\
name: NAME
description: Sums.
dataset:
  rows:
    - {input: "2+2?", expected: "4", good: "4", bad: five, topic: "a[b]"}
    - {input: "3+3?", expected: ["6", six], good: "The answer is 6.", bad: "6", topic: x}
    - {input: "no answer known", good: <script>alert(1)</script>, bad: "=1+1", topic: x}
targets: [{type: recorded, column: good, name: good}, {type: recorded, column: bad, name: bad}]
scorers: [exact_match, contains]
gates: [contains >= 0.9]
slices: [topic]
"""


def write_suite(name: str, more: str = "", suite: str = SUITE, folder: Path = Path()) -> Path:
    """A suite file; NAME in its text becomes its name."""
    path = folder / f"{name}.yaml"
    path.write_text(suite.replace("NAME", name) + more, encoding="utf-8")
    return path


def run(name: str, more: str = "", suite: str = SUITE, *, folder: Path = Path(), **options: Any) -> SuiteResult:
    """The result of a small suite."""
    return run_suite(write_suite(name, more, suite, folder), options=RunOptions(**options))


def ledger(folder: Path) -> dict[str, Any]:
    """The one destination in the run's `mlflow.json`."""
    (destination,) = json.loads((folder / "mlflow.json").read_text(encoding="utf-8"))["destinations"]
    return dict(destination)


def tracking(uri: str, more: str) -> str:
    """The section of a suite that sends its runs to `uri`."""
    return f"tracking: {{mlflow: {{uri: '{uri}', {more}}}}}\n"
