"""The records of a run: what is written is read back, and a broken file is one error that names file and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.errors import InvalidRunError
from evalrunner.runs.record import SCHEMA_VERSION, MetricsRecord, RunRecord

SUITE = """\
name: s
dataset: {rows: [{input: a, expected: b, one: b, two: c, topic: x}, {input: d, expected: e, one: e, two: e, topic: y}]}
targets: [{type: recorded, name: one, column: one}, {type: recorded, name: two, column: two}]
scorers: [exact_match]
gates: [exact_match >= 0.5]
slices: [topic]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of two targets with a gate, slices and a comparison."""
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SUITE)
    return evalrunner.run_suite("s.yaml").folder


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def test_run_json_that_is_read_and_written_is_the_same(folder: Path) -> None:
    text = (folder / "run.json").read_text()
    record = RunRecord.load(folder)
    record.write(folder)
    assert (folder / "run.json").read_text() == text
    assert RunRecord.load(folder) == record
    assert (record.suite, record.status, record.verdict, list(record.targets)) == (
        "s",
        "finished",
        "pass",
        ["one", "two"],
    )


def test_metrics_json_that_is_read_and_written_is_the_same(folder: Path) -> None:
    text = (folder / "metrics.json").read_text()
    metrics = MetricsRecord.load(folder)
    metrics.write(folder)
    assert (folder / "metrics.json").read_text() == text
    assert MetricsRecord.load(folder) == metrics
    assert metrics.comparison is not None and [gate.verdict for gate in metrics.gates] == ["pass", "pass"]


def test_the_measures_of_a_record_are_those_of_the_run(folder: Path) -> None:
    record = RunRecord.load(folder)
    assert [(one.name, one.declaration.binary, one.declaration.version) for one in record.measures] == [
        ("exact_match", True, "v1")
    ]
    assert (record.design.slices, record.design.seed) == (("topic",), 0)


def test_a_running_record_has_no_metrics(folder: Path) -> None:
    running = replace(RunRecord.load(folder), status="running")
    assert (running.is_complete, running.load_metrics(folder)) == (False, None)


def test_unknown_keys_are_ignored(folder: Path) -> None:
    record = RunRecord.load(folder)
    change(folder / "run.json", lambda data: (data.update(later=1), data["targets"]["one"].update(later={})))
    assert RunRecord.load(folder) == record


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data.pop("dataset"), "dataset is missing"),
        (lambda data: data["dataset"].pop("digest"), "dataset.digest is missing"),
        (lambda data: data.update(epochs="two"), 'epochs should be a whole number, not "two"'),
        (lambda data: data.update(epochs=True), "epochs should be a whole number, not true"),
        (lambda data: data.update(status="done"), 'status should be one of running, finished, stopped, interrupted, not "done"'),
        (lambda data: data.update(started_at="yesterday"), 'started_at should be a time, not "yesterday"'),
        (lambda data: data.update(targets=[]), "targets should be a mapping, not []"),
        (lambda data: data.update(notices="one"), 'notices should be a list, not "one"'),
        (lambda data: data["scorers"]["exact_match"].update(range=[0]), "scorers.exact_match.range should be a list of 2, not [0]"),
        (lambda data: data["targets"]["one"].update(usage={"calls": 1.5}), "targets.one.usage.calls should be a whole number, not 1.5"),
    ],
)  # fmt: skip
def test_a_missing_or_mistyped_field_is_named_with_its_file(
    folder: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(folder / "run.json", edit)
    with pytest.raises(InvalidRunError) as raised:
        RunRecord.load(folder)
    assert str(raised.value) == f"{folder / 'run.json'}: {message}; restore the file or name another run"


def test_a_broken_comparison_is_named_with_its_file(folder: Path) -> None:
    change(folder / "metrics.json", lambda data: data["comparison"].pop("metrics"))
    with pytest.raises(InvalidRunError, match="metrics.json: comparison is broken: KeyError"):
        MetricsRecord.load(folder)


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
def test_a_file_of_a_newer_or_older_version_is_refused(folder: Path, name: str) -> None:
    kind: Any = RunRecord if name == "run.json" else MetricsRecord
    change(folder / name, lambda data: data.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(InvalidRunError, match=f"{name}: written by a newer version of evalrun .*; upgrade evalrun"):
        kind.load(folder)
    change(folder / name, lambda data: data.update(schema_version=1))
    with pytest.raises(
        InvalidRunError, match=f"{name}: written by an older version of evalrun .*; run the suite again"
    ):
        kind.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found; name the folder of a run that has it"),
        ("{", r"cannot be read \(.*\); restore the file or name another run"),
        ("[]", r"the file should be a mapping, not \[\]; restore the file or name another run"),
        ("{}", "schema_version is missing; restore the file or name another run"),
    ],
)
def test_a_missing_or_unreadable_file_is_one_error(folder: Path, content: str | None, message: str) -> None:
    path = folder / "metrics.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InvalidRunError, match=f"metrics.json: {message}"):
        MetricsRecord.load(folder)
