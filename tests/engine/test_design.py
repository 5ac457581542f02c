"""Reducers, clusters and slices in whole runs: valid and invalid suites, and what reaches the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.reports.terminal import TerminalReporter

SUITE = """\
name: s
dataset: {path: rows.jsonl%s}
target: {type: recorded, column: out}
scorers: [exact_match]
%s
"""


def write_suite(more: str = "", *, dataset: str = "", topics: int = 3) -> str:
    rows = [
        {"id": f"q{i}", "input": "?", "expected": "yes", "out": "yes" if i % 3 else "no", "topic": f"t{i % topics}",
         "passage": i // 4}
        for i in range(240)
    ]  # fmt: skip
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    Path("s.yaml").write_text(SUITE % (dataset, more))
    return "s.yaml"


def problems(more: str, *, dataset: str = "", topics: int = 3) -> list[str]:
    with pytest.raises(evalrunner.SuiteError) as caught:
        evalrunner.run_suite(write_suite(more, dataset=dataset, topics=topics))
    return [str(problem) for problem in caught.value.problems]


def metrics(result: Any) -> list[dict[str, Any]]:
    actual: list[dict[str, Any]] = json.loads((result.folder / "metrics.json").read_text())["targets"]["recorded"][
        "metrics"
    ]
    return [metric for metric in actual if metric["scorer"] == "exact_match"]


def test_slices_clusters_and_reducers_are_in_the_files() -> None:
    more = "slices: [topic]\nrun: {epochs: 2, reducer: [mean, at_least_2]}"
    result = evalrunner.run_suite(write_suite(more, dataset=", cluster: passage"))
    assert [(each["name"], each["reducer"], each["slice"], each["method"], each["n"]) for each in metrics(result)] == [
        ("exact_match/v1", "mean", None, "wilson-clustered", 240),
        ("exact_match/v1/at_least_2", "at_least_2", None, "wilson-clustered", 240),
        *[
            (name, reducer, {"topic": topic}, "wilson-clustered", 80)
            for topic in ("t0", "t1", "t2")
            for name, reducer in (("exact_match/v1", "mean"), ("exact_match/v1/at_least_2", "at_least_2"))
        ],
    ]
    assert result.metrics["exact_match/v1"] == pytest.approx(2 / 3)  # of all samples, not of the last slice
    run = json.loads((result.folder / "run.json").read_text())
    assert (run["reducers"], run["cluster"], run["slices"]) == (["mean", "at_least_2"], "passage", ["topic"])


def test_a_slice_without_an_interval_is_printed_without_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_text(
        "name: s\ndataset: {rows: [{input: a, expected: a, out: a, topic: one}]}\nslices: [topic]\n"
        "target: {type: recorded, column: out}\nscorers: [{type: python, function: 'builtins:len', unit: characters}]\n"
    )
    result = evalrunner.run_suite("s.yaml", reporters=(TerminalReporter(verbose=True),))
    assert result.exit_code == 0
    printed = capsys.readouterr().out
    assert "n=1" in printed
    assert "(–)" not in printed


def test_reducer_is_accepted_at_the_top_of_the_suite() -> None:
    result = evalrunner.run_suite(write_suite("reducer: median\nrun: {epochs: 2}"))
    assert [each["reducer"] for each in metrics(result)] == ["median"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "run: {epochs: 2, reducer: at_least_3}",
            "s.yaml:5:27: run.reducer: 'at_least_3' needs 3 epochs; the suite runs 2",
        ),
        ("reducer: meen", "s.yaml:5:10: reducer: unknown reducer 'meen'; did you mean 'mean'?"),
        ("reducer: [mean, mean]", "s.yaml:5:17: reducer[1]: 'mean' is listed twice"),
        ("reducer: []", "s.yaml:5:10: reducer: is empty; name a reducer, such as mean, or remove the key"),
        (
            "reducer: mean\nrun: {reducer: mean}",
            "s.yaml:5:10: reducer: cannot be combined with 'run.reducer'; keep one of them",
        ),
        ("slices: [topik]", "s.yaml:5:10: slices[0]: no sample has a value of 'topik'; did you mean 'topic'?"),
        ("slices: [topic, topic]", "s.yaml:5:17: slices[1]: duplicate 'topic'; remove one"),
        ("slices: [id]", "s.yaml:5:10: slices[0]: 'id' has over 100 values; slices are for columns with a few"),
        ("slices: topic", "s.yaml:5:9: slices: is 'topic'; it should be a list"),
    ],
)
def test_invalid_design_is_a_suite_error(more: str, expected: str) -> None:
    assert problems(more) == [expected]


def test_cluster_column_without_values_is_a_suite_error() -> None:
    assert problems("", dataset=", cluster: pasage") == [
        "s.yaml:2:38: dataset.cluster: no sample has a value of 'pasage'; did you mean 'passage'?"
    ]


def test_scores_that_are_all_0_or_1_are_named_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tone.py").write_text("def tone(output): return float(len(output) % 2)\n")
    Path("s.yaml").write_text(
        "name: s\ndataset: {rows: [{input: a, out: a}, {input: b, out: bb}]}\n"
        "target: {type: recorded, column: out}\nscorers: [{type: python, name: tone, function: 'tone.py:tone'}]\n"
    )
    result = evalrunner.run_suite("s.yaml", reporters=(TerminalReporter(verbose=True),))
    every = json.loads((result.folder / "metrics.json").read_text())["targets"]["recorded"]["metrics"]
    tone = next(each for each in every if each["scorer"] == "tone")
    assert (tone["name"], tone["method"]) == ("tone/v1/mean", "wilson")
    assert "tone/v1/mean: all scores are 0 or 1, so they are treated as pass or fail" in capsys.readouterr().out
