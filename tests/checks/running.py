"""Suites with checks, run through the command line over recorded answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cases.suites import Ended, command


def write(rows: Sequence[Mapping[str, Any]] | None = None, **keys: Any) -> str:
    """A suite over recorded answers in the working folder; its name."""
    suite = {"name": "case", "target": {"type": "recorded", "column": "reply"}, **keys}
    if rows is not None:
        suite.setdefault("dataset", {"rows": list(rows)})
    Path("case.yaml").write_text(json.dumps(suite, ensure_ascii=False))
    return "case.yaml"


def run(rows: Sequence[Mapping[str, Any]] | None = None, *args: str, **keys: Any) -> Ended:
    """The command that ran the suite; it has not ended with an error of the suite."""
    done = command(write(rows, **keys), "--json", *args)
    assert done.code != 2, done.err
    return done


def refused(rows: Sequence[Mapping[str, Any]] | None = None, *args: str, **keys: Any) -> str:
    """The message with which the suite is refused before any call."""
    done = command(write(rows, **keys), *args)
    assert done.code == 2, done.out
    return done.err


def metrics(done: Ended) -> dict[str, float | None]:
    """The value of each metric of the only target."""
    (target,) = json.loads(done.out)["targets"].values()
    return {metric["name"]: metric["value"] for metric in target["metrics"] if metric["slice"] is None}


def stored_rows(folder: str = "runs/case") -> list[dict[str, Any]]:
    """The records of the newest run, in the order of the dataset."""
    newest = max(Path(folder).glob("2*/rows.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    rows = [json.loads(line) for line in newest.read_text().splitlines()]
    return sorted((row for row in rows if "id" in row), key=lambda row: row["index"])


def cells(name: str = "checks") -> list[tuple[str, float | None]]:
    """State and value of a cell in each row of the newest run."""
    return [(row["cells"][name]["state"], row["cells"][name]["value"]) for row in stored_rows()]
