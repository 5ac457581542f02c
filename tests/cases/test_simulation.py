"""The runs that benchmarks/verdicts.py simulates have the verdicts that the command line gives for the same answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import accept, command, run
from tests.fakes.command import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from scenarios import PATTERNS, Runs, Suite, lose, paired_runs, single_runs, slices_of

N = 60


def data(scores: Any, lost: Any, slices: Any) -> list[dict[str, Any]]:
    """A run of the simulation as samples of a suite."""
    words = [["error" if gone else "right" if score else "wrong" for score, gone in zip(*each, strict=True)] for each in zip(scores, lost, strict=True)]  # fmt: skip
    return [
        {"id": f"q{at}", "input": f"{at}?", "expected": "yes", "plan": plan, "topic": f"t{slices[at]}"}
        for at, plan in enumerate(words)
    ]


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_simulated_thresholds_agree_with_the_command_line(pattern: str, epochs: int) -> None:
    import numpy

    generator = numpy.random.default_rng(7)
    gates = (
        "exact_match >= 0.8, exact_match >= 0.75, {metric: exact_match, min: 0.7, confidence: 0.95}, "
        "{metric: exact_match, slice: {topic: t0}, min: 0.7, confidence: 0.95}, "
        f"{{per_sample: {{metric: exact_match, min: 1, passes: {(epochs + 1) // 2}, share: 0.75}}, confidence: 0.95}}"
    )
    scores = single_runs(generator, 2, N, epochs, 0.8)
    lost = lose(generator, scores, slices_of(N), pattern, 0.04)
    suite = Suite(gates, epochs, sliced=True)
    simulated = suite.verdicts(Runs(scores, lost, slices=slices_of(N)))
    for at, expected in enumerate(simulated):
        lines = data(scores[at], lost[at], slices_of(N))
        written = [{"metric": "exact_match", "min": 0.8}, {"metric": "exact_match", "min": 0.75},
                   {"metric": "exact_match", "min": 0.7, "confidence": 0.95},
                   {"metric": "exact_match", "slice": {"topic": "t0"}, "min": 0.7, "confidence": 0.95},
                   {"per_sample": {"metric": "exact_match", "min": 1, "passes": (epochs + 1) // 2, "share": 0.75}, "confidence": 0.95}]  # fmt: skip
        ended = run(lines, written, slices=["topic"], run={"epochs": epochs})
        assert ended.verdicts == tuple(result.verdict for result in expected), (pattern, at)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("state", ["lost", "changed", "removed", "unscored"])
def test_simulated_baselines_agree_with_the_command_line(state: str, epochs: int) -> None:
    import numpy

    generator = numpy.random.default_rng(11)
    before, scores = paired_runs(generator, 2, N, epochs, p=0.8, drop=0.05, discordance=0.15)
    slices, none = slices_of(N), numpy.zeros_like(scores, bool)
    flags = numpy.zeros((2, N), bool)
    flags[:, :2] = True
    lost = lose(generator, scores, slices, "only right answers", 0.04) if state == "lost" else none
    keys = {} if state == "lost" else {state: flags}
    gates = "{metric: exact_match, baseline: main, max_drop: 0.3}, {metric: exact_match, baseline: main, max_drop: 0.1}"
    simulated = Suite(gates, epochs).verdicts(Runs(scores, lost, (before,), **keys))
    for at, expected in enumerate(simulated):
        gone = none[at].copy()
        if state == "unscored":
            gone[:2] = True
        Path("baselines/case/main.jsonl").unlink(missing_ok=True)
        accept(data(before[at], gone, slices), run={"epochs": epochs})
        lines = data(scores[at], lost[at], slices)
        if state == "changed":
            lines = [{**line, "input": "other"} if place < 2 else line for place, line in enumerate(lines)]
        if state == "removed":
            lines = lines[2:]
        written = [{"metric": "exact_match", "baseline": "main", "max_drop": allowed} for allowed in (0.3, 0.1)]
        ended = run(lines, written, run={"epochs": epochs})
        assert ended.verdicts == tuple(result.verdict for result in expected), (state, at, ended.text)
    assert command("gate", "last", "--json").verdicts == ended.verdicts
