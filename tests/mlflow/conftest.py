"""Fixtures for MLflow: one server for all tests, and a client to read what was sent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from evalrunner.mlflow.client import mlflow_at, mlflow_client


@pytest.fixture(scope="session")
def server(mlflow_address: str) -> str:
    """The address of a real MLflow server."""
    return mlflow_address


@pytest.fixture
def client(server: str) -> Iterator[Any]:
    """MLflow's own client of the server."""
    with warnings.catch_warnings(), mlflow_client(server) as result:
        yield result


@pytest.fixture
def mlflow(server: str) -> Iterator[Any]:
    """The package with the address of the server, as used to log datasets."""
    with warnings.catch_warnings(), mlflow_at(server):
        warnings.simplefilter("ignore")  # about logging
        import mlflow

        yield mlflow


class Arrived:
    """The runs of an experiment: that of the suite, and those of its targets by name."""

    def __init__(self, client: Any, experiment: str) -> None:
        self.client = client
        result = client.get_experiment_by_name(experiment)
        runs = list(client.search_runs([result.experiment_id], max_results=1000)) if result is not None else []
        self.experiment_id = result.experiment_id if result is not None else None
        self.parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        self.targets = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
        self.count = len(runs)

    @property
    def parent(self) -> Any:
        """The one run of the suite."""
        (parent,) = self.parents
        return parent

    def artifacts(self, run: Any) -> list[str]:
        return sorted(item.path for item in self.client.list_artifacts(run.info.run_id))

    def table(self, target: str) -> Any:
        """The evaluation table of a target, as MLflow itself reads it."""
        import mlflow

        run_id = self.targets[target].info.run_id
        mlflow.set_tracking_uri(self.client.tracking_uri)  # its search for tables uses this address only
        try:
            return self.client.load_table(self.experiment_id, "eval_results_table.json", [run_id])
        finally:
            mlflow.set_tracking_uri(None)

    def traces(self, target: str) -> list[Any]:
        return list(
            self.client.search_traces(
                locations=[self.experiment_id], run_id=self.targets[target].info.run_id, max_results=500
            )
        )
