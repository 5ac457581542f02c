"""The plan of a run: a suite with its names resolved to callables, its dataset scanned, its prices and its provenance.

Nothing has been called yet.
"""

from __future__ import annotations

import hashlib
import json
import os
from asyncio import Semaphore
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalrunner.baselines.file import Baseline, RunRef, SampleKey
from evalrunner.datasets.columns import CHECKS, digest_line
from evalrunner.datasets.selection import Shard
from evalrunner.datasets.source import SampleSource, Scan
from evalrunner.domain import EMPTY, Cell, Declaration, Row, Sample, Target, row_name
from evalrunner.endpoints.factory import EndpointHandle
from evalrunner.endpoints.pricing import KnownPrice, PriceBook, PricedEndpoint, WorstCase, check_cap
from evalrunner.engine.failed_samples import FailedSamples
from evalrunner.errors import Problem, SuiteError
from evalrunner.gates.metric_lookup import Gate
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.stack import CallContext, CallTally, MiddlewareStack
from evalrunner.plugins import home_of
from evalrunner.prompts import Prompt
from evalrunner.redact import without_secrets
from evalrunner.runs.provenance import (
    DatasetProvenance,
    JudgeProvenance,
    Provenance,
    ScorerProvenance,
    TargetProvenance,
)
from evalrunner.runs.record import LookRecord
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.extraction import Extract
from evalrunner.spelling import exact_json
from evalrunner.stats.summary import Design, Measure, Population
from evalrunner.suite.environment import has_variable
from evalrunner.suite.models import default_name
from evalrunner.suite.schema import DatasetSpec, ModelSpec, ScorerSpec, Suite, TargetSpec
from evalrunner.suite.user import user_options
from evalrunner.suite.yaml import Document
from evalrunner.targets.command import program_files
from evalrunner.targets.conversation import Conversation
from evalrunner.targets.recorded import RecordedRun
from evalrunner.user_code import code_files, loaded_name

if TYPE_CHECKING:
    from evalrunner.engine.judge import JudgeSession
    from evalrunner.engine.panel import JudgePanel
    from evalrunner.labels.match import ScorerLabels
    from evalrunner.middleware.budget import Side
    from evalrunner.targets.simulated_user import SimulatedUser


SELECTION = ("shuffle", "offset", "limit", "sample", "by")  # keys of a dataset
NOT_CHECKED = "sanity check did not finish: "  # begins the reason of a judge's cells whose check failed to end


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target and what it consists of. `host` is where it sends requests, None if it sends none.

    `slots` limits the concurrency of user-defined code. `strips_reasoning`: reasoning in the text is not scored.
    `extract` takes the part of an answer that is scored. `takes` says which content messages may have, as in an `EndpointHandle`.
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
    slots: Semaphore | None = None
    strips_reasoning: bool = True
    extract: Extract | None = None
    takes: Literal["any", "embedded", "text"] = "any"


@dataclass(frozen=True, slots=True)
class PlannedScorer:
    """A scorer, its section of the suite, and the judges it asks, if any."""

    bound: BoundScorer
    spec: ScorerSpec
    panel: JudgePanel | None = None

    @property
    def judges(self) -> tuple[JudgeSession, ...]:
        return () if self.panel is None else self.panel.sessions

    @property
    def sessions(self) -> tuple[JudgeSession, ...]:
        """Its judges, and the models that it asks besides."""
        companions = {one.label: one for judge in self.judges if (one := judge.companion) is not None}
        return (*self.judges, *companions.values())

    @property
    def measure(self) -> Measure:
        return Measure(self.bound.name, self.bound.scorer.declaration, labeled=self.spec.labels is not None)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Its own measure and those of its parts."""
        first, name = self.measure, self.bound.name
        return (first, *(Measure(part.cell, part.declaration, name, first.labeled) for part in self.bound.parts))


@dataclass(frozen=True, slots=True)
class Job:
    """One row to produce. `stored` is the row of an earlier attempt whose answer is reused: only `scorers` run again."""

    sample: Sample
    target: PlannedTarget
    epoch: int
    attempt: int = 1
    stored: Row | None = None
    scorers: frozenset[str] | None = None

    @property
    def row(self) -> str:
        """The name of the row in requests."""
        return row_name(self.sample.id, self.target.name, self.epoch)

    @property
    def stored_cells(self) -> Mapping[str, Cell]:
        """The cells of the stored row that are reused; none if the whole row is new."""
        if self.stored is None:
            return EMPTY
        again = self.scorers or frozenset()
        return {name: cell for name, cell in self.stored.cells.items() if name not in again}


class StoredSamples:
    """The samples of stored rows as a dataset, in their order. The dataset of the suite is not read."""

    spooled: Path | None = None
    origin: Mapping[str, str] | None = None
    display_name = "the stored run"

    def __init__(self, samples: Iterable[Sample], digest: str | None) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.index)
        self.digest = digest

    def scan(self, check: Callable[[Sample], Sequence[str]], *, prefix: int | None = None) -> Scan:
        """The scan of the samples; `check` lists the problems of one. Raises SuiteError for the first with a problem."""
        columns: dict[str, None] = {}
        digest = hashlib.sha256()
        for sample in self.samples:
            columns.update(dict.fromkeys(str(name) for name in sample.metadata))
            if sample.checks is not None:
                columns.setdefault(CHECKS)
            digest.update(digest_line(sample) + b"\n")
            if problems := check(sample):
                raise SuiteError(f"sample {sample.id!r}: {problems[0]}")
        answered = sum(1 for sample in self.samples if sample.expected)
        return Scan(len(self.samples), tuple(columns), self.digest or digest.hexdigest(), (), answered)

    def with_checks(self, checks: Mapping[str, Any]) -> StoredSamples:
        """The samples with these checks by their id; others keep those that were stored."""
        changed = {sample.id for sample in self.samples if checks.get(sample.id, sample.checks) != sample.checks}
        if not changed:
            return self
        samples = [replace(one, checks=checks[one.id]) if one.id in changed else one for one in self.samples]
        return StoredSamples(samples, None)

    def peek(self) -> Iterator[Sample]:
        """The samples before the scan."""
        return iter(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """Answers of a run or a baseline, to score again. `provenance` is that of the run that gave them, `label` its path.

    `candidate` is that run, None if the answers are those of a baseline. `planned` is how many samples its dataset had,
    asked or not; `looks` are the verdicts that were given on it, `options` those it was started with.
    """

    label: str
    run_id: str
    suite_file: Path | None
    epochs: int
    samples: StoredSamples
    answers: Mapping[str, RecordedRun]
    provenance: Provenance
    candidate: RunRef | None = None
    planned: int = 0
    looks: tuple[LookRecord, ...] = ()
    options: Mapping[str, Any] = EMPTY

    def apply(self, document: Document) -> None:
        """Replace the targets and epochs of a suite by the stored ones."""
        data = document.data
        if not isinstance(data, dict):
            return
        extracts = _extracts_by_name(data, list(self.answers))
        data.pop("target", None)
        data["targets"] = [
            {"type": "recorded", "name": name, "run": self.label, **extracts.get(name, {})} for name in self.answers
        ]
        if not isinstance(data.get("run"), dict):
            data["run"] = {}
        data["run"]["epochs"] = self.epochs
        for path in (("targets",), ("run", "epochs")):
            document.overridden[path] = self.label
            document.owner_paths.add(path)


def _extracts_by_name(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The `extract` of each target in the data of a suite, by its name; an only target has the name of the only answers."""
    several = data.get("targets")
    items = several if isinstance(several, list) else [data.get("target")]
    extracts: dict[str, dict[str, Any]] = {}
    for item in items:
        if isinstance(item, Mapping) and item.get("extract") is not None:
            name = item.get("name") or item.get("model") or default_name(item.get("type"), item)
            extracts[names[0] if len(items) == len(names) == 1 else str(name)] = {"extract": item["extract"]}
    return extracts


@dataclass(frozen=True, slots=True)
class Plan:
    """A suite, assembled and scanned. `calls` is the middleware that its endpoints share.

    `provenance` describes what will be run. `models` are the models it asks, `prices` their prices by side and name.
    `baselines` are those that gates name, as far as they exist; `keys` identify samples by their place, for gates on a
    baseline. `population` are the groups of all samples. `stored` holds the answers to score if no target is asked.
    `failed` are the samples of an earlier run to which the dataset is reduced. `rows_before` is how many rows a resumed
    run has already. `labels` are people's, by scorer.
    """

    suite: Suite
    dataset: SampleSource | StoredSamples
    scan: Scan
    targets: tuple[PlannedTarget, ...]
    scorers: tuple[PlannedScorer, ...]
    gates: tuple[Gate, ...]
    calls: MiddlewareStack
    provenance: Provenance
    models: tuple[PlannedModel, ...] = ()
    rows_before: int = 0
    prices: Mapping[tuple[Side, str], KnownPrice] = field(default_factory=dict)
    design: Design = Design()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    keys: Mapping[int, SampleKey] = field(default_factory=dict)
    stored: StoredAnswers | None = None
    population: Population | None = None
    failed: FailedSamples | None = None
    labels: Mapping[str, ScorerLabels] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows the run will have."""
        return self.scan.count * len(self.targets) * self.suite.run.epochs

    @property
    def limited(self) -> bool:
        """Whether the limit of the dataset was reached, so that samples may lie beyond it."""
        count = self.scan.count if self.scan.whole is None else self.scan.whole[0]
        return self.suite.dataset.limit == count

    @property
    def stops_early(self) -> bool:
        """Whether the run ends once its gates are decided: they are all sequential, and its order is random."""
        return bool(self.gates) and all(gate.spec.sequential for gate in self.gates) and self.random_order

    @property
    def random_order(self) -> bool:
        """Whether the samples are shuffled."""
        return self.suite.dataset.shuffle is not None

    @property
    def headline(self) -> str:
        """The scorer or part that leads tables: the suite's `headline`, else that of the first gate on one, else the first."""
        names = [measure.name for measure in self.measures]
        gated = (gate.measure.name for gate in self.gates if gate.measure.name in names)
        return self.suite.headline or next(gated, names[0])

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of the scorers, each followed by its parts."""
        return tuple(measure for scorer in self.scorers for measure in scorer.measures)

    @property
    def judges(self) -> Mapping[str, JudgeSession | SimulatedUser]:
        """The judges and models of all scorers by their labels, then the simulated user."""
        return _sessions(self.targets, self.scorers)

    def jobs(self) -> Iterator[Job]:
        """Every row to produce, lazily. Targets are interleaved, so that a slow hour affects all of them alike."""
        for sample in self.dataset:
            for epoch in range(1, self.suite.run.epochs + 1):
                for target in self.targets:
                    yield Job(sample, target, epoch)


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model that a plan asks: for the target of that name, or as the judge or model of the scorer of that name.

    `problem` makes a problem of a message, at the position of the model in the suite. One that does not chat embeds or
    moderates: its replies have no tokens to pay for.
    """

    name: str
    context: CallContext
    spec: ModelSpec
    opened: EndpointHandle
    params: Mapping[str, Any]
    problem: Callable[[str], Problem]
    chats: bool = True

    @property
    def is_judge(self) -> bool:
        return self.context.side == "judges"


async def find_prices(
    suite: Suite, models: tuple[PlannedModel, ...], *, ask_servers: bool, ask_dates: bool = False
) -> dict[tuple[Side, str], KnownPrice]:
    """The price of each model by its side and name; its answers are priced from now on.

    With `ask_servers` a server is asked for a price that only it knows, with `ask_dates` for the dates from which it no
    longer serves its models. Raises SuiteError if a cost cap cannot be enforced: the price is unknown, or the length of
    answers is not limited.
    """
    book, prices, problems = PriceBook(suite.prices), {}, []
    if ask_dates:
        await book.find_dates(model.opened for model in models)
    for model in models:
        known = await book.find(model.spec, model.opened) if ask_servers else book.look_up(model.spec, model.opened)
        prices[model.context.side, model.name] = known
        if known.price is not None:
            model.context.price = partial(_priced, known)
            model.context.worst_case = WorstCase(known.price)
        if suite.run.max_cost is None:
            continue
        message = check_cap(
            model.spec.model, known.price, model.params, judge=model.is_judge, answers=model.chats
        )  # fmt: skip
        if message is not None:
            problems.append(model.problem(message))
    if problems:
        raise SuiteError(problems)
    return prices


def _priced(known: KnownPrice, endpoint: Any) -> PricedEndpoint:
    return PricedEndpoint(endpoint, known)


def provenance_of(
    suite: Suite,
    scan: Scan,
    targets: Sequence[PlannedTarget],
    scorers: Sequence[PlannedScorer],
    shard: Shard | None = None,
) -> Provenance:
    """What will be run. Custom code is identified by the sha256 of its file; helpers that it has imported from the folders of suites as well."""
    specs = {spec.name: spec for spec in suite.targets}
    return Provenance(
        suite=suite.name,
        dataset=DatasetProvenance(
            digest=scan.digest, rows=scan.count, **_selection(suite.dataset), **_part(scan, shard)
        ),
        targets={target.name: _target(target, specs[target.name], suite) for target in targets},
        scorers={name: part for scorer in scorers for name, part in _scorer_with_parts(scorer, suite.folder)},
        judges={label: _judge(judge) for label, judge in _sessions(targets, scorers).items()},
        seed=suite.run.seed,
        epochs=suite.run.epochs,
    )


def served_provenance(plan: Plan) -> Provenance:
    """The provenance of a plan with the models that have served its targets and judges so far."""
    provenance = plan.provenance
    targets = {target.name: target.calls for target in plan.targets}
    judges = {label: judge.calls for label, judge in plan.judges.items()}
    return replace(
        provenance,
        targets={
            name: replace(part, served_models=_served(targets[name])) for name, part in provenance.targets.items()
        },
        judges={name: replace(part, served_models=_served(judges[name])) for name, part in provenance.judges.items()},
    )


def _served(calls: CallTally) -> tuple[str, ...]:
    return tuple(sorted(calls.usage.served_models))


def tested_provenance(plan: Plan) -> Provenance:
    """What a baseline is compared with: if stored answers are scored, the targets that gave them."""
    provenance = served_provenance(plan)
    if plan.stored is None:
        return provenance
    extracts = {spec.name: spec.extract for spec in plan.suite.targets}
    targets = {
        name: _with_extract(target, extracts.get(name)) for name, target in plan.stored.provenance.targets.items()
    }
    return replace(provenance, targets=targets)


def _with_extract(target: TargetProvenance, extract: Any) -> TargetProvenance:
    """A stored target with the extraction that its answers are scored with now."""
    options = {name: value for name, value in (target.options or {}).items() if name != "extract"}
    if extract is not None:
        options["extract"] = plain(extract)
    return target if options == (target.options or {}) else replace(target, options=options or None)


def plain(data: Any) -> Any:
    """Data as it is read back from JSON, without secrets."""
    if not data:
        return data
    return without_secrets(json.loads(exact_json(data, default=str)))


def _part(scan: Scan, shard: Shard | None) -> dict[str, Any]:
    """What a dataset's provenance has about attachments and a shard."""
    attached = {"attachments": scan.attachments[0]}
    if shard is None or scan.whole is None:
        return attached
    return {**attached, "shard": str(shard), "whole_rows": scan.whole[0], "whole_digest": scan.whole[1]}


def _selection(spec: DatasetSpec) -> dict[str, Any]:
    columns = {
        item.name: {"column": column.column, **({"split": column.split} if column.split is not None else {})}
        for item in fields(spec.columns)
        if (column := getattr(spec.columns, item.name)) is not None
    }
    return {"columns": columns, "where": plain(dict(spec.where)), **{name: getattr(spec, name) for name in SELECTION}}


def _target(target: PlannedTarget, spec: TargetSpec, suite: Suite) -> TargetProvenance:
    folder = suite.folder
    if spec.type is None:
        return TargetProvenance(
            type=target.kind, model=target.model, host=target.host,
            params=plain(dict(target.params)),
            options=_changed_answers(spec, suite) or None,
            prompt=None if target.prompt is None else _templates(target.prompt.parts),
            prompt_digest=None if target.prompt is None else target.prompt.digest,
            prompt_name=spec.prompt_name,
        )  # fmt: skip
    addresses = {name: text for name in ("url", "uri") if has_variable(str(text := spec.public.get(name, "")))}
    options = {**spec.options, **addresses}  # variables by name
    if "env" in spec.public:
        options["env"] = spec.public["env"]
    if isinstance(target.call, RecordedRun):
        options["run"] = target.call.run  # `last` would be another run when this one is resumed
    options.update(_changed_answers(spec, suite))
    return TargetProvenance(
        type=spec.type,
        model=target.model,  # an alias is resolved to its version
        host=target.host,
        params=plain(dict(target.params)),
        options=plain(options),
        args=plain(dict(spec.args)),
        files={
            **_files([spec.type, *_texts(spec.options)], folder),
            **program_files(spec.options.get("command") if spec.type == "command" else None, folder),
        },
    )


def _changed_answers(spec: TargetSpec, suite: Suite) -> dict[str, Any]:
    """How a target changes answers before they are scored, as options of its provenance."""
    reasoning: dict[str, Any] = {"reasoning": spec.reasoning} if spec.reasoning != "strip" else {}
    reasoning |= {} if suite.turns is None else {"turns": suite.turns}
    reasoning |= {} if suite.user is None else {"user": user_options(suite.user)}
    return reasoning if spec.extract is None else {**reasoning, "extract": plain(spec.extract)}


def _templates(parts: tuple[tuple[str, str], ...] | None) -> tuple[Mapping[str, str], ...] | None:
    """A mapping of role to text for each message; None if samples are sent as they are."""
    return None if parts is None else tuple(plain([{role: template} for role, template in parts]))


def _scorer_with_parts(scorer: PlannedScorer, folder: Path) -> Iterator[tuple[str, ScorerProvenance]]:
    """The scorer by its name, then its parts by theirs: what they declare, with options and files left to the scorer."""
    own = _scorer(scorer, folder)
    yield scorer.bound.name, own
    for part in scorer.bound.parts:
        yield part.cell, _of_declaration(part.declaration, own.type, own.on_no_answer, part_of=scorer.bound.name)


def _scorer(scorer: PlannedScorer, folder: Path) -> ScorerProvenance:
    spec, declaration = scorer.spec, scorer.bound.scorer.declaration
    reference = home_of(spec.type)
    custom = (
        [] if reference.startswith("evalrunner.") or spec.type == "checks" else [reference]
    )  # built-in ones have a version
    return _of_declaration(
        declaration,
        spec.type,
        scorer.bound.on_no_answer,
        options=plain({**spec.options, **({} if spec.extract is None else {"extract": spec.extract})}),
        args=plain(dict(spec.args)),
        files=_files(
            [*custom, *_texts(spec.options), *getattr(scorer.bound.scorer.function, "check_code", ())], folder
        ),
    )


def _of_declaration(declaration: Declaration, type: str, on_no_answer: str, **given: Any) -> ScorerProvenance:
    return ScorerProvenance(
        type=type,
        **given,
        version=declaration.version,
        backend=declaration.backend,
        on_no_answer=on_no_answer,
        range=(declaration.low, declaration.high),
        higher_is_better=declaration.higher_is_better,
        binary=declaration.binary,
        infer_binary=declaration.infer_binary,
        unit=declaration.unit,
        threshold=declaration.threshold,
        needs_answer=declaration.needs_answer,
        needs_expected=declaration.needs_expected,
        aggregates=tuple(declaration.aggregates),
        headline=declaration.headline,
    )


def _sessions(
    targets: Sequence[PlannedTarget], scorers: Sequence[PlannedScorer]
) -> dict[str, JudgeSession | SimulatedUser]:
    asked: dict[str, JudgeSession | SimulatedUser] = {
        judge.label: judge for scorer in scorers for judge in scorer.sessions
    }
    users = (target.call.user for target in targets if isinstance(target.call, Conversation))
    return asked | {user.label: user for user in users if user is not None}


def _judge(session: JudgeSession | SimulatedUser) -> JudgeProvenance:
    return JudgeProvenance(
        name=session.name,
        model=session.model,
        host=session.host,
        mode=session.mode,
        role=session.role,
        params=plain(dict(session.params)),
    )


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in options.values() if isinstance(value, str))


def _files(references: Iterable[str], folder: Path) -> dict[str, str]:
    """The sha256 of each file that a `path/file.py:name` or `package.module:name` refers to, and of its helpers."""
    digests: dict[str, str] = {}
    for reference in references:
        location, colon, name = reference.rpartition(":")
        if not colon or not name.replace(".", "_").isidentifier():
            continue
        files = list(code_files(loaded_name(location, folder)))
        file = folder / location if location.endswith(".py") else files[0] if files else None
        beside = {Path(os.path.relpath(helper, folder.resolve())).as_posix(): helper for helper in files[1:]}
        for label, path in {**beside, location: file}.items():
            try:
                if path is not None:
                    digests[label] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                continue  # not a file, or not readable
    return digests
