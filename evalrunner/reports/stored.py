"""Stored runs as they are shown again: read back from the run folder alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evalrunner.domain import Metric, Row
from evalrunner.engine.result import TargetResult
from evalrunner.engine.stored_parts import stored_design, stored_measures
from evalrunner.errors import RunNotFoundError
from evalrunner.formatting import DASH, duration, interval, number, one_line, plain_table, styled
from evalrunner.middleware.usage import Usage
from evalrunner.reports.comparison import render_comparison
from evalrunner.reports.json import gate_from_data, stored_comparison
from evalrunner.reports.terminal import (
    DONE,
    STYLES,
    gates_table,
    interval_notes,
    metrics_table,
    rows_table,
    run_word,
    slice_tables,
    usage_line,
)
from evalrunner.reports.worst_rows import WorstRows, failed
from evalrunner.runs.folder import METRICS_FILE, RUN_FILE, RunFolder, read_json
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.measures import Measure
from evalrunner.stats.summary import summarize

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

AT_ONCE = 200  # rows of one table, so that a long list is shown while it is read


def render_run(folder: RunFolder, *, failed_only: bool = False) -> Iterator[RenderableType]:
    """A run as it was shown at its end; with `failed_only`, every row that needs a look instead of the worst."""
    run = stored_run(folder)
    measures = stored_measures(run)
    names = list(run["targets"])
    metrics = stored_metrics(folder, run)
    yield _headline(folder, run, metrics)
    if metrics is not None:
        gates = [gate_from_data(gate) for gate in metrics["gates"]]
        if gates:
            yield gates_table(gates)
    for name, target in stored_targets(folder, run, metrics).items():
        yield metrics_table(name, target)
        yield from interval_notes(target)
        yield from slice_tables(name, target)
        yield styled(one_line(usage_line(target), 300), "dim")
    if metrics is not None and "comparison" in metrics:
        yield from render_comparison(stored_comparison(metrics["comparison"]))
    if failed_only:
        yield from _failed_tables(folder, names, measures)
    else:
        worst = WorstRows(measures)
        for row in read_rows(folder.path):
            worst.add(row)
        for name in names:
            if worst.of(name):
                yield rows_table(f"worst rows of {one_line(name, 60)}", worst.of(name))
    yield styled(f"files: {folder.path}/")


def stored_run(folder: RunFolder) -> dict[str, Any]:
    """What `run.json` holds. Raises RunNotFoundError where it is broken or does not say what was run."""
    run = read_json(folder.path / RUN_FILE)
    if any(not isinstance(run.get(name), Mapping) for name in ("targets", "scorers")):
        raise RunNotFoundError(f"{str(folder.path / RUN_FILE)!r} is not what a run leaves behind")
    return run


def stored_metrics(folder: RunFolder, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `metrics.json` holds, or None for a run that did not come to its end."""
    if run.get("status") == "running":
        return None
    metrics = read_json(folder.path / METRICS_FILE)
    if not isinstance(metrics.get("targets"), Mapping) or not isinstance(metrics.get("gates"), list):
        raise RunNotFoundError(f"{str(folder.path / METRICS_FILE)!r} is not what a run leaves behind")
    return metrics


def _styled_word(run: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Any:
    gated = metrics is not None and bool(metrics["gates"])
    word = run_word(run.get("verdict"), run.get("exit_code"), gated=gated)
    return styled(word, "bold" if word == DONE else STYLES.get(str(run.get("verdict")), "bold yellow"))


def _headline(folder: RunFolder, run: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Any:
    verdict = run.get("verdict")
    line = _styled_word(run, metrics)
    line.append(" ")
    line.append(f"{one_line(folder.suite, 60)} {folder.id}", style="bold")
    if verdict:
        line.append(f": {run['rows']:,} of {run['rows_planned']:,} rows in {duration(run['duration_s'])}")
        line.append(f", exit code {run['exit_code']}")
    else:
        line.append(": the run ended before its end; the numbers are of the rows that are on disk")
    if run.get("stopped"):
        line.append(f"\nstopped early: {one_line(run['stopped'], 600)}", style="bold magenta")
    return line


def stored_targets(
    folder: RunFolder, run: Mapping[str, Any], metrics: Mapping[str, Any] | None
) -> dict[str, TargetResult]:
    """The targets of a stored run; counted again from its rows where the run did not come to its end."""
    if metrics is None:
        names = list(run["targets"])
        rows, streaming = read_rows(folder.path), bool(run.get("streaming"))
        measures, design = stored_measures(run), stored_design(run)
        summary = summarize(rows, measures, names, epochs=run["epochs"], streaming=streaming, design=design)
        return {name: TargetResult(summary.all_metrics(name), Usage(), 0, 0) for name in names}
    found: dict[str, TargetResult] = {}
    for name, target in metrics["targets"].items():
        said = target["usage"]
        usage = Usage(
            said["calls"], said["failures"], said["input_tokens"], said["output_tokens"], said["cost_usd"] or 0.0
        )
        found[name] = TargetResult(tuple(Metric(**metric) for metric in target["metrics"]), usage, 0, 0)
    return found


def _failed_tables(folder: RunFolder, names: Sequence[str], measures: Sequence[Measure]) -> Iterator[Any]:
    """The rows that need a look, in the order of the dataset, a table of each target."""
    found: dict[str, list[Row]] = {name: [] for name in names}
    for row in read_rows(folder.path):
        if failed(row, measures):
            found[row.target].append(row)
    for name, rows in found.items():
        ordered = sorted(rows, key=lambda row: (row.sample.index, row.epoch))
        if not ordered:
            yield styled(f"{one_line(name, 60)}: no row needs a look")
        for start in range(0, len(ordered), AT_ONCE):
            yield rows_table(f"{one_line(name, 60)}: {len(ordered)} rows need a look", ordered[start : start + AT_ONCE])


def runs_table(runs: Sequence[RunFolder]) -> Table:
    """A line for each run: suite, id, when, verdict, rows, and its headline metric."""
    table = plain_table("", ("run", "suite", "verdict", "exit", "rows", "headline metric", "time"))
    for folder in runs:
        try:
            run = stored_run(folder)
            metrics = stored_metrics(folder, run)
            first = _headline_metrics(run, metrics)
        except (RunNotFoundError, KeyError, TypeError, StopIteration, AttributeError):
            table.add_row(styled(folder.id), styled(one_line(folder.suite, 40)), styled("unreadable", "red"))
            continue
        table.add_row(
            styled(folder.id),
            styled(one_line(folder.suite, 40)),
            _styled_word(run, metrics),
            styled(str(run.get("exit_code", DASH))),
            styled(f"{run.get('rows', DASH)}/{run['rows_planned']}"),
            styled(first),
            styled(duration(run["duration_s"]) if "duration_s" in run else DASH),
        )
    return table


def headline_metric(run: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The metric, as `metrics.json` has it, that the first scorer's bare name means; its first where that is not there."""
    scorer, said = next(iter(run["scorers"].items()))
    own = [metric for metric in metrics if metric["scorer"] == scorer and metric["slice"] is None]
    meant = [metric for metric in own if metric["aggregate"] == said["headline"]]
    return next(iter([*meant, *own]), None)


def _headline_metrics(run: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> str:
    """The headline metric with its interval, of several targets a line for each of the first three."""
    if metrics is None:
        return DASH
    said: list[str] = []
    for name, target in metrics["targets"].items():
        metric = headline_metric(run, target["metrics"])
        if metric is not None:
            ends = f" {interval(metric['low'], metric['high'])}" if metric["low"] is not None else ""
            whose = one_line(name if len(metrics["targets"]) > 1 else metric["name"], 30)
            said.append(f"{whose} {number(metric['value'])}{ends}")
    return "\n".join([*said[:3], *([f"and {len(said) - 3} more"] if len(said) > 3 else [])])
