"""Builds rows, summaries and baselines for tests of gates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import Baseline, BaselineHead, collect_rows, sample_key
from evalrunner.domain import Cell, Completion, Failure, GateResult, Row, Sample
from evalrunner.gates.build import GateBuilder
from evalrunner.gates.check import BaselineContext, check_gates
from evalrunner.gates.pairing import CandidateRun
from evalrunner.runs.provenance import DatasetProvenance, Provenance, ScorerProvenance, TargetProvenance
from evalrunner.stats.summary import BUILTIN_MEASURES, Design, Measure, summarize
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document

SCORED = "scored"
TARGETS = {"m": TargetProvenance(type="model")}


def cell(value: float | str | None) -> Cell:
    """A number is a score; a text the cause and reason for no score (`server: …`, `no_answer: …`, `judge: …`); None a skip."""
    if value is None:
        return Cell("skipped", reason="no expected answer")
    if isinstance(value, str):
        cause, _, reason = value.partition(": ")
        unscored = cause in ("no_answer", "judge", "judge_check")
        return Cell("unscored" if unscored else "error", reason=reason, cause=cause)  # type: ignore[arg-type]
    return Cell("scored", value)


def provenance_of(measure: Measure, epochs: int) -> Provenance:
    scorer = ScorerProvenance(type=measure.name, range=(0.0, 1.0), aggregates=("mean",), headline="mean")
    dataset = DatasetProvenance(digest="d", rows=1)
    return Provenance(suite="s", dataset=dataset, targets=TARGETS, scorers={measure.name: scorer}, epochs=epochs)


def rows(
    scores: Sequence[float | str | Sequence[float | str | None] | None], name: str, metadata: Sequence[Any] = ()
) -> list[Row]:
    """One row per score, or one per epoch for a sequence."""
    result: list[Row] = []
    for index, several in enumerate(scores):
        each = several if isinstance(several, list | tuple) else [several]
        about = metadata[index] if metadata else {}
        for epoch, value in enumerate(each, 1):
            failed = isinstance(value, str) and not value.startswith(("no_answer", "judge"))
            answer = Failure("server", "500") if failed else Completion("x", latency_s=1.0)
            result.append(Row(Sample(f"s{index}", "q", metadata=about, index=index), "m", epoch, answer, {name: cell(value)}))  # fmt: skip
    return result


def judge(
    gates: str,
    measure: Measure,
    now: Sequence[Row],
    *,
    before: Sequence[Row] | None = None,
    epochs: int = 1,
    epochs_before: int | None = None,
    design: Design | None = None,
) -> list[GateResult]:
    """The verdicts of `gates` of a suite on the rows `now`, against a baseline of the rows `before`."""
    document = parse_document(f"gates: [{gates}]", file="s.yaml")
    specs = read_gates(SectionReader(document, Path()), document.data)
    design = design or Design()
    builder = GateBuilder(document, [measure, *BUILTIN_MEASURES], targets=["m"], design=design, epochs=epochs)
    result = builder.build(specs)
    document.raise_problems()
    summary = summarize(now, [measure], ["m"], epochs=epochs, design=design)
    keys = {row.sample.index: sample_key(row.sample) for row in now}
    provenance = provenance_of(measure, epochs)
    comparison = BaselineContext(CandidateRun(provenance, keys), {})
    if before is not None:
        head = BaselineHead("main", "run-0", None, provenance_of(measure, epochs_before or epochs))
        stored = collect_rows(before, epochs=head.epochs)
        comparison = BaselineContext(CandidateRun(provenance, keys), {"main": Baseline(head, "main", stored)})
    return list(check_gates(result, summary, comparison))
