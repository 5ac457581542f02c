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


Verdict: TypeAlias = Literal["pass", "fail", "inconclusive", "untrusted", "no_baseline"]
GateKind: TypeAlias = Literal["point", "confidence", "max_drop", "improved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """How a gate's metric stands against its baseline, over the paired samples, in the metric's own unit.

    `drop` is how much worse the candidate is (negative: better), `low` and `high` its 90 % interval, whose upper end is
    the drop that could still be hidden. `n` pairs; `left_out` samples changed or are on one side only; `missing` pairs
    have no score of the candidate. `differs` names what is being compared (prompt, params, model).
    """

    name: str
    origin: str | None
    value: float | None
    drop: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    left_out: int = 0
    missing: int = 0
    p_value: float | None = None
    method: str | None = None
    origin_drop: float | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict for one target: the number, its bound, and the sentence why. `line` is the suite's.

    `low` and `high` are the 95 % interval for display; `gate_low` and `gate_high` the one-sided bounds at `confidence`
    that decided. `rows_to_decide` is how many rows an inconclusive gate would want, for even odds and for 80 %, None
    where no practical number would do. `blocks`: whether an inconclusive verdict, or a missing baseline, changes the
    exit code.
    """

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
    kind: GateKind = "point"
    confidence: float | None = None
    gate_low: float | None = None
    gate_high: float | None = None
    rows_to_decide: tuple[int, int] | None = None
    baseline: BaselineResult | None = None
    blocks: bool = True
    slice: Mapping[str, str] | None = None
