"""Calls to a tracking server made again while there is hope: all of them are such that twice is as good as once."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from evalrunner.errors import EvalrunError
from evalrunner.redact import LOGIN, redact_message

T = TypeVar("T")
FIRST_WAIT_S = 0.2
MAX_WAIT_S = 3.0
PASSING = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501}  # 501: it never will

# MLflow calls these a bad request, which they are not: its database was busy, or two wrote the same at once
BUSY = re.compile(r"QueuePool limit|IntegrityError|[Dd]eadlock|database is locked")

PLAIN = {  # what urllib3 says, of which MLflow makes three lines
    r"Connection refused|actively refused": "nobody listens at that address (connection refused)",
    r"NameResolutionError|getaddrinfo failed|Name or service not known": "there is no host of that name",
    r"ReadTimeoutError|Read timed out|ConnectTimeoutError": "no answer within the time for a request",
    r"RemoteDisconnected|Connection aborted|Connection reset": "the server closed the connection without an answer",
    r"readonly database|unable to open database file": "the database cannot be opened for writing",
}


class NotSent(Exception):
    """What could not be sent, and why. `fatal`: sending it again will not mend it."""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.fatal = fatal


class Patience:
    """Makes calls until they work, or nothing has worked for `seconds`, or somebody asks to `stop`."""

    def __init__(self, seconds: float, stop: threading.Event | None = None) -> None:
        self.seconds = seconds
        self.stop = stop or threading.Event()
        self.worked = time.monotonic()
        self.given_up: str | None = None  # why: with several threads, the others need not find out for themselves

    def call(self, what: str, action: Callable[..., T], *args: Any, **options: Any) -> T:
        """What `action` returns for the arguments. Raises NotSent; `what` says in it what could not be done."""
        wait_s = FIRST_WAIT_S
        while True:
            if self.stop.is_set():
                raise NotSent("stopped before all was sent")
            if self.given_up is not None:
                raise NotSent(self.given_up)
            try:
                found = action(*args, **options)
            except EvalrunError:
                raise
            except Exception as error:  # MLflow, requests and databases each raise their own
                if not passing(error):
                    raise NotSent(f"{what}: {said(error)}", fatal=True) from None
                if time.monotonic() - self.worked + wait_s > self.seconds:
                    self.given_up = f"{what}: {said(error)}"
                    raise NotSent(self.given_up) from None
                self.stop.wait(wait_s * random.uniform(0.5, 1.0))
                wait_s = min(wait_s * 2, MAX_WAIT_S)
            else:
                self.worked = time.monotonic()
                return found


def passing(error: Exception) -> bool:
    """Whether an error may be gone by the next try: a status says so, and that nobody answered at all."""
    status = status_of(error)
    if status is not None:
        return status in PASSING or (status == 400 and BUSY.search(str(error)) is not None)
    return isinstance(error, OSError) or type(error).__name__ in ("OperationalError", "InterfaceError")


def status_of(error: Exception) -> int | None:
    """The HTTP status behind an error of MLflow or requests, None where there is none."""
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", None):
        return int(response.status_code)
    told: Any = getattr(error, "get_http_status_code", None)
    return int(told()) if callable(told) else None


def said(error: Exception) -> str:
    """An error of other software in one line, without keys; what happens every day in a few plain words."""
    for sign, words in PLAIN.items():
        if re.search(sign, str(error)):
            return words
    text = " ".join(LOGIN.sub("://", redact_message(str(error))).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
