"""The calibration of a run's judges on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evalrunner.formatting import DASH, interval, number, one_line, styled
from evalrunner.reports.text_table import Column, TextTable

if TYPE_CHECKING:
    from evalrunner.labels.calibration import Calibration, JudgeCalibration
    from evalrunner.stats.judge_agreement import Rate


def calibration_lines(calibration: Calibration) -> Iterator[Any]:
    """What a console prints: a part for each scorer and target."""
    for place, judge in enumerate(calibration.judges):
        if place:
            yield styled("")
        yield styled(f"{one_line(judge.scorer, 60)} on {one_line(judge.target, 60)}", "bold")
        yield from _judge_lines(judge)
    if not calibration.judges:
        yield styled("no label fits a row of this run", "yellow")
    for pair in calibration.labelers:
        yield styled("")
        yield styled(
            f"{one_line(pair.scorer, 40)}: {one_line(pair.first, 40)} and {one_line(pair.second, 40)} agree on "
            f"{_rate_text(pair.agreement)}, κ {_rate_text(pair.kappa)}, {pair.agreement.n:,} answers"
        )
    for notice in calibration.notices:
        yield styled(f"note: {notice}", "yellow")


def _judge_lines(judge: JudgeCalibration) -> Iterator[Any]:
    for warning in judge.warnings:
        yield styled(f"warning: {warning}", "red")
    names, values, ends, labels = (
        Column("metric"),
        Column("value", right=True),
        Column("95% CI"),
        Column("n", right=True),
    )
    names.cells.append("raw rate")
    values.cells.append(number(judge.raw))
    ends.cells.append("")
    labels.cells.append(f"{judge.metrics[0].n:,}")
    for metric in judge.metrics:
        names.cells.append(metric.aggregate)
        values.cells.append(number(metric.value))
        note = (metric.detail or {}).get("interval")
        ends.cells.append(interval(metric.low, metric.high) if metric.low is not None else str(note or ""))
        labels.cells.append(f"{metric.n:,}")
    if judge.auc is not None:
        names.cells.append("AUC")
        values.cells.append(number(judge.auc.value))
        ends.cells.append("" if judge.auc.low is None else interval(judge.auc.low, judge.auc.high))
        labels.cells.append(f"{judge.auc.n:,}")
    yield TextTable(names, [values, ends, labels])
    if judge.threshold is not None:
        yield styled(
            f"best threshold {number(judge.threshold.score)}: agreement {number(judge.threshold.agreement)} there"
        )
    if judge.length is not None:
        low, high = 100 * judge.length.low, 100 * judge.length.high
        yield styled(
            f"length bias {100 * judge.length.value:+.1f} points per doubling (95% CI {low:.1f} to {high:.1f})"
        )
    yield styled("")
    rows = Column("labels", [_slice_name(part.slice) for part in judge.slices])
    counts = [part.counts for part in judge.slices]
    yield TextTable(
        rows,
        [
            Column("good, accepted", [f"{one.true_good:,}" for one in counts], right=True),
            Column("good, rejected", [f"{one.false_bad:,}" for one in counts], right=True),
            Column("bad, accepted", [f"{one.false_good:,}" for one in counts], right=True),
            Column("bad, rejected", [f"{one.true_bad:,}" for one in counts], right=True),
            Column("agreement", [_rate_text(part.agreement) for part in judge.slices]),
        ],
    )


def _slice_name(where: Any) -> str:
    return "all" if where is None else ", ".join(f"{column}={one_line(text, 40)}" for column, text in where.items())


def _rate_text(rate: Rate) -> str:
    """`0.848 (0.822–0.871)`"""
    if rate.value is None:
        return DASH
    return number(rate.value) + (f" ({interval(rate.low, rate.high)})" if rate.low is not None else "")
