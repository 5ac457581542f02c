"""What scorers have to do before the first call, such as load a model: told as a mistake of the suite where it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalrunner.domain import Preparable
from evalrunner.engine.plan import Plan
from evalrunner.errors import Problem, SuiteError
from evalrunner.suite.yaml import dotted


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
