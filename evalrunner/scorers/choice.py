"""The scorer `choice`: whether an answer to a multiple-choice question names the right choice, by letter or by its text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Declaration, Sample, Score, Scorer, Skipped, Unscored
from evalrunner.formatting import one_line, plain_text
from evalrunner.plugins import main_option
from evalrunner.prompts import ABSENT, find_value
from evalrunner.scorers.choice_reading import read_choice
from evalrunner.scorers.text import BLANK_EXPECTED, SQUAD, texts_of
from evalrunner.template_filters import LETTERS

DEFAULT_COLUMN: Final = "choices"
MAX_SHOWN: Final = 60  # characters of an expected answer in a message


@main_option("value")
def choice(
    *,
    value: str | int | list[str] | None = None,
    choices: list[str] | None = None,
    column: str | None = None,
    letters: str = "ABCD",
    first_index: int = 0,
) -> Scorer:
    """1 if the answer names the right choice, else 0. It names a choice by its letter or its text.

    Args:
        value: The right choice instead of the accepted answers: its letter, its index or its text.
        choices: The texts of the choices, in order, the same for every sample.
        column: Column with the choices of each sample. Default: choices, where the dataset has it.
        letters: Letters of the choices where their texts are not known.
        first_index: Index of the first choice, 0 or 1, where the right one is given as a number.
    """
    if choices is not None and column is not None:
        raise ValueError("has both 'choices' and 'column'; remove one of them")
    if choices is not None and not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"'choices' has {len(choices)} texts; it should have 2 to {len(LETTERS)}")
    upper = letters.upper()
    if not 2 <= len(upper) <= len(LETTERS) or not upper.isalnum() or len(set(upper)) < len(upper):
        raise ValueError(f"'letters' is {letters!r}; it should be the letters of the choices, such as ABCD")
    if first_index not in (0, 1):
        raise ValueError(f"'first_index' is {first_index}; it should be 0 or 1")
    given = texts_of(
        [str(item) for item in value] if isinstance(value, list) else None if value is None else str(value)
    )
    fixed = None if choices is None else _labeled(choices)
    function = ChoiceMatch(given, fixed, column, upper, first_index)
    return Scorer(function, Declaration(binary=True, needs_expected=value is None, inline=True))


@dataclass(frozen=True, slots=True)
class ChoiceMatch(SampleValidator):
    """Compares the choice that an answer names with the right one. None, or two, is no answer."""

    value: tuple[str, ...] | None
    choices: Mapping[str, str] | None
    column: str | None
    letters: str
    first_index: int

    def __call__(self, output: str, sample: Sample) -> Score | Skipped | Unscored:
        texts = self._texts(sample)
        if isinstance(texts, str):
            return Skipped(texts)
        labels = list(texts) if texts else list(self.letters)
        own = self._has_letters(sample)
        given = (self._label(answer, texts, labels, has_letters=own) for answer in self._right(sample))
        right = [label for label in given if label is not None]
        if not right:
            return BLANK_EXPECTED
        reading = read_choice(output, labels, texts)
        if reading.label is None:
            return Unscored("no_answer", f"choice: the answer {reading.reason}")
        named = reading.label if texts is None else f"{reading.label} ({one_line(texts[reading.label], MAX_SHOWN)})"
        explanation = f"chose {named} in {reading.evidence!r}; right: {' or '.join(dict.fromkeys(right))}"
        return Score(float(reading.label in right), explanation, {"choice": reading.label})

    def check(self, sample: Sample) -> str | None:
        """Why no answer to a sample can be right: its choices cannot be read, or the right one is none of them."""
        texts = self._texts(sample)
        if isinstance(texts, str):
            return texts
        labels = list(texts) if texts else list(self.letters)
        own = self._has_letters(sample)
        for answer in self._right(sample):
            if answer.strip() and self._label(answer, texts, labels, has_letters=own) is None:
                of = f"the {len(labels)} choices" if texts else f"the letters {self.letters}"
                return f"the right choice {one_line(answer, MAX_SHOWN)!r} is none of {of}; give its letter, its index or its text"
        return None

    def _right(self, sample: Sample) -> Sequence[str]:
        return sample.expected if self.value is None else self.value

    def _texts(self, sample: Sample) -> Mapping[str, str] | str | None:
        """The choices of a sample by label; None if only letters are known; a sentence if they cannot be read."""
        if self.choices is not None:
            return self.choices
        name = self.column or DEFAULT_COLUMN
        found = find_value(sample.metadata, name)
        if found is ABSENT or found is None or found == "":
            return None if self.column is None else f"the sample has no choices in the column {name!r}"
        texts = read_choices(found)
        return f"the column {name!r} has no list of 2 to {len(LETTERS)} choices" if texts is None else texts

    def _has_letters(self, sample: Sample) -> bool:
        """Whether the choices of a sample come with their letters, as `columns.choices` makes them."""
        return self.choices is None and isinstance(find_value(sample.metadata, self.column or DEFAULT_COLUMN), Mapping)

    def _label(
        self, answer: str, texts: Mapping[str, str] | None, labels: Sequence[str], *, has_letters: bool
    ) -> str | None:
        """The label of a right choice, given as text, letter or index, in this order; where letters are given, as letter."""
        stripped = answer.strip()
        if has_letters and stripped in labels:
            return stripped
        if texts:
            rule, wanted = SQUAD.of_answer(stripped)
            same = [label for label, text in texts.items() if stripped == text.strip()]
            same = same or [label for label, text in texts.items() if wanted and rule(text) == wanted]
            if len(same) == 1:
                return same[0]
        bare = stripped.strip("().: ")
        if bare.upper() in labels or bare in labels:
            return bare if bare in labels else bare.upper()
        if bare.isascii() and bare.isdigit() and len(bare) < 4 and 0 <= int(bare) - self.first_index < len(labels):
            return labels[int(bare) - self.first_index]
        return None


def read_choices(value: Any) -> Mapping[str, str] | None:
    """Label to text of the choices in a list, a mapping of them, its JSON, or `{text: […], label: […]}`; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, Mapping):
        texts, labels = value.get("text"), value.get("label")
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            value = dict(zip(map(str, labels), texts, strict=True))
        if not all(len(str(label)) == 1 and str(label).isalnum() for label in value) or not 2 <= len(value) <= len(
            LETTERS
        ):
            return None
        return {str(label).upper(): plain_text(text) for label, text in value.items()}
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= len(LETTERS):
        return None
    return _labeled([plain_text(text) for text in value])


def _labeled(texts: Sequence[str]) -> Mapping[str, str]:
    return dict(zip(LETTERS, texts, strict=False))
