"""What the page says above its rows: `run.json` and `metrics.json` of a run folder, as the page reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalrunner.reports.html.pack import ANSWER, CELL, GROUP, STATES
from evalrunner.reports.json import metric_data
from evalrunner.reports.view import RunView, sentence, stored_view
from evalrunner.runs.folder import METRICS_FILE, RUN_FILE, RunFolder, read_json

ABOUT = ("status", "started_at", "finished_at", "duration_s", "seed", "epochs", "rows", "rows_planned", "stopped")
DECLARED = ("range", "higher_is_better", "binary", "unit", "threshold", "headline", "version", "backend")


def overview_data(folder: Path) -> dict[str, Any]:
    """Verdict, gates, metrics, usage and the parts of a run folder. Raises RunNotFoundError where it is none."""
    run = read_json(folder / RUN_FILE)
    view = stored_view(RunFolder(folder))
    metrics = _metrics(folder, view)
    names = list(run["targets"])
    return {
        "suite": run["suite"],
        "run_id": run["run_id"],
        "description": (run.get("resolved") or {}).get("description"),
        "word": view.word,
        "sentence": sentence(view),
        "verdict": view.verdict,
        "exit_code": view.exit_code,
        "about": {key: run.get(key) for key in ABOUT},
        "dataset_hash": (run.get("hashes") or {}).get("dataset"),
        "versions": run.get("versions") or {},
        "notices": run.get("notices") or [],
        "columns": [name for name in run.get("columns", ()) if name not in ("id", "input", "expected")],
        "scorers": [scorer_part(name, said) for name, said in run["scorers"].items()],
        "judges": run.get("judges") or {},
        "targets": [target_part(name, run["targets"][name], metrics["targets"].get(name) or {}) for name in names],
        "gates": metrics["gates"],
        "comparison": comparison_part(metrics.get("comparison")),
        "shape": {"group": GROUP, "answer": ANSWER, "cell": CELL, "states": STATES},
    }


def _metrics(folder: Path, view: RunView) -> Mapping[str, Any]:
    """What `metrics.json` holds; for a run that did not come to its end, the numbers of the rows that are on disk."""
    if view.verdict is not None:
        return read_json(folder / METRICS_FILE)
    targets = {name: {"metrics": [metric_data(m) for m in found.metrics]} for name, found in view.targets.items()}
    return {"targets": targets, "gates": []}


def comparison_part(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the page shows of a comparison, as `metrics.json` has it: the rest it works out of its own numbers."""
    kept = ("paired", "family", "metrics", "warnings", "notes")
    return None if data is None else {key: data[key] for key in kept}


def scorer_part(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a scorer."""
    return {"name": name, "type": said.get("type"), **{key: said.get(key) for key in DECLARED}}


def target_part(name: str, said: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a target, `said` by `run.json` and `found` in `metrics.json`."""
    return {
        "name": name,
        "type": said.get("type"),
        "model": said.get("model"),
        "host": said.get("host"),
        "params": said.get("params") or {},
        "served_models": said.get("served_models") or [],
        "usage": found.get("usage") or {},
        "metrics": found.get("metrics") or [],
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
