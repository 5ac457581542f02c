"""Compare the judges of a stored run with people's labels: agreement by target and slice, biases, labelers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

from evalrunner.domain import Completion, Row
from evalrunner.engine.label_assembly import stored_labels
from evalrunner.errors import SuiteError, nearest
from evalrunner.labels.calibration import Calibration, JudgeCalibration, LabelerAgreement, SliceConfusion
from evalrunner.labels.file import Binding, Label, read_labels
from evalrunner.labels.match import LabelMatcher, ScorerLabels
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.corrected import JudgedTarget, judge_metrics
from evalrunner.stats.judge_agreement import JudgedPairs, auc, best_threshold
from evalrunner.stats.judge_bias import Slope, verbosity_slope
from evalrunner.stats.summary import Summary, summarize


def calibrate(folder: RunFolder, labels: Path | None = None) -> Calibration:
    """The calibration of a run by a labels file, or by those its suite names. Raises SuiteError where there are none."""
    run = RunRecord.load(folder.path)
    sources = _of_file(run, labels) if labels is not None else _of_suite(run)
    matcher, lengths = LabelMatcher(sources), dict[tuple[str, int], int]()
    summary = summarize(
        _measured(read_rows(folder.path), lengths), run.measures, list(run.targets), epochs=run.epochs,
        streaming=run.streaming, design=run.design, samples=run.dataset.rows, labels=matcher,
    )  # fmt: skip
    judges = [
        one
        for name in sources
        for target in run.targets
        if (one := _calibration(summary, name, target, lengths)) is not None
    ]
    between = [pair for name, source in sources.items() for pair in _labelers(name, source.labels)]
    return Calibration(run.run_id, run.suite, tuple(judges), tuple(between), tuple(matcher.notices()))


def _measured(rows: Iterable[Row], lengths: dict[tuple[str, int], int]) -> Iterable[Row]:
    for row in rows:
        if isinstance(row.answer, Completion):
            lengths[row.target, row.sample.index] = len(row.answer.output)
        yield row


def _of_file(run: RunRecord, path: Path) -> dict[str, ScorerLabels]:
    """The labels of a file by scorer: those without one are of the only judge, or of the only scorer."""
    labels = read_labels(path)
    names = list(dict.fromkeys(one.scorer for one in labels))
    judges = list(dict.fromkeys(label.partition(" ")[0] for label in run.judges)) or list(run.scorers)
    if "" in names and len(judges) > 1:
        raise SuiteError(f"{path}: labels without a scorer, and the run has several; add a column 'scorer'")
    for name in names:
        if name and name not in run.scorers:
            line = next(one.line for one in labels if one.scorer == name)
            raise SuiteError(f"{path}:{line}: no scorer {name!r} in run {run.run_id}{nearest(name, run.scorers)}")
    chosen = list(dict.fromkeys(name or judges[0] for name in names))
    return {name: ScorerLabels(str(path), Binding.of(run.provenance, name), labels) for name in chosen}


def _of_suite(run: RunRecord) -> dict[str, ScorerLabels]:
    """The labels that the suite of a run names."""
    sources = stored_labels(run, run.resolved.get("scorers"), run.suite_file.parent)
    if not sources:
        raise SuiteError(
            f"no scorer of run {run.run_id} has labels; name a file: evalrun calibrate RUN --labels labels.csv, or add "
            "`labels: labels.csv` to the scorer"
        )
    return sources


def _calibration(
    summary: Summary, name: str, target: str, lengths: Mapping[tuple[str, int], int]
) -> JudgeCalibration | None:
    measure = summary.measure(name)
    judged = summary.judged(target, measure)
    if judged is None or not judged.rows.labeled:
        return None
    rows, places = judged.rows, judged.rows.labeled
    errors = [rows.verdicts[place] - (rows.labels[place] or 0.0) for place in places]
    length = verbosity_slope(errors, [lengths.get((target, judged.positions[place]), 0) for place in places])
    graded = not {*rows.verdicts} <= {0.0, 1.0}
    scores = [rows.verdicts[place] for place in places]
    goods = list(judged.pairs().labels)[: len(places)]
    parts = [SliceConfusion(None, judged.pairs().counts(), judged.pairs().agreement())]
    for column, groups in summary.slices.items():
        for code, text in sorted(enumerate(groups.texts), key=lambda each: each[1]):
            pairs = judged.in_group(groups.codes, code).pairs()
            parts.append(SliceConfusion({column: text}, pairs.counts(), pairs.agreement()))
    return JudgeCalibration(
        name, target, tuple(judge_metrics(name, measure.declaration, judged)), sum(rows.verdicts) / len(rows.verdicts),
        tuple(parts), length, auc(scores, goods) if graded else None, best_threshold(scores, goods) if graded else None,
        tuple(_warnings(judged, length)),
    )  # fmt: skip


def _warnings(judged: JudgedTarget, length: Slope | None) -> Iterable[str]:
    """What a judge does instead of judging."""
    verdicts, pairs = judged.rows.verdicts, judged.pairs()
    yes = sum(verdict >= 1 for verdict in verdicts)
    if yes == len(verdicts):
        yield f"the judge always says yes ({yes:,} of {len(verdicts):,})"
    elif not any(verdicts):
        yield f"the judge always says no ({len(verdicts):,} of {len(verdicts):,})"
    else:
        kappa = pairs.kappa()
        if kappa.value is not None and kappa.low is not None and kappa.low <= 0:
            yield f"the judge agrees with people no better than a coin: κ {kappa.value:.2f}, at least {kappa.low:.2f} (95%)"
    if length is not None and length.low > 0:
        yield (
            f"the judge prefers long answers: {100 * length.value:+.1f} points per doubling of the length "
            f"({100 * length.low:.1f} to {100 * length.high:.1f}), beyond what people say"
        )


def _labelers(name: str, labels: Iterable[Label]) -> Iterable[LabelerAgreement]:
    """Each two labelers with an answer in common."""
    by_person: dict[str, dict[tuple[str, str, int | None, str], float]] = {}
    for one in labels:
        if one.scorer in ("", name) and one.labeler:
            by_person.setdefault(one.labeler, {})[one.id, one.target, one.epoch, one.answer] = one.label
    for first, second in combinations(sorted(by_person), 2):
        shared = [key for key in by_person[first] if key in by_person[second]]
        if shared:
            sides = [[int(by_person[person][key] >= 0.5) for key in shared] for person in (first, second)]
            pairs = JudgedPairs(sides[0], sides[1])
            yield LabelerAgreement(name, first, second, pairs.agreement(), pairs.kappa())
