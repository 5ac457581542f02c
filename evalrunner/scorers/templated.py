"""A scorer of the suite whose options have templates: another instance for each row, called in its place."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from evalrunner.domain import Declaration, NoAnswer, Preparable, Sample, SampleFilter, SampleValidator, Scorer
from evalrunner.plugins import ReferenceProblem, SignatureError
from evalrunner.scorers.call import OFFERED, BoundScorer
from evalrunner.scorers.instances import OptionProblem, ScorerInstances
from evalrunner.scorers.option_templates import OptionTemplates, names_of
from evalrunner.scorers.pass_rule import Negation
from evalrunner.suite.schema import ScorerSpec
from evalrunner.templates import PromptError

PROBLEMS = (OptionProblem, ReferenceProblem, SignatureError, PromptError, ValueError)
MAX_ATTEMPTS = 100  # samples that are tried for a first instance


def templated_scorer(
    instances: ScorerInstances, spec: ScorerSpec, templates: OptionTemplates, samples: Iterable[Sample]
) -> Scorer | None:
    """The scorer, with what its instance for the first sample declares; None without samples.

    Raises one of PROBLEMS if no instance can be made for the first samples.
    """
    first: Exception | None = None
    for number, sample in enumerate(samples):
        function = Templated(instances, spec, templates, spec.on_no_answer)
        try:
            bound = function.instance(sample)
        except PROBLEMS as wrong:
            first = first or wrong
            if number >= MAX_ATTEMPTS:
                break
            continue
        instance: object = bound.scorer.function
        if isinstance(instance, Preparable) and not isinstance(instance, Negation):
            raise OptionProblem("loads a model for its options, so these cannot be templates")
        function = (Awaited if bound.is_async else Templated)(instances, spec, templates, spec.on_no_answer)
        function.declare(bound)
        return Scorer(function, bound.scorer.declaration, bound.scorer.calibration_examples)
    if first is not None:
        raise first
    return None


class Templated(SampleValidator, SampleFilter):
    """The function of such a scorer; it takes what any scorer can take."""

    def __init__(
        self, instances: ScorerInstances, spec: ScorerSpec, templates: OptionTemplates, on_no_answer: NoAnswer
    ) -> None:
        self.instances, self.spec, self.templates, self.on_no_answer = instances, spec, templates, on_no_answer
        self.declaration = Declaration()

    def declare(self, bound: BoundScorer) -> None:
        """Take the declaration and the parameters of the instance for the first sample."""
        self.declaration = bound.scorer.declaration
        names = (*OFFERED, *(["judge"] if bound.wants_judge else ["model"] if bound.wants_model else []))
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        self.__signature__ = inspect.Signature(parameters)

    def instance(self, sample: Sample) -> BoundScorer:
        """The scorer for a sample. Raises one of PROBLEMS."""
        options = self.templates.of(names_of(sample))
        scorer = self.instances.make(self.spec.type, options, self.spec.args, filled=True)
        return self.instances.bind(self.spec.name, scorer, on_no_answer=self.on_no_answer)

    def __call__(self, **offered: Any) -> Any:
        return self.instance(offered["sample"]).call(offered)

    def check(self, sample: Sample) -> str | None:
        """Why no scorer can be made for a sample, or that it would be a scorer of another kind of scores."""
        try:
            scorer = self.instance(sample).scorer
            function: object = scorer.function
        except PROBLEMS as wrong:
            return str(wrong)
        if scorer.declaration != self.declaration:
            return "its options make it declare other scores (range, direction, names) than for the first sample"
        return function.check(sample) if isinstance(function, SampleValidator) else None

    def skip_reason(self, sample: Sample) -> str | None:
        try:
            function: object = self.instance(sample).scorer.function
        except PROBLEMS:
            return None
        return function.skip_reason(sample) if isinstance(function, SampleFilter) else None


class Awaited(Templated):
    """The same for scorers that are awaited."""

    async def __call__(self, **offered: Any) -> Any:
        bound = self.instance(offered["sample"])
        result = bound.call(offered)
        return await result if inspect.isawaitable(result) else result
