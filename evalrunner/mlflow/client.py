"""The MLflow package: imported without side effects, opened for one server, its requests retried."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from evalrunner.egress import EgressPolicy, current_policy
from evalrunner.errors import EvalrunError, MissingExtraError
from evalrunner.redact import redact_message

ENV_BEFORE_IMPORT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # MLflow imports litellm if it is installed, which downloads prices
}
ENV_DEFAULTS = {
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    "TQDM_DISABLE": "1",  # its metrics with a judge draw a progress bar per row
}
DEFAULT_URI = "sqlite:///mlflow.db"  # the default of MLflow since version 3
DATABASE_FILE = re.compile(r"sqlite:///(?P<path>[^?]+)(?P<rest>.*)")
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
BUCKETS = {
    "s3": "https://s3.amazonaws.com", "r2": "https://{host}.r2.cloudflarestorage.com", "b2": "https://{host}",
    "gs": "https://storage.googleapis.com", "wasbs": "https://{host}", "abfss": "https://{host}",
}  # fmt: skip
"""Storage that MLflow's client writes to with credentials of the environment, and the host that it contacts."""

HOSTS_OF_ARTIFACTS = frozenset({"http", "https", "mlflow-artifacts", "ftp", "sftp", "hdfs", "viewfs"})
REFUSED_ARTIFACTS = re.compile(
    r"artifacts at \S+, which MLflow's server names.*contacted|MLflow stores artifacts in .*there"
)
UNREACHABLE_SIGNS = (
    "Max retries exceeded",
    "Connection refused",
    "Connection aborted",
    "Failed to resolve",
    "Read timed out",
)
NOISY_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")

REDIRECT = re.compile(r"redirects to another address are not followed \(HTTP \d+ to [^)\s]*\)")
REDIRECT_ADVICE = "; set the address of MLflow to the new one"
NO_REDIRECTS = (
    "MLFLOW_ALLOW_HTTP_REDIRECTS"  # without our hook, MLflow would take a redirect of an upload for a success
)

_address: ContextVar[str | None] = ContextVar("_address", default=None)  # of MLflow, while it is used here
_lock = threading.RLock()  # all threads share the environment

SENDING_ENVIRONMENT = {
    # requests are retried by Retrier, which first checks whether the object was created
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_POOL_MAXSIZE": "16",  # its default of ten would open a new connection for each further request
}
TIMEOUT_VARIABLE = "MLFLOW_HTTP_REQUEST_TIMEOUT"

T = TypeVar("T")
FIRST_WAIT_S, MAX_WAIT_S, JITTER_S = 0.1, 3.0, 0.1
MAX_REASON_LENGTH = 300
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501}  # 501 is permanent

# MLflow answers 400 for these, though the database was busy or two writers collided
BUSY = re.compile(r"QueuePool limit|IntegrityError|[Dd]eadlock|database is locked")

PLAIN_REASONS = {  # for errors of urllib3, which MLflow wraps in three lines
    r"Connection refused|actively refused": "no server is listening at that address (connection refused)",
    r"NameResolutionError|getaddrinfo failed|Name or service not known": "the host name cannot be resolved",
    r"ReadTimeoutError|Read timed out|ConnectTimeoutError": "the request timed out",
    r"RemoteDisconnected|Connection aborted|Connection reset": "the server closed the connection without an answer",
    r"readonly database|unable to open database file": "the database cannot be opened for writing",
}


def check_mlflow(what: str) -> None:
    """Raises MissingExtraError for `what` if MLflow is not installed; imports nothing."""
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError(what, "mlflow")


def mlflow_address(configured: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The address of MLflow: `configured`, else MLFLOW_TRACKING_URI, else MLflow's default, for reading and sending."""
    values = os.environ if environ is None else environ
    return (configured or values.get("MLFLOW_TRACKING_URI") or DEFAULT_URI).strip()


def find_missing_database(uri: str) -> Path | None:
    """The database file of an address if it does not exist: MLflow would create an empty one."""
    match = DATABASE_FILE.fullmatch(uri)
    path = Path(match["path"]) if match is not None else None
    return None if path is None or path.exists() else path


def explain_mlflow_error(refused: BaseException, address: str) -> str:
    """An exception of MLflow as one line without logins."""
    text = " ".join(without_login(str(refused)).split())
    if (redirect := REDIRECT.search(text)) is not None:
        return redirect[0] + REDIRECT_ADVICE
    if (refusal := REFUSED_ARTIFACTS.search(text)) is not None:
        return refusal[0]
    if address.startswith("http") and any(sign in text for sign in UNREACHABLE_SIGNS):
        return f"no server answers at {without_login(address)}"
    return text[:300] or type(refused).__name__


def without_login(text: str) -> str:
    """The text without keys, and its addresses without user and password."""
    return redact_message(text)


@contextmanager
def mlflow_at(uri: str, **environ: str) -> Iterator[None]:
    """`quiet_mlflow` with `uri` as MLflow's address and few retries; one thread at a time."""
    with (
        _lock,
        _using(uri),
        quiet_mlflow(**{RETRIES: os.environ.get(RETRIES) or "2", "MLFLOW_TRACKING_URI": uri, **environ}),
    ):
        from mlflow import get_tracking_uri, set_tracking_uri

        before = get_tracking_uri()
        if before == uri:
            yield
            return
        set_tracking_uri(uri)  # a call of the program takes precedence over the environment
        try:
            yield
        finally:
            set_tracking_uri(before)


@contextmanager
def _using(uri: str) -> Iterator[None]:
    token = _address.set(uri)
    try:
        yield
    finally:
        _address.reset(token)


@contextmanager
def quiet_mlflow(**environ: str) -> Iterator[None]:
    """A context to import and use MLflow: telemetry and messages are off, and `environ` is set inside."""
    os.environ.update(ENV_BEFORE_IMPORT)
    for name, value in ENV_DEFAULTS.items():
        os.environ.setdefault(name, value)
    environ = {**environ, NO_REDIRECTS: "false"}
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    with warnings.catch_warnings(record=True):  # hidden also where MLflow enables them again
        warnings.simplefilter("ignore")  # of MLflow and its packages, about nothing that users can change
        try:
            import mlflow  # noqa: F401  so that its loggers exist

            refuse_redirects()
            guard_artifacts()

            for name in NOISY_LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            restore_environment(before)


def refuse_redirects() -> None:
    """Make MLflow's HTTP sessions raise for redirects: another host must get neither logins nor the data of a run.

    That covers requests to its server and to storage that the server names. Sessions of user-defined code stay as they are,
    and so does MLflow outside of `quiet_mlflow`.
    """
    from mlflow.utils import request_utils

    module: Any = request_utils
    open_session = module._cached_get_request_session  # noqa: SLF001  MLflow has no other place for it
    if getattr(open_session, "refuses_redirects", False):
        return

    def open_guarded(*args: Any, **options: Any) -> Any:
        session = open_session(*args, **options)
        if _raise_for_redirect not in session.hooks["response"]:
            session.hooks["response"].append(_raise_for_redirect)
        return session

    open_guarded.refuses_redirects = True  # type: ignore[attr-defined]
    module._cached_get_request_session = open_guarded  # noqa: SLF001


def guard_artifacts() -> None:
    """Make MLflow refuse storage of artifacts on hosts that nobody but its server names.

    The server may also be that of a suite from a stranger, and tell the client to send tables to any address.
    """
    from mlflow.store.artifact.artifact_repository_registry import ArtifactRepositoryRegistry

    registry: Any = ArtifactRepositoryRegistry
    find = registry.get_artifact_repository
    if getattr(find, "checks_hosts", False):
        return

    def find_checked(self: Any, artifact_uri: str, *args: Any, **options: Any) -> Any:
        address = _address.get()
        if address is not None and (refusal := refuse_artifacts(artifact_uri, address, current_policy())) is not None:
            raise OSError(refusal)
        return find(self, artifact_uri, *args, **options)

    find_checked.checks_hosts = True  # type: ignore[attr-defined]
    registry.get_artifact_repository = find_checked


def refuse_artifacts(artifact_uri: str, address: str, policy: EgressPolicy) -> str | None:
    """Why artifacts are not read from or written to an address that the server at `address` names; None if they are."""
    parts = urlsplit(artifact_uri)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme in BUCKETS:
        url = os.environ.get("MLFLOW_S3_ENDPOINT_URL", "") if parts.scheme == "s3" else ""
        refusal = policy.refusal(url or BUCKETS[parts.scheme].format(host=host))
        return None if refusal is None else f"MLflow stores artifacts in {parts.scheme}://{host}: {refusal}"
    if parts.scheme not in HOSTS_OF_ARTIFACTS or not host or host == urlsplit(address).netloc.rpartition("@")[2]:
        return None
    return f"artifacts at {parts.scheme}://{host}, which MLflow's server names, are refused: only its own host is contacted"


def inherit_context() -> Callable[[], None]:
    """An initializer for threads that gives them the address and the policy of this one."""
    values = tuple(copy_context().items())

    def begin() -> None:
        for variable, value in values:
            variable.set(value)

    return begin


def _raise_for_redirect(response: Any, **_: Any) -> None:
    if os.environ.get(NO_REDIRECTS) == "false" and 300 <= response.status_code < 400 and response.status_code != 304:
        place = urlsplit(urljoin(response.url, response.headers.get("location", "")))
        address = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"
        message = f"redirects to another address are not followed (HTTP {response.status_code} to {quote(address, safe='/:')})"
        raise OSError(message)


def restore_environment(before: Mapping[str, str | None]) -> None:
    """Set variables to their values before; those that were not set are removed."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def mlflow_client(uri: str) -> Iterator[Any]:
    """An `MlflowClient` for an address, without its own retries. Raises MissingExtraError, and what the import of MLflow raises."""
    check_mlflow("tracking runs with MLflow")
    with (
        _using(uri),
        quiet_mlflow(**SENDING_ENVIRONMENT, **{TIMEOUT_VARIABLE: os.environ.get(TIMEOUT_VARIABLE) or "30"}),
    ):
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=uri)


class NotSent(Exception):
    """Something could not be sent. The message says what, and why."""


class SendingStopped(NotSent):
    """Sending ended: the server did not answer for too long, or the user asked to stop."""


class Retrier:
    """Retries calls until they succeed, nothing has succeeded for `patience_s`, or `stop` is set.

    Threads share one: after the first has stopped, the others do not wait as long again.
    """

    def __init__(self, patience_s: float, stop: threading.Event | None = None) -> None:
        self.patience_s = patience_s
        self.stop = stop or threading.Event()
        self.last_success = time.monotonic()
        self.stop_reason: str | None = None

    def call(self, action_name: str, action: Callable[..., T], *args: Any, **options: Any) -> T:
        """The result of `action` for the arguments. Raises NotSent, which names the action."""
        from tenacity import Retrying, retry_if_exception, sleep_using_event, wait_exponential, wait_random

        def stop_sending(state: Any) -> NoReturn:
            self.stop_reason = f"{action_name}: {reason_of(state.outcome.exception())}"
            raise SendingStopped(self.stop_reason)

        retrying = Retrying(
            before=self._check,
            retry=retry_if_exception(is_transient),
            wait=wait_exponential(multiplier=FIRST_WAIT_S, max=MAX_WAIT_S) + wait_random(0, JITTER_S),
            stop=lambda state: time.monotonic() - self.last_success + state.upcoming_sleep > self.patience_s,
            sleep=sleep_using_event(self.stop),
            retry_error_callback=stop_sending,
        )
        try:
            result: T = retrying(action, *args, **options)
        except (EvalrunError, SendingStopped):
            raise
        except Exception as error:  # MLflow, requests and databases each raise their own
            raise NotSent(f"{action_name}: {reason_of(error)}") from None
        self.last_success = time.monotonic()
        return result

    def _check(self, state: Any) -> None:
        """Before each attempt. Raises SendingStopped if another thread has stopped or the user asked to stop."""
        if self.stop.is_set():
            raise SendingStopped("interrupted before everything was sent")
        if self.stop_reason is not None:
            raise SendingStopped(self.stop_reason)


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed: the status says so, or no answer came at all."""
    status = status_of(error)
    if REDIRECT.search(str(error)) is not None or REFUSED_ARTIFACTS.search(str(error)) is not None:
        return False
    if status is not None:
        return status in TRANSIENT_STATUSES or (status == 400 and BUSY.search(str(error)) is not None)
    return isinstance(error, OSError) or type(error).__name__ in ("OperationalError", "InterfaceError")


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of MLflow or requests, or None."""
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", None):
        return int(response.status_code)
    get_status: Any = getattr(error, "get_http_status_code", None)
    return int(get_status()) if callable(get_status) else None


def reason_of(error: BaseException) -> str:
    """An error of other software in one line without secrets; common ones in a few plain words."""
    if (redirect := REDIRECT.search(str(error))) is not None:
        return redirect[0] + REDIRECT_ADVICE
    if (refusal := REFUSED_ARTIFACTS.search(str(error))) is not None:
        return refusal[0]
    for pattern, words in PLAIN_REASONS.items():
        if re.search(pattern, str(error)):
            return words
    text = " ".join(redact_message(str(error)).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"
