"""Extraction: the part of an output that is scored. Steps of a suite to a function from text to text, pure and bounded.

`extract: {json: $.answer}` on a target, a scorer or a check; a list of steps applies them one after the other. Every step
removes whitespace at both ends, and finds nothing where nothing else is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from evalrunner.domain import Completion, Failure
from evalrunner.errors import nearest
from evalrunner.formatting import one_line
from evalrunner.json_path import MISSING, compile_path
from evalrunner.limits import STANDARD, Limits
from evalrunner.matching import Pattern, SearchFailed
from evalrunner.scorers.answer_json import find_fences, parse_answer
from evalrunner.scorers.choice_reading import read_choice
from evalrunner.scorers.regex import compile_pattern, match_limit
from evalrunner.scorers.text import NUMBER, last_number

MAX_STEPS: Final = 20
MAX_CHOICES: Final = 26
MAX_NAMED: Final = 60  # characters of a step in a reason
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PLAIN: Final = frozenset({str, int, float, bool})

Find: TypeAlias = Callable[[str], "str | None"]
Maker: TypeAlias = "Callable[[Any, Mapping[str, Any], Limits], Find]"


class WrongExtract(ValueError):
    """A spec that is no extraction. `path` leads to the mistake inside of it."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its text in messages, its function, and the regular expression that it searches for."""

    text: str
    find: Find
    pattern: Pattern | None = None


@dataclass(frozen=True, slots=True)
class Extract:
    """The steps of an extraction, as a function from an output to what they extract; None if a step finds nothing.

    Raises SearchFailed if a regular expression takes too long.
    """

    steps: tuple[Step, ...]

    def __call__(self, text: str) -> str | None:
        return self.apply(text)[0]

    def is_quick(self, text: str) -> bool:
        """Whether the steps end so soon that they may run on the event loop."""
        return all(step.pattern is None or step.pattern.is_quick(text) for step in self.steps)

    def apply(self, text: str) -> tuple[str | None, str]:
        """What the steps extract, and ""; else None and the step that finds nothing: `extract: json $.a found nothing`."""
        for step in self.steps:
            result = step.find(text)
            text = "" if result is None else result.strip()
            if not text:
                return None, f"extract: {step.text} found nothing"
        return text, ""


def extracted_answer(answer: Completion | Failure, extract: Extract | None) -> Completion | Failure:
    """The answer with what the `extract` of its target takes out of it, and nothing of an extraction before."""
    if isinstance(answer, Failure):
        return answer
    if answer.extracted is not None or answer.extract_problem is not None:
        answer = replace(answer, extracted=None, extract_problem=None, extract_failed=False)
    if extract is None or not answer.answered:
        return answer
    try:
        text, problem = extract.apply(answer.text)
    except SearchFailed as failed:
        return replace(answer, extract_problem=f"extract: {failed}", extract_failed=True)
    return replace(answer, extracted=text, extract_problem=problem or None)


def compile_extract(spec: Any, limits: Limits = STANDARD) -> Extract:
    """The extraction that a suite describes: a step or a list of steps. Raises WrongExtract, a ValueError."""
    several = isinstance(spec, Sequence) and not isinstance(spec, str)
    given = list(spec) if several else [spec]
    if not given:
        raise WrongExtract(f"is empty; name a step: {', '.join(STEPS)}")
    if len(given) > MAX_STEPS:
        raise WrongExtract(f"has {len(given)} steps; at most {MAX_STEPS} are allowed")
    return Extract(tuple(_compile_step(item, (place,) if several else (), limits) for place, item in enumerate(given)))


def checked_extract(
    spec: Any, path: tuple[str | int, ...], report: Callable[[tuple[str | int, ...], str], None], limits: Limits
) -> Extract | None:
    """The extraction of a section of the suite, None without one. A mistake in it is reported at its place below `path`."""
    if spec is None:
        return None
    try:
        return compile_extract(spec, limits)
    except WrongExtract as wrong:
        report((*path, "extract", *wrong.path), str(wrong))
        return None


def _compile_step(item: Any, path: tuple[int, ...], limits: Limits) -> Step:
    """One step: `last_line`, or `{regex: PATTERN}` with options."""
    if isinstance(item, str):
        item = {item: None}
    if not isinstance(item, Mapping) or not item:
        raise WrongExtract(f"should be a step such as last_line or {{json: $.answer}}; steps: {', '.join(STEPS)}", path)
    names = [name for name in item if name in STEPS]
    if len(names) != 1:
        unknown = str(next(name for name in item if name not in STEPS)) if not names else ""
        if names:
            raise WrongExtract(
                f"has the steps {' and '.join(names)} in one mapping; write a list: [{{{names[0]}: …}}, {{{names[1]}: …}}]",
                path,
            )
        place: tuple[str | int, ...] = path if None in item.values() else (*path, unknown)
        raise WrongExtract(
            f"unknown step {unknown!r}{nearest(unknown, STEPS) or '; steps: ' + ', '.join(STEPS)}", place
        )
    (name,) = names
    make, options, needs_value = STEPS[name]
    value = item[name]
    for option in item:
        if option != name and option not in options:
            known = f"; it takes {', '.join(options)}" if options else "; it takes no options"
            raise WrongExtract(
                f"unknown option {option!r} of {name}{nearest(str(option), options) or known}", (*path, str(option))
            )
    if needs_value and (value is None or isinstance(value, Mapping | Sequence | bool)) and not isinstance(value, str):
        raise WrongExtract(
            f"{name} needs a text: {needs_value}", (*path, name) if name in item and value is not None else path
        )
    if not needs_value and value is False:
        raise WrongExtract(f"{name} is false; remove the step", (*path, name))
    try:
        find = make(value, {key: item[key] for key in item if key != name}, limits)
    except WrongExtract as wrong:
        raise WrongExtract(str(wrong), (*path, *wrong.path)) from None
    except ValueError as wrong:
        raise WrongExtract(str(wrong), (*path, name) if value is not None else path) from None
    shown = "" if value is None or value is True else f" {value if isinstance(value, str) else json.dumps(value)}"
    pattern = find.pattern if isinstance(find, RegexFind) else None
    return Step(one_line(f"{name}{shown}", MAX_NAMED), find, pattern)


def _no_value(name: str, value: Any) -> None:
    if value is not None and value is not True:
        raise ValueError(f"{name} takes no value; write it alone")


def _which(options: Mapping[str, Any], default: str = "first") -> bool:
    """Whether the option `find` asks for the last of several."""
    find = options.get("find", default)
    if find not in ("first", "last"):
        raise WrongExtract(f"'find' is {find!r}; it should be first or last", ("find",))
    return bool(find == "last")


def _flag(options: Mapping[str, Any], name: str) -> bool:
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise WrongExtract(f"{name!r} is {value!r}; it should be true or false", (name,))
    return value


def _json(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The value at a path in the JSON of the output, as text: null is nothing."""
    path = compile_path("$" if value is None or value is True else str(value))

    def find(text: str) -> str | None:
        document = parse_answer(text)
        found = MISSING if document is MISSING else path(document)
        if found is MISSING or found is None:
            return None
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return find


def _fence(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The content of a fenced block, of one language or of any."""
    language = "" if value is None or value is True or value == "any" else str(value).lower()
    last = _which(options)

    def find(text: str) -> str | None:
        contents = [fence.content for fence in find_fences(text) if not language or fence.language == language]
        return contents[-1 if last else 0] if contents else None

    return find


def _regex(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """Group 1 of a match, or the whole match of a pattern without groups."""
    flags = (
        (re.IGNORECASE * _flag(options, "ignore_case"))
        | (re.MULTILINE * _flag(options, "multiline"))
        | (re.DOTALL * _flag(options, "dotall"))
    )
    last = _which(options)
    group = options.get("group")
    if group is not None and (isinstance(group, bool) or not isinstance(group, int | str)):
        raise WrongExtract(f"'group' is {group!r}; it should be the number or the name of a group", ("group",))
    pattern = compile_pattern(str(value), flags, "regex", match_limit(None, limits), group)
    return RegexFind(pattern, group if group is not None else min(1, pattern.compiled.groups), last)


@dataclass(frozen=True, slots=True)
class RegexFind:
    """The function of the step `regex`."""

    pattern: Pattern
    group: int | str
    last: bool

    def __call__(self, text: str) -> str | None:
        match = self.pattern.find(text, self.group, last=self.last)
        return None if match is None else match[0]


def _after(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """What follows a text."""
    locate = _locator(value, options)

    def find(text: str) -> str | None:
        place = locate(text)
        return None if place is None else text[place[1] :]

    return find


def _before(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """What precedes a text."""
    locate = _locator(value, options)

    def find(text: str) -> str | None:
        place = locate(text)
        return None if place is None else text[: place[0]]

    return find


def _locator(value: Any, options: Mapping[str, Any]) -> Callable[[str], tuple[int, int] | None]:
    """A function that finds where a text stands in another one."""
    wanted, last, ignores_case = str(value), _which(options), _flag(options, "ignore_case")
    if not wanted:
        raise ValueError("is an empty text, which is everywhere")
    if ignores_case:
        pattern = re.compile(re.escape(wanted), re.IGNORECASE)

        def search(text: str) -> tuple[int, int] | None:
            place = None
            for match in pattern.finditer(text):
                place = match.span()
                if not last:
                    break
            return place

        return search

    def locate(text: str) -> tuple[int, int] | None:
        index = text.rfind(wanted) if last else text.find(wanted)
        return None if index < 0 else (index, index + len(wanted))

    return locate


def _last_line(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The last line that is not blank."""
    _no_value("last_line", value)
    return lambda text: text.rstrip().rsplit("\n", 1)[-1]


def _lower(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The text in lower case."""
    _no_value("lower", value)
    return str.lower


def _trim(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The text without quotes and Markdown emphasis around it, and without a final period."""
    _no_value("trim", value)
    return lambda text: text.strip().strip("\"'“”‘’`*_ \t\r\n").rstrip(".").strip("\"'“”‘’`*_ \t\r\n")


def _number(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The last number of the text, or the first one, as `numeric_match` reads it: 1234.5 for $1,234.50."""
    _no_value("number", value)
    last = _which(options, "last")

    def find(text: str) -> str | None:
        if not last:
            match = NUMBER.search(text)
            text = "" if match is None else text[max(0, match.start() - 1) : match.end()]
        number = last_number(text)
        return None if number is None else format(number, "f")

    return find


def _choice(value: Any, options: Mapping[str, Any], limits: Limits) -> Find:
    """The letter that the text chooses, read as by the scorer `choice`."""
    letters = (
        "ABCD"
        if value is None or value is True
        else "".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
    letters = letters.upper()
    if not 2 <= len(letters) <= MAX_CHOICES or not letters.isalnum() or len(set(letters)) < len(letters):
        raise ValueError("choice takes the letters of the choices, such as ABCD")
    return lambda text: read_choice(text, letters).label


STEPS: Final[Mapping[str, tuple[Maker, tuple[str, ...], str]]] = {
    "json": (_json, (), ""),
    "fence": (_fence, ("find",), ""),
    "regex": (_regex, ("group", "find", "ignore_case", "multiline", "dotall"), "{regex: 'Answer: (.+)'}"),
    "after": (_after, ("find", "ignore_case"), "{after: 'Answer:'}"),
    "before": (_before, ("find", "ignore_case"), "{before: 'Explanation:'}"),
    "last_line": (_last_line, (), ""),
    "lower": (_lower, (), ""),
    "trim": (_trim, (), ""),
    "number": (_number, ("find",), ""),
    "choice": (_choice, (), ""),
}
"""The steps by name: what makes one, its options, and an example if it needs a text."""

__all__ = [
    "STEPS",
    "Extract",
    "SearchFailed",
    "Step",
    "WrongExtract",
    "checked_extract",
    "compile_extract",
    "extracted_answer",
]
