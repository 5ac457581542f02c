"""A baseline out of MLflow: that of the newest run of the suite that passed, or of a run by its id."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalrun.errors import RunNotFoundError
from evalrun.gates.accepting import GOOD
from evalrun.gates.baseline_file import Baseline, read_baseline
from evalrun.mlflow_package import check_mlflow, quiet_mlflow
from evalrun.redact import LOGIN, redact_message

FILE = "baseline.jsonl"
EXPERIMENT, RUN = "mlflow:experiment/", "mlflow:run/"
LOOKED_AT = 500  # runs of the suite and its targets, the newest first


def baseline_from_mlflow(reference: str, suite: str, uri: str | None) -> Baseline | None:
    """The baseline that `mlflow:experiment/NAME` or `mlflow:run/ID` means, or None where no run has passed yet.

    `uri` is what the suite says of MLflow's address, None for what the environment says. Raises RunNotFoundError where
    MLflow cannot be asked, and SuiteError where what it has is broken.
    """
    check_mlflow(f"baseline: {reference}")
    patient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") or "2"}
    with quiet_mlflow(**patient), tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
        from mlflow import MlflowClient

        try:
            client = MlflowClient(tracking_uri=uri)
            for run_id in _runs(client, reference, suite):
                if FILE in [item.path for item in client.list_artifacts(run_id)]:
                    path = Path(client.download_artifacts(run_id, FILE, folder))
                    return replace(read_baseline(path, shown=reference), path=None)
        except RunNotFoundError:
            raise
        except Exception as refused:  # MLflow, requests and databases each raise their own
            said = " ".join(LOGIN.sub("://", redact_message(str(refused))).split())[:300]
            raise RunNotFoundError(f"{reference!r}: MLflow cannot be asked: {said}") from None
    return None


def _runs(client: Any, reference: str, suite: str) -> Iterator[str]:
    """MLflow's ids of the runs that may have the baseline, the newest first."""
    if reference.startswith(RUN):
        yield reference.removeprefix(RUN)
        return
    name = reference.removeprefix(EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:  # before the first run is sent there
        return
    wanted = f"tags.`evalrun.suite` = '{suite}' and attributes.status = 'FINISHED'"
    newest = ["attributes.start_time DESC"]
    for run in client.search_runs([experiment.experiment_id], wanted, max_results=LOOKED_AT, order_by=newest):
        if run.data.tags.get("evalrun.verdict") in GOOD:
            yield run.info.run_id
