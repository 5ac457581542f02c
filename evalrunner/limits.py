"""Limits on the work that a suite can ask for with its patterns and templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pattern may use for one text, and a template for one sample."""

    match_s: float = 5.0
    """CPU time of one search: enough for quadratic cost. The default of `match_timeout`, and its maximum if `fixed`."""
    template_steps: int = 200_000
    """Passes of all loops of a template and calls of its macros."""
    template_s: float = 10.0
    text: int = 16 * 1024 * 1024
    """Characters of a message, and of any text on the way to it."""
    items: int = 200_000
    """Items in a list or mapping that a template makes, those of nested ones included."""
    bits: int = 100_000
    """Size of a number that a template computes."""
    fixed: bool = False
    """Whether the suite cannot raise them."""


STANDARD: Final = Limits()
TIGHT: Final = Limits(
    match_s=1.0, template_steps=20_000, template_s=2.0, text=1024 * 1024, items=20_000, bits=4_096, fixed=True
)
"""For suites that nobody has read."""
