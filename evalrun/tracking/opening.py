"""MLflow opened for one sending: imported with its telemetry off, its own retries off, and without its chatter."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evalrun.tracking.settings import Settings, check_installed

ALWAYS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # MLflow imports litellm where it is installed, which asks a server for prices
}
WHILE_SENDING = {
    # A request that creates something is never made again blindly: we look first whether it was done.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}
UNLESS_SAID = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_LOGGING_LEVEL": "ERROR", "GIT_PYTHON_REFRESH": "quiet"}
CHATTERING = ("mlflow", "alembic", "urllib3.connectionpool")


@contextmanager
def opened(settings: Settings) -> Iterator[Any]:
    """An `MlflowClient` for the settings' address. Raises MissingExtraError; what its import raises is its own."""
    check_installed()
    before = {name: os.environ.get(name) for name in (*WHILE_SENDING, *UNLESS_SAID)}
    os.environ.update(ALWAYS)
    os.environ.update(WHILE_SENDING)
    for name, value in UNLESS_SAID.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow and its packages warn of is not for our users to mend
        try:
            from mlflow import MlflowClient

            for name in CHATTERING:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield MlflowClient(tracking_uri=settings.uri)
        finally:
            for name, old in before.items():
                if old is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = old
