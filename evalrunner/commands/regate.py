"""Reevaluate the gates of a stored run offline: those of its suite file, or those the run was started with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
from evalrunner.engine.dataset_check import ColumnCheck
from evalrunner.engine.label_assembly import label_matcher, stored_labels
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.gates.build import GateBuilder, SampleKeyIndex, reject_incompatible
from evalrunner.gates.check import BaselineContext, check_gates, run_verdict
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import CandidateRun
from evalrunner.gates.sequential import SequentialContext
from evalrunner.labels.match import LabelMatcher
from evalrunner.reports.gate_report import GateReport
from evalrunner.runs.folder import RUN_FILE, RunFolder, find_run
from evalrunner.runs.record import LookRecord, RunRecord, add_look, first_look
from evalrunner.runs.row_log import read_rows
from evalrunner.stats.summary import Design, Measure, Summary, builtin_measures, summarize
from evalrunner.suite.environment import suite_environment
from evalrunner.suite.gates import read_gates
from evalrunner.suite.loader import open_suite
from evalrunner.suite.matrix import target_items
from evalrunner.suite.options import RunOptions, with_trust_of
from evalrunner.suite.schema import GateSpec
from evalrunner.suite.sections import read_address
from evalrunner.suite.untrusted import check_location, refuse_baselines, restrictions_of
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import Document


def reevaluate_gates(
    folder: RunFolder,
    *,
    runs: Path,
    suite_file: Path | None = None,
    baseline: str | None = None,
    options: RunOptions | None = None,
) -> GateReport:
    """The gate results of a stored run. Raises SuiteError if a gate does not fit the run or its baseline.

    `baseline` (a name, a path or a run) replaces that of every gate that has one. Of the options, `settings` and those of
    `.env` files have an effect.
    """
    run = RunRecord.load(folder.path)
    _require_whole_suite(run)
    if suite_file is None and options is not None:
        check_location(run.suite_file, options)
    document, gates_of, base = _document(run, suite_file, with_trust_of(run.options, options or RunOptions()))
    reader = SectionReader(document, base)
    data = document.data if isinstance(document.data, Mapping) else {}
    specs = read_gates(reader, data)
    restrictions = document.restrictions if baseline is None else None
    if restrictions is not None:
        refuse_baselines(specs, document, restrictions, base)
    specs = _with_baseline(specs, baseline)
    document.excluded_targets.update(target_items(data).keys() - set(run.targets))
    labels = stored_labels(run, data.get("scorers"), base, document.restrictions)
    measures = [dataclasses.replace(measure, labeled=measure.name in labels) for measure in run.measures]
    design = _design(run, data)
    builder = GateBuilder(
        document,
        [*measures, *builtin_measures(streaming=run.streaming)],
        targets=list(run.targets),
        design=design,
        epochs=run.epochs,
        stop_early=_stops_early(data),
    )
    gates = builder.build(specs)
    addresses = _tracker_addresses(run, reader, data, specs)
    document.raise_problems()
    resolver = _CommandLineResolver(
        base, run.suite, runs, baseline, addresses=addresses, candidate=RunRef.of(run), restrictions=restrictions
    )
    baselines = resolve_baselines(document, [gate.spec for gate in gates], resolver)
    reject_incompatible(document, gates, baselines, run.provenance)
    document.raise_problems()
    summary, keys = _summarize_rows(folder, run, document, data, measures, design, label_matcher(labels))
    candidate = CandidateRun(run.provenance, keys.keys, limited=run.dataset.limit == run.dataset.rows)
    context = BaselineContext(candidate, baselines, random_order=run.dataset.shuffle is not None)
    return _report(folder, run, gates_of, _check(folder, run, gates, summary, context))


def _require_whole_suite(run: RunRecord) -> None:
    if run.dataset.shard is not None:
        raise SuiteError(f"run {run.run_id} {run.part}")
    if run.failed_from is not None:
        raise SuiteError(
            f"run {run.run_id} has only the samples that failed in run {run.failed_from}, on which gates say nothing; "
            "check the gates of a run of the whole suite"
        )


def _summarize_rows(
    folder: RunFolder,
    run: RunRecord,
    document: Document,
    data: Mapping[str, Any],
    measures: Sequence[Measure],
    design: Design,
    labels: LabelMatcher | None,
) -> tuple[Summary, SampleKeyIndex]:
    """The metrics of the run's rows, and their keys. Raises SuiteError for slices that the rows cannot have."""
    keys, check = SampleKeyIndex(), _check_of_new_slices(run, data)
    columns: dict[str, None] = {}
    rows = _indexed(read_rows(folder.path), keys, check, columns)
    summary = summarize(
        rows, measures, list(run.targets), epochs=run.epochs, streaming=run.streaming, design=design,
        samples=run.dataset.rows, labels=labels,
    )  # fmt: skip
    check.report(document, tuple(columns))
    document.raise_problems()
    return summary, keys


def _check(
    folder: RunFolder, run: RunRecord, gates: Sequence[Gate], summary: Summary, context: BaselineContext
) -> tuple[GateResult, ...]:
    """The verdicts; a verdict on more data than the last one is counted in the record of the run."""
    summary.decided = run.decided is not None
    look = _look(run)
    units = {} if run.decided is None else run.decided.units
    sequential = SequentialContext(units=units, first_look=first_look(run.looks, look))
    results = check_gates(gates, summary, dataclasses.replace(context, sequential=sequential))
    if gates and (looks := add_look(run.looks, look)) != run.looks:
        dataclasses.replace(run, looks=looks).write(folder.path)
    return results


def _stops_early(data: Mapping[str, Any]) -> bool:
    section = data.get("run")
    return isinstance(section, Mapping) and section.get("stop_early") is True


def _look(run: RunRecord) -> LookRecord | None:
    """The look at the data of a run that a verdict now is; None where it did not finish."""
    if run.status != "finished" or run.rows is None:
        return None
    samples = run.rows // (len(run.targets) * run.epochs)
    return LookRecord(samples=samples, epochs=run.epochs, at=datetime.now(UTC))


def _document(run: RunRecord, suite_file: Path | None, options: RunOptions) -> tuple[Document, str, Path]:
    """The document with the gates, its description, and the folder of its relative paths."""
    file = suite_file if suite_file is not None else run.suite_file
    if suite_file is not None or file.is_file():
        return open_suite(file, options), f"{file}", file.parent
    if options.settings:
        raise SuiteError(f"--set changes a suite file, and {str(file)!r} was not found; name one: --suite FILE")
    environ, restrictions = suite_environment(file.parent, options), restrictions_of(file, options)
    document = Document(RUN_FILE, dict(run.resolved), environ=environ, restrictions=restrictions)
    return document, f"the run, because {str(file)!r} was not found", file.parent


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
class _CommandLineResolver(BaselineResolver):
    """Resolves the baseline of the command line also as a path from the working folder, or as a run."""

    named: str | None = None

    def resolve(self, reference: str) -> Any:
        if reference != self.named:
            return BaselineResolver.resolve(self, reference)
        path = Path(reference)
        baseline = BaselineResolver.resolve(self, str(path.absolute()) if path.exists() else reference)
        if baseline is None:
            try:
                return baseline_of_run(find_run(reference, self.runs))
            except RunNotFoundError:
                raise RunNotFoundError(
                    f"--baseline {reference!r} not found: neither a baseline of this suite, nor a file, nor a run"
                ) from None
        return baseline


def _tracker_addresses(
    run: RunRecord, reader: SectionReader, data: Mapping[str, Any], specs: Sequence[GateSpec]
) -> dict[str, str | None]:
    """The address of each tracker that a gate names: that of the option of the run, or else of the suite."""
    given = run.options
    names = {scheme_of(spec.baseline) for spec in specs if spec.baseline and baseline_source(spec.baseline) is not None}
    section = data.get("tracking") if reader.document.restrictions is None else None
    return {name: given.get(name) or read_address(reader, section, name) for name in names}


def _design(run: RunRecord, data: Mapping[str, Any]) -> Design:
    """The design of the run, with the slices that the suite file has added."""
    stored = run.design
    return dataclasses.replace(stored, slices=tuple(dict.fromkeys([*stored.slices, *_slices(data)])))


def _slices(data: Mapping[str, Any]) -> list[str]:
    given = data.get("slices")
    return [column for column in given if isinstance(column, str)] if isinstance(given, list) else []


def _check_of_new_slices(run: RunRecord, data: Mapping[str, Any]) -> ColumnCheck:
    """A check of the slices that the suite file has added; those of the run were checked when it started."""
    check, known = ColumnCheck(Design(slices=tuple(_slices(data)))), run.design.slices
    check.groups = [each for each in check.groups if each[1].column not in known]
    return check


def _indexed(rows: Iterator[Row], keys: SampleKeyIndex, check: ColumnCheck, columns: dict[str, None]) -> Iterator[Row]:
    """The rows; meanwhile their samples are indexed and the columns for new slices collected."""
    for row in rows:
        keys.add(row.sample)
        if check.groups:
            check.add(row.sample)
            columns.update(dict.fromkeys(row.sample.metadata))
        yield row


def _report(folder: RunFolder, run: RunRecord, gates_of: str, results: tuple[GateResult, ...]) -> GateReport:
    stopped = None if run.status == "finished" else run.stopped or f"the run was {run.status}"
    verdict, code = run_verdict(results, unfinished=stopped is not None)
    return GateReport(folder, run.suite, gates_of, results, verdict, code, stopped)
