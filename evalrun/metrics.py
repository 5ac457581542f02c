"""What rows become: metrics with their interval and counts, and the verdicts of gates on them, all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Metric:
    """A number over samples, with its interval and the four counts. None where there is nothing to say.

    `n` counts the samples that were scored; `skipped`, `unscored` and `errors` the others. `detail` holds the
    other reading of answers that were not given, the reasons, the backend.
    """

    name: str
    scorer: str
    aggregate: str
    value: float | None
    n: int
    skipped: int = 0
    unscored: int = 0
    errors: int = 0
    version: str | None = None
    reducer: str = "mean"
    slice: Mapping[str, str] | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str | None = None
    n_effective: float | None = None
    unit: str | None = None
    higher_is_better: bool = True
    trusted: bool = True
    detail: Mapping[str, Any] | None = None


Verdict: TypeAlias = Literal["pass", "fail", "inconclusive", "untrusted"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict for one target: the number, its bound, and the sentence why. `line` is the suite's."""

    gate: str
    target: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    bound: float
    verdict: Verdict
    reason: str
    line: int | None = None
