"""A stored run sent to MLflow: a run for the suite, below it one for each target.

Every step finds what an earlier try has done, or does something that can be done twice: runs are looked for by a tag
before they are made, metrics carry the time of the run, artifacts replace themselves. So a sending that broke off is
simply made again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import write_baseline
from evalrunner.baselines.resolve import baseline_of_run
from evalrunner.mlflow import payload, trace_pool
from evalrunner.mlflow.baseline import FILE as BASELINE_FILE
from evalrunner.mlflow.dataset import ROWS
from evalrunner.mlflow.dataset_input import dataset_name, is_whole, source_of, write_dataset
from evalrunner.mlflow.epochs import earlier_steps
from evalrunner.mlflow.payload import KEY_TAG, TARGET_TAG, StoredRun, Values
from evalrunner.mlflow.retry import NotSent, Retrier
from evalrunner.mlflow.settings import Settings
from evalrunner.mlflow.state import Ledger, Place
from evalrunner.mlflow.table import TABLE, evaluation_frame, write_table
from evalrunner.mlflow.trace_pool import Lanes
from evalrunner.mlflow.traces import TraceSender
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.record import to_json
from evalrunner.runs.row_log import NAME as ROWS_FILE
from evalrunner.runs.row_log import read_rows

AT_ONCE = 4  # targets and parts of the suite that are sent side by side to a server; a database is written by one
METRICS_AT_ONCE, TAGS_AT_ONCE = 800, 100  # MLflow takes 1,000 things in one request, 100 of them tags, 100 parameters
REPORTS = ("report.html", "summary.md", "metrics.json")
TABLE_FILE = f"{TABLE}.json"
LOGGED_TAG = "mlflow.loggedArtifacts"  # by it the evaluation view finds its tables
LOGGED_TABLE = '[{"path": "eval_results_table.json", "type": "table"}]'


class Sender:
    """Sends one stored run to one place."""

    def __init__(
        self, client: Any, stored: StoredRun, settings: Settings, ledger: Ledger, place: Place, retrier: Retrier
    ) -> None:
        self.client, self.stored, self.settings = client, stored, settings
        self.ledger, self.place, self.retrier = ledger, place, retrier
        self.key = run_key(stored)

    def send(self) -> None:
        """Send what is not there yet. Raises NotSent; what is done by then is noted."""
        self.place.experiment_id = self._find_experiment()
        there = {name: ids[0] for name, ids in self._existing().items()}
        if any(there.get(name) != run_id for name, run_id in self.place.runs.items()):  # deleted there since
            self.place.forget()
        self.place.runs = there
        tags = payload.run_tags(self.stored, self.settings)
        self._make_run("", self.settings.run_name, tags)
        steps = earlier_steps(self.stored) if "metrics" in self.settings.log else {}
        lanes_at_once, at_once = (trace_pool.AT_ONCE, AT_ONCE) if self.settings.remote else (1, 1)
        with Lanes(lanes_at_once) as traces, ThreadPoolExecutor(at_once, "evalrun-mlflow") as pool:
            sendings = [
                *(pool.submit(part) for part in self._parts_of_suite(tags)),
                *(pool.submit(self._send_target, name, steps.get(name, {}), traces) for name in self.stored.targets),
            ]
        refused = [error for sending in sendings if (error := sending.exception()) is not None]
        if refused:
            raise refused[0]
        self._end(self._run(""), self.stored.status)
        self._remove_doubles()

    def is_there(self) -> bool:
        """Whether every run that was sent is still there."""
        there = self._existing()
        return all(run_id in there.get(name, []) for name, run_id in self.place.runs.items())

    def _call(self, what: str, action: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.retrier.call(what, action, *args, **options)

    def _once(self, step: str, action: Callable[[], None]) -> None:
        """Do a step unless it is noted as done."""
        if step not in self.place.done:
            action()
            self.ledger.note(self.place, done=step)

    def _run(self, name: str) -> str:
        return self.place.runs[name]

    def _find_experiment(self) -> str:
        name = self.settings.experiment

        def find_or_create() -> str:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                return str(self.client.create_experiment(name))
            if found.lifecycle_stage != "active":
                raise NotSent(f"the experiment {name!r} is deleted there; restore it or name another")
            return str(found.experiment_id)

        try:
            return str(self._call(f"experiment {name!r}", find_or_create))
        except NotSent as refused:
            if "already exists" not in str(refused):  # somebody else was faster
                raise
            return str(self._call(f"experiment {name!r}", find_or_create))

    def _existing(self) -> dict[str, list[str]]:
        """What is there of this run, by target: MLflow's ids, the oldest first."""
        query = f"tags.`{KEY_TAG}` = '{self.key}'"
        found: dict[str, list[Any]] = {}
        for run in self._call(
            "looking for the run", self.client.search_runs, [self.place.experiment_id], query, max_results=1000
        ):
            found.setdefault(run.data.tags.get(TARGET_TAG, ""), []).append(run)
        return {
            name: [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]
            for name, runs in found.items()
        }

    def _make_run(self, name: str, run_name: str, tags: Mapping[str, str]) -> str:
        """The id of the run of a target, or of the suite: the one that is there, else a new one."""
        if name in self.place.runs:
            return self.place.runs[name]
        asked = False

        def find_or_create() -> str:
            nonlocal asked
            if asked and (ids := self._existing().get(name)):  # the answer to the try before was lost
                return ids[0]
            asked = True
            marks = {KEY_TAG: self.key, **({TARGET_TAG: name} if name else {})}
            made = self.client.create_run(
                self.place.experiment_id, self.stored.started_ms, {**tags, **marks}, run_name[:250]
            )
            return str(made.info.run_id)

        run_id = str(self._call("making the run", find_or_create))
        self.ledger.note(self.place, run=(name, run_id))
        return run_id

    def _parts_of_suite(self, tags: Mapping[str, str]) -> Iterator[Callable[[], None]]:
        """What the run of the suite gets; no part waits for another."""
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
        return (partial(self._once, step, part) for step, part in parts.items())

    def _send_target(self, name: str, steps: Mapping[int, Values], traces: Lanes) -> None:
        stored, log = self.stored, self.settings.log
        tags = {**payload.target_tags(stored, name, self.settings), "mlflow.parentRunId": self._run("")}
        if "table" in log:
            tags[LOGGED_TAG] = LOGGED_TABLE
        run_id = self._make_run(name, name, tags)
        values = dict(steps)
        if "metrics" in log:
            own = payload.target_metrics(stored.metrics.targets[name].metrics)
            values[stored.epochs] = {**own, **payload.usage_metrics(stored, name)}
        self._once(f"target {name}", lambda: self._batch(run_id, values, payload.target_params(stored, name), tags))
        if "dataset" in log:
            self._once(f"dataset {name}", lambda: self._send_dataset(run_id))
        if "table" in log:
            self._once(f"table {name}", lambda: self._send_table(run_id, name))
        if "traces" in log:
            sender = TraceSender(self.client, stored, self.ledger, self.place, name, self.retrier)
            self._once(f"traces {name}", lambda: sender.send(traces))
        self._end(run_id, stored.status)

    def _batch(
        self, run_id: str, steps: Mapping[int, Values], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        at = self.place.stamp_ms
        metrics = [Metric(key, value, at, step) for step, values in steps.items() for key, value in values.items()]
        items = [Param(key, value) for key, value in params.items()]
        marks = [RunTag(key, value) for key, value in tags.items()]
        while metrics or items or marks:
            now = (metrics[:METRICS_AT_ONCE], items[:TAGS_AT_ONCE], marks[:TAGS_AT_ONCE])
            self._call("metrics", self.client.log_batch, run_id, *now)
            metrics, items, marks = metrics[METRICS_AT_ONCE:], items[TAGS_AT_ONCE:], marks[TAGS_AT_ONCE:]

    def _send_rows(self) -> None:
        """The rows of the dataset, which is the source of the input that every run has."""
        with tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
            path = Path(folder) / ROWS
            write_dataset(read_rows(self.stored.folder), self.stored, path)
            self._call("dataset", self.client.log_artifact, self._run(""), str(path))

    def _send_dataset(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=dataset_name(self.stored),
            digest=self.stored.run.dataset.digest[: payload.DIGEST_LENGTH],
            **source_of(self.stored, self._run("")),
            profile=json.dumps({"num_rows": self.stored.run.dataset.rows}),
        )
        given = DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])
        self._call("dataset", self.client.log_inputs, run_id, [given])

    def _send_reports(self, run_id: str) -> None:
        for name in REPORTS:
            path = self.stored.folder / name
            if path.is_file():
                self._call(name, self.client.log_artifact, run_id, str(path))

    def _send_baseline(self, run_id: str) -> None:
        """The scores of every row, so that a gate elsewhere can compare with this run: `baseline: mlflow:…`."""
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
            # not mlflow's log_table: called twice, it adds the rows to those that are there
            self._call("table", self.client.log_artifact, run_id, str(path))

    def _end(self, run_id: str, status: str) -> None:
        self._call("ending the run", self.client.set_terminated, run_id, status, self.stored.finished_ms)

    def _remove_doubles(self) -> None:
        """Delete a run that a server made although its answer never came."""
        for name, ids in self._existing().items():
            for run_id in ids:
                if run_id != self.place.runs.get(name):
                    self._call("removing a double", self.client.delete_run, run_id)


def run_key(stored: StoredRun) -> str:
    """What a run is found by again: its id alone could be another machine's."""
    said = f"{stored.id} {to_json(stored.run.started_at)} {stored.run.suite} {stored.run.dataset.digest}"
    return hashlib.sha256(said.encode("utf-8", errors="backslashreplace")).hexdigest()[:32]


def content_of(stored: StoredRun, settings: Settings) -> str:
    """What is to be sent, as a digest: a run that was gone on with is another content."""
    parts = (
        str((stored.folder / ROWS_FILE).stat().st_size) if (stored.folder / ROWS_FILE).is_file() else "0",
        str(to_json(stored.run.finished_at)),
        ",".join(sorted(settings.log)),
    )
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]
