"""Targets of a suite as conversations: asked every turn of the data, and what a simulated user says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalrunner.domain import Target
from evalrunner.engine.plan import PlannedTarget
from evalrunner.limits import Limits
from evalrunner.targets.conversation import Conversation
from evalrunner.targets.recorded import RecordedColumn, RecordedRun
from evalrunner.targets.simulated_user import LABEL, Script, SimulatedUser
from evalrunner.templates import PromptError

if TYPE_CHECKING:
    from evalrunner.endpoints.factory import EndpointHandle
    from evalrunner.middleware.stack import CallContext, MiddlewareStack
    from evalrunner.suite.schema import ModelSpec, Suite, TargetSpec, UserSpec
    from evalrunner.suite.yaml import Document


@dataclass(slots=True)
class ConversationAssembly:
    """Makes conversations of the targets of one suite. `user` is the one of all of them, opened by `open_user`."""

    suite: Suite
    document: Document
    limits: Limits
    user: SimulatedUser | None = None

    def open_user(
        self,
        calls: MiddlewareStack,
        open: Callable[[ModelSpec], EndpointHandle | None],
        add_model: Callable[[str, ModelSpec, EndpointHandle], CallContext],
    ) -> None:
        """Open the model of the simulated user, if the suite has one. Problems are added to the document."""
        if (spec := self.suite.user) is None:
            return
        script = _script(spec)
        try:
            renderers = script.compiled(self.limits)
        except PromptError as wrong:
            name = str(wrong).partition(" ")[0]
            self.document.problem((*spec.key_path, name), str(wrong))
            return
        if (opened := open(spec.model)) is None:
            return
        context = add_model(LABEL, spec.model, opened)
        self.user = SimulatedUser(
            calls.wrap(opened.endpoint, context), spec.model.name, opened.model, opened.host, script, renderers,
            spec.max_turns, spec.model.params, self.suite.run.seed, bool(spec.model.pace.stream), context.tally,
            context.breaker,
        )  # fmt: skip

    def call_of(self, spec: TargetSpec, target: PlannedTarget) -> Target:
        """The target as a conversation, if the suite has some; one without calls cannot be."""
        suite = self.suite
        if (suite.turns is None and suite.user is None) or isinstance(target.call, RecordedRun):
            return target.call
        if isinstance(target.call, RecordedColumn):
            key = "turns" if suite.turns is not None else "user"
            self.document.problem(spec.key_path, f"a column has one answer, and no conversation; remove {key!r}")
        if suite.user is not None and self.user is None:
            return target.call  # a problem
        return Conversation(target.call, suite.turns, spec.reasoning == "strip", self.user, spec.name)


def _script(spec: UserSpec) -> Script:
    stop = spec.stop_when
    return Script(
        spec.goal, spec.persona, None if stop is None else stop.condition, None if stop is None else stop.phrase
    )
