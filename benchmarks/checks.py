"""The CPU that checks cost: a row with five cheap checks of its own, compared with a row that is scored by `exact_match`.

    python benchmarks/checks.py [--rows 10000 --repeats 7 --profile]

Both suites have the same recorded outputs and run through the command line in this process, one after the other, so that
a busy machine slows both alike. The figures are of a whole run: dataset, checks, row log, metrics, every file. Prints
Markdown. `--profile` prints where the time of the checks goes instead.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOAL_MS = 0.15
RIGHT = 0.8  # share of the rows whose output is right


def row(place: int, *, checks: bool) -> dict[str, Any]:
    """A sample with its recorded output; with `checks` five of them, which name what is in the row."""
    days = 10 + place % 50
    right = place % 10 < RIGHT * 10
    answer = f"You can return it within {days if right else days + 1} days."
    data = {
        "id": f"q{place}", "input": f"Can I return item {place}?", "expected": f"You can return it within {days} days.",
        "output": answer, "period": days,
    }  # fmt: skip
    if checks:
        data["checks"] = [
            {"contains": f"{days} days"},
            {"not_contains": "As an AI"},
            {"starts_with": "You can"},
            {"max_words": 20},
            {"regex": r"\b\d+ days\b", "name": "names_the_period"},
        ]
    return data


def write_suite(folder: Path, name: str, rows: int, *, checks: bool) -> Path:
    """A suite of `rows` recorded outputs, with checks in each row or with `exact_match`."""
    lines = (json.dumps(row(place, checks=checks)) for place in range(rows))
    (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    suite = {
        "name": name,
        "dataset": f"{name}.jsonl",
        "target": {"type": "recorded", "column": "output"},
        **({} if checks else {"scorers": ["exact_match"]}),
        "gates": ["checks >= 0.5" if checks else "exact_match >= 0.5"],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(suite))
    return path


def cpu_ms(suite: Path, rows: int) -> float:
    """CPU milliseconds per row of `evalrun SUITE -q` in this process."""
    from typer.testing import CliRunner

    from evalrunner.cli.main import app

    started = time.process_time()
    done = CliRunner().invoke(app, [str(suite), "-q"], prog_name="evalrun")
    took = time.process_time() - started
    if done.exit_code:
        raise SystemExit(f"{suite} ended with {done.exit_code}: {done.output}{done.exception or ''}")
    return took / rows * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        exact = write_suite(folder, "exact", options.rows, checks=False)
        checked = write_suite(folder, "checked", options.rows, checks=True)
        for suite in (exact, checked):
            cpu_ms(suite, options.rows)  # imports
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(cpu_ms, checked, options.rows)
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
            return
        times = [(cpu_ms(exact, options.rows), cpu_ms(checked, options.rows)) for _ in range(options.repeats)]
        os.chdir(ROOT)
    print("| CPU per row, whole run | median | least |\n|---|---|---|")
    for label, place in (("exact_match", 0), ("five checks", 1)):
        values = [pair[place] for pair in times]
        print(f"| {label} | {statistics.median(values):.3f} ms | {min(values):.3f} ms |")
    extra = [checks - exact for exact, checks in times]
    print(f"| difference | {statistics.median(extra):.3f} ms | {min(extra):.3f} ms |")
    print(f"\n{options.rows:,} rows, {options.repeats} pairs of runs; the goal is at most {GOAL_MS} ms")


if __name__ == "__main__":
    main()
