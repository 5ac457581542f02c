"""Runs for the page to show: a small one with everything in it that can be, and a hostile one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import evalrunner
from evalrunner.domain import Completion, Failure, Row
from evalrunner.reports.worst_rows import BaselineScores
from evalrunner.runs.row_log import encode_row, read_rows
from evalrunner.storage import write_json

SUITE = """\
name: capitals
description: Two prompts and a service, on made-up questions.
dataset: rows.jsonl
targets:
  - {type: recorded, column: one, name: short prompt}
  - {type: recorded, column: two, name: long prompt}
  - {type: python, name: service, function: "service.py:answer"}
prompt:
  - system: Answer in one word.
  - user: "{{ input }}"
scorers:
  - {type: exact_match, normalize: squad}
  - {type: contains, normalize: squad}
  - token_f1
gates: [contains >= 0.5, {metric: exact_match, min: 0.9, target: short prompt}]
"""
SERVICE = """\
def answer(input, sample):
    if sample.metadata["number"] % 9 == 4:
        raise ValueError("the service is down")
    return f"It is {sample.expected[0] if sample.expected else 'not known'}."
"""
COUNTRIES = ("France", "Japan", "Peru", "Kenya", "Norway", "Chile", "India")
CAPITALS = ("Paris", "Tokyo", "Lima", "Nairobi", "Oslo", "Santiago", "New Delhi")


def sample_line(place: int) -> dict[str, Any]:
    """One line of the dataset, with two answers that exist already."""
    country, capital = COUNTRIES[place % 7], CAPITALS[place % 7]
    long = f"The capital of {country} is {capital if place % 5 else 'not'}, as most people know."
    return {
        "id": f"q{place}",
        "input": f"What is the capital of {country}? ({place})",
        "expected": [capital, f"the city of {capital}"] if place % 11 else None,
        "number": place,
        "topic": ("europe", "asia", "america")[place % 3],
        "one": capital if place % 4 else ("" if place % 8 else "I do not know."),
        "two": long if place % 6 else capital,
    }


def make_run(rows: int = 120) -> Path:
    """The folder of a real run below the working folder: three targets, failures, empty answers, no expected."""
    Path("rows.jsonl").write_text("\n".join(json.dumps(sample_line(place)) for place in range(rows)) + "\n")
    Path("service.py").write_text(SERVICE)
    Path("capitals.yaml").write_text(SUITE)
    return evalrunner.run_suite("capitals.yaml").folder


def enrich(folder: Path) -> None:
    """Put into `metrics.json` what is not in every run: slices, money, a gate with confidence and one with a baseline."""
    write_costs(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    for place, (name, target) in enumerate(metrics["targets"].items()):
        whole = next(metric for metric in target["metrics"] if metric["name"] == "contains/v1")
        for shift, topic in enumerate(("europe", "asia", "america")):
            value = max(0.0, min(1.0, whole["value"] - 0.1 + 0.08 * shift))
            sliced = {**whole, "slice": {"topic": topic}, "value": value, "n": whole["n"] // 3}
            target["metrics"].append({**sliced, "low": value - 0.09, "high": min(1.0, value + 0.08)})
        for metric in target["metrics"]:
            if metric["name"] == "cost_usd/mean":
                metric["value"] = 0.0004 * (place + 1) ** 2 * 0.9  # with the cached answers, which are free
            if metric["name"] == "token_f1/v1/mean":
                metric["low"], metric["high"], metric["level"] = metric["value"] - 0.06, metric["value"] + 0.05, 0.95
        if place == 1:
            metrics["gates"].append(baseline_gate(name, whole))
    metrics["gates"].append(
        {
            "gate": "{metric: token_f1, min: 0.5, confidence: 0.95}", "target": "short prompt", "metric": "token_f1/v1/mean",
            "value": 0.62, "low": 0.55, "high": 0.67, "bound": 0.6, "verdict": "inconclusive", "line": 21,
            "reason": "between 0.560 and 0.660 at 95% confidence: not conclusive. About 1,900 samples are needed to decide", "kind": "confidence", "confidence": 0.95,
            "gate_low": 0.56, "gate_high": 0.66, "samples_to_decide": [840, 1920], "baseline": None, "blocks": True, "slice": None,
        }
    )  # fmt: skip
    write_json(folder / "metrics.json", metrics)


def write_costs(folder: Path) -> None:
    """Put costs and latencies into the row log, one answer of ten being from the cache."""
    rows = list(read_rows(folder))
    order = {name: place for place, name in enumerate(dict.fromkeys(row.target for row in rows))}
    with (folder / "rows.jsonl").open("wb") as log:
        for row in rows:
            log.write(encode_row(replace(row, answer=with_cost(row.answer, order[row.target], row.sample.index))))


def with_cost(answer: Completion | Failure, place: int, number: int) -> Completion | Failure:
    """An answer with what it took; from the cache it took nothing."""
    if isinstance(answer, Failure):
        return answer
    if number % 10 == 3:
        return replace(answer, cost_usd=0.0, latency_s=None, cached=True)
    return replace(answer, cost_usd=0.0004 * (place + 1) ** 2, latency_s=0.3 + 0.4 * place + number % 17 / 50)


def baseline_gate(target: str, whole: dict[str, Any]) -> dict[str, Any]:
    """A gate against a baseline as `metrics.json` has it."""
    before = {
        "name": "main", "origin": "20261101T080000Z-0a1b", "value": whole["value"] + 0.03, "drop": 0.03, "low": -0.01,
        "high": 0.07, "n": 109, "excluded": 2, "missing": 0, "p_value": 0.2, "method": "tango", "origin_drop": None,
        "differs": ["prompt"],
    }  # fmt: skip
    return {
        "gate": "{metric: contains, baseline: main, max_drop: 0.02}", "target": target, "metric": "contains/v1",
        "value": whole["value"], "low": whole["low"], "high": whole["high"], "bound": 0.02, "verdict": "inconclusive",
        "reason": "3.0 points worse (90% CI -1.0 to 7.0); allowed 2", "line": 20, "kind": "max_drop", "confidence": 0.95,
        "gate_low": None, "gate_high": None, "samples_to_decide": None, "baseline": before, "blocks": True, "slice": None,
    }  # fmt: skip


def baseline_of(row: Row) -> BaselineScores | None:
    """What a baseline has that was right about every second question."""
    if row.target != "long prompt":
        return None
    return BaselineScores(
        {"contains": float(int(row.sample.id[1:]) % 2)}, "The capital is elsewhere, as most people know."
    )
