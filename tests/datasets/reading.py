"""Helpers of the dataset tests: write a file into the working folder, open, scan and read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import pytest

from evalrunner.datasets.resolve import open_dataset
from evalrunner.datasets.source import SampleSource, Scan
from evalrunner.domain import Sample
from evalrunner.errors import SuiteError
from evalrunner.suite.columns import ColumnSpec, ColumnsSpec
from evalrunner.suite.schema import DatasetSpec

HERE = Path()
SPOOL = Path("spool")


def write(name: str, content: str | bytes) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def columns(**mapped: str | tuple[str, ...] | ColumnSpec) -> ColumnsSpec:
    return ColumnsSpec(
        **{name: item if isinstance(item, ColumnSpec) else ColumnSpec(item) for name, item in mapped.items()}
    )


def source(path: str | None = None, *, folder: Path = HERE, stdin: BinaryIO | None = None, **spec: Any) -> SampleSource:
    return open_dataset(DatasetSpec(path=path, **spec), folder=folder, spool_folder=SPOOL, stdin=stdin)


def scan(path: str | None = None, **spec: Any) -> Scan:
    return source(path, **spec).scan(lambda sample: ())


def samples(path: str | None = None, **spec: Any) -> list[Sample]:
    """The samples of a dataset, which are the same in every pass."""
    opened = source(path, **spec)
    opened.scan(lambda sample: ())
    result = list(opened)
    assert result == list(opened)
    assert [sample.index for sample in result] == list(range(len(result)))
    return result


def inputs(path: str | None = None, **spec: Any) -> list[Any]:
    return [sample.input for sample in samples(path, **spec)]


def problems(path: str | None = None, **spec: Any) -> list[str]:
    """The messages for an invalid dataset, line by line."""
    with pytest.raises(SuiteError) as raised:
        source(path, **spec).scan(lambda sample: ())
    return [str(problem) for problem in raised.value.problems]
