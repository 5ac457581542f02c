"""Numbers as people and models write them, compared by value."""

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
MINUS_SIGNS = str.maketrans("\u2212\u2012\u2013", "---")  # minus, figure dash and en dash stand before numbers
BEHIND = ".,:;!%$€£ "  # what may follow a number that ends a sentence, a price or a share
LONGEST = 1_000  # characters; anything longer is compared as text
LAST = 20_000  # characters from the end in which a last number is looked for


def parse_number(text: str) -> Decimal | None:
    """The number that `text` is, exactly, or None: `$1,234.50`, `-3.`, `75 %`, `1e6`; never `nan` or `1_000`."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    found = NUMBER.fullmatch(text.translate(MINUS_SIGNS).rstrip(BEHIND))
    if found is None or (found["sign"] and found["inner"]):
        return None
    return Decimal(found["sign"] + found["inner"] + found["digits"].replace(",", ""))


def same_number(one: str, other: str) -> bool | None:
    """Whether two texts are the same number; None where one of them is no number."""
    first, second = parse_number(one), parse_number(other)
    return None if first is None or second is None else first == second


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly, or None: of `so -$2.` it is -2, of `5-3` and `5 - 3` it is 3."""
    every = list(NUMBER.finditer(text[-LAST:].translate(MINUS_SIGNS)))
    return _signed(every[-1]) if every else None


def _signed(found: re.Match[str]) -> Decimal:
    """The number that was found, with its sign unless that is a dash between words or takes away."""
    group = "sign" if found["sign"] else "inner"
    place = found.start(group)
    before, after = found.string[max(0, place - 1) : place], found.string[place + 1 : place + 2]
    dash = before.isalnum() or before in (")", "%") or after == " "
    return Decimal(("" if dash else found[group]) + found["digits"].replace(",", ""))


def numeric_match(*, tolerance: float = 0.0, relative: float = 0.0) -> Scorer:
    """1 if the last number of the output is the last number of an accepted answer, else 0.

    An output without a number is wrong; a sample whose accepted answers have none is skipped.

    Args:
        tolerance: How far apart the two may be.
        relative: How far apart they may be as a share of the accepted number; the wider of both counts.
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
