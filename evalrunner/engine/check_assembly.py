"""The checks of a suite assembled: their scorers and judges, the names that the data has, and the scorer `checks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from evalrunner.domain import Declaration, Sample, Scorer
from evalrunner.engine.judge_assembly import JudgeAssembly
from evalrunner.engine.panel import JudgePanel
from evalrunner.engine.plan import PlannedScorer
from evalrunner.engine.row_checks import NAME, SHARE, CheckProblem, RowChecks
from evalrunner.plugins import BoundFunction, PluginContext
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.instances import ScorerInstances
from evalrunner.suite.schema import ModelSpec, ScorerSpec, Suite
from evalrunner.suite.yaml import Document

if TYPE_CHECKING:
    from evalrunner.engine.judge import JudgeRole, JudgeSession

NAMED = Declaration(infer_binary=True, needs_answer=False, bare=True)
SHARE_DECLARATION = Declaration(infer_binary=True, needs_answer=False)


@dataclass(slots=True)
class CheckJudges:
    """The judges of checks, each opened once; its sanity check runs once for all checks with the same known answers.

    The first one counts its calls for the scorer `checks`, a further one for `checks (NAME)`.
    """

    suite: Suite
    judging: JudgeAssembly
    known: Mapping[str, ModelSpec] = field(default_factory=dict)
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    panels: dict[Any, JudgePanel] = field(default_factory=dict)
    opened: dict[tuple[int, bool], JudgePanel] = field(default_factory=dict)

    def find(self, judge: ModelSpec | str | None, kind: str, bound: BoundScorer, role: JudgeRole) -> JudgePanel:
        """The judges for a check, or the model that it asks. Raises CheckProblem."""
        is_model = role == "model"
        known = self.models if is_model else self.known
        bound = replace(bound, wants_judge=not is_model, wants_model=is_model)  # each is opened by itself
        if isinstance(judge, str):
            if judge not in known:
                listed = ", ".join(map(repr, known)) or "none"
                raise CheckProblem(f"the suite has no {role} {judge!r}; it has {listed}")
            judge = known[judge]
        spec = judge if judge is not None or is_model else self.suite.judge
        if spec is None and is_model:
            raise CheckProblem(f"{kind!r} asks a model; name it with model:")
        if spec is None:
            raise CheckProblem(f"{kind!r} needs a judge; add judge: MODEL to the suite, or pass --judge MODEL")
        key = (id(spec), kind, role, repr(bound.scorer.calibration_examples), id(bound.scorer.calibration))
        panel = self.panels.get(key)
        if panel is None:
            panel = self.panels[key] = self._open(spec, kind, bound, is_model=is_model)
        return replace(panel, samples=bound.scorer.votes.samples)

    @property
    def all(self) -> JudgePanel | None:
        """All judges of checks; each counts by itself."""
        sessions = tuple(session for panel in self.opened.values() for session in panel.sessions)
        return JudgePanel(sessions, independent=True) if sessions else None

    def _open(self, spec: ModelSpec, kind: str, bound: BoundScorer, *, is_model: bool) -> JudgePanel:
        opened = self.opened.get((id(spec), is_model))
        if opened is not None:
            return replace(opened, sessions=tuple(self._checked(session, bound) for session in opened.sessions))
        section = ScorerSpec(NAME, kind, judge=spec, model=spec, key_path=(NAME,))
        label = f"{NAME} ({spec.name})" if self.opened and not spec.others else NAME
        if is_model:
            session = self.judging.model_session(section, bound, label)
            panel = None if session is None else JudgePanel((session,))
        else:
            panel = self.judging.panel(section, bound, spec, label)
        if panel is None:
            raise CheckProblem("")  # the problem is at the judge
        self.opened[id(spec), is_model] = panel
        return panel

    def _checked(self, session: JudgeSession, bound: BoundScorer) -> JudgeSession:
        """The session for checks of another type or with other known answers, with its own sanity check."""
        return replace(session, bound=bound, sanity=self.judging.sanity_check_of(bound, session.sanity.judge_key))


def known_judges(suite: Suite) -> dict[str, ModelSpec]:
    """The judges that a row can name: those of the suite, of its scorers and of its checks."""
    specs = [suite.judge, *(scorer.judge for scorer in suite.scorers)]
    specs += [leaf.judge for leaf in suite.checks.leaves() if isinstance(leaf.judge, ModelSpec)]
    return {spec.name: spec for spec in reversed(specs) if spec is not None}


def known_models(suite: Suite) -> dict[str, ModelSpec]:
    """The models for embeddings or moderation that a row can name: those of scorers and checks of the suite."""
    specs = [scorer.model for scorer in suite.scorers]
    specs += [leaf.model for leaf in suite.checks.leaves() if isinstance(leaf.model, ModelSpec)]
    return {spec.name: spec for spec in reversed(specs) if spec is not None}


def assemble_checks(
    suite: Suite, document: Document, context: PluginContext, judges: CheckJudges, taken: Mapping[str, str]
) -> RowChecks:
    """The checks of a suite, before its data is read. Problems are added to the document.

    Only inline rows of a trusted suite may name user-defined code: data cannot.
    """
    inline = suite.dataset.rows is not None
    confined = not inline or document.restrictions is not None
    checks = RowChecks(
        ScorerInstances(context),
        ScorerInstances(replace(context, confined=confined)),
        judges.find,
        _default(document),
        allows_code=not confined,
        places=lambda path: document.problem_at(path, "").where,
        taken={**taken, NAME: "the scorer of all checks", SHARE: "the part checks/share"},
        turns=suite.turns,
        max_turns=None if suite.user is None else suite.user.max_turns,
    )
    checks.use(suite.checks, document.problem)
    return checks


def _default(document: Document) -> Any:
    choice = document.data.get("on_no_answer")
    return choice if choice in ("unscored", "zero") else "unscored"


def planned_checks(checks: RowChecks, judges: CheckJudges, suite: Suite) -> PlannedScorer:
    """The scorer `checks`, with a part for the share and one for each name found so far."""
    parts = {SHARE: SHARE_DECLARATION, **dict.fromkeys(checks.names, NAMED)}
    declaration = Declaration(binary=True, needs_answer=False, parts=parts)
    function: Any = checks  # the runner calls it in its own way
    plain = BoundScorer.bind(NAME, Scorer(_not_called, declaration))
    bound = replace(plain, scorer=Scorer(function, declaration), call=BoundFunction(_not_called, (), {}))
    data = suite.resolved.get(NAME)
    spec = ScorerSpec(NAME, NAME, options={} if data is None else {NAME: data}, key_path=(NAME,))
    return PlannedScorer(bound, spec, judges.all)


def _not_called(output: str) -> None:
    """Stands for the checks where a function is expected."""


def discover(checks: RowChecks, samples: Iterable[Sample]) -> Iterator[None]:
    """Read the names of checks in the data, also beyond its limit: metrics are the same however many samples are used.

    Yields after each sample with something new. Problems are left to the complete pass.
    """
    for sample in samples:
        known = checks.present, len(checks.names)
        try:
            row = checks.of_row(sample)
        except CheckProblem:
            continue
        checks.present = checks.present or (row is not None and bool(row.items))
        if (checks.present, len(checks.names)) != known:
            yield
