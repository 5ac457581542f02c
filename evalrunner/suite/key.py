"""A field of a dataclass that is a key of the suite file."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def key(doc: str, *, default: Any = None, **rules: Any) -> Any:
    """A dataclass field that is a key of the suite file.

    Rules for the value: `minimum`, `maximum`, `above`, `below`, `pattern` with its `pattern_hint`, `unique` items,
    `path` (text with `${VAR}` filled in). Rules for the key: `needed` (it is required; the text is an example of it),
    `alias` (its name in the file), `single` (its name for one item in place of a list), `top` (it may also be written
    at the top of the suite), `flat` (the keys of the nested dataclass are written in its place), `forms` (the forms of
    the mapping that have it).
    """
    return field(default=default, metadata={"doc": doc, **rules})
