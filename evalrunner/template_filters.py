"""Filters of templates beside those of Jinja2: lists and JSON out of texts, and choices with their letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from json import JSONDecoder
from typing import Any, Final, NoReturn

from evalrunner.spelling import parse_float, parse_int

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_SHOWN: Final = 40  # characters of a text in a message


class FilterProblem(ValueError):
    """What a filter cannot do with its value, as a sentence."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = JSONDecoder(parse_constant=_refuse_constant, parse_float=parse_float, parse_int=parse_int)


def parse_json(value: Any) -> Any:
    """The JSON of a text, numbers as written; a value that is no text as it is. Raises FilterProblem."""
    if not isinstance(value, str):
        _use(value)
        return value
    try:
        return _decoder.decode(value)
    except RecursionError:
        raise FilterProblem("'fromjson': the text is nested too deep") from None
    except ValueError as wrong:
        shown = value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…"
        reason = "the text is empty" if not value.strip() else f"{shown!r} is not JSON: {wrong}"
        raise FilterProblem(f"'fromjson': {reason}") from None


def split(value: Any, separator: str | None = None) -> list[str]:
    """The parts of a text, without spaces at their ends; without a separator its words. Raises FilterProblem."""
    if not isinstance(value, str):
        _use(value)
        raise FilterProblem(f"'split' takes text, not {'null' if value is None else 'a ' + type(value).__name__}")
    if separator == "":
        raise FilterProblem("'split' has an empty separator; name it, such as split('|')")
    return [part.strip() for part in value.split(separator)]


def with_letters(value: Any, after: str = ". ") -> str:
    """One choice a line with its letter. `value` is a list, or a mapping of letter to text. Raises FilterProblem."""
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        if len(value) > len(LETTERS):
            raise FilterProblem(f"'lettered' takes at most {len(LETTERS)} choices, not {len(value):,}")
        pairs = zip(LETTERS, value, strict=False)
    else:
        _use(value)
        hint = "; read a list in a text with fromjson or split" if isinstance(value, str) else ""
        raise FilterProblem(f"'lettered' takes a list of choices{hint}")
    return "\n".join(f"{letter}{after}{text}" for letter, text in pairs)


def _use(value: Any) -> None:
    """Raises the error of an undefined value."""
    bool(value)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {"fromjson": parse_json, "split": split, "lettered": with_letters}
