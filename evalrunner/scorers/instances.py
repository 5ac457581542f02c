"""Scorers made from a type and its options, once for each distinct set of options."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evalrunner.domain import NoAnswer, Scorer
from evalrunner.plugins import (
    BoundFunction,
    Factory,
    PluginContext,
    ReferenceProblem,
    SignatureError,
    call_factory,
    factory_options,
    own_templates_of,
    resolve,
)
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.option_templates import CONSTANT_TYPES, OptionTemplates, compile_options, fit
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.validate import check_options
from evalrunner.suite.yaml import dotted

MAX_INSTANCES = 8_192  # distinct options that are kept


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
            known = self.factories[kind] = KnownFactory(kind, factory, options, constant)
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
            fitted = {
                name: fit(value, known.options[name].annotation) if name in known.options else value
                for name, value in options.items()
            }
            scorer = self.recent[key] = self._call(known, fitted, args)
            if len(self.recent) > MAX_INSTANCES:
                self.recent.popitem(last=False)
        else:
            self.recent.move_to_end(key)
        return scorer

    def _call(self, known: KnownFactory, options: Mapping[str, Any], args: Mapping[str, Any]) -> Scorer:
        def report(path: KeyPath, message: str) -> None:
            raise OptionProblem(message, path)

        checked = check_options(options, known.options, (), report)
        try:
            product = call_factory(known.factory, checked, replace(self.context, args=args) if args else self.context)
        except (ReferenceProblem, SignatureError):
            raise
        except ValueError as wrong:
            raise OptionProblem(str(wrong)) from None
        return product if isinstance(product, Scorer) else Scorer(product)

    def bind(
        self, name: str, scorer: Scorer, *, on_no_answer: NoAnswer = "unscored", extract: Any = None
    ) -> BoundScorer:
        """The scorer with its function bound. Functions of the same code are inspected once. Raises SignatureError."""
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
