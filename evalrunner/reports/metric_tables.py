"""The tables of metrics on a terminal: the metrics of one target, and the leaderboard of several."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

from evalrunner.domain import Metric
from evalrunner.formatting import DASH, interval, money, number, one_line, styled
from evalrunner.reports.missing import ALWAYS, UNTRUSTED, count_columns, is_marked, scored_count
from evalrunner.reports.row_lines import padded
from evalrunner.reports.text_table import Column, TextTable

if TYPE_CHECKING:
    from evalrunner.compare.result import ComparedMetric, Comparison
    from evalrunner.reports.view import TargetView

MAX_METRICS: Final = 10  # lines of the table of a target, without -v
MAX_TARGET: Final = 60
MAX_BACKEND: Final = 32  # characters beside a metric; run.json and the report have all of it
OTHER_READINGS: Final = {"zero": "missing as 0", "unscored": "missing excluded"}  # by the other setting of on_no_answer
_VERSION: Final = re.compile(r"/v\d+(?=/|$)")


def screen_names(names: Iterable[str]) -> dict[str, str]:
    """Metrics as a screen names them, by their full name: without `/v1`, and without `/mean`, where that is unambiguous.

    `toxicity/v1/mean` stays `toxicity/mean` beside `toxicity/v1/p90`.
    """
    full = list(dict.fromkeys(names))
    bare = _unambiguous({name: _VERSION.sub("", name, count=1) for name in full})
    shorter = {}
    for name in full:
        stem = bare[name].removesuffix("/mean")
        others = (other for other in full if other != name)
        alone = not any(bare[other] == stem or bare[other].startswith(f"{stem}/") for other in others)
        shorter[name] = stem if alone else bare[name]
    return shorter


def _unambiguous(names: Mapping[str, str]) -> dict[str, str]:
    """The short names; where two are the same, the full ones."""
    short = list(names.values())
    return {name: text if short.count(text) == 1 else name for name, text in names.items()}


def label(metric: Metric, name: str | None = None) -> str:
    """The metric's name with its backend, so that two backends are not confused."""
    backend = (metric.detail or {}).get("backend")
    text = one_line(metric.name if name is None else name, 80)
    return f"{text} ({one_line(backend, MAX_BACKEND)})" if backend else text


def metric_table(
    target: TargetView,
    planned: int,
    *,
    headline: str | None = None,
    gated: Iterable[str] = (),
    parts: Iterable[str] = (),
    verbose: bool = False,
) -> TextTable:
    """The metrics of the suite's scorers, those of the `headline` scorer first, each with its interval and counts.

    Of many metrics only the first of each scorer and the `gated` ones are shown without `verbose`. `planned` answers are
    those of a complete run.
    """
    metrics = overall_metrics(target.metrics, headline)
    names = screen_names(metric.name for metric in metrics)
    shown = metrics if verbose else selected(metrics, set(gated), set(parts))
    firsts = first_of_scorers(metrics)
    name, value, ends = Column("metric"), Column("value", right=True), Column("95% CI")
    readings = {head: Column(head, right=True) for head in OTHER_READINGS.values()}
    counts = {head: Column(head) for head in ("scored", "unscored", "errors", "skipped", "not run")}
    for metric in shown:
        missing = count_columns(metric, planned, why=metric in firsts)
        name.cells.append(label(metric, names[metric.name]))
        value.cells.append(marked(number(metric.value, metric.unit, beside=(metric.low, metric.high)), metric))
        ends.cells.append(ends_text(metric))
        is_partial = "not run" in missing or metric.n != metric.scored or verbose
        counts["scored"].cells.append(scored_count(metric, planned) if is_partial else "")
        for head, column in counts.items():
            if head != "scored":
                column.cells.append(missing.get(head, ""))
        other = (metric.detail or {}).get("other_reading")
        for reading, head in OTHER_READINGS.items():
            is_other = other is not None and other["on_no_answer"] == reading
            readings[head].cells.append(number(other["value"]) if is_other and other is not None else "")
    return TextTable(name, [value, ends, *readings.values(), *counts.values()])


def hidden_metrics(target: TargetView, gated: Iterable[str], parts: Iterable[str] = ()) -> int:
    """How many metrics the table of a target leaves out without `verbose`."""
    metrics = overall_metrics(target.metrics)
    return len(metrics) - len(selected(metrics, set(gated), set(parts)))


def overall_metrics(metrics: Iterable[Metric], headline: str | None = None) -> list[Metric]:
    """The metrics of the suite's scorers over all samples, those of the `headline` scorer first."""
    own = [metric for metric in metrics if metric.scorer not in ALWAYS and metric.slice is None]
    return sorted(own, key=lambda metric: metric.scorer != headline)


def selected(metrics: Sequence[Metric], gated: set[str], parts: AbstractSet[str] = frozenset()) -> list[Metric]:
    """All metrics if they are few, else the first of each scorer and those of gates.

    Of the `parts` of scorers, such as named checks, only the lowest are shown, as many as there is room for.
    """
    if len(metrics) <= MAX_METRICS:
        return list(metrics)
    firsts = [metric for metric in metrics if metric in first_of_scorers(metrics) or metric.name in gated]
    optional = [metric for metric in firsts if metric.scorer in parts and metric.name not in gated]
    optional.sort(key=_lowest_first)
    hidden = optional[max(MAX_METRICS - (len(firsts) - len(optional)), 0) :]
    return [metric for metric in firsts if metric not in hidden]


def _lowest_first(metric: Metric) -> float:
    """What sorts the worst values first; metrics without a value come last."""
    if metric.value is None:
        return math.inf
    return metric.value if metric.higher_is_better else -metric.value


def first_of_scorers(metrics: Iterable[Metric]) -> list[Metric]:
    """The first metric of each scorer."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        found.setdefault(metric.scorer, metric)
    return list(found.values())


def marked(text: str, metric: Metric) -> Any:
    """The text of a value, with a sign where it is untrusted."""
    return styled(f"{text} {UNTRUSTED}", "magenta") if is_marked(metric) else styled(text)


def ends_text(metric: Metric) -> str:
    """The interval of a metric; nothing where it has none."""
    if metric.low is None and metric.high is None:
        return ""
    return interval(metric.low, metric.high, beside=(metric.value,))


def leaderboard(comparison: Comparison, *, verbose: bool = False) -> TextTable:
    """Targets in the order of the first metric, with quality, latency, cost and missing scores.

    A value is bold if it is significantly better than all others. With `verbose`, all metrics are shown and have letters:
    targets that share one do not differ significantly.
    """
    order = ranked(comparison)
    names = screen_names(metric.name for metric in comparison.metrics)
    metrics = comparison.metrics if verbose else comparison.metrics[:MAX_METRICS]
    columns = [_quality(metric, names[metric.name], order, letters=verbose) for metric in metrics]
    costs = cost_columns(comparison, order) + missing_columns(comparison, order)
    targets = Column("target", [one_line(name, MAX_TARGET) for name in order])
    return TextTable(targets, [*columns, *costs], stacked=[*columns[:1], *costs, *columns[1:]])


def ranked(comparison: Comparison) -> list[str]:
    """The candidates as the first metric ranks them."""
    names = [item.name for item in comparison.candidates]
    ranking = next((metric.ranking for metric in comparison.metrics if metric.ranking is not None), None)
    return names if ranking is None else [*ranking.order, *(name for name in names if name not in ranking.order)]


def _quality(metric: ComparedMetric, name: str, order: Sequence[str], *, letters: bool) -> Column:
    """`0.866  0.793–0.916`: the values and the intervals stand below each other."""
    found = [metric.values.get(target) for target in order]
    values = [DASH if each is None else number(each.value, metric.unit, beside=(each.low, each.high)) for each in found]
    room = max(map(len, values), default=0)
    column = Column(one_line(name, 40) + ("" if metric.higher_is_better else " ↓"))
    intervals = ["" if each is None else ends_text(each) for each in found]
    wide = max(map(len, intervals), default=0)
    ranking = metric.ranking
    for target, each, value, ends in zip(order, found, values, intervals, strict=True):
        text = f"{value:>{room}}  {ends}".rstrip()
        best = ranking is not None and ranking.best == target
        untrusted = each is not None and is_marked(each)
        if letters and ranking is not None and (letter := ranking.letters.get(target)):
            text = f"{padded(text, room + 2 + wide)} {letter}"
        if untrusted:
            text += f" {UNTRUSTED}"
        column.cells.append(styled(text, "magenta" if untrusted else "bold" if best else None))
    return column


def cost_columns(comparison: Comparison, order: Sequence[str]) -> list[Column]:
    """Latency, and the cost of 1,000 answers, where they are known of a target."""
    columns = []
    for metric in comparison.costs:
        values = {name: value.value for name, value in metric.values.items() if value.value is not None}
        if metric.name == "latency/p50" and values:
            cells = [number(values.get(name), metric.unit) for name in order]
            columns.append(Column("p50", cells, right=True))
        elif metric.name == "cost_usd/mean" and any(values.values()):
            amounts = [money(1000 * values[name]).removeprefix("$") if name in values else DASH for name in order]
            columns.append(Column("$/1k", _aligned(amounts)))
    return columns


def _aligned(amounts: Sequence[str]) -> list[Any]:
    """Amounts with their decimal points below each other."""
    whole = [len(text.partition(".")[0]) for text in amounts]
    return [" " * (max(whole) - size) + text for size, text in zip(whole, amounts, strict=True)]


def missing_columns(comparison: Comparison, order: Sequence[str]) -> list[Column]:
    """How many answers of a target have no score, by cause; the largest count of its metrics."""
    errors: dict[str, int] = {}
    unscored: dict[str, int] = {}
    for metric in comparison.metrics:
        for name, value in metric.values.items():
            errors[name] = max(errors.get(name, 0), value.errors)
            unscored[name] = max(unscored.get(name, 0), value.unscored)
    counts = (("errors", errors), ("unscored", unscored))
    return [
        Column(head, [f"{found.get(name, 0):,}" for name in order], right=True)
        for head, found in counts
        if any(found.values())
    ]


def metric_lines(texts: Mapping[str, Sequence[tuple[str, bool]]], *, first: int = 14) -> Iterator[Labeled]:
    """Sentences beside the names of what they are about; each with whether it is bold."""
    width = max((len(name) for name in texts if len(name) <= first), default=0)
    for name, sentences in texts.items():
        yield Labeled(name, sentences, width)


class Labeled:
    """A name, and sentences in a column beside it; a long name has a line of its own."""

    def __init__(self, name: str, sentences: Sequence[tuple[str, bool]], width: int) -> None:
        self.name, self.sentences, self.width = name, sentences, width

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """The lines, as rich asks for them."""
        indent = self.width + 3
        head = styled(padded(self.name, indent))
        if head.cell_len > indent:
            yield styled(self.name)
            head = styled(" " * indent)
        for sentence, bold in self.sentences:
            for part in styled(sentence, "bold" if bold else None).wrap(console, max(options.max_width - indent, 20)):
                part.rstrip()
                yield head.append_text(part)
                head = styled(" " * indent)
