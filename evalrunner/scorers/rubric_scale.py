"""The scale of a rubric: the verdicts that a judge can give, and the score of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalrunner.scorers.judge_replies import VerdictFormat, plain_label

MAX_LABELS = 26
MAX_LABEL_LENGTH = 60
RANGE = re.compile(r"\s*(-?\d{1,3})\s*(?:-|–|to|\.\.)\s*(\d{1,3})\s*")
PASSING_SHARE = 0.75  # of a range of numbers: 4 of 1-5


@dataclass(frozen=True, slots=True)
class Scale:
    """Labels, best score last or first as given, with their scores. `passes`: the score from which an answer passes.

    `explanation` tells the judge what the labels mean.
    """

    scores: Mapping[str, float]
    passes: float
    explanation: str
    is_range: bool = False

    @property
    def low(self) -> float:
        return min(self.scores.values()) if self.is_range else min(0.0, *self.scores.values())

    @property
    def high(self) -> float:
        return max(self.scores.values()) if self.is_range else max(1.0, *self.scores.values())

    @property
    def binary(self) -> bool:
        return set(self.scores.values()) == {0.0, 1.0}

    def form(self, key: str = "verdict", reasons: str = "reasons", *, alone: bool = True) -> VerdictFormat:
        """How the judge states a verdict."""
        return VerdictFormat(key, reasons, tuple(self.scores), alone=alone)

    @property
    def tolerance(self) -> float:
        """How far a verdict may be from a known one: a neighboring number of a range of three or more, else not at all."""
        return 1.0 if self.is_range and len(self.scores) > 2 else 0.0


def parse_scale(scale: Any) -> Scale:
    """The scale that a suite gives: `pass_fail`, `1-5` or another range, or `{choices: {A: 1, B: 0.5}}`. Raises ValueError."""
    if scale == "pass_fail":
        return Scale({"pass": 1.0, "fail": 0.0}, 1.0, '"pass" if the answer meets the criteria, else "fail"')
    if isinstance(scale, str) and (match := RANGE.fullmatch(scale)) is not None:
        return _range(int(match[1]), int(match[2]))
    if isinstance(scale, Mapping) and set(scale) == {"choices"} and isinstance(scale["choices"], Mapping):
        return _choices(scale["choices"])
    raise ValueError(
        f"scale is {scale!r}; it should be pass_fail, a range such as 1-5, or {{choices: {{A: 1, B: 0.5}}}}"
    )


def _range(low: int, high: int) -> Scale:
    if not 1 <= high - low < MAX_LABELS:
        raise ValueError(f"scale is {low}-{high}; it should go up, by at most {MAX_LABELS - 1}")
    explanation = (
        f"a whole number from {low} (the answer does not meet the criteria at all) to {high} (it meets them completely)"
    )
    passes = low + PASSING_SHARE * (high - low)
    return Scale({str(number): float(number) for number in range(low, high + 1)}, passes, explanation, is_range=True)


def _choices(choices: Mapping[Any, Any]) -> Scale:
    scores: dict[str, float] = {}
    for label, score in choices.items():
        if isinstance(label, bool):
            raise ValueError(f"choice {str(label).lower()} is a boolean in YAML; put it in quotes")  # noqa: TRY004
        name = str(label)
        if not name.strip() or len(name) > MAX_LABEL_LENGTH or not name.isprintable():
            raise ValueError(f"choice {name[:80]!r} should be one line of at most {MAX_LABEL_LENGTH} characters")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise ValueError(f"choice {name!r} has the score {score!r}; it should be a number")
        scores[name] = float(score)
    if len({plain_label(name) for name in scores}) < len(scores):
        raise ValueError("two choices differ only in case or signs, which judges do not keep apart")
    if not 2 <= len(scores) <= MAX_LABELS:
        raise ValueError(f"choices has {len(scores)} entries; give 2 to {MAX_LABELS}")
    if len(set(scores.values())) == 1:
        raise ValueError("all choices have the same score")
    names = ", ".join(f'"{name}"' for name in scores)
    return Scale(scores, max(scores.values()), f"one of {names}, whichever the criteria or their words fit best")
