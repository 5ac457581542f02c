"""A suite with two recorded models and a gate on a baseline, for tests through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fakes.command import evalrun

SUITE = """\
name: qa
dataset: data.csv
target: {{name: m, type: recorded, column: {column}}}
scorers: {scorers}
gates:
  - {{metric: exact_match, baseline: main, max_drop: {drop}}}
"""
BASELINE = Path("baselines/qa/main.jsonl")


def data(count: int = 200, *, worse: int = 20) -> None:
    lines = [f"q{i},{i}?,yes,yes,{'no' if i < worse else 'yes'},{'law' if i % 2 else 'art'}" for i in range(count)]
    Path("data.csv").write_text("id,input,expected,good,bad,topic\n" + "\n".join(lines) + "\n")


def suite(column: str = "good", *, scorers: str = "[exact_match]", drop: float = 0.05, more: str = "") -> str:
    Path("qa.yaml").write_text(SUITE.format(column=column, scorers=scorers, drop=drop) + more)
    return "qa.yaml"


def gates(*args: str) -> tuple[int, list[dict[str, Any]]]:
    done = evalrun(*args, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["gates"]


def oldest_first() -> list[Path]:
    """The run folders; two may have begun in the same second."""
    return sorted(Path("runs/qa").iterdir(), key=lambda folder: (folder / "run.json").stat().st_mtime_ns)


def accepted(*args: str) -> str:
    done = evalrun("baseline", "accept", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout
