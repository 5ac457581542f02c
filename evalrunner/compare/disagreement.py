"""The rows of the samples on which candidates differ most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evalrunner.domain import Row


def disagreeing_rows(rows: Iterable[Row], places: Sequence[int], names: Sequence[str]) -> tuple[tuple[Row, ...], ...]:
    """For each place in the dataset the rows of one epoch, of the candidates in the order of their `names`.

    The epoch is the first in which any scores differ. One pass; only the rows of those places are held.
    """
    found: dict[int, dict[int, list[Row]]] = {place: {} for place in places}
    order = {name: place for place, name in enumerate(names)}
    for row in rows:
        if row.sample.index in found:
            found[row.sample.index].setdefault(row.epoch, []).append(row)
    picked: list[tuple[Row, ...]] = []
    for epochs in found.values():
        together = [epochs[epoch] for epoch in sorted(epochs)]
        if together:
            telling = next((group for group in together if _differ(group)), together[0])
            picked.append(tuple(sorted(telling, key=lambda row: order[row.target])))
    return tuple(picked)


def _differ(rows: Sequence[Row]) -> bool:
    names = {name for row in rows for name in row.cells}
    return any(len({row.cells[name].value for row in rows if name in row.cells}) > 1 for name in names)
