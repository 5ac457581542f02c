"""The clock that waits go by: real time, or a test's, in which a minute takes a moment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass


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
