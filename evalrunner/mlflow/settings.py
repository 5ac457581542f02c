"""Where a run is to be sent and under which names: of the command line, the suite, the environment, in this order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from evalrunner.domain import EMPTY
from evalrunner.errors import SuiteError
from evalrunner.mlflow.client import DATABASE_FILE, mlflow_address
from evalrunner.redact import LOGIN
from evalrunner.runs.record import RunRecord
from evalrunner.suite.schema import key
from evalrunner.suite.sections import read_tracking, register_login
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import Document

URI = re.compile(r"(https?|sqlite|(mysql|postgresql|mssql)(\+\w+)?|databricks)://\S+|databricks")


TrackedPart: TypeAlias = Literal["metrics", "table", "report", "dataset", "traces"]


@dataclass(frozen=True, slots=True)
class MlflowSpec:
    """`tracking.mlflow` with its variables filled in; None means as the environment or MLflow has it."""

    uri: str | None = key("Tracking server or database", path=True)
    experiment: str | None = key("Experiment (default: the name of the suite)", path=True)
    run_name: str | None = key("Name of the run (default: suite and run id)", path=True)
    tags: Mapping[str, str] = key("Extra tags of the run", default=EMPTY)
    log: tuple[TrackedPart, ...] = key("Parts to send", default=("metrics", "table", "report", "dataset"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What is sent where. `uri` may hold a login, `shown` is it without."""

    uri: str
    experiment: str
    run_name: str
    tags: Mapping[str, str]
    log: tuple[TrackedPart, ...]

    @property
    def shown(self) -> str:
        return LOGIN.sub("://", self.uri)

    @property
    def remote(self) -> bool:
        """Whether a server answers, rather than a database that this process opens."""
        return self.uri.startswith(("http", "databricks"))


def settings_of(
    spec: MlflowSpec | None, asked: str | None, *, suite: str, run_id: str, environ: Mapping[str, str]
) -> Settings:
    """The settings of a run. `asked` is an address that replaces the suite's; None or "" keeps the configured one.

    Raises SuiteError for an address that MLflow cannot use.
    """
    given = spec or MlflowSpec()
    uri = mlflow_address(asked or given.uri, environ)
    where = "--mlflow" if asked else "tracking.mlflow.uri" if given.uri else "MLFLOW_TRACKING_URI"
    if not URI.fullmatch(uri):
        raise SuiteError(
            f"{where}: {LOGIN.sub('://', uri)!r} should be http(s)://…, sqlite:///…, another database that MLflow "
            f"takes, or databricks (MLflow 3 keeps runs in no plain folders)"
        )
    register_login(uri)
    return Settings(
        uri=_absolute(uri.rstrip("/") if uri.startswith("http") else uri),
        experiment=given.experiment or environ.get("MLFLOW_EXPERIMENT_NAME") or suite,
        run_name=given.run_name or f"{suite} {run_id}",
        tags=given.tags,
        log=given.log,
    )


def stored_spec(run: RunRecord, environ: Mapping[str, str], *, elsewhere: bool = False) -> MlflowSpec | None:
    """What the suite of a stored run said of MLflow, its variables filled in anew. Raises SuiteError.

    `elsewhere` is for a run that goes to another address: then the suite's need not be known.
    """
    data = run.resolved.get("tracking")
    if data is None:
        return None
    said = data.get("mlflow") if isinstance(data, Mapping) else None
    if elsewhere and isinstance(said, Mapping):
        data = {**data, "mlflow": {name: item for name, item in said.items() if name != "uri"}}
    document = Document("run.json", {"tracking": data})
    found = read_tracking(SectionReader(document, Path(), environ), data, ("tracking",))
    document.raise_problems()
    spec: MlflowSpec | None = found.options.get("mlflow")
    return spec


def _absolute(uri: str) -> str:
    """A database file by its whole path, so that it is the same one from another folder."""
    found = DATABASE_FILE.fullmatch(uri)
    absolute = found is None or found["path"].startswith("/")
    return uri if found is None or absolute else f"sqlite:///{Path(found['path']).resolve()}{found['rest']}"
