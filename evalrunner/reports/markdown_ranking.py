"""Several targets in `summary.md`: the values, and which are significantly better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalrunner.compare.result import ComparedMetric, Comparison
from evalrunner.formatting import DASH, counted, interval, number
from evalrunner.reports.comparison import amount
from evalrunner.reports.markdown_escaping import code, inline

COSTS = ("latency/p50", "cost_usd/mean")
MAX_METRICS = 6  # metrics of the table; all are in the lists below it


def compared_table(comparison: Comparison) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """The columns of targets × metrics and a line for each target; the best in bold where that is significant."""
    metrics = list(comparison.metrics[:MAX_METRICS]) + [cost for cost in comparison.costs if cost.name in COSTS]
    columns = ["target", *(inline(metric.name, 60) for metric in metrics)]
    lines = [(code(item.name, 60), *(_cell(metric, item.name) for metric in metrics)) for item in comparison.candidates]
    return columns, lines


def ranking_lines(comparison: Comparison) -> Iterator[str]:
    """For each metric the order with its signs, then the pairs that differ where the signs cannot show it."""
    for metric in comparison.metrics:
        ranking = metric.ranking
        if ranking is None:
            continue
        parts = [code(ranking.order[0], 60)]
        for sign, name in zip(ranking.signs, ranking.order[1:], strict=True):
            parts += ["&gt;" if sign == ">" else sign, code(name, 60)]
        differing = [f"{code(better, 60)} is better than {code(worse, 60)}" for better, worse in ranking.differing]
        yield f"{inline(metric.name, 60)}: {' '.join(parts)}" + (f"; {', '.join(differing)}" if differing else "")


def comparison_notes(comparison: Comparison) -> Iterator[str]:
    """The warnings of a comparison, then how to read it."""
    yield from (f"warning: {inline(text, 400)}" for text in comparison.warnings)
    tests = counted(comparison.family, "test")
    yield inline(
        f"> significantly better (p < {comparison.alpha:g}, Holm-adjusted over {tests}), ≈ not significant; "
        "bold: significantly better than all others",
        300,
    )


def _cell(metric: ComparedMetric, name: str) -> str:
    value, ranking = metric.values.get(name), metric.ranking
    if value is None or value.value is None:
        return DASH
    if ranking is None:
        return inline(amount(value.value, metric.unit), 40)
    ends = "" if value.low is None and value.high is None else f" ({interval(value.low, value.high)})"
    shown = inline(f"{number(value.value)}{ends}", 40)
    return f"**{shown}**" if ranking.best == name else shown
