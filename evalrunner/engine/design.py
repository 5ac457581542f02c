"""The design of a suite: its reducers, and a check that its cluster and slice columns are in the data."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalrunner.domain import Sample
from evalrunner.errors import nearest
from evalrunner.stats.aggregates import MEAN_REDUCER, Reducer, parse_reducer
from evalrunner.stats.summary import Design, Groups
from evalrunner.suite.schema import KeyPath, Suite
from evalrunner.suite.yaml import Document

MAX_SLICE_VALUES = 100  # a table of more is unreadable, and a column of ids is a mistake


def design_of(suite: Suite, document: Document) -> Design:
    """The design of a suite. Problems of its reducers are added to the document."""
    return Design(
        reducers=_reducers(suite, document), cluster=suite.dataset.cluster, slices=suite.slices, seed=suite.run.seed
    )


def _reducers(suite: Suite, document: Document) -> tuple[Reducer, ...]:
    given = suite.run.reducer
    if given is None:
        return (MEAN_REDUCER,)
    path: KeyPath = ("reducer",) if ("reducer",) in document.marks else ("run", "reducer")
    found: list[Reducer] = []
    for place, name in enumerate([given] if isinstance(given, str) else given):
        here = path if isinstance(given, str) else (*path, place)
        try:
            reducer = parse_reducer(name)
        except ValueError as unknown:
            document.problem(here, str(unknown))
            continue
        if reducer.k > suite.run.epochs:
            document.problem(here, f"{name!r} needs {reducer.k} epochs; the suite runs {suite.run.epochs}")
        if reducer in found:
            document.problem(here, f"{name!r} is listed twice")
        found.append(reducer)
    if not given:
        document.problem(path, "is empty; name a reducer, such as mean, or remove the key")
    return tuple(found) or (MEAN_REDUCER,)


@dataclass(slots=True)
class ColumnCheck:
    """Collects the values of cluster and slice columns during the scan, and reports unusable columns."""

    design: Design
    groups: list[tuple[KeyPath, Groups, set[str]]] = field(default_factory=list)
    samples: int = 0

    def __post_init__(self) -> None:
        if self.design.cluster is not None:
            self.groups.append((("dataset", "cluster"), Groups(self.design.cluster), set()))
        for place, column in enumerate(self.design.slices):
            self.groups.append((("slices", place), Groups(column), set()))

    def add(self, sample: Sample) -> None:
        """Collect the values of one sample."""
        self.samples += 1
        for _, groups, texts in self.groups:
            if len(texts) <= MAX_SLICE_VALUES:
                texts.add(groups.text_of(sample))

    def report(self, document: Document, columns: tuple[str, ...]) -> None:
        """Add the problems to the document. `columns` are those of the dataset."""
        for path, groups, texts in self.groups:
            if texts <= {""} and self.samples:
                known = nearest(groups.column, columns) or f"; it has {', '.join(columns)}"
                document.problem(path, f"no sample has a value of {groups.column!r}{known}")
            elif path[0] == "slices" and len(texts) > MAX_SLICE_VALUES:
                document.problem(
                    path, f"{groups.column!r} has over {MAX_SLICE_VALUES} values; slices are for columns with a few"
                )
