"""The scorer `python`: a user-defined function."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from evalrunner.domain import EMPTY, Declaration, Scorer
from evalrunner.plugins import PluginContext, ReferenceProblem, factory_options, load_attribute
from evalrunner.stats.aggregates import AGGREGATE_NAMES, MEAN, find_aggregate, is_aggregate
from evalrunner.stats.distributions import MAX_SCORE
from evalrunner.suite.validate import check_options


def python(
    context: PluginContext,
    *,
    function: str,
    low: float | None = None,
    high: float | None = None,
    higher_is_better: bool = True,
    unit: str | None = None,
    needs_answer: bool = True,
    aggregates: list[str] | None = None,
    threshold: float | None = None,
    parts: list[str] | dict[str, dict[str, Any] | None] | None = None,
) -> Scorer:
    """The number that your own function returns. It may be async; its parameter names select its arguments.

    Args:
        function: path/file.py:name, relative to the suite, or package.module:name.
        low: Lowest possible score; leave it out if there is none.
        high: Highest possible score; leave it out if there is none.
        higher_is_better: Whether a higher score is better.
        unit: Unit of the scores, such as s or words.
        needs_answer: Use false to call the function for refused, truncated and empty outputs too.
        aggregates: Metrics of the scores, any of mean variance total p50 p90 p99 ratio; the first is the headline.
        threshold: Lowest score of a row that counts for the aggregate ratio.
        parts: Names of the further results in the parts of the Score that it returns, each a metric of its own; a mapping
            gives a part its own low, high, higher_is_better, unit, aggregates and threshold.
    """
    loaded = load_attribute(function, folder=context.folder)
    if not callable(loaded):
        raise ReferenceProblem(f"{function!r} is a {type(loaded).__name__}, not a function")
    binary = returns_bool(loaded)
    if binary and (low is not None or high is not None):
        raise ValueError(
            "'low' and 'high' cannot be combined with a function that returns bool, whose scores are 0 and 1"
        )
    declaration = _declared(
        low=0.0 if binary else low, high=1.0 if binary else high, higher_is_better=higher_is_better, unit=unit,
        aggregates=aggregates, threshold=threshold, binary=binary,
    )  # fmt: skip
    declaration = replace(declaration, needs_answer=needs_answer, parts=_parts(parts, declaration))
    return Scorer(functools.partial(loaded, **context.args) if context.args else loaded, declaration)


def _declared(
    *,
    low: float | None = None,
    high: float | None = None,
    higher_is_better: bool = True,
    unit: str | None = None,
    aggregates: list[str] | None = None,
    threshold: float | None = None,
    binary: bool = False,
) -> Declaration:
    _check_range(low, high)
    selected = check_aggregates(aggregates, threshold)
    return Declaration(
        low=low,
        high=high,
        binary=binary,
        infer_binary=not binary and unit is None and low in (None, 0) and high in (None, 1),
        higher_is_better=higher_is_better,
        unit=unit,
        aggregates=selected,
        headline=selected[0],
        threshold=threshold,
    )


def _parts(
    parts: list[str] | dict[str, dict[str, Any] | None] | None, declaration: Declaration
) -> Mapping[str, Declaration]:
    """The declarations of the parts; a list gives them the range, the direction and the aggregates of the scorer.

    Raises ValueError for what is wrong with one.
    """
    if not parts:
        return EMPTY
    if not isinstance(parts, dict):
        return dict.fromkeys(parts, declaration)
    known = factory_options(_declared)
    del known["binary"]
    return {name: _part(name, given or {}, known) for name, given in parts.items()}


def _part(name: str, given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> Declaration:
    problems: list[str] = []
    options = check_options(given, known, (), lambda path, message: problems.append(f"{path[-1]!r} {message}"))
    if problems:
        raise ValueError(f"part {name!r}: {problems[0]}")
    try:
        return _declared(**options)
    except ValueError as wrong:
        raise ValueError(f"part {name!r}: {wrong}") from None


def check_aggregates(aggregates: list[str] | None, threshold: float | None) -> tuple[str, ...]:
    """The requested aggregates, by default the mean. Raises ValueError for an unknown one."""
    selected = (MEAN.name,) if aggregates is None else tuple(dict.fromkeys(aggregates))
    unknown = [name for name in selected if not is_aggregate(name)]
    if unknown or not selected:
        named = f"has {unknown[0]!r}" if unknown else "is empty"
        raise ValueError(f"'aggregates' {named}; it takes any of {', '.join(AGGREGATE_NAMES)}")
    if any(find_aggregate(name).needs_threshold for name in selected) != (threshold is not None):
        raise ValueError("'threshold' and the aggregate 'ratio' go together; give both or neither")
    return selected


def returns_bool(function: Callable[..., Any]) -> bool:
    """Whether a function is annotated to return bool, or bool or None (skipped)."""
    try:
        returned = inspect.signature(function, eval_str=True).return_annotation
    except Exception:  # builtins have no signature; a quoted annotation may be undefined at run time
        return False
    inside = {returned}
    if typing.get_origin(returned) in (types.UnionType, typing.Union):
        inside = set(typing.get_args(returned)) - {type(None)}
    return inside == {bool}


def _check_range(low: float | None, high: float | None) -> None:
    """Raise ValueError for a range that no score is in, or whose squares are not numbers."""
    for name, end in (("low", low), ("high", high)):
        if end is not None and not abs(end) <= MAX_SCORE:
            raise ValueError(f"{name!r} is {end:g}; the largest score is {MAX_SCORE:g}. Leave it out for an open range")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"'low' is {low:g} and 'high' is {high:g}; 'low' should be smaller")
