"""What defines a run, as `run.json` keeps it, and how two definitions differ, in words.

A definition is plain JSON data: `dataset`, `targets`, `scorers` (both by name), `seed`, `epochs`. What is not in it may
change while a run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalrunner.redact import redact

LONGEST = 60  # characters of a value that are shown
LEAD = 16  # of these, how many stand before the first difference of two long texts
NAMED = ("targets", "scorers")  # sections whose parts have names
ABSENT: Any = object()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each thing that differs, with its old and its new value; none where a run may go on.

    More epochs than before are no difference. Values are cut short, and keys taken out.
    """
    found: list[str] = []
    for section in dict.fromkeys([*before, *now]):
        old, new = before.get(section, ABSENT), now.get(section, ABSENT)
        if section == "epochs":
            found.extend(_of_epochs(old, new))
        elif section == "dataset":
            found.extend(_of_dataset(old, new))
        elif section in NAMED:
            found.extend(_of_named(section, old, new))
        else:
            found.extend(_of_values(section, old, new))
    return found


def part_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How two targets, or two scorers, of a definition differ: `params.temperature: 0 → 1`."""
    return [line.lstrip(".: ") for line in _of_part("", old, new)]


def _of_epochs(old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, int) and isinstance(new, int) and new >= old:
        return
    yield f"epochs: {_shown(old)} → {_shown(new)} (more may be asked for, fewer not)"


def _of_dataset(old: Any, new: Any) -> Iterator[str]:
    old, new = _mapping(old), _mapping(new)
    if old.get("digest") != new.get("digest"):
        counts = [data["rows"] for data in (old, new) if isinstance(data.get("rows"), int)]
        said = " → ".join(f"{count:,}" for count in dict.fromkeys(counts))
        yield f"dataset: its rows changed ({said or '?'} {'row' if counts[-1:] == [1] else 'rows'}, other content)"
    hidden = ("digest", "rows")
    yield from _of_values("dataset", _without(old, hidden), _without(new, hidden))


def _of_named(section: str, old: Any, new: Any) -> Iterator[str]:
    old, new = _mapping(old), _mapping(new)
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield f"{section}: {_shown(name)} was taken out"
        elif name not in old:
            yield f"{section}: {_shown(name)} was added"
        else:
            yield from _of_part(f"{section} {_shown(name)}", _mapping(old[name]), _mapping(new[name]))


def _of_part(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The differences of one target or scorer: files are told by name, and everything by its values."""
    files_before, files = _mapping(old.get("files")), _mapping(new.get("files"))
    for name in dict.fromkeys([*files_before, *files]):
        if name in files_before and name in files and files_before[name] != files[name]:
            yield f"{path}: the code in {_shown(name)} changed"
    yield from _of_values(path, _without(old, ("files",)), _without(new, ("files",)))


def _of_values(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _of_values(f"{path}.{_name(name)}", old.get(name, ABSENT), new.get(name, ABSENT))
    elif _is_list(old) and _is_list(new) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _of_values(f"{path}[{place}]", one, other)
    elif not _same(old, new):
        yield f"{path}: {' → '.join(_shown_both(old, new))}"


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)  # True == 1, which is another value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: item for name, item in data.items() if name not in names}


def _name(name: Any) -> str:
    text = str(name)
    return text if text.isprintable() and len(text) <= LONGEST else _shown(text)


def _shown_both(old: Any, new: Any) -> tuple[str, str]:
    """Both values; of long texts what surrounds their first difference."""
    if not isinstance(old, str) or not isinstance(new, str) or max(len(old), len(new)) <= LONGEST:
        return _shown(old), _shown(new)
    shared = next(
        (place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    start = max(0, shared - LEAD)
    return _shown(old, start), _shown(new, start)


def _shown(value: Any, start: int = 0) -> str:
    """A value on one line, cut short, without keys and without what a terminal would obey."""
    if value is ABSENT:
        return "not set"
    if not isinstance(value, str):
        text = json.dumps(value) if isinstance(value, int | float | None) else redact(repr(value))
        return text if len(text) <= LONGEST else text[:LONGEST] + "…"
    text = redact(value)
    cut = text[start : start + LONGEST]
    return ("…" if start else "") + repr(cut) + ("…" if start + LONGEST < len(text) else "")
