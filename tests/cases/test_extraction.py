"""Extraction through the command line: rows, tables, counts, mistakes, rescoring, resuming and baselines."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, command

ANSWERS = ('It is {"answer": "42"}', "no idea", '{"answer": "41"}', '```json\n{"answer": 42}\n```', "")


def suite(*, extract: Any = None, scorers: Any = ("exact_match",), gates: Any = (), answers: Any = ANSWERS) -> str:
    """A suite whose recorded answers are given; `extract` is that of its target."""
    rows = [
        {"id": f"q{place}", "input": f"Question {place}?", "expected": "42", "answer": text}
        for place, text in enumerate(answers)
    ]
    target = {"name": "m", "type": "recorded", "column": "answer", **({} if extract is None else {"extract": extract})}
    data = {"name": "case", "dataset": {"rows": rows}, "target": target, "scorers": list(scorers), "gates": list(gates)}
    Path("case.yaml").write_text(json.dumps(data, indent=1))
    return "case.yaml"


def newest() -> Path:
    return max(Path("runs/case").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def rows_of(folder: Path) -> dict[str, Mapping[str, Any]]:
    lines = map(json.loads, (folder / "rows.jsonl").read_text().splitlines())
    return {line["id"]: line for line in lines if "id" in line}


def run(*args: str, **keys: Any) -> tuple[Ended, dict[str, Mapping[str, Any]]]:
    done = command("run", suite(**keys), "--json", *args)
    assert done.code in (0, 1, 3), done.err
    return done, rows_of(newest())


def cell(row: Mapping[str, Any], scorer: str = "exact_match") -> tuple[Any, ...]:
    return (row["cells"][scorer]["state"], row["cells"][scorer]["value"], row["cells"][scorer].get("reason"))


NOTHING = "extract: json $.answer found nothing"


def test_scorers_get_what_the_target_extracts_and_the_row_keeps_the_whole_output() -> None:
    _, rows = run("-o", "table.csv", extract={"json": "$.answer"})
    assert [(row["completion"]["text"], row["completion"].get("extracted")) for row in rows.values()] == [
        (ANSWERS[0], "42"), (ANSWERS[1], None), (ANSWERS[2], "41"), (ANSWERS[3], "42"), ("", None),
    ]  # fmt: skip
    assert [cell(row) for row in rows.values()] == [
        ("scored", 1.0, None), ("unscored", None, NOTHING), ("scored", 0.0, None), ("scored", 1.0, None), ("unscored", None, "empty"),
    ]  # fmt: skip
    assert rows["q1"]["completion"]["extract_problem"] == NOTHING
    with Path("table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["output"], line["extracted"]) for line in table] == [
        (text, extracted) for text, extracted in zip(ANSWERS, ("42", "", "41", "42", ""), strict=True)
    ]


def test_the_table_has_no_column_extracted_without_an_extraction() -> None:
    run("-o", "table.csv")
    assert "extracted" not in Path("table.csv").read_text().splitlines()[0].split(",")


def test_nothing_found_counts_as_no_answer_by_its_name() -> None:
    done = command("run", suite(extract={"json": "$.answer"}))
    assert "2 (1 empty answer, 1 nothing extracted)" in " ".join(done.out.split()), done.out
    scorers = [{"type": "exact_match", "on_no_answer": "zero"}]
    _, rows = run(extract={"json": "$.answer"}, scorers=scorers)
    assert (cell(rows["q1"]), rows["q1"]["cells"]["exact_match"]["cause"]) == (("scored", 0.0, NOTHING), "no_answer")


def test_a_scorer_can_have_its_own_extraction_after_that_of_the_target() -> None:
    scorers = [
        {"type": "exact_match", "name": "line", "extract": "last_line"},
        {"type": "expr", "name": "length", "value": "output|length", "extract": {"regex": "[0-9]"}},
        {"type": "exact_match", "name": "number", "extract": ["last_line", "number"], "on_no_answer": "zero"},
    ]
    _, rows = run(answers=("Think.\n42", "none", "41"), scorers=scorers)
    assert [cell(row, "line") for row in rows.values()] == [
        ("scored", 1.0, None),
        ("scored", 0.0, None),
        ("scored", 0.0, None),
    ]
    assert rows["q0"]["cells"]["line"]["detail"] == {"extracted": "42"}
    reason = "extract: regex [0-9] found nothing"
    assert [cell(row, "length") for row in rows.values()] == [
        ("scored", 1.0, None),
        ("unscored", None, reason),
        ("scored", 1.0, None),
    ]
    assert cell(rows["q1"], "number") == ("scored", 0.0, "extract: number found nothing")
    _, chained = run(extract={"json": "$.answer"}, scorers=[{"type": "exact_match", "extract": {"regex": "^4"}}])
    assert chained["q0"]["cells"]["exact_match"]["detail"] == {"extracted": "4"}


@pytest.mark.parametrize(
    ("extract", "problem"),
    [
        ("lastline", "unknown step 'lastline'; did you mean 'last_line'?"),
        ([{"after": "x"}, {"jsn": "$.a"}], "unknown step 'jsn'; did you mean 'json'?"),
        ({"regex": "("}, "'regex' is not a regular expression"),
    ],
)
def test_a_wrong_step_is_an_error_of_the_suite_with_its_line(extract: Any, problem: str) -> None:
    for place in ("target", "scorer"):
        keys: Any = (
            {"extract": extract} if place == "target" else {"scorers": [{"type": "exact_match", "extract": extract}]}
        )
        done = command("run", suite(**keys))
        assert done.code == 2 and problem in done.err
        line = int(done.err.split("case.yaml:", 1)[1].split(":", 1)[0])
        text = Path("case.yaml").read_text().splitlines()[line - 1]
        assert any(word in text for word in ("extract", "lastline", "jsn", "regex")), (line, text)
    assert not Path("runs").exists()


def test_rescoring_applies_the_extraction_of_the_suite_to_the_whole_answers() -> None:
    run(extract={"json": "$.answer"})
    first = newest()
    suite(extract={"regex": "[0-9]+"})
    done = command("score", str(first), "--suite", "case.yaml", "-q")
    assert done.code in (0, 3), done.err
    again = rows_of(newest())
    assert [row["completion"].get("extracted") for row in again.values()] == ["42", None, "41", "42", None]
    assert again["q1"]["completion"]["extract_problem"] == "extract: regex [0-9]+ found nothing"
    suite()
    assert command("score", str(first), "--suite", "case.yaml", "-q").code in (0, 3)
    plain = rows_of(newest())
    assert all(
        "extracted" not in row["completion"] and "extract_problem" not in row["completion"] for row in plain.values()
    )
    assert cell(plain["q1"]) == ("scored", 0.0, None)


def test_a_resume_with_another_extraction_is_refused() -> None:
    run(extract={"json": "$.answer"})
    folder = newest()
    suite(extract={"json": "$.other"})
    done = command("run", "case.yaml", "--resume", str(folder))
    assert done.code == 2 and "extract" in done.err, done.err


def test_baselines_notice_a_changed_extraction() -> None:
    gate = {"metric": "exact_match", "baseline": "main", "max_drop": 0.9}
    answers = ["42"] * 12
    assert command("run", suite(extract="last_line", answers=answers), "-q").code == 0
    assert command("baseline", "accept").code == 0
    done = command("run", suite(extract="number", answers=answers, gates=[gate]), "--json")
    assert "options.extract" in json.dumps(json.loads(done.out)["gates"]), done.out
    # the scores of another extraction of a scorer mean something else
    scorers = [{"type": "exact_match", "extract": "number"}]
    done = command("run", suite(scorers=scorers, answers=answers, gates=[gate]), "--json")
    assert done.code == 2 and "options.extract" in done.err, (done.code, done.err, done.out)


def test_the_page_shows_what_was_extracted_beside_the_whole_output() -> None:
    run("-o", "page.html", extract={"json": "$.answer"})
    page = Path("page.html").read_text()
    assert '"extracted"' in page and "Extracted, and scored" in page
