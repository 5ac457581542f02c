"""The scorer `numeric_match`: numbers in text, compared by value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from evalrunner.domain import Declaration, Sample, Score, Scorer, Skipped

NUMBER = re.compile(
    r"(?P<sign>[-+]?) ?[$€£]? ?(?P<inner>[-+]?)"
    r"(?P<digits>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,3})?)",
    re.ASCII | re.IGNORECASE,
)
MINUS_SIGNS = str.maketrans("\u2212\u2012\u2013", "---")  # minus, figure dash and en dash are used as minus signs
TRAILING = ".,:;!%$€£ "  # signs that may follow a number: of sentences, prices and percentages
MAX_NUMBER_LENGTH = 1_000  # characters; anything longer is compared as text
TAIL_LENGTH = 20_000  # characters at the end that are searched for the last number


def parse_number(text: str) -> Decimal | None:
    """The number that `text` is, exactly, or None: `$1,234.50`, `-3.`, `75 %`, `1e6`; never `nan` or `1_000`."""
    text = text.strip()
    if len(text) > MAX_NUMBER_LENGTH:
        return None
    found = NUMBER.fullmatch(text.translate(MINUS_SIGNS).rstrip(TRAILING))
    if found is None or (found["sign"] and found["inner"]):
        return None
    return Decimal(found["sign"] + found["inner"] + found["digits"].replace(",", ""))


def same_number(one: str, other: str) -> bool | None:
    """Whether two texts are the same number; None if one of them is not a number."""
    first, second = parse_number(one), parse_number(other)
    return None if first is None or second is None else first == second


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly, or None: -2 for `so -$2.`, 3 for `5-3` and `5 - 3`."""
    every = list(NUMBER.finditer(text[-TAIL_LENGTH:].translate(MINUS_SIGNS)))
    return _signed(every[-1]) if every else None


def _signed(found: re.Match[str]) -> Decimal:
    """The matched number, with its sign unless that is a dash between words or a subtraction."""
    group = "sign" if found["sign"] else "inner"
    index = found.start(group)
    before, after = found.string[max(0, index - 1) : index], found.string[index + 1 : index + 2]
    dash = before.isalnum() or before in (")", "%") or after == " "
    return Decimal(("" if dash else found[group]) + found["digits"].replace(",", ""))


def numeric_match(*, tolerance: float = 0.0, relative: float = 0.0) -> Scorer:
    """1 if the last number of the output is the last number of an accepted answer, else 0.

    An output without a number is wrong; a sample whose accepted answers have none is skipped.

    Args:
        tolerance: Largest difference between the two.
        relative: Largest difference as a share of the accepted number; the larger of both limits applies.
    """
    if not (0 <= tolerance < float("inf") and 0 <= relative < float("inf")):
        raise ValueError("'tolerance' and 'relative' should be 0 or more")
    return Scorer(
        NumericMatch(Decimal(repr(tolerance)), Decimal(repr(relative))),
        Declaration(binary=True, needs_expected=True, inline=True),
    )


@dataclass(frozen=True, slots=True)
class NumericMatch:
    tolerance: Decimal
    relative: Decimal

    def __call__(self, output: str, sample: Sample) -> Score | Skipped:
        wanted = [number for answer in sample.expected if (number := last_number(answer)) is not None]
        if not wanted:
            return Skipped("the expected answer has no number")
        given = last_number(output)
        if given is None:
            return Score(0.0, "no number in the output")
        near = any(abs(given - number) <= max(self.tolerance, self.relative * abs(number)) for number in wanted)
        return Score(float(near), f"{given} for {' or '.join(map(str, wanted))}")
