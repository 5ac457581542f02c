"""Destinations of runs in MLflow: where they are sent, under which names, and what is there already (`mlflow.json`)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from evalrunner import egress
from evalrunner.domain import EMPTY
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.mlflow.client import DATABASE_FILE, mlflow_address
from evalrunner.runs.folder import read_json
from evalrunner.runs.record import RunRecord
from evalrunner.secret_names import LOGIN
from evalrunner.storage import write_json
from evalrunner.suite.environment import VARIABLE, has_variable, suite_environment
from evalrunner.suite.key import key
from evalrunner.suite.options import RunOptions, with_trust_of
from evalrunner.suite.schema import Suite
from evalrunner.suite.sections import read_tracking, register_login
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import Document

URI = re.compile(r"(https?|sqlite|(mysql|postgresql|mssql)(\+\w+)?|databricks)://\S+|databricks")


LOGIN_VARIABLES = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
DATABRICKS_VARIABLES = ("DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET")

LogPart: TypeAlias = Literal["metrics", "table", "report", "dataset", "traces"]

STATE_FILE = "mlflow.json"
SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class MlflowSpec:
    """The keys of `tracking.mlflow`, variables filled in; None uses the environment or the default of MLflow."""

    uri: str | None = key("Tracking server or database", path=True)
    experiment: str | None = key("Experiment (default: the name of the suite)", path=True)
    run_name: str | None = key("Name of the run (default: suite and run id)", path=True)
    tags: Mapping[str, str] = key("Extra tags of the run", default=EMPTY)
    log: tuple[LogPart, ...] = key("Parts to send", default=("metrics", "table", "report", "dataset"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What is sent where. `uri` may have a login, `display_uri` has none."""

    uri: str
    experiment: str
    run_name: str
    tags: Mapping[str, str]
    log: tuple[LogPart, ...]

    @property
    def display_uri(self) -> str:
        return LOGIN.sub("://", self.uri)

    @property
    def remote(self) -> bool:
        """Whether the address is a server, not a database that this process opens."""
        return self.uri.startswith(("http", "databricks"))


def settings_of(
    spec: MlflowSpec | None, address: str | None, *, suite: str, run_id: str, environ: Mapping[str, str]
) -> Settings:
    """The settings of a run. `address` replaces that of the suite; None or "" keeps the configured one.

    Raises SuiteError for an address that MLflow cannot use.
    """
    configured = spec or MlflowSpec()
    uri = mlflow_address(address or configured.uri, environ)
    where = "--mlflow" if address else "tracking.mlflow.uri" if configured.uri else "MLFLOW_TRACKING_URI"
    if not URI.fullmatch(uri):
        raise SuiteError(
            f"{where}: {LOGIN.sub('://', uri)!r} should be http(s)://…, sqlite:///…, another database that MLflow "
            f"supports, or databricks (MLflow 3 does not store runs in plain folders)"
        )
    register_login(uri)
    return Settings(
        uri=_absolute(uri.rstrip("/") if uri.startswith("http") else uri),
        experiment=configured.experiment or environ.get("MLFLOW_EXPERIMENT_NAME") or suite,
        run_name=configured.run_name or f"{suite} {run_id}",
        tags=configured.tags,
        log=configured.log,
    )


def stored_spec(run: RunRecord, environ: Mapping[str, str], *, elsewhere: bool = False) -> MlflowSpec | None:
    """The `tracking.mlflow` of a stored run, variables filled in again. Raises SuiteError.

    `elsewhere` is for a run that is sent to another address: the suite's address is then not read.
    """
    data = run.resolved.get("tracking")
    if data is None:
        return None
    section = data.get("mlflow") if isinstance(data, Mapping) else None
    if elsewhere and isinstance(section, Mapping):
        data = {**data, "mlflow": {name: item for name, item in section.items() if name != "uri"}}
    if has_variable(str(data)):
        options = run.options
        wanted = RunOptions(env_files=tuple(options.get("env_files", ())), env_file=options.get("env_file", True))
        wanted = with_trust_of(options, wanted)
        environ = suite_environment(run.suite_file.parent, wanted, process=environ)
    document = Document("run.json", {"tracking": data})
    tracking = read_tracking(SectionReader(document, Path(), environ), data, ("tracking",))
    document.raise_problems()
    spec: MlflowSpec | None = tracking.options.get("mlflow")
    return spec


def _absolute(uri: str) -> str:
    """The address of a database file with its absolute path, so that it is the same from any folder."""
    match = DATABASE_FILE.fullmatch(uri)
    absolute = match is None or match["path"].startswith("/")
    return uri if match is None or absolute else f"sqlite:///{Path(match['path']).resolve()}{match['rest']}"


@dataclass(slots=True)
class Destination:
    """A server and an experiment that a run is sent to. `runs` maps a target, or "" for the suite, to MLflow's run id.

    `content` is a digest of what was sent: other content is sent again, with a later `stamp_ms`, because MLflow shows
    the latest of several values of a metric. `traces` counts the rows of each target whose traces are sent, in order of
    the row log. `problem` says why sending failed.
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
    def suite_run_id(self) -> str | None:
        return self.runs.get("")

    def reset(self) -> None:
        """Mark every step as not done."""
        self.done, self.traces = [], {}

    @property
    def url(self) -> str | None:
        """The web page of the run, None for a database."""
        if not self.uri.startswith("http") or self.suite_run_id is None:
            return None
        return f"{self.uri}/#/experiments/{self.experiment_id}/runs/{self.suite_run_id}"


class SendState:
    """The destinations of a run, written to its folder with every change. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE_FILE
        self._lock = threading.Lock()
        self.destinations = _read(self.path) if self.path.is_file() else []

    def destination(self, uri: str, experiment: str) -> Destination:
        """The destination for an address and experiment, created if it is new."""
        for destination in self.destinations:
            if (destination.uri, destination.experiment) == (uri, experiment):
                return destination
        self.destinations.append(Destination(uri, experiment))
        return self.destinations[-1]

    def begin(self, destination: Destination, content: str, finished_ms: int) -> None:
        """Record what is being sent. Steps that were done for other content are reset."""
        if destination.content != content:
            destination.content, destination.sent = content, False
            destination.reset()
            destination.stamp_ms = max(finished_ms, destination.stamp_ms + 1)
        self.write()

    def record(
        self,
        destination: Destination,
        *,
        run: tuple[str, str] | None = None,
        done: str | None = None,
        traces: tuple[str, int] | None = None,
    ) -> None:
        """Record a created run, a finished step, or the number of rows of a target whose traces are sent."""
        with self._lock:
            if run is not None:
                destination.runs[run[0]] = run[1]
            if done is not None and done not in destination.done:
                destination.done.append(done)
            if traces is not None:
                destination.traces[traces[0]] = traces[1]
        self.write()

    def write(self) -> None:
        """Write the file. Raises RunError if it cannot be written."""
        with self._lock:
            destinations = [
                {
                    "uri": destination.uri,
                    "experiment": destination.experiment,
                    "experiment_id": destination.experiment_id,
                    "runs": dict(destination.runs),
                    "done": sorted(destination.done),
                    "traces": dict(destination.traces),
                    "content": destination.content,
                    "stamp_ms": destination.stamp_ms,
                    "sent": destination.sent,
                    "problem": destination.problem,
                    "url": destination.url,
                }
                for destination in self.destinations
            ]
            write_json(self.path, {"schema_version": SCHEMA_VERSION, "destinations": destinations})


def _read(path: Path) -> list[Destination]:
    data = read_json(path)
    if data.get("schema_version") != SCHEMA_VERSION:
        raise RunNotFoundError(
            f"{str(path)!r} was written by another version of evalrun; delete it to send the run again"
        )
    try:
        return [
            Destination(**{name: value for name, value in item.items() if name != "url"})
            for item in data["destinations"]
        ]
    except (KeyError, TypeError) as broken:
        raise RunNotFoundError(f"{str(path)!r} is not a valid {STATE_FILE}: {broken!r}") from None


def mlflow_destinations(suite: Suite, trackers: Mapping[str, str | None]) -> Iterator[egress.Destination]:
    """The MLflow servers and databases of a suite, for everything that it reads there or sends."""
    configured = suite.tracking.options.get("mlflow")
    own = configured.uri if configured is not None else None
    given = (suite.resolved.get("tracking") or {}).get("mlflow") or {}
    if "mlflow" in trackers or configured is not None:
        address = trackers.get("mlflow") or own
        yield from _at(address, "sending the run to MLflow", given.get("uri"), ("tracking", "mlflow"))
    if suite.dataset.source == "mlflow":
        address = suite.dataset.source_options.get("uri")
        yield from _at(address or own, "dataset of MLflow", given.get("uri"), suite.dataset.key_path)
    for gate in suite.gates:
        if (gate.baseline or "").startswith("mlflow:"):
            yield from _at(own, "baseline of MLflow", given.get("uri"), gate.key_path)
    for target in suite.targets:
        model = str(target.options.get("model_uri", "")) if target.type == "mlflow" else ""
        if model.startswith(("models:", "runs:")):
            address = target.options.get("uri")
            raw = target.public.get("uri") or given.get("uri")
            yield from _at(address or own, f"model of target {target.name}", raw, target.key_path)
        elif "://" in model:
            yield egress.Destination(LOGIN.sub("://", model), f"model of target {target.name}", (), target.key_path)


def _at(
    address: str | None, purpose: str, raw: object, key_path: tuple[str | int, ...]
) -> Iterator[egress.Destination]:
    """The host of an address of MLflow; nothing for a database file. `raw` is what the suite has, with its variables."""
    uri = mlflow_address(address)
    if uri.startswith(("sqlite:", "file:")):
        return
    names = [name for name in LOGIN_VARIABLES if os.environ.get(name)]
    if uri.startswith("databricks"):
        names += [name for name in DATABRICKS_VARIABLES if os.environ.get(name)]
        uri = os.environ.get("DATABRICKS_HOST") or ""
        uri = uri if "://" in uri or not uri else f"https://{uri}"
    names += [match.group(1) for match in VARIABLE.finditer(str(raw or "")) if address and match.group(1)]
    if LOGIN.search(uri) and not has_variable(str(raw or "")):
        names.append("literal value in the suite (login of uri)" if address else "MLFLOW_TRACKING_URI")
    parts = urlsplit(uri)
    yield egress.Destination(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if uri else "", purpose, tuple(names), key_path
    )
