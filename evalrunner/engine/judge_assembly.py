"""The judges and models that scorers ask, opened before the first call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from evalrunner.endpoints.factory import EndpointHandle, kind_of
from evalrunner.engine.panel import AGREEMENT, JudgePanel, with_agreement
from evalrunner.engine.plan import PlannedScorer
from evalrunner.engine.sanity_check import SanityCheck
from evalrunner.example_models import EMBEDDING
from evalrunner.middleware.stack import CallContext, MiddlewareStack
from evalrunner.scorers.call import BoundScorer
from evalrunner.suite.schema import ModelSpec, ScorerSpec, Suite
from evalrunner.suite.yaml import Document

if TYPE_CHECKING:
    from evalrunner.domain import Scorer
    from evalrunner.engine.format_fallback import FormatSupport
    from evalrunner.engine.judge import JudgeSession


class AddModel(Protocol):
    """Registers a model, so that its price is found and its deprecation noticed."""

    def __call__(
        self, label: str, spec: ModelSpec, opened: EndpointHandle, *, chats: bool, role: str
    ) -> CallContext: ...


@dataclass(slots=True)
class JudgeAssembly:
    """Opens the judges of one suite's scorers. Problems are added to the document.

    Judges that use the same model share what it is known to take, and the sanity check where the questions are the same.
    """

    suite: Suite
    document: Document
    calls: MiddlewareStack
    open: Callable[[ModelSpec], EndpointHandle | None]
    add_model: AddModel
    bind: Callable[[ScorerSpec, Scorer], BoundScorer | None]
    format_support: dict[tuple[int, str], FormatSupport] = field(default_factory=dict)
    sanity_checks: dict[tuple[str, int], SanityCheck] = field(default_factory=dict)

    def planned(self, spec: ScorerSpec, bound: BoundScorer) -> PlannedScorer | None:
        """The scorer with the judges and the model that it asks; with several votes it also measures their agreement."""
        for name, wanted in (("judge", bound.wants_judge), ("model", bound.wants_model)):
            if not wanted and getattr(spec, name) is not None:
                self.document.problem((*spec.key_path, name), f"{spec.name!r} does not use a {name}; remove the key")
        if not bound.wants_judge and not bound.wants_model:
            return PlannedScorer(bound, spec)
        if not bound.wants_judge:
            model = self.model_session(spec, bound)
            return None if model is None else PlannedScorer(bound, spec, JudgePanel((model,)))
        judge = spec.judge or self.suite.judge
        if judge is None:
            self.document.problem(
                spec.key_path, f"{spec.name!r} needs a judge; add judge: MODEL to the suite, or pass --judge MODEL"
            )
            return None
        if bound.scorer.votes.samples * len(judge.members) > 1:
            if AGREEMENT in bound.scorer.declaration.parts:
                self.document.problem(
                    spec.key_path, f"{AGREEMENT!r} is the metric of several votes; rename the criteria"
                )
                return None
            voting = self.bind(spec, with_agreement(bound.scorer))
            if voting is None:
                return None
            bound = voting
        panel = self.panel(spec, bound, judge)
        return None if panel is None else PlannedScorer(bound, spec, panel)

    def panel(self, spec: ScorerSpec, bound: BoundScorer, judge: ModelSpec, label: str = "") -> JudgePanel | None:
        """The judges of a scorer, with the model that it asks besides; None and a problem if one cannot be opened."""
        base = label or spec.name
        sessions = [
            self.session(bound, member, f"{base} ({member.name})" if judge.others else base) for member in judge.members
        ]
        opened = tuple(session for session in sessions if session is not None)
        if len(opened) < len(sessions):
            return None
        companion = self.model_session(spec, bound) if bound.wants_model else None
        if bound.wants_model and companion is None:
            return None
        samples = bound.scorer.votes.samples
        for session in opened:
            session.companion = companion
            if samples > 1 and session.params.get("temperature") == 0:
                self.calls.notices.append(
                    f"{session.label}: {samples} votes at temperature 0 are nearly equal; raise the judge's temperature"
                )
        return JudgePanel(opened, samples)

    def session(self, bound: BoundScorer, judge: ModelSpec, label: str) -> JudgeSession | None:
        """The session of one judge."""
        from evalrunner.engine.format_fallback import FormatFallback, FormatSupport
        from evalrunner.engine.judge import JudgeSession

        opened = self.open(judge)
        if opened is None:
            return None
        context = self.add_model(label, judge, opened, chats=True, role="judge")
        support = self.format_support.setdefault((id(opened.endpoint), opened.model), FormatSupport())
        endpoint = FormatFallback(opened.endpoint, support, context.label, self.calls.notices.append)
        return JudgeSession(
            bound, self.calls.wrap(endpoint, context), judge.name, opened.model, opened.host,
            self.sanity_check(bound, opened, judge), label, self.suite.judge_check, judge.params, context.tally,
            context.breaker, stream=bool(judge.pace.stream),
        )  # fmt: skip

    def model_session(self, spec: ScorerSpec, bound: BoundScorer, label: str = "") -> JudgeSession | None:
        """The session of the model that a scorer asks for embeddings or moderation."""
        from evalrunner.engine.model_session import ModelSession

        if spec.model is None:
            message = f"{spec.name!r} asks a model; name it, such as model: {EMBEDDING}"
            self.document.problem(spec.key_path, message)
            return None
        if kind_of(spec.model) == "local":
            message = f"{spec.model.model!r} only chats; name a model that embeds or moderates, such as {EMBEDDING}"
            self.document.problem(spec.model.key_path, message)
            return None
        if (opened := self.open(spec.model)) is None:
            return None
        label = label or (f"{spec.name} ({spec.model.name})" if bound.wants_judge else spec.name)
        context = self.add_model(label, spec.model, opened, chats=False, role="model")
        return ModelSession(
            bound, self.calls.wrap(opened.endpoint, context), spec.model.name, opened.model, opened.host,
            SanityCheck(bound), label, "off", spec.model.params, context.tally, context.breaker,
        )  # fmt: skip

    def sanity_check(self, bound: BoundScorer, opened: EndpointHandle, judge: ModelSpec) -> SanityCheck:
        """The sanity check of a judge: its own, or the one of all judges with the same model, params and known answers."""
        return self.sanity_check_of(bound, f"{opened.identity} {opened.model} {sorted(judge.params.items(), key=str)}")

    def sanity_check_of(self, bound: BoundScorer, judge_key: str) -> SanityCheck:
        """The sanity check of a scorer's judge, which `judge_key` names."""
        general = bound.scorer.calibration
        if general is None:
            return SanityCheck(bound, judge_key)
        if (judge_key, id(general)) not in self.sanity_checks:
            self.sanity_checks[judge_key, id(general)] = SanityCheck(
                BoundScorer.bind("sanity check", general), judge_key
            )
        return self.sanity_checks[judge_key, id(general)]
