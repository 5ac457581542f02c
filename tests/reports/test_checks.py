"""Checks in reports: the failing ones of the worst rows are named, their texts stay texts, and broken details change nothing."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from evalrunner.domain import Cell, Completion, Declaration, Row, Sample
from evalrunner.reports.checks import changed_checks, checks_of, failing_checks, failing_text
from evalrunner.reports.comment import ChangedRows, render_comment
from evalrunner.reports.junit import row_result
from evalrunner.reports.markdown import render_row
from evalrunner.reports.worst_rows import NotableRow
from evalrunner.stats.summary import Measure
from tests.fakes.command import evalrun
from tests.reports.hostile import HOSTILE
from tests.reports.pages import Page
from tests.reports.test_markdown import TAGS, view

CHECKS = Measure("checks", Declaration(binary=True))
SHARE = Measure("checks/share", Declaration())
TONE = Measure("tone", Declaration(binary=True))

SUITE = """\
name: support
dataset: rows.jsonl
target: {type: recorded, name: bot, column: output}
scorers: [{type: python, name: checks, function: recorded.py:checks, low: 0, high: 1}]
"""
RECORDED = """\
from evalrunner import Score


def checks(sample):
    found = sample.metadata["found"]
    return Score(float(all(check["passed"] is not False for check in found)), metadata={"checks": found})
"""


def check(text: str, passed: bool | None = False, /, **more: Any) -> dict[str, Any]:
    value = None if passed is None else float(passed)
    state = "scored" if passed is not None else "unscored"
    return {
        "type": text.partition(":")[0],
        "text": text,
        "passed": passed,
        "value": value,
        "weight": 1,
        "state": state,
    } | more


def cell(*checks: Any, value: float = 0.0) -> Cell:
    return Cell("scored", value, detail={"checks": list(checks)})


def row(*checks: Any, place: int = 0, **cells: Cell) -> Row:
    sample = Sample(f"id-{place}", "question?", index=place)
    return Row(sample, "a", 1, Completion("maybe"), {"checks": cell(*checks), **cells})


def run_suite(*rows: list[dict[str, Any]]) -> None:
    """Run a suite whose rows have the given checks."""
    lines = [
        {"id": f"q{place}", "input": f"question {place}?", "output": "an answer", "found": found}
        for place, found in enumerate(rows)
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Path("recorded.py").write_text(RECORDED)
    Path("suite.yaml").write_text(SUITE)


TONE_WHY = "It refuses, and does not say how long the customer had."


def test_the_heaviest_failing_check_comes_first_with_its_reason() -> None:
    several = row(
        check("contains: 30 days"),
        check("max_words: 60", True),
        check("rubric: polite", name="tone", weight=2, explanation=TONE_WHY),
    )
    assert failing_text(several) == f"✗ tone: {TONE_WHY} · contains: 30 days"
    assert failing_text(row(check("contains: x", True), check("expr: y", None))) == ""


def test_a_summary_lists_four_failing_checks_and_counts_the_others() -> None:
    assert (
        failing_text(row(*(check(f"contains: {n}") for n in range(7))))
        == "✗ contains: 0 · contains: 1 · contains: 2 · contains: 3 · 3 more"
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_names_the_failing_checks_of_the_worst_rows_within_the_width(width: int) -> None:
    run_suite(
        [check("contains: 30 days"), check("max_words: 60")],
        [check("rubric: polite", name="refusal_tone", explanation=TONE_WHY * 9), check("contains: 30 days")],
        [check("contains: 30 days", True)],
        [check(f"contains: word number {n} of a list that is long") for n in range(30)],
    )
    shown = evalrun("suite.yaml", env={"COLUMNS": str(width)}).stdout
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "✗ contains: 30 days   ✗ max_words: 60\n" in shown
    assert "✗ refusal_tone: It refuses, and does not say" in shown
    assert "✗ contains: word number 0" in shown
    assert f"   {24 if width == 120 else 27} more\n" in shown
    assert "q2" not in shown


def test_rows_that_failed_are_shown_with_their_checks() -> None:
    run_suite([check("contains: 30 days", reason="it is not in the output")], [check("contains: 30 days", True)])
    evalrun("suite.yaml")
    shown = evalrun("show", "last", "--failed").stdout
    assert "✗ contains: 30 days: it is not in the output" in shown
    assert "q1" not in shown


def test_diff_says_which_checks_fail_now_and_which_pass_now() -> None:
    run_suite([check("contains: a", True), check("max_words: 9"), check("expr: b", True)])
    evalrun("suite.yaml")
    (before,) = (path.name for path in Path("runs/support").iterdir())
    run_suite([check("contains: a"), check("max_words: 9", True), check("expr: b"), check("equals: new")])
    lines = Path("rows.jsonl").read_text()
    Path("rows.jsonl").write_text(lines.replace("an answer", "another"))
    evalrun("suite.yaml")
    shown = evalrun("diff", before, "last").stdout
    assert "✗ contains: a   ✗ expr: b   ✓ max_words: 9\n" in shown
    assert "equals: new" not in shown  # it is no check of the earlier run


def test_checks_change_by_their_number_where_several_are_equal() -> None:
    same = check("contains: a")
    broken, fixed = changed_checks(row(same, same | {"passed": True}), row(same, same))
    assert [each.text for each in broken] == ["contains: a"]
    assert fixed == []


def test_junit_says_once_which_checks_failed_and_why() -> None:
    run_suite(
        [
            check("contains: 30 days"),
            check("rubric: polite", name="tone", explanation=TONE_WHY),
            check("expr: x", None, reason="unreadable reply"),
        ]
    )
    evalrun("suite.yaml", "--junit-rows", "-o", "junit.xml")
    failure = ElementTree.parse("junit.xml").find(".//failure")
    assert failure is not None
    assert failure.get("message") == "checks failed: contains: 30 days, tone"
    assert (failure.text or "").splitlines()[:3] == [
        "✗ contains: 30 days",
        f"✗ tone: {TONE_WHY}",
        "? expr: x: unreadable reply",
    ]


def test_junit_does_not_repeat_the_share_and_the_named_checks() -> None:
    cells = {"checks/share": Cell("scored", 0.2), "tone": Cell("scored", 0.0)}
    one = row(check("rubric: polite", name="tone"), **cells)
    assert row_result(one, [CHECKS, SHARE, TONE]) == ("failure", "checks failed: tone", "quality")


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_checks_stay_texts(text: str) -> None:
    """Markdown and the comment show names, texts and reasons of checks as text; the terminal gets no control character."""
    hostile = row(check("contains: x", text=text, name=text, reason=text, explanation=text, extracted=text))
    page = Page(render_row(NotableRow(hostile), 2000))
    assert page.tags <= TAGS
    assert page.found_by_bots() == []
    changed = ChangedRows(view(measures=(CHECKS,)))
    changed.on_row(hostile)
    comment = Page(render_comment([changed]))
    assert comment.tags <= TAGS | {"br"}
    assert comment.found_by_bots() == []
    assert failing_text(hostile).isprintable()


def test_the_terminal_and_junit_stay_whole_with_hostile_checks() -> None:
    texts = [text for text in HOSTILE if "\ud800" not in text and len(text) < 10_000]
    run_suite(
        *([check("contains: x", name=text, text=text, reason=text, explanation=text, extracted=text)] for text in texts)
    )
    shown = evalrun("suite.yaml", "--junit-rows", "-o", "junit.xml", "-o", "page.html", env={"GITHUB_ACTIONS": "true"})
    assert "\x1b" not in shown.stdout
    assert "::error" not in shown.stdout
    assert len(ElementTree.parse("junit.xml").findall(".//failure")) == len(texts)
    assert "<img src=x" not in Path("page.html").read_text()


DETAILS = (None, {}, {"checks": None}, {"checks": "contains"}, {"checks": {"a": 1}}, {"checks": [None, 3, "x", []]}, {"checks": [{}]},
           {"checks": [{"text": 3, "name": [], "passed": 0, "value": "1", "weight": None, "state": None, "reason": {}, "extracted": 7}]},
           {"checks": [{"weight": float("nan"), "value": float("inf"), "passed": "no"}]})  # fmt: skip


@pytest.mark.parametrize("detail", DETAILS)
def test_a_broken_detail_has_no_failing_check(detail: Any) -> None:
    broken = Row(Sample("a", "b"), "a", 1, Completion("c"), {"checks": Cell("scored", 0.0, detail=detail)})
    assert failing_checks(broken) == []
    assert failing_text(broken) == ""
    assert all(each.passed is None and each.value is None for each in checks_of(broken.cells["checks"]))


def test_any_json_as_a_detail_is_read_without_an_exception() -> None:
    chance = random.Random(3)
    keys = (
        "checks",
        "text",
        "name",
        "type",
        "passed",
        "value",
        "weight",
        "state",
        "reason",
        "explanation",
        "extracted",
    )

    def some(depth: int) -> Any:
        kind = chance.randrange(8 if depth else 5)
        if kind >= 5:
            return (
                [some(depth - 1) for _ in range(3)]
                if kind == 5
                else {chance.choice(keys): some(depth - 1) for _ in range(5)}
            )
        return [None, True, False, chance.choice([1e308, -1, 0, 2.5]), chance.choice(HOSTILE[:10])][kind]

    for _ in range(300):
        read = checks_of(Cell("scored", 0.0, detail={"checks": [some(3) for _ in range(3)]}))
        assert all(isinstance(each.text, str) and each.weight == each.weight for each in read)


def many_checks(**targets: str) -> None:
    """A suite with twenty named checks and recorded answers in the columns of its targets."""
    names = [f"check_{place}" for place in range(20)]
    lines = [{"input": f"{row}?", "some": " ".join(names[row:]), "every": " ".join(names)} for row in range(20)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    listed = [{"name": name, "type": "recorded", "column": column} for name, column in targets.items()]
    checks = [{"contains": name, "name": name, "whole_words": True} for name in names]
    suite = {"name": "many", "dataset": "rows.jsonl", "targets": listed, "checks": checks, "gates": ["check_19 >= 0.5"]}
    Path("many.yaml").write_text(json.dumps(suite))


def test_of_twenty_named_checks_the_table_has_the_gated_one_and_the_lowest() -> None:
    many_checks(bot="some")
    lines = evalrun("many.yaml").stdout.partition("metric ")[2].splitlines()
    names = [line.split()[0] for line in lines[1:11]]
    assert names == ["check_19", "checks", "checks/share", *(f"check_{place}" for place in range(7))]
    assert lines[11] == "12 more metrics: -v"
    assert all(f"\ncheck_{place} " in evalrun("show", "last", "-v").stdout for place in range(20))


def test_twenty_named_checks_do_not_flood_the_leaderboard() -> None:
    many_checks(a="some", b="every")
    shown = evalrun("many.yaml").stdout
    assert shown.count("\ntarget ") <= 4
    assert "more metrics: -v" in shown


def group(rule: str, passed: bool | None, **more: Any) -> dict[str, Any]:
    return check(f"{rule}: 2 checks", passed, **more) | {"type": rule}


def test_the_checks_of_a_group_fail_for_it_where_all_have_to_pass() -> None:
    listed = [group("all", False), check("contains: a", group=0), check("contains: b", True, group=0)]
    assert failing_text(row(*listed)) == "✗ contains: a"
    assert [each.depth for each in checks_of(cell(*listed))] == [0, 1, 1]


def test_a_group_fails_for_its_checks_where_one_is_enough() -> None:
    listed = [group("any", False), check("contains: a", group=0), check("contains: b", group=0)]
    assert failing_text(row(*listed)) == "✗ any: 2 checks"


def test_no_check_fails_in_a_group_that_passes() -> None:
    assert (
        failing_text(row(group("any", True), check("contains: a", group=0), check("contains: b", True, group=0))) == ""
    )
    assert (
        failing_text(row(group("all", True), check("contains: a", group=0), check("contains: b", True, group=0))) == ""
    )
    nested = [group("any", False), group("all", False, group=0), check("contains: a", group=1)]
    assert failing_text(row(*nested)) == "✗ any: 2 checks"


def test_a_row_without_an_answer_has_that_as_its_reason_and_not_one_of_its_checks() -> None:
    rows = [{"input": str(place), "output": "x" * place, "checks": [{"contains": "x"}]} for place in range(3)]
    suite = {"name": "s", "dataset": {"rows": rows}, "target": {"type": "recorded", "column": "output"}}
    Path("s.yaml").write_text(json.dumps(suite))
    shown = evalrun("s.yaml").stdout
    assert re.search(r"\nchecks +1\.000 .* 1 \(empty answer\)\n", shown)
    assert re.search(r"\nchecks/share +1\.000 .* 1 \(empty answer\)\n", shown)
