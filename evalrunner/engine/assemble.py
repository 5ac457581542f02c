"""Assemble a plan from a suite: resolve factories, check options, open endpoints, scan the dataset, build gates.

Every problem is added to the document of the suite; all of them are raised at once, before the first call.
"""

from __future__ import annotations

from asyncio import Semaphore
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from evalrunner.baselines.file import Baseline, RunRef
from evalrunner.baselines.resolve import BaselineResolver, resolve_baselines
from evalrunner.capabilities import Preparable
from evalrunner.datasets.resolve import open_dataset
from evalrunner.datasets.selection import EVERYTHING, Subset
from evalrunner.datasets.source import SampleSource, Scan
from evalrunner.domain import Sample, Scorer
from evalrunner.endpoints.factory import EndpointHandle, EndpointPool
from evalrunner.endpoints.transport import NeedsHttpEndpoint, connection_limit
from evalrunner.engine.attached_content import AttachedContent
from evalrunner.engine.check_assembly import (
    CheckJudges,
    assemble_checks,
    discover,
    known_judges,
    known_models,
    planned_checks,
)
from evalrunner.engine.conversation_assembly import ConversationAssembly
from evalrunner.engine.dataset_check import ColumnCheck, DatasetCheck, conversations_of, foreign_baselines
from evalrunner.engine.destinations import destinations_of
from evalrunner.engine.failed_samples import FailedSamples
from evalrunner.engine.judge_assembly import JudgeAssembly
from evalrunner.engine.label_assembly import assemble_labels
from evalrunner.engine.plan import (
    Plan,
    PlannedModel,
    PlannedScorer,
    PlannedTarget,
    StoredAnswers,
    StoredSamples,
    provenance_of,
)
from evalrunner.engine.prompt_assembly import PromptAssembly
from evalrunner.engine.row_checks import RowChecks
from evalrunner.errors import Problem, RunError, SuiteError, listed, nearest
from evalrunner.gates.build import GateBuilder, SampleKeyIndex, reject_incompatible
from evalrunner.gates.metric_lookup import Gate
from evalrunner.limits import STANDARD, Limits
from evalrunner.middleware.cache import CACHE_FILE
from evalrunner.middleware.concurrency import MAX_CONCURRENCY
from evalrunner.middleware.deadline import StopSignal, Timing
from evalrunner.middleware.stack import CallContext, MiddlewareStack
from evalrunner.plugin_table import Group
from evalrunner.plugins import (
    PluginContext,
    ReferenceProblem,
    SignatureError,
    call_factory,
    factory_options,
    resolve,
)
from evalrunner.prompts import PromptedTarget, Shots
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.extraction import checked_extract
from evalrunner.scorers.instances import ScorerInstances, templated_scorer
from evalrunner.stats.aggregates import MEAN_REDUCER, Reducer, parse_reducer
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, Design, Measure, builtin_measures
from evalrunner.storage import cache_folder
from evalrunner.suite.checks import report_inline_checks
from evalrunner.suite.data_address import address_of
from evalrunner.suite.environment import has_variable, public_path
from evalrunner.suite.schema import KeyPath, ModelSpec, PaceSpec, RunSpec, ScorerSpec, Suite, TargetSpec
from evalrunner.suite.validate import check_options
from evalrunner.suite.yaml import Document, dotted
from evalrunner.targets.command import CommandTarget
from evalrunner.targets.recorded import RecordedColumn, RecordedRun
from evalrunner.templates import PromptError

if TYPE_CHECKING:
    from evalrunner.middleware.budget import Side

MAX_FUNCTION_CALLS = 16  # concurrent calls of user-defined code, which declares no limit
READ_STEP = 1000  # samples between two reports of how many are read
UNCALLED = (RecordedColumn, RecordedRun)


@dataclass(slots=True)
class Assembler:
    """Builds the plan of a suite. `runs` is the runs folder, `spool` a folder for temporary files.

    `stop` is the stop signal of the command, `timing` the clock of its waits. `stored_stdin` is the copy of standard
    input in the folder of a resumed run, `pinned` the origin of its dataset. Without `gating` no baseline is read.
    `candidate` is the run that gates compare with a baseline, if it exists already. `stored` answers are scored instead of
    calling targets. `prefix` is the number of samples of a resumed run, whose content is compared with the first ones of the
    dataset. Only `failed` samples are used, if given, and of these those of `subset`. `limits` are those of patterns and
    templates. `reading` is called with the number of samples read so far, now and then.
    """

    document: Document
    pool: EndpointPool
    runs: Path
    spool: Path
    stdin: BinaryIO | None = None
    stored_stdin: Path | None = None
    pinned: Mapping[str, str] | None = None
    trace: Callable[[str], None] | None = None
    stop: StopSignal | None = None
    timing: Timing = Timing()
    refresh: bool = False
    models: list[PlannedModel] = field(default_factory=list)
    gating: bool = True
    candidate: RunRef | None = None
    stored: StoredAnswers | None = None
    prefix: int | None = None
    limits: Limits = STANDARD
    failed: FailedSamples | None = None
    subset: Subset = EVERYTHING
    reading: Callable[[int], None] | None = None
    samples: SampleSource | StoredSamples | None = None
    shots: dict[int, Shots | None] = field(default_factory=dict)

    def assemble(self, suite: Suite) -> Plan:
        """The plan of a suite. Raises SuiteError with every problem of the file."""
        with suite.run.egress.active():
            self._check_hosts(suite)
            return self._assemble(suite)

    def _assemble(self, suite: Suite) -> Plan:
        if self.stored is not None:  # stored answers keep the order of their run
            suite = replace(suite, dataset=replace(suite.dataset, shuffle=self.stored.provenance.dataset.shuffle))
        calls = MiddlewareStack(
            suite.run, StopSignal(self.stop), self.timing, cache_folder() / CACHE_FILE, self.trace, self.refresh
        )
        if self.failed is not None:
            self._select_failed(suite)
        targets = list(self._targets(suite, calls))
        self.samples = dataset = self._guard(suite.dataset.key_path, partial(self._dataset, suite))
        scorers, judging = self._scorers(suite, calls)
        judges, row_checks = self._checks(suite, scorers, judging)
        design = design_of(suite, self.document)
        gates = self._early_gates(suite, scorers, row_checks, judges, design)
        baselines = self._baselines(suite, gates) if self.gating else {}
        self.document.raise_problems()
        assert dataset is not None  # None is a problem
        columns = ColumnCheck(design, conversations=conversations_of(suite))
        keys = SampleKeyIndex() if baselines else None
        check = DatasetCheck(
            suite, targets, scorers, columns, gates if self.failed is None else (), rescored=self.stored is not None,
            document=self.document, row_checks=row_checks, attached=AttachedContent(self.prefix),
        )  # fmt: skip
        checks = _counted(keys.then(check) if keys else check, self.reading)
        scan = self._guard(suite.dataset.key_path, lambda: dataset.scan(checks, prefix=self.prefix))
        if scan is not None:
            if self._has_checks(suite, row_checks, scan.count):  # now with every name in the data
                scorers = [*scorers, *_planned(suite, row_checks, judges)]
                gates = self._gates(suite, scorers, design)
                check.scorers, check.gates = scorers, gates if self.failed is None else ()
            elif not suite.scorers:
                self.document.problem((), "needs 'scorers', such as scorers: [exact_match]; no row has checks")
            check.report(self.document, scan, dataset.display_name)
            scan = self._described(suite, scan, check)
        else:
            check.report_unscanned(self.document)
        self.document.raise_problems()
        provenance = provenance_of(suite, scan, targets, scorers, self.subset.shard)
        count = scan.count if self.stored is None else max(scan.count, self.stored.planned)
        provenance = replace(provenance, dataset=replace(provenance.dataset, rows=count))
        reject_incompatible(self.document, gates, baselines, provenance)
        labels = assemble_labels(self.document, suite.folder, scorers, provenance)  # raises the problems of both
        if scan is not None and keys is not None and self.stored is None:
            scan = replace(scan, notices=(*scan.notices, *foreign_baselines(baselines.values(), keys.keys.values())))
        return Plan(
            suite, dataset, scan, tuple(targets), tuple(scorers), gates, calls, provenance, tuple(self.models), design=design,
            baselines=baselines, keys=keys.keys if keys is not None else {}, stored=self.stored,
            population=replace(columns.population, count=count), failed=self.failed, labels=labels,
        )  # fmt: skip

    def _described(self, suite: Suite, scan: Scan, check: DatasetCheck) -> Scan:
        """A scan with what the check has seen: notices, and the digests of what prompts attach."""
        known = None if self.stored is None else self.stored.provenance.dataset.attachments
        notices = (*scan.notices, *check.notices(scan), *self._absent_failed(suite, scan.count))
        return replace(scan, notices=notices, attachments=(known or check.attached.digest, check.attached.first))

    def _baselines(self, suite: Suite, gates: Sequence[Gate]) -> dict[str, Baseline]:
        """The baselines that gates name, as far as they exist."""
        resolver = BaselineResolver(
            suite.folder, suite.name, self.runs, addresses=suite.tracking.addresses, candidate=self.candidate,
            restrictions=self.document.restrictions,
        )  # fmt: skip
        return dict(resolve_baselines(self.document, [gate.spec for gate in gates], resolver))

    def _select_failed(self, suite: Suite) -> None:
        """Reduce the failed samples to those of the suite's targets. Raises SuiteError if there are none."""
        assert self.failed is not None  # the caller has checked
        if self.failed.suite != suite.name:
            message = (
                f"--failed-from: run {self.failed.run_id} is of suite {self.failed.suite!r}, not of {suite.name!r}"
            )
            raise SuiteError(message)
        names = [spec.name for spec in suite.targets]
        self.failed = self.failed.of(names)
        if not self.failed.selection.ids:
            of = "the target" if len(names) == 1 else "the targets"
            raise SuiteError(f"--failed-from: no row of {of} {listed(names, 'and')} failed in run {self.failed.run_id}")

    def _absent_failed(self, suite: Suite, count: int) -> Sequence[str]:
        """A notice about failed samples that the dataset does not have, unless a limit may have left them out."""
        if self.failed is None or suite.dataset.limit is not None:
            return ()
        selection = self.failed.selection
        absent = len(selection.ids) - count
        return (
            [f"{absent:,} of the {len(selection.ids):,} samples that {selection.reason} are not in the dataset"]
            if absent
            else ()
        )

    def _measures(self, suite: Suite, scorers: Sequence[PlannedScorer]) -> list[Measure]:
        """The measures of the scorers and their parts. A part with the name of another one and a wrong headline are problems."""
        taken = {measure.name: "a built-in metric" for measure in ALL_BUILTIN_MEASURES}
        taken.update({scorer.bound.name: f"the scorer {scorer.bound.name!r}" for scorer in scorers})
        for scorer in scorers:
            for part in scorer.bound.parts:
                if (other := taken.get(part.cell)) is not None:
                    message = f"{part.name!r} of {scorer.bound.name!r} has the same name as {other}; rename one of them"
                    self.document.problem(scorer.spec.key_path, message)
                taken[part.cell] = f"{part.name!r} of {scorer.bound.name!r}"
        measures = [measure for scorer in scorers for measure in scorer.measures]
        if {spec.name for spec in suite.scorers} <= {scorer.bound.name for scorer in scorers}:
            self._check_headline(suite, [measure.name for measure in measures])
        return measures

    def _checks(
        self, suite: Suite, scorers: Sequence[PlannedScorer], judging: JudgeAssembly
    ) -> tuple[CheckJudges, RowChecks]:
        """The checks of the suite and what reads those of rows, with the judges that they ask."""
        judges = CheckJudges(suite, judging, known_judges(suite), known_models(suite))
        taken = {measure.name: "a built-in metric" for measure in ALL_BUILTIN_MEASURES}
        taken.update({spec.name: f"the scorer {spec.name!r}" for spec in suite.scorers})
        taken.update({part.cell: f"a part of {one.bound.name!r}" for one in scorers for part in one.bound.parts})
        row_checks = assemble_checks(suite, self.document, self._context(suite, {}), judges, taken)
        if self.document.problems:
            report_inline_checks(self.document)
        return judges, row_checks

    def _has_checks(self, suite: Suite, checks: RowChecks, count: int) -> bool:
        """Whether the suite or a row has checks; also a row that is not among the `count` samples of a limit."""
        selected = suite.dataset.offset or suite.dataset.sample or self.failed or self.subset != EVERYTHING
        if self.samples is not None and (selected or suite.dataset.limit == count):
            for _ in discover(checks, self.samples.peek()):
                pass
        return checks.present

    def _early_gates(
        self, suite: Suite, scorers: Sequence[PlannedScorer], checks: RowChecks, judges: CheckJudges, design: Design
    ) -> tuple[Gate, ...]:
        """The gates before the data is read. If one names what is not known, the data is searched for checks first."""
        before = len(self.document.problems)
        gates = self._gates(suite, [*scorers, *_planned(suite, checks, judges)], design)
        if len(self.document.problems) > before and self.samples is not None:
            for _ in discover(checks, self.samples.peek()):
                del self.document.problems[before:]
                gates = self._gates(suite, [*scorers, *_planned(suite, checks, judges)], design)
                if len(self.document.problems) == before:
                    break
        return gates

    def _check_headline(self, suite: Suite, names: Sequence[str]) -> None:
        """Report a `headline` that is neither a scorer nor a part."""
        if suite.headline is not None and suite.headline not in names:
            message = f"{suite.headline!r} is not a scorer of this suite{nearest(suite.headline, names)}"
            self.document.problem(("headline",), f"{message}; it has {', '.join(names)}")

    def _check_hosts(self, suite: Suite) -> None:
        """Raises SuiteError if a host that the suite names is not among those that it allows; nothing was contacted."""
        if not suite.run.egress.limited:
            return
        for destination in destinations_of(suite, self.document):
            if destination.optional or (self.stored is not None and destination.purpose.startswith("target ")):
                continue  # refused where it is opened; the answers of targets are stored
            if (refusal := destination.refusal(suite.run.egress)) is not None:
                self.document.problem(destination.key_path, refusal)
        self.document.raise_problems()

    def _dataset(self, suite: Suite) -> SampleSource | StoredSamples:
        if self.stored is None:
            return self._open_dataset(suite)
        samples, spec = self.stored.samples, suite.dataset
        if spec.source is not None or spec.path == "-" or address_of(spec) is not None:
            return samples
        ids = {sample.id for sample in samples.samples}
        try:  # answers of a run, by the checks that the data has now
            current = {one.id: one.checks for one in self._open_dataset(suite).peek() if one.id in ids}
        except (SuiteError, RunError):  # the data is elsewhere now: the stored checks hold
            return samples
        return samples.with_checks(current)

    def _open_dataset(self, suite: Suite) -> SampleSource:
        return open_dataset(
            suite.dataset,
            folder=suite.folder,
            spool_folder=self.spool,
            stdin=self.stdin,
            stored_stdin=self.stored_stdin,
            addresses=suite.tracking.addresses,
            locate_row=lambda number: self.document.problem_at((*suite.dataset.key_path, "rows", number), "").where,
            restrictions=None if self.document.is_owners(("dataset", "path")) else self.document.restrictions,
            limits=self.limits,
            subset=replace(self.subset, failed=None if self.failed is None else self.failed.selection),
            pinned=self.pinned,
        )

    def _guard(self, path: KeyPath, make: Callable[[], Any]) -> Any:
        """The result of `make`, or None if it raises; its problem is added at `path`."""
        try:
            return make()
        except SuiteError as wrong:
            for problem in wrong.problems:
                if problem.where:
                    self.document.problems.append(problem)
                else:
                    self.document.problem(tuple(problem.key.split(".")) if problem.key else path, problem.message)
        except (ReferenceProblem, SignatureError, PromptError, ValueError) as wrong:
            self.document.problem(path, str(wrong))
        return None

    def _context(self, suite: Suite, args: Mapping[str, Any]) -> PluginContext:
        return PluginContext(suite.folder, self.runs, args, suite.tracking.addresses, self.limits)

    def _make(self, group: Group, kind: str, spec: TargetSpec | ScorerSpec, suite: Suite) -> Any:
        """The result of the factory of a section; None if its name or its options are wrong, which is added to the document."""
        path = (*spec.key_path, "type") if self.document.keys.get((*spec.key_path, "type")) else spec.key_path
        factory = self._guard(path, lambda: resolve(group, kind, folder=suite.folder))
        if factory is None:
            return None
        before = len(self.document.problems)
        options = check_options(spec.options, factory_options(factory), spec.key_path, self.document.problem)
        if len(self.document.problems) > before:
            return None
        return self._guard(spec.key_path, lambda: call_factory(factory, options, self._context(suite, spec.args)))

    def _targets(self, suite: Suite, calls: MiddlewareStack) -> Iterator[PlannedTarget]:
        conversations = ConversationAssembly(suite, self.document, self.limits)
        if self.stored is None:
            conversations.open_user(calls, partial(self._open, suite), partial(self._add_user, suite.run))
        for spec in suite.targets:
            extract = checked_extract(spec.extract, spec.key_path, self.document.problem, self.limits)
            target = self._target(suite, spec, calls)
            if target is not None:
                yield replace(target, extract=extract, call=conversations.call_of(spec, target))

    def _target(self, suite: Suite, spec: TargetSpec, calls: MiddlewareStack) -> PlannedTarget | None:
        if self.stored is not None:
            return PlannedTarget(spec.name, self.stored.answers[spec.name], "recorded")
        if spec.model is None:
            assert spec.type is not None  # a target is either a model or has a type
            instance = self._make("targets", spec.type, spec, suite)
            if isinstance(instance, NeedsHttpEndpoint):
                return self._service(suite, instance, spec, calls)
            if isinstance(instance, CommandTarget):
                self._check_cost(suite, spec, instance.reports_cost)
                instance = replace(instance, timeout_s=instance.timeout_s or suite.run.timeout)
            slots = (
                None
                if isinstance(instance, UNCALLED) or suite.run.concurrency != "auto"
                else Semaphore(MAX_FUNCTION_CALLS)
            )
            model = getattr(instance, "model", None)  # a target that calls one model can name it
            model = model if isinstance(model, str) else None
            strips = spec.reasoning == "strip"
            return (
                None
                if instance is None
                else PlannedTarget(spec.name, instance, spec.type, model, slots=slots, strips_reasoning=strips)
            )
        prompts = PromptAssembly(self.document, self.spool, self.limits, self.shots, suite)
        prompt = prompts.prompt(spec.prompt or suite.prompt)
        merged = {**suite.params, **spec.model.params}
        before = len(self.document.problems)
        opened = self._open(suite, replace(spec.model, params=merged))
        if opened is None and (hint := nearest(spec.model.name, self.document.excluded_targets)):
            del self.document.problems[before:]  # the name is a misspelled target, not a model
            self.document.problem(spec.key_path, f"the suite has no target {spec.model.name!r}{hint}")
        if prompt is None or opened is None:
            return None
        params = {name: value for name, value in merged.items() if value is not None}
        context = _call_context(spec.name, "targets", opened, spec.model.pace, suite.run)
        self._add_model(spec.name, context, spec.model, opened, params)
        call = PromptedTarget(
            calls.wrap(opened.endpoint, context), opened.model, prompt, params, spec.name, suite.streams(spec)
        )
        return PlannedTarget(
            spec.name, call, "model", spec.model.model, opened.host, prompt, params, context.tally, context.breaker,
            strips_reasoning=spec.reasoning == "strip", takes=opened.takes,
        )  # fmt: skip

    def _check_cost(self, suite: Suite, spec: TargetSpec, reports: bool) -> None:
        """Report a target that reports the cost of a call only after it, while the suite limits the cost."""
        if reports and suite.run.max_cost is not None:
            what = "this service" if spec.type == "http" else "this program"
            message = f"max_cost is set, but the cost of a call to {what} is not bounded; remove one of them"
            self.document.problem(spec.key_path, message)

    def _service(
        self, suite: Suite, instance: NeedsHttpEndpoint, spec: TargetSpec, calls: MiddlewareStack
    ) -> PlannedTarget | None:
        """A target that calls an HTTP service, through the same middleware as a model."""
        self._check_cost(suite, spec, instance.definition.get("cost") is not None)
        opened: EndpointHandle | None = self._guard(
            (*spec.key_path, "transport"),
            lambda: self.pool.open_http(
                instance.service,
                timeout_s=spec.pace.timeout or suite.run.timeout,
                transport=spec.pace.transport,
                folder=suite.folder,
                egress=suite.run.egress,
            ),
        )
        if opened is None:
            return None
        context = _call_context(spec.name, "targets", opened, spec.pace, suite.run)
        definition, url = instance.definition, spec.public.get("url")
        if isinstance(url, str) and has_variable(url):
            definition = {**definition, "path": public_path(url)}
        call = instance.with_endpoint(calls.wrap(opened.endpoint, context), name=spec.name)
        return PlannedTarget(
            spec.name, call, spec.type or "", None, opened.host, None, definition, context.tally, context.breaker,
            strips_reasoning=spec.reasoning == "strip",
        )  # fmt: skip

    def _add_model(
        self, name: str, context: CallContext, spec: ModelSpec, opened: EndpointHandle, params: Mapping[str, Any],
        *, chats: bool = True,
    ) -> None:  # fmt: skip
        problem = partial(self.document.problem_at, spec.key_path)
        self.models.append(PlannedModel(name, context, spec, opened, params, problem, chats))

    def _add_user(self, run: RunSpec, label: str, spec: ModelSpec, opened: EndpointHandle) -> CallContext:
        context = _call_context(label, "users", opened, spec.pace, run)
        self._add_model(label, context, spec, opened, spec.params)
        return context

    def _open(self, suite: Suite, spec: ModelSpec) -> EndpointHandle | None:
        limit_s = spec.pace.timeout or suite.run.timeout
        handle: EndpointHandle | None = self._guard(
            spec.key_path,
            lambda: self.pool.open(spec, timeout_s=limit_s, folder=suite.folder, egress=suite.run.egress),
        )
        return handle

    def _scorers(self, suite: Suite, calls: MiddlewareStack) -> tuple[list[PlannedScorer], JudgeAssembly]:
        judging = self._judges(suite, calls)
        return [one for spec in suite.scorers if (one := self._scorer(suite, spec, judging)) is not None], judging

    def _scorer(self, suite: Suite, spec: ScorerSpec, judges: JudgeAssembly) -> PlannedScorer | None:
        instance = self._templated(suite, spec)
        if instance is False:
            instance = self._make("scorers", spec.type, spec, suite)
        if instance is None:
            return None
        scorer = instance if isinstance(instance, Scorer) else Scorer(instance)
        bound = self._bind(spec, scorer)
        return None if bound is None else judges.planned(spec, bound)

    def _bind(self, spec: ScorerSpec, scorer: Scorer) -> BoundScorer | None:
        extract = checked_extract(spec.extract, spec.key_path, self.document.problem, self.limits)
        bind = partial(
            BoundScorer.bind, spec.name, scorer, on_no_answer=spec.on_no_answer, version=spec.version, extract=extract
        )
        bound: BoundScorer | None = self._guard(spec.key_path, bind)
        return bound

    def _templated(self, suite: Suite, spec: ScorerSpec) -> Any:
        """The scorer for options with templates; False if they have none, None if they are wrong, which is added."""
        path = (*spec.key_path, "type") if self.document.keys.get((*spec.key_path, "type")) else spec.key_path
        instances = ScorerInstances(self._context(suite, {}))
        if self._guard(path, lambda: instances.factory(spec.type)) is None:
            return None
        templates = self._guard(spec.key_path, lambda: instances.templates(spec.type, spec.options))
        if templates is None or templates.fill is None:
            return False if templates is not None else None
        samples = self.samples.peek() if self.samples is not None else ()
        return self._guard(spec.key_path, lambda: templated_scorer(instances, spec, templates, samples))

    def _judges(self, suite: Suite, calls: MiddlewareStack) -> JudgeAssembly:
        def add_model(label: str, spec: ModelSpec, opened: EndpointHandle, *, chats: bool, role: str) -> CallContext:
            context = _call_context(f"{role} of {label}", "judges", opened, spec.pace, suite.run)
            self._add_model(label, context, spec, opened, spec.params, chats=chats)
            return context

        return JudgeAssembly(suite, self.document, calls, partial(self._open, suite), add_model, self._bind)

    def _gates(self, suite: Suite, scorers: Sequence[PlannedScorer], design: Design) -> tuple[Gate, ...]:
        measures = self._measures(suite, scorers)
        names = {scorer.bound.name for scorer in scorers}
        builder = GateBuilder(
            self.document,
            [*measures, *builtin_measures(streaming=suite.streaming)],
            targets=[target.name for target in suite.targets],
            design=design,
            epochs=suite.run.epochs,
            broken=not names.issuperset(spec.name for spec in suite.scorers),
            stop_early=suite.run.stop_early,
        )
        return builder.build(suite.gates)


def _call_context(label: str, side: Side, opened: EndpointHandle, pace: PaceSpec, run: RunSpec) -> CallContext:
    concurrency = pace.concurrency or run.concurrency
    wanted = MAX_CONCURRENCY if concurrency == "auto" else concurrency
    return CallContext(
        label,
        side,
        opened.key,
        opened.identity,
        pace,
        max_concurrency=opened.max_concurrency or connection_limit(wanted),
        enforces_timeout=opened.enforces_timeout,
    )


def _planned(suite: Suite, checks: RowChecks, judges: CheckJudges) -> tuple[PlannedScorer, ...]:
    """The scorer `checks`, if the suite or a row read so far has any."""
    return (planned_checks(checks, judges, suite),) if checks.present else ()


async def prepare_scorers(plans: Sequence[Plan], notify: Callable[[str], None]) -> None:
    """Prepare every scorer. Raises SuiteError with all that fail; `notify` is called about downloads."""
    problems: list[Problem] = []
    for plan in plans:
        for scorer in plan.scorers:
            function: object = scorer.bound.scorer.function
            if isinstance(function, Preparable):
                try:
                    await function.prepare(notify)
                except ValueError as wrong:
                    problems.append(Problem(str(plan.suite.path), dotted(scorer.spec.key_path), str(wrong)))
    if problems:
        raise SuiteError(problems)


def design_of(suite: Suite, document: Document) -> Design:
    """The design of a suite. Problems of its reducers are added to the document."""
    return Design(
        reducers=_reducers(suite, document), cluster=suite.dataset.cluster, slices=suite.slices, seed=suite.run.seed
    )


def _reducers(suite: Suite, document: Document) -> tuple[Reducer, ...]:
    given = suite.run.reducer
    if given is None:
        return (MEAN_REDUCER,)
    path: KeyPath = ("reducer",) if ("reducer",) in document.marks else ("run", "reducer")
    reducers: list[Reducer] = []
    for place, name in enumerate([given] if isinstance(given, str) else given):
        here = path if isinstance(given, str) else (*path, place)
        try:
            reducer = parse_reducer(name)
        except ValueError as unknown:
            document.problem(here, str(unknown))
            continue
        if reducer.k > suite.run.epochs:
            document.problem(here, f"{name!r} needs {reducer.k} epochs; the suite runs {suite.run.epochs}")
        if reducer in reducers:
            document.problem(here, f"{name!r} is listed twice")
        reducers.append(reducer)
    if not given:
        document.problem(path, "is empty; name a reducer, such as mean, or remove the key")
    return tuple(reducers) or (MEAN_REDUCER,)


def _counted(
    check: Callable[[Sample], Sequence[str]], reading: Callable[[int], None] | None
) -> Callable[[Sample], Sequence[str]]:
    """The check, which also reports how many samples it was called for."""
    if reading is None:
        return check
    count = 0

    def counted(sample: Sample) -> Sequence[str]:
        nonlocal count
        count += 1
        if count % READ_STEP == 0:
            reading(count)
        return check(sample)

    return counted
