"""Send runs to trackers, after they have ended: nothing of it happens while rows are processed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evalrunner.egress import Destination
from evalrunner.engine.plan import Plan
from evalrunner.engine.result import RunResult
from evalrunner.errors import EvalrunError, SuiteError
from evalrunner.middleware.deadline import StopSignal
from evalrunner.plugin_table import BUILTIN
from evalrunner.plugins import Exporter, TrackingResult, known_names, load
from evalrunner.runs.record import RunRecord
from evalrunner.suite.options import UNTRUSTED_VARIABLE, RunOptions
from evalrunner.suite.schema import Suite
from evalrunner.verdicts import UNTRUSTED, exit_code

PATIENCE_S = 15.0  # without a single answer: the user waits for the exit code
POLL_INTERVAL_S = 0.1
NOTICE_AFTER_S = 20.0  # on a busy machine the import of a tracker's package alone takes nearly as long
STOP_GRACE_S = 3.0  # after a stop request

Notify = Callable[[str], None]


def track_run(folder: Path, addresses: Mapping[str, str]) -> dict[str, TrackingResult]:
    """Send a stored run to the trackers of `addresses`, else to those of its suite, else to the first one registered.

    Raises SuiteError if a destination is wrong, RunNotFoundError if the run is broken, RunLockedError if another process
    writes it.
    """
    section = RunRecord.load(folder).resolved.get("tracking")
    if not any(addresses.values()) and RunOptions().untrusted:
        raise SuiteError(f"{UNTRUSTED_VARIABLE} is set, so the run does not decide where it is sent; pass --mlflow URI")
    names = list(addresses) or list(section or ()) or list(known_names("exporters"))[:1]
    return {name: _exporter(name).send(folder, addresses.get(name)) for name in names}


def check_trackers(plans: Sequence[Plan], options: RunOptions) -> None:
    """Check before the first call that every run can be sent, as far as is known. Raises SuiteError."""
    for plan in plans:
        for name, address in _requests(plan.suite, options).items():
            shown = _exporter(name).check(plan.suite.tracking.options.get(name), address, suite=plan.suite.name)
            if name in known_names("destinations"):
                places = list(load("destinations", name)(plan.suite, {name: address}))
            else:
                places = [Destination(shown, name)] if "://" in shown else []
            for refusal in filter(None, (place.refusal(plan.suite.run.egress) for place in places)):
                raise SuiteError(refusal)


async def send_after_run(
    result: RunResult, options: RunOptions, stop: StopSignal, notify: Notify | None = None
) -> RunResult:
    """The result of a run after it was sent, with a notice for each tracker that did not get it.

    The verdict does not change. If the options require a tracker that did not get the run, the exit code is at least 3.
    """
    for name, address in _requests(result.plan.suite, options).items():
        exporter = _exporter(name)
        if stop.interrupted:
            sent = exporter.note_unsent(result.folder, address, "the run was interrupted")
        else:
            sent = await _send(name, exporter, result, address, stop, notify)
        if sent.problem is None:
            if notify is not None and not stop.count:
                notify(f"{name}: {sent}")
            continue
        warning = (
            f"{name}: not sent to {sent.destination}: {sent.problem}; the run is saved in {str(result.folder)!r} and "
            f"can be sent later: evalrun track {result.folder}"
        )
        if notify is not None:
            notify(f"evalrun: warning: {warning}")
        code = exit_code([result.exit_code, UNTRUSTED]) if _is_required(name, options) else result.exit_code
        result = replace(result, notices=(*result.notices, warning), exit_code=code)
    return result


def _exporter(name: str) -> Exporter:
    exporter: Exporter = load("exporters", name)
    return exporter


def _requests(suite: Suite, options: RunOptions) -> dict[str, str | None]:
    """The address of each tracker that the suite or an option of its name asks for, as `Exporter` takes it."""
    requests: dict[str, str | None] = dict.fromkeys(suite.tracking.options)
    for name in BUILTIN["exporters"]:  # only these can have options on the command line
        address: str | None = getattr(options, name, None)
        if address is not None or _is_required(name, options):
            requests[name] = address or ""
    return requests


def _is_required(name: str, options: RunOptions) -> bool:
    return bool(getattr(options, f"{name}_required", False))


async def _send(
    name: str, exporter: Exporter, result: RunResult, address: str | None, stop: StopSignal, notify: Notify | None
) -> TrackingResult:
    """The outcome of sending, in a thread that a second Ctrl-C does not wait for."""
    suite = result.plan.suite
    destination = exporter.check(suite.tracking.options.get(name), address, suite=suite.name)
    results: list[TrackingResult] = []
    stopped = threading.Event()

    def work() -> None:
        try:
            results.append(exporter.send(result.folder, address, patience_s=PATIENCE_S, stop=stopped))
        except EvalrunError as refused:
            results.append(TrackingResult(destination, problem=str(refused)))

    thread = threading.Thread(target=work, name="evalrun-tracking", daemon=True)
    thread.start()
    waited_s, started, notified = 0.0, time.monotonic(), notify is None
    while thread.is_alive() and waited_s < STOP_GRACE_S and stop.count < 2:
        await asyncio.sleep(POLL_INTERVAL_S)
        if notify is not None and not notified and time.monotonic() - started > NOTICE_AFTER_S:
            notified = True
            notify(f"{name}: still sending to {destination}; Ctrl-C leaves the rest to evalrun track {result.folder}")
        if stop.count:
            stopped.set()
            waited_s += POLL_INTERVAL_S
    return (
        results[0]
        if results
        else exporter.note_unsent(result.folder, address, "interrupted before everything was sent")
    )
