"""The run that a gate judges, where it is there already before its baseline is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run that is there already and is judged: it cannot be its own baseline, nor can one that began after it."""

    id: str
    started_at: datetime

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> RunRef:
        """The run of a `run.json`; where it scored stored answers, the run that gave them."""
        said = run.get("scored_from") or run
        said = said if said.get("started_at") else run
        return cls(str(said["run_id"]), datetime.fromisoformat(str(said["started_at"])))

    @property
    def started_ms(self) -> int:
        return round(self.started_at.timestamp() * 1000)
