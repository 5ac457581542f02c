"""The Python door: `run_suite` wires suite, engine and reports together and prints nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.commands.run import Session, run_suites
from evalrunner.domain import GateResult, Reporter
from evalrunner.engine.result import RunResult
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.plugins import known_names, load
from evalrunner.reports.csv import shape_of, table_frame
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.options import RunOptions
from evalrunner.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What `run_suite` returns: verdict, numbers and the table of one run, with `details` behind them."""

    details: RunResult

    @property
    def verdict(self) -> Verdict:
        return self.details.verdict

    @property
    def exit_code(self) -> int:
        """What the command line would have ended with."""
        return self.details.exit_code

    @property
    def gates(self) -> tuple[GateResult, ...]:
        return self.details.gates

    @property
    def run_id(self) -> str:
        return self.details.run_id

    @property
    def folder(self) -> Path:
        return self.details.folder

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metric name to value; with several targets the name has the target's in front, `gateway/exact_match/v1`."""
        several = len(self.details.targets) > 1
        return {
            f"{name}/{metric.name}" if several else metric.name: metric.value
            for name, target in self.details.targets.items()
            for metric in target.metrics
            if metric.slice is None
        }

    @property
    def table(self) -> Any:
        """A pandas DataFrame with a row for every answer, as in `table.csv`."""
        return table_frame(read_rows(self.folder), shape_of(self.details.plan), list(self.details.targets))

    @property
    def tables(self) -> dict[str, Any]:
        """Data frames as trackers name their columns; `eval_results_table` is the table of `mlflow.evaluate`."""
        targets = list(self.details.targets)
        found: dict[str, Any] = {}
        for name in known_names("exporters"):
            found.update(load("exporters", name).tables(self.folder, targets))
        return found


def run_suite(
    suite: str | Path | None = None, *, options: RunOptions | None = None, reporters: Sequence[Reporter] = ()
) -> SuiteResult:
    """Run a suite file and return its result. Raises SuiteError before the first call if anything is wrong with it.

    With `RunOptions(resume=RUN)` a run goes on; its suite need not be named then.

    Works inside a running event loop too, such as a notebook's.
    """
    session = Session(options or RunOptions(), StopSignal())
    (result,) = _run_anywhere(lambda: run_suites([suite] if suite is not None else [], session, reporters))
    return SuiteResult(result)


def _run_anywhere(run: Callable[[], Any]) -> Any:
    """The result of a coroutine function, in a thread of its own where a loop is already running here."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001  the public one raises, and would stand in every traceback
        return asyncio.run(run())
    found: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(run()))
        except BaseException as error:  # handed on to the caller's thread, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="evalrun-run")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]
