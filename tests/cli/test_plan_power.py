"""`evalrun plan`: what each gate can decide, at its level and in its family, and how often all of them stop an equal model."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fakes.command import evalrun

SUITE = """\
name: qa
dataset: data.csv
target: {{type: recorded, name: m, column: {column}}}
scorers: [exact_match]
slices: [topic]
gates:
{gates}
"""
DROP = "  - {{metric: exact_match, baseline: main, max_drop: {}, confidence: {}}}\n"
SLICES = "  - {metric: 'exact_match[topic=*]', min: 0.8, confidence: 0.95, inconclusive: warn}\n"


def data(n: int = 400) -> None:
    """Samples in ten topics, .8 of each right; the column `other` differs from `good` in a tenth of them."""
    lines = ["id,input,expected,topic,good,other"]
    for place in range(n):
        right = place // 10 % 5 < 4
        other = right != (place // 10 % 10 == 4)
        answers = ["yes" if each else "no" for each in (right, other)]
        lines.append(f"q{place},question {place},yes,t{place % 10},{','.join(answers)}")
    Path("data.csv").write_text("\n".join(lines) + "\n")


def suite(gates: str, column: str = "good") -> str:
    Path("qa.yaml").write_text(SUITE.format(gates=gates, column=column))
    return "qa.yaml"


def plan(gates: str, column: str = "good") -> str:
    return evalrun("plan", suite(gates, column)).stdout


def figures(text: str) -> list[str]:
    """The numbers of the line with the power of the first gate on a baseline."""
    (line,) = (line for line in text.splitlines() if "called worse from" in line)
    return re.findall(r"-?\d+\.\d", line)


def test_level_margin_and_family_change_the_plan_without_earlier_runs() -> None:
    data()
    base = figures(plan(DROP.format(0.05, 0.95)))
    assert len(base) == 6  # three ranges, over 5 to 30% of changed samples
    strict, loose = figures(plan(DROP.format(0.05, 0.99))), figures(plan(DROP.format(0.05, 0.8)))
    assert len({tuple(base), tuple(strict), tuple(loose)}) == 3
    assert figures(plan(DROP.format(0.1, 0.95)))[-1] > base[-1]
    family = figures(plan(DROP.format(0.05, 0.95) + SLICES))
    assert family[:4] == base[:4]
    assert float(family[-1]) > float(base[-1])
    alone = figures(plan(DROP.format(0.05, "0.95, family: none") + SLICES))
    assert alone == base


def test_a_gate_on_every_slice_is_planned_for_each_value() -> None:
    data()
    lines = plan(SLICES).splitlines()
    assert "    t0: passes from 0.942 · fails up to 0.546 (80% power, 40 samples)" in lines
    assert "    … and 4 more" in lines


def test_the_plan_says_how_often_the_gates_stop_an_equal_model() -> None:
    data()
    gates = DROP.format(0.05, "0.95, inconclusive: block") + SLICES
    assert "exits nonzero" not in plan(gates)
    evalrun(suite(gates), "-q")
    assert "a model as good as the last run exits nonzero in" in plan(SLICES)
    evalrun("baseline", "accept", "--force")
    evalrun(suite(gates, "other"), "-q")
    text = plan(gates, "other")
    assert "80% power, if 10% of the 400 samples change (as from main to the last run):" in text
    (line,) = (line for line in text.splitlines() if "a model as good as baseline main exits nonzero in" in line)
    corrected, without = (float(share) for share in re.findall(r"([\d.]+)%", line))
    assert 5 < corrected < without < 60
    assert "most often by exact_match at most 0.05 worse than main; 1,000 draws from its samples" in text
    assert plan(gates, "other") == text  # seeded
