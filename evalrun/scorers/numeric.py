"""Numbers as people and models write them, compared by value."""

from __future__ import annotations

import re
from decimal import Decimal

NUMBER = re.compile(
    r"(?P<sign>[-+]?) ?[$€£]? ?(?P<inner>[-+]?)"
    r"(?P<digits>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,3})?)",
    re.ASCII | re.IGNORECASE,
)
MINUS_SIGNS = str.maketrans("\u2212\u2012\u2013", "---")  # minus, figure dash and en dash stand before numbers
BEHIND = ".,:;!%$€£ "  # what may follow a number that ends a sentence, a price or a share
LONGEST = 1_000  # characters; anything longer is compared as text


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
