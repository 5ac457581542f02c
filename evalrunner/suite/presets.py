"""Presets: the scorers that belong to a task, named in one line of `scorers:`, as MLflow's `model_type` did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evalrunner.errors import nearest
from evalrunner.suite.schema import KeyPath
from evalrunner.suite.validate import SectionReader, describe_value

_LANGUAGE: Final[tuple[Any, ...]] = (
    {"type": "toxicity", "backend": "hf"},
    "ari_grade_level",
    "flesch_kincaid_grade_level",
)
PRESETS: Final[Mapping[str, tuple[Any, ...]]] = {
    "question_answering": ("exact_match", *_LANGUAGE),
    "summarization": (
        *({"type": "rouge", "name": name, "variant": name} for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")),
        *_LANGUAGE,
    ),
}
"""The metrics of MLflow's model types `question-answering` and `text-summarization`, other than those of every run."""

PRESET: Final = "preset"
KEYS: Final = (PRESET, "without")


def name_of(item: Any) -> str:
    """The name of a scorer as a suite writes it: its own, that of its type, or the type of its short form."""
    if not isinstance(item, Mapping):
        return str(item)
    short = next(iter(item), "") if "type" not in item else item["type"]
    return str(item.get("name", short))


def expand_presets(reader: SectionReader, data: Sequence[Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """The scorers of a list with their places, those of presets in the place of these.

    A scorer that the list names itself replaces one of a preset with its name. What two presets share is there once.
    """
    names = {name_of(item) for item in data}
    for place, item in enumerate(data):
        here = (*path, place)
        if isinstance(item, Mapping) and PRESET in item:
            scorers = [scorer for scorer in _scorers(reader, item, here) if name_of(scorer) not in names]
            names.update(map(name_of, scorers))
            yield from ((here, scorer) for scorer in scorers)
        elif isinstance(item, str) and item in PRESETS:
            reader.report(here, f"{item!r} is a preset; write {{preset: {item}}}")
        else:
            yield here, item


def _scorers(reader: SectionReader, item: Mapping[str, Any], path: KeyPath) -> Iterator[Any]:
    """The scorers of one preset, apart from those that it is used without."""
    name, without = item[PRESET], item.get("without") or []
    for key in item:
        if key not in KEYS:
            reader.report(
                (*path, key), f"unknown key of a preset{nearest(str(key), KEYS)}; valid keys: {', '.join(KEYS)}"
            )
    if not isinstance(name, str) or name not in PRESETS:
        hint = nearest(str(name), PRESETS)
        reader.report((*path, PRESET), f"unknown preset {name!r}{hint}; there are {' and '.join(PRESETS)}")
        return
    if not isinstance(without, list):
        reader.report((*path, "without"), f"is {describe_value(without)}; it should be a list of scorers")
        return
    known = [name_of(scorer) for scorer in PRESETS[name]]
    for place, one in enumerate(without):
        if one not in known:
            message = f"{name!r} has no scorer {one!r}{nearest(str(one), known)}; it has {', '.join(known)}"
            reader.report((*path, "without", place), message)
    yield from (scorer for scorer in PRESETS[name] if name_of(scorer) not in without)
