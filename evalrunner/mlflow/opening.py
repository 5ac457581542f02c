"""MLflow opened for one sending: its own retries off, and its habit of printing addresses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evalrunner.mlflow.client import check_mlflow, quiet_mlflow
from evalrunner.mlflow.settings import Settings

WHILE_SENDING = {
    # A request that creates something is never made again blindly: we look first whether it was done.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_POOL_MAXSIZE": "16",  # what is more than its ten at once would open a connection for every request
}
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"


@contextmanager
def opened(settings: Settings) -> Iterator[Any]:
    """An `MlflowClient` for the settings' address. Raises MissingExtraError; what its import raises is its own."""
    check_mlflow("tracking runs with MLflow")
    with quiet_mlflow(**WHILE_SENDING, **{TIMEOUT: os.environ.get(TIMEOUT) or "30"}):
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=settings.uri)
