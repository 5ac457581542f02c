"""What labels by people say about the judges of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evalrunner.domain import Metric
from evalrunner.stats.judge_agreement import BestThreshold, Confusion, Rate
from evalrunner.stats.judge_bias import Slope


@dataclass(frozen=True, slots=True)
class SliceConfusion:
    """The counts of one slice (or of all rows: None) with the agreement there."""

    slice: Mapping[str, str] | None
    counts: Confusion
    agreement: Rate


@dataclass(frozen=True, slots=True)
class JudgeCalibration:
    """What labels say of one scorer on one target. `warnings` name what is wrong with the judge, with the figure."""

    scorer: str
    target: str
    metrics: tuple[Metric, ...]
    raw: float | None
    slices: tuple[SliceConfusion, ...]
    length: Slope | None
    auc: Rate | None
    threshold: BestThreshold | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelerAgreement:
    """Two labelers of the same answers."""

    scorer: str
    first: str
    second: str
    agreement: Rate
    kappa: Rate


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of a run's judges; `notices` name the labels that were not used."""

    run_id: str
    suite: str
    judges: tuple[JudgeCalibration, ...]
    labelers: tuple[LabelerAgreement, ...]
    notices: tuple[str, ...]
