"""A stored run to MLflow, exactly once: the one way for `evalrun run` at its end and for `evalrun track`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from evalrunner.errors import RunError, RunNotFoundError, SuiteError
from evalrunner.mlflow.opening import opened
from evalrunner.mlflow.payload import StoredRun, read_stored
from evalrunner.mlflow.retry import NotSent, Patience
from evalrunner.mlflow.sender import Sender, content_of
from evalrunner.mlflow.settings import Settings, settings_of, stored_spec
from evalrunner.mlflow.state import Ledger, Place
from evalrunner.mlflow.tracking_result import Tracked
from evalrunner.redact import redact_message
from evalrunner.runs.folder import RUN_FILE, read_json
from evalrunner.runs.lock import RunLock

PATIENCE_S = 60.0  # without a single answer, where somebody waits for nothing else


def track_run(
    folder: Path,
    uri: str | None = None,
    *,
    patience_s: float = PATIENCE_S,
    stop: threading.Event | None = None,
    environ: Mapping[str, str] | None = None,
) -> Tracked:
    """Send a stored run to where its suite says, or to `uri`, unless it is there already.

    Raises SuiteError where nobody says where to, RunNotFoundError where the run is broken, RunLockedError where another
    process writes it. A server that is down is no exception: it is the `problem` of what comes back.
    """
    values = os.environ if environ is None else environ
    with RunLock(folder):
        run = read_json(folder / RUN_FILE)
        if run.get("status") == "running":
            raise RunError(f"run {folder.name} did not come to its end; go on with it first: evalrun --resume {folder}")
        try:
            settings = settings_of(
                stored_spec(run, values, elsewhere=bool(uri)), "" if uri is None else uri, suite=run["suite"], run_id=run["run_id"],
                environ=values,
            )  # fmt: skip
            assert settings is not None  # it was asked for
            return _track(read_stored(folder), settings, Patience(patience_s, stop))
        except (KeyError, TypeError) as broken:
            raise RunNotFoundError(f"{str(folder)!r} is not what a run leaves behind: {broken!r}") from None


def note_unsent(folder: Path, settings: Settings, problem: str) -> Tracked:
    """Note in a run's folder that it was to be sent and was not."""
    ledger = Ledger(folder)
    place = ledger.place(settings.shown, settings.experiment)
    place.problem = problem
    ledger.write()
    return _tracked(place)


def _track(stored: StoredRun, settings: Settings, patience: Patience) -> Tracked:
    ledger = Ledger(stored.folder)
    place = ledger.place(settings.shown, settings.experiment)
    content = content_of(stored, settings)
    again = place.sent and place.content == content
    try:
        with opened(settings) as client:
            sender = Sender(client, stored, settings, ledger, place, patience)
            if again and sender.is_there():
                return _tracked(place, again=True)
            ledger.begin(place, content, stored.finished_ms)
            sender.send()
    except NotSent as refused:
        place.problem = str(refused)
        ledger.write()
        return _tracked(place)
    except (RunError, SuiteError):
        raise
    except Exception as error:  # MLflow and its packages can fail in ways nobody lists; the run is not lost by that
        place.problem = f"MLflow failed: {type(error).__name__}: {redact_message(str(error))[:300]}"
        ledger.write()
        return _tracked(place)
    place.sent, place.problem = True, None
    ledger.write()
    return _tracked(place)


def _tracked(place: Place, *, again: bool = False) -> Tracked:
    return Tracked(place.uri, place.experiment, place.parent, place.url, place.problem, again)
