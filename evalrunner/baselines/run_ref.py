"""The run that a gate judges, where it is there already before its baseline is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from evalrunner.runs.record import RunRecord


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run that is there already and is judged: it cannot be its own baseline, nor can one that began after it."""

    id: str
    started_at: datetime

    @classmethod
    def of(cls, run: RunRecord) -> RunRef:
        """The run of a record; where it scored stored answers, the run that gave them."""
        source = run.scored_from
        if source is not None and source.started_at is not None:
            return cls(source.run_id, source.started_at)
        return cls(run.run_id, run.started_at)

    @property
    def started_ms(self) -> int:
        return round(self.started_at.timestamp() * 1000)
