"""Sources of a dataset: paths, globs, standard input, inline rows, custom readers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from evalrunner.datasets.resolve import open_dataset
from evalrunner.datasets.stdin import store_stdin, stored_stdin
from evalrunner.plugins import BUILTIN
from evalrunner.suite.schema import DatasetSpec
from tests.datasets.reading import inputs, problems, samples, scan, source, write


def test_a_missing_file_suggests_the_nearest_name() -> None:
    write("data/qa.csv", "input\nhi\n")
    assert problems("data/qa.csvv") == ["dataset.path: file 'data/qa.csvv' not found; did you mean 'data/qa.csv'?"]
    assert problems("dat/qa.cvs") == ["dataset.path: file 'dat/qa.cvs' not found; did you mean 'data/qa.csv'?"]
    assert problems("elsewhere.json") == ["dataset.path: file 'elsewhere.json' not found"]


def test_paths_are_relative_to_the_suite_and_not_to_the_working_folder() -> None:
    write("suites/data/qa.csv", "input\nhi\n")
    write("other.csv", "input\nhi\n")
    assert inputs("data/qa.csv", folder=Path("suites")) == ["hi"]
    assert problems("other.csv", folder=Path("suites")) == [
        (
            "dataset.path: file 'suites/other.csv' not found; "
            "paths are relative to the suite's folder, and 'other.csv' is in the working folder"
        )
    ]
    assert inputs(str(Path("other.csv").resolve()), folder=Path("suites")) == ["hi"]


def test_a_glob_is_one_dataset_sorted_by_file_name() -> None:
    write("data/b.csv", "input,x\nb,1\n")
    write("data/a.jsonl", '{"input": "a", "y": 1}\n')
    write("data/deep/c.json", '[{"input": "c"}]')
    assert inputs("data/*.*") == ["a", "b"]
    assert inputs("data/**/*.*") == ["a", "b", "c"]
    assert scan("data/*.*").columns == ("input", "y", "x")


def test_a_glob_without_a_match_is_an_error() -> None:
    Path("data/folder.csv").mkdir(parents=True)
    assert problems("data/*.jsonl") == ["dataset.path: no file matches 'data/*.jsonl'"]
    assert problems("data/*.csv") == ["dataset.path: no file matches 'data/*.csv' (only folders do)"]


def test_an_existing_file_name_with_glob_characters_is_that_file() -> None:
    write("qa[1].csv", "input\nhi\n")
    assert inputs("qa[1].csv") == ["hi"]
    write("odd[x]/qa.csv", "input\nhi\n")
    assert inputs("*.csv", folder=Path("odd[x]")) == ["hi"]


def test_several_empty_files_are_one_problem() -> None:
    write("a.csv", "input\n")
    write("b.csv", "input\n")
    assert problems("*.csv") == ["dataset: none of the 2 files that match '*.csv' has a row"]


def test_a_column_missing_in_one_file_of_a_glob_names_that_file() -> None:
    write("a.csv", "input\nx\ny\n")
    write("b.csv", "inptu\nx\ny\n")
    assert problems("*.csv") == [
        "dataset: no column 'input' in b.csv; it has: inptu. Map the input: columns: {input: inptu}"
    ]


def test_a_folder_or_an_unknown_extension_is_an_error() -> None:
    write("data/qa.txt", "input\nhi\n")
    assert problems("data") == [
        "dataset.path: 'data' is a folder; name a file in it, or several with a glob: data/*.jsonl"
    ]
    assert problems("data/qa.txt") == [
        "dataset.type: cannot tell the format of 'data/qa.txt' from its name; set type: one of csv, json, jsonl, parquet, tsv, xlsx, yaml"
    ]
    assert inputs("data/qa.txt", type="csv") == ["hi"]


def test_extensions_are_case_insensitive() -> None:
    assert inputs(write("QA.CSV", "input\nhi\n")) == ["hi"]


def test_a_registered_reader_is_found_by_its_file_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILTIN["datasets"], "records", "evalrunner.datasets.json:jsonl")  # type: ignore[index]
    write("qa.records", '{"input": "a"}\n')
    assert inputs("qa.records") == ["a"]
    write("qa.unknown", '{"input": "a"}\n')
    assert problems("qa.unknown")[0].endswith("set type: one of csv, json, jsonl, parquet, tsv, xlsx, yaml, records")


def test_an_unknown_type_suggests_the_nearest_name() -> None:
    write("qa.csv", "input\nhi\n")
    assert problems("qa.csv", type="csvv") == ["dataset.type: unknown dataset 'csvv'; did you mean 'csv'?"]


def test_options_are_checked_against_the_reader() -> None:
    write("qa.csv", "input\nhi\n")
    assert problems("qa.csv", options={"delimeter": ";", "lmit": 3, "quoting": "off"}) == [
        "dataset.delimeter: 'delimeter' is neither a key of a dataset nor an option of 'csv'; did you mean 'delimiter'?",
        "dataset.lmit: 'lmit' is neither a key of a dataset nor an option of 'csv'; did you mean 'limit'?",
        "dataset.quoting: 'quoting' is 'off'; it should be true or false",
    ]


def test_a_wrong_option_is_reported_once_for_all_files_of_a_glob() -> None:
    write("a.csv", "input\nhi\n")
    write("b.csv", "input\nhi\n")
    assert len(problems("*.csv", options={"quotes": False})) == 1


def test_stdin_is_jsonl_by_default_and_can_be_read_repeatedly() -> None:
    opened = source("-", stdin=io.BytesIO(b'{"input": "a"}\n{"input": "b"}\n'))
    assert opened.scan(lambda sample: ()).count == 2
    assert [sample.input for sample in opened] == [sample.input for sample in opened] == ["a", "b"]
    assert opened.spooled == Path("spool/stdin.jsonl")
    assert opened.spooled.read_bytes() == b'{"input": "a"}\n{"input": "b"}\n'


def test_stdin_takes_a_type_and_its_options() -> None:
    stdin = io.BytesIO(b"input;n\na;1\n")
    assert [sample.metadata for sample in samples("-", type="csv", options={"delimiter": ";"}, stdin=stdin)] == [
        {"input": "a", "n": "1"}
    ]


def test_messages_name_stdin_not_its_copy() -> None:
    assert problems("-", stdin=io.BytesIO(b'{"input": 1}\n{oops\n'))[0].startswith("stdin:2: is not JSON")
    assert problems("-", stdin=io.BytesIO(b"")) == ["dataset: stdin has no rows"]
    assert problems("-") == ["dataset.path: the path is '-', but there is no standard input"]


def test_inline_rows_are_a_dataset() -> None:
    rows = ({"input": "2+2?", "expected": 4, "tag": "sum"}, {"input": "3+3?", "expected": ["6", "six"]})
    first, second = samples(rows=rows)
    assert (first.input, first.expected, first.metadata) == ("2+2?", ("4",), rows[0])
    assert second.expected == ("6", "six")
    assert inputs(rows=rows, where={"tag": "sum"}) == ["2+2?"]


def test_invalid_inline_rows_are_reported_by_index() -> None:
    rows: tuple[Any, ...] = ({"input": "a"}, {"input": None}, {"q": "b"}, {3: "x"})
    assert problems(rows=rows) == [
        "rows[1]: has an empty input (column 'input')",
        "rows[2]: no column 'input'; it has: q. Map the input: columns: {input: q}",
        "rows[3]: has a column 3 whose name is not text; put it in quotes",
    ]
    assert problems(rows=()) == ["dataset: rows has no rows"]


def test_inline_rows_take_no_path_type_or_options() -> None:
    assert problems("qa.csv", rows=({"input": 1},), type="csv", options={"shufle": 1}) == [
        "dataset.rows: cannot be combined with 'path'; keep one of them",
        "dataset.type: is only for files; remove it",
        "dataset.shufle: 'shufle' is neither a key of a dataset nor an option of 'rows'; did you mean 'shuffle'?",
    ]


def test_a_dataset_without_a_path_is_an_error() -> None:
    assert problems() == ["dataset.path: is missing; set a file, a glob, or - for standard input"]
    assert problems(type="csv") == ["dataset.path: is missing; set a file, a glob, or - for standard input"]


OWN = """
import datetime
from pathlib import Path

def reader(*, count: int = 2, path: Path | None = None):
    def read():
        for number in range(count):
            yield {"input": number, "day": datetime.date(2024, 1, 2)}, f"db:{number}"
    return read

def lines(*, path: Path):
    for line in path.read_text().split():
        yield {"input": line}

def anything(**options):
    return [{"input": options}]

def optional(*, path: Path | None = None):
    return [{"input": path.name}]

def listed(count: int):
    return [{"input": number} for number in range(count)]

def stops():
    yield {"input": 1}
    raise KeyError("gone")

def raises():
    raise RuntimeError("no database")

def nothing():
    return None

def strange():
    return [{"input": 1}, "text", {"input": object()}, {"input": None}]
"""


def test_a_custom_reader_is_a_function_that_returns_a_function() -> None:
    write("own.py", OWN)
    assert inputs(type="own.py:reader") == [0, 1]
    assert inputs(type="own.py:reader", options={"count": 3}) == [0, 1, 2]
    (sample,) = samples(type="own.py:reader", options={"count": 1})
    assert sample.metadata == {"input": 0, "day": "2024-01-02"}


def test_a_custom_reader_can_be_a_generator_or_a_list() -> None:
    write("own.py", OWN)
    write("words.txt", "a b c")
    assert inputs("words.txt", type="own.py:lines") == ["a", "b", "c"]
    assert inputs(type="own.py:listed", options={"count": 2}) == [0, 1]
    assert inputs("words.txt", type="own.py:anything", options={"a": 1}) == [{"path": "words.txt", "a": 1}]
    assert inputs("words.txt", type="own.py:optional") == ["words.txt"]
    assert inputs("corpus:x", type="own.py:anything") == [{"path": "corpus:x"}]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("listed", {}, "dataset: needs 'count' (a whole number), an option of 'own.py:listed'"),
        ("listed", {"count": "2"}, "dataset.count: 'count' is '2'; it should be a whole number; put it in quotes"),
        ("lines", {}, "dataset.path: is missing; 'own.py:lines' needs it"),
        ("stops", {}, "own.py:stops: stops() in own.py:26 raised KeyError: 'gone', after row 1"),
        ("raises", {}, "dataset.type: raises() in own.py:29 raised RuntimeError: no database"),
        (
            "nothing",
            {},
            "dataset.type: 'own.py:nothing' returned nothing; it must return a function that yields rows",
        ),
        ("absent", {}, "dataset.type: 'own.py' has no 'absent'"),
    ],
)
def test_errors_of_a_custom_reader_are_reported_with_its_name(name: str, options: dict[str, Any], message: str) -> None:
    write("own.py", OWN)
    expected = message.removesuffix("; put it in quotes")
    assert problems(type=f"own.py:{name}", options=options) == [expected]


def test_rows_of_a_custom_reader_are_checked() -> None:
    write("own.py", OWN)
    assert problems(type="own.py:strange") == [
        "own.py:strange, row 2: is of type str; a row must be a mapping of column to value",
        (
            "own.py:strange, row 3: has a column 'input' that has a value of type object; "
            "use text, numbers, lists and mappings"
        ),
        "own.py:strange, row 4: has an empty input (column 'input')",
    ]


def test_a_path_for_a_reader_without_a_path_option_is_an_error() -> None:
    write("own.py", OWN)
    assert problems("qa.csv", type="own.py:stops") == ["dataset.path: is not an option of 'own.py:stops'; remove it"]


def test_a_resumed_run_reads_the_stored_copy_of_stdin(tmp_path: Path) -> None:
    opened = source("-", stdin=io.BytesIO(b'{"input": "a"}\n'))
    assert opened.spooled is not None
    run = tmp_path / "run"
    run.mkdir()
    assert stored_stdin(run) is None
    copy = store_stdin(opened.spooled, run)
    (run / "stdin.jsonl.part").write_bytes(b"of a copy that was broken off")
    assert stored_stdin(run) == copy == run / "stdin.jsonl"
    again = open_dataset(DatasetSpec(path="-"), folder=Path(), spool_folder=Path("spool"), stored_stdin=copy)
    again.scan(lambda sample: ())
    assert [sample.input for sample in again] == ["a"]
    assert again.spooled == copy
    assert store_stdin(copy, run) == copy
    assert copy.read_bytes() == b'{"input": "a"}\n'
