"""Retries of calls to a tracking server, without one."""

from __future__ import annotations

import importlib.util
import threading
import time

import pytest

from evalrunner.errors import SuiteError
from evalrunner.mlflow.client import NotSent, Retrier, SendingStopped, is_transient

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.skipif(importlib.util.find_spec("tenacity") is None, reason="the extra mlflow is not installed"),
]


class Answer(Exception):
    """An error as requests raises it: with the response that it is about."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text or str(status))
        self.response = self
        self.status_code = status


class Flaky:
    """Fails with each of the errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_transient_failures_are_retried() -> None:
    flaky = Flaky(ConnectionError("Connection refused"), Answer(503), Answer(429))
    assert Retrier(10).call("metrics", flaky) == "done"
    assert flaky.calls == 4


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (Answer(500), True), (Answer(501), False), (Answer(404), False), (Answer(400), False), (Answer(409), True),
        (Answer(400, "sqlite3: database is locked"), True), (TimeoutError(), True), (ValueError(), False),
    ],
)  # fmt: skip
def test_statuses_and_connection_errors_decide_what_is_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_a_permanent_failure_is_not_retried() -> None:
    flaky = Flaky(Answer(403, "no access"))
    with pytest.raises(NotSent, match=r"^metrics: no access$"):
        Retrier(10).call("metrics", flaky)
    assert flaky.calls == 1


def test_errors_of_evalrunner_pass_unchanged() -> None:
    with pytest.raises(SuiteError, match="wrong address"):
        Retrier(10).call("metrics", Flaky(SuiteError("wrong address")))


def test_retries_end_when_nothing_succeeded_for_the_patience() -> None:
    retrier, started = Retrier(0.3), time.monotonic()
    with pytest.raises(
        SendingStopped, match=r"^metrics: no server is listening at that address \(connection refused\)$"
    ):
        retrier.call("metrics", Flaky(*[ConnectionError("Connection refused")] * 50))
    assert time.monotonic() - started < 1
    with pytest.raises(SendingStopped, match="^metrics: no server"):  # the next call does not wait as long again
        retrier.call("table", Flaky())


def test_a_success_renews_the_patience() -> None:
    retrier = Retrier(1.0)
    for _ in range(4):
        assert retrier.call("metrics", Flaky(ConnectionError(), ConnectionError())) == "done"


def test_a_stop_request_ends_the_wait_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with pytest.raises(SendingStopped, match="^interrupted before everything was sent$"):
        Retrier(60, stop).call("metrics", Flaky(*[ConnectionError()] * 50))
    assert time.monotonic() - started < 2
