"""JSONPath, the part of RFC 9535 that selects without filters: `$.a.b`, `$['a b']`, `$[0]`, `$[-1]`, `$[1:3]`, `$.*`, `$..a`.

A path without `$` starts at the root too: `a.b` is `$.a.b`. A search visits each value at most once per step, so its time
is bounded by the size of the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

MAX_STEPS: Final = 50
MAX_PATH_LENGTH: Final = 1_000  # characters


class _Missing:
    """The type of `MISSING`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "not set"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()
"""What a path selects in a document that has nothing there; null is a value."""


@dataclass(frozen=True, slots=True)
class Every:
    """`*`: each member or element. With `descend`, `..`: the value itself and everything in it."""

    descend: bool = False


Step: TypeAlias = str | int | slice | Every

STEP = re.compile(
    r"""(?P<descend>\.\.)(?=[\w*\[])"""
    r"""|\.?(?P<every>\*)|\.?\[\s*(?P<every_in>\*)\s*\]"""
    r"""|\.?\[\s*(?P<index>-?\d{1,15})\s*\]"""
    r"""|\.?\[\s*(?P<from>-?\d{1,15})?\s*:\s*(?P<to>-?\d{1,15})?\s*(?::\s*(?P<by>-?\d{1,15})?\s*)?\]"""
    r"""|\.?\[\s*(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*\]"""
    r"""|\.?(?P<name>[\w-]+)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A compiled path, as a function from a document to what it selects."""

    text: str
    steps: tuple[Step, ...]

    @property
    def singular(self) -> bool:
        """Whether it selects at most one value: it has names and indices only."""
        return all(isinstance(step, str | int) for step in self.steps)

    def __call__(self, document: Any) -> Any:
        """The value of a singular path, the list of values of any other; MISSING if there is nothing."""
        values = self.find_all(document)
        if not values:
            return MISSING
        return values[0] if self.singular else values

    def find_all(self, document: Any) -> list[Any]:
        """Every value that the path selects, in the order of the document."""
        values = [document]
        for step in self.steps:
            values = [item for value in values for item in _select(value, step)]
        return values


def compile_path(text: str) -> JsonPath:
    """The compiled path. Raises ValueError, which says at which character it cannot be read."""
    path = text.strip()
    if not path or len(path) > MAX_PATH_LENGTH:
        raise ValueError(f"a JSONPath has 1 to {MAX_PATH_LENGTH:,} characters; the whole document is $")
    place, steps = (1 if path.startswith("$") else 0), list[Step]()
    if place == 0 and path[0] == ".":
        raise ValueError(f"the JSONPath {text!r} starts with a dot; write ${path}")
    while place < len(path):
        match = STEP.match(path, place)
        if match is None or (place == 1 and path[0] == "$" and match[0][0] not in ".["):
            raise ValueError(
                f"the JSONPath {text!r} cannot be read at character {place + 1}: {path[place : place + 20]!r}; "
                "write it as $.name, $['a name'], $[0], $[-1], $[1:3], $.* or $..name"
            )
        steps.append(_step(match))
        place = match.end()
    if sum(isinstance(step, Every) and step.descend for step in steps) > 1:
        raise ValueError(f"the JSONPath {text!r} has '..' more than once; name the keys between them")
    if len(steps) > MAX_STEPS:
        raise ValueError(f"the JSONPath {text[:40]!r}… has more than {MAX_STEPS} steps")
    return JsonPath(path, tuple(steps))


def _step(match: re.Match[str]) -> Step:
    """The step that was read."""
    if match["descend"]:
        return Every(descend=True)
    if match["every"] or match["every_in"]:
        return Every()
    if match["index"]:
        return int(match["index"])
    if match["quoted"]:
        return re.sub(r"\\(.)", r"\1", match["quoted"][1:-1], flags=re.DOTALL)
    if match["name"]:
        return match["name"]
    if match["by"] and int(match["by"]) == 0:
        raise ValueError("a slice of a JSONPath cannot go by 0; leave the third number out")
    first, last, by = (None if match[name] is None else int(match[name]) for name in ("from", "to", "by"))
    return slice(first, last, by)


def _select(value: Any, step: Step) -> Iterator[Any]:
    """What one step selects of one value; a step that does not fit its type selects nothing."""
    if isinstance(step, Every):
        yield from _descend(value) if step.descend else _children(value)
    elif isinstance(step, str):
        if isinstance(value, Mapping):
            if step in value:
                yield value[step]
        elif isinstance(value, list) and re.fullmatch(r"\d{1,15}", step, re.ASCII) and int(step) < len(value):
            yield value[int(step)]  # $.items.0, as many libraries write it
    elif isinstance(value, list):
        if isinstance(step, slice):
            yield from value[step]
        elif -len(value) <= step < len(value):
            yield value[step]


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(value: Any) -> Iterator[Any]:
    """The value and everything in it, parents first; without recursion, however deep it is."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(reversed(list(_children(current))))
