"""Resolves the `baseline:` of a gate: a name beside the suite file, a path, an earlier run, or another system."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from evalrunner.baselines.file import Baseline, BaselineHead, RunRef, baseline_path, collect_rows, read_baseline
from evalrunner.domain import EMPTY
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.plugins import known_names, load
from evalrunner.runs.folder import RUN_FILE, RUN_ID, RunFolder, find_run
from evalrunner.runs.record import RunRecord
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.schema import GateSpec
from evalrunner.suite.untrusted import Restrictions
from evalrunner.suite.yaml import Document

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RUN = "run:"
SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9_-]+):(?P<rest>.*)", re.DOTALL)


class BadBaselineReference(ValueError):
    """A `baseline:` that is not a name, a path or a run. The message lists the forms."""


class BaselineSource(Protocol):
    """Finds baselines of other systems. Registered in the plug-in group `baseline_sources` under its scheme.

    `forms` are the references that it takes, such as `mlflow:run/ID`, for messages. `how_to_add` tells the user how a
    run gets there.
    """

    forms: Sequence[str]
    how_to_add: str

    def accepts(self, reference: str) -> bool:
        """Whether a reference with its scheme has one of the forms."""

    def find(self, reference: str, suite: str, address: str | None, candidate: RunRef | None) -> Baseline | None:
        """The baseline, or None if no run has passed yet. Raises RunNotFoundError and SuiteError.

        `address` is that of the tracker in the suite, None if the suite gives none. `candidate` is the run
        that is compared, if it is stored already: a baseline is older.
        """


def baseline_source(reference: str) -> BaselineSource | None:
    """The source of another system that a reference names by its scheme, or None."""
    match = SCHEME.fullmatch(reference)
    if match is None or match["scheme"] not in known_names("baseline_sources"):
        return None
    source: BaselineSource = load("baseline_sources", match["scheme"])
    return source


def scheme_of(reference: str) -> str:
    """The scheme before the colon of a reference, such as `run`; empty if it has none."""
    match = SCHEME.fullmatch(reference)
    return match["scheme"] if match is not None else ""


@dataclass(frozen=True, slots=True)
class BaselineResolver:
    """Resolves references to baselines: beside the suite file, in the runs folder, or in another system.

    `addresses` are those of the suite's trackers. `candidate` is the run that is compared, if it is stored already.
    `restrictions` are those of an untrusted suite.
    """

    folder: Path
    suite: str
    runs: Path
    addresses: Mapping[str, str | None] = field(default=EMPTY, kw_only=True)
    candidate: RunRef | None = field(default=None, kw_only=True)
    restrictions: Restrictions | None = field(default=None, kw_only=True)

    def resolve(self, reference: str) -> Baseline | None:
        """The baseline, or None if there is none yet. Raises BadBaselineReference, RunNotFoundError and SuiteError."""
        if reference.startswith(RUN):
            return baseline_of_run(find_run(reference.removeprefix(RUN).strip(), self.runs))
        source = baseline_source(reference)
        if source is not None and source.accepts(reference):
            return source.find(reference, self.suite, self.addresses.get(scheme_of(reference)), self.candidate)
        if is_path(reference) and source is None:
            path = self.folder / reference
            if self.restrictions is None and (path / RUN_FILE).is_file():
                return baseline_of_run(RunFolder(path))
            return self._read(path, reference)
        if not NAME.fullmatch(reference):
            forms = ["a name such as main", "a path to a .jsonl file", "run:RUN", *_external_forms()]
            listed = f"{', '.join(forms[:-1])} or {forms[-1]}"
            raise BadBaselineReference(f"{reference!r} is not a baseline reference; use {listed}")
        baseline = self._read(baseline_path(self.folder, self.suite, reference), reference)
        if baseline is None and RUN_ID.fullmatch(reference):
            return baseline_of_run(find_run(reference, self.runs))
        return baseline

    def _read(self, path: Path, label: str) -> Baseline | None:
        if self.restrictions is not None and (refusal := self.restrictions.file_refusal(path)) is not None:
            raise BadBaselineReference(f"the file of {label!r} {refusal}, which --untrusted refuses")
        try:
            return read_baseline(path, label=label)
        except FileNotFoundError:
            return None


def _external_forms() -> Iterator[str]:
    for name in known_names("baseline_sources"):
        yield from load("baseline_sources", name).forms


def missing_reason(reference: str, baseline: Baseline | None, target: str, partner: str | None, scorer: str) -> str:
    """Why there is nothing to compare with yet: no baseline, or one without this target or this scorer."""
    if baseline is None and baseline_source(reference) is not None:
        return f"{reference!r} has no passing run of this suite yet"
    if baseline is None:
        return f"no file {reference!r} beside the suite yet" if is_path(reference) else f"no baseline {reference!r} yet"
    if partner is None:
        return f"baseline {reference!r} has no target {target!r} yet (it has {', '.join(baseline.targets)})"
    return f"baseline {reference!r} has no scorer {scorer!r} yet"


def how_to_create(reference: str) -> str:
    """The command that creates the baseline of a reference."""
    if (source := baseline_source(reference)) is not None:
        return source.how_to_add
    if NAME.fullmatch(reference) and not is_path(reference):
        name = f" last --name {reference}" if reference != "main" else ""
        return f"create it from a good run: evalrun baseline accept{name}"
    return "'evalrun baseline accept' creates the baseline with the name main"


def resolve_baselines(document: Document, specs: Sequence[GateSpec], resolver: BaselineResolver) -> dict[str, Baseline]:
    """The baselines that gates name, by that name, as far as they exist. References that are wrong are reported."""
    baselines: dict[str, Baseline] = {}
    seen: set[str] = set()
    for spec in specs:
        name = spec.baseline
        if name is None or name in seen:
            continue
        seen.add(name)
        try:
            baseline = resolver.resolve(name)
        except (BadBaselineReference, RunNotFoundError) as wrong:
            document.problem((*spec.key_path, "baseline"), str(wrong))
        except SuiteError as broken:
            document.problems.extend(broken.problems)
        except OSError as refused:
            document.problem((*spec.key_path, "baseline"), f"{name!r} cannot be read: {refused.strerror or refused}")
        else:
            if baseline is not None:
                baselines[name] = baseline
    return baselines


def is_path(reference: str) -> bool:
    """Whether a reference is the path of a file or a run folder, not a name."""
    return not reference.startswith(RUN) and ("/" in reference or reference.endswith(".jsonl"))


def baseline_of_run(folder: RunFolder) -> Baseline:
    """A stored run as a baseline. Raises RunNotFoundError if the run is broken or has no rows."""
    run = RunRecord.load(folder.path)
    if run.part is not None:
        raise RunNotFoundError(f"run {folder.id} is no baseline: it {run.part}")
    rows = collect_rows(read_rows(folder.path), epochs=run.epochs, slices=run.design.slices)
    if not rows:
        raise RunNotFoundError(f"run {folder.id} has no rows")
    provenance = run.provenance
    if run.decided is not None:  # the samples after the decision are not missing
        provenance = replace(provenance, dataset=replace(provenance.dataset, rows=len({id_ for _, id_ in rows})))
    return Baseline(BaselineHead(folder.id, folder.id, run.finished_at, provenance), folder.id, rows)
