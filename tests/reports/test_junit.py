"""`junit.xml`: what a CI system reads of a run: valid, counted right, the same each time, and nothing but text."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema
from junitparser import JUnitXml

import evalrunner
from evalrunner.domain import Cell, Completion, Declaration, Failure, Row, Sample
from evalrunner.reports.junit import JUnitReporter, case_name, gate_result, row_result
from evalrunner.reports.outputs import replay
from evalrunner.reports.view import TargetView
from evalrunner.runs.folder import RunFolder
from evalrunner.stats.summary import Measure
from tests.fakes.command import evalrun
from tests.reports.hostile import HOSTILE
from tests.reports.test_markdown import GATE, view

SCHEMA = xmlschema.XMLSchema(Path(__file__).with_name("junit.xsd"))
EXACT = Measure("exact_match", Declaration(binary=True))
TOXIC = Measure("toxicity", Declaration(higher_is_better=False))
OPEN = Measure("length", Declaration(low=0, high=None))
MEASURES = (EXACT, TOXIC, OPEN)


def row(place: int = 0, answer: Any = None, **cells: Cell) -> Row:
    every = {measure.name: Cell("skipped", reason="no expected answer") for measure in MEASURES} | cells
    sample = Sample(f"id-{place}", "question?", ("yes", "no"), index=place)
    return Row(sample, "a", 1, answer or Completion("maybe", latency_s=0.25), every)


def scored(value: float) -> Cell:
    return Cell("scored", value)


@pytest.mark.parametrize(
    ("row", "result"),
    [
        (row(exact_match=scored(1)), (None, "", "")),
        (row(exact_match=scored(0.5)), (None, "", "")),
        (row(exact_match=scored(0.49)), ("failure", "exact_match is 0.490", "quality")),
        (row(toxicity=scored(0.2)), (None, "", "")),
        (row(exact_match=scored(0), toxicity=scored(0.6)), ("failure", "exact_match is 0.000, toxicity is 0.600", "quality")),
        (row(length=scored(-1e9)), (None, "", "")),
        (row(), ("skipped", "no scorer applies", "skipped")),
        (row(exact_match=scored(1), toxicity=Cell("unscored", reason="unreadable", cause="judge")), ("skipped", "toxicity: judge: unreadable", "unscored")),
        (row(exact_match=scored(0), toxicity=Cell("unscored", reason="unreadable", cause="judge")), ("failure", "exact_match is 0.000", "quality")),
        (row(exact_match=scored(0), toxicity=Cell("error", reason="500", cause="server")), ("error", "toxicity: server: 500", "scorer")),
        (row(answer=Failure("timeout", "after 60 s")), ("error", "after 60 s", "timeout")),
    ],
)  # fmt: skip
def test_low_score_is_a_failure_broken_call_an_error_missing_score_skipped(row: Row, result: Any) -> None:
    assert row_result(row, MEASURES) == result


def test_gate_is_a_junit_failure_only_if_it_failed() -> None:
    message = {
        ("pass", True): None, ("fail", True): "failure", ("untrusted", True): "error", ("inconclusive", True): "error",
        ("inconclusive", False): "skipped", ("no_baseline", False): "skipped",
    }  # fmt: skip
    assert {key: gate_result(replace(GATE, verdict=key[0], blocks=key[1])) for key in message} == message


def write(folder: Path, rows: list[Row], *, junit_rows: bool = True, **changes: Any) -> str:
    folder.mkdir(exist_ok=True)
    reporter = JUnitReporter(folder / "junit.xml", rows=junit_rows)
    reporter.on_start(view(measures=MEASURES, targets={"a": TargetView(), "b": TargetView()}))
    for one in rows:
        reporter.on_row(one)
    reporter.on_end(view(**changes))
    assert [path.name for path in folder.iterdir()] == ["junit.xml"]
    return (folder / "junit.xml").read_text(encoding="utf-8")


def test_junit_has_a_suite_per_target_and_one_for_gates(tmp_path: Path) -> None:
    rows = [
        replace(row(1, exact_match=scored(0)), epoch=2),
        row(1, exact_match=scored(1)),
        replace(row(0, answer=Failure("timeout", "after 60 s")), target="b"),
        row(0),
    ]
    text = write(tmp_path / "out", rows)
    SCHEMA.validate(text)
    assert text == (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        '<testsuites name="qa" tests="5" failures="2" errors="1" time="1.500">\n'
        '  <testsuite name="qa.a" tests="3" failures="1" errors="0" time="0.750" skipped="1" timestamp="2026-01-01T00:00:00">\n'
        '    <testcase classname="qa.a" name="id-0 question?" time="0.250"><skipped message="no scorer applies"/></testcase>\n'
        '    <testcase classname="qa.a" name="id-1 question?" time="0.250"/>\n'
        '    <testcase classname="qa.a" name="id-1 (epoch 2) question?" time="0.250"><failure message="exact_match is 0.000" type="quality">'
        "exact_match: 0.000\ninput: question?\nexpected: yes | no\noutput: maybe</failure></testcase>\n"
        "  </testsuite>\n"
        '  <testsuite name="qa.b" tests="1" failures="0" errors="1" time="0.000" skipped="0" timestamp="2026-01-01T00:00:00">\n'
        '    <testcase classname="qa.b" name="id-0 question?" time="0.000"><error message="after 60 s" type="timeout">'
        "input: question?\nexpected: yes | no\noutput: timeout: after 60 s</error></testcase>\n"
        "  </testsuite>\n"
        '  <testsuite name="qa.gates" tests="1" failures="1" errors="0" time="0.000" skipped="0" timestamp="2026-01-01T00:00:00">\n'
        '    <testcase classname="qa.gates" name="exact_match &gt;= 0.8" time="0.000"><failure message="misses the threshold" type="fail">'
        "exact_match &gt;= 0.8 is 0.500: misses the threshold\nline 7 of the suite</failure></testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )


def test_without_rows_gates_are_the_only_tests(tmp_path: Path) -> None:
    text = write(tmp_path / "out", [row(1, exact_match=scored(0))], junit_rows=False)
    SCHEMA.validate(text)
    assert text == (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        '<testsuites name="qa" tests="1" failures="1" errors="0" time="1.500">\n'
        '  <testsuite name="qa.gates" tests="1" failures="1" errors="0" time="0.000" skipped="0" timestamp="2026-01-01T00:00:00">\n'
        '    <testcase classname="qa.gates" name="exact_match &gt;= 0.8" time="0.000"><failure message="misses the threshold" type="fail">'
        "exact_match &gt;= 0.8 is 0.500: misses the threshold\nline 7 of the suite</failure></testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )


@pytest.mark.parametrize(
    ("stopped", "result"),
    [(None, ""), ("the cost cap was reached", '<error message="the cost cap was reached" type="stopped"></error>')],
)
def test_a_run_without_gates_is_one_test(tmp_path: Path, stopped: str | None, result: str) -> None:
    text = write(tmp_path / "out", [row(1)], junit_rows=False, gates=(), stopped=stopped)
    SCHEMA.validate(text)
    (case,) = ElementTree.fromstring(text).iter("testcase")
    assert (case.attrib["name"], [child.tag for child in case]) == ("the run finished", ["error"] if stopped else [])
    assert result in text


def test_name_of_a_row_is_its_id_and_the_start_of_its_input() -> None:
    long = Sample("31d6fad9", "Ticket #1021:\n which team " + "owns " * 50, index=0)
    name = case_name(replace(row(), sample=long, epoch=2))
    assert name.startswith("31d6fad9 (epoch 2) Ticket #1021: which team owns") and name.endswith("…") and len(name) < 90
    assert len(case_name(replace(row(), sample=replace(long, id="x" * 5_000)))) < 210


def test_failing_checks_of_a_row_stand_first_with_their_reasons(tmp_path: Path) -> None:
    cells = {
        "exact_match": Cell("scored", 0.0, detail={"explanation": "differs at 'no'"}),
        "toxicity": Cell("error", reason="500", cause="server"),
    }
    text = write(tmp_path / "out", [row(1, **cells)], gates=())
    (error,) = ElementTree.fromstring(text).iter("error")
    assert (error.text or "").splitlines()[:2] == [
        "exact_match: 0.000, differs at 'no'",
        "toxicity: error, server: 500",
    ]


@pytest.mark.parametrize("command", [("j.yaml",), ("show", "last"), ("report", "last")])
def test_rows_without_a_junit_report_are_a_usage_error(command: tuple[str, ...]) -> None:
    Path("j.yaml").write_text(
        "name: j\ndataset: {rows: [{input: a, expected: x, out: x}]}\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
    )
    evalrunner.run_suite("j.yaml")
    done = evalrun(*command, "--junit-rows")
    message = "--junit-rows adds the rows to a JUnit report, and none is written; add -o PATH.xml"
    assert (done.returncode, done.stderr) == (2, f"evalrun: {message}\n")
    assert evalrun(*command, "--junit-rows", "-o", "x.xml").returncode == 0
    assert 'classname="j.' in Path("x.xml").read_text() and 'tests="2"' in Path("x.xml").read_text()


def test_junit_does_not_depend_on_row_order(tmp_path: Path) -> None:
    rows = [row(place, exact_match=scored(place % 2)) for place in range(200)]
    first = write(tmp_path / "one", rows)
    random.Random(7).shuffle(rows)
    assert write(tmp_path / "two", rows) == first


def test_junit_drops_characters_that_xml_forbids(tmp_path: Path) -> None:
    rows = [
        replace(
            row(place, Completion(text), exact_match=scored(0)), sample=Sample(text[:300], text, (text,), index=place)
        )
        for place, text in enumerate(HOSTILE)
    ]
    gates = tuple(replace(GATE, gate=text, reason=text, target=text) for text in HOSTILE)
    text = write(tmp_path / "out", rows, gates=gates)
    SCHEMA.validate(text)
    suites = JUnitXml.fromstring(text.encode())
    assert [(suite.name, suite.tests, suite.failures) for suite in suites] == [
        ("qa.a", len(HOSTILE), len(HOSTILE)), ("qa.b", 0, 0), ("qa.gates", len(HOSTILE), len(HOSTILE)),
    ]  # fmt: skip
    assert {element.tag for element in ElementTree.fromstring(text).iter()} == {
        "testsuites",
        "testsuite",
        "testcase",
        "failure",
    }
    assert not set(text) & set("\x00\x08\x0b\x0c\x1b\x7f\x9b\u202e\u2066\ud800\udfff\ufffe\uffff")
    assert len(text) < 400_000


def test_junit_of_ten_thousand_large_rows_is_small(tmp_path: Path) -> None:
    mega = "<&\x00" * 350_000
    text = write(tmp_path / "out", [row(place, Completion(mega), exact_match=scored(0)) for place in range(10_000)])
    assert len(text) < 30_000_000
    assert ElementTree.fromstring(text).attrib["tests"] == "10001"


def test_stored_run_gives_the_same_junit() -> None:
    rows = [{"input": f"{place}?", "expected": "x", "out": "xy"[place % 2]} for place in range(30)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("j.yaml").write_text(
        "name: j\ndataset: rows.jsonl\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\ngates: [exact_match >= 0.6]\n"
    )
    result = evalrunner.run_suite("j.yaml", options=evalrunner.RunOptions(outputs=("out/j.xml",), junit_rows=True))
    text = Path("out/j.xml").read_text(encoding="utf-8")
    SCHEMA.validate(text)
    parsed = JUnitXml.fromstring(text.encode())
    assert (parsed.tests, parsed.failures, parsed.errors) == (31, 16, 0)
    folder = RunFolder(result.folder)
    replay(folder, [Path("again/j.xml")], runs=Path("runs"), rows=True)
    assert without_times(Path("again/j.xml").read_text(encoding="utf-8")) == without_times(text)


def without_times(text: str) -> str:
    root = ElementTree.fromstring(text)
    root.attrib["time"] = ""  # of the run: rounded where it is stored
    return ElementTree.tostring(root, encoding="unicode")
