"""Score stored answers again: those of a run, or of a baseline with outputs.

This is a run of its own that calls no target; judges are called as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from evalrunner.baselines.file import Baseline, BaselineRow, RunRef, read_baseline
from evalrunner.domain import Completion, Failure, Sample
from evalrunner.engine.plan import StoredAnswers, StoredSamples
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.runs.folder import RunFolder, find_run
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.targets.recorded import RecordedRun, without_call_cost


def load_answers(reference: str, runs: Path) -> StoredAnswers:
    """The answers of a run or of a baseline file. Raises RunNotFoundError and SuiteError."""
    if reference.endswith(".jsonl") and Path(reference).is_file():
        return _of_baseline(read_baseline(Path(reference), label=reference))
    return _of_run(find_run(reference, runs))


def _of_run(folder: RunFolder) -> StoredAnswers:
    run = RunRecord.load(folder.path)
    samples: dict[str, Sample] = {}
    answers: dict[str, dict[tuple[str, int], Completion | Failure]] = {}
    for row in read_rows(folder.path):
        samples.setdefault(row.sample.id, row.sample)
        answers.setdefault(row.target, {})[row.sample.id, row.epoch] = without_call_cost(row)
    if not answers:
        raise RunNotFoundError(f"run {folder.id} has no rows")
    return StoredAnswers(
        str(folder.path),
        folder.id,
        run.suite_file,
        run.epochs,
        StoredSamples(samples.values(), run.dataset.digest),
        {name: RecordedRun(answers[name], folder.id) for name in run.targets if name in answers},
        run.provenance,
        RunRef.of(run),
        len(samples) if run.decided is not None else run.dataset.rows,
        run.looks,
        run.options,
    )


def _of_baseline(baseline: Baseline) -> StoredAnswers:
    head = baseline.head
    if not head.outputs:
        raise SuiteError(
            f"baseline {baseline.label!r} has no outputs to score; accept a run with them: "
            "evalrun baseline accept --with-outputs"
        )
    samples: dict[str, Sample] = {}
    answers: dict[str, dict[tuple[str, int], Completion | Failure]] = {}
    for (target, id_), row in baseline.rows.items():
        samples.setdefault(id_, replace(_sample_of(row), index=len(samples)))
        for epoch, answer in enumerate(_answers_of(row), 1):
            answers.setdefault(target, {})[id_, epoch] = answer
    return StoredAnswers(
        baseline.label,
        head.run_id,
        None,
        head.epochs,
        StoredSamples(samples.values(), None),
        {name: RecordedRun(each, head.run_id) for name, each in answers.items()},
        head.provenance,
    )


def _sample_of(row: BaselineRow) -> Sample:
    content = row.content or {}
    return Sample(
        row.key.id, content.get("input"), tuple(content.get("expected", ())), content.get("metadata") or {},
        checks=content.get("checks"),
    )  # fmt: skip


def _answers_of(row: BaselineRow) -> Iterator[Completion | Failure]:
    for output in (row.content or {}).get("outputs", ()):
        if output is None:
            yield Failure("missing", "the run of the baseline has no answer for this sample")
        else:
            yield Completion(output["text"], output["finish_reason"], tool_calls=tuple(output.get("tool_calls", ())))
