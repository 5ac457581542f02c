"""The samples with a failed row in an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evalrunner.datasets.selection import SampleSelection


@dataclass(frozen=True, slots=True)
class FailedSamples:
    """The samples with a failed row in an earlier run: their ids, by target."""

    run_id: str
    suite: str
    ids: Mapping[str, frozenset[str]]

    def of(self, targets: Sequence[str]) -> FailedSamples:
        """Those of the targets that a new run has too, or of all if it has none of them, such as of another model."""
        same = {name: ids for name, ids in self.ids.items() if name in targets}
        return replace(self, ids=same or self.ids)

    @property
    def selection(self) -> SampleSelection:
        """The samples with a failed row of any target."""
        return SampleSelection(frozenset().union(*self.ids.values()), f"failed in run {self.run_id}")
