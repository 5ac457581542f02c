"""Comparisons of targets and of runs on a terminal: values, ranking, significance, cost, and the rows that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from evalrunner.domain import Cell, Completion, Metric, Row
from evalrunner.formatting import DASH, counted, interval, money, number, one_line, plain_table, signed, styled
from evalrunner.reports.conclusions import conclusions, cost_conclusion
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from evalrunner.compare.diff import Change, Changes, RunDiff
    from evalrunner.compare.result import ComparedMetric, Comparison, Pair

METRICS_PER_TABLE: Final = 3  # more make a further table
MAX_PAIRS: Final = 15  # of a metric on a terminal: those of six candidates
MAX_SLICES: Final = 20
MAX_DIFFERENCES: Final = 4  # lines on how a candidate differs from the first
MAX_TEXT: Final = 300
MAX_NAME: Final = 40
DIFF_SHARES: Final = {"input": 2, "before": 3, "after": 3}  # of the width that the table has for texts


def render_comparison(
    comparison: Comparison, rows: Sequence[Sequence[Row]] = (), *, pairs: bool = True
) -> Iterator[RenderableType]:
    """The whole comparison, piece by piece; `rows` are those that differ most, one of each candidate a group.

    With `pairs` each metric has its ranking and a table of all pairs, else only the conclusions.
    """
    for warning in comparison.warnings:
        yield styled(f"warning: {one_line(warning, 400)}", "yellow")
    yield from _tables(comparison)
    yield _conclusions_table(comparison)
    for metric in comparison.metrics if pairs else ():
        yield from _ranking_lines(metric)
        yield _pairs_table(metric, paired=comparison.paired)
    for line in pareto_lines(comparison):
        yield styled(line)
    for line in reading_notes(comparison):
        yield styled(one_line(line, 400), "dim")
    yield from _difference_lines(comparison)
    if rows:
        yield from disagreement_tables(rows)


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
        + (", with missing scores against the better target" if missing else "")
        + f". Bold: significantly better (p < {comparison.alpha:g}). Same letter: no significant difference."
    )


def slice_comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """A table for each metric and slice column: a line for each value, a column for each candidate."""
    by_column: dict[tuple[str, str], list[tuple[str, ComparedMetric]]] = {}
    for metric in comparison.slices:
        for column, text in (metric.slice or {}).items():
            by_column.setdefault((metric.name, column), []).append((text, metric))
    names = [item.name for item in comparison.candidates]
    for (name, column), values in by_column.items():
        title = f"{one_line(name, 60)} by {one_line(column, MAX_NAME)} (unadjusted)"
        heads = [*(one_line(each, MAX_NAME) for each in names), *(["p"] if len(names) == 2 else [])]
        table = plain_table(title, [one_line(column, MAX_NAME), *heads], wraps=True)
        for text, metric in values[:MAX_SLICES]:
            values_of = [metric.values.get(each) for each in names]
            cells = [_value(value) + ("" if value is None else missing_counts(value)) for value in values_of]
            cells += [slice_p_value(pair) for pair in metric.pairs] if len(names) == 2 else []
            table.add_row(styled(one_line(text, MAX_NAME) or DASH), *[styled(cell) for cell in cells])
        if len(values) > MAX_SLICES:
            table.add_row(styled(f"… and {len(values) - MAX_SLICES} more (--json)", "dim"))
        yield table


def slice_p_value(pair: Pair) -> str:
    """The unadjusted p-value of a pair in a slice, marked where missing scores could reverse it."""
    return p_value(pair.p_value) + (" (not with missing scores)" if pair.depends_on_missing else "")


def disagreement_tables(groups: Sequence[Sequence[Row]]) -> Iterator[RenderableType]:
    """For each sample a line with its input and accepted answers, then every candidate's output and scores."""
    yield styled("largest differences between targets", "bold")
    for rows in groups:
        sample = rows[0].sample
        expected = f" → {one_line(' | '.join(sample.expected), 100)}" if sample.expected else ""
        names = list(dict.fromkeys(name for row in rows for name in row.cells))
        yield styled(f"{one_line(sample.id, 24)}: {one_line(str(sample.input), 200)}{expected}")
        table = plain_table("", ("target", "output", *[one_line(name, MAX_NAME) for name in names]))
        table.title, table.expand = None, True
        table.columns[1].no_wrap, table.columns[1].overflow, table.columns[1].ratio = True, "ellipsis", 1
        for row in rows:
            cells = [row.cells.get(name) for name in names]
            scores = [
                DASH if cell is None else number(cell.value) if cell.value is not None else cell.state for cell in cells
            ]
            table.add_row(
                styled(one_line(row.target, MAX_NAME)),
                styled(one_line(output_with_status(row), MAX_TEXT)),
                *map(styled, scores),
            )
        yield table


def output_with_status(row: Row) -> str:
    """The output of a row, or how its call failed."""
    answer = row.answer
    if not isinstance(answer, Completion):
        return f"[{answer}]"
    return answer.text if answer.finish_reason == "stop" else f"{answer.text} [{answer.missing_reason}]"


def amount(value: float | None, unit: str | None) -> str:
    """A number with its unit; money with as many digits as the amount needs."""
    return money(value) if value is not None and unit == "USD" else number(value, unit)


def p_value(p: float | None) -> str:
    """`.034`, `<.001`."""
    if p is None:
        return DASH
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _tables(comparison: Comparison) -> Iterator[Table]:
    """Targets × metrics, the best in bold only where it is significantly better than all others; then cost and latency."""
    quality = comparison.metrics
    groups = [quality[start : start + METRICS_PER_TABLE] for start in range(0, len(quality), METRICS_PER_TABLE)] or [()]
    for group in groups:
        costs = _cost_columns(comparison) if group == groups[-1] else {}
        heads = [one_line(metric.name, MAX_NAME) + ("" if metric.higher_is_better else " ↓") for metric in group]
        table = plain_table("comparison", ("target", *heads, *costs), wraps=True)
        for name in _order(comparison):
            cells = [_cell(metric, name) for metric in group]
            table.add_row(
                styled(one_line(name, MAX_NAME)), *cells, *[styled(column.get(name, DASH)) for column in costs.values()]
            )
        yield table


def _cost_columns(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Latency, cost per 1,000 answers and answers without a score by target, where there are any."""
    columns: dict[str, dict[str, str]] = {}
    for metric in comparison.costs:
        values = {name: value.value for name, value in metric.values.items() if value.value is not None}
        if metric.name == "latency/p50" and values:
            columns["p50"] = {name: number(value, metric.unit) for name, value in values.items()}
        elif metric.name == "cost_usd/mean" and any(values.values()):
            columns["$/1k"] = {name: money(1000 * value).removeprefix("$") for name, value in values.items()}
    missing: dict[str, int] = {}
    for metric in comparison.metrics:
        for name, value in metric.values.items():
            missing[name] = max(missing.get(name, 0), value.unscored + value.errors)
    if any(missing.values()):
        columns["missing"] = {name: f"{count:,}" for name, count in missing.items()}
    return columns


def _conclusions_table(comparison: Comparison) -> Table:
    """A line for each sentence, beside the name of its metric."""
    table = plain_table("", ("metric", "conclusion"), wraps=True)
    table.title, table.show_header, table.box = None, False, None
    table.padding = (0, 3, 0, 0)
    for metric in comparison.metrics:
        for place, line in enumerate(conclusions(metric)):
            bold = place == 0 and metric.ranking is not None and metric.ranking.best is not None
            table.add_row(styled("" if place else one_line(metric.name, 60)), styled(line, "bold" if bold else None))
    cost = cost_conclusion(comparison)
    if cost is not None:
        table.add_row(styled("cost"), styled(cost))
    return table


def _order(comparison: Comparison) -> list[str]:
    """The candidates as the first metric ranks them."""
    for metric in comparison.metrics:
        if metric.ranking is not None:
            return list(metric.ranking.order) + [
                item.name for item in comparison.candidates if item.name not in metric.ranking.order
            ]
    return [item.name for item in comparison.candidates]


def _cell(metric: ComparedMetric, name: str) -> Any:
    value, ranking = metric.values.get(name), metric.ranking
    if ranking is None:
        return styled(amount(None if value is None else value.value, metric.unit))
    letters = ranking.letters.get(name, "")
    style = "bold" if ranking.best == name else "magenta" if value is not None and not value.trusted else None
    return styled(_value(value, letters), style)


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


def _pairs_table(metric: ComparedMetric, *, paired: bool) -> Table:
    """A line for each pair: the difference, its significance, and who did better on how many samples."""
    columns = ["pair", "difference", "95% CI", "p", "n"]
    table = plain_table("", columns + (["win/tie/loss", "excluded"] if paired else []))
    table.title = None
    for pair in metric.pairs[:MAX_PAIRS]:
        table.add_row(*[styled(cell, style) for cell, style in _pair_cells(pair, paired=paired)])
    if len(metric.pairs) > MAX_PAIRS:
        table.add_row(styled(f"… and {len(metric.pairs) - MAX_PAIRS} more in JSON", "dim"))
    return table


def _pair_cells(pair: Pair, *, paired: bool) -> Iterator[tuple[str, str | None]]:
    yield f"{one_line(pair.first, MAX_NAME)} − {one_line(pair.second, MAX_NAME)}", None
    yield DASH if pair.difference is None else signed(pair.difference), "bold" if pair.better is not None else None
    yield interval(pair.low, pair.high), None
    yield p_value(pair.p_adjusted), None
    yield f"{pair.n:,}", None
    if paired:
        yield f"{pair.wins:,}/{pair.ties:,}/{pair.losses:,}", None
        yield f"{pair.excluded:,}", "yellow" if pair.excluded else None


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
    for candidate in comparison.candidates[1:]:
        lines = candidate.differs[:MAX_DIFFERENCES]
        more = len(candidate.differs) - len(lines)
        if lines:
            yield styled(f"{one_line(candidate.name, MAX_NAME)} differs from {one_line(first, MAX_NAME)} in:", "dim")
        for line in (*lines, *([f"… and {more} more"] if more else [])):
            yield styled(f"  {one_line(line, 200)}", "dim")


def render_diff(diff: RunDiff) -> Iterator[RenderableType]:
    """A line with the counts, what differs in configuration, then the rows, worst first."""
    changes = diff.changes
    sides = [f"{one_line(run, 40)}/{one_line(target, 40)}" for run, target in (diff.before, diff.after)]
    yield styled(f"{sides[0]} → {sides[1]}: {'; '.join(_counts(changes))}", "bold")
    for note in diff.notes:
        yield styled(f"note: {one_line(note, 300)}", "yellow")
    if changes.rows:
        yield _table(diff)
    if changes.changed > len(changes.rows):
        yield styled(f"and {changes.changed - len(changes.rows):,} more (--limit shows more)", "dim")


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


def _counts(changes: Changes) -> Iterator[str]:
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


def _table(diff: RunDiff) -> Table:
    table = plain_table("", ("id", *DIFF_SHARES, *[one_line(name, 40) for name in diff.scorers]))
    table.title, table.expand = None, True
    for column, share in zip(table.columns[1:4], DIFF_SHARES.values(), strict=True):
        column.no_wrap, column.overflow, column.ratio = True, "ellipsis", share
    for change in diff.changes.rows:
        texts = [str(change.after.sample.input), output_with_status(change.before), output_with_status(change.after)]
        scores = [_score(change, name) for name in diff.scorers]
        table.add_row(
            styled(one_line(change.after.sample.id, 24)), *[styled(one_line(text, MAX_TEXT)) for text in texts], *scores
        )
    return table


def _score(change: Change, name: str) -> Any:
    """`1.000 → 0.000`, or the one score where it is the same."""
    before, after = (_cell_text(row.cells.get(name)) for row in (change.before, change.after))
    return styled(after if before == after else f"{before} → {after}", None if name in change.scores else "dim")


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return DASH
    return number(cell.value) if cell.value is not None else cell.state


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
