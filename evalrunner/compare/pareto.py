"""Quality against what it takes: who is outdone by nobody on both."""

from __future__ import annotations

from collections.abc import Mapping

from evalrunner.compare.result import ParetoFront


def pareto_front(
    quality: tuple[str, Mapping[str, float | None]], against: tuple[str, Mapping[str, float | None]], *,
    higher_is_better: bool,
) -> ParetoFront | None:  # fmt: skip
    """The Pareto pareto_front of a quality metric against a cost, of which less is better; None where nobody has both.

    Each is the metric's name with the value of every candidate. Equal on both, both are on the pareto_front.
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
