"""What a run leaves behind: tables and metrics that agree, the same bytes each time, nothing that could run."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pandas
import pytest

import evalrunner

SUITE = """\
name: rec
dataset: rows.jsonl
targets:
  - {type: recorded, column: one, name: one}
  - {type: recorded, column: two, name: two}
scorers:
  - {type: exact_match, normalize: squad}
  - contains
  - {type: token_f1, on_no_answer: zero}
  - {type: python, function: "mine.py:length", aggregates: [mean, variance, p90, ratio, total], threshold: 3, low: 0}
gates: [contains >= 0.4]
run: {concurrency: 7, seed: 3}
"""
MINE = """\
def length(output):
    if "crash" in output:
        raise ValueError("no length for this one")
    return len(output) / 4
"""


def write_suite(rows: int = 60) -> str:
    lines = []
    for place in range(rows):
        row: dict[str, Any] = {"input": f"What is {place}+1?", "topic": ["a", "b"][place % 2], "latency": place}
        row["expected"] = str(place + 1) if place % 10 else None
        row["one"] = ["", f"crash {place + 1}", f"It is {place + 1}.", str(place + 1)][place % 4]
        row["two"] = str(place + 1) if place % 3 else "no idea"
        lines.append(json.dumps(row))
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    Path("mine.py").write_text(MINE)
    Path("rec.yaml").write_text(SUITE)
    return "rec.yaml"


def recomputed(table: pandas.DataFrame, prefix: str, threshold: float) -> dict[str, float]:
    """The aggregates of a scorer's column, with pandas alone."""
    scored = table[table[f"{prefix}/state"] == "scored"][f"{prefix}/score"].astype(float)
    return {
        "mean": scored.mean(),
        "variance": scored.var(ddof=0),
        "p90": scored.quantile(0.9),
        "ratio": (scored >= threshold).mean(),
        "total": scored.sum(),
    }


def test_metrics_can_be_recomputed_from_the_table() -> None:
    result = evalrunner.run_suite(write_suite())
    table = pandas.read_csv(result.folder / "table.csv")
    metrics = json.loads((result.folder / "metrics.json").read_text())
    checked = 0
    for target, actual in metrics["targets"].items():
        rows = table[table["target"] == target]
        for metric in actual["metrics"]:
            if metric["version"] is None:
                continue
            prefix = f"{metric['scorer']}/{metric['version']}"
            states = rows[f"{prefix}/state"].value_counts()
            counts = [int(states.get(name, 0)) for name in ("scored", "skipped", "unscored", "error")]
            assert counts == [metric["n"], metric["skipped"], metric["unscored"], metric["errors"]]
            value = recomputed(rows, prefix, 3)[metric["aggregate"]]
            assert math.isclose(metric["value"], value, rel_tol=0, abs_tol=1e-12)
            checked += 1
    assert checked == 16


def test_equal_runs_give_equal_bytes() -> None:
    name = write_suite()
    first, second = evalrunner.run_suite(name), evalrunner.run_suite(name, options=evalrunner.RunOptions(concurrency=1))
    assert (first.folder / "table.csv").read_bytes() == (second.folder / "table.csv").read_bytes()
    texts = [(run.folder / "metrics.json").read_text().replace(run.run_id, "ID") for run in (first, second)]
    assert texts[0] == texts[1]


def test_table_columns_and_their_order() -> None:
    result = evalrunner.run_suite(write_suite(12))
    table = pandas.read_csv(result.folder / "table.csv")
    assert list(table.columns) == [
        "id", "target", "epoch", "input", "topic", "sample.latency", "one", "two", "expected", "output",
        "exact_match/v1/score", "exact_match/v1/state", "exact_match/v1/justification",
        "contains/v1/score", "contains/v1/state", "contains/v1/justification",
        "token_f1/v1/score", "token_f1/v1/state", "token_f1/v1/justification",
        "length/v1/score", "length/v1/state", "length/v1/justification",
        "latency", "token_count", "cost_usd", "finish_reason",
    ]  # fmt: skip
    assert list(table["target"]) == ["one"] * 12 + ["two"] * 12
    assert list(table["input"][:12]) == [f"What is {place}+1?" for place in range(12)]


def test_run_suite_returns_metrics_and_a_table() -> None:
    result = evalrunner.run_suite(write_suite(20))
    assert result.exit_code == 3 and result.verdict == "untrusted"  # a quarter of the answers of one are empty
    assert result.metrics["two/contains/v1"] == pytest.approx(12 / 18)
    assert result.metrics["one/length/v1/total"] is not None
    assert result.table.shape == (40, 26)
    crashed = result.table[result.table["length/v1/state"] == "error"]["length/v1/justification"].iloc[0]
    assert crashed == "function: length() in mine.py:3 raised ValueError: no length for this one"


def test_metric_names_have_no_target_prefix_with_one_target() -> None:
    result = evalrunner.run_suite(write_suite(20), options=evalrunner.RunOptions(targets=("two",)))
    assert result.metrics["contains/v1"] == pytest.approx(12 / 18)
    assert result.verdict == "pass"


def test_outputs_are_written_to_their_paths() -> None:
    outputs = (
        "out/t.csv",
        "out/t.json",
        "out/t.jsonl",
        "out/t.parquet",
        "out/t.xlsx",
        "out/t.html",
        "out/t.svg",
        "out/t.png",
    )
    result = evalrunner.run_suite(write_suite(20), options=evalrunner.RunOptions(outputs=outputs))
    assert Path("out/t.csv").read_bytes() == (result.folder / "table.csv").read_bytes()
    assert Path("out/t.jsonl").read_bytes() == (result.folder / "rows.jsonl").read_bytes()
    parquet, excel = pandas.read_parquet("out/t.parquet"), pandas.read_excel("out/t.xlsx")
    assert list(parquet["id"]) == list(excel["id"]) == list(result.table["id"])
    assert Path("out/t.html").read_bytes() == (result.folder / "report.html").read_bytes()
    assert Path("out/t.svg").read_text().startswith("<svg ") and Path("out/t.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path("out").iterdir()} == {Path(output).name for output in outputs}


HOSTILE = [
    '=cmd|"/c calc"!A1',
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\x00=1",
    "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "\u202eabc",
    "x" * 1_000_000,
    'quotes " and\nlines',
]


def test_csv_disarms_formulas_and_keeps_numbers() -> None:
    lines = [json.dumps({"input": text, "expected": "-4.5", "out": text}) for text in [*HOSTILE, "-4.5"]]
    Path("h.jsonl").write_text("\n".join(lines))
    Path("h.yaml").write_text(
        "name: h\ndataset: h.jsonl\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
    )
    result = evalrunner.run_suite("h.yaml")
    csv.field_size_limit(10_000_000)
    with (result.folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(HOSTILE) + 1
    for row in rows[:-1]:
        assert not re.match(r"[=+\-@\t\r\n]", row["output"]), row["output"][:20]
        assert "\0" not in row["output"]
    assert (rows[-1]["output"], rows[-1]["expected"]) == ("-4.5", "-4.5")
    stored = [row.answer.text for row in read(result.folder)]
    assert sorted(stored) == sorted([*HOSTILE, "-4.5"])  # the row log is the lossless source


def read(folder: Path) -> Any:
    from evalrunner.runs.row_log import read_rows

    return read_rows(folder)
