"""Scorers made from a type and its options, once for each distinct set of options.

A scorer of the suite whose options have templates is another instance for each row, called in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evalrunner.capabilities import Preparable, SampleFilter, SampleValidator
from evalrunner.domain import Declaration, NoAnswer, Sample, Scorer
from evalrunner.plugins import (
    BoundFunction,
    Factory,
    PluginContext,
    ReferenceProblem,
    SignatureError,
    accepts_of,
    factory_options,
    main_option_of,
    own_templates_of,
    resolve,
    takes_context,
)
from evalrunner.scorers.call import OFFERED, BoundScorer
from evalrunner.scorers.checks import Negation
from evalrunner.scorers.extraction import Extract, WrongExtract, compile_extract
from evalrunner.scorers.option_templates import (
    CONSTANT_TYPES,
    OptionTemplates,
    accepts_text,
    compile_options,
    fit,
    names_of,
)
from evalrunner.suite.schema import KeyPath, ScorerSpec
from evalrunner.suite.validate import check_options
from evalrunner.suite.yaml import dotted
from evalrunner.templates import PromptError

MAX_INSTANCES = 8_192  # distinct options that are kept
MAX_KEPT = 8_192  # characters of options that are kept: those of a dataset may have megabytes in each row


class OptionProblem(ValueError):
    """Options that a factory does not take. `path` leads to the wrong one."""

    def __init__(self, message: str, path: KeyPath = ()) -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        return ": ".join(filter(None, [dotted(self.path), self.args[0]]))


@dataclass(frozen=True, slots=True)
class KnownFactory:
    """A factory with what is known of its signature."""

    kind: str
    factory: Factory
    options: Mapping[str, inspect.Parameter]
    constant: frozenset[str]
    takes_context: bool
    texts: frozenset[str]
    required: frozenset[str]
    main_option: str | None
    accepts: Callable[[Any], bool] | None


@dataclass(slots=True)
class ScorerInstances:
    """Makes scorers by type and options, and keeps the last ones. `context` is what factories get."""

    context: PluginContext
    factories: dict[str, KnownFactory] = field(default_factory=dict)
    recent: OrderedDict[tuple[str, str, str], Scorer] = field(default_factory=OrderedDict)
    bindings: dict[Any, BoundScorer] = field(default_factory=dict)

    def factory(self, kind: str) -> KnownFactory:
        """The factory of a type. Raises ReferenceProblem."""
        known = self.factories.get(kind)
        if known is None:
            factory = resolve("scorers", kind, folder=self.context.folder)
            options = factory_options(factory)
            constant = frozenset(options) if kind.removeprefix("not_") in CONSTANT_TYPES else own_templates_of(factory)
            known = self.factories[kind] = KnownFactory(
                kind, factory, options, constant, takes_context(factory),
                frozenset(name for name, option in options.items() if accepts_text(option.annotation)),
                frozenset(name for name, option in options.items() if option.default is option.empty),
                main_option_of(factory), accepts_of(factory),
            )  # fmt: skip
        return known

    def templates(self, kind: str, options: Mapping[str, Any]) -> OptionTemplates:
        """The options of a scorer of this type, compiled. Raises ReferenceProblem and PromptError."""
        return compile_options(options, self.context.limits, constant=self.factory(kind).constant)

    def make(self, kind: str, options: Mapping[str, Any], args: Mapping[str, Any], *, filled: bool = False) -> Scorer:
        """The scorer with these options, which templates may have `filled`. Raises OptionProblem and ReferenceProblem.

        A plain number is text for an option that takes only text.
        """
        known = self.factory(kind)
        key = (kind, repr(options), f"{filled}{args or ''}")
        scorer = self.recent.get(key)
        if scorer is None:
            scorer = self._call(known, self._checked(known, options), args, filled=filled)
            if len(key[1]) > MAX_KEPT:
                return scorer
            self.recent[key] = scorer
            if len(self.recent) > MAX_INSTANCES:
                self.recent.popitem(last=False)
        else:
            self.recent.move_to_end(key)
        return scorer

    def fitted(self, known: KnownFactory, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options converted to the types of the factory, where they can be."""
        return {
            name: fit(value, known.options[name].annotation) if name in known.options else value
            for name, value in options.items()
        }

    def _checked(self, known: KnownFactory, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options as the factory takes them. Raises OptionProblem."""
        fitted = self.fitted(known, options)
        plain = all(type(value) is str and name in known.texts for name, value in fitted.items())
        if plain and known.required <= fitted.keys():  # most checks, each with a text of its own in thousands of rows
            return fitted

        def report(path: KeyPath, message: str) -> None:
            raise OptionProblem(message, path)

        return check_options(fitted, known.options, (), report)

    def _call(
        self, known: KnownFactory, checked: Mapping[str, Any], args: Mapping[str, Any], *, filled: bool
    ) -> Scorer:
        """The product of the factory. What data filled in may name as little as data itself."""
        try:
            context = replace(self.context, args=args) if args else self.context
            context = replace(context, confined=True) if filled else context
            product = known.factory(context, **checked) if known.takes_context else known.factory(**checked)
        except (ReferenceProblem, SignatureError):
            raise
        except ValueError as wrong:
            raise OptionProblem(str(wrong)) from None
        return product if isinstance(product, Scorer) else Scorer(product)

    def bind(
        self, name: str, scorer: Scorer, *, on_no_answer: NoAnswer = "unscored", extract: Any = None
    ) -> BoundScorer:
        """The scorer with its function bound. Functions of the same code are inspected once. Raises SignatureError, ValueError."""
        bound = self._bind(name, scorer, on_no_answer)
        return bound if extract is None else replace(bound, extract=self._extract(extract))

    def _extract(self, spec: Any) -> Extract:
        """The compiled extraction of a check. Raises OptionProblem."""
        try:
            return compile_extract(spec, self.context.limits)
        except WrongExtract as wrong:
            raise OptionProblem(str(wrong), ("extract", *wrong.path)) from None

    def _bind(self, name: str, scorer: Scorer, on_no_answer: NoAnswer) -> BoundScorer:
        function = scorer.function
        if isinstance(function, functools.partial) or hasattr(function, "__wrapped__") or scorer.calibration_examples:
            return BoundScorer.bind(name, scorer, on_no_answer=on_no_answer)
        key = (getattr(function, "__code__", None) or type(function), on_no_answer)
        known = self.bindings.get(key)
        if known is None:
            known = self.bindings[key] = BoundScorer.bind(name, scorer, on_no_answer=on_no_answer)
            return known
        call = BoundFunction(
            function, known.call.parameters, known.call.args, known.call.positional, known.call.is_async
        )
        return BoundScorer(name, scorer, call, on_no_answer, known.wants_judge, known.wants_model)


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
        made = bound.scorer
        general = made.calibration or (made if made.calibration_examples else None)  # known answers have no columns
        return Scorer(function, made.declaration, made.calibration_examples, general, made.votes)
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
        names = (*OFFERED, *(["judge"] if bound.wants_judge else []), *(["model"] if bound.wants_model else []))
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
