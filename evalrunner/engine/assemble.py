"""Specs to callables: factories found, their options checked, endpoints opened, gates matched to metrics.

Everything that is wrong is noted in the suite's document and raised at once, before the first call.
"""

from __future__ import annotations

from asyncio import Semaphore
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from evalrunner.baselines.file import Baseline, SampleKey
from evalrunner.baselines.resolve import BaselineResolver
from evalrunner.baselines.run_ref import RunRef
from evalrunner.datasets.source import SampleSource, open_dataset
from evalrunner.domain import Preparable, Sample, SampleValidator, Scorer
from evalrunner.endpoints.factory import EndpointHandle, EndpointPool
from evalrunner.endpoints.http import NeedsHttpEndpoint
from evalrunner.endpoints.pricing import unbounded_part
from evalrunner.endpoints.transport import connection_limit
from evalrunner.engine.design import ColumnCheck, design_of
from evalrunner.engine.judge import JudgeSession
from evalrunner.engine.plan import (
    Plan,
    PlannedModel,
    PlannedScorer,
    PlannedTarget,
    StoredAnswers,
    StoredSamples,
    tested_provenance,
)
from evalrunner.errors import Problem, SuiteError
from evalrunner.gates.build import GateBuilder, SampleKeyIndex, reject_incompatible, resolve_baselines
from evalrunner.gates.metric_lookup import Gate
from evalrunner.middleware.budget import Side
from evalrunner.middleware.cache import CACHE_FILE
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.concurrency import MAX_CONCURRENCY
from evalrunner.middleware.deadline import Timing
from evalrunner.middleware.stack import CallContext, MiddlewareStack
from evalrunner.plugins import (
    Group,
    PluginContext,
    ReferenceProblem,
    SignatureError,
    call_factory,
    factory_options,
    resolve,
)
from evalrunner.prompts import Prompt, PromptError, compile_prompt
from evalrunner.scorers.call import BoundScorer
from evalrunner.stats.measures import Measure, builtin_measures
from evalrunner.stats.summary import Design
from evalrunner.storage import cache_folder
from evalrunner.suite.schema import KeyPath, ModelSpec, PaceSpec, PromptSpec, RunSpec, ScorerSpec, Suite, TargetSpec
from evalrunner.suite.validate import check_options
from evalrunner.suite.yaml import Document, dotted
from evalrunner.targets.prompted import PromptedTarget
from evalrunner.targets.recorded import RecordedColumn, RecordedRun

AUTO_FUNCTIONS = 16  # calls of people's own code at once, which cannot say how many it bears
UNCALLED = (RecordedColumn, RecordedRun)


@dataclass(slots=True)
class Assembler:
    """What assembling needs to know beside the suite. `runs` is the runs folder, `spool` takes temporary files.

    `stop` is the wish to stop of the command, `timing` the clock of its waits.
    `stored_stdin` is the copy of standard input in the folder of a run that goes on.
    Without `judging` no baseline is read. `judged` is the run that is compared with one, where it is there already.
    `stored` answers are scored in place of asking targets.
    """

    document: Document
    pool: EndpointPool
    runs: Path
    spool: Path
    stdin: BinaryIO | None = None
    stored_stdin: Path | None = None
    trace: Callable[[str], None] | None = None
    stop: StopSignal | None = None
    timing: Timing = Timing()
    refresh: bool = False
    models: list[PlannedModel] = field(default_factory=list)
    judging: bool = True
    judged: RunRef | None = None
    stored: StoredAnswers | None = None

    def assemble(self, suite: Suite) -> Plan:
        """The plan of a suite, its dataset scanned. Raises SuiteError with every problem of the file."""
        calls = MiddlewareStack(
            suite.run, StopSignal(self.stop), self.timing, cache_folder() / CACHE_FILE, self.trace, self.refresh
        )
        targets = [made for spec in suite.targets if (made := self._target(suite, spec, calls)) is not None]
        scorers = [bound for spec in suite.scorers if (bound := self._scorer(suite, spec, calls)) is not None]
        design = design_of(suite, self.document)
        gates = self._gates(suite, [scorer.measure for scorer in scorers], design)
        shelf = BaselineResolver(
            suite.folder, suite.name, self.runs, addresses=suite.tracking.addresses, judged=self.judged
        )
        baselines = resolve_baselines(self.document, gates, shelf) if self.judging else {}
        dataset = self._guard(suite.dataset.key_path, partial(self._dataset, suite))
        self.document.raise_problems()
        assert dataset is not None  # without it there was a problem
        columns, keeper = ColumnCheck(design), SampleKeyIndex() if baselines else None
        check = partial(_check_sample, targets, scorers, columns, capped=suite.run.max_cost is not None)
        scan = self._guard(suite.dataset.key_path, lambda: dataset.scan(keeper.before(check) if keeper else check))
        if scan is not None:
            columns.report(self.document, scan.columns)
        self.document.raise_problems()
        models = tuple(self.models)
        plan = Plan(suite, dataset, scan, tuple(targets), tuple(scorers), gates, calls, models, design=design)
        plan = replace(plan, stored=self.stored)
        return self._with_baselines(plan, baselines, keeper.keys if keeper is not None else {})

    def _dataset(self, suite: Suite) -> SampleSource | StoredSamples:
        if self.stored is not None:
            return self.stored.samples
        return open_dataset(
            suite.dataset,
            folder=suite.folder,
            spool_folder=self.spool,
            stdin=self.stdin,
            stored_stdin=self.stored_stdin,
            addresses=suite.tracking.addresses,
        )

    def _guard(self, path: KeyPath, make: Callable[[], Any]) -> Any:
        """What `make` returns, or None with its complaint noted at `path`."""
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
        return PluginContext(suite.folder, self.runs, args, suite.tracking.addresses)

    def _make(self, group: Group, kind: str, spec: TargetSpec | ScorerSpec, suite: Suite) -> Any:
        """What the factory of a spec returns; None where its name or its options are wrong, which are noted."""
        path = (*spec.key_path, "type") if self.document.keys.get((*spec.key_path, "type")) else spec.key_path
        factory = self._guard(path, lambda: resolve(group, kind, folder=suite.folder))
        if factory is None:
            return None
        before = len(self.document.problems)
        options = check_options(spec.options, factory_options(factory), spec.key_path, self.document.problem)
        if len(self.document.problems) > before:
            return None
        return self._guard(spec.key_path, lambda: call_factory(factory, options, self._context(suite, spec.args)))

    def _target(self, suite: Suite, spec: TargetSpec, calls: MiddlewareStack) -> PlannedTarget | None:
        if self.stored is not None:
            return PlannedTarget(spec.name, self.stored.answers[spec.name], "recorded")
        if spec.model is None:
            assert spec.type is not None  # a target is either a model or has a type
            made = self._make("targets", spec.type, spec, suite)
            if isinstance(made, NeedsHttpEndpoint):
                return self._service(suite, made, spec, calls)
            turns = None if isinstance(made, UNCALLED) or suite.run.concurrency != "auto" else Semaphore(AUTO_FUNCTIONS)
            model = getattr(made, "model", None)  # a target that asks one model may name it
            return None if made is None else PlannedTarget(spec.name, made, spec.type, model, turns=turns)
        prompt = self._prompt(spec.prompt or suite.prompt)
        opened = self._open(suite, spec.model)
        if prompt is None or opened is None:
            return None
        merged = {**suite.params, **spec.model.params}
        params = {name: value for name, value in merged.items() if value is not None}
        context = _call_context(spec.name, "targets", opened, spec.model.pace, suite.run)
        self._note_model(spec.name, context, spec.model, opened, params)
        call = PromptedTarget(
            calls.wrap(opened.endpoint, context), opened.model, prompt, params, spec.name, suite.streams(spec)
        )
        return PlannedTarget(
            spec.name, call, "model", spec.model.model, opened.host, prompt, params, context.tally, context.breaker
        )

    def _service(
        self, suite: Suite, made: NeedsHttpEndpoint, spec: TargetSpec, calls: MiddlewareStack
    ) -> PlannedTarget | None:
        """A target that asks a service of one's own, through the same wrappers as a model."""
        if suite.run.max_cost is not None and made.described.get("cost") is not None:
            said = "max_cost is set, and nothing bounds what a call to this service costs; take either out"
            self.document.problem(spec.key_path, said)
        opened: EndpointHandle | None = self._guard(
            (*spec.key_path, "transport"),
            lambda: self.pool.open_http(
                made.service,
                timeout_s=spec.pace.timeout or suite.run.timeout,
                transport=spec.pace.transport,
                folder=suite.folder,
            ),
        )
        if opened is None:
            return None
        context = _call_context(spec.name, "targets", opened, spec.pace, suite.run)
        call = made.with_endpoint(calls.wrap(opened.endpoint, context), name=spec.name)
        return PlannedTarget(
            spec.name, call, spec.type or "", None, opened.host, None, made.described, context.tally, context.breaker
        )

    def _note_model(
        self, name: str, context: CallContext, spec: ModelSpec, opened: EndpointHandle, params: Mapping[str, Any]
    ) -> None:
        say = partial(self.document.problem_at, spec.key_path)
        self.models.append(PlannedModel(name, context, spec, opened, params, say))

    def _prompt(self, spec: PromptSpec | None) -> Prompt | None:
        if spec is None:
            return compile_prompt(None)
        for part in spec.parts:  # one by one, so that a mistake is blamed on its own line
            if self._guard(part.key_path, partial(compile_prompt, [(part.role, part.template)])) is None:
                return None
        return compile_prompt([(part.role, part.template) for part in spec.parts])

    def _open(self, suite: Suite, spec: ModelSpec) -> EndpointHandle | None:
        limit_s = spec.pace.timeout or suite.run.timeout
        found: EndpointHandle | None = self._guard(
            spec.key_path, lambda: self.pool.open(spec, timeout_s=limit_s, folder=suite.folder)
        )
        return found

    def _scorer(self, suite: Suite, spec: ScorerSpec, calls: MiddlewareStack) -> PlannedScorer | None:
        made = self._make("scorers", spec.type, spec, suite)
        if made is None:
            return None
        scorer = made if isinstance(made, Scorer) else Scorer(made)
        bound: BoundScorer | None = self._guard(
            spec.key_path,
            lambda: BoundScorer.bind(spec.name, scorer, on_no_answer=spec.on_no_answer, version=spec.version),
        )
        if bound is None or not bound.wants_judge:
            if spec.judge is not None and bound is not None:
                self.document.problem((*spec.key_path, "judge"), f"{spec.name!r} asks no judge; take the key out")
            return None if bound is None else PlannedScorer(bound, spec)
        session = self._judge_session(suite, spec, bound, calls)
        return None if session is None else PlannedScorer(bound, spec, session)

    def _judge_session(
        self, suite: Suite, spec: ScorerSpec, bound: BoundScorer, calls: MiddlewareStack
    ) -> JudgeSession | None:
        judge = spec.judge or suite.judge
        if judge is None:
            self.document.problem(
                spec.key_path, f"{spec.name!r} needs a judge; add judge: MODEL to the suite, or pass --judge MODEL"
            )
            return None
        opened = self._open(suite, judge)
        if opened is None:
            return None
        context = _call_context(f"judge of {spec.name}", "judges", opened, judge.pace, suite.run)
        self._note_model(spec.name, context, judge, opened, judge.params)
        return JudgeSession(
            bound, calls.wrap(opened.endpoint, context), judge.name, opened.model, opened.host, suite.judge_check,
            judge.params, context.tally, context.breaker, stream=bool(judge.pace.stream),
        )  # fmt: skip

    def _gates(self, suite: Suite, measures: list[Measure], design: Design) -> tuple[Gate, ...]:
        maker = GateBuilder(
            self.document,
            [*measures, *builtin_measures(streaming=suite.streaming)],
            targets=[target.name for target in suite.targets],
            design=design,
            epochs=suite.run.epochs,
            broken=len(measures) < len(suite.scorers),
        )
        return maker.make(suite.gates)

    def _with_baselines(self, plan: Plan, baselines: Mapping[str, Baseline], keys: Mapping[int, SampleKey]) -> Plan:
        """The plan with the baselines of its gates, which are of the same scorers and judges."""
        if baselines:
            reject_incompatible(self.document, plan.gates, baselines, tested_provenance(plan))
            self.document.raise_problems()
        return replace(plan, baselines=baselines, keys=keys)


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


def _check_sample(
    targets: list[PlannedTarget], scorers: list[PlannedScorer], columns: ColumnCheck, sample: Sample, *, capped: bool
) -> list[str]:
    """What is wrong with a sample for any target or scorer: a template that cannot be filled in, a missing column.

    Under a cost cap also what nothing bounds the cost of.
    """
    columns.add(sample)
    wrong: list[str] = []
    for target in targets:
        try:
            if target.prompt is not None:
                messages = target.prompt.render(sample)
                if capped and (kind := unbounded_part(messages)) is not None:
                    wrong.append(
                        f"max_cost is set, and nothing bounds what a part of type {kind!r} costs; take either out"
                    )
            elif isinstance(target.call, SampleValidator) and (said := target.call.check(sample)):
                wrong.append(said)
        except PromptError as broken:
            wrong.append(str(broken))
    for scorer in scorers:
        function: object = scorer.bound.scorer.function
        if isinstance(function, SampleValidator) and (said := function.check(sample)):
            wrong.append(f"{scorer.bound.name}: {said}")
    return list(dict.fromkeys(wrong))


async def prepare_scorers(plans: Sequence[Plan], tell: Callable[[str], None]) -> None:
    """None, with every scorer ready. Raises SuiteError with all that are not; `tell` is told of a download."""
    problems: list[Problem] = []
    for plan in plans:
        for scorer in plan.scorers:
            function: object = scorer.bound.scorer.function
            if isinstance(function, Preparable):
                try:
                    await function.prepare(tell)
                except ValueError as wrong:
                    problems.append(Problem(str(plan.suite.path), dotted(scorer.spec.key_path), str(wrong)))
    if problems:
        raise SuiteError(problems)
