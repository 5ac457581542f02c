"""Several targets side by side in `summary.md`: the numbers, and for each metric who is really better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalrunner.compare.result import ComparedMetric, Comparison
from evalrunner.formatting import DASH, counted, number
from evalrunner.reports.comparison import amount
from evalrunner.reports.markdown_escaping import code, inline

COSTS = ("latency/p50", "cost_usd/mean")
MOST = 6  # metrics of the table; all are in the lists below it


def compared_table(comparison: Comparison) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """The columns of targets × metrics and a line for each target; the best in bold where it really is."""
    metrics = list(comparison.metrics[:MOST]) + [cost for cost in comparison.costs if cost.name in COSTS]
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
    """What casts doubt on the comparison, then how to read it."""
    yield from (f"warning: {inline(text, 400)}" for text in comparison.warnings)
    tests = counted(comparison.family, "test")
    yield inline(
        f"> is proven (p < {comparison.alpha:g} after Holm over {tests}), ≈ is not; bold is better than all others", 300
    )


def _cell(metric: ComparedMetric, name: str) -> str:
    value, ranking = metric.values.get(name), metric.ranking
    if value is None or value.value is None:
        return DASH
    if ranking is None:
        return inline(amount(value.value, metric.unit), 40)
    half = "" if value.low is None or value.high is None else f" ±{(value.high - value.low) / 2:.3f}"
    shown = inline(f"{number(value.value)}{half}", 40)
    return f"**{shown}**" if ranking.best == name else shown
