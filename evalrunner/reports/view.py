"""A run as reporters see it: one view, built from a run in progress, one that just ended, or a stored one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evalrunner.domain import EMPTY, EpochVariance, GateResult, Metric
from evalrunner.formatting import number
from evalrunner.reports.worst_rows import BaselineLookup, baseline_lookup_of_plan, baseline_lookup_of_stored
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import JudgeRecord, MetricsRecord, RunRecord, SanityCheckRecord, UsageRecord
from evalrunner.verdicts import INTERRUPTED, WORST_FIRST, Verdict

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison
    from evalrunner.engine.plan import Plan
    from evalrunner.engine.result import RunResult
    from evalrunner.middleware.cache import CacheTally
    from evalrunner.middleware.stack import CallTally
    from evalrunner.stats.summary import Measure

DONE: Final = "DONE"
NOT_FINISHED: Final = "NOT FINISHED"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetView:
    """A target's metrics and the calls of its rows. `retries` and `cache` are known of a live run only.

    `epochs` is how scores vary between epochs, where there are several. `model` is the model that it asks, if that is known.
    """

    metrics: tuple[Metric, ...] = ()
    usage: UsageRecord = UsageRecord()
    epochs: tuple[EpochVariance, ...] = ()
    retries: int = 0
    cache: CacheTally | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeView:
    """A scorer's judge, or the simulated user: its calls, and how it did on its known answers.

    `check` is None where it was not tested. `retries` and `cache` are known of a live run only.
    """

    scorer: str
    name: str
    mode: str
    usage: UsageRecord
    check: SanityCheckRecord | None = None
    role: str = "judge"
    retries: int = 0
    cache: CacheTally | None = None

    @property
    def owner(self) -> str:
        """`judge of rubric`, `model of similarity`, `simulated user`."""
        return self.scorer if self.role == "user" else f"{self.role} of {self.scorer}"

    @classmethod
    def of(cls, scorer: str, judge: JudgeRecord) -> JudgeView:
        """The judge of a stored run."""
        return cls(
            scorer=scorer, name=judge.name, mode=judge.mode, usage=judge.usage, check=judge.sanity_check, role=judge.role
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, live or stored.

    A run that has not ended has no verdict. `suite_file` is None where it is unknown. `columns` are those of the
    dataset. `record` and `numbers` are what `run.json` and `metrics.json` hold. `find_baseline` looks up the baseline's
    scores of a row. `tallies` count the calls of a run in progress, `phase` says what it does before its first row,
    `budget` is what it may and did spend; a stored run
    has neither.
    """

    suite: str
    run_id: str
    folder: Path
    suite_file: Path | None
    measures: tuple[Measure, ...]
    columns: tuple[str, ...] = ()
    streaming: bool = False
    targets: Mapping[str, TargetView]
    judges: tuple[JudgeView, ...] = ()
    gates: tuple[GateResult, ...] = ()
    verdict: Verdict | None
    exit_code: int | None
    rows: int
    rows_planned: int
    rows_in_error: int = 0
    started_at: datetime
    duration_s: float
    stopped: str | None = None
    notices: tuple[str, ...] = ()
    comparison: Comparison | None = None
    record: RunRecord | None = None
    numbers: MetricsRecord | None = None
    find_baseline: Callable[[], BaselineLookup | None] = lambda: None
    tallies: tuple[CallTally, ...] = ()
    phase: Callable[[], str | None] = lambda: None
    budget: Mapping[str, float] = EMPTY

    @property
    def epochs(self) -> int:
        """How often each sample is run."""
        return 1 if self.record is None else self.record.epochs

    @property
    def extracting(self) -> bool:
        """Whether a target has an `extract`."""
        targets = {} if self.record is None else self.record.provenance.targets
        return any("extract" in (target.options or {}) for target in targets.values())

    @property
    def conversing(self) -> bool:
        """Whether the targets were asked conversations."""
        targets = {} if self.record is None else self.record.provenance.targets
        return any(not {"turns", "user"}.isdisjoint(target.options or {}) for target in targets.values())

    @property
    def headline(self) -> str:
        """The scorer that leads tables and lists."""
        return self.measures[0].name if self.record is None else self.record.headline_scorer

    @property
    def baseline_run(self) -> str | None:
        """The run that the first baseline of the gates was accepted from, if it is still in the runs folder."""
        for gate in self.gates:
            before = gate.baseline
            if before is not None and before.run_id and (self.folder.parent / before.run_id).is_dir():
                return before.run_id
        return None

    @property
    def word(self) -> str:
        """The run in one word: `PASS`, `DONE` where there is no gate, `INTERRUPTED`, `NOT FINISHED`."""
        return run_word(self.verdict, self.exit_code, gated=bool(self.gates))

    @property
    def unfinished_rows(self) -> int:
        """How many rows a resume would run; none if the run ended because its gates were decided."""
        decided = self.record is not None and self.record.decided is not None
        return 0 if decided else max(0, self.rows_planned - self.rows)

    @property
    def answers_planned(self) -> int:
        """The answers that a complete run has of each target: samples × epochs."""
        return self.rows_planned // max(1, len(self.targets))

    @property
    def gates_worst_first(self) -> list[GateResult]:
        """The gates, worst verdict first; of equal verdicts those that change the exit code first."""
        return sorted(self.gates, key=lambda gate: (WORST_FIRST.index(gate.verdict), not gate.blocks))


def run_word(verdict: Verdict | None, exit_code: int | None, *, gated: bool) -> str:
    """A run in one word; `gated` says whether it had gates."""
    if verdict is None:
        return NOT_FINISHED
    if exit_code == INTERRUPTED:
        return "INTERRUPTED"
    return verdict_word(verdict) if gated or exit_code else DONE


def verdict_word(verdict: str) -> str:
    """`PASS`, `NO BASELINE`."""
    return verdict.replace("_", " ").upper()


def gate_sentence(gate: GateResult, view: RunView) -> str:
    """`exact_match >= 0.8 of gateway is 0.740: misses the threshold`; the target where there are several."""
    of = f" of {gate.target}" if len(view.targets) > 1 else ""
    beside = (gate.low, gate.high, gate.bound)
    # a gate on a baseline is about a change, which its reason has
    value = f" is {number(gate.value, beside=beside)}" if gate.value is not None and gate.baseline is None else ""
    return f"{gate.gate}{of}{value}: {gate.reason}"


def view_at_start(plan: Plan, folder: RunFolder, record: RunRecord) -> RunView:
    """The view of a run before its first call; `rows` are those that it had already when it was resumed."""
    calls = [target.calls for target in plan.targets]
    calls += [judge.calls for judge in plan.judges.values()]
    view = view_of_record(folder, record, {name: TargetView() for name in record.targets})
    return replace(
        view,
        rows=plan.rows_before,
        find_baseline=partial(baseline_lookup_of_plan, plan) if plan.baselines else lambda: None,
        tallies=tuple(calls),
        phase=partial(_phase, plan),
    )


def _phase(plan: Plan) -> str | None:
    """`checking the judge 3/12` while a judge is asked its known answers."""
    for judge in plan.judges.values():
        if (progress := judge.check_progress) is not None:
            return f"checking the judge {progress[0]}/{progress[1]}"
    return None


def view_of(result: RunResult) -> RunView:
    """The view of a run that has just ended: that of its record, with what only this process knows."""
    from evalrunner.engine.result import metrics_record

    assert result.record is not None  # a run that ended has one
    numbers, plan = metrics_record(result), result.plan
    tallies = {name: target.calls for name, target in result.targets.items()}
    targets = {
        name: TargetView(
            metrics=target.metrics,
            usage=target.usage,
            epochs=target.epochs,
            retries=tallies[name].retries,
            cache=tallies[name].cache,
        )
        for name, target in numbers.targets.items()
    }
    view = view_of_record(RunFolder(result.folder), result.record, targets, numbers)
    calls = {label: judge.calls for label, judge in plan.judges.items()}
    judges = tuple(
        replace(judge, retries=calls[judge.scorer].retries, cache=calls[judge.scorer].cache) for judge in view.judges
    )
    budget = plan.calls.budget
    return replace(
        view,
        judges=judges,
        find_baseline=partial(baseline_lookup_of_plan, plan) if plan.baselines else lambda: None,
        budget={} if budget is None else dict(budget.ledger.spent) | {"cap": budget.cap_usd},
    )


def stored_view(folder: RunFolder, runs: Path | None = None) -> RunView:
    """The view of a stored run, counted from its rows where it did not finish. `runs` is where its baseline may be.

    Raises InvalidRunError where the folder holds no run that can be read.
    """
    run = RunRecord.load(folder.path)
    numbers = run.load_metrics(folder.path)
    if numbers is None:
        from evalrunner.engine.result import unfinished_metrics

        counted_rows = unfinished_metrics(run, folder.path)
        targets = {name: TargetView(metrics=metrics) for name, metrics in counted_rows.items()}
    else:
        targets = {
            name: TargetView(metrics=one.metrics, usage=one.usage, epochs=one.epochs)
            for name, one in numbers.targets.items()
        }
    return view_of_record(folder, run, targets, numbers, runs)


def view_of_record(
    folder: RunFolder,
    run: RunRecord,
    targets: Mapping[str, TargetView],
    numbers: MetricsRecord | None = None,
    runs: Path | None = None,
) -> RunView:
    """The view of a run by its record and its numbers, which are None where it did not end."""
    gates = () if numbers is None else numbers.gates
    return RunView(
        suite=run.suite,
        run_id=run.run_id,
        folder=folder.path,
        suite_file=run.suite_file,
        measures=run.measures,
        columns=run.columns,
        streaming=run.streaming,
        targets={name: replace(view, model=run.targets[name].model) for name, view in targets.items()},
        judges=tuple(JudgeView.of(scorer, judge) for scorer, judge in run.judges.items()),
        gates=gates,
        verdict=run.verdict,
        exit_code=run.exit_code,
        rows=run.rows or 0,
        rows_planned=run.rows_planned,
        rows_in_error=run.rows_in_error or 0,
        started_at=run.started_at,
        duration_s=run.duration_s or 0.0,
        stopped=run.stopped,
        notices=run.notices,
        comparison=None if numbers is None else numbers.comparison,
        record=run,
        numbers=numbers,
        find_baseline=partial(
            baseline_lookup_of_stored,
            run.suite,
            run.suite_file,
            gates,
            tuple(targets),
            runs or folder.path.parent.parent,
        ),
    )
