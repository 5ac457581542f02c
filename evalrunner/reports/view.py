"""A run as reports for others show it: the same from a run that has just ended and from a stored one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from evalrunner.compare.result import Comparison
from evalrunner.domain import GateResult
from evalrunner.engine.result import RunResult, TargetResult
from evalrunner.formatting import counted, number
from evalrunner.reports.stored import stored_targets
from evalrunner.reports.terminal import DONE, judge_warnings, next_step_lines, run_word
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import MetricsRecord, RunRecord
from evalrunner.stats.measures import Measure
from evalrunner.verdicts import WORST_FIRST, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What is told of a run. `suite_file` is None where nobody knows it; a run that has no end has no verdict."""

    suite: str
    run_id: str
    suite_file: Path | None
    measures: tuple[Measure, ...]
    targets: Mapping[str, TargetResult]
    gates: tuple[GateResult, ...] = ()
    verdict: Verdict | None
    exit_code: int | None
    rows: int
    rows_planned: int
    started_at: datetime
    duration_s: float
    stopped: str | None = None
    notices: tuple[str, ...] = field(default=())
    comparison: Comparison | None = None

    @property
    def word(self) -> str:
        """The run in one word: that of its verdict, DONE where nothing was to be judged."""
        return run_word(self.verdict, self.exit_code, gated=bool(self.gates))

    @property
    def gates_worst_first(self) -> list[GateResult]:
        """The gates by how bad their verdict is; those that do not change the exit code after those that do."""
        return sorted(self.gates, key=lambda gate: (WORST_FIRST.index(gate.verdict), not gate.blocks))


def sentence(view: RunView) -> str:
    """What a colleague has to know, in one sentence or two: what the run came to, and why."""
    if view.word == "NOT FINISHED":
        return "The run ended before its end; the numbers are of the rows that are on disk."
    if view.word == "INTERRUPTED":
        return f"Interrupted after {view.rows:,} of {counted(view.rows_planned, 'row')}."
    if view.word == DONE:
        return "Measured without gates, so there is no verdict."
    early = f" It also stopped early: {view.stopped}." if view.stopped else ""
    first = view.gates_worst_first[0] if view.gates else None
    if view.verdict == "fail" and first is not None:
        missed = sum(gate.verdict == "fail" for gate in view.gates)
        return f"{missed} of {counted(len(view.gates), 'gate')} failed: {gate_sentence(first, view)}.{early}"
    if view.verdict == "untrusted":
        why = view.stopped or (gate_sentence(first, view) if first is not None else "")
        return f"The result could not be trusted, so it says nothing about the model: {why}."
    if view.verdict == "inconclusive" and first is not None:
        return f"There are too few rows to tell: {gate_sentence(first, view)}."
    return _passed(view)


def _passed(view: RunView) -> str:
    held = [gate for gate in view.gates if gate.verdict == "pass"]
    said = [f"{len(held)} of {counted(len(view.gates), 'gate')} passed"]
    noise = sum("within noise" in gate.reason for gate in held)
    if noise:
        said.append(f"{noise} of them within noise")
    others = [gate for gate in view.gates_worst_first if gate.verdict != "pass"]
    said += [f"{gate.verdict.replace('_', ' ')}: {gate_sentence(gate, view)}" for gate in others[:1]]
    return "; ".join(said) + "."


def gate_sentence(gate: GateResult, view: RunView) -> str:
    """`exact_match >= 0.8 of gateway is 0.740: misses the bound`; the target where there are several."""
    of = f" of {gate.target}" if len(view.targets) > 1 else ""
    value = f" is {number(gate.value)}" if gate.value is not None else ""
    return f"{gate.gate}{of}{value}: {gate.reason}"


def view_of(result: RunResult) -> RunView:
    """The view of a run that has just ended."""
    return RunView(
        suite=result.suite,
        run_id=result.run_id,
        suite_file=result.plan.suite.path,
        measures=result.plan.measures,
        targets=result.targets,
        gates=result.gates,
        verdict=result.verdict,
        exit_code=result.exit_code,
        rows=result.rows,
        rows_planned=result.plan.rows,
        started_at=result.started_at,
        duration_s=result.duration_s,
        stopped=result.stopped,
        notices=(*result.notices, *judge_warnings(result), *next_step_lines(result)),
        comparison=result.comparison,
    )


def stored_view(folder: RunFolder) -> RunView:
    """The view of a run folder; without a verdict where the run did not finish."""
    run = RunRecord.load(folder.path)
    return view_of_record(folder, run, run.load_metrics(folder.path))


def view_of_record(folder: RunFolder, run: RunRecord, metrics: MetricsRecord | None) -> RunView:
    """The view of a stored run whose files were read."""
    return RunView(
        suite=run.suite,
        run_id=run.run_id,
        suite_file=run.suite_file,
        measures=run.measures,
        targets=stored_targets(folder, run, metrics),
        gates=() if metrics is None else metrics.gates,
        verdict=run.verdict,
        exit_code=run.exit_code,
        rows=run.rows or 0,
        rows_planned=run.rows_planned,
        started_at=run.started_at,
        duration_s=run.duration_s or 0.0,
        stopped=run.stopped,
        notices=run.notices,
        comparison=None if metrics is None else metrics.comparison,
    )
