"""`show --failed -o`: files with the failed rows alone, which read back as a dataset; options that would change nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cases.suites import command

OUTCOMES = ("yes", "no", "boom", "yes", "", "cr\rlf\n", "no")
APP = (
    "from evalrunner import Completion\n"
    "def answer(sample):\n    output = sample.metadata['out']\n    if output == 'boom':\n        raise ValueError(output)\n"
    "    return output\n"
)
FAILED = ["q1", "q2", "q4", "q5", "q6"]


@pytest.fixture(autouse=True)
def run() -> None:
    """A run with right, wrong, failed and empty answers."""
    rows = [{"id": f"q{place}", "input": "a,b", "expected": "yes", "out": each} for place, each in enumerate(OUTCOMES)]
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("app.py").write_text(APP)
    Path("s.yaml").write_text(
        "name: s\ndataset: q.jsonl\ntarget: {type: python, function: 'app.py:answer'}\nscorers: [exact_match]\n"
    )
    command("s.yaml", "-q")


def ids(path: str) -> list[str]:
    if path.endswith(".jsonl"):
        return [json.loads(line)["id"] for line in Path(path).read_text().splitlines()]
    if path.endswith(".csv"):
        with Path(path).open(newline="") as file:
            return [row["id"] for row in csv.DictReader(file)]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(path) if path.endswith(".parquet") else pandas.read_excel(path)
    return list(frame["id"])


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet", "xlsx"])
def test_failed_rows_are_written_and_no_others(extension: str) -> None:
    assert command("show", "last", "--failed", "-o", f"f.{extension}").code == 0
    assert command("show", "last", "-o", f"all.{extension}").code == 0
    assert sorted(ids(f"f.{extension}")) == FAILED
    assert sorted(ids(f"all.{extension}")) == [f"q{place}" for place in range(len(OUTCOMES))]


def test_several_files_are_written_at_once() -> None:
    done = command("show", "last", "--failed", "-o", "f.csv", "-o", "f.JSONL")
    assert (done.code, done.out, ids("f.csv")) == (0, "", FAILED)
    assert len(Path("f.JSONL").read_text().splitlines()) == len(FAILED)


def test_a_run_without_failed_rows_has_an_empty_table() -> None:
    command("s.yaml", "-q", "--where", "out=yes")
    for name in ("f.csv", "f.jsonl", "f.parquet", "f.xlsx"):
        assert command("show", "last", "--failed", "-o", name).code == 0
        assert ids(name) == []


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_the_failed_rows_run_again_as_a_dataset(extension: str) -> None:
    command("show", "last", "--failed", "-o", f"f.{extension}")
    Path("again.yaml").write_text(
        f"name: again\ndataset: f.{extension}\ntarget: {{type: python, function: 'echo.py:answer'}}\nscorers: [exact_match]\n"
        "gates: [exact_match >= 1]\n"
    )
    Path("echo.py").write_text("def answer(sample):\n    assert sample.input == 'a,b'\n    return 'yes'\n")
    done = command("again.yaml", "-q")
    assert (done.code, f"{len(FAILED)} samples" in done.out) == (0, True), done.err


@pytest.mark.parametrize("extension", ["html", "md", "json", "xml", "svg"])
def test_formats_without_rows_are_refused(extension: str) -> None:
    done = command("show", "last", "--failed", "-o", "f.csv", "-o", f"f.{extension}")
    assert (done.code, Path("f.csv").exists()) == (2, False)
    assert f"--failed writes rows, and -o 'f.{extension}' has none; write .csv, .jsonl, .parquet or .xlsx" in done.err


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("-v", "-o", "f.csv"), "--verbose changes what is printed"),
        (("--max-kib", "60"), "--max-kib limits the size of a Markdown file"),
        (("--max-kib", "60", "-o", "f.csv"), "--max-kib limits the size of a Markdown file"),
    ],
)
def test_options_that_change_nothing_are_refused(args: tuple[str, ...], problem: str) -> None:
    done = command("show", "last", *args)
    assert (done.code, problem in done.err, Path("f.csv").exists()) == (2, True, False)
    assert command("show", "last", "--max-kib", "60", "-o", "f.md").code == 0
