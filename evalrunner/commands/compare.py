"""Compare stored runs offline: check that they are comparable, then compare all their targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalrunner.compare.compare import NotComparable, compare
from evalrunner.compare.diff import disagreeing_rows
from evalrunner.compare.result import Candidate, Comparison
from evalrunner.domain import EMPTY, Metric, Row
from evalrunner.errors import SuiteError
from evalrunner.reports.comparison import ComparedRun
from evalrunner.runs.folder import find_run
from evalrunner.runs.provenance import differences, part_differences
from evalrunner.runs.record import RunRecord
from evalrunner.stats.summary import Population, Summary


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Stored runs and their comparison. `metrics` holds all metrics of each candidate."""

    runs: tuple[ComparedRun, ...]
    comparison: Comparison
    metrics: Mapping[str, tuple[Metric, ...]]

    def differing(self, count: int) -> tuple[tuple[Row, ...], ...]:
        """The rows of the samples whose scores differ most: a group for each sample, a row for each candidate."""
        places = self.comparison.most_different[:count]
        names = [candidate.name for candidate in self.comparison.candidates]
        return disagreeing_rows((row for run in self.runs for row in run.rows()), places, names) if places else ()


def compare_runs(
    references: Sequence[str],
    output_dir: Path,
    *,
    wanted: Sequence[str] = (),
    paired: bool = True,
    labels: Mapping[str, str] = EMPTY,
) -> RunComparison:
    """The comparison of stored runs. Raises SuiteError that lists what differs if they are not comparable.

    Scorers and judges must be the same; datasets too, unless the comparison is unpaired. A target that several runs have
    is named by the id of its run, or by the label of that id.
    """
    runs = _open_runs(references, output_dir, wanted, labels, paired=paired)
    _check_comparable(runs, paired=paired)
    candidates = tuple(_candidates(runs))
    summary = _summary(runs, runs[0], samples=runs[0].size if paired else None)
    epochs = {name: run.record.epochs for run in runs for name in run.names.values()}
    samples = {name: range(run.first, run.first + run.size) for run in runs for name in run.names.values()}
    metrics = {name: summary.all_metrics(name) for name in summary.targets}
    if len(set(epochs.values())) > 1 or not paired:  # each run's answers are counted against its own plan
        for run in runs:
            own = _summary([run], runs[0], samples=run.size)
            metrics.update({name: own.all_metrics(name) for name in own.targets})
    try:
        comparison = compare(
            summary, candidates, metrics, judges=_judges(runs), wanted=wanted, paired=paired, epochs=epochs,
            samples=None if paired else samples,
        )  # fmt: skip
    except NotComparable as wrong:
        raise SuiteError(f"--metric: {wrong}") from None
    comparison = comparison.led_by(runs[0].record.headline_scorer)
    return RunComparison(runs, replace(comparison, notes=(*_notes(runs), *comparison.notes)), metrics)


def _summary(runs: Sequence[ComparedRun], first: ComparedRun, *, samples: int | None) -> Summary:
    """The rows of runs in one summary, with the scorers and groups of the first run of the comparison.

    `samples` is how many they should have: those without a row are missing.
    """
    population = Population.of(first.record.design)
    population.count = samples
    summary = Summary(
        tuple(measure for measure in first.record.measures if measure.name in first.scorers),
        tuple(name for run in runs for name in run.names.values()),
        max(run.record.epochs for run in runs),
        all(run.record.streaming for run in runs),
        first.record.design,
        population,
    )
    for run in runs:
        for row in run.rows():
            summary.add(row)
    return summary


def _open_runs(
    references: Sequence[str], output_dir: Path, wanted: Sequence[str], labels: Mapping[str, str], *, paired: bool
) -> tuple[ComparedRun, ...]:
    """The runs with the names of their candidates: that of the target, prefixed by the run if it is not unique."""
    folders = [find_run(reference, output_dir) for reference in references]
    twice = [path for path, count in Counter(folder.path.resolve() for folder in folders).items() if count > 1]
    if twice:
        raise SuiteError(f"run {twice[0].name} is named twice; name another run")
    data = [RunRecord.load(folder.path) for folder in folders]
    count = Counter(target for run in data for target in run.targets)
    if sum(count.values()) < 2:
        raise SuiteError(f"run {folders[0].id} has one target; name another run to compare it with")
    scorers = _scorers(data, wanted)
    runs: list[ComparedRun] = []
    first = 0
    for folder, run in zip(folders, data, strict=True):
        label = labels.get(folder.id, folder.id)
        names = {target: target if count[target] == 1 else f"{label}/{target}" for target in run.targets}
        runs.append(ComparedRun(folder=folder, record=run, names=names, scorers=scorers, first=first))
        first += 0 if paired else runs[-1].size
    return tuple(runs)


def _scorers(data: Sequence[RunRecord], wanted: Sequence[str]) -> frozenset[str]:
    """The scorers to compare: those of the requested metrics, or else those of all runs."""
    every = frozenset(name for run in data for name in run.scorers)
    return frozenset(_scorer_of(text, every) for text in wanted) & every or every


def _scorer_of(text: str, scorers: frozenset[str]) -> str:
    """The scorer or part of a metric: `json/total` of `json/total/v1` if there is one, else `json`."""
    part = "/".join(text.split("/")[:2])
    return part if part in scorers else text.partition("/")[0]


def _check_comparable(runs: Sequence[ComparedRun], *, paired: bool) -> None:
    """Raise SuiteError if two runs do not measure the same."""
    first = runs[0]
    for other in runs[1:]:
        changes = differences(_compared_part(first), _compared_part(other))
        datasets = [run.record.definition()["dataset"] for run in (first, other)]
        if paired and datasets[0]["digest"] != datasets[1]["digest"]:
            changes += differences({"dataset": datasets[0]}, {"dataset": datasets[1]})
        changes += _reducer_changes(first, other)
        if changes:
            lines = "\n".join(f"  {line}" for line in changes)
            only_data = all(line.startswith("dataset") for line in changes)
            hint = "\n--unpaired compares runs of different datasets, with less power" if only_data else ""
            raise SuiteError(
                f"runs {first.folder.id} and {other.folder.id} are not comparable: they measure different things:\n"
                f"{lines}{hint}"
            )


def _compared_part(run: ComparedRun) -> dict[str, Any]:
    return {"scorers": run.record.definition(scorers=run.scorers)["scorers"]}


def _reducer_changes(first: ComparedRun, other: ComparedRun) -> list[str]:
    reducers = [run.record.design.reducers for run in (first, other)]
    epochs = [run.record.epochs for run in (first, other)]
    if reducers[0] != reducers[1]:
        names = [", ".join(reducer.name for reducer in each) for each in reducers]
        return [f"reducers: {names[0]} → {names[1]}"]
    biased = [reducer.name for reducer in reducers[0] if not reducer.unbiased]
    if epochs[0] != epochs[1] and biased:
        return [f"epochs: {epochs[0]} → {epochs[1]}, on which {', '.join(biased)} depends"]
    return []


def _candidates(runs: Sequence[ComparedRun]) -> Iterator[Candidate]:
    """Every target of every run, with its differences from the first one."""
    first: Mapping[str, Any] | None = None
    for run in runs:
        definition = run.record.definition()["targets"]
        asked = run.record.provenance.targets
        for name, target in run.record.targets.items():
            first = definition[name] if first is None else first
            yield Candidate(
                name=run.names[name],
                target=name,
                run=run.folder.id,
                models=tuple(dict.fromkeys(filter(None, [target.model, *target.served_models]))),
                differs=tuple(part_differences(first, definition[name])),
                prompt=asked[name].prompt_name if name in asked else None,
            )


def _judges(runs: Sequence[ComparedRun]) -> dict[str, tuple[str, ...]]:
    """The names of the judge of each scorer."""
    names: dict[str, dict[str, None]] = {}
    for run in runs:
        for scorer, judge in run.record.judges.items():
            if judge.role != "judge":
                continue  # it gives no opinion that could favor its own family
            names.setdefault(scorer, {}).update(dict.fromkeys([judge.name, judge.model, *judge.served_models]))
    return {scorer: tuple(each) for scorer, each in names.items()}


def _notes(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for run in runs:
        record = run.record
        if record.status != "finished":
            rows = "some" if record.rows is None else f"{record.rows:,}"
            yield f"run {run.folder.id} did not finish: it has {rows} of {record.rows_planned:,} rows"
        elif record.decided is not None:
            rows = f"{record.decided.rows:,} of {record.decided.rows_planned:,}"
            yield f"run {run.folder.id} stopped when its gates were decided, after {rows} rows"
    if len(epochs := {run.record.epochs for run in runs}) > 1:
        yield f"the runs have {' and '.join(map(str, sorted(epochs)))} epochs; scores are reduced first"
    groups = {(run.record.cluster, run.record.slices) for run in runs}
    if len(groups) > 1:
        yield f"the runs group their samples differently; the groups of {runs[0].folder.id} are used"
