"""MLflow as a package: whether it is there, and what has to be said before it is imported."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from evalrun.errors import MissingExtraError

BEFORE_IMPORT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # MLflow imports litellm where it is installed, which asks a server for prices
}
UNLESS_SAID = {
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    "TQDM_DISABLE": "1",  # its metrics with a judge draw a progress bar for every row
}
CHATTERING = ("mlflow", "alembic", "urllib3.connectionpool")


def check_mlflow(what: str) -> None:
    """None, where MLflow is installed; imports nothing. Raises MissingExtraError for `what` needs it."""
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError(what, "mlflow")


@contextmanager
def quiet_mlflow(**environ: str) -> Iterator[None]:
    """MLflow can be imported and used inside: its telemetry off for good, its chatter off, `environ` set meanwhile."""
    os.environ.update(BEFORE_IMPORT)
    for name, value in UNLESS_SAID.items():
        os.environ.setdefault(name, value)
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow and its packages warn of is not for our users to mend
        try:
            import mlflow  # noqa: F401  so that its loggers are there

            for name in CHATTERING:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, old in before.items():
                if old is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = old
