"""Limits on the work that a suite can ask for with its patterns, templates and data files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pattern may use for one text, a template for one sample, and a dataset for its files."""

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
    record_mb: int = 16
    """Million characters (2**20) of one record; the largest value of the option `max_record_mb` if `fixed`, else its default."""
    attachment_mb: int = 20
    """Size of an image, a sound or a file in a message: what most providers take."""
    entries: int = 250_000
    """Files and folders that are looked at for a glob."""
    files: int = 10_000
    """Files that a glob may match."""
    stdin_bytes: int = 4 * 2**30
    """Bytes of a dataset on standard input, which are copied to a file."""
    fixed: bool = False
    """Whether the suite cannot raise them."""


STANDARD: Final = Limits()
TIGHT: Final = Limits(
    match_s=1.0, template_steps=20_000, template_s=2.0, text=1024 * 1024, items=20_000, bits=4_096,
    record_mb=4, attachment_mb=5, entries=20_000, files=1_000, fixed=True,
)  # fmt: skip
"""For suites that nobody has read."""
