"""The comment on a pull request: totals first, changed rows, a budget of bytes, and texts that stay texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Cell, Completion, Failure, Row, Sample
from evalrunner.reports.comment import ChangedRows, render_comment
from evalrunner.reports.view import RunView, TargetView
from evalrunner.reports.worst_rows import BaselineScores
from evalrunner.runs.record import UsageRecord
from tests.fakes.command import evalrun
from tests.fakes.server import Answer, ScriptedServer
from tests.reports.hostile import HOSTILE
from tests.reports.pages import Page
from tests.reports.test_markdown import GATE, TAGS, view

SUITE = """\
name: {name}
dataset: rows.jsonl
target: {{type: recorded, name: bot, column: {column}}}
scorers: [exact_match]
gates:
  - exact_match >= 0.8
  - {{metric: exact_match, baseline: main, max_drop: 0.05}}
"""


def row(place: int, value: float, text: str = "now", **changes: Any) -> Row:
    sample = Sample(f"id-{place}", f"question {place}", ("right",), index=place)
    return Row(sample, "a", changes.pop("epoch", 1), Completion(text), {"exact_match": Cell("scored", value)})


def rows_of(run: RunView, rows: list[Row]) -> ChangedRows:
    changed = ChangedRows(run)
    for one in rows:
        changed.on_row(one)
    return changed


def compared(before: float, output: str | None = "before", **changes: Any) -> RunView:
    return view(find_baseline=lambda: lambda _: BaselineScores({"exact_match": before}, output), **changes)


def write_suites(**columns: str) -> None:
    rows = [{"id": f"q{n}", "input": f"{n}+1?", "expected": str(n + 1), "right": str(n + 1), "wrong": str(n + (n >= 60)), "one": str(n + (n != 19))} for n in range(200)]  # fmt: skip
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, column in columns.items():
        Path(f"{name}.yaml").write_text(SUITE.format(name=name, column=column))


def test_a_regression_shows_both_outputs_and_the_start_of_the_input() -> None:
    write_suites(qa="one")
    assert evalrun("qa.yaml", "-q").returncode == 0
    assert evalrun("baseline", "accept", "--with-outputs").returncode == 0
    write_suites(qa="wrong")
    assert evalrun("qa.yaml", "-q").returncode == 1
    done = evalrun("comment", "--link", "https://github.example/o/r/actions/runs/1/artifacts/2")
    lines = done.stdout.splitlines()
    assert lines[0] == "### ❌ evalrun: qa failed"
    assert lines[2].startswith(
        "exact_match is 0.700 (95% CI 0.633–0.759); the gate needs at least 0.8. 1 more gate failed."
    )
    assert lines[4:8] == [
        "| gate | value | verdict |",
        "| --- | --- | --- |",
        "| <code>exact_match &#62;= 0.8</code> | 0.700 (95% CI 0.633–0.759) | ❌ fail |",
        "| <code>exact_match at most 0.05 worse than main</code> | 0.995 → 0.700 | ❌ fail |",
    ]
    assert lines[11] == "<details><summary>59 rows got worse, 0 got better than the baseline; 10 shown</summary>"
    assert lines[15] == "| <code>q0</code> | 0+1? | 1<br>exact_match 1.000 | 0<br>exact_match 0.000 |"
    assert lines[-1].startswith("200 samples · no calls · ")
    assert lines[-1].endswith(" · [reports and answers](https://github.example/o/r/actions/runs/1/artifacts/2)")
    assert "\n\n\n" not in done.stdout


def test_several_suites_are_one_comment_with_the_worst_first() -> None:
    write_suites(good="right", bad="wrong")
    assert evalrun("good.yaml", "bad.yaml", "-q").returncode == 1
    runs = [str(path) for path in Path("runs").glob("*/*")]
    text = evalrun("comment", *runs).stdout
    assert text.splitlines()[:6] == [
        "### ❌ evalrun: 2 of 2 suites did not pass",
        "",
        "| suite | result | samples | cost |",
        "| --- | --- | ---: | ---: |",
        "| bad | ❌ fail | 200 samples | no calls |",
        "| good | ⚠️ no baseline | 200 samples | no calls |",
    ]
    assert text.index("#### ❌ evalrun: bad failed") < text.index("#### ⚠️ evalrun: good has no baseline")


def test_suites_that_passed_are_folded_up() -> None:
    passed = view(suite="good", verdict="pass", exit_code=0, gates=(replace(GATE, verdict="pass"),))
    text = render_comment([rows_of(passed, [row(0, 0)]), rows_of(view(suite="bad"), [row(0, 0)])])
    assert text.startswith("### ❌ evalrun: 1 of 2 suites did not pass\n")
    assert "<details><summary>✅ evalrun: good passed</summary>" in text
    assert text.count("lowest scores") == 1


def test_rows_that_got_better_and_worse_are_counted() -> None:
    changed = rows_of(compared(0.5), [row(0, 0), row(1, 1), row(2, 1), row(3, 0.5), row(4, 0.25)])
    assert (changed.worse, changed.better) == (2, 2)
    assert [(one.sample.id, before.output) for one, before in changed.changed()] == [
        ("id-0", "before"),
        ("id-4", "before"),
    ]
    text = render_comment([changed])
    assert "<details><summary>2 rows got worse, 2 got better than the baseline</summary>" in text
    assert "| <code>id-0</code> | question 0 | before<br>exact_match 0.500 | now<br>exact_match 0.000 |" in text
    nothing = render_comment([rows_of(compared(0.5), [row(3, 0.5)])])
    assert "0 rows got worse, 0 got better than the baseline." in nothing


def test_without_a_baseline_the_lowest_scores_are_shown() -> None:
    failed = replace(
        row(1, 0), answer=Failure("timeout", "after 60 s"), cells={"exact_match": Cell("error", cause="timeout")}
    )
    text = render_comment([rows_of(view(), [row(0, 0.0), failed])])
    assert "| <code>id-0</code> | question 0 | right | now | exact_match 0.000 |" in text


@pytest.mark.parametrize(
    ("usages", "cost"),
    [
        ([UsageRecord()], "no calls"),
        ([UsageRecord(calls=2, cost_usd=0.01), UsageRecord(calls=1, cost_usd=0.009)], "$0.019"),
        ([UsageRecord(calls=2, cost_usd=0.01), UsageRecord(calls=1, unpriced_calls=1)], "$0.01 and calls without a known price"),
        ([UsageRecord(calls=2, unpriced_calls=2)], "cost unknown"),
    ],
)  # fmt: skip
def test_cost_is_that_of_all_targets(usages: list[UsageRecord], cost: str) -> None:
    run = view(targets={f"t{n}": TargetView(usage=usage) for n, usage in enumerate(usages)})
    assert f" · {cost} · 1.5 s · run 20260101T000000Z-0000" in render_comment([rows_of(run, [])])


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"verdict": "untrusted", "exit_code": 3}, "### ⚠️ evalrun: qa is untrusted"),
        ({"verdict": "inconclusive", "exit_code": 4}, "### ⚠️ evalrun: qa is inconclusive"),
        ({"exit_code": 130}, "### ⚠️ evalrun: qa was interrupted"),
        ({"verdict": None, "exit_code": None}, "### ⚠️ evalrun: qa did not finish"),
        ({"verdict": "pass", "exit_code": 0, "gates": ()}, "### ✅ evalrun: qa has no verdict"),
    ],
)
def test_title_says_how_the_run_ended(changes: dict[str, Any], title: str) -> None:
    assert render_comment([rows_of(view(**changes), [])]).splitlines()[0] == title


@pytest.mark.parametrize("max_bytes", [4 * 1024, 20 * 1024, 60 * 1024])
def test_comment_fits_whatever_the_rows_are_and_keeps_the_totals(max_bytes: int) -> None:
    long = "<&|*_" * 20_000
    gates = tuple(replace(GATE, gate=long, reason=long, target=long) for _ in range(60))
    rows = [replace(row(n, 0, long), sample=Sample(f"{long}{n}", long, (long,), index=n)) for n in range(40)]
    runs = [rows_of(compared(1.0, long, suite=f"s{n}", gates=gates, notices=(long,) * 9), rows) for n in range(20)]
    text = render_comment(runs, max_bytes=max_bytes, link="https://h/" + "x" * 200)
    assert len(text.encode()) <= max_bytes
    assert text.startswith("### ❌ evalrun: 20 of 20 suites did not pass\n")
    assert " s · [reports and answers](https://h/" in text
    assert text.endswith("_Cut to fit: the run folder has the rest._\n")
    assert Page(text).open == []


def test_hostile_text_stays_text() -> None:
    for text in HOSTILE:
        gate = replace(GATE, gate=text, reason=text, target=text, verdict="fail")
        run = compared(1.0, text, suite=text, gates=(gate, gate), notices=(text,), targets={text: TargetView()})
        one = replace(row(0, 0, text), sample=Sample(text, text, (text,), index=0), target=text)
        page = Page(
            comment := render_comment([rows_of(run, [one]), rows_of(replace(run, find_baseline=lambda: None), [one])])
        )
        assert page.tags <= TAGS | {"h4", "br"}
        assert page.attributes == set() and page.open == [] and page.found_by_bots() == []
        assert "${{" not in comment and not any(line.startswith("::") for line in comment.splitlines())


def test_link_cannot_end_early() -> None:
    text = render_comment([rows_of(view(), [])], link="https://h/a)b c[x](y)\n| z")
    assert text.splitlines()[-1].endswith("[reports and answers](https://h/a%29b%20c[x]%28y%29%0A%7C%20z)")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["comment"], "evalrun: no runs in 'runs' yet; start one: evalrun SUITE"),
        (["comment", "--link", "javascript:alert(1)"], "evalrun: --link 'javascript:alert(1)': the address should start with https://"),
        (["comment", "--max-kib", "65"], "is not in the range 4<=x<=64"),
    ],
)  # fmt: skip
def test_mistakes_are_usage_errors(args: list[str], message: str) -> None:
    done = evalrun(*args)
    assert (done.returncode, message in done.stderr, done.stdout) == (2, True, "")


def test_output_writes_a_file_and_prints_nothing() -> None:
    Path("s.yaml").write_text(
        "name: s\ndataset: {rows: [{input: a, expected: x, out: x}]}\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
    )
    evalrunner.run_suite("s.yaml")
    done = evalrun("comment", "last", "-o", "out/comment.md")
    assert (done.returncode, done.stdout) == (0, "")
    text = Path("out/comment.md").read_text(encoding="utf-8")
    assert text.startswith("### ✅ evalrun: s has no verdict\n")
    assert "| <code>exact_match/v1</code> | 1.000 |" in text


def test_leaderboard_of_several_targets_has_latency_cost_of_1000_answers_and_missing_scores() -> None:
    def answer(request: Any, nth: int) -> Answer:
        return Answer(
            "yes" if request["model"] == "good" else "no",
            extra={"usage": {"prompt_tokens": 10, "completion_tokens": 2}},
        )

    with ScriptedServer(answer) as server:
        rows = [{"id": f"q{n}", "input": f"{n}?", "expected": "yes"} for n in range(30)]
        Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        Path("two.yaml").write_text(
            "name: two\ndataset: rows.jsonl\nprompt: '{{ input }}'\nscorers: [exact_match]\ntargets:\n"
            f"  - {{name: bad, model: bad, base_url: '{server.base_url}', api_key: none}}\n"
            f"  - {{name: good, model: good, base_url: '{server.base_url}', api_key: none}}\n"
            "prices: {good: {input: 100, output: 100}}\n"
        )
        assert evalrun("two.yaml", "-q").returncode == 0
    lines = evalrun("comment").stdout.splitlines()
    assert lines[4].startswith("| target | exact_match | p50 | $/1k |"), lines
    assert lines[6].startswith("| <code>good</code> | **1.000 (0.886–1.000)** | ") and "| 1.20 |" in lines[6]
    assert lines[7].startswith("| <code>bad</code> | 0.000 (0.000–0.114) | ") and lines[7].endswith(" | – |")
    assert any(line.startswith("- exact_match/v1: <code>good</code> &gt; <code>bad</code>.") for line in lines)
