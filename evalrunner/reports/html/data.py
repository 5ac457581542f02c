"""What the page says above its rows: `run.json` and `metrics.json` of a run folder, as the page reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalrunner.compare.result import Comparison
from evalrunner.domain import Metric
from evalrunner.reports.html.pack import ANSWER, CELL, GROUP, STATES
from evalrunner.reports.view import RunView, sentence
from evalrunner.runs.provenance import ScorerProvenance, TargetProvenance
from evalrunner.runs.record import UsageRecord, to_json

ABOUT = ("status", "started_at", "finished_at", "duration_s", "seed", "epochs", "rows", "rows_planned", "stopped")
DECLARED = ("range", "higher_is_better", "binary", "unit", "threshold", "headline", "version", "backend")


def overview_data(view: RunView) -> dict[str, Any]:
    """Verdict, gates, metrics, usage and configuration of a run."""
    run = view.record
    assert run is not None  # only views of tests have none
    return {
        "suite": run.suite,
        "run_id": run.run_id,
        "description": run.resolved.get("description"),
        "word": view.word,
        "sentence": sentence(view),
        "verdict": view.verdict,
        "exit_code": view.exit_code,
        "about": {key: to_json(getattr(run, key)) for key in ABOUT},
        "dataset_hash": run.dataset.digest,
        "versions": dict(run.versions),
        "notices": list(run.notices),
        "columns": [name for name in run.columns if name not in ("id", "input", "expected")],
        "scorers": [scorer_part(name, scorer) for name, scorer in run.scorers.items()],
        "judges": to_json(run.judges),
        "targets": [
            target_part(name, target, view.targets[name].metrics, view.targets[name].usage if view.numbers else None)
            for name, target in run.targets.items()
        ],
        "gates": to_json(view.gates),
        "comparison": comparison_part(view.comparison),
        "shape": {"group": GROUP, "answer": ANSWER, "cell": CELL, "states": STATES},
    }


def comparison_part(comparison: Comparison | None) -> dict[str, Any] | None:
    """What the page shows of a comparison, as `metrics.json` has it: it computes the rest of its own numbers."""
    if comparison is None:
        return None
    data = comparison.to_json()
    return {key: data[key] for key in ("paired", "family", "metrics", "warnings", "notes")}


def scorer_part(name: str, scorer: ScorerProvenance) -> dict[str, Any]:
    """What the page shows of a scorer."""
    return {"name": name, "type": scorer.type, **{key: to_json(getattr(scorer, key)) for key in DECLARED}}


def target_part(
    name: str, target: TargetProvenance, metrics: Sequence[Metric], usage: UsageRecord | None
) -> dict[str, Any]:
    """What the page shows of a target; `usage` is None where nobody counted its calls."""
    return {
        "name": name,
        "type": target.type,
        "model": target.model,
        "host": target.host,
        "params": dict(target.params),
        "served_models": list(target.served_models),
        "usage": {} if usage is None else to_json(usage),
        "metrics": [to_json(metric) for metric in metrics],
    }


def headline(overview: Mapping[str, Any]) -> str:
    """`PASS qa` as one line of text, for the title and for readers without scripts."""
    return f"{overview['word']} {overview['suite']}"


def scorer_names(overview: Mapping[str, Any]) -> list[str]:
    """The scorers in the order of the suite."""
    return [scorer["name"] for scorer in overview["scorers"]]


def target_names(overview: Mapping[str, Any]) -> list[str]:
    """The targets in the order of the page."""
    return [target["name"] for target in overview["targets"]]
