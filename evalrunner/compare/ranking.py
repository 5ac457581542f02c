"""Rankings from significant differences: order, signs and compact letters. And Pareto fronts."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from evalrunner.compare.result import ParetoFront, Ranking

BEATS, ABOUT = ">", "≈"


def rank(values: Mapping[str, float | None], better: Iterable[tuple[str, str]], *, higher_is_better: bool) -> Ranking:
    """The ranking by `values`; `better` holds the significant pairs (better, worse).

    Candidates without a value come last and differ from none.
    """
    wins = frozenset(better)

    def key(name: str) -> tuple[bool, float, str]:
        value = values[name]
        if value is None:
            return True, 0.0, name
        return False, -value if higher_is_better else value, name

    order = tuple(sorted(values, key=key))
    signs = tuple(
        BEATS if all((before, after) in wins for before in order[:place] for after in order[place:]) else ABOUT
        for place in range(1, len(order))
    )
    best = order[0] if len(order) > 1 and all((order[0], other) in wins for other in order[1:]) else None
    differing = tuple(
        pair
        for group in groups(order, signs)
        for place, one in enumerate(group)
        for other in group[place + 1 :]
        for pair in ((one, other), (other, one))
        if pair in wins
    )
    return Ranking(order=order, signs=signs, letters=compact_letters(order, wins), best=best, differing=differing)


def groups(order: Sequence[str], signs: Sequence[str]) -> list[list[str]]:
    """The order, split at each `>`."""
    result = [list(order[:1])] if order else []
    for sign, name in zip(signs, order[1:], strict=True):
        if sign == BEATS:
            result.append([name])
        else:
            result[-1].append(name)
    return result


def compact_letters(order: Sequence[str], differ: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two names share one exactly if they do not differ: insert and absorb (Piepho 2004, §3).

    The first name gets `a`.
    """
    columns: list[frozenset[str]] = [frozenset(order)]
    for one, other in sorted({tuple(sorted(pair)) for pair in differ}):
        inserted: list[frozenset[str]] = []
        for column in columns:
            inserted.extend([column - {one}, column - {other}] if {one, other} <= column else [column])
        columns = [
            column
            for place, column in enumerate(inserted)
            if not any(column < other for other in inserted) and column not in inserted[:place]
        ]
    place_of = {name: place for place, name in enumerate(order)}
    columns.sort(key=lambda column: sorted(place_of[name] for name in column))
    return {name: "".join(_letter(place) for place, column in enumerate(columns) if name in column) for name in order}


def _letter(place: int) -> str:
    """a, b … z, then A … Z, then (52) and so on: no two columns share one."""
    letters = string.ascii_letters
    return letters[place] if place < len(letters) else f"({place})"


def pareto_front(
    quality: tuple[str, Mapping[str, float | None]], against: tuple[str, Mapping[str, float | None]], *,
    higher_is_better: bool,
) -> ParetoFront | None:  # fmt: skip
    """The Pareto front of a quality metric and a cost (lower is better); None if no candidate has both.

    Each is the metric's name with the value of every candidate. Candidates that are equal on both are on the front.
    """
    sign = 1.0 if higher_is_better else -1.0
    points: dict[str, tuple[float, float]] = {}
    for name, value in quality[1].items():
        cost = against[1].get(name)
        if value is not None and cost is not None:
            points[name] = (sign * value, -cost)
    if not points:
        return None
    members = tuple(
        name
        for name, point in points.items()
        if not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points.values())
    )
    missing = tuple(name for name in quality[1] if name not in points)
    return ParetoFront(quality=quality[0], against=against[0], members=members, missing=missing)
