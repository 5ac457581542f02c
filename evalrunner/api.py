"""The Python API: `run_suite` runs a suite and prints nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.commands.run import Session, run_suites
from evalrunner.domain import GateResult, Reporter
from evalrunner.engine.result import RunResult
from evalrunner.middleware.deadline import StopSignal
from evalrunner.plugins import known_names, load
from evalrunner.reports.csv import table_frame, table_shape
from evalrunner.reports.view import view_of
from evalrunner.runs.row_log import read_rows
from evalrunner.suite.options import RunOptions
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """The result of `run_suite`: verdict, metrics and table of one run. `details` holds everything else."""

    details: RunResult

    @property
    def verdict(self) -> Verdict:
        return self.details.verdict

    @property
    def exit_code(self) -> int:
        """The exit code of the command line for this run."""
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
        """Values by metric name; with several targets by `TARGET/NAME`, such as `gateway/exact_match/v1`."""
        several = len(self.details.targets) > 1
        return {
            f"{name}/{metric.name}" if several else metric.name: metric.value
            for name, target in self.details.targets.items()
            for metric in target.metrics
            if metric.slice is None
        }

    @property
    def table(self) -> Any:
        """A pandas DataFrame with a row per answer, like `table.csv`."""
        return table_frame(read_rows(self.folder), table_shape(view_of(self.details)), list(self.details.targets))

    @property
    def tables(self) -> dict[str, Any]:
        """Data frames with the column names of trackers; `eval_results_table` is the table of `mlflow.evaluate`."""
        targets = list(self.details.targets)
        frames: dict[str, Any] = {}
        for name in known_names("exporters"):
            frames.update(load("exporters", name).tables(self.folder, targets))
        return frames


def run_suite(
    suite: str | Path | None = None,
    *,
    options: RunOptions | None = None,
    reporters: Sequence[Reporter] = (),
    http_client: httpx.AsyncClient | None = None,
) -> SuiteResult:
    """Run a suite file and return its result. Raises SuiteError before the first call if anything is wrong with it.

    `RunOptions(resume=RUN)` resumes a run; the suite may then be omitted. Works inside a running event loop, such as that
    of a notebook.

    `http_client` sends all HTTP requests of the run in place of evalrun's own clients. It stays open.
    """
    if http_client is not None:
        import httpx

        if not isinstance(http_client, httpx.AsyncClient):
            raise TypeError(f"http_client is a {type(http_client).__name__}; it should be an httpx.AsyncClient")
    session = Session(options or RunOptions(), StopSignal(), http_client=http_client)
    (result,) = _run_anywhere(lambda: run_suites([suite] if suite is not None else [], session, reporters))
    return SuiteResult(result)


def _run_anywhere(run: Callable[[], Any]) -> Any:
    """The result of a coroutine function, run in a new thread if this one has a running event loop."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001  the public function raises, which would add to every traceback
        return asyncio.run(run())
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(run()))
        except BaseException as error:  # raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="evalrun-run")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
