"""Send a stored run to MLflow, exactly once: at the end of `evalrun run` and by `evalrun track`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalrunner.errors import RunError, SuiteError
from evalrunner.mlflow.client import check_mlflow
from evalrunner.mlflow.opening import opened
from evalrunner.mlflow.payload import StoredRun
from evalrunner.mlflow.retry import NotSent, Retrier
from evalrunner.mlflow.sender import Sender, content_of
from evalrunner.mlflow.settings import MlflowSpec, Settings, settings_of, stored_spec
from evalrunner.mlflow.state import Ledger, Place
from evalrunner.mlflow.table import TABLE, evaluation_frame
from evalrunner.plugins import TrackingResult
from evalrunner.redact import redact_message
from evalrunner.runs.folder import RunLock
from evalrunner.runs.record import MetricsRecord, RunRecord
from evalrunner.runs.row_log import read_rows

PATIENCE_S = 60.0  # without a single answer, if the user waits for nothing else


class MlflowExporter:
    """Send runs to MLflow."""

    options = MlflowSpec

    def check(self, options: MlflowSpec | None, address: str | None, *, suite: str) -> str:
        """The destination without a login. Raises SuiteError for a wrong address, MissingExtraError without MLflow."""
        settings = settings_of(options, address, suite=suite, run_id="", environ=os.environ)
        check_mlflow("tracking runs with MLflow")
        return settings.shown

    def send(
        self,
        folder: Path,
        address: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        stop: threading.Event | None = None,
    ) -> TrackingResult:
        """Send a stored run to the address of its suite, or to `address`, unless it is there already.

        Raises SuiteError for a wrong address, RunNotFoundError if the run is broken, RunLockedError if another process
        writes it. A server that is down is the `problem` of the result.
        """
        with RunLock(folder):
            run = RunRecord.load(folder)
            if not run.is_complete:
                raise RunError(f"run {folder.name} did not finish; resume it first: evalrun --resume {folder}")
            stored = StoredRun(folder, run, MetricsRecord.load(folder))
            return _send(stored, stored_settings(run, address), Retrier(patience_s, stop))

    def note_unsent(self, folder: Path, address: str | None, problem: str) -> TrackingResult:
        """Record in the run's folder that it was to be sent and was not."""
        settings = stored_settings(RunRecord.load(folder), address)
        ledger = Ledger(folder)
        place = ledger.place(settings.shown, settings.experiment)
        place.problem = problem
        ledger.write()
        return _result(place)

    def tables(self, folder: Path, targets: Sequence[str]) -> dict[str, Any]:
        """`eval_results_table`: a pandas DataFrame with the columns that `mlflow.evaluate` gave it."""
        return {TABLE: evaluation_frame(read_rows(folder), RunRecord.load(folder), targets)}


mlflow = MlflowExporter()


def stored_settings(run: RunRecord, address: str | None) -> Settings:
    """Where a stored run is to be sent, variables of its suite filled in again. Raises SuiteError."""
    spec = stored_spec(run, os.environ, elsewhere=bool(address))
    return settings_of(spec, address, suite=run.suite, run_id=run.run_id, environ=os.environ)


def _send(stored: StoredRun, settings: Settings, retrier: Retrier) -> TrackingResult:
    ledger = Ledger(stored.folder)
    place = ledger.place(settings.shown, settings.experiment)
    content = content_of(stored, settings)
    again = place.sent and place.content == content
    try:
        with opened(settings) as client:
            sender = Sender(client, stored, settings, ledger, place, retrier)
            if again and sender.is_there():
                return _result(place, already_sent=True)
            ledger.begin(place, content, stored.finished_ms)
            sender.send()
    except NotSent as refused:
        place.problem = str(refused)
        ledger.write()
        return _result(place)
    except (RunError, SuiteError):
        raise
    except Exception as error:  # MLflow and its packages raise too many types to list; the run itself is safe
        place.problem = f"MLflow failed: {type(error).__name__}: {redact_message(str(error))[:300]}"
        ledger.write()
        return _result(place)
    place.sent, place.problem = True, None
    ledger.write()
    return _result(place)


def _result(place: Place, *, already_sent: bool = False) -> TrackingResult:
    location = f"experiment {place.experiment!r} at {place.url or f'{place.uri}, run {place.parent}'}"
    return TrackingResult(place.uri, location, place.parent, place.problem, already_sent)
