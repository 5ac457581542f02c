"""What `dataset: {mlflow: …}` names, found: the table of a run, a dataset logged to it, or an evaluation dataset."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from evalrunner.datasets.records import Record
from evalrunner.datasets.resolve import FILE_EXTENSIONS, ExternalDataset, type_of
from evalrunner.mlflow.client import (
    check_mlflow,
    missing_database,
    mlflow_address,
    mlflow_at,
    why_mlflow_refuses,
    without_login,
)
from evalrunner.mlflow.dataset_records import Renamed, record_of_evaluation, records_of_table

TABLE = "eval_results_table.json"  # what mlflow.evaluate and evalrun write
ROWS = "dataset.jsonl"  # what evalrun keeps of the dataset of a run that it sends
RUN = re.compile(r"(runs:/)?(?P<id>[0-9a-f]{32})(/(?P<name>.+?))?/?")
EVALUATION = re.compile(r"(datasets:/)?(?P<id>d-[0-9a-f]{32})|datasets:/(?P<name>.+)")
FORMS = (
    "it should be a run's id (32 hex digits, or runs:/ID), runs:/ID/NAME for a dataset or a file that was logged to it, "
    "datasets:/NAME for an evaluation dataset, or the id of one (d-…)"
)
EVALUATION_SOURCE = "mlflow_evaluation_dataset"
MOST_NAMED = 8


def mlflow(reference: str, address: str | None, downloads: Path, /, *, uri: str | None = None) -> ExternalDataset:
    """A dataset in MLflow, or a run whose evaluation table has the rows.

    Raises ValueError if there is no such dataset, it is stored elsewhere, or MLflow does not answer.

    Args:
        uri: With mlflow: its address, if it differs from tracking.mlflow.uri.
    """
    run, evaluation = RUN.fullmatch(reference), EVALUATION.fullmatch(reference)
    if run is None and evaluation is None:
        raise ValueError(f"{reference!r} names nothing in MLflow; {FORMS}")
    check_mlflow("dataset: {mlflow: …}")
    address = mlflow_address(uri or address)
    if (missing := missing_database(address)) is not None:
        raise ValueError(
            f"there is no MLflow database {str(missing)!r} to read {reference!r} from; say where MLflow is: "
            "tracking: {mlflow: {uri: …}}, or MLFLOW_TRACKING_URI"
        )
    try:
        with mlflow_at(address):
            from mlflow import MlflowClient

            finder = _Finder(MlflowClient(tracking_uri=address), address, downloads)
            if run is not None:
                return finder.of_run(run["id"], run["name"])
            assert evaluation is not None
            return finder.of_evaluation(evaluation["id"] or finder.id_of(evaluation["name"]))
    except ValueError:
        raise
    except Exception as refused:  # MLflow, requests and databases each raise their own
        said = why_mlflow_refuses(refused, address)
        raise ValueError(f"{reference!r} cannot be read from MLflow at {without_login(address)}: {said}") from None


@dataclass(frozen=True, slots=True)
class _Finder:
    client: Any
    address: str
    folder: Path

    def of_run(self, run_id: str, name: str | None) -> ExternalDataset:
        """The table of a run or of the one run below it, else its one dataset; or what it calls `name`."""
        run = self.client.get_run(run_id)
        logged = {
            (item.dataset.name, item.dataset.digest, item.dataset.source): item.dataset
            for item in (run.inputs.dataset_inputs if run.inputs is not None else ())
        }.values()
        if name is not None:
            return self._named(run, name, list(logged))
        below = self.client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
        having = [one for one in (run, *below) if TABLE in self._files(one.info.run_id)]
        if len(having) > 1:
            names = ", ".join(f"{one.info.run_name} {one.info.run_id}" for one in having[:MOST_NAMED])
            data = "".join(f"; or its dataset: runs:/{run_id}/{said}" for said in _names(logged)[:1])
            raise ValueError(f"the run {run_id!r} has several tables; name the run of one target: {names}{data}")
        if having:
            return self._artifact(having[0].info.run_id, TABLE)
        if len(logged) == 1:
            return self._logged(run, next(iter(logged)))
        if logged:
            said = ", ".join(f"runs:/{run_id}/{one}" for one in _names(logged)[:MOST_NAMED])
            raise ValueError(f"the run {run_id!r} has several datasets; name one: {said}")
        files = ", ".join(self._files(run_id)[:MOST_NAMED]) or "none"
        raise ValueError(
            f"the run {run_id!r} has no {TABLE} and no dataset was logged to it; its files: {files} (one of them is "
            f"runs:/{run_id}/NAME)"
        )

    def _named(self, run: Any, name: str, logged: list[Any]) -> ExternalDataset:
        run_id = run.info.run_id
        matching = [one for one in logged if name in (one.name, f"{one.name}@{one.digest}")]
        if len(matching) == 1:
            return self._logged(run, matching[0])
        if matching:
            said = ", ".join(f"runs:/{run_id}/{one.name}@{one.digest}" for one in matching[:MOST_NAMED])
            raise ValueError(f"the run {run_id!r} has several datasets {name!r}; name one: {said}")
        parent = name.rpartition("/")[0]
        if name in self._files(run_id, parent or None):
            return self._artifact(run_id, name)
        known = ", ".join([*_names(logged), *self._files(run_id)][:MOST_NAMED]) or "nothing"
        raise ValueError(f"the run {run_id!r} has no dataset and no file {name!r}; it has: {known}")

    def _files(self, run_id: str, below: str | None = None) -> list[str]:
        return [item.path for item in self.client.list_artifacts(run_id, below) if not item.is_dir]

    def _artifact(self, run_id: str, name: str) -> ExternalDataset:
        """A file of a run, downloaded: the rows of a table, or itself."""
        _check_type(name)
        origin = {"mlflow": f"runs:/{run_id}/{name}"}
        shown = f"{name} of MLflow's run {run_id}"
        path = Path(self.client.download_artifacts(run_id, name, self._new_folder()))
        if path.suffix == ".json" and path.open("rb").read(100).lstrip().startswith(b'{"columns":'):
            table = json.loads(path.read_text(encoding="utf-8"))  # as mlflow.log_table writes it
            return _found(shown, origin, tuple(records_of_table(table)))
        return _found(shown, origin, file=path)

    def _logged(self, run: Any, dataset: Any) -> ExternalDataset:
        """A dataset that was logged as a run's input, from the source it has."""
        source, shown = json.loads(dataset.source), f"the dataset {dataset.name!r} of MLflow's run {run.info.run_id}"
        if dataset.source_type == EVALUATION_SOURCE:
            return self.of_evaluation(source["dataset_id"])
        where = next((str(source[key]) for key in ("uri", "url", "path") if source.get(key)), dataset.source)
        if (holder := self._holder(run, dataset)) is not None:
            found = self._artifact(holder, ROWS)
        elif dataset.source_type == "code":
            made_by = (source.get("tags") or {}).get("mlflow.source.name", "code")
            raise ValueError(
                f"{shown} was made by {made_by}, and MLflow has its name and digest, not its "
                "rows; name the file that they came from: dataset: PATH"
            )
        elif dataset.source_type != "local":
            raise ValueError(
                f"{shown} lies at {without_login(where)!r} ({dataset.source_type}), and no host is asked but MLflow's; bring "
                "it here and name the file: dataset: PATH"
            )
        else:
            found = self._local(shown, where)
        origin = {"mlflow": f"runs:/{run.info.run_id}/{dataset.name}@{dataset.digest}"}
        return _found(shown, {**origin, "name": dataset.name, "digest": dataset.digest}, found.records, found.file)

    def _holder(self, run: Any, dataset: Any) -> str | None:
        """The run that keeps the rows, where evalrun has sent this one: the run itself, or that of its suite.

        MLflow knows one source for all datasets of an experiment that have one name and digest: that of the first.
        """
        digest = run.data.params.get("dataset.digest", "")
        if "evalrun.run_id" not in run.data.tags or not digest.startswith(dataset.digest):
            return None
        runs = [run.info.run_id, run.data.tags.get("mlflow.parentRunId")]
        return next((one for one in runs if one is not None and ROWS in self._files(one)), None)

    def _local(self, shown: str, where: str) -> ExternalDataset:
        """What lies at a local path, or among the artifacts of this MLflow."""
        if (run := RUN.fullmatch(where)) is not None and run["name"]:
            return self._artifact(run["id"], run["name"])
        parts = urlsplit(where)
        if parts.scheme == "mlflow-artifacts" and not parts.netloc:
            from mlflow.artifacts import download_artifacts

            _check_type(where)
            target = self._new_folder()
            path = download_artifacts(artifact_uri=where, dst_path=target, tracking_uri=self.address)
            return _found(shown, {}, file=Path(path))
        if parts.scheme not in ("", "file") or parts.netloc:
            raise ValueError(f"{shown} lies at {without_login(where)!r}, and no host is asked but MLflow's")
        file = Path(unquote(parts.path) if parts.scheme else where)
        _check_type(file.name)
        if not file.is_file():
            raise ValueError(f"{shown} lies at {str(file)!r}, which is not there on this machine")
        return _found(shown, {}, file=file)

    def id_of(self, name: str) -> str:
        """The id of the evaluation dataset of a name. Raises ValueError where there is none, or several."""
        if "'" in name:
            raise ValueError(f"the name {name!r} has a quote in it, which MLflow cannot look for; say its id: d-…")
        found = list(self.client.search_datasets(filter_string=f"name = '{name}'"))
        if len(found) == 1:
            return str(found[0].dataset_id)
        if found:
            ids = ", ".join(one.dataset_id for one in found[:MOST_NAMED])
            raise ValueError(f"there are several evaluation datasets {name!r}; say the id of one: {ids}")
        known = ", ".join(sorted({one.name for one in self.client.search_datasets(max_results=50)})[:MOST_NAMED])
        raise ValueError(
            f"there is no evaluation dataset {name!r} in MLflow at {without_login(self.address)}; it has: {known or 'none'}"
        )

    def of_evaluation(self, dataset_id: str) -> ExternalDataset:
        """The records of an evaluation dataset, in the order in which they were made."""
        dataset = self.client.get_dataset(dataset_id)
        made = sorted(dataset.records, key=lambda record: (record.created_time, record.dataset_record_id))
        records = tuple(record_of_evaluation(_data(record)) for record in made)
        origin = {"mlflow": f"datasets:/{dataset_id}", "name": dataset.name, "digest": dataset.digest}
        return _found(f"MLflow's evaluation dataset {dataset.name!r} {dataset_id}", origin, records)

    def _new_folder(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="mlflow-", dir=self.folder)


def _found(
    display_name: str, origin: Mapping[str, str], records: tuple[Record, ...] = (), file: Path | None = None
) -> ExternalDataset:
    return ExternalDataset(display_name, origin, records, file, Renamed.of)


def _data(record: Any) -> dict[str, Any]:
    names = ("inputs", "expectations", "outputs", "tags", "dataset_record_id")
    return {name: getattr(record, name) for name in names}


def _names(logged: Any) -> list[str]:
    """The names of logged datasets; with their digest where two have one name."""
    names = [one.name for one in logged]
    return [one.name if names.count(one.name) == 1 else f"{one.name}@{one.digest}" for one in logged]


def _check_type(name: str) -> None:
    if type_of(name) is None:
        raise ValueError(f"{name!r} is no file of rows; those that are read end in {', '.join(FILE_EXTENSIONS)}")
