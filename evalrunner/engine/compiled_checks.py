"""Checks compiled: those of the suite or of one row, with the scorer, the rule and the judge of each once it is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evalrunner.domain import Sample, SampleValidator
from evalrunner.formatting import one_line, one_lines, plain_text
from evalrunner.plugins import NEGATION
from evalrunner.scorers.call import BoundScorer
from evalrunner.scorers.checks import PassRule
from evalrunner.scorers.option_templates import OptionTemplates
from evalrunner.suite.checks import main_option
from evalrunner.suite.schema import CheckGroup, CheckSpec

if TYPE_CHECKING:
    from evalrunner.engine.check_shapes import CheckShape
    from evalrunner.engine.panel import JudgePanel

MAX_TEXT: Final = 120  # characters of a check in reports


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
