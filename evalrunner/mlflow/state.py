"""`mlflow.json` of a run folder: where the run was sent, under which ids, and what of it is done."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.errors import RunNotFoundError
from evalrunner.runs.folder import read_json
from evalrunner.storage import write_json

NAME = "mlflow.json"
SCHEMA_VERSION = 1


@dataclass(slots=True)
class Place:
    """One server and experiment that the run goes to. `runs` is a target's name, or "" for the suite, to MLflow's id.

    `content` is what of the run was sent: another one has to be sent again, with a later `stamp_ms`, because of several
    values of a metric MLflow shows the latest. `traces` counts the rows of each target whose traces are there, in the
    order of the row log. `problem` says why it was not sent.
    """

    uri: str
    experiment: str
    experiment_id: str | None = None
    runs: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    traces: dict[str, int] = field(default_factory=dict)
    content: str | None = None
    stamp_ms: int = 0
    sent: bool = False
    problem: str | None = None

    @property
    def parent(self) -> str | None:
        return self.runs.get("")

    def forget(self) -> None:
        """Take everything as still to be done."""
        self.done, self.traces = [], {}

    @property
    def url(self) -> str | None:
        """The page of the run, where a server shows one."""
        if not self.uri.startswith("http") or self.parent is None:
            return None
        return f"{self.uri}/#/experiments/{self.experiment_id}/runs/{self.parent}"


class Ledger:
    """The places of a run, written to its folder with every change. Safe with several threads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._turn = threading.Lock()
        self.places = [_place(item) for item in read_json(self.path)["places"]] if self.path.is_file() else []

    def place(self, uri: str, experiment: str) -> Place:
        """The place of an address and experiment, a new one if it is the first time."""
        for place in self.places:
            if (place.uri, place.experiment) == (uri, experiment):
                return place
        self.places.append(Place(uri, experiment))
        return self.places[-1]

    def begin(self, place: Place, content: str, finished_ms: int) -> None:
        """Note what is being sent. What was done for something else is to be done again."""
        if place.content != content:
            place.content, place.sent = content, False
            place.forget()
            place.stamp_ms = max(finished_ms, place.stamp_ms + 1)
        self.write()

    def note(
        self,
        place: Place,
        *,
        run: tuple[str, str] | None = None,
        done: str | None = None,
        traces: tuple[str, int] | None = None,
    ) -> None:
        """Note a run that is there by now, a step that is done, or how many rows of a target are."""
        with self._turn:
            if run is not None:
                place.runs[run[0]] = run[1]
            if done is not None and done not in place.done:
                place.done.append(done)
            if traces is not None:
                place.traces[traces[0]] = traces[1]
        self.write()

    def write(self) -> None:
        """Write the file. Raises RunError where the disk refuses."""
        with self._turn:
            places = [
                {
                    "uri": place.uri,
                    "experiment": place.experiment,
                    "experiment_id": place.experiment_id,
                    "runs": dict(place.runs),
                    "done": sorted(place.done),
                    "traces": dict(place.traces),
                    "content": place.content,
                    "stamp_ms": place.stamp_ms,
                    "sent": place.sent,
                    "problem": place.problem,
                    "url": place.url,
                }
                for place in self.places
            ]
            write_json(self.path, {"schema_version": SCHEMA_VERSION, "places": places})


def _place(item: Mapping[str, Any]) -> Place:
    try:
        return Place(**{name: value for name, value in item.items() if name != "url"})
    except TypeError as broken:
        raise RunNotFoundError(f"{NAME} is not what a run leaves behind: {broken}") from None
