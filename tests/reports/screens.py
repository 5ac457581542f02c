"""Suites with made-up recorded answers, latencies and costs, whose screens the tests look at, and what a screen must keep to."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len

RECORDED = '''\
"""Recorded answers with what they took."""

from evalrunner.domain import Completion, Failure


def replay(sample, target):
    kept = sample.metadata["answers"][target]
    if kept is None:
        return Failure("server", "503 from api.example.com", 503)
    text, latency_s, cost_usd = kept
    if not text:
        return Completion("", "empty", latency_s, cost_usd=cost_usd)
    return Completion(text, "stop", latency_s, output_tokens=12, input_tokens=80, cost_usd=cost_usd)
'''

QUESTIONS = ("which team owns it?", "who approves refunds over 500 euros?", "in which year was the policy changed?")
TEAMS = ("Team Fiji", "Support lead", "Team Chad", "2007", "Regional manager")
PROFILES = {
    "alpha-large": (0.87, 0.70, 0.43, 0.000158),
    "beta-mini": (0.78, 0.00, 0.20, 0.000023),
    "gamma-fast": (0.64, 0.80, 0.08, 0.000002),
}
"""The share of right answers, the share of right ones that are exact, seconds and US dollars of an answer."""

LONG_NAMES = ("anthropic/claude-sonnet-4-5-20250929-v1", "客服助手-大型模型-二零二五", "openai/gpt-5-mini")


def write_suite(
    name: str,
    targets: Sequence[str] = ("alpha-large",),
    *,
    rows: int = 120,
    scorers: str = "[exact_match, contains, token_f1]",
    gates: Sequence[str] = (),
    down: int = 0,
    worse: float = 0.0,
    more: str = "",
    wide: bool = False,
) -> str:
    """Write a suite of recorded answers; the last `down` rows fail, and a share of `worse` of the right answers is wrong."""
    chance = random.Random(7)
    spoiled = random.Random(8)
    Path("replay.py").write_text(RECORDED)
    lines = []
    for place in range(rows):
        expected = TEAMS[place % len(TEAMS)]
        answers: dict[str, Any] = {}
        for number, target in enumerate(targets):
            right, exact, seconds, usd = list(PROFILES.values())[number % len(PROFILES)]
            is_right, is_exact = chance.random() < right, chance.random() < exact
            is_right = is_right and spoiled.random() >= worse
            text = (expected if is_exact else f"It is {expected}.") if is_right else TEAMS[(place + 1) % len(TEAMS)]
            answers[target] = None if place >= rows - down else [text, seconds * (1 + place % 5 / 10), usd]
        subject = "工单" if wide else "Ticket"
        question = f"{subject} #{1000 + place}: {QUESTIONS[place % len(QUESTIONS)]}"
        lines.append(
            {
                "id": f"{place:08x}",
                "input": question,
                "expected": expected,
                "topic": "ab"[place % 2],
                "answers": answers,
            }
        )
    Path(f"{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    specs = "".join(
        f"  - {{name: '{target}', type: python, function: replay.py:replay, args: {{target: '{target}'}}}}\n"
        for target in targets
    )
    listed = "gates:\n" + "".join(f"  - {gate}\n" for gate in gates) if gates else ""
    Path(f"{name}.yaml").write_text(
        f"name: {name}\ndataset: {name}.jsonl\ntargets:\n{specs}scorers: {scorers}\n{listed}{more}"
    )
    return f"{name}.yaml"


def masked(text: str) -> str:
    """A screen with what differs from run to run replaced: run ids and durations."""
    text = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{4}", "RUN", text)
    return re.sub(r" in \d+\.\d+ s", " in … s", text)


def problems(text: str, width: int) -> list[str]:
    """The lines of a screen that are too wide, and the numbers that are cut."""
    lines = text.splitlines()
    wide = [f"{cell_len(line)} cells: {line}" for line in lines if cell_len(line) > width]
    cut = [line for line in lines if re.search(r"\d[.,]?…", line)]
    return wide + cut


def size(text: str) -> int:
    """The lines of a screen."""
    return len(text.splitlines())
