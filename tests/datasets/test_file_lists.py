"""Several files as one dataset: lists, and braces in globs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.reading import inputs, problems, write
from tests.fakes.command import evalrun

SUITE = "name: s\ndataset: {{path: {path}}}\ntarget: {{type: recorded, column: output}}\nscorers: [exact_match]\n"


def three_files() -> None:
    for name in ("a", "b", "c"):
        write(f"data/{name}.csv", f"input,expected,output\n{name},x,x\n")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/{c,a}.csv", ["a", "c"]),
        ("{data/a,data/{b,c}}.csv", ["a", "b", "c"]),
        ("data/{a,[bc]}.{csv,csv}", ["a", "b", "c"]),
        ("data/{a}.csv", None),
        ("data/{a,z}.csv", None),
    ],
)
def test_braces_stand_for_several_names(path: str, expected: list[str] | None) -> None:
    three_files()
    if expected is None:
        assert "not found" in problems(path)[0]
    else:
        assert inputs(path) == expected


def test_a_file_with_braces_in_its_name_is_that_file() -> None:
    three_files()
    assert inputs(write("data/{a,b}.csv", "input\nitself\n")) == ["itself"]


def test_braces_for_too_many_paths_are_refused() -> None:
    assert "its braces stand for more than 1,000 paths" in problems("{a,b}" * 30 + ".csv")[0]


def test_a_list_of_files_and_globs_is_read_in_its_order_and_each_file_once() -> None:
    three_files()
    write("more.jsonl", '{"input": "m", "expected": "x", "output": "x"}\n')
    Path("s.yaml").write_text(SUITE.format(path="[more.jsonl, data/c.csv, 'data/*.csv']"))
    ended = evalrun("run", "s.yaml", "--set", "run.concurrency=1")
    assert ended.returncode == 0, ended.stderr
    (rows,) = Path("runs/s").glob("*/table.csv")
    assert [line.split(",")[3] for line in rows.read_text().splitlines()[1:]] == ["m", "c", "a", "b"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("[]", "s.yaml:2:17: dataset.path: is an empty list; name the files"),
        ("[data/a.csv, '-']", "s.yaml:2:30: dataset.path[1]: is standard input, which cannot be in a list"),
        ("['hf://a/b']", "s.yaml:2:18: dataset.path[0]: is an address, which cannot be in a list"),
        ("[data/a.csv, 5]", "s.yaml:2:30: dataset.path[1]: is 5; it should be text"),
        ("[data/a.csv, data/d.csv]", "s.yaml:2:17: dataset.path: file 'data/d.csv' not found"),
    ],
)
def test_what_cannot_be_in_a_list_is_named(path: str, message: str) -> None:
    three_files()
    Path("s.yaml").write_text(SUITE.format(path=path))
    ended = evalrun("validate", "s.yaml")
    assert ended.returncode == 2 and message in ended.stderr, ended.stderr


@pytest.mark.parametrize("path", ["[data/a.csv, ../x.csv]", "'data/{a,../../x}.csv'", "'{/etc/passwd,data/a.csv}'"])
def test_an_untrusted_suite_reads_no_file_outside_of_its_folder(path: str) -> None:
    three_files()
    Path("s.yaml").write_text(SUITE.format(path=path))
    ended = evalrun("validate", "--untrusted", "s.yaml")
    assert ended.returncode == 2 and "leads out of the suite's folder" in ended.stderr, ended.stderr


def test_the_list_is_in_the_schema() -> None:
    ended = evalrun("schema")
    assert '"minItems": 1' in ended.stdout.partition('"path"')[2][:300]
