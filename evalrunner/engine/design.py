"""How a suite's samples are put together: its reducers, and whether its cluster and slices are in the data."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalrunner.domain import Sample
from evalrunner.errors import nearest
from evalrunner.stats.aggregates import MEAN_REDUCER, Reducer, parse_reducer
from evalrunner.stats.summary import Design, Groups
from evalrunner.suite.schema import KeyPath, Suite
from evalrunner.suite.yaml import Document

MOST_VALUES = 100  # of a slice column; a table of more says nothing, and a column of ids is a mistake


def design_of(suite: Suite, document: Document) -> Design:
    """The design of a suite; what is wrong with its reducers is noted in the document."""
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
            document.problem(here, f"names {name!r} a second time")
        found.append(reducer)
    if not given:
        document.problem(path, "is empty; name a reducer, such as mean, or take the key out")
    return tuple(found) or (MEAN_REDUCER,)


@dataclass(slots=True)
class ColumnCheck:
    """Sees every sample of the first pass, and then says which cluster or slice column cannot be one."""

    design: Design
    groups: list[tuple[KeyPath, Groups, set[str]]] = field(default_factory=list)
    seen: int = 0

    def __post_init__(self) -> None:
        if self.design.cluster is not None:
            self.groups.append((("dataset", "cluster"), Groups(self.design.cluster), set()))
        for place, column in enumerate(self.design.slices):
            self.groups.append((("slices", place), Groups(column), set()))

    def add(self, sample: Sample) -> None:
        """Note the values of one sample."""
        self.seen += 1
        for _, groups, texts in self.groups:
            if len(texts) <= MOST_VALUES:
                texts.add(groups.text_of(sample))

    def report(self, document: Document, columns: tuple[str, ...]) -> None:
        """Note what is wrong with the columns, which are those of the dataset."""
        for path, groups, texts in self.groups:
            if texts <= {""} and self.seen:
                known = nearest(groups.column, columns) or f"; it has {', '.join(columns)}"
                document.problem(path, f"no sample has a value of {groups.column!r}{known}")
            elif path[0] == "slices" and len(texts) > MOST_VALUES:
                document.problem(
                    path, f"{groups.column!r} has over {MOST_VALUES} values; slices are for columns with a few"
                )
