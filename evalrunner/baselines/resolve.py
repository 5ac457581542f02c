"""What a gate's `baseline:` means: a name beside the suite file, a path, or an earlier run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import Baseline, BaselineHead, baseline_path, collect_rows, read_baseline
from evalrunner.baselines.run_ref import RunRef
from evalrunner.errors import RunNotFoundError
from evalrunner.runs.folder import RUN_FILE, RUN_ID, RunFolder, find_run, read_json
from evalrunner.runs.row_log import read_rows

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RUN = "run:"
MLFLOW = "mlflow:"
IN_MLFLOW = re.compile(r"mlflow:(experiment|run)/.*\S.*")


class BadBaselineReference(ValueError):
    """A `baseline:` that is neither a name nor a path nor a run. The message says what it should be."""


@dataclass(frozen=True, slots=True)
class BaselineResolver:
    """Where baselines are looked for: beside the suite file, under the suite's name; in the runs folder; in MLflow.

    `judged` is the run that is compared, where that is there already.
    """

    folder: Path
    suite: str
    runs: Path
    mlflow_uri: str | None = field(default=None, kw_only=True)
    judged: RunRef | None = field(default=None, kw_only=True)

    def find(self, reference: str) -> Baseline | None:
        """The baseline, or None where there is none yet. Raises BadBaselineReference, RunNotFoundError and SuiteError."""
        if reference.startswith(RUN):
            return baseline_of_run(find_run(reference.removeprefix(RUN).strip(), self.runs))
        if IN_MLFLOW.fullmatch(reference):
            from evalrunner.mlflow.baseline import baseline_from_mlflow

            return baseline_from_mlflow(reference, self.suite, self.mlflow_uri, self.judged)
        if is_path(reference) and not reference.startswith(MLFLOW):
            path = self.folder / reference
            if (path / RUN_FILE).is_file():
                return baseline_of_run(RunFolder(path))
            return self._read(path, reference)
        if not NAME.fullmatch(reference):
            raise BadBaselineReference(
                f"{reference!r} is no baseline: it should be a name such as main, a path to a .jsonl file, run:RUN, mlflow:experiment/NAME or mlflow:run/ID"
            )
        found = self._read(baseline_path(self.folder, self.suite, reference), reference)
        if found is None and RUN_ID.fullmatch(reference):
            return baseline_of_run(find_run(reference, self.runs))
        return found

    def _read(self, path: Path, label: str) -> Baseline | None:
        try:
            return read_baseline(path, label=label)
        except FileNotFoundError:
            return None


def is_path(reference: str) -> bool:
    """Whether a `baseline:` is the path of a file or a run folder, not a name."""
    return not reference.startswith(RUN) and ("/" in reference or reference.endswith(".jsonl"))


def baseline_of_run(folder: RunFolder) -> Baseline:
    """A stored run as a baseline. Raises RunNotFoundError where the run is broken or has no rows."""
    run = read_json(folder.path / RUN_FILE)
    try:
        head = BaselineHead(
            run["suite"], folder.id, folder.id, run.get("finished_at"), int(run["epochs"]), provenance_of_run(run)
        )  # fmt: skip
    except (KeyError, TypeError) as broken:
        raise RunNotFoundError(f"{str(folder.path / RUN_FILE)!r} is not what a run leaves behind: {broken!r}") from None
    rows = collect_rows(read_rows(folder.path), epochs=head.epochs)
    if not rows:
        raise RunNotFoundError(f"run {folder.id} has no rows")
    return Baseline(head, folder.id, rows)


def provenance_of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a stored run was made of, as its baseline has it."""
    scored = run.get("scored_from")
    prompts = run["hashes"]["prompts"]
    defined = (run.get("definition") or {}).get("targets") or {}
    return {
        "dataset": run["hashes"]["dataset"],
        "targets": dict(scored["targets"])
        if scored
        else {
            name: {
                **{key: said.get(key) for key in ("type", "model", "params")},
                "options": defined.get(name, {}).get("options"),
                "prompt": prompts.get(name),
                "served_models": said.get("served_models") or [],
            }
            for name, said in run["targets"].items()
        },
        "scorers": dict(run["scorers"]),
        "judges": {
            name: {key: said.get(key) for key in ("name", "model", "params")} for name, said in run["judges"].items()
        },
    }
