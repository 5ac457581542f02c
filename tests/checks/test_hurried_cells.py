"""Checks in cells that a person wrote in a hurry: what is meant is read, and what is lost is an error with its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cases.suites import command
from tests.checks.running import refused, run, stored_rows, write


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_cell(cell: str, *, column: str = "checks") -> str:
    with Path("d.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\r\n")
        table.writerows(
            [["input", "reply", column], ["first", "yes", ""], ["second", "yes 007 2024-01-05 12:30", cell]]
        )
    return "d.csv"


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("contains: yes", ["contains: yes"]),
        ("- contains: yes\r\n- max_words: 5\r\n", ["contains: yes", "max_words: 5"]),
        ("[{'contains': 'yes'}, {'max_words': 5}]", ["contains: yes", "max_words: 5"]),
        ("contains: 007", ["contains: 007"]),
        ("contains: 2024-01-05", ["contains: 2024-01-05"]),
        ("contains: 12:30", ["contains: 12:30"]),
    ],
)
def test_values_in_cells_stay_as_they_are_written(cell: str, texts: list[str]) -> None:
    run(dataset=write_cell(cell))
    checks = stored_rows()[1]["cells"]["checks"]["detail"]["checks"]
    assert [(check["text"], check["passed"]) for check in checks] == [(text, True) for text in texts]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('{"contains": "yes", "contains": "no"}', "contains: duplicate key; remove one"),
        ("[{contains: yes, contains: no}]", "[0].contains: duplicate key; remove one"),
        ("contains: #5", "checks: 'contains' is empty, and the row has no expected answer; write {contains: TEXT}"),
        ('[json, {"exact_match": null}]', "checks[1]: 'exact_match' is empty, and the row has no expected answer"),
        ("contains:yes", "write contains: yes with a space after the colon"),
        ('["not_contains: yes"]', "write not_contains: yes with a space after the colon"),
    ],
)
def test_a_check_that_would_be_lost_is_an_error_with_its_line(cell: str, message: str) -> None:
    error = refused(dataset=write_cell(cell), checks=[{"max_words": 9}])
    assert "d.csv:3" in error
    assert message in error
    assert "if the column holds no checks" not in error or cell.startswith(("contains:y", "["))


def test_a_check_without_a_space_after_the_colon_is_an_error_of_the_suite() -> None:
    error = refused([{"input": "a", "reply": "yes"}], checks=["contains:yes"])
    assert "checks[0]: is text; write contains: yes with a space after the colon" in error


@pytest.mark.parametrize("column", ["checks", "tests"])
def test_the_table_of_rows_has_the_checks_of_each_row(column: str) -> None:
    columns = {} if column == "checks" else {"columns": {"checks": column}}
    run(dataset={"path": write_cell("contains: yes", column=column), **columns})
    (folder,) = (path for path in Path("runs/case").iterdir() if not path.is_symlink())
    with (folder / "table.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["checks"], json.loads(second["checks"])) == ("", {"contains": "yes"})
    assert "tests" not in first


def test_problems_of_rows_are_in_the_order_of_the_rows() -> None:
    rows = [["input", "reply", "checks"], *([f"q{n}", "yes", "" if n % 5 else "json=1"] for n in range(1, 16))]
    with Path("d.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    error = refused(dataset="d.csv", checks=["json"])
    assert [line.partition(": ")[0] for line in error.splitlines() if "json=1" in line] == [
        "d.csv:6",
        "d.csv:11",
        "d.csv:16",
    ]


@pytest.mark.parametrize("header", ["Checks", "check"])
def test_a_column_of_checks_with_another_name_is_not_ignored_silently(header: str) -> None:
    error = refused(dataset=write_cell("contains: yes", column=header), checks=["json"])
    assert f"the column {header!r} looks like checks of each row" in error
    run(dataset={"path": "d.csv", "columns": {"checks": header}})


def test_a_named_check_that_passes_or_fails_is_no_notice() -> None:
    done = command(write([{"input": "a", "reply": "yes", "checks": [{"contains": "yes", "name": "agrees"}]}]))
    assert done.code == 0, done.err
    assert "agrees" in done.out
    assert "agrees/v1/mean" not in done.out


@pytest.mark.parametrize("check", [{"contans": "x"}, {"regex": "("}])
def test_problems_of_inline_rows_are_reported_beside_those_of_the_suite(check: dict[str, str]) -> None:
    rows = [{"input": "a", "reply": "b", "checks": [{"max_word": 3}, {"contians": "b"}]}, {"input": "b", "reply": "b"}]
    error = refused(rows, checks=[check])
    assert "dataset.rows[0].checks[0]: unknown check 'max_word'; did you mean 'max_words'?" in error
    assert "dataset.rows[0].checks[1]: unknown check 'contians'; did you mean 'contains'?" in error
    assert "checks[0]: unknown check 'contans'" in error or "checks[0]: 'pattern' is not a regular expression" in error
