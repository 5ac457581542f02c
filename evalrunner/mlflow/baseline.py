"""A baseline out of MLflow: that of the newest run of the suite that passed, or of a run by its id."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import Baseline, read_baseline
from evalrunner.baselines.run_ref import RunRef
from evalrunner.errors import RunNotFoundError
from evalrunner.mlflow.client import check_mlflow, missing_database, mlflow_address, mlflow_at, why_mlflow_refuses
from evalrunner.verdicts import ACCEPTABLE

FILE = "baseline.jsonl"
REFERENCE = re.compile(r"mlflow:(experiment|run)/.*\S.*")
EXPERIMENT, RUN = "mlflow:experiment/", "mlflow:run/"
LOOKED_AT = 500  # runs of the suite and its targets, the newest first


class MlflowBaselines:
    """Baselines that were sent to MLflow with their run."""

    forms = ("mlflow:experiment/NAME", "mlflow:run/ID")
    how_to_add = (
        "once a run is good, evalrun track last --mlflow sends it there, if the suite is tracked in that experiment"
    )

    def accepts(self, reference: str) -> bool:
        return REFERENCE.fullmatch(reference) is not None

    def find(self, reference: str, suite: str, address: str | None, judged: RunRef | None) -> Baseline | None:
        """The baseline of the newest run that passed in an experiment, or of the run of an id; None if none has passed.

        Without `address` the environment says where MLflow is. Raises RunNotFoundError if MLflow does not answer or the
        run of an id has no baseline, and SuiteError if the baseline is broken.
        """
        return _find(reference, suite, mlflow_address(address), judged)


mlflow = MlflowBaselines()


def _find(reference: str, suite: str, address: str, judged: RunRef | None) -> Baseline | None:
    check_mlflow(f"baseline: {reference}")
    if (missing := missing_database(address)) is not None:  # before the first run is sent there
        if reference.startswith(RUN):
            raise RunNotFoundError(f"{reference!r} cannot be had from MLflow: there is no database {str(missing)!r}")
        return None
    with mlflow_at(address), tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
        from mlflow import MlflowClient

        try:
            client = MlflowClient(tracking_uri=address)
            for run_id in _runs(client, reference, suite, judged):
                if FILE in [item.path for item in client.list_artifacts(run_id)]:
                    path = Path(client.download_artifacts(run_id, FILE, folder))
                    return replace(read_baseline(path, label=reference), path=None)
        except RunNotFoundError:
            raise
        except Exception as refused:  # MLflow, requests and databases each raise their own
            said = why_mlflow_refuses(refused, address)
            raise RunNotFoundError(f"{reference!r} cannot be had from MLflow: {said}") from None
    if reference.startswith(RUN):
        raise RunNotFoundError(
            f"{reference!r} has no {FILE}, which evalrun writes for a run of a suite that it sends with its table"
        )
    return None


def _runs(client: Any, reference: str, suite: str, judged: RunRef | None) -> Iterator[str]:
    """MLflow's ids of the runs that may have the baseline, the newest first."""
    if reference.startswith(RUN):
        yield reference.removeprefix(RUN)
        return
    name = reference.removeprefix(EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:  # before the first run is sent there
        return
    wanted = f"tags.`evalrun.suite` = '{suite}' and attributes.status = 'FINISHED'"
    if judged is not None:
        wanted += f" and attributes.start_time < {judged.started_ms}"
    newest = ["attributes.start_time DESC"]
    for run in client.search_runs([experiment.experiment_id], wanted, max_results=LOOKED_AT, order_by=newest):
        itself = judged is not None and run.data.tags.get("evalrun.run_id") == judged.id
        if run.data.tags.get("evalrun.verdict") in ACCEPTABLE and not itself:
            yield run.info.run_id
