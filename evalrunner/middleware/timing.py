"""The clock that waits go by: real time, or a test's, in which a minute takes a moment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds as waits between calls count them; each takes `scale` real seconds."""

    scale: float = 1.0

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic() / self.scale

    async def sleep(self, seconds: float) -> None:
        """None, after that many seconds."""
        await asyncio.sleep(seconds * self.scale)


def duration(seconds: float) -> str:
    """Seconds in words with two units at most, rounded: `5 h 20 min`."""
    left = round(seconds)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (smaller, part) in pairwise(units):
        if left >= size:
            rest = round(left % size / part)
            whole, rest = (left // size + 1, 0) if rest * part >= size else (left // size, rest)
            return f"{whole} {unit} {rest} {smaller}" if rest else f"{whole} {unit}"
    return f"{seconds:.3g} s"
