"""Retries of calls to a tracking server. Every call is idempotent, or checks first whether it was done."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from evalrunner.errors import EvalrunError
from evalrunner.redact import LOGIN, redact_message

T = TypeVar("T")
FIRST_WAIT_S, MAX_WAIT_S, JITTER_S = 0.1, 3.0, 0.1
MAX_REASON_LENGTH = 300
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501}  # 501 is permanent

# MLflow answers 400 for these, though the database was busy or two writers collided
BUSY = re.compile(r"QueuePool limit|IntegrityError|[Dd]eadlock|database is locked")

PLAIN_REASONS = {  # for errors of urllib3, which MLflow wraps in three lines
    r"Connection refused|actively refused": "nobody listens at that address (connection refused)",
    r"NameResolutionError|getaddrinfo failed|Name or service not known": "there is no host of that name",
    r"ReadTimeoutError|Read timed out|ConnectTimeoutError": "the request timed out",
    r"RemoteDisconnected|Connection aborted|Connection reset": "the server closed the connection without an answer",
    r"readonly database|unable to open database file": "the database cannot be opened for writing",
}


class NotSent(Exception):
    """Something could not be sent. The message says what, and why."""


class GaveUp(NotSent):
    """Sending ended: the server did not answer for too long, or the user asked to stop."""


class Retrier:
    """Retries calls until they succeed, nothing has succeeded for `patience_s`, or `stop` is set.

    Threads share one: after the first has given up, the others do not wait as long again.
    """

    def __init__(self, patience_s: float, stop: threading.Event | None = None) -> None:
        self.patience_s = patience_s
        self.stop = stop or threading.Event()
        self.last_success = time.monotonic()
        self.gave_up: str | None = None

    def call(self, action_name: str, action: Callable[..., T], *args: Any, **options: Any) -> T:
        """The result of `action` for the arguments. Raises NotSent, which names the action."""
        from tenacity import Retrying, retry_if_exception, sleep_using_event, wait_exponential, wait_random

        def give_up(state: Any) -> NoReturn:
            self.gave_up = f"{action_name}: {reason_of(state.outcome.exception())}"
            raise GaveUp(self.gave_up)

        retrying = Retrying(
            before=self._check,
            retry=retry_if_exception(is_transient),
            wait=wait_exponential(multiplier=FIRST_WAIT_S, max=MAX_WAIT_S) + wait_random(0, JITTER_S),
            stop=lambda state: time.monotonic() - self.last_success + state.upcoming_sleep > self.patience_s,
            sleep=sleep_using_event(self.stop),
            retry_error_callback=give_up,
        )
        try:
            result: T = retrying(action, *args, **options)
        except (EvalrunError, GaveUp):
            raise
        except Exception as error:  # MLflow, requests and databases each raise their own
            raise NotSent(f"{action_name}: {reason_of(error)}") from None
        self.last_success = time.monotonic()
        return result

    def _check(self, state: Any) -> None:
        """Before each try. Raises GaveUp if another thread has given up or the user asked to stop."""
        if self.stop.is_set():
            raise GaveUp("stopped before all was sent")
        if self.gave_up is not None:
            raise GaveUp(self.gave_up)


def is_transient(error: BaseException) -> bool:
    """Whether a retry may succeed: the status says so, or no answer came at all."""
    status = status_of(error)
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
    for pattern, words in PLAIN_REASONS.items():
        if re.search(pattern, str(error)):
            return words
    text = " ".join(LOGIN.sub("://", redact_message(str(error))).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"
