"""A stored run judged again, offline, from its folder alone: by the gates of its suite as that is now, or as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import RunRef
from evalrunner.baselines.resolve import (
    BaselineResolver,
    baseline_of_run,
    baseline_source,
    resolve_baselines,
    scheme_of,
)
from evalrunner.domain import GateResult, Row
from evalrunner.engine.design import ColumnCheck
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.gates.build import GateBuilder, SampleKeyIndex, reject_incompatible
from evalrunner.gates.check import BaselineContext, check_gates, run_verdict
from evalrunner.gates.regression import CandidateRun
from evalrunner.reports.terminal import GateReport
from evalrunner.runs.folder import RUN_FILE, RunFolder, find_run
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.measures import builtin_measures
from evalrunner.stats.summary import Design, summarize
from evalrunner.suite.gates import read_gates
from evalrunner.suite.loader import open_suite, target_name
from evalrunner.suite.options import RunOptions
from evalrunner.suite.schema import GateSpec
from evalrunner.suite.sections import read_address
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import Document


def reevaluate_gates(
    folder: RunFolder,
    *,
    runs: Path,
    suite_file: Path | None = None,
    baseline: str | None = None,
    settings: Sequence[str] = (),
) -> GateReport:
    """The verdicts on a stored run. Raises SuiteError where a gate cannot be about it, or its baseline not be compared.

    `baseline` (a name, a path or a run) stands in for that of every gate that has one.
    """
    run = RunRecord.load(folder.path)
    document, gates_of, base = _document(run, suite_file, tuple(settings))
    reader = SectionReader(document, base)
    data = document.data if isinstance(document.data, Mapping) else {}
    specs = _with_baseline(read_gates(reader, data), baseline)
    document.left_out.update(_named(data) - set(run.targets))
    streaming = run.streaming
    measures, design = run.measures, _design(run, data)
    builder = GateBuilder(
        document,
        [*measures, *builtin_measures(streaming=streaming)],
        targets=list(run.targets),
        design=design,
        epochs=run.epochs,
    )
    gates = builder.build(specs)
    addresses = _tracker_addresses(run, reader, data, specs)
    document.raise_problems()
    resolver = _NamedResolver(base, run.suite, runs, baseline, addresses=addresses, candidate=RunRef.of(run))
    baselines = resolve_baselines(document, [gate.spec for gate in gates], resolver)
    provenance = run.provenance
    reject_incompatible(document, gates, baselines, provenance)
    document.raise_problems()
    sample_keys, check = SampleKeyIndex(), _check_of_new(run, data)
    columns: dict[str, None] = {}
    summary = summarize(
        _noting(read_rows(folder.path), sample_keys, check, columns), measures, list(run.targets), epochs=run.epochs,
        streaming=streaming, design=design,
    )  # fmt: skip
    check.report(document, tuple(columns))
    document.raise_problems()
    results = check_gates(gates, summary, BaselineContext(CandidateRun(provenance, sample_keys.keys), baselines))
    return _judged(folder, run, gates_of, results)


def _document(
    run: RunRecord, suite_file: Path | None, settings: tuple[str, ...]
) -> tuple[Document, str, Path]:  # fmt: skip
    """The document with the gates, whose they are, and the folder that its paths are relative to."""
    file = suite_file if suite_file is not None else run.suite_file
    if suite_file is not None or file.is_file():
        return open_suite(file, RunOptions(settings=settings)), f"{file} as it is now", file.parent
    if settings:
        raise SuiteError(f"--set changes a suite file, and {str(file)!r} is not here; name one: --suite FILE")
    return Document(RUN_FILE, dict(run.resolved)), f"the run itself, as {str(file)!r} is not here", file.parent


def _with_baseline(specs: Sequence[GateSpec], baseline: str | None) -> tuple[GateSpec, ...]:
    if baseline is None:
        return tuple(specs)
    if not any(spec.baseline for spec in specs):
        raise SuiteError(
            "--baseline: no gate has a baseline; add one, such as {metric: exact_match, baseline: main, max_drop: 0.02}"
        )
    return tuple(
        dataclasses.replace(spec, baseline=baseline, text=spec.text.replace(f" than {spec.baseline}", f" than {baseline}"))
        if spec.baseline
        else spec
        for spec in specs
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _NamedResolver(BaselineResolver):
    """A resolver that also takes the reference of the command line as a path from the working folder, or as a run."""

    named: str | None = None

    def resolve(self, reference: str) -> Any:
        if reference != self.named:
            return BaselineResolver.resolve(self, reference)
        path = Path(reference)
        found = BaselineResolver.resolve(self, str(path.absolute()) if path.exists() else reference)
        if found is None:
            try:
                return baseline_of_run(find_run(reference, self.runs))
            except RunNotFoundError:
                raise RunNotFoundError(
                    f"--baseline {reference!r} is no baseline of this suite, no file and no run"
                ) from None
        return found


def _tracker_addresses(
    run: RunRecord, reader: SectionReader, data: Mapping[str, Any], specs: Sequence[GateSpec]
) -> dict[str, str | None]:
    """The address of each tracker that a gate has its baseline in: as an option of the run or else the suite says."""
    given = run.options
    names = {scheme_of(spec.baseline) for spec in specs if spec.baseline and baseline_source(spec.baseline) is not None}
    return {name: given.get(name) or read_address(reader, data.get("tracking"), name) for name in names}


def _named(data: Mapping[str, Any]) -> set[str]:
    """The targets that a suite names."""
    items = data["targets"] if isinstance(data.get("targets"), list) else [data.get("target")]
    return {name for item in items if (name := target_name(item)) is not None}


def _design(run: RunRecord, data: Mapping[str, Any]) -> Design:
    """The design of the run, with the slices that the suite has by now."""
    stored = run.design
    return dataclasses.replace(stored, slices=tuple(dict.fromkeys([*stored.slices, *_slices(data)])))


def _slices(data: Mapping[str, Any]) -> list[str]:
    given = data.get("slices")
    return [column for column in given if isinstance(column, str)] if isinstance(given, list) else []


def _check_of_new(run: RunRecord, data: Mapping[str, Any]) -> ColumnCheck:
    """A check of the slices that the suite has by now and the run had not: its own were checked when it was provenance."""
    check, known = ColumnCheck(Design(slices=tuple(_slices(data)))), run.design.slices
    check.groups = [each for each in check.groups if each[1].column not in known]
    return check


def _noting(
    rows: Iterator[Row], sample_keys: SampleKeyIndex, check: ColumnCheck, columns: dict[str, None]
) -> Iterator[Row]:
    """The rows, while their samples are noted, with the columns that new slices may be of."""
    for row in rows:
        sample_keys.add(row.sample)
        if check.groups:
            check.add(row.sample)
            columns.update(dict.fromkeys(row.sample.metadata))
        yield row


def _judged(folder: RunFolder, run: RunRecord, gates_of: str, results: tuple[GateResult, ...]) -> GateReport:
    stopped = None if run.status == "finished" else run.stopped or f"the run was {run.status}"
    verdict, code = run_verdict(results, unfinished=stopped is not None)
    return GateReport(folder, run.suite, gates_of, results, verdict, code, stopped)
