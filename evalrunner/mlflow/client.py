"""MLflow as a package: whether it is there, and what has to be said before it is imported."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from evalrunner.errors import MissingExtraError
from evalrunner.redact import LOGIN, redact_message

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
DEFAULT_URI = "sqlite:///mlflow.db"  # MLflow's own since version 3
DATABASE_FILE = re.compile(r"sqlite:///(?P<path>[^?]+)(?P<rest>.*)")
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
NOT_REACHED = (
    "Max retries exceeded",
    "Connection refused",
    "Connection aborted",
    "Failed to resolve",
    "Read timed out",
)
CHATTERING = ("mlflow", "alembic", "urllib3.connectionpool")


def check_mlflow(what: str) -> None:
    """None, where MLflow is installed; imports nothing. Raises MissingExtraError for `what` needs it."""
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError(what, "mlflow")


def mlflow_address(said: str | None, environ: Mapping[str, str] | None = None) -> str:
    """Where MLflow is: what the suite or an option says, else MLFLOW_TRACKING_URI, else MLflow's own default.

    One rule for all that is read from MLflow and sent there.
    """
    values = os.environ if environ is None else environ
    return (said or values.get("MLFLOW_TRACKING_URI") or DEFAULT_URI).strip()


def missing_database(uri: str) -> Path | None:
    """The database file of an address where it is not there: MLflow would make an empty one to look into."""
    found = DATABASE_FILE.fullmatch(uri)
    path = Path(found["path"]) if found is not None else None
    return None if path is None or path.exists() else path


def why_mlflow_refuses(refused: BaseException, address: str) -> str:
    """What MLflow raised, as one line without logins; of a server that is not there no more than that."""
    text = " ".join(without_login(str(refused)).split())
    if address.startswith("http") and any(sign in text for sign in NOT_REACHED):
        return f"nobody answers at {without_login(address)}"
    return text[:300] or type(refused).__name__


def without_login(text: str) -> str:
    """The text without keys, and its addresses without user and password."""
    return LOGIN.sub("://", redact_message(text))


@contextmanager
def mlflow_at(uri: str, **environ: str) -> Iterator[None]:
    """`quiet_mlflow` where whatever asks MLflow asks `uri`, with few tries; one thread at a time."""
    with _turn, quiet_mlflow(**{RETRIES: os.environ.get(RETRIES) or "2", "MLFLOW_TRACKING_URI": uri, **environ}):
        from mlflow import get_tracking_uri, set_tracking_uri

        before = get_tracking_uri()
        if before == uri:
            yield
            return
        set_tracking_uri(uri)  # a program that has called this itself is heard before the environment
        try:
            yield
        finally:
            set_tracking_uri(before)


_turn = threading.RLock()  # the environment is one for all threads


@contextmanager
def quiet_mlflow(**environ: str) -> Iterator[None]:
    """MLflow can be imported and used inside: its telemetry off for good, its chatter off, `environ` set meanwhile."""
    os.environ.update(BEFORE_IMPORT)
    for name, value in UNLESS_SAID.items():
        os.environ.setdefault(name, value)
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    with warnings.catch_warnings(record=True):  # kept from the screen also where MLflow asks for them again
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
