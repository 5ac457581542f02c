"""Files to records: each format, and the message for each invalid line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from evalrunner.domain import Sample
from evalrunner.errors import MissingExtraError, SuiteError
from tests.datasets.reading import inputs, problems, samples, scan, source, write


def test_a_csv_row_becomes_a_sample_with_its_columns_as_metadata() -> None:
    write("data/qa.csv", "id,input,expected,topic\nq1,2+2?,4,sums\n")
    row = {"id": "q1", "input": "2+2?", "expected": "4", "topic": "sums"}
    assert samples("data/qa.csv") == [Sample("q1", "2+2?", ("4",), row)]


def test_a_quoted_field_can_contain_commas_quotes_and_newlines() -> None:
    write("qa.csv", 'input,expected\n"a, ""b""\nand c",yes\n')
    assert inputs("qa.csv") == ['a, "b"\nand c']


def test_the_line_number_is_where_the_record_starts() -> None:
    write("qa.csv", 'input,expected\n"two\nlines",a\n\nlonely\n')
    assert problems("qa.csv") == ["qa.csv:5: has 1 field, but the header has 2"]


def test_all_invalid_lines_of_a_csv_are_reported_at_once() -> None:
    write("qa.csv", 'input,expected\none\ntwo,2,too much\n"bad" quote,x\nfine,y\n"open,z\nlast,w\n')
    off = "if the file does not use quotes, set quoting: false"
    assert problems("qa.csv") == [
        "qa.csv:2: has 1 field, but the header has 2",
        "qa.csv:3: has 3 fields, but the header has 2; a field with ',' in it needs quotes",
        f'qa.csv:4: has text after a closing quote (a quote inside a quoted field is written ""); {off}',
        f"qa.csv:6: opens a quote that is never closed; {off}",
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("input,expected,input", "qa.csv:1: has the column 'input' twice; column names must be unique"),
        (
            ",input,x",
            "qa.csv:1: has no name for column 1, which has a value on line 2; name the column or remove it",
        ),
        (
            "input,caf\udce9",
            "qa.csv:1: has a byte that is not UTF-8 (0xe9 at character 9); save the file as UTF-8, or set its encoding, such as cp1252",
        ),
    ],
)
def test_an_invalid_header_is_an_error(header: str, message: str) -> None:
    write("qa.csv", f"{header}\n1,2,3\n".encode(errors="surrogateescape"))
    assert problems("qa.csv") == [message]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_ending_is_read(ends: str) -> None:
    write("qa.csv", ends.join(["input,expected", "a,1", "", "b,2", ""]))
    assert inputs("qa.csv") == ["a", "b"]


def test_a_field_can_be_longer_than_the_csv_default_limit() -> None:
    write("qa.csv", f"input,expected\n{'x' * 300_000},1\n")
    assert [len(text) for text in inputs("qa.csv")] == [300_000]


def test_another_delimiter_is_an_option_and_is_suggested_in_the_error() -> None:
    write("qa.csv", "input;expected\na, b;1\n")
    assert inputs("qa.csv", options={"delimiter": ";"}) == ["a, b"]
    assert problems("qa.csv", options={"delimiter": ";;"}) == [
        "dataset: the delimiter is ';;'; it must be one character, such as ',' or ';'"
    ]
    write("qb.csv", "input;expected\na;1\n")
    assert problems("qb.csv") == [
        ("dataset: no column 'input' in qb.csv; it has: 'input;expected'. Set the delimiter: delimiter: ';'")
    ]


def test_with_quoting_false_a_quote_is_an_ordinary_character() -> None:
    write("qa.tsv", 'input\texpected\n"Who" said "it\tme"\n')
    assert inputs("qa.tsv", options={"quoting": False}) == ['"Who" said "it']
    assert "set quoting: false" in problems("qa.tsv")[0]


def test_a_byte_order_mark_is_not_part_of_the_first_column_name() -> None:
    write("qa.csv", b"\xef\xbb\xbfinput\nhi\n")
    write("qa.jsonl", b'\xef\xbb\xbf{"input": "hi"}\n')
    write("qa.json", b'\xef\xbb\xbf[{"input": "hi"}]')
    assert inputs("qa.csv") == inputs("qa.jsonl") == inputs("qa.json") == ["hi"]


@pytest.mark.parametrize("name", ["qa.csv", "qa.jsonl"])
def test_bytes_that_are_not_utf8_are_reported_with_their_line(name: str) -> None:
    lines = {"qa.csv": "input\nok\ncafé\nok\n", "qa.jsonl": '{"input": 1}\n{"input": 1}\n{"input": "café"}\n'}
    write(name, lines[name].encode("latin-1"))
    (message,) = problems(name)
    assert message.startswith(f"{name}:3: has a byte that is not UTF-8 (0xe9 at character ")


def test_utf16_is_recognized() -> None:
    write("qa.csv", "input\nhi\n".encode("utf-16"))
    assert problems("qa.csv") == ["qa.csv: is UTF-16; save it as UTF-8, or set encoding: utf-16"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qa.csv.gz", "input\nhi\n"),
        ("qa.tsv.gz", "input\texpected\nhi\t1\n"),
        ("qa.jsonl.gz", '{"input": "hi"}\n'),
        ("qa.json.gz", '[{"input": "hi"}]'),
        ("qa.ndjson.gz", '{"input": "hi"}\n'),
    ],
)
def test_gzipped_text_formats_are_read(name: str, text: str) -> None:
    write(name, gzip.compress(text.encode()))
    assert inputs(name) == ["hi"]


def test_a_truncated_gzip_file_is_an_error() -> None:
    write("qa.jsonl.gz", gzip.compress(b'{"input": "hi"}\n' * 1000)[:-12])
    (message,) = problems("qa.jsonl.gz")
    assert message.startswith("qa.jsonl.gz: is a damaged gzip file")


def test_all_invalid_lines_of_a_jsonl_file_are_reported_at_once() -> None:
    lines = [
        '{"input": 1}',
        "",
        '["a"]',
        '{"input": NaN}',
        "{oops}",
        '{"input": 1e999}',
        '"text"',
        '{"input": Infinity}',
    ]
    write("qa.jsonl", "\n".join(lines))
    assert problems("qa.jsonl") == [
        (
            'qa.jsonl:3: is a list, but each line must be an object, such as {"input": …}; '
            "for a file that is one array, set type: json"
        ),
        "qa.jsonl:4: has NaN, which is not JSON; write null",
        "qa.jsonl:5: is not JSON: Expecting property name enclosed in double quotes at character 2",
        "qa.jsonl:6: has a number that is not finite or exceeds a 64-bit float",
        'qa.jsonl:7: is text, but each line must be an object, such as {"input": …}',
        "qa.jsonl:8: has Infinity, which is not JSON; write null",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, "has an integer of more than 4,300 digits; write it as text"),
        ("[" * 150 + "]" * 150, "is nested more than 100 levels deep"),
        ("[" * 100_000 + "]" * 100_000, "is nested more than 100 levels deep"),
        ('"\\ud800"', "has half of a surrogate pair (\\ud800 to \\udfff), which is not a character"),
    ],
    ids=["digits", "deep", "deeper", "surrogate"],
)
def test_json_that_python_cannot_parse_is_reported_with_its_line(value: str, message: str) -> None:
    write("qa.jsonl", f'{{"input": {value}}}\n')
    write("qa.json", f'[{{"input": {value}}}]\n')
    assert problems("qa.jsonl") == [f"qa.jsonl:1: {message}"]
    assert problems("qa.json") == [f"qa.json:1: {message}"]


def test_brackets_in_a_string_do_not_count_as_nesting() -> None:
    write("qa.jsonl", json.dumps({"input": "[" * 500}) + "\n")
    assert inputs("qa.jsonl") == ["[" * 500]


def test_an_array_in_a_jsonl_file_is_recognized() -> None:
    write("qa.jsonl", '[\n  {"input": 1},\n  {"input": 2}\n]\n')
    message = "starts an array, but each line must be one object; for one array, set type: json"
    assert problems("qa.jsonl") == [f"qa.jsonl:1: {message}"]
    assert inputs("qa.jsonl", type="json") == [1, 2]


def test_a_json_file_is_an_array_of_objects() -> None:
    write("qa.json", json.dumps([{"input": n} for n in range(3)], indent=2))
    assert inputs("qa.json") == [0, 1, 2]


def test_elements_that_are_not_objects_are_reported_with_their_lines() -> None:
    write("qa.json", '[1,\n{"input": "fine"},\n"x",\nnull]')
    each = 'but each element must be an object, such as {"input": …}'
    assert problems("qa.json") == [
        f"qa.json:1: is a number, {each}",
        f"qa.json:3: is text, {each}",
        f"qa.json:4: is null, {each}",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"input": 1}', "1: must be one array of objects: [{…}, {…}]; for one object per line, set type: jsonl"),
        ("3", "1: must be one array of objects: [{…}, {…}]"),
        ('[{"input": 1},]', "1: is not JSON: Expecting value at line 1"),
        ('[{"input": 1}\n{"input": 2}]', "2: has '{' in place of a comma or the closing ]"),
        ('[{"input": 1},\n{"input": 2}', "2: ends before the closing ]"),
        ('[{"input": 1}]\n[', "2: has text after the closing ] of the array"),
        ('[\n{"a": 1,\n"b": oops}]', "2: is not JSON: Expecting value at line 3"),
    ],
)
def test_a_json_file_that_is_not_an_array_of_objects_is_an_error(text: str, message: str) -> None:
    write("qa.json", text)
    assert problems("qa.json") == [f"qa.json:{message}"]


def test_a_json_array_is_streamed() -> None:
    rows = [{"input": "é" * (n % 700), "n": n} for n in range(1, 2000)]
    write("qa.json", json.dumps(rows, ensure_ascii=False))
    result = samples("qa.json")
    assert [dict(sample.metadata) for sample in result] == rows


def parquet_file(name: str, table: dict[str, list[object]]) -> str:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(table), name)
    return name


def test_parquet_values_keep_their_types() -> None:
    parquet_file("qa.parquet", {"input": ["a", "b"], "expected": [["x", "y"], None], "n": [1, 2]})
    first, second = samples("qa.parquet")
    assert (first.expected, second.expected) == (("x", "y"), ())
    assert first.metadata == {"input": "a", "expected": ["x", "y"], "n": 1}
    assert inputs("qa.parquet", where={"n": 2}) == ["b"]


def test_parquet_values_without_a_json_type_are_converted() -> None:
    from datetime import UTC, datetime
    from decimal import Decimal

    parquet_file(
        "qa.parquet",
        {
            "input": ["a"],
            "when": [datetime(2024, 5, 1, 12, 30, tzinfo=UTC)],
            "price": [Decimal("1.50")],
            "none": [float("nan")],
            "raw": [b"\xff\x00"],
        },
    )
    (sample,) = samples("qa.parquet")
    assert sample.metadata == {
        "input": "a", "when": "2024-05-01T12:30:00+00:00", "price": 1.5, "none": None, "raw": "/wA=",
    }  # fmt: skip


def test_an_invalid_parquet_file_is_an_error() -> None:
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    write("qa.parquet", "input\nhi\n")
    (message,) = problems("qa.parquet")
    assert message.startswith("qa.parquet: cannot be read as Parquet: ")


def test_parquet_without_pyarrow_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from evalrunner.datasets.parquet import parquet

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError) as raised:
        parquet(path="qa.parquet")
    assert "pip install '.[parquet]'" in str(raised.value)
    write("qa.parquet", b"PAR1")
    assert "pip install '.[parquet]'" in problems("qa.parquet")[0]


@pytest.mark.parametrize("name", ["qa.csv", "qa.tsv", "qa.jsonl", "qa.json"])
def test_an_empty_file_is_an_error(name: str) -> None:
    write(name, "")
    assert problems(name) == [f"dataset: {name} has no rows"]


def test_a_file_with_only_a_header_is_an_error() -> None:
    write("qa.csv", "input,expected\n")
    assert problems("qa.csv") == ["dataset: qa.csv has no rows"]


def test_the_same_rows_have_the_same_digest_in_every_json_format() -> None:
    rows = [{"input": n, "b": None, "a": [1.5, "x"]} for n in range(3)]
    write("qa.json", json.dumps(rows))
    write("qa.jsonl", "".join(json.dumps(dict(reversed(row.items()))) + "\n" for row in rows))
    assert scan("qa.json").digest == scan("qa.jsonl").digest != scan("qa.jsonl", limit=2).digest


def test_an_unreadable_file_is_an_error() -> None:
    opened = source(write("qa.csv", "input\nhi\n"))
    Path("qa.csv").unlink()
    with pytest.raises(SuiteError, match=r"qa\.csv: cannot be read: No such file"):
        opened.scan(lambda sample: ())
