"""Comparisons of targets and of runs on a terminal: values, ranking, significance, cost, and the rows that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from evalrunner.domain import Metric, Row
from evalrunner.formatting import DASH, counted, interval, money, number, one_line, signed, styled
from evalrunner.reports.conclusions import conclusions_of, cost_conclusion
from evalrunner.reports.metric_tables import leaderboard, metric_lines, screen_names
from evalrunner.reports.row_lines import Paragraph, RowLines, change_line, output_with_status
from evalrunner.reports.text_table import Column, TextTable
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evalrunner.compare.diff import Change, Changes, RunDiff
    from evalrunner.compare.result import ComparedMetric, Comparison, Pair

MAX_CONCLUDED: Final = 4  # metrics that have conclusions without -v
MAX_PAIRS: Final = 15  # of a metric on a terminal: those of six candidates
MAX_SLICES: Final = 20
MAX_SLICES_SHORT: Final = 6  # without -v
MAX_DIFFERENCES: Final = 4  # lines on how a candidate differs from the first
MAX_NAME: Final = 40


def render_comparison(
    comparison: Comparison, *, verbose: bool = False, differences: bool = False
) -> Iterator[RenderableType]:
    """The leaderboard and the conclusions; `verbose` adds rankings, all pairs, and how to read them.

    `differences` adds how the candidates differ in configuration, as `verbose` does.
    """
    for warning in comparison.warnings:
        yield Paragraph(f"warning: {warning}", "yellow")
    yield leaderboard(comparison, verbose=verbose)
    yield styled("")
    yield from _conclusion_lines(comparison, verbose=verbose)
    if not verbose:
        notes = comparison.notes if comparison.metrics else (adjustment_note(comparison), *comparison.notes)
        yield from (Paragraph(note, "dim") for note in notes)
        if differences:
            yield from _difference_lines(comparison)
        return
    for metric in comparison.metrics:
        yield styled("")
        yield from _ranking_lines(metric)
        yield _pairs_table(metric, paired=comparison.paired)
    yield styled("")
    for line in pareto_lines(comparison):
        yield Paragraph(line)
    for line in reading_notes(comparison):
        yield Paragraph(line, "dim")
    yield from _difference_lines(comparison)


def reading_notes(comparison: Comparison) -> Iterator[str]:
    """How to read the numbers: what is adjusted for multiple tests and what is not."""
    yield adjustment_note(comparison)
    if comparison.costs:
        yield "Latency, tokens and cost are not tested; Pareto-optimality uses values without their CIs."
    yield from comparison.notes


def adjustment_note(comparison: Comparison) -> str:
    """How CIs and p-values are adjusted, and what bold and letters mean."""
    if not comparison.metrics:
        return "No metric is compared."
    missing = any(pair.missing for metric in comparison.metrics for pair in metric.pairs)
    return (
        f"95% CIs are unadjusted. p-values: Holm-adjusted over {counted(comparison.family, 'test')}"
        + "".join(f", and over {counted(each.family, 'test')} of {each.kind}s" for each in comparison.factors)
        + (", with missing scores against the better target" if missing else "")
        + f". Bold: significantly better (p < {comparison.alpha:g}). Same letter: no significant difference."
    )


def slice_comparison_tables(comparison: Comparison, *, verbose: bool = False) -> Iterator[RenderableType]:
    """A table for each metric and slice column: a line for each value, a column for each candidate.

    Without `verbose` only the first metric, and no intervals.
    """
    by_column: dict[tuple[str, str], list[tuple[str, ComparedMetric]]] = {}
    first = comparison.metrics[0].name if comparison.metrics else None
    for metric in comparison.slices:
        for column, text in (metric.slice or {}).items():
            if verbose or metric.name == first:
                by_column.setdefault((metric.name, column), []).append((text, metric))
    short = screen_names(metric.name for metric in comparison.slices)
    candidates = [item.name for item in comparison.candidates]
    for (name, column), values in by_column.items():
        yield styled("")
        yield styled(f"{one_line(short[name], 60)} by {one_line(column, MAX_NAME)} (unadjusted)", "bold")
        lines = values[: MAX_SLICES if verbose else MAX_SLICES_SHORT]
        names = Column(one_line(column, MAX_NAME), [one_line(text, MAX_NAME) or DASH for text, _ in lines])
        columns = [
            Column(one_line(each, MAX_NAME), [_slice_cell(found, each, ends=verbose) for _, found in lines])
            for each in candidates
        ]
        if len(candidates) == 2:
            columns.append(Column("p", [slice_p_value(pair) for _, found in lines for pair in found.pairs[:1]]))
        yield TextTable(names, columns)
        if more := len(values) - len(lines):
            yield styled(f"… and {more} more ({'--json' if verbose else '-v'})", "dim")


def _slice_cell(metric: ComparedMetric, candidate: str, *, ends: bool) -> str:
    value = metric.values.get(candidate)
    if value is None:
        return DASH
    return (_value(value) if ends else number(value.value)) + missing_counts(value)


def slice_p_value(pair: Pair) -> str:
    """The unadjusted p-value of a pair in a slice, marked where missing scores could reverse it."""
    return p_value(pair.p_value) + (" (not with missing scores)" if pair.depends_on_missing else "")


def amount(value: float | None, unit: str | None) -> str:
    """A number with its unit; money with as many digits as the amount needs."""
    return money(value) if value is not None and unit == "USD" else number(value, unit)


def p_value(p: float | None) -> str:
    """`.034`, `<.001`."""
    if p is None:
        return DASH
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _conclusion_lines(comparison: Comparison, *, verbose: bool) -> Iterator[RenderableType]:
    """The sentences about each metric beside its name, then the one about cost and latency."""
    texts: dict[str, list[tuple[str, bool]]] = {}
    names = screen_names(metric.name for metric in comparison.metrics)
    for place, metric in enumerate(comparison.metrics):
        if place < MAX_CONCLUDED or verbose:
            best = metric.ranking is not None and metric.ranking.best is not None
            lines = [(line, best and not number) for number, line in enumerate(conclusions_of(comparison, metric))]
            if lines:
                texts[one_line(names[metric.name], 60)] = lines
    if more := len(comparison.metrics) - len(texts) if len(comparison.metrics) > MAX_CONCLUDED and not verbose else 0:
        texts["others"] = [(f"{counted(more, 'more metric')}: -v", False)]
    cost = cost_conclusion(comparison)
    if cost is not None:
        texts["cost"] = [(cost, False)]
    yield from metric_lines(texts)


def _value(value: Metric | None, letters: str = "") -> str:
    """`0.742  0.718–0.766 ab`."""
    if value is None or value.value is None:
        return f"{DASH} {letters}".rstrip()
    ends = "" if value.low is None and value.high is None else f"  {interval(value.low, value.high)}"
    return f"{number(value.value)}{ends} {letters}".rstrip()


def missing_counts(value: Metric) -> str:
    """`  23 missing`, empty where every answer has a score."""
    missing = value.unscored + value.errors
    return f"  {missing:,} missing" if missing else ""


def ranking_text(metric: ComparedMetric) -> str:
    """`exact_match/v1: a 0.742 > b 0.390 ≈ c 0.380`."""
    assert metric.ranking is not None  # what is in the family has one
    parts: list[str] = []
    for place, name in enumerate(metric.ranking.order):
        if place:
            parts.append(metric.ranking.signs[place - 1])
        value = metric.values.get(name)
        parts.append(f"{one_line(name, MAX_NAME)} {number(None if value is None else value.value)}")
    return f"{one_line(metric.name, 60)}: {' '.join(parts)}"


def _ranking_lines(metric: ComparedMetric) -> Iterator[Any]:
    if metric.ranking is None:
        return
    yield styled(ranking_text(metric), "bold" if metric.ranking.best is not None else None)
    for better, worse in metric.ranking.differing:
        yield styled(f"  {one_line(better, MAX_NAME)} is also better than {one_line(worse, MAX_NAME)}")


def _pairs_table(metric: ComparedMetric, *, paired: bool) -> TextTable:
    """A line for each pair: the difference, its significance, and who did better on how many samples."""
    pairs = metric.pairs[:MAX_PAIRS]
    names = Column("pair", [f"{one_line(each.first, MAX_NAME)} − {one_line(each.second, MAX_NAME)}" for each in pairs])
    bold = ["bold" if pair.better is not None else None for pair in pairs]
    differences = [DASH if pair.difference is None else signed(pair.difference) for pair in pairs]
    columns = [
        Column("difference", [styled(text, style) for text, style in zip(differences, bold, strict=True)], right=True),
        Column("95% CI", [interval(pair.low, pair.high) for pair in pairs]),
        Column("p", [p_value(pair.p_adjusted) for pair in pairs]),
        Column("n", [f"{pair.n:,}" for pair in pairs], right=True),
    ]
    if paired:
        columns.append(Column("win/tie/loss", [f"{pair.wins:,}/{pair.ties:,}/{pair.losses:,}" for pair in pairs]))
        columns.append(
            Column(
                "excluded",
                [styled(f"{pair.excluded:,}" if pair.excluded else "", "yellow") for pair in pairs],
                right=True,
            )
        )
    if len(metric.pairs) > MAX_PAIRS:
        names.cells.append(styled(f"… and {len(metric.pairs) - MAX_PAIRS} more in JSON", "dim"))
        for column in columns:
            column.cells.append("")
    return TextTable(names, columns)


def pareto_lines(comparison: Comparison) -> Iterator[str]:
    """For each metric the targets that are Pareto-optimal in it and in latency or cost."""
    fronts: dict[str, dict[str, list[str]]] = {}
    for front in comparison.pareto_fronts:
        members = ", ".join(one_line(name, MAX_NAME) for name in front.members)
        missing = ", ".join(one_line(name, MAX_NAME) for name in front.missing)
        text = f"{members} (no value: {missing})" if missing else members
        fronts.setdefault(one_line(front.quality, 60), {}).setdefault(text, []).append(front.against)
    for quality, by_members in fronts.items():
        parts = [f"{members} (with {' and '.join(costs)})" for members, costs in by_members.items()]
        yield f"{quality}, Pareto-optimal: {'; '.join(parts)}"


def _difference_lines(comparison: Comparison) -> Iterator[Any]:
    """How each candidate differs from the first in configuration."""
    first = comparison.candidates[0].name
    if any(candidate.differs for candidate in comparison.candidates[1:]):
        yield styled("")
    for candidate in comparison.candidates[1:]:
        lines = candidate.differs[:MAX_DIFFERENCES]
        more = len(candidate.differs) - len(lines)
        if lines:
            names = one_line(candidate.name, MAX_NAME), one_line(first, MAX_NAME)
            yield Paragraph(f"{names[0]} differs from {names[1]} in:", "dim")
        for line in (*lines, *([f"… and {more} more"] if more else [])):
            yield styled(f"  {one_line(line, 200)}", "dim")


def render_diff(diff: RunDiff) -> Iterator[RenderableType]:
    """The two sides, a line with the counts, how the scorers differ, then the rows, worst first."""
    changes = diff.changes
    sides = [f"{one_line(run, 40)}/{one_line(target, 40)}" for run, target in (diff.before, diff.after)]
    yield Paragraph(f"{sides[0]} → {sides[1]}: {'; '.join(diff_counts(changes))}", "bold")
    for note in diff.notes:
        yield Paragraph(f"note: {note}", "yellow")
    more = changes.changed - len(changes.rows)
    if changes.rows:
        yield styled("")
        hint = f"and {more:,} more (--limit shows more)" if more > 0 else ""
        yield RowLines("changed rows", [change_line(change, diff.scorers) for change in changes.rows], more=hint)


def diff_data(diff: RunDiff) -> dict[str, Any]:
    """The same as JSON, texts in full."""
    changes = diff.changes
    names = (
        "same",
        "worse",
        "better",
        "state_changed",
        "output_changed",
        "different_sample",
        "before_only",
        "after_only",
    )
    return {
        "before": {"run": diff.before[0], "target": diff.before[1]},
        "after": {"run": diff.after[0], "target": diff.after[1]},
        "counts": {name: getattr(changes, name) for name in names},
        "notes": list(diff.notes),
        "rows": [_row_data(change) for change in changes.rows],
    }


def diff_counts(changes: Changes) -> Iterator[str]:
    """How many rows changed and how, are unchanged, or could not be compared."""
    kinds = {
        "worse": changes.worse,
        "better": changes.better,
        "state changed": changes.state_changed,
        "output only": changes.output_changed,
    }
    listed = ", ".join(f"{count:,} {name}" for name, count in kinds.items() if count)
    yield f"{counted(changes.changed, 'row')} changed" + (f" ({listed})" if listed else "")
    yield f"{changes.same:,} unchanged"
    if changes.different_sample:
        yield f"{changes.different_sample:,} excluded: their samples differ"
    if changes.before_only or changes.after_only:
        yield f"{changes.before_only:,} only before, {changes.after_only:,} only after"


def _row_data(change: Change) -> dict[str, Any]:
    sample = change.after.sample
    return {
        "id": sample.id,
        "epoch": change.after.epoch,
        "input": sample.input,
        "expected": list(sample.expected),
        "worse": change.worse,
        "before": _side(change.before),
        "after": _side(change.after),
    }


def _side(row: Row) -> dict[str, Any]:
    return {
        "output": output_with_status(row),
        "scores": {name: {"state": cell.state, "value": cell.value} for name, cell in row.cells.items()},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """A run that is compared. `names` are those of its targets among the candidates, `scorers` those that count.

    `first` is the place of its first sample: that of all runs where they are paired, else one of its own.
    """

    folder: RunFolder
    record: RunRecord
    names: Mapping[str, str]
    scorers: frozenset[str]
    first: int = 0

    @property
    def size(self) -> int:
        """How many samples it has."""
        return self.record.dataset.rows

    def rows(self) -> Iterator[Row]:
        """Its rows, each under the name of its candidate and at the place of its sample."""
        for row in read_rows(self.folder.path):
            sample = replace(row.sample, index=row.sample.index + self.first) if self.first else row.sample
            cells = {name: cell for name, cell in row.cells.items() if name in self.scorers}
            yield replace(row, target=self.names[row.target], sample=sample, cells=cells)
