"""Checks compiled: those of the suite or of one row, with the scorer, the rule and the judge of each once it is known.

Checks of one shape differ in the value of their main option only, and are read and bound once: in thousands of rows,
`contains: 30 days` has another text in each. Where the factory takes every such value, the check is that of the first
one with another instance of its scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Sample, Scorer
from evalrunner.formatting import one_line, one_lines, plain_text
from evalrunner.plugins import NEGATION, BoundFunction, Factory
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.checks import PassRule
from evalrunner.scorers.instances import ScorerInstances
from evalrunner.scorers.option_templates import OptionTemplates, RenderedText
from evalrunner.suite.checks import MAX_CHECKS, main_option
from evalrunner.suite.schema import CheckGroup, CheckSpec

if TYPE_CHECKING:
    from evalrunner.engine.panel import JudgePanel

MAX_TEXT: Final = 120  # characters of a check in reports
MAX_SHAPES: Final = 1_000
MAX_RECENT: Final = 256  # values of a shape
PLAIN: Final = frozenset({str, bool, int, float, type(None)})


@dataclass(slots=True)
class ReadyCheck:
    """A check for one row: its scorer, when it passes, its options, and the judge that it asks.

    `spec` may be that of another check of its shape: their options differ in one value.
    """

    spec: CheckSpec
    bound: BoundScorer
    rule: PassRule
    options: Mapping[str, Any]
    judge: JudgePanel | None
    _text: str | None = None

    @property
    def text(self) -> str:
        """How reports show it."""
        if self._text is None:
            self._text = check_text(self.spec, self.options)
        return self._text

    @property
    def has_text(self) -> bool:
        """Whether it is known how reports show it."""
        return self._text is not None

    def write(self, text: str) -> None:
        """Keep how reports show it."""
        self._text = text


@dataclass(slots=True)
class Leaf:
    """A check, compiled. `ready` is the check for every row if no template differs.

    A check that was made from its `shape` has its own `value`, and the `spec` and `templates` of the first of that shape.
    """

    spec: CheckSpec
    templates: OptionTemplates
    of_suite: bool
    ready: ReadyCheck | None = None
    shape: CheckShape | None = None
    value: Any = None

    @property
    def is_settled(self) -> bool:
        """Whether no row can have a problem with it."""
        if self.ready is None:
            return self.shape is not None and self.templates.fill is None
        return not isinstance(self.ready.bound.scorer.function, SampleValidator)

    def lacks_answer(self, sample: Sample) -> bool:
        """Whether it is a row's own check with an empty value, as `contains: #5` in YAML, and nothing else to compare with."""
        ready = self.ready
        if ready is None or self.of_suite or not self.spec.empty or sample.expected:
            return False
        return ready.bound.scorer.declaration.needs_expected


@dataclass(frozen=True, slots=True)
class Branch:
    """A group of compiled checks."""

    spec: CheckGroup
    members: tuple[Leaf | Branch, ...]


@dataclass(frozen=True, slots=True)
class CompiledChecks:
    """The checks of one row, or those of the suite. `is_settled`: no row can have a problem with any."""

    items: tuple[Leaf | Branch, ...] = ()
    threshold: float | None = None
    is_settled: bool = False

    def leaves(self) -> Iterator[Leaf]:
        """Every check, those in groups included."""
        yield from _leaves(self.items)


def _leaves(items: Iterable[Leaf | Branch]) -> Iterator[Leaf]:
    for item in items:
        if isinstance(item, Branch):
            yield from _leaves(item.members)
        else:
            yield item


def write_texts(checks: Iterable[ReadyCheck | str]) -> None:
    """Write the texts of several checks, which takes half of the time that it takes for one after the other."""
    missing = [check for check in checks if isinstance(check, ReadyCheck) and not check.has_text]
    if len(missing) > 1:
        lines = one_lines([_whole_text(check.spec, check.options) for check in missing], MAX_TEXT)
        for check, line in zip(missing, lines, strict=True):
            check.write(line)


def check_text(spec: CheckSpec, options: Mapping[str, Any]) -> str:
    """A check on one line: `contains: 30 days`."""
    return one_line(_whole_text(spec, options), MAX_TEXT)


def _whole_text(spec: CheckSpec, options: Mapping[str, Any]) -> str:
    name = f"{NEGATION}{spec.type}" if spec.negated else spec.type
    main = main_option(spec.type)
    if main is not None and main in options:
        value = plain_text(options[main])
    else:
        value = ", ".join(f"{key}: {plain_text(item)}" for key, item in options.items())
    return f"{name}: {value}" if value else name


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
        if option is None or accepts is None or option not in ready.options or known.takes_context:
            return None
        if spec.args or spec.turn is not None:
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
