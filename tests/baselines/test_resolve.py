"""Baselines resolved from references, and the file they are stored in."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner.baselines.file import Baseline, BaselineHead, baseline_path, collect_rows, read_baseline, write_baseline
from evalrunner.baselines.resolve import (
    BadBaselineReference,
    BaselineResolver,
    how_to_create,
    is_path,
    missing_reason,
    resolve_baselines,
)
from evalrunner.errors import RunNotFoundError, SuiteError
from evalrunner.stats.summary import Measure
from evalrunner.suite.gates import read_gates
from evalrunner.suite.validate import SectionReader
from evalrunner.suite.yaml import parse_document
from tests.gates.builders import provenance_of, rows

EXACT = "exact_match"
GATE = "gates: [{metric: exact_match, baseline: %s, max_drop: 0.1}]"


def stored(path: Path, scores: list[float | str | None] | None = None) -> Baseline:
    """A baseline written to a file and read back."""
    from evalrunner.domain import Declaration

    measure = Measure(EXACT, Declaration(binary=True))
    head = BaselineHead("main", "run-0", None, provenance_of(measure, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_baseline(path, head, collect_rows(rows(scores or [1.0, 0.0], EXACT), epochs=1).values())
    return read_baseline(path, label=path.stem)


def resolver(folder: Path) -> BaselineResolver:
    return BaselineResolver(folder, "s", folder / "runs")


def test_a_baseline_file_round_trips(tmp_path: Path) -> None:
    path = baseline_path(tmp_path, "s", "main")
    result = stored(path, [1.0, 0.0, "server: 500", "no_answer: refused", "judge: unreadable", None])
    scores = {key: row.scores[EXACT] for (_, key), row in result.rows.items()}
    assert scores == {"s0": (1.0,), "s1": (0.0,), "s2": (None,), "s3": (None,), "s4": (None,), "s5": (None,)}
    states = [result.rows["m", f"s{n}"].states[EXACT] for n in range(6)]
    assert states == [("scored",), ("scored",), ("error",), ("no_answer",), ("judge",), ("skipped",)]
    before = path.read_bytes()
    write_baseline(path, result.head, result.rows.values())
    assert path.read_bytes() == before


def test_a_name_is_a_file_beside_the_suite(tmp_path: Path) -> None:
    assert resolver(tmp_path).resolve("main") is None
    stored(baseline_path(tmp_path, "s", "main"))
    result = resolver(tmp_path).resolve("main")
    assert result is not None and (result.label, result.path) == ("main", baseline_path(tmp_path, "s", "main"))


def test_a_path_is_relative_to_the_suite(tmp_path: Path) -> None:
    stored(tmp_path / "other" / "kept.jsonl")
    result = resolver(tmp_path).resolve("other/kept.jsonl")
    assert result is not None and result.label == "other/kept.jsonl"
    assert resolver(tmp_path).resolve("other/missing.jsonl") is None


@pytest.mark.parametrize(("reference", "path"), [("main", False), ("a/b", True), ("a.jsonl", True), ("run:a/b", False)])
def test_references_with_a_slash_or_jsonl_extension_are_paths(reference: str, path: bool) -> None:
    assert is_path(reference) is path


def test_a_reference_of_no_form_lists_the_forms(tmp_path: Path) -> None:
    with pytest.raises(
        BadBaselineReference, match=r"'a b' is not a baseline reference; use a name such as main, a path"
    ):
        resolver(tmp_path).resolve("a b")


def test_an_unknown_run_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError):
        resolver(tmp_path).resolve("run:20200101T000000Z-0000")


def test_each_baseline_of_a_suite_is_resolved_once_and_problems_are_reported(tmp_path: Path) -> None:
    stored(baseline_path(tmp_path, "s", "main"))
    document = parse_document(GATE % "main, slice: {a: b}" + "\n", file="s.yaml")
    specs = read_gates(SectionReader(document, tmp_path), document.data)
    assert list(resolve_baselines(document, [*specs, *specs], resolver(tmp_path))) == ["main"]
    wrong = parse_document(GATE % '"a b"' + "\n", file="s.yaml")
    specs = read_gates(SectionReader(wrong, tmp_path), wrong.data)
    assert resolve_baselines(wrong, specs, resolver(tmp_path)) == {}
    with pytest.raises(SuiteError, match=r"gates\[0\]\.baseline: 'a b' is not a baseline reference"):
        wrong.raise_problems()


def test_missing_baselines_targets_and_scorers_are_named(tmp_path: Path) -> None:
    result = stored(baseline_path(tmp_path, "s", "main"))
    assert missing_reason("main", None, "m", None, EXACT) == "no baseline 'main' yet"
    assert missing_reason("a/b.jsonl", None, "m", None, EXACT) == "no file 'a/b.jsonl' beside the suite yet"
    assert missing_reason("main", result, "n", None, EXACT) == "baseline 'main' has no target 'n' yet (it has m)"
    assert missing_reason("main", result, "m", "m", "tone") == "baseline 'main' has no scorer 'tone' yet"


def test_the_command_that_creates_a_baseline() -> None:
    assert how_to_create("main") == "create it from a good run: evalrun baseline accept"
    assert how_to_create("weekly").endswith("evalrun baseline accept last --name weekly")
    assert how_to_create("mlflow:run/1").startswith("once a run")
