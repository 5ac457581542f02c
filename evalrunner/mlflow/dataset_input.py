"""The dataset of a stored run as a file of rows, for MLflow to keep and `dataset: {mlflow: …}` to read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalrunner.domain import Row, Sample
from evalrunner.mlflow.dataset import ROWS
from evalrunner.mlflow.payload import StoredRun


def dataset_name(stored: StoredRun) -> str:
    """What a run's dataset is called in MLflow: as it was there, else as its file, else as the suite."""
    said = stored.run.resolved.get("dataset")
    path = said if isinstance(said, str) else said.get("path") if isinstance(said, Mapping) else None
    known = (stored.run.dataset_from or {}).get("name")
    return str(known or (Path(path).stem if path and path != "-" else stored.run.suite))[:250] or "dataset"


def source_of(stored: StoredRun, run_id: str) -> dict[str, str]:
    """Type and address of the dataset of a run that was sent as `run_id`, in MLflow's words."""
    if is_whole(stored):  # `local` is the type that MLflow asks its own artifacts for
        return {"source_type": "local", "source": json.dumps({"uri": f"runs:/{run_id}/{ROWS}"})}
    return {
        "source_type": "code",
        "source": json.dumps({"tags": {"mlflow.source.name": str(stored.run.suite_file)}}),
    }


def is_whole(stored: StoredRun) -> bool:
    """Whether the run's rows have every sample: a part of a dataset is not what its digest says."""
    return (stored.run.rows or 0) >= stored.run.rows_planned


def write_dataset(rows: Iterable[Row], stored: StoredRun, path: Path) -> None:
    """Write the samples of a run's rows in their order, one a line, so that they are the same ones without `columns`."""
    samples: dict[str, Sample] = {}
    for row in rows:
        samples.setdefault(row.sample.id, row.sample)
    chosen = stored.run.dataset.columns
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for sample in sorted(samples.values(), key=lambda sample: sample.index):
            file.write(json.dumps(dict(_columns(sample, chosen)), ensure_ascii=False) + "\n")


def _columns(sample: Sample, chosen: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The source's own columns, and what the suite chose under the name that it goes by everywhere.

    A column that another one stands in for is kept as `sample.NAME`.
    """
    found = {
        "id": sample.id,
        "input": sample.input,
        "expected": sample.expected[0] if len(sample.expected) == 1 else list(sample.expected),
        "messages": None if sample.messages is None else [dict(message) for message in sample.messages],
    }
    roles = {name: item for name, item in found.items() if name in chosen and item is not None}
    for name, item in sample.metadata.items():
        yield (f"sample.{name}" if name in roles and item != roles[name] else name), item
    yield from roles.items()
