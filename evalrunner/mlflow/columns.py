"""What MLflow's metrics ask for by name, found in a sample and its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalrunner.domain import Sample
from evalrunner.errors import nearest
from evalrunner.scorers.factuality import expected_text

OUTPUT = frozenset({"predictions", "outputs", "output"})
INPUT = frozenset({"inputs", "input"})
EXPECTED = frozenset({"targets", "ground_truth", "expected", "expected_response"})


@dataclass(frozen=True, slots=True)
class Columns:
    """The names that a metric asks for, and the dataset's columns for those that are called something else there."""

    names: tuple[str, ...]
    mapped: Mapping[str, str]

    @classmethod
    def of(cls, names: Iterable[str], mapped: Mapping[str, str]) -> Columns:
        """Raises ValueError for a mapped name that the metric does not ask for."""
        asked = tuple(names)
        for name in mapped:
            if name not in asked:
                listed = f"it asks for {', '.join(asked)}" if asked else "it asks for none"
                raise ValueError(
                    f"'columns' has {name!r}, which the metric does not ask for{nearest(name, asked)}; {listed}"
                )
        return cls(asked, mapped)

    @property
    def needs_expected(self) -> bool:
        return any(name in EXPECTED and name not in self.mapped for name in self.names)

    def example(self) -> tuple[Sample, str]:
        """A made-up row that has every column, with a wrong answer: a question about it shows how long questions are."""
        own = {column: "x" for name in self.names if (column := self._column(name)) is not None}
        return Sample("example", "x", ("x",), own), "y"

    def missing(self, sample: Sample) -> str | None:
        """What a sample lacks, in words; None where every column is there."""
        for name in self.names:
            column = self._column(name)
            if column is not None and column not in sample.metadata:
                known = nearest(column, sample.metadata)
                hint = known or "; name it with columns: {" + name + ": …}"
                return f"the metric asks for {name!r}, and there is no column {column!r}{hint}"
        return None

    def values(self, output: str, sample: Sample) -> dict[str, Any]:
        """The value of each name. Raises KeyError for a column that is not there."""
        return {name: self._value(name, output, sample) for name in self.names}

    def empty(self, values: Mapping[str, Any]) -> str | None:
        """The first name from the dataset without a value."""
        return next((name for name in self.names if self._column(name) is not None and _nothing(values[name])), None)

    def _column(self, name: str) -> str | None:
        """The dataset's column for a name; None where it is the input, the output or the accepted answer."""
        if name in self.mapped:
            return self.mapped[name]
        return None if name in OUTPUT | INPUT | EXPECTED else name

    def _value(self, name: str, output: str, sample: Sample) -> Any:
        column = self._column(name)
        if column is not None:
            return sample.metadata[column]
        if name in OUTPUT:
            return output
        return sample.input if name in INPUT else expected_text(list(sample.expected))


def _nothing(value: Any) -> bool:
    """Whether there is nothing in a field, as in an empty one of a CSV file."""
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())
