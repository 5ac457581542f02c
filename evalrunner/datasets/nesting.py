"""Rows inside other data: the value under a key, lists in lists, and mappings from ids to rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from evalrunner.datasets.records import InvalidRecord, Record
from evalrunner.errors import nearest

MAX_PATH: Final = 1_000  # characters
MAX_STEPS: Final = 20
MAX_KEYS_NAMED: Final = 12
EVERY: Final = re.compile(r"\[\*?\]")
ID: Final = "id"


def checked_path(path: str) -> str:
    """A path such as `data.items`, `$.data.items` or `data[].items[]` as `data.items`; empty for `$`, the whole file.

    Raises ValueError for what is no path.
    """
    plain = EVERY.sub("", path.strip())
    plain = plain.removeprefix("$").removeprefix(".") if plain.startswith("$") else plain
    steps = plain.split(".")
    if (
        len(path) > MAX_PATH
        or len(steps) > MAX_STEPS
        or (plain and not all(steps))
        or (not plain and path.strip() != "$")
    ):
        raise ValueError(
            f"records is {path[:60]!r}; it should be the key of the rows, such as data.items, or $ for the whole file"
        )
    return plain


def rest_after(path: str, key: str) -> str | None:
    """What is left of a path below a key, None if the key is not on it. Keys may have dots themselves."""
    if path == key:
        return ""
    return path[len(key) + 1 :] if path.startswith(key + ".") else None


def rows_under(value: Any, path: str, around: Mapping[str, Any] | None = None) -> Iterator[Record]:
    """The rows at a path in a value, or an `InvalidRecord`. The path goes through lists.

    The other keys of the objects on the way are columns of their rows, but not `id`, which is that of the object.
    """
    around = around or {}
    if not path:
        yield from _rows_of(value, around)
    elif isinstance(value, list):
        for item in value:
            yield from rows_under(item, path, around)
    elif isinstance(value, dict):
        found = find_key(value, path)
        if found is None:
            yield InvalidRecord(no_key(path, value))
            return
        key, rest = found
        others = {name: item for name, item in value.items() if name not in (key, ID)}
        yield from rows_under(value[key], rest, {**around, **others})
    else:
        yield InvalidRecord(f"has {kind_of(value)} in place of an object with {path!r}")


def find_key(value: Mapping[str, Any], path: str) -> tuple[str, str] | None:
    """The longest key of a mapping that a path starts with, and the rest of the path."""
    keys = [(key, rest) for key in value if (rest := rest_after(path, key)) is not None]
    return max(keys, key=lambda found: len(found[0]), default=None)


def no_key(path: str, known: Mapping[str, Any]) -> str:
    """The message for an object that does not have the next key of a path."""
    wanted = path.partition(".")[0]
    names = list(islice(known, MAX_KEYS_NAMED))
    more = ", …" if len(known) > len(names) else ""
    listed = f"{', '.join(names)}{more}" if names else "no keys"
    return f"has no {wanted!r} for records; it has: {listed}{nearest(wanted, names)}"


def _rows_of(value: Any, around: Mapping[str, Any]) -> Iterator[Record]:
    if isinstance(value, list):
        for item in value:
            yield {**around, **item} if isinstance(item, dict) else InvalidRecord(no_row(item))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield row_of_id(key, item, around)
    else:
        yield InvalidRecord(f"has {kind_of(value)} in place of a list of objects")


def row_of_id(key: str, item: Any, around: Mapping[str, Any] | None = None) -> Record:
    """The row that a mapping has under an id, which is its column `id` unless it has one."""
    if not isinstance(item, dict):
        return InvalidRecord(
            f'has {kind_of(item)} under {key!r}, but rows under ids must be objects, such as {{"q1": {{"input": …}}}}'
        )
    return {ID: key, **(around or {}), **item}


def no_row(item: Any) -> str:
    """The message for an element that is no row."""
    return f'is {kind_of(item)}, but each element must be an object, such as {{"input": …}}'


def kind_of(value: Any) -> str:
    """The JSON name of a value, with its article."""
    names = {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
