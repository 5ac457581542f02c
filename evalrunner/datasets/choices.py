"""The choices of a multiple-choice question: read from a row, in an order of their own, with letters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from evalrunner.datasets.getters import Getter, MissingColumnError, RecordError, is_empty, names_of, sources_of
from evalrunner.datasets.json import parse_list, parse_python_list
from evalrunner.datasets.records import Record
from evalrunner.formatting import one_line, plain_text
from evalrunner.prompts import ABSENT
from evalrunner.suite.columns import ColumnSpec
from evalrunner.template_filters import LETTERS

CHOICES = "choices"  # the role of the columns, and the column of a sample that has the choices by letter
MAX_SHOWN = 40  # characters of a choice in a message


class Choices(NamedTuple):
    """The choices of a row in the order of the data, and the places of the right ones."""

    texts: tuple[str, ...]
    right: tuple[int, ...] = ()

    def lettered(self, id: str, seed: int | None) -> tuple[dict[str, str], tuple[str, ...]]:
        """Letter to text of the choices as they are asked, and the letters of the right ones.

        With a seed their order is random. It depends on the seed and the id alone, so that it is the same for every
        target, epoch and shard, and in a resumed run.
        """
        places = list(range(len(self.texts)))
        if seed is not None:
            places.sort(key=lambda place: blake2b(f"{seed}\0{id}\0{place}".encode(), digest_size=8).digest())
        letters = dict(zip(places, LETTERS, strict=False))
        by_letter = {letter: self.texts[place] for place, letter in letters.items()}
        return by_letter, tuple(sorted(letters[place] for place in self.right))


@dataclass(slots=True)
class ChoiceReader:
    """Reads the choices of a record, and finds the right ones among them."""

    spec: ColumnSpec
    text_only: bool
    _sources: list[tuple[str, Getter]] = field(init=False)

    def __post_init__(self) -> None:
        self._sources = sources_of(self.spec, CHOICES)

    def read(self, record: Record, answers: Sequence[str], *, typed: bool) -> Choices:
        """The choices of a record. `answers` are the right ones as the data has them; `typed`: as numbers, not as text.

        Raises RecordError if there are no choices, or an answer is none of them, or can be two of them.
        """
        texts, labels, numbers = self._texts(record)
        right: dict[int, None] = {}
        for answer in answers:
            right.update(dict.fromkeys(self._places(answer, texts, labels, typed=typed and not numbers)))
        return Choices(tuple(texts), tuple(right))

    def _texts(self, record: Record) -> tuple[list[str], list[str] | None, bool]:
        """The texts, the labels that the data has for them, and whether the texts are numbers."""
        found: Any
        if len(self._sources) > 1:
            found = [self._value(name, get, record) for name, get in self._sources]
            while found and is_empty(found[-1]):  # a question with fewer choices
                found.pop()
        else:
            name, get = self._sources[0]
            found = self._value(name, get, record)
            if isinstance(found, str):
                found = self._parsed(found)
        labels: list[str] | None = None
        if isinstance(found, Mapping):
            texts, given = found.get("text"), found.get("label")
            if isinstance(texts, list) and isinstance(given, list) and len(texts) == len(given):
                found, labels = texts, [plain_text(one) for one in given]
            else:
                found, labels = list(found.values()), [str(one) for one in found]
        place = ", ".join(names_of(self.spec, CHOICES)) or "value"
        if not isinstance(found, list | tuple) or not 2 <= len(found) <= len(LETTERS):
            count = f", not {len(found)}" if isinstance(found, list | tuple) else ""
            raise RecordError(f"has no list of 2 to {len(LETTERS)} choices in {one_line(place, 80)!r}{count}")
        if any(is_empty(one) for one in found):
            number = next(number for number, one in enumerate(found, 1) if is_empty(one))
            raise RecordError(f"has an empty choice, number {number} of {len(found)} (columns.choices)")
        return [plain_text(one) for one in found], labels, any(isinstance(one, int | float) for one in found)

    def _value(self, name: str, get: Getter, record: Record) -> Any:
        value = get(record)
        if value is not ABSENT:
            return value
        if len(self._sources) > 1 and not self.text_only:
            return None
        raise MissingColumnError(CHOICES, name, "")

    def _parsed(self, text: str) -> Any:
        """The list or mapping in a cell."""
        if self.spec.split is not None:
            return [part.strip() for part in text.split(self.spec.split) if part.strip()]
        if text.lstrip()[:1] == "{":
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return None
        return parse_list(text) or parse_python_list(text)

    def _places(self, answer: str, texts: Sequence[str], labels: list[str] | None, *, typed: bool) -> Sequence[int]:
        """The places of a right choice, given by its text, letter or index. Raises RecordError."""
        spec, wanted = self.spec, answer.strip()
        readings: dict[str, tuple[int, ...]] = {
            "text": _same(wanted, texts),
            "letter": _same(wanted.strip("().: "), labels or LETTERS[: len(texts)]),
            "index": (),
        }
        if (
            wanted.isascii()
            and wanted.isdigit()
            and len(wanted) < 4
            and 0 <= int(wanted) - spec.first_index < len(texts)
        ):
            readings["index"] = (int(wanted) - spec.first_index,)
        if spec.right is not None:
            readings = {spec.right: readings[spec.right]}
        elif labels is not None and readings["letter"]:
            return readings["letter"]
        elif typed and readings["index"]:
            return readings["index"]
        possible = {kind: places for kind, places in readings.items() if places}
        shown = repr(one_line(answer, MAX_SHOWN))
        if len(set(possible.values())) > 1:
            kinds = " and ".join(f"the {kind} of choice {places[0] + 1}" for kind, places in possible.items())
            raise RecordError(
                f"has the right choice {shown}, which is {kinds}; say which: columns: {{choices: {{column: …, right: {next(reversed(possible))}}}}}"
            )
        if not possible:
            kind = spec.right or "text, letter or index"
            raise RecordError(f"has the right choice {shown}, which is the {kind} of none of the {len(texts)} choices")
        return next(iter(possible.values()))


def _same(wanted: str, texts: Sequence[str]) -> tuple[int, ...]:
    """The places of the texts that are the same, apart from spaces, and from upper case if none is else."""
    exact = tuple(place for place, text in enumerate(texts) if text.strip() == wanted)
    folded = wanted.casefold()
    return exact or tuple(place for place, text in enumerate(texts) if text.strip().casefold() == folded)
