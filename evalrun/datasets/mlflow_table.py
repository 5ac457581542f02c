"""The questions of an earlier MLflow run: its evaluation table as rows of a dataset."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalrun.mlflow_package import check_mlflow, quiet_mlflow
from evalrun.redact import LOGIN, redact_message

TABLE = "eval_results_table.json"  # what mlflow.evaluate and evalrun write
RUN = re.compile(r"(runs:/)?(?P<id>[0-9a-f]{32})/?")
NAMES = {"inputs": "input", "ground_truth": "expected", "targets": "expected"}
RESULTS = re.compile(r".+/(score|justification|state)")  # of scorers: they will be made anew
MEASURED = {"epoch", "target", "latency", "token_count", "cost_usd", "ended", "ttft", "output_rate"}


def rows_from_mlflow(reference: str) -> tuple[Mapping[str, Any], ...]:
    """The rows of a run's table: `inputs` as input, `ground_truth` as expected, the answers as `outputs`.

    Of several epochs the first. Raises ValueError where there is no such run or table, or MLflow cannot be asked.
    """
    found = RUN.fullmatch(reference)
    if found is None:
        raise ValueError(f"{reference!r} should be the id of an MLflow run, 32 hex digits, or runs:/ID")
    check_mlflow("dataset: {mlflow: …}")
    try:
        with quiet_mlflow(), tempfile.TemporaryDirectory(prefix="evalrun-") as folder:
            table = json.loads(_download(found["id"], folder).read_text(encoding="utf-8"))
    except ValueError:
        raise
    except Exception as refused:  # MLflow, requests and databases each raise their own
        said = " ".join(LOGIN.sub("://", redact_message(str(refused))).split())[:300]
        raise ValueError(f"{reference!r} cannot be read from MLflow: {said}") from None
    return tuple(_rows(table))


def _download(run_id: str, folder: str) -> Path:
    """The table's file: that of the run, or of the one run below it that has one."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.get_run(run_id)
    below = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    having = [
        one for one in (run, *below) if TABLE in [item.path for item in client.list_artifacts(one.info.run_id)]
    ]  # fmt: skip
    if not having:
        raise ValueError(f"the run {run_id!r} has no {TABLE}")
    if len(having) > 1:
        names = ", ".join(f"{one.info.run_name} {one.info.run_id}" for one in having[:5])
        raise ValueError(f"the run {run_id!r} has several tables; name the run of one target: {names}")
    return Path(client.download_artifacts(having[0].info.run_id, TABLE, folder))


def _rows(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    columns = [str(name) for name in table["columns"]]
    for values in table["data"]:
        row = dict(zip(columns, values, strict=True))
        if row.get("epoch", 1) != 1:
            continue
        kept = {
            NAMES.get(name, name): value
            for name, value in row.items()
            if name not in MEASURED and not RESULTS.fullmatch(name)
        }
        expected = kept.get("expected")
        if isinstance(expected, str) and expected.startswith("["):
            kept["expected"] = _several(expected)
        yield kept


def _several(text: str) -> Any:
    """The accepted answers that we write as a JSON list; any other text as it is."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else text
