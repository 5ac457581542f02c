"""The CPU that checks cost: a row with five cheap checks of its own, compared with a row that is scored by `exact_match`.

    python benchmarks/checks.py [--rows 10000 --repeats 7 --profile distinct]

Three kinds of checks: the same in many rows, templates with another value in each row, and none twice. All suites have
the same recorded outputs and run through the command line in this process, one after the other, so that a busy machine
slows all alike. The figures are of a whole run: dataset, checks, row log, metrics, every file. Prints Markdown.
`--profile` prints where the time of one kind goes instead.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOAL_MS = 0.15
RIGHT = 0.8  # share of the rows whose output is right


def row(place: int, kind: str) -> dict[str, Any]:
    """A sample with its recorded output, and five checks unless `kind` is exact_match."""
    days = 10 + place % 50
    right = place % 10 < RIGHT * 10
    answer = f"You can return item {place} within {days if right else days + 1} days."
    data = {
        "id": f"q{place}", "input": f"Can I return item {place}?", "output": answer, "period": days, "item": place,
        "expected": f"You can return item {place} within {days} days.",
    }  # fmt: skip
    return data if kind == EXACT else {**data, "checks": CHECKS[kind](place, days)}


def recurring(place: int, days: int) -> list[dict[str, Any]]:
    """Checks that are the same in many rows."""
    return [
        {"contains": f"{days} days"},
        {"not_contains": "As an AI"},
        {"starts_with": "You can"},
        {"max_words": 20},
        {"regex": r"\b\d+ days\b", "name": "names_the_period"},
    ]


def templated(place: int, days: int) -> list[dict[str, Any]]:
    """The same checks in every row, two of them with templates that make another text for each."""
    return [
        {"contains": "item {{ item }} within {{ period }} days"},
        {"not_contains": "item {{ item }} within {{ item }} days"},
        {"starts_with": "You can"},
        {"max_words": 20},
        {"regex": r"\b\d+ days\b", "name": "names_the_period"},
    ]


def distinct(place: int, days: int) -> list[dict[str, Any]]:
    """Checks of which none is in another row."""
    return [
        {"contains": f"item {place} within {days} days"},
        {"not_contains": f"item {place + 1} "},
        {"starts_with": f"You can return item {place} "},
        {"max_chars": 1_000 + place},
        {"contains": [f"{days} days", f"{days} nights for {place}"], "ignore_case": True, "name": "names_the_period"},
    ]


EXACT = "exact_match"
CHECKS: dict[str, Callable[[int, int], list[dict[str, Any]]]] = {
    "recurring": recurring, "templated": templated, "distinct": distinct,
}  # fmt: skip


def write_suite(folder: Path, rows: int, kind: str) -> Path:
    """A suite of `rows` recorded outputs, with checks of that kind in each row or with `exact_match`."""
    lines = (json.dumps(row(place, kind)) for place in range(rows))
    (folder / f"{kind}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    suite = {
        "name": kind,
        "dataset": f"{kind}.jsonl",
        "target": {"type": "recorded", "column": "output"},
        **({"scorers": [EXACT]} if kind == EXACT else {}),
        "gates": [f"{EXACT if kind == EXACT else 'checks'} >= 0.5"],
    }
    path = folder / f"{kind}.yaml"
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", choices=CHECKS)
    options = parser.parse_args()
    rows = options.rows
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        suites = {kind: write_suite(Path(name), rows, kind) for kind in (EXACT, *CHECKS)}
        cpu_ms(suites[EXACT], rows)  # imports
        cpu_ms(suites["recurring"], rows)
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(cpu_ms, suites[options.profile], rows)
            pstats.Stats(profile).sort_stats("tottime").print_stats(60)
            return
        times = [{kind: cpu_ms(path, rows) for kind, path in suites.items()} for _ in range(options.repeats)]
        os.chdir(ROOT)
    print("| CPU per row, whole run | median | least | more than exact_match (median) | least |\n|---|---|---|---|---|")
    for kind in suites:
        values = [one[kind] for one in times]
        extra = [one[kind] - one[EXACT] for one in times]
        more = "| | |" if kind == EXACT else f"| {statistics.median(extra):.3f} ms | {min(extra):.3f} ms |"
        label = kind if kind == EXACT else f"five {kind} checks"
        print(f"| {label} | {statistics.median(values):.3f} ms | {min(values):.3f} ms {more}")
    print(f"\n{rows:,} rows, {options.repeats} runs each; the goal is at most {GOAL_MS} ms more than {EXACT}")


if __name__ == "__main__":
    main()
