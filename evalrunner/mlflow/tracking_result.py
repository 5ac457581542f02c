"""What came of sending a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a run is by now. `problem` says why it is not there, or not all of it; `again`: it was there before."""

    uri: str
    experiment: str
    run_id: str | None = None
    url: str | None = None
    problem: str | None = None
    again: bool = False

    def __str__(self) -> str:
        place = self.url or f"{self.uri}, run {self.run_id}"
        return f"{'already there' if self.again else 'sent'}: experiment {self.experiment!r} at {place}"
