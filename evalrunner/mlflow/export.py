"""Send a stored run to MLflow, exactly once: a run for the suite, and below it one for each target.

Each step finds what an earlier attempt did, or can be repeated: runs are looked up by a tag before they are created,
metrics have the time of the run, artifacts overwrite themselves. So an interrupted sending is simply repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import write_baseline
from evalrunner.baselines.resolve import baseline_of_run
from evalrunner.domain import Row, Sample
from evalrunner.egress import EgressPolicy
from evalrunner.errors import RunError, SuiteError
from evalrunner.mlflow import payload
from evalrunner.mlflow.client import NotSent, Retrier, check_mlflow, inherit_context, mlflow_client
from evalrunner.mlflow.destination import Destination, MlflowSpec, SendState, Settings, settings_of, stored_spec
from evalrunner.mlflow.payload import (
    KEY_TAG,
    TABLE,
    TARGET_TAG,
    StoredRun,
    Values,
    evaluation_frame,
    target_metrics,
    write_table,
)
from evalrunner.mlflow.sources import BASELINE_FILE, ROWS_FILE
from evalrunner.mlflow.traces import TRACE_CONCURRENCY, TracePool, TraceSender
from evalrunner.plugins import TrackingResult
from evalrunner.redact import redact_message
from evalrunner.runs.folder import ROWS_FILE as ROW_LOG_FILE
from evalrunner.runs.folder import RunFolder, RunLock
from evalrunner.runs.record import MetricsRecord, RunRecord, to_json
from evalrunner.runs.row_log import read_rows
from evalrunner.spelling import exact_json
from evalrunner.stats.summary import Design, Summary
from evalrunner.suite.environment import interpolate
from evalrunner.suite.options import RunOptions, with_trust_of
from evalrunner.suite.untrusted import policy_of

CONCURRENCY = 4  # targets and steps sent concurrently to a server; a database has one writer
METRICS_PER_REQUEST, TAGS_PER_REQUEST = 800, 100  # MLflow takes 1,000 items per request, at most 100 tags
REPORTS = ("report.html", "summary.md", "metrics.json")
TABLE_FILE = f"{TABLE}.json"
LOGGED_TAG = "mlflow.loggedArtifacts"  # the evaluation view finds tables by it
LOGGED_TABLE = '[{"path": "eval_results_table.json", "type": "table"}]'

PATIENCE_S = 60.0  # without a single answer, if the user waits for nothing else


def dataset_name(stored: StoredRun) -> str:
    """The name of a run's dataset in MLflow: its name there, else that of its file, else that of the suite."""
    section = stored.run.resolved.get("dataset")
    path = section if isinstance(section, str) else section.get("path") if isinstance(section, Mapping) else None
    known = (stored.run.dataset_from or {}).get("name")
    return str(known or (Path(path).stem if path and path != "-" else stored.run.suite))[:250] or "dataset"


def source_of(stored: StoredRun, run_id: str) -> dict[str, str]:
    """Type and source of the dataset of a run that was sent as `run_id`, in MLflow's format."""
    if is_whole(stored):  # `local` is the type of MLflow's own artifacts
        return {"source_type": "local", "source": json.dumps({"uri": f"runs:/{run_id}/{ROWS_FILE}"})}
    return {
        "source_type": "code",
        "source": json.dumps({"tags": {"mlflow.source.name": str(stored.run.suite_file)}}),
    }


def is_whole(stored: StoredRun) -> bool:
    """Whether the run's rows have every sample: the digest is that of the whole dataset."""
    return (stored.run.rows or 0) >= stored.run.rows_planned


def write_dataset(rows: Iterable[Row], stored: StoredRun, path: Path) -> None:
    """Write the samples of a run's rows in order, one per line, so that they can be read without `columns`."""
    samples: dict[str, Sample] = {}
    for row in rows:
        samples.setdefault(row.sample.id, row.sample)
    chosen = stored.run.dataset.columns
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for sample in sorted(samples.values(), key=lambda sample: sample.index):
            file.write(exact_json(dict(_columns(sample, chosen)), ensure_ascii=False) + "\n")


def _columns(sample: Sample, chosen: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of the source, and input, expected, id and messages under these names.

    A column of the source with such a name and another value becomes `sample.NAME`.
    """
    values = {
        "id": sample.id,
        "input": sample.input,
        "expected": sample.expected[0] if len(sample.expected) == 1 else list(sample.expected),
        "messages": None if sample.messages is None else [dict(message) for message in sample.messages],
    }
    roles = {name: item for name, item in values.items() if name in chosen and item is not None}
    for name, item in sample.metadata.items():
        yield (f"sample.{name}" if name in roles and item != roles[name] else name), item
    yield from roles.items()


def earlier_steps(stored: StoredRun) -> dict[str, dict[int, Values]]:
    """By target, the metrics at each step before the last, over the epochs up to that step; empty for one epoch."""
    steps_by_target: dict[str, dict[int, Values]] = {name: {} for name in stored.targets}
    if stored.epochs < 2:
        return steps_by_target
    design = stored.run.design
    steps = range(design.primary_reducer.k, stored.epochs)  # the reducer needs k epochs
    summaries = {step: _summary(stored, design, step) for step in steps}
    _count(read_rows(stored.folder), summaries)
    for step, summary in summaries.items():
        for name in stored.targets:
            steps_by_target[name][step] = target_metrics(summary.metrics(name))
    return steps_by_target


def _summary(stored: StoredRun, design: Design, epochs: int) -> Summary:
    reducers = tuple(reducer for reducer in design.reducers if reducer.k <= epochs)
    return Summary(
        stored.run.measures,
        tuple(stored.targets),
        epochs,
        stored.run.streaming,
        replace(design, slices=(), reducers=reducers),
    )


def _count(rows: Iterable[Row], summaries: Mapping[int, Summary]) -> None:
    for row in rows:
        for step, summary in summaries.items():
            if row.epoch <= step:
                summary.add(row)


class Sender:
    """Sends one stored run to one destination."""

    def __init__(
        self,
        client: Any,
        stored: StoredRun,
        settings: Settings,
        state: SendState,
        destination: Destination,
        retrier: Retrier,
    ) -> None:
        self.client, self.stored, self.settings = client, stored, settings
        self.state, self.destination, self.retrier = state, destination, retrier
        self.key = run_key(stored)

    def send(self) -> None:
        """Send what is missing. Raises NotSent; finished steps are recorded."""
        self.destination.experiment_id = self._find_experiment()
        there = {name: ids[0] for name, ids in self._existing().items()}
        if any(there.get(name) != run_id for name, run_id in self.destination.runs.items()):  # deleted in MLflow since
            self.destination.reset()
        self.destination.runs = there
        tags = payload.run_tags(self.stored, self.settings)
        self._find_or_create_run("", self.settings.run_name, tags)
        steps = earlier_steps(self.stored) if "metrics" in self.settings.log else {}
        trace_threads, threads = (TRACE_CONCURRENCY, CONCURRENCY) if self.settings.remote else (1, 1)
        with (
            TracePool(trace_threads) as traces,
            ThreadPoolExecutor(threads, "evalrun-mlflow", initializer=inherit_context()) as pool,
        ):
            sendings = [
                *(pool.submit(part) for part in self._parts_of_suite(tags)),
                *(pool.submit(self._send_target, name, steps.get(name, {}), traces) for name in self.stored.targets),
            ]
        refused = [error for sending in sendings if (error := sending.exception()) is not None]
        if refused:
            raise refused[0]
        self._finish_run(self._run(""), self.stored.status)
        self._remove_duplicates()

    def is_there(self) -> bool:
        """Whether every run that was sent still exists."""
        there = self._existing()
        return all(run_id in there.get(name, []) for name, run_id in self.destination.runs.items())

    def _call(self, what: str, action: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.retrier.call(what, action, *args, **options)

    def _step(self, step: str, action: Callable[[], None]) -> None:
        """Run a step unless it is recorded as done."""
        if step not in self.destination.done:
            action()
            self.state.record(self.destination, done=step)

    def _run(self, name: str) -> str:
        return self.destination.runs[name]

    def _find_experiment(self) -> str:
        name = self.settings.experiment

        def find_or_create() -> str:
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                return str(self.client.create_experiment(name))
            if experiment.lifecycle_stage != "active":
                raise NotSent(f"the experiment {name!r} is deleted there; restore it or name another")
            return str(experiment.experiment_id)

        try:
            return str(self._call(f"experiment {name!r}", find_or_create))
        except NotSent as refused:
            if "already exists" not in str(refused):  # created concurrently
                raise
            return str(self._call(f"experiment {name!r}", find_or_create))

    def _existing(self) -> dict[str, list[str]]:
        """The runs in MLflow that belong to this run, by target: their ids, oldest first."""
        query = f"tags.`{KEY_TAG}` = '{self.key}'"
        runs_by_target: dict[str, list[Any]] = {}
        for run in self._call(
            "looking for the run", self.client.search_runs, [self.destination.experiment_id], query, max_results=1000
        ):
            runs_by_target.setdefault(run.data.tags.get(TARGET_TAG, ""), []).append(run)
        return {
            name: [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]
            for name, runs in runs_by_target.items()
        }

    def _find_or_create_run(self, name: str, run_name: str, tags: Mapping[str, str]) -> str:
        """The id of the run of a target, or of the suite; created if it does not exist."""
        if name in self.destination.runs:
            return self.destination.runs[name]
        attempted = False

        def find_or_create() -> str:
            nonlocal attempted
            if attempted and (ids := self._existing().get(name)):  # the response of the previous attempt was lost
                return ids[0]
            attempted = True
            marks = {KEY_TAG: self.key, **({TARGET_TAG: name} if name else {})}
            created = self.client.create_run(
                self.destination.experiment_id, self.stored.started_ms, {**tags, **marks}, run_name[:250]
            )
            return str(created.info.run_id)

        run_id = str(self._call("creating the run", find_or_create))
        self.state.record(self.destination, run=(name, run_id))
        return run_id

    def _parts_of_suite(self, tags: Mapping[str, str]) -> Iterator[Callable[[], None]]:
        """The steps for the run of the suite, independent of each other."""
        stored, log, run_id = self.stored, self.settings.log, self._run("")
        values = {stored.epochs: payload.run_metrics(stored)} if "metrics" in log else {}
        parts: dict[str, Callable[[], None]] = {
            "suite": lambda: self._batch(run_id, values, payload.run_params(stored), tags)
        }
        if "dataset" in log:
            if is_whole(stored):
                parts["rows"] = self._send_rows
            parts["dataset"] = lambda: self._send_dataset(run_id)
        if "table" in log:
            parts["baseline"] = lambda: self._send_baseline(run_id)
        if "report" in log:
            parts["report"] = lambda: self._send_reports(run_id)
        return (partial(self._step, step, part) for step, part in parts.items())

    def _send_target(self, name: str, steps: Mapping[int, Values], traces: TracePool) -> None:
        stored, log = self.stored, self.settings.log
        tags = {**payload.target_tags(stored, name, self.settings), "mlflow.parentRunId": self._run("")}
        if "table" in log:
            tags[LOGGED_TAG] = LOGGED_TABLE
        run_id = self._find_or_create_run(name, name, tags)
        values = dict(steps)
        if "metrics" in log:
            metric_values = payload.target_metrics(stored.metrics.targets[name].metrics)
            values[stored.epochs] = {**metric_values, **payload.usage_metrics(stored, name)}
        self._step(f"target {name}", lambda: self._batch(run_id, values, payload.target_params(stored, name), tags))
        if "dataset" in log:
            self._step(f"dataset {name}", lambda: self._send_dataset(run_id))
        if "table" in log:
            self._step(f"table {name}", lambda: self._send_table(run_id, name))
        if "traces" in log:
            sender = TraceSender(self.client, stored, self.state, self.destination, name, self.retrier)
            self._step(f"traces {name}", lambda: sender.send(traces))
        self._finish_run(run_id, stored.status)

    def _batch(
        self, run_id: str, steps: Mapping[int, Values], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        at = self.destination.stamp_ms
        metrics = [Metric(key, value, at, step) for step, values in steps.items() for key, value in values.items()]
        items = [Param(key, value) for key, value in params.items()]
        marks = [RunTag(key, value) for key, value in tags.items()]
        while metrics or items or marks:
            now = (metrics[:METRICS_PER_REQUEST], items[:TAGS_PER_REQUEST], marks[:TAGS_PER_REQUEST])
            self._call("metrics", self.client.log_batch, run_id, *now)
            metrics, items, marks = metrics[METRICS_PER_REQUEST:], items[TAGS_PER_REQUEST:], marks[TAGS_PER_REQUEST:]

    def _send_rows(self) -> None:
        """Send the rows of the dataset, the source of the dataset input of every run."""
        with tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
            path = Path(folder) / ROWS_FILE
            write_dataset(read_rows(self.stored.folder), self.stored, path)
            self._call("dataset", self.client.log_artifact, self._run(""), str(path))

    def _send_dataset(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=dataset_name(self.stored),
            digest=self.stored.run.dataset.digest[: payload.MAX_DIGEST_LENGTH],
            **source_of(self.stored, self._run("")),
            profile=json.dumps({"num_rows": self.stored.run.dataset.rows}),
        )
        dataset_input = DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])
        self._call("dataset", self.client.log_inputs, run_id, [dataset_input])

    def _send_reports(self, run_id: str) -> None:
        for name in REPORTS:
            path = self.stored.folder / name
            if path.is_file():
                self._call(name, self.client.log_artifact, run_id, str(path))

    def _send_baseline(self, run_id: str) -> None:
        """Send the scores of every row, for gates with `baseline: mlflow:…`."""
        baseline = baseline_of_run(RunFolder(self.stored.folder))
        with tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
            path = Path(folder) / BASELINE_FILE
            write_baseline(path, baseline.head, baseline.rows.values())
            self._call("baseline", self.client.log_artifact, run_id, str(path))

    def _send_table(self, run_id: str, name: str) -> None:
        frame = evaluation_frame(read_rows(self.stored.folder), self.stored.run, [name])
        with tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
            path = Path(folder) / TABLE_FILE
            write_table(frame, path)
            # not log_table of MLflow, which appends rows if it is called twice
            self._call("table", self.client.log_artifact, run_id, str(path))

    def _finish_run(self, run_id: str, status: str) -> None:
        self._call("finishing the run", self.client.set_terminated, run_id, status, self.stored.finished_ms)

    def _remove_duplicates(self) -> None:
        """Delete runs that a server created although its response was lost."""
        for name, ids in self._existing().items():
            for run_id in ids:
                if run_id != self.destination.runs.get(name):
                    self._call("removing a duplicate", self.client.delete_run, run_id)


def run_key(stored: StoredRun) -> str:
    """The key that identifies a run in MLflow; its id alone could be used on another machine too."""
    text = f"{stored.id} {to_json(stored.run.started_at)} {stored.run.suite} {stored.run.dataset.digest}"
    return hashlib.sha256(text.encode("utf-8", errors="backslashreplace")).hexdigest()[:32]


def content_of(stored: StoredRun, settings: Settings) -> str:
    """A digest of what is sent; it changes if the run is resumed."""
    parts = (
        str((stored.folder / ROW_LOG_FILE).stat().st_size) if (stored.folder / ROW_LOG_FILE).is_file() else "0",
        str(to_json(stored.run.finished_at)),
        ",".join(sorted(settings.log)),
    )
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


class MlflowExporter:
    """Send runs to MLflow."""

    options = MlflowSpec

    def check(self, options: MlflowSpec | None, address: str | None, *, suite: str) -> str:
        """The destination without a login. Raises SuiteError for a wrong address, MissingExtraError without MLflow."""
        settings = settings_of(options, address, suite=suite, run_id="", environ=os.environ)
        check_mlflow("tracking runs with MLflow")
        return settings.display_uri

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
            settings, policy = stored_settings(run, address), stored_policy(run)
            # an address of the command line is the choice of who stores the run, not of its suite
            if settings.remote and not address and (refusal := policy.refusal(settings.uri)) is not None:
                raise SuiteError(refusal)
            with policy.active():
                return _send(stored, settings, Retrier(patience_s, stop))

    def note_unsent(self, folder: Path, address: str | None, problem: str) -> TrackingResult:
        """Record in the run's folder that it was not sent."""
        settings = stored_settings(RunRecord.load(folder), address)
        state = SendState(folder)
        destination = state.destination(settings.display_uri, settings.experiment)
        destination.problem = problem
        state.write()
        return _result(destination)

    def tables(self, folder: Path, targets: Sequence[str]) -> dict[str, Any]:
        """`eval_results_table`: a pandas DataFrame with the columns that `mlflow.evaluate` gave it."""
        return {TABLE: evaluation_frame(read_rows(folder), RunRecord.load(folder), targets)}


mlflow = MlflowExporter()


def stored_settings(run: RunRecord, address: str | None) -> Settings:
    """The settings for sending a stored run, variables of its suite filled in again. Raises SuiteError."""
    spec = stored_spec(run, os.environ, elsewhere=bool(address))
    return settings_of(spec, address, suite=run.suite, run_id=run.run_id, environ=os.environ)


def stored_policy(run: RunRecord) -> EgressPolicy:
    """The hosts that the suite of a stored run allows, variables filled in again. Raises SuiteError."""
    hosts = (run.resolved.get("run") or {}).get("allow_hosts")
    given = RunOptions(allow_hosts=tuple(run.options.get("allow_hosts", ())))
    outer = policy_of(with_trust_of(run.options, given))
    try:
        policy = EgressPolicy.of(
            None if hosts is None else [interpolate(text) for text in ([hosts] if isinstance(hosts, str) else hosts)]
        )
    except (TypeError, ValueError) as wrong:
        raise SuiteError(f"run.allow_hosts of the run cannot be read: {wrong}") from None
    return policy.within(outer)


def _send(stored: StoredRun, settings: Settings, retrier: Retrier) -> TrackingResult:
    state = SendState(stored.folder)
    destination = state.destination(settings.display_uri, settings.experiment)
    content = content_of(stored, settings)
    again = destination.sent and destination.content == content
    try:
        with mlflow_client(settings.uri) as client:
            sender = Sender(client, stored, settings, state, destination, retrier)
            if again and sender.is_there():
                return _result(destination, already_sent=True)
            state.begin(destination, content, stored.finished_ms)
            sender.send()
    except NotSent as refused:
        destination.problem = str(refused)
        state.write()
        return _result(destination)
    except (RunError, SuiteError):
        raise
    except Exception as error:  # MLflow and its packages raise too many types to list; the run itself is safe
        destination.problem = f"MLflow failed: {type(error).__name__}: {redact_message(str(error))[:300]}"
        state.write()
        return _result(destination)
    destination.sent, destination.problem = True, None
    state.write()
    return _result(destination)


def _result(destination: Destination, *, already_sent: bool = False) -> TrackingResult:
    location = f"experiment {destination.experiment!r} at {destination.url or f'{destination.uri}, run {destination.suite_run_id}'}"
    return TrackingResult(destination.uri, location, destination.suite_run_id, destination.problem, already_sent)
