"""Datasets and baselines read from MLflow: evaluation tables, logged and evaluation datasets, baselines of runs."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from evalrunner.baselines.file import Baseline, RunRef, read_baseline
from evalrunner.datasets.records import InvalidRecord, Reader, Record
from evalrunner.datasets.resolve import FILE_EXTENSIONS, ExternalDataset, type_of
from evalrunner.errors import RunNotFoundError
from evalrunner.mlflow.client import (
    check_mlflow,
    explain_mlflow_error,
    find_missing_database,
    mlflow_address,
    mlflow_at,
    without_login,
)
from evalrunner.suite.conditions import condition_columns
from evalrunner.suite.schema import DatasetSpec
from evalrunner.verdicts import ACCEPTABLE

RENAMED_COLUMNS = {"inputs": "input", "ground_truth": "expected", "targets": "expected"}
RESULT_COLUMNS = re.compile(r".+/(score|justification|state)")  # results of scorers, which are computed again
MEASUREMENT_COLUMNS = {"epoch", "target", "latency", "token_count", "cost_usd", "finish_reason", "ttft", "output_rate"}
ANSWER_EXPECTATIONS = ("expected_response", "expected")  # expectations that are an answer, by priority
FACTS_EXPECTATION = "expected_facts"
MLFLOW_TAG_PREFIX = "mlflow."

TABLE_FILE = "eval_results_table.json"  # written by mlflow.evaluate and evalrun
ROWS_FILE = "dataset.jsonl"  # the dataset of a run, sent by evalrun
RUN_REFERENCE = re.compile(r"(runs:/)?(?P<id>[0-9a-f]{32})(/(?P<name>.+?))?/?")
EVALUATION_REFERENCE = re.compile(r"(datasets:/)?(?P<id>d-[0-9a-f]{32})|datasets:/(?P<name>.+)")
REFERENCE_FORMS = (
    "it should be a run's id (32 hex digits, or runs:/ID), runs:/ID/NAME for a dataset or a file that was logged to it, "
    "datasets:/NAME for an evaluation dataset, or the id of one (d-…)"
)
EVALUATION_SOURCE = "mlflow_evaluation_dataset"
MAX_LISTED = 8

BASELINE_FILE = "baseline.jsonl"
BASELINE_REFERENCE = re.compile(r"mlflow:(experiment|run)/.*\S.*")
EXPERIMENT_SCHEME, RUN_SCHEME = "mlflow:experiment/", "mlflow:run/"
MAX_RUNS = 500  # runs of the suite and its targets, newest first


def records_of_table(table: Mapping[str, Any]) -> Iterator[Record]:
    """The rows of an evaluation table without results of scorers; only the first of several epochs."""
    columns = [str(name) for name in table["columns"]]
    for values in table["data"]:
        row = dict(zip(columns, values, strict=True))
        if row.get("epoch", 1) != 1:
            continue
        record = {
            name: item
            for name, item in row.items()
            if name not in MEASUREMENT_COLUMNS and not RESULT_COLUMNS.fullmatch(name)
        }
        for name in ("ground_truth", "targets", "expected"):
            if isinstance(text := record.get(name), str) and text.startswith("["):
                record[name] = _accepted_answers(text)
        yield record


def _accepted_answers(text: str) -> Any:
    """The accepted answers if the text is a JSON list of them; any other text unchanged."""
    try:
        answers = json.loads(text)
    except ValueError:
        return text
    return answers if isinstance(answers, list) and all(isinstance(item, str) for item in answers) else text


def record_of_evaluation(data: Mapping[str, Any]) -> Record:
    """A record of an evaluation dataset, with a column for each input and each expectation.

    A single input is also `input`, unless it is a conversation. `expected` is the expected answer, or all expected facts
    as one text, since an answer should have all of them.
    """
    inputs, expectations = _mapping(data.get("inputs")), _mapping(data.get("expectations"))
    record: dict[str, Any] = dict(inputs)
    if len(inputs) == 1 and "messages" not in inputs:
        record.setdefault("input", next(iter(inputs.values())))
    for name, item in expectations.items():
        record.setdefault(name if name not in record or name == "expected" else f"expectations.{name}", item)
    answer = next((expectations[name] for name in ANSWER_EXPECTATIONS if expectations.get(name) is not None), None)
    facts = expectations.get(FACTS_EXPECTATION)
    if answer is None and isinstance(facts, list) and facts:
        answer = "\n".join(str(fact) for fact in facts)
    if answer is not None:
        record["expected"] = answer
    for name in ("outputs", "tags"):
        if content := _without_mlflow_tags(data.get(name)):
            record.setdefault(name, content)
    if data.get("dataset_record_id"):
        record.setdefault("id", data["dataset_record_id"])
    return record


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_mlflow_tags(value: Any) -> Any:
    """Tags or outputs without the tags of MLflow itself."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if not str(name).startswith(MLFLOW_TAG_PREFIX)}


@dataclass(slots=True)
class RenamedReader:
    """A reader that renames MLflow's columns: `inputs` to input, `ground_truth` to expected.

    `original_names` are columns that the suite uses by MLflow's name. Inputs that are a mapping become columns.
    """

    reader: Reader
    original_names: Collection[str]
    text_only: bool

    @classmethod
    def of(cls, reader: Reader, spec: DatasetSpec) -> RenamedReader:
        """The reader for the dataset of a suite."""
        columns = [getattr(spec.columns, role) for role in ("id", "input", "expected", "messages")]
        named = [column.column for column in columns if column is not None]
        original_names = {name for item in named for name in ((item,) if isinstance(item, str) else item)}
        return cls(
            reader,
            frozenset({*original_names, *condition_columns(spec.where)}),
            bool(getattr(reader, "text_only", False)),
        )

    def __call__(self) -> Iterator[tuple[Record, str]]:
        for record, place in self.reader():
            yield record if isinstance(record, InvalidRecord) else self._renamed(record), place

    def _renamed(self, record: Record) -> Record:
        if isinstance(record.get("inputs"), Mapping) and "inputs" not in self.original_names:
            others = {name: item for name, item in record.items() if name not in ("inputs", "expectations")}
            return {**record_of_evaluation(record), **others}
        renamed: dict[str, Any] = {}
        for name, item in record.items():
            new_name = RENAMED_COLUMNS.get(name, name)
            renamed[
                name
                if name in self.original_names or (new_name != name and (new_name in record or new_name in renamed))
                else new_name
            ] = item
        return renamed


def mlflow_dataset(
    reference: str, address: str | None, downloads: Path, /, *, uri: str | None = None
) -> ExternalDataset:
    """A dataset in MLflow, or a run whose evaluation table has the rows.

    Raises ValueError if there is no such dataset, it is stored elsewhere, or MLflow does not answer.

    Args:
        uri: With mlflow: its address, if it differs from tracking.mlflow.uri.
    """
    run, evaluation = RUN_REFERENCE.fullmatch(reference), EVALUATION_REFERENCE.fullmatch(reference)
    if run is None and evaluation is None:
        raise ValueError(f"{reference!r} is not a reference to MLflow; {REFERENCE_FORMS}")
    check_mlflow("dataset: {mlflow: …}")
    address = mlflow_address(uri or address)
    if (missing := find_missing_database(address)) is not None:
        raise ValueError(
            f"there is no MLflow database {str(missing)!r} to read {reference!r} from; set the address of MLflow: "
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
    except Exception as refused:  # MLflow, requests and databases raise different types
        reason = explain_mlflow_error(refused, address)
        raise ValueError(f"{reference!r} cannot be read from MLflow at {without_login(address)}: {reason}") from None


@dataclass(frozen=True, slots=True)
class _Finder:
    client: Any
    address: str
    folder: Path

    def of_run(self, run_id: str, name: str | None) -> ExternalDataset:
        """The table of a run or of its only child run, else its only dataset; or its file or dataset `name`."""
        run = self.client.get_run(run_id)
        logged = {
            (item.dataset.name, item.dataset.digest, item.dataset.source): item.dataset
            for item in (run.inputs.dataset_inputs if run.inputs is not None else ())
        }.values()
        if name is not None:
            return self._named(run, name, list(logged))
        below = self.client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
        having = [one for one in (run, *below) if TABLE_FILE in self._files(one.info.run_id)]
        if len(having) > 1:
            names = ", ".join(f"{one.info.run_name} {one.info.run_id}" for one in having[:MAX_LISTED])
            data = "".join(f"; or its dataset: runs:/{run_id}/{one}" for one in _names(logged)[:1])
            raise ValueError(f"the run {run_id!r} has several tables; name the run of one target: {names}{data}")
        if having:
            return self._artifact(having[0].info.run_id, TABLE_FILE)
        if len(logged) == 1:
            return self._logged(run, next(iter(logged)))
        if logged:
            listed = ", ".join(f"runs:/{run_id}/{one}" for one in _names(logged)[:MAX_LISTED])
            raise ValueError(f"the run {run_id!r} has several datasets; name one: {listed}")
        files = ", ".join(self._files(run_id)[:MAX_LISTED]) or "none"
        raise ValueError(
            f"the run {run_id!r} has no {TABLE_FILE} and no dataset was logged to it; its files: {files} (one of them is "
            f"runs:/{run_id}/NAME)"
        )

    def _named(self, run: Any, name: str, logged: list[Any]) -> ExternalDataset:
        run_id = run.info.run_id
        matching = [one for one in logged if name in (one.name, f"{one.name}@{one.digest}")]
        if len(matching) == 1:
            return self._logged(run, matching[0])
        if matching:
            listed = ", ".join(f"runs:/{run_id}/{one.name}@{one.digest}" for one in matching[:MAX_LISTED])
            raise ValueError(f"the run {run_id!r} has several datasets {name!r}; name one: {listed}")
        parent = name.rpartition("/")[0]
        if name in self._files(run_id, parent or None):
            return self._artifact(run_id, name)
        known = ", ".join([*_names(logged), *self._files(run_id)][:MAX_LISTED]) or "nothing"
        raise ValueError(f"the run {run_id!r} has no dataset and no file {name!r}; it has: {known}")

    def _files(self, run_id: str, below: str | None = None) -> list[str]:
        return [item.path for item in self.client.list_artifacts(run_id, below) if not item.is_dir]

    def _artifact(self, run_id: str, name: str) -> ExternalDataset:
        """A downloaded file of a run: the rows of a table, or the file itself."""
        _check_type(name)
        origin = {"mlflow": f"runs:/{run_id}/{name}"}
        display_name = f"{name} of MLflow's run {run_id}"
        path = Path(self.client.download_artifacts(run_id, name, self._new_folder()))
        if path.suffix == ".json" and path.open("rb").read(100).lstrip().startswith(b'{"columns":'):
            table = json.loads(path.read_text(encoding="utf-8"))  # the format of mlflow.log_table
            return _external_dataset(display_name, origin, tuple(records_of_table(table)))
        return _external_dataset(display_name, origin, file=path)

    def _logged(self, run: Any, dataset: Any) -> ExternalDataset:
        """A dataset that was logged as an input of a run, read from its source."""
        source = json.loads(dataset.source)
        display_name = f"the dataset {dataset.name!r} of MLflow's run {run.info.run_id}"
        if dataset.source_type == EVALUATION_SOURCE:
            return self.of_evaluation(source["dataset_id"])
        where = next((str(source[key]) for key in ("uri", "url", "path") if source.get(key)), dataset.source)
        if (holder := self._holder(run, dataset)) is not None:
            dataset_file = self._artifact(holder, ROWS_FILE)
        elif dataset.source_type == "code":
            creator = (source.get("tags") or {}).get("mlflow.source.name", "code")
            raise ValueError(
                f"{display_name} was created by {creator}, and MLflow has its name and digest, but not its rows; name the file that they "
                "came from: dataset: PATH"
            )
        elif dataset.source_type != "local":
            raise ValueError(
                f"{display_name} is stored at {without_login(where)!r} ({dataset.source_type}), and only MLflow's host is contacted; "
                "download it and name the file: dataset: PATH"
            )
        else:
            dataset_file = self._local(display_name, where)
        origin = {"mlflow": f"runs:/{run.info.run_id}/{dataset.name}@{dataset.digest}"}
        return _external_dataset(
            display_name,
            {**origin, "name": dataset.name, "digest": dataset.digest},
            dataset_file.records,
            dataset_file.file,
        )

    def _holder(self, run: Any, dataset: Any) -> str | None:
        """The run that has the rows if evalrun sent it: the run itself, or that of its suite.

        All datasets of an experiment with the same name and digest have one source in MLflow: that of the first.
        """
        digest = run.data.params.get("dataset.digest", "")
        if "evalrun.run_id" not in run.data.tags or not digest.startswith(dataset.digest):
            return None
        runs = [run.info.run_id, run.data.tags.get("mlflow.parentRunId")]
        return next((one for one in runs if one is not None and ROWS_FILE in self._files(one)), None)

    def _local(self, display_name: str, where: str) -> ExternalDataset:
        """A file at a local path, or among the artifacts of this MLflow."""
        if (run := RUN_REFERENCE.fullmatch(where)) is not None and run["name"]:
            return self._artifact(run["id"], run["name"])
        parts = urlsplit(where)
        if parts.scheme == "mlflow-artifacts" and not parts.netloc:
            from mlflow.artifacts import download_artifacts

            _check_type(where)
            target = self._new_folder()
            path = download_artifacts(artifact_uri=where, dst_path=target, tracking_uri=self.address)
            return _external_dataset(display_name, {}, file=Path(path))
        if parts.scheme not in ("", "file") or parts.netloc:
            raise ValueError(
                f"{display_name} is stored at {without_login(where)!r}, and only MLflow's host is contacted"
            )
        file = Path(unquote(parts.path) if parts.scheme else where)
        _check_type(file.name)
        if not file.is_file():
            raise ValueError(f"{display_name} is stored at {str(file)!r}, which is not found on this machine")
        return _external_dataset(display_name, {}, file=file)

    def id_of(self, name: str) -> str:
        """The id of the evaluation dataset of a name. Raises ValueError if there is none or more than one."""
        if "'" in name:
            raise ValueError(f"the name {name!r} has a quote, which MLflow cannot search for; use its id: d-…")
        datasets = list(self.client.search_datasets(filter_string=f"name = '{name}'"))
        if len(datasets) == 1:
            return str(datasets[0].dataset_id)
        if datasets:
            ids = ", ".join(one.dataset_id for one in datasets[:MAX_LISTED])
            raise ValueError(f"there are several evaluation datasets {name!r}; use the id of one: {ids}")
        known = ", ".join(sorted({one.name for one in self.client.search_datasets(max_results=50)})[:MAX_LISTED])
        raise ValueError(
            f"there is no evaluation dataset {name!r} in MLflow at {without_login(self.address)}; it has: {known or 'none'}"
        )

    def of_evaluation(self, dataset_id: str) -> ExternalDataset:
        """The records of an evaluation dataset, in order of creation."""
        dataset = self.client.get_dataset(dataset_id)
        by_creation = sorted(dataset.records, key=lambda record: (record.created_time, record.dataset_record_id))
        records = tuple(record_of_evaluation(_data(record)) for record in by_creation)
        origin = {"mlflow": f"datasets:/{dataset_id}", "name": dataset.name, "digest": dataset.digest}
        return _external_dataset(f"MLflow's evaluation dataset {dataset.name!r} {dataset_id}", origin, records)

    def _new_folder(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="mlflow-", dir=self.folder)


def _external_dataset(
    display_name: str, origin: Mapping[str, str], records: tuple[Record, ...] = (), file: Path | None = None
) -> ExternalDataset:
    return ExternalDataset(display_name, origin, records, file, RenamedReader.of)


def _data(record: Any) -> dict[str, Any]:
    names = ("inputs", "expectations", "outputs", "tags", "dataset_record_id")
    return {name: getattr(record, name) for name in names}


def _names(logged: Any) -> list[str]:
    """The names of logged datasets; with their digest if a name is not unique."""
    names = [one.name for one in logged]
    return [one.name if names.count(one.name) == 1 else f"{one.name}@{one.digest}" for one in logged]


def _check_type(name: str) -> None:
    if type_of(name) is None:
        raise ValueError(f"{name!r} is not a file of rows; supported extensions: {', '.join(FILE_EXTENSIONS)}")


class MlflowBaselines:
    """Baselines that were sent to MLflow with their run."""

    forms = ("mlflow:experiment/NAME", "mlflow:run/ID")
    how_to_add = (
        "once a run is good, evalrun track last --mlflow sends it there, if the suite is tracked in that experiment"
    )

    def accepts(self, reference: str) -> bool:
        return BASELINE_REFERENCE.fullmatch(reference) is not None

    def find(self, reference: str, suite: str, address: str | None, candidate: RunRef | None) -> Baseline | None:
        """The baseline of the newest run that passed in an experiment, or of the run of an id; None if none has passed.

        Without `address` the environment says where MLflow is. Raises RunNotFoundError if MLflow does not answer or the
        run of an id has no baseline, and SuiteError if the baseline is broken.
        """
        return _find(reference, suite, mlflow_address(address), candidate)


mlflow_baselines = MlflowBaselines()


def _find(reference: str, suite: str, address: str, candidate: RunRef | None) -> Baseline | None:
    check_mlflow(f"baseline: {reference}")
    if (missing := find_missing_database(address)) is not None:  # no run was sent yet
        if reference.startswith(RUN_SCHEME):
            raise RunNotFoundError(f"{reference!r} cannot be read from MLflow: there is no database {str(missing)!r}")
        return None
    with mlflow_at(address), tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
        from mlflow import MlflowClient

        try:
            client = MlflowClient(tracking_uri=address)
            for run_id in _runs(client, reference, suite, candidate):
                if BASELINE_FILE in [item.path for item in client.list_artifacts(run_id)]:
                    path = Path(client.download_artifacts(run_id, BASELINE_FILE, folder))
                    return replace(read_baseline(path, label=reference), path=None)
        except RunNotFoundError:
            raise
        except Exception as refused:  # MLflow, requests and databases raise different types
            reason = explain_mlflow_error(refused, address)
            raise RunNotFoundError(f"{reference!r} cannot be read from MLflow: {reason}") from None
    if reference.startswith(RUN_SCHEME):
        raise RunNotFoundError(f"{reference!r} has no {BASELINE_FILE}, which evalrun sends with the table of a run")
    return None


def _runs(client: Any, reference: str, suite: str, candidate: RunRef | None) -> Iterator[str]:
    """The ids of runs that may have the baseline, newest first."""
    if reference.startswith(RUN_SCHEME):
        yield reference.removeprefix(RUN_SCHEME)
        return
    name = reference.removeprefix(EXPERIMENT_SCHEME)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:  # no run was sent yet
        return
    query = f"tags.`evalrun.suite` = '{suite}' and attributes.status = 'FINISHED'"
    if candidate is not None:
        query += f" and attributes.start_time < {candidate.started_ms}"
    newest = ["attributes.start_time DESC"]
    for run in client.search_runs([experiment.experiment_id], query, max_results=MAX_RUNS, order_by=newest):
        itself = candidate is not None and run.data.tags.get("evalrun.run_id") == candidate.id
        if run.data.tags.get("evalrun.verdict") in ACCEPTABLE and not itself:
            yield run.info.run_id
