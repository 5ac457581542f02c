"""A stored run among those that are compared: who its targets are, and its rows under those names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalrunner.domain import Row
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.row_log import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """A run that is compared. `names` are those of its targets among the candidates, `scorers` those that count.

    `first` is the place of its first sample: that of all runs where they are paired, else one of its own.
    """

    folder: RunFolder
    data: Mapping[str, Any]
    names: Mapping[str, str]
    scorers: frozenset[str]
    first: int = 0

    @property
    def size(self) -> int:
        """How many samples it has."""
        return int(self.data["definition"]["dataset"]["rows"])

    def rows(self) -> Iterator[Row]:
        """Its rows, each under the name of its candidate and at the place of its sample."""
        for row in read_rows(self.folder.path):
            sample = replace(row.sample, index=row.sample.index + self.first) if self.first else row.sample
            cells = {name: cell for name, cell in row.cells.items() if name in self.scorers}
            yield replace(row, target=self.names[row.target], sample=sample, cells=cells)
