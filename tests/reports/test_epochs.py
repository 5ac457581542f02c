"""Epochs in the outputs: the split of the variance, the flaky samples, and what more calls gain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from evalrunner.domain import EpochVariance
from evalrunner.reports.epochs import epoch_lines
from evalrunner.runs.record import MetricsRecord
from tests.fakes.command import evalrun

SPLIT = EpochVariance(
    scorer="exact_match",
    samples=60,
    epochs=4,
    between=0.13,
    within=0.064,
    flaky=7,
    flaky_samples=("q7", "q28", "q49", "q54", "q0", "q4", "q29"),
    calls=100,
    error=0.0493,
    error_with_samples=0.0415,
    error_with_epochs=0.0485,
)
SUITE = """\
name: flips
dataset: {rows: [{id: a, input: 'yes', expected: 'yes'}, {id: b, input: flip, expected: 'yes'}, {id: c, input: 'no', expected: 'yes'}]}
target: {type: python, name: bot, function: 'bot.py:answer'}
scorers: [exact_match]
run: {epochs: 4}
"""
BOT = """\
from itertools import count
calls = count()
def answer(input):
    return ("yes" if next(calls) % 2 else "no") if input == "flip" else input
"""


def lines(**changes: object) -> list[str]:
    return list(epoch_lines([replace(SPLIT, **changes)]))  # type: ignore[arg-type]


def test_the_lines_fit_80_columns_and_name_five_flaky_samples() -> None:
    assert lines() == [
        "exact_match: 33% of variance within samples; 7 flaky: q7, q28, q49, q54, q0, …",
        "  next 100 calls: standard error 0.049 → 0.042 (25 samples) or 0.049 (epochs)",
    ]
    assert max(map(len, lines())) <= 80


def test_equal_gains_are_one_number() -> None:
    assert lines(between=0.0, error_with_epochs=0.0415)[1] == (
        "  next 100 calls: standard error 0.049 → 0.042 (25 samples or epochs)"
    )


def test_samples_that_never_flip_need_one_epoch() -> None:
    assert lines(within=0.0, flaky=0, flaky_samples=())[0] == (
        "exact_match: equal in all 4 epochs of every sample; one epoch is enough"
    )
    assert lines(within=0.0, between=0.0) == []


def test_a_run_names_its_flaky_samples_in_every_output() -> None:
    Path("suite.yaml").write_text(SUITE)
    Path("bot.py").write_text(BOT)
    done = evalrun("suite.yaml", "-o", "summary.md")
    assert "flaky: b" in done.stdout
    assert "flaky: b" in Path("summary.md").read_text()
    (folder,) = Path("runs/flips").iterdir()
    (split,) = MetricsRecord.load(folder).targets["bot"].epochs
    assert (split.samples, split.flaky, split.flaky_samples) == (3, 1, ("b",))
    assert "flaky: b" in evalrun("show", "last").stdout
    assert "flaky: b" in evalrun("plan", "suite.yaml").stdout
    assert '"flaky_samples":["b"]' in (folder / "report.html").read_text().replace(", ", ",").replace(": ", ":")


def test_a_run_of_one_epoch_has_no_split() -> None:
    Path("suite.yaml").write_text(SUITE.replace("epochs: 4", "epochs: 1"))
    Path("bot.py").write_text(BOT)
    assert "variance" not in evalrun("suite.yaml").stdout
    (folder,) = Path("runs/flips").iterdir()
    assert json.loads((folder / "metrics.json").read_text())["targets"]["bot"]["epochs"] == []
