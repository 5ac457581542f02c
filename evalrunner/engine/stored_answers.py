"""Answers that were given before, with the samples they were given to: of a stored run, or of a baseline with outputs.

What runs over them is a run of its own that calls no target; judges are asked as usual.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import Baseline, BaselineRow, read_baseline
from evalrunner.baselines.resolve import provenance_of_run
from evalrunner.baselines.run_ref import RunRef
from evalrunner.datasets.identity import digest_line
from evalrunner.datasets.source import Scan
from evalrunner.domain import Completion, Failure, Sample
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.runs.folder import RUN_FILE, RunFolder, find_run, read_json
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.yaml import Document
from evalrunner.targets.recorded import RecordedRun, uncalled


class StoredSamples:
    """The samples of stored rows, in their order, as a dataset: nothing of the suite's own dataset is read."""

    spooled: Path | None = None
    origin: Mapping[str, str] | None = None

    def __init__(self, samples: Iterable[Sample], digest: str | None) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.index)
        self.digest = digest

    def scan(self, check: Callable[[Sample], Sequence[str]]) -> Scan:
        """What the samples have; `check` says what is wrong with one. Raises SuiteError with the first that is."""
        columns: dict[str, None] = {}
        found = hashlib.sha256()
        for sample in self.samples:
            columns.update(dict.fromkeys(str(name) for name in sample.metadata))
            found.update(digest_line(sample) + b"\n")
            if wrong := check(sample):
                raise SuiteError(f"sample {sample.id!r}: {wrong[0]}")
        answered = sum(1 for sample in self.samples if sample.expected)
        return Scan(len(self.samples), tuple(columns), self.digest or found.hexdigest(), (), answered)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """What a scoring of stored answers starts from. `provenance` describes the run that produced them.

    `judged` is that run, None where the answers are a baseline's.
    """

    shown: str
    run_id: str
    suite_file: Path | None
    epochs: int
    samples: StoredSamples
    answers: Mapping[str, RecordedRun]
    provenance: Mapping[str, Any]
    judged: RunRef | None = None

    def apply(self, document: Document) -> None:
        """Put the stored targets and epochs into a suite, in place of those it has."""
        data = document.data
        if not isinstance(data, dict):
            return
        data.pop("target", None)
        data["targets"] = [{"type": "recorded", "name": name, "run": self.shown} for name in self.answers]
        if not isinstance(data.get("run"), dict):
            data["run"] = {}
        data["run"]["epochs"] = self.epochs
        for path in (("targets",), ("run", "epochs")):
            document.overridden[path] = self.shown


def find_answers(reference: str, runs: Path) -> StoredAnswers:
    """The answers of a run, or of a baseline's file. Raises RunNotFoundError and SuiteError."""
    if reference.endswith(".jsonl") and Path(reference).is_file():
        return _of_baseline(read_baseline(Path(reference), label=reference))
    return _of_run(find_run(reference, runs))


def _of_run(folder: RunFolder) -> StoredAnswers:
    run = read_json(folder.path / RUN_FILE)
    samples: dict[str, Sample] = {}
    answers: dict[str, dict[tuple[str, int], Completion | Failure]] = {}
    for row in read_rows(folder.path):
        samples.setdefault(row.sample.id, row.sample)
        answers.setdefault(row.target, {})[row.sample.id, row.epoch] = uncalled(row)
    if not answers:
        raise RunNotFoundError(f"run {folder.id} has no rows")
    return StoredAnswers(
        str(folder.path),
        folder.id,
        Path(run["suite_file"]),
        run["epochs"],
        StoredSamples(samples.values(), run["hashes"]["dataset"]),
        {name: RecordedRun(answers[name], folder.id) for name in run["targets"] if name in answers},
        provenance_of_run(run),
        RunRef.of(run),
    )


def _of_baseline(baseline: Baseline) -> StoredAnswers:
    head = baseline.head
    if not head.outputs:
        raise SuiteError(
            f"{baseline.label!r} has no outputs that could be scored again; baselines keep them with "
            "'evalrun baseline accept --with-outputs'"
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
        {name: RecordedRun(found, head.run_id) for name, found in answers.items()},
        head.provenance,
    )


def _sample_of(row: BaselineRow) -> Sample:
    kept = row.kept or {}
    return Sample(row.key.id, kept.get("input"), tuple(kept.get("expected", ())), kept.get("metadata") or {})


def _answers_of(row: BaselineRow) -> Iterator[Completion | Failure]:
    for output in (row.kept or {}).get("outputs", ()):
        if output is None:
            yield Failure("missing", "the run that this is a baseline of had no answer here")
        else:
            yield Completion(output["text"], output["ended"], tool_calls=tuple(output.get("tool_calls", ())))
