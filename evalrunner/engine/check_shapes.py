"""Shapes of checks: checks that differ in the value of their main option only are read and bound once.

In thousands of rows, `contains: 30 days` has another text in each. Where the factory takes every such value, the check is
that of the first one with another instance of its scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from evalrunner.domain import SampleValidator, Scorer
from evalrunner.engine.compiled_checks import CompiledChecks, Leaf, ReadyCheck
from evalrunner.plugins import BoundFunction, Factory
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.instances import ScorerInstances
from evalrunner.scorers.option_templates import OptionTemplates, RenderedText
from evalrunner.suite.checks import MAX_CHECKS

MAX_SHAPES: Final = 1_000
MAX_RECENT: Final = 256  # values of a shape
PLAIN: Final = frozenset({str, bool, int, float, type(None)})


@dataclass(frozen=True, slots=True)
class CheckShape:
    """A check whose main option `option` may have every value that `accepts` takes; `first` is one such check.

    `fixed` are its other options, as the factory takes them.
    """

    first: ReadyCheck
    option: str
    fixed: Mapping[str, Any]
    factory: Factory
    accepts: Callable[[Any], bool]
    takes_text: bool
    recent: dict[Any, ReadyCheck] = field(default_factory=dict)  # by value

    @classmethod
    def of(cls, ready: ReadyCheck, instances: ScorerInstances) -> CheckShape | None:
        """The shape of a check; None if another value could change more than the scorer's function."""
        spec, bound = ready.spec, ready.bound
        known = instances.factory(spec.type)
        option, accepts = known.main_option, known.accepts
        if option is None or accepts is None or option not in ready.options or known.takes_context or spec.args:
            return None
        if ready.judge is not None or bound.parts or isinstance(bound.scorer.function, SampleValidator):
            return None
        rest = {name: value for name, value in spec.options.items() if name != option}
        if instances.templates(spec.type, rest).fill is not None:
            return None
        return cls(ready, option, instances.fitted(known, rest), known.factory, accepts, option in known.texts)

    def value_of(self, options: Mapping[str, Any]) -> Any:
        """The value of the main option in options of this shape; None if it is not known to be right."""
        value = options[self.option]
        if type(value) is RenderedText:
            value = str(value) if self.takes_text else None
        return value if self.accepts(value) else None

    def make(self, value: Any) -> ReadyCheck:
        """The check with another value, which has to be accepted."""
        is_key = type(value) is not list
        if is_key and (known := self.recent.get(value)) is not None:
            return known
        first = self.first
        options = {**self.fixed, self.option: value}
        scorer: Scorer = self.factory(**options)
        bound, call = first.bound, first.bound.call
        call = BoundFunction(scorer.function, call.parameters, call.args, call.positional, call.is_async)
        bound = BoundScorer(bound.name, scorer, call, bound.on_no_answer, extract=bound.extract)
        ready = ReadyCheck(first.spec, bound, first.rule, options, None)
        if is_key:
            if len(self.recent) >= MAX_RECENT:
                self.recent.clear()
            self.recent[value] = ready
        return ready


@dataclass(slots=True)
class CheckShapes:
    """The shapes of the checks that rows have, by what is written in the data besides the value."""

    shapes: dict[Hashable, tuple[CheckShape, OptionTemplates]] = field(default_factory=dict)
    varying: dict[Hashable, str] = field(default_factory=dict)  # that of the value by the only key or by all keys

    def find_all(self, items: Any) -> CompiledChecks | None:
        """The checks in a list; None if it is no list, or one of them is not known."""
        if type(items) is not list or len(items) > MAX_CHECKS:
            return None
        leaves: list[Leaf] = []
        for item in items:
            leaf = self.find(item)
            if leaf is None:
                return None
            leaves.append(leaf)
        return CompiledChecks(tuple(leaves), None, True)

    def find(self, item: Any) -> Leaf | None:
        """The check that is written as `item`; None if its shape is not known, or the value may be wrong or a template."""
        if type(item) is not dict:
            return None
        keys: Hashable = next(iter(item)) if len(item) == 1 else tuple(item)
        name = self.varying.get(keys)
        if name is None:
            return None
        known = self.shapes.get(keys if keys == name else _key(item, keys, name))
        if known is None:
            return None
        shape, templates = known
        value = item[name]
        is_template = "{{" in value or "{%" in value if type(value) is str else _has_templates(value)
        if is_template or not shape.accepts(value):
            return None
        return Leaf(shape.first.spec, templates, False, None, shape, value)

    def add(self, item: Any, ready: ReadyCheck, templates: OptionTemplates, instances: ScorerInstances) -> None:
        """Remember the shape of a check of a row, if it has one."""
        shape = CheckShape.of(ready, instances)
        if shape is None or type(item) is not dict or len(self.shapes) >= MAX_SHAPES:
            return
        value = ready.options[shape.option]
        names = [name for name, inner in item.items() if inner is value]
        keys: Hashable = next(iter(item)) if len(item) == 1 else tuple(item)
        if len(names) != 1 or self.varying.setdefault(keys, names[0]) != names[0]:
            return
        if all(type(inner) in PLAIN for name, inner in item.items() if name != names[0]):
            self.shapes[keys if keys == names[0] else _key(item, keys, names[0])] = shape, templates


def _key(item: Mapping[str, Any], keys: Hashable, name: str) -> Hashable:
    """What is written besides the value; None for what is not plain."""
    rest = [inner for key, inner in item.items() if key != name]
    kinds = tuple(map(type, rest))
    return (keys, kinds, *rest) if PLAIN.issuperset(kinds) else None


def _has_templates(value: Any) -> bool:
    """Whether a list may have one; what no factory accepts is not looked into."""
    return type(value) is list and any(type(text) is str and ("{{" in text or "{%" in text) for text in value)
