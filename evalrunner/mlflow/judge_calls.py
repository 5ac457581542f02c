"""MLflow's judges, asked through the judge of the suite: called in threads, each with a line through our own door."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from evalrunner.domain import Completion, Failure, Judge, Outcome, Unscored
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.mlflow.judge_proxy import Asking, Line, nothing_said
from evalrunner.scorers.autoevals import described

MOST_AT_ONCE = 256  # threads that wait for a judge; how many questions are put at once is settled where it is asked
LONGEST_REPLY = 200  # characters of a reply that cannot be read

Call: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""A metric of MLflow with everything set but the values of one row."""
Make: TypeAlias = Callable[[str, Line], Call]
"""The call of a metric whose questions name a model and go over a line."""


class JudgedCalls:
    """Calls of one metric, as many at once as are asked for, each with a metric and a line of its own.

    A metric is made with the address and the headers of its questions, so it is kept with its line and used again.
    """

    def __init__(self, make: Make, read: Callable[[Any], Outcome]) -> None:
        self._make = make
        self._read = read
        self._idle: list[tuple[str, Line, Call]] = []
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="mlflow judge")

    async def ask(self, judge: Judge, values: Mapping[str, Any]) -> Outcome:
        """The score; the judge's Failure as it is, Unscored where it gave no verdict that can be read.

        Raises CancelledError where the run is to stop.
        """
        model, line, call = self._taken(judge.model)
        loop = asyncio.get_running_loop()
        asking = Asking(judge, loop)
        try:
            outcome = await loop.run_in_executor(self._threads, self._called, line, call, asking, values)
        finally:
            asking.end()  # a row whose time is up waits no longer; its line is not used again
        self._idle.append((model, line, call))
        if asking.dropped:  # and its row with it, to be asked when the run goes on
            raise asyncio.CancelledError
        return outcome

    def _taken(self, model: str) -> tuple[str, Line, Call]:
        while self._idle:
            kept = self._idle.pop()
            if kept[0] == model:
                return kept
        line = Line()
        with quiet_mlflow():  # making some of them warns that MLflow has newer ones
            return model, line, self._make(model, line)

    def _called(self, line: Line, call: Call, asking: Asking, values: Mapping[str, Any]) -> Outcome:
        with line.open(asking):
            try:
                found = call(values)
            except Exception as crash:  # MLflow raises whatever its parsing of a reply happens to trip over
                return self._without_verdict(asking) or self._unread(asking, crash)
        return self._without_verdict(asking) or self._read_safely(asking, found)

    def _without_verdict(self, asking: Asking) -> Outcome | None:
        """What the cell gets where the last question was not answered; MLflow words that in its own way, or not at all."""
        if isinstance(asking.last, Failure):
            return asking.last
        nothing = None if asking.last is None else nothing_said(asking.last)
        return None if nothing is None else Unscored("judge", nothing)

    def _unread(self, asking: Asking, crash: Exception) -> Outcome:
        if asking.last is None:  # no reply was read yet, so the fault is not in one
            return Failure("function", f"MLflow failed before it asked the judge: {described(crash)}")
        return Unscored("judge", f"unreadable verdict: {shortened(asking.last.text)}")  # type: ignore[union-attr]

    def _read_safely(self, asking: Asking, found: Any) -> Outcome:
        outcome = self._read(found)
        if isinstance(outcome, Unscored) and isinstance(asking.last, Completion):
            return Unscored("judge", f"{outcome.reason}: {shortened(asking.last.text)}")
        return outcome

    def rehearse(self, values: Mapping[str, Any], reply: str, what: str) -> None:
        """None, if a made-up question comes through the door. Raises ValueError where this MLflow asks somebody else.

        It also imports what MLflow imports when it first asks, once and before the rows.
        """
        rehearsal = _Rehearsal(reply)
        line = Line()
        with quiet_mlflow(), line.open(rehearsal):
            call = self._make("rehearsal", line)
            crashed = ""
            try:
                call(values)
            except Exception as crash:  # a metric of one's own may not be able to read the made-up reply
                crashed = f": {described(crash)}"
        if not rehearsal.asked:
            from importlib.metadata import version

            raise ValueError(f"MLflow {version('mlflow')} does not ask the judge of the suite for {what}{crashed}")
        hush_numpy()


@dataclass(slots=True)
class _Rehearsal:
    """Stands for a cell: knows one reply, and whether it was asked."""

    reply: str
    asked: bool = False

    def ask(self, question: Mapping[str, Any]) -> Completion:
        self.asked = True
        return Completion(self.reply)


def hush_numpy() -> None:
    """MLflow's metrics take the mean of no scores at all where a reply cannot be read; nobody needs to hear of it."""
    for message in ("Mean of empty slice", "invalid value encountered in", "Degrees of freedom <= 0"):
        warnings.filterwarnings("ignore", message, RuntimeWarning, r"numpy\._core\.")


def shortened(reply: str) -> str:
    text = " ".join(reply.split())
    return repr(text if len(text) <= LONGEST_REPLY else text[:LONGEST_REPLY] + "…")


@contextmanager
def told_plainly(name: str) -> Iterator[None]:
    """What MLflow raises when it is given the parameters of a suite, as the ValueError of that suite."""
    try:
        yield
    except ValueError as wrong:
        errors = getattr(wrong, "errors", None)
        if errors is None:
            raise
        found = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in errors())
        raise ValueError(f"metric {name!r}: {found}") from None
    except Exception as crash:  # whatever MLflow makes of parameters it does not like
        raise ValueError(f"metric {name!r}: {described(crash)}") from None
