"""Who stands before whom: order, signs and letters from the pairs that really differ."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from evalrunner.compare.result import Ranking

BEATS, ABOUT = ">", "≈"


def rank(values: Mapping[str, float | None], better: Iterable[tuple[str, str]], *, higher_is_better: bool) -> Ranking:
    """The ranking by `values`; `better` holds the pairs (better, worse) that really differ.

    Those without a value come last and are told apart from nobody.
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
        for stretch in stretches(order, signs)
        for place, one in enumerate(stretch)
        for other in stretch[place + 1 :]
        for pair in ((one, other), (other, one))
        if pair in wins
    )
    return Ranking(order=order, signs=signs, letters=compact_letters(order, wins), best=best, differing=differing)


def stretches(order: Sequence[str], signs: Sequence[str]) -> list[list[str]]:
    """The order cut where `>` stands."""
    found = [list(order[:1])] if order else []
    for sign, name in zip(signs, order[1:], strict=True):
        if sign == BEATS:
            found.append([name])
        else:
            found[-1].append(name)
    return found


def compact_letters(order: Sequence[str], differ: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Letters such that two names share one exactly where they do not differ: insert and absorb (Piepho 2004, §3).

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
