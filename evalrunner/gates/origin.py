"""The first run of a ratchet: a baseline accepted over another keeps where that one began, for each scorer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalrunner.gates.baseline_file import Baseline
from evalrunner.gates.evidence import Evidence, value_of
from evalrunner.gates.naming import Gate
from evalrunner.gates.pairing import COMPARED, changes


def metric_key(name: str, slice_: Mapping[str, str] | None) -> str:
    """A metric with its slice as one text: `exact_match/v1[topic=law]`."""
    return name + ("[" + ",".join(f"{column}={value}" for column, value in slice_.items()) + "]" if slice_ else "")


def new_origin(
    run_id: str, metrics: Mapping[str, Iterable[Mapping[str, Any]]], made: Mapping[str, Any]
) -> dict[str, Any]:
    """The origin that a run is to itself: for each scorer the values of its metrics, by target."""
    found: dict[str, Any] = {}
    for scorer in made["scorers"]:
        values = {
            target: {metric_key(one["name"], one["slice"]): one["value"] for one in several if one["scorer"] == scorer}
            for target, several in metrics.items()
        }
        found[scorer] = {"run_id": run_id, "values": values}
    return found


def kept_origin(new: Mapping[str, Any], made: Mapping[str, Any], before: Baseline | None) -> dict[str, Any]:
    """The origin of a baseline accepted over `before`: theirs for scorers that have not changed, with targets added."""
    if before is None:
        return dict(new)
    found: dict[str, Any] = {}
    for scorer, ours in new.items():
        theirs = before.head.origin.get(scorer)
        then, now = before.head.made["scorers"].get(scorer), made["scorers"][scorer]
        if theirs is None or then is None or changes(then, now, COMPARED):
            found[scorer] = ours
        else:
            found[scorer] = {**theirs, "values": {**ours["values"], **theirs["values"]}}
    return found


def origin_drop(gate: Gate, evidence: Evidence, baseline: Baseline, target: str) -> tuple[str | None, float | None]:
    """The run where the ratchet of a metric began, and how much worse the candidate is than that was, unpaired.

    Without the second where the baseline is that very run.
    """
    origin = baseline.head.origin.get(gate.measure.name) or {}
    values = (origin.get("values") or {}).get(target) or {}
    then, now = values.get(metric_key(gate.metric, gate.spec.slice)), value_of(gate, evidence)
    if then is None or now is None or origin.get("run_id") == baseline.head.run_id:
        return origin.get("run_id"), None
    return origin.get("run_id"), then - now if gate.higher_is_better else now - then
