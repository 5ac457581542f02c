"""Runs sent when they have ended, if their suite or the command line wants it: nothing of it happens while rows are made."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from evalrunner.engine.plan import Plan
from evalrunner.engine.result import RunResult
from evalrunner.errors import EvalrunError
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.mlflow.client import check_mlflow
from evalrunner.mlflow.settings import Settings, settings_of
from evalrunner.mlflow.tracking_result import Tracked
from evalrunner.suite.options import RunOptions
from evalrunner.suite.schema import Suite
from evalrunner.verdicts import UNTRUSTED, exit_code

PATIENCE_S = 15.0  # without a single answer: somebody waits for the verdict's exit code
LOOK_EVERY_S = 0.1
TELL_AFTER_S = 20.0  # on a busy machine the import of MLflow alone takes nearly so long
LET_FINISH_S = 3.0  # after a wish to stop

Tell = Callable[[str], None]


def check_tracking(plans: Sequence[Plan], options: RunOptions) -> None:
    """None, where every run that is to be sent can be, as far as is known before the first call. Raises SuiteError."""
    wanted = [_settings(plan.suite, "", options) for plan in plans]
    if any(settings is not None for settings in wanted):
        check_mlflow("tracking runs with MLflow")


async def send_after_run(
    result: RunResult, options: RunOptions, stop: StopSignal, tell: Tell | None = None
) -> RunResult:
    """The result of a run that was sent, or that says in its notices why it was not.

    The verdict stays what it is. With `mlflow_required` a run that was not sent ends with 3, if not with worse.
    """
    settings = _settings(result.plan.suite, result.run_id, options)
    if settings is None:
        return result
    from evalrunner.mlflow.export import note_unsent

    if stop.interrupted:
        tracked = note_unsent(result.folder, settings, "the run was interrupted")
    else:
        tracked = await _send(result, settings, options, stop, tell)
    if tracked.problem is None:
        if tell is not None and not stop.count:
            tell(f"mlflow: {tracked}")
        return result
    warning = (
        f"mlflow: not sent to {tracked.uri}: {tracked.problem}; the run is safe in {str(result.folder)!r} and can be "
        f"sent later: evalrun track {result.folder}"
    )
    if tell is not None:
        tell(f"evalrun: warning: {warning}")
    code = exit_code([result.exit_code, UNTRUSTED]) if options.mlflow_required else result.exit_code
    return replace(result, notices=(*result.notices, warning), exit_code=code)


def _settings(suite: Suite, run_id: str, options: RunOptions) -> Settings | None:
    asked = options.mlflow if options.mlflow is not None or not options.mlflow_required else ""
    return settings_of(suite.tracking.mlflow, asked, suite=suite.name, run_id=run_id, environ=os.environ)


async def _send(
    result: RunResult, settings: Settings, options: RunOptions, stop: StopSignal, tell: Tell | None
) -> Tracked:
    """What came of sending, in a thread that a second Ctrl-C does not wait for."""
    from evalrunner.mlflow.export import note_unsent, track_run

    found: list[Tracked] = []
    enough = threading.Event()

    def work() -> None:
        try:
            found.append(track_run(result.folder, options.mlflow, patience_s=PATIENCE_S, stop=enough))
        except EvalrunError as refused:
            found.append(Tracked(settings.shown, settings.experiment, problem=str(refused)))

    thread = threading.Thread(target=work, name="evalrun-tracking", daemon=True)
    thread.start()
    waited_s, begun, told = 0.0, time.monotonic(), tell is None
    while thread.is_alive() and waited_s < LET_FINISH_S and stop.count < 2:
        await asyncio.sleep(LOOK_EVERY_S)
        if tell is not None and not told and time.monotonic() - begun > TELL_AFTER_S:
            told = True
            tell(f"mlflow: still sending to {settings.shown}; Ctrl-C leaves the rest to evalrun track {result.folder}")
        if stop.count:
            enough.set()
            waited_s += LOOK_EVERY_S
    return found[0] if found else note_unsent(result.folder, settings, "stopped before all was sent")
