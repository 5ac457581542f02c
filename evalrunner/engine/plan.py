"""What a suite comes to once its names are callables: all that a run needs, and nothing has been called yet."""

from __future__ import annotations

import hashlib
import json
import sys
from asyncio import Semaphore
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import Baseline, SampleKey
from evalrunner.baselines.run_ref import RunRef
from evalrunner.datasets.columns import digest_line
from evalrunner.datasets.source import SampleSource, Scan
from evalrunner.domain import EMPTY, Cell, Completion, Row, Sample, Target, row_name
from evalrunner.endpoints.factory import EndpointHandle
from evalrunner.endpoints.pricing import KnownPrice, PriceBook, PricedEndpoint, WorstCase, check_cap
from evalrunner.engine.judge import JudgeSession
from evalrunner.errors import Problem, SuiteError
from evalrunner.gates.metric_lookup import Gate
from evalrunner.middleware.budget import Side
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.stack import CallContext, CallTally, MiddlewareStack
from evalrunner.plugins import known_names
from evalrunner.prompts import Prompt
from evalrunner.redact import without_secrets
from evalrunner.runs.provenance import (
    DatasetProvenance,
    JudgeProvenance,
    Provenance,
    ScorerProvenance,
    TargetProvenance,
)
from evalrunner.runs.row_log import FinishedRows, row_at
from evalrunner.scorers.call import BoundScorer
from evalrunner.stats.measures import Measure
from evalrunner.stats.summary import Design
from evalrunner.suite.schema import DatasetSpec, ModelSpec, ScorerSpec, Suite, TargetSpec
from evalrunner.suite.yaml import Document
from evalrunner.targets.recorded import RecordedRun


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target with what it was made of, for the record. `host` is where it sends to, None for nowhere.

    `turns` bounds how many calls of people's own code are under way.
    """

    name: str
    call: Target
    kind: str
    model: str | None = None
    host: str | None = None
    prompt: Prompt | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    calls: CallTally = field(default_factory=CallTally)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    turns: Semaphore | None = None


@dataclass(frozen=True, slots=True)
class PlannedScorer:
    """A scorer with what the suite said of it and the session of the judge it asks, if it asks one."""

    bound: BoundScorer
    spec: ScorerSpec
    judge: JudgeSession | None = None

    @property
    def measure(self) -> Measure:
        return Measure(self.bound.name, self.bound.scorer.declaration)


@dataclass(frozen=True, slots=True)
class Job:
    """One row to make. `stored` is the row of an earlier try whose answer is kept: only `scorers` are called again."""

    sample: Sample
    target: PlannedTarget
    epoch: int
    attempt: int = 1
    stored: Row | None = None
    scorers: frozenset[str] | None = None

    @property
    def row(self) -> str:
        """What the row is called where it asks somebody."""
        return row_name(self.sample.id, self.target.name, self.epoch)


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
    """Answers of a run or a baseline, to score again. `provenance` is that of the run that gave them, `label` its path.

    `judged` is that run, None where the answers are a baseline's.
    """

    label: str
    run_id: str
    suite_file: Path | None
    epochs: int
    samples: StoredSamples
    answers: Mapping[str, RecordedRun]
    provenance: Provenance
    judged: RunRef | None = None

    def apply(self, document: Document) -> None:
        """Put the stored targets and epochs into a suite, in place of those it has."""
        data = document.data
        if not isinstance(data, dict):
            return
        data.pop("target", None)
        data["targets"] = [{"type": "recorded", "name": name, "run": self.label} for name in self.answers]
        if not isinstance(data.get("run"), dict):
            data["run"] = {}
        data["run"]["epochs"] = self.epochs
        for path in (("targets",), ("run", "epochs")):
            document.overridden[path] = self.label


@dataclass(frozen=True, slots=True)
class Plan:
    """A suite, assembled and scanned. `rows` is how many rows the run will have, `calls` what its endpoints share.

    `earlier` is how many of the rows are there from before, where the run goes on. `models` are those it asks, and `prices` is filled in with what they cost before the first call.
    `baselines` are those that its gates name and that are there; `keys` tell the samples by their place, where there
    are such. `stored` is what the answers come from where no target is asked.
    """

    suite: Suite
    dataset: SampleSource | StoredSamples
    scan: Scan
    targets: tuple[PlannedTarget, ...]
    scorers: tuple[PlannedScorer, ...]
    gates: tuple[Gate, ...]
    calls: MiddlewareStack
    models: tuple[PlannedModel, ...] = ()
    earlier: int = 0
    prices: Mapping[tuple[Side, str], KnownPrice] = field(default_factory=dict)
    design: Design = Design()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    keys: Mapping[int, SampleKey] = field(default_factory=dict)
    stored: StoredAnswers | None = None

    @property
    def rows(self) -> int:
        return self.scan.count * len(self.targets) * self.suite.run.epochs

    @property
    def measures(self) -> tuple[Measure, ...]:
        return tuple(scorer.measure for scorer in self.scorers)

    def jobs(self) -> Iterator[Job]:
        """Every call to make, lazily, the targets interleaved so that a slow hour hits them all alike."""
        for sample in self.dataset:
            for epoch in range(1, self.suite.run.epochs + 1):
                for target in self.targets:
                    yield Job(sample, target, epoch)


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model that a plan asks: for the target of that name, or for the scorer of that name as its judge.

    `say` makes a problem of a sentence, at the model's place in the suite.
    """

    name: str
    context: CallContext
    spec: ModelSpec
    opened: EndpointHandle
    params: Mapping[str, Any]
    say: Callable[[str], Problem]

    @property
    def is_judge(self) -> bool:
        return self.context.side == "judges"


async def find_prices(
    suite: Suite, models: tuple[PlannedModel, ...], *, ask_servers: bool
) -> dict[tuple[Side, str], KnownPrice]:
    """The price of each model by its side and name, put on its answers as well.

    With `ask_servers` the server of a model is asked where only that can know. Raises SuiteError where a cap is set
    that cannot hold: a price that nobody knows, or answers without end.
    """
    book, found, problems = PriceBook(suite.prices), {}, []
    for model in models:
        known = await book.find(model.spec, model.opened) if ask_servers else book.look_up(model.spec, model.opened)
        found[model.context.side, model.name] = known
        if known.price is not None:
            model.context.price = partial(_priced, known)
            model.context.worst_case = WorstCase(known.price)
        if suite.run.max_cost is None:
            continue
        said = check_cap(model.spec.model, known.price, model.params, judge=model.is_judge)
        if said is not None:
            problems.append(model.say(said))
    if problems:
        raise SuiteError(problems)
    return found


def _priced(known: KnownPrice, endpoint: Any) -> PricedEndpoint:
    return PricedEndpoint(endpoint, known)


def add_spent(row: Row, spent: dict[Side, float]) -> None:
    """Count in what a row of the row log had cost."""
    if isinstance(row.answer, Completion):
        spent["targets"] += row.answer.cost_usd or 0.0
    spent["judges"] += sum(call.cost_usd or 0.0 for cell in row.cells.values() for call in cell.calls)


def provenance_of_plan(plan: Plan) -> Provenance:
    """What was planned. Custom code goes by the sha256 of the file that is named; what that file imports is not read."""
    suite = plan.suite
    specs = {spec.name: spec for spec in suite.targets}
    return Provenance(
        suite=suite.name,
        dataset=DatasetProvenance(digest=plan.scan.digest, rows=plan.scan.count, **_selection(suite.dataset)),
        targets={target.name: _target(target, specs[target.name], suite.folder) for target in plan.targets},
        scorers={scorer.bound.name: _scorer(scorer, suite.folder) for scorer in plan.scorers},
        judges={scorer.bound.name: _judge(scorer.judge) for scorer in plan.scorers if scorer.judge is not None},
        seed=suite.run.seed,
        epochs=suite.run.epochs,
    )


def tested_provenance(plan: Plan) -> Provenance:
    """What a baseline is compared with: where stored answers are scored, the targets that gave them."""
    provenance = provenance_of_plan(plan)
    return provenance if plan.stored is None else replace(provenance, targets=plan.stored.provenance.targets)


def plain(data: Any) -> Any:
    """Data as it is read back from JSON, without secrets."""
    return without_secrets(json.loads(json.dumps(data, default=str)))


def _selection(spec: DatasetSpec) -> dict[str, Any]:
    columns = {
        item.name: {"column": column.column, **({"split": column.split} if column.split is not None else {})}
        for item in fields(spec.columns)
        if (column := getattr(spec.columns, item.name)) is not None
    }
    return {"columns": columns, "where": plain(dict(spec.where)), "shuffle": spec.shuffle, "limit": spec.limit}


def _target(target: PlannedTarget, spec: TargetSpec, folder: Path) -> TargetProvenance:
    served_models = tuple(sorted(target.calls.usage.served_models))
    if spec.type is None:
        return TargetProvenance(
            type=target.kind,
            model=target.model,
            host=target.host,
            params=plain(dict(target.params)),
            prompt=None if target.prompt is None else _templates(target.prompt.parts),
            prompt_digest=None if target.prompt is None else target.prompt.digest,
            served_models=served_models,
        )
    options = dict(spec.options)
    if isinstance(target.call, RecordedRun):
        options["run"] = target.call.run  # `last` would be another run when this one is resumed
    return TargetProvenance(
        type=spec.type,
        model=target.model,  # the version that an alias meant
        host=target.host,
        params=plain(dict(target.params)),
        options=plain(options),
        args=plain(dict(spec.args)),
        files=_files([spec.type, *_texts(spec.options)], folder),
        served_models=served_models,
    )


def _templates(parts: tuple[tuple[str, str], ...] | None) -> tuple[Mapping[str, str], ...] | None:
    """A mapping of role to text for each message; None where samples are sent as they are."""
    return None if parts is None else tuple(plain([{role: template} for role, template in parts]))


def _scorer(scorer: PlannedScorer, folder: Path) -> ScorerProvenance:
    spec, declaration = scorer.spec, scorer.bound.scorer.declaration
    reference = spec.type if ":" in spec.type else known_names("scorers").get(spec.type, spec.type)
    custom = [] if reference.startswith("evalrunner.") else [reference]  # built-in ones have a version
    return ScorerProvenance(
        type=spec.type,
        options=plain(dict(spec.options)),
        args=plain(dict(spec.args)),
        files=_files([*custom, *_texts(spec.options)], folder),
        version=declaration.version,
        backend=declaration.backend,
        on_no_answer=scorer.bound.on_no_answer,
        range=(declaration.low, declaration.high),
        higher_is_better=declaration.higher_is_better,
        binary=declaration.binary,
        unit=declaration.unit,
        threshold=declaration.threshold,
        needs_answer=declaration.needs_answer,
        needs_expected=declaration.needs_expected,
        aggregates=tuple(declaration.aggregates),
        headline=declaration.headline,
    )


def _judge(session: JudgeSession) -> JudgeProvenance:
    return JudgeProvenance(
        name=session.name,
        model=session.model,
        host=session.host,
        mode=session.mode,
        params=plain(dict(session.params)),
        served_models=tuple(sorted(session.calls.usage.served_models)),
    )


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in options.values() if isinstance(value, str))


def _files(references: Iterable[str], folder: Path) -> dict[str, str]:
    """The sha256 of each file that a `path/file.py:name` or an imported `package.module:name` leads to."""
    digests: dict[str, str] = {}
    for reference in references:
        location, colon, name = reference.rpartition(":")
        if not colon or not name.replace(".", "_").isidentifier():
            continue
        file = folder / location if location.endswith(".py") else _file_of_module(location)
        try:
            if file is not None:
                digests[location] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError:
            continue  # not a file after all, or not readable
    return digests


def _file_of_module(name: str) -> Path | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file is not None else None


def remaining(
    jobs: Iterable[Job], finished: FinishedRows, folder: Path, *, retry_errors: bool = False
) -> Iterator[Job]:
    """The jobs without a finished row, lazily and in order; no row is made of what is skipped.

    `retry_errors` adds those whose call failed, as a new attempt, and those with cells in error: these with their
    stored row and the names of the scorers to call again. `folder` is the run's. Raises RunError where a row that
    is needed cannot be read.
    """
    for job in jobs:
        found = finished.find(job.sample.id, job.target.name, job.epoch)
        if found is None:
            yield job
        elif retry_errors and found.failed:
            yield replace(job, attempt=found.attempt + 1)
        elif retry_errors and found.errors:
            stored = row_at(folder, found.offset)
            yield replace(job, attempt=found.attempt, stored=stored, scorers=found.errors)


def count_remaining_jobs(rows: int, finished: FinishedRows, *, retry_errors: bool = False) -> int:
    """How many jobs `remaining` yields of a plan of so many rows."""
    again = finished.failed + finished.in_error if retry_errors else 0
    return max(0, rows - len(finished)) + again


def stored_cells(job: Job) -> Mapping[str, Cell]:
    """The cells of a job's stored row that stay as they are, none where the whole row is to be made."""
    if job.stored is None:
        return EMPTY
    again = job.scorers or frozenset()
    return {name: cell for name, cell in job.stored.cells.items() if name not in again}
