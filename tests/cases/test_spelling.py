"""Numbers, dates, codes and lists reach prompts, scorers, tables and later runs as they are written in the data."""

from __future__ import annotations

import copy
import csv
import json
import pickle
import random
import zipfile
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pytest

from evalrunner.reports.csv import RowSheet
from evalrunner.spelling import Spelled, exact_json, parse_float, respell, spelled, spellings
from tests.cases.suites import command

SUITE = """name: s
dataset: {dataset}
target: {{type: recorded, column: output}}
scorers: [exact_match]
"""
UNSCORED = SUITE.replace("exact_match", '{{type: regex, pattern: "."}}')  # for data without accepted answers


def run(dataset: str, *args: str, suite: str = SUITE) -> Path:
    """The folder of a passed run over a dataset whose column `output` has the answers."""
    Path("s.yaml").write_text(suite.format(dataset=dataset), encoding="utf-8")
    ended = command("s.yaml", "-q", *args)
    assert ended.code == 0, ended.err
    return last()


def last() -> Path:
    """The folder of the newest run."""
    return max(Path("runs/s").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]


def table(path: Path | str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(folder: Path, scorer: str = "exact_match") -> list[float | None]:
    return [row["cells"][scorer]["value"] for row in rows(folder)]


def prompts(dataset: str, template: str) -> list[str]:
    """The prompts that a model would get."""
    Path("p.yaml").write_text(
        f"name: p\ndataset: {dataset}\ntarget: {{model: m, base_url: 'http://127.0.0.1:9/v1'}}\n"
        f"prompt: {json.dumps('<<' + template + '>>')}\nscorers: [{{type: regex, pattern: '.'}}]\n",
        encoding="utf-8",
    )
    ended = command("plan", "p.yaml", "--offline", "--show", "50")
    assert ended.code == 0, ended.err
    return [part.partition(">>")[0].replace("\n    ", "\n") for part in ended.out.split("<<")[1:]]


NUMBERS = [
    "19.90", "0.10", "1.0", "1E5", "1e5", "1e+5", "1e23", "1.5e-7", "12345678901234567.89", "0.12345678901234567890",
    "-0", "-0.0", "0", "100", "-1.50", "123456789012345678901234567890", "1.10e3", "3.14159265358979323846264338327950288",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_json_number_is_spelled_as_in_the_file_everywhere(number: str, kind: str) -> None:
    record = f'{{"id": {number}, "input": {number}, "expected": {number}, "n": [{number}], "output": {number}}}'
    Path(f"d.{kind}").write_text(f"[{record}]" if kind == "json" else record, encoding="utf-8")
    folder = run(f"d.{kind}", "-o", "o.csv", "-o", "o.jsonl")
    (row,) = table("o.csv")
    assert (row["id"], row["input"], row["expected"], row["output"], row["sample.output"]) == (number,) * 5
    assert row["n"] == f"[{number}]" and scores(folder) == [1.0]
    assert f'"input":{number},' in Path("o.jsonl").read_text()
    assert prompts(f"d.{kind}", "{{ input }} {{ n[0] }} {{ n }} {{ expected }}") == [
        f"{number} {number} [{number}] {number}"
    ]
    command("show", "last", "-o", "again.csv")
    assert Path("again.csv").read_bytes() == Path("o.csv").read_bytes()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        *((number, number) for number in NUMBERS),
        ("007", "007"), ("+5", "+5"), ("0x1F", "0x1F"), (".5", ".5"), ("5.", "5."), ("1_000", "1_000"), ("12:30", "12:30"),
        ("1:30:00", "1:30:00"), ("0o17", "0o17"), ("yes", "yes"), ("on", "on"), ("True", "True"), ("FALSE", "FALSE"),
        ("true", "true"), ("2024-01-05", "2024-01-05"), ("2024-01-05T10:00:00Z", "2024-01-05T10:00:00Z"), (".inf", ".inf"), (".nan", ".nan"), ("NaN", "NaN"), ("1.10.2", "1.10.2"), ("'1.10'", "1.10"),
    ],
)  # fmt: skip
def test_a_scalar_of_inline_rows_is_spelled_as_in_the_suite(written: str, shown: str) -> None:
    dataset = f"{{rows: [{{id: a, input: {written}, expected: {written}, output: {json.dumps(shown)}}}]}}"
    folder = run(dataset, "-o", "o.csv")
    (row,) = table("o.csv")
    assert (row["input"], row["expected"], scores(folder)) == (shown, shown, [1.0])
    assert prompts(dataset, "{{ input }} {{ expected }}") == [f"{shown} {shown}"]


def test_ids_of_different_spelling_are_different_samples() -> None:
    dataset = "{rows: [{id: 007, input: a, output: a}, {id: 7, input: b, output: b}, {id: 7.0, input: c, output: c}]}"
    assert [row["id"] for row in rows(run(dataset, suite=UNSCORED))] == ["007", "7", "7.0"]


def test_spelled_numbers_compute_and_compare_in_templates() -> None:
    dataset = "{rows: [{input: x, price: 1.50, n: 007, flag: False, share: .5, many: 1E5}]}"
    template = (
        "{{ price * 2 }} {{ n + 1 }} {{ share + 1 }} {% if price > 1.4 %}big{% endif %}{% if flag %}on{% else %}off{% endif %}"
        " {{ many | int }} {{ price | round(1) }} {{ '%.3f' | format(price) }} {{ price == 1.5 }} {{ price }} {{ n }}"
    )
    assert prompts(dataset, template) == ["3.0 8 1.5 bigoff 100000 1.5 1.500 true 1.50 007"]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("version=1.10", ["a"]),
        ("version=1.1", ["b"]),
        ("code=007", ["a"]),
        ("code=7", ["b"]),
        ("flag=True", ["a", "b"]),
        ("version=[1.10, 1.1]", ["a", "b"]),
    ],
)
def test_where_compares_cells_as_they_are_written(condition: str, ids: list[str]) -> None:
    Path("d.csv").write_text("id,input,version,code,flag,output\na,x,1.10,007,True,1\nb,y,1.1,7,TRUE,2\n")
    folder = run("d.csv", "--where", condition, suite=UNSCORED)
    assert [row["id"] for row in rows(folder)] == ids
    resumed = command("s.yaml", "--resume", "last", "-q")
    assert resumed.code == 0 and [row["id"] for row in rows(folder)] == ids, resumed.err


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("n=12345678901234567.89", ["a"]),
        ("n=12345678901234567.90", ["b"]),
        ("m=1.5", ["a", "b"]),
        ("m=1.50", ["a", "b"]),
        ("zip=01234", ["a"]),
    ],
)
def test_where_compares_numbers_by_their_exact_value_and_codes_by_their_text(condition: str, ids: list[str]) -> None:
    Path("d.jsonl").write_text(
        '{"id":"a","input":"x","n":12345678901234567.89,"m":1.50,"zip":"01234","output":"1"}\n'
        '{"id":"b","input":"x","n":12345678901234567.90,"m":1.5,"zip":"1234","output":"1"}\n'
    )
    assert [row["id"] for row in rows(run("d.jsonl", "--where", condition, suite=UNSCORED))] == ids


def test_numeric_match_reads_every_digit() -> None:
    numbers = ["12345678901234567.89", "0.12345678901234567890", "19.90"]
    lines = [f'{{"id":"{at}","input":"x","expected":{n},"output":"it is {n}"}}' for at, n in enumerate(numbers)]
    lines.append('{"id":"off","input":"x","expected":12345678901234567.89,"output":"12345678901234567.90"}')
    Path("d.jsonl").write_text("\n".join(lines))
    Path("s.yaml").write_text(SUITE.format(dataset="d.jsonl").replace("exact_match", "numeric_match"))
    assert command("s.yaml", "-q").code == 0
    assert scores(last(), "numeric_match") == [1.0, 1.0, 1.0, 0.0]


def test_a_change_of_spelling_changes_the_data() -> None:
    Path("d.jsonl").write_text('{"id":"a","input":"x","price":1.10,"output":"1"}')
    digest = json.loads((run("d.jsonl", suite=UNSCORED) / "run.json").read_text())["dataset"]["digest"]
    assert json.loads((run("d.jsonl", suite=UNSCORED) / "run.json").read_text())["dataset"]["digest"] == digest
    Path("d.jsonl").write_text('{"id":"a","input":"x","price":1.1,"output":"1"}')
    assert json.loads((run("d.jsonl", suite=UNSCORED) / "run.json").read_text())["dataset"]["digest"] != digest


def test_shuffle_rescore_and_resume_keep_the_spelling() -> None:
    Path("d.jsonl").write_text(
        "".join(f'{{"id":"{at}","input":{at}.50,"expected":{at}.50,"output":{at}.50}}\n' for at in range(5))
    )
    folder = run("d.jsonl", "--set", "dataset.shuffle=3")
    assert scores(folder) == [1.0] * 5
    assert sorted(row["input"] for row in table(folder / "table.csv")) == [f"{at}.50" for at in range(5)]
    assert command("s.yaml", "--resume", "last", "-q", "--set", "dataset.shuffle=3").code == 0
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert '"3.50"' in report
    assert command("score", "last", "-q").code == 0
    assert scores(last()) == [1.0] * 5


def test_recorded_outputs_are_the_text_of_the_file() -> None:
    Path("d.jsonl").write_text('{"id":"a","input":"x","expected":"[1.10, 2]","output":[1.10,2]}')
    folder = run("d.jsonl")
    assert rows(folder)[0]["completion"]["text"] == "[1.10, 2]" and scores(folder) == [1.0]


def test_a_spelled_number_survives_pickle_copy_and_json() -> None:
    for text in ("1.10", "007", "True", ".5", "1E5", "+5", "0x1F", "-0"):
        value = spelled(text)
        assert str(pickle.loads(pickle.dumps(value))) == str(copy.deepcopy(value)) == f"{value}" == repr(value) == text
        data = {"a": [1, {"b": value}], "c": 2.5}
        texts = json.loads(json.dumps(spellings(data)))
        again = respell(json.loads(exact_json(data)), texts)
        assert again == data and again["a"][1]["b"].text == text
    assert type(parse_float("2.5")) is float and isinstance(parse_float("2.50"), Spelled)
    assert exact_json({"a": spelled("1.10")}, indent=1) == '{\n "a": 1.10\n}'


def test_parquet_values_are_spelled_as_their_types_have_them() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    columns = {
        "price": (pyarrow.array([Decimal("12345678901234567.89"), Decimal("1.50")], pyarrow.decimal128(20, 2)), "12345678901234567.89", "1.50"),
        "wide": (pyarrow.array([Decimal("1" * 60), Decimal(0)], pyarrow.decimal256(70, 0)), "1" * 60, "0"),
        "large": (pyarrow.array([2**64 - 1, 0], pyarrow.uint64()), "18446744073709551615", "0"),
        "single": (pyarrow.array([0.1, 2.5], pyarrow.float32()), "0.1", "2.5"),
        "when": (pyarrow.array([1, None], pyarrow.timestamp("ns", tz="Europe/Berlin")), "1970-01-01T01:00:00.000000001+01:00", ""),
        "naive": (pyarrow.array([datetime(2024, 1, 5, 10), None], pyarrow.timestamp("ms")), "2024-01-05T10:00:00", ""),
        "day": (pyarrow.array([date(2024, 1, 5), None], pyarrow.date32()), "2024-01-05", ""),
        "clock": (pyarrow.array([1, None], pyarrow.time64("ns")), "00:00:00.000000001", ""),
        "length": (pyarrow.array([1, 10**9], pyarrow.duration("ns")), "0.000000001", "1.0"),
        "word": (pyarrow.array(["007", "x"]).dictionary_encode(), "007", "x"),
        "text": (pyarrow.array(["1.10", ""], pyarrow.large_string()), "1.10", ""),
        "raw": (pyarrow.array([b"1.10", b"\xff"]), "1.10", "/w=="),
        "nested": (pyarrow.array([[{"p": Decimal("1.10"), "s": 0.1}], []], pyarrow.list_(pyarrow.struct([("p", pyarrow.decimal128(5, 2)), ("s", pyarrow.float32())]))), '[{"p": 1.10, "s": 0.1}]', "[]"),
        "pairs": (pyarrow.array([[("k", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())), '[["k", 1]]', "[]"),
        "yes": (pyarrow.array([True, False]), "true", "false"),
        "nothing": (pyarrow.nulls(2), "", ""),
    }  # fmt: skip
    data = {name: column for name, (column, *_) in columns.items()}
    price = data["price"]
    parquet.write_table(
        pyarrow.table({"input": ["a", "b"], "expected": price, **data, "output": price.cast(pyarrow.string())}),
        "d.parquet",
    )
    folder = run("d.parquet", "-o", "o.parquet", "-o", "o.csv")
    assert scores(folder) == [1.0, 1.0]
    wanted = [
        dict(zip(columns, texts, strict=True)) for texts in zip(*(each[1:] for each in columns.values()), strict=True)
    ]
    assert [{name: row[name] for name in columns} for row in table("o.csv")] == wanted
    template = "|".join(f"{{{{ {name} }}}}" for name in columns)
    assert prompts("d.parquet", template) == ["|".join(row.values()) for row in wanted]
    assert prompts("o.parquet", template) == prompts("d.parquet", template)


SHEET: list[tuple[Any, str, str]] = [
    (19.9, "General", "19.9"),
    (19.9, "0.00", "19.90"),
    (19.899, "0.00", "19.899"),
    (5, "0.0", "5.0"),
    (5.0, "General", "5"),
    (1234, "00000", "01234"),
    (1234.5, "#,##0.00", "1234.50"),
    (1234.5, "[$€-407]#,##0.00;[Red]-#,##0.00", "1234.50"),
    (-7, "000", "-007"),
    (0.25, "0%", "25%"),
    (0.2534, "0%", "25.34%"),
    (0.25, "0.00%", "25.00%"),
    (0.1 + 0.2, "General", "0.3"),
    (123456789012345, "General", "123456789012345"),
    (1.5e-7, "0.00E+00", "0.00000015"),
    (0.5, "# ?/?", "0.5"),
    (True, "General", "true"),
    ("007", "@", "007"),
    ("1.10", "General", "1.10"),
    (date(2024, 1, 5), "yyyy-mm-dd", "2024-01-05"),
    (datetime(2024, 1, 5), "dd.mm.yy", "2024-01-05"),
    (datetime(2024, 1, 5), "yyyy-mm-dd hh:mm", "2024-01-05T00:00:00"),
    (datetime(2024, 1, 5, 10, 30), "yyyy-mm-dd hh:mm", "2024-01-05T10:30:00"),
    (time(12, 30), "h:mm", "12:30:00"),
    ("a_x000D_b", "General", "a\rb"),
    ("a\nb", "General", "a\nb"),
    (" blank ", "General", " blank "),
]


@pytest.mark.parametrize(("held", "number_format", "shown"), SHEET)
def test_a_cell_of_excel_reads_as_it_is_shown_but_never_rounded(held: Any, number_format: str, shown: str) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs the extra xlsx")
    book = openpyxl.Workbook()
    book.active.append(["id", "input", None, "value", "expected", "output"])
    book.active.append([7, "x", None, held, held, shown.replace("\r", "_x000D_")])
    book.active["D2"].number_format = book.active["E2"].number_format = number_format
    book.active.append([])
    book.active.append([8, "y", None, None, None, "z"])
    book.save("d.xlsx")
    folder = run("d.xlsx")
    assert [row["id"] for row in rows(folder)] == ["7", "8"] and scores(folder) == [1.0, None]
    assert prompts("d.xlsx", "{{ value }}|{{ metadata.expected }}")[0].splitlines() == f"{shown}|{shown}".splitlines()


def test_formulas_of_excel_have_their_stored_values_and_errors_are_reported() -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs the extra xlsx")
    book = openpyxl.Workbook()
    book.active.append(["id", "input", "output"])
    book.active.append([1, "x", 99])
    book.create_sheet("more").append(["input", "output"])
    book["more"].append(["y", "2"])
    book.save("d.xlsx")
    rewrite("d.xlsx", {"<v>99</v>": "<f>1+1</f><v>2</v>"})
    assert rows(run("d.xlsx", suite=UNSCORED))[0]["completion"]["text"] == "2"
    assert rows(run("{path: d.xlsx, sheet: more}", suite=UNSCORED))[0]["input"] == "y"
    rewrite("d.xlsx", {' t="n"><f>1+1</f><v>2</v>': ' t="e"><v>#DIV/0!</v>'})
    for dataset, message in (
        ("d.xlsx", "d.xlsx:2: has the error #DIV/0! in C2; correct the cell or clear it"),
        ("{path: d.xlsx, sheet: mor}", "no sheet 'mor'; it has: Sheet, more; did you mean 'more'?"),
    ):
        Path("s.yaml").write_text(UNSCORED.format(dataset=dataset))
        ended = command("validate", "s.yaml")
        assert ended.code == 2 and message in ended.out + ended.err
    Path("d.xlsx").write_text("id,input\n")
    ended = command("validate", "s.yaml")
    assert ended.code == 2 and "cannot be read as Excel" in ended.out + ended.err


def rewrite(path: str, changes: dict[str, str]) -> None:
    """Change the XML of the first sheet, each change once."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    text = parts["xl/worksheets/sheet1.xml"].decode()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    parts["xl/worksheets/sheet1.xml"] = text.encode()
    with zipfile.ZipFile(path, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)


LISTS = 'id,input,expected,output\n1,a,"[""x"", ""y""]",y\n2,b,"[""x"", 1.10]",1.10\n3,c,,z\n'


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_column_of_json_lists_is_several_accepted_answers_with_a_note(kind: str) -> None:
    Path("d.csv").write_text(LISTS)
    if kind == "xlsx":
        pytest.importorskip("openpyxl", reason="needs the extra xlsx")
        pandas.read_csv("d.csv", dtype=str).to_excel("d.xlsx", index=False)
    Path("s.yaml").write_text(SUITE.format(dataset=f"d.{kind}"))
    ended = command("s.yaml")
    assert "every cell of 'expected' is a JSON list" in " ".join(ended.out.split())
    assert [row["expected"] for row in rows(last())] == [["x", "y"], ["x", "1.10"], []]
    off = run(f"{{path: d.{kind}, columns: {{expected: {{column: expected, json: false}}}}}}")
    assert [row["expected"] for row in rows(off)] == [['["x", "y"]'], ['["x", 1.10]'], []]


MIXED = 'id,input,expected,output\n1,a,plain,plain\n2,b,"[""x"", ""y""]",y\n3,c,"[\'x\', \'y\']",y\n4,d,007,007\n5,e,"""q""",q\n6,f,[],q\n'


def test_a_mixed_column_is_text_and_a_note_says_how_to_read_its_lists() -> None:
    Path("d.csv").write_text(MIXED)
    Path("s.yaml").write_text(SUITE.format(dataset="d.csv"))
    ended = command("s.yaml")
    text = " ".join(ended.out.split())
    assert "3 cells of the accepted answers are lists that were read as one text" in text
    assert "columns: {expected: {column: expected, json: true}}" in text
    assert rows(last())[1]["expected"] == ['["x", "y"]']
    folder = run("{path: d.csv, columns: {expected: {column: expected, json: true}}}")
    assert [row["expected"] for row in rows(folder)] == [["plain"], ["x", "y"], ["x", "y"], ["007"], ["q"], []]
    assert scores(folder) == [1.0, 1.0, 1.0, 1.0, 1.0, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("{expected: {column: expected, json: true, split: '|'}}", "cannot be combined with 'split'"),
        ("{id: {column: id, json: true}}", "is only for 'input' and 'expected'"),
        ("{expected: {column: expected, json: maybe}}", "columns.expected.json"),
    ],
)
def test_json_columns_that_make_no_sense_are_errors(columns: str, message: str) -> None:
    Path("d.csv").write_text(LISTS)
    Path("s.yaml").write_text(SUITE.format(dataset=f"{{path: d.csv, columns: {columns}}}"))
    ended = command("validate", "s.yaml")
    assert ended.code == 2 and message in ended.out + ended.err


@pytest.mark.parametrize("cell", ['"[""x"", "', "\"['x' 'y']\"", '"{""a"": "'])
def test_a_cell_that_only_begins_as_json_is_an_error_with_its_line(cell: str) -> None:
    Path("d.csv").write_text(f"id,input,expected,output\n1,a,x,x\n2,b,{cell},y\n")
    Path("s.yaml").write_text(
        SUITE.format(dataset="{path: d.csv, columns: {expected: {column: expected, json: true}}}")
    )
    ended = command("validate", "s.yaml")
    assert ended.code == 2 and "d.csv:3: has a column 'expected' that is not JSON" in ended.out + ended.err


def test_an_input_of_json_is_structured() -> None:
    Path("d.csv").write_text('id,input,output\n1,"{""price"": 1.10}",1\n')
    dataset = "{path: d.csv, columns: {input: {column: input, json: true}}}"
    assert prompts(dataset, "{{ input.price }}") == ["1.10"]


NASTY = [
    "a\rb", "a\r\nb", "a\nb", "\r", "10%\r=1+1", 'quo"te', '"', "com,ma", " lead", "trail ", "  ", "\ttab", "=1+1", "+1", "-x",
    "@SUM(A1)", "'=1+1", "''=1", "'plain", "＝1+1", "－x", "\r=1", "-5", "-1.50", "+.5", "007", "1.10", "true", "null", "NaN",
    "#N/A", "_x0041_", "_x000D_", "[]", '["a"]', "['a']", "{}", "ω👍", "👨‍👩‍👧", "می\u200cخواهم", "1e5", "x" * 5000, "\\x1b", ";",
]  # fmt: skip


def nasty_samples(seed: int) -> list[dict[str, Any]]:
    """Samples of texts that break tables, alone and joined, and of typed values."""
    choose = random.Random(seed)

    def text() -> str:
        return choose.choice(NASTY) + (choose.choice(NASTY) if choose.random() < 0.4 else "")

    values = [1, 2.5, True, False, None, "", 2**70, [1, "a"], {"k": None}, spelled("1.10"), spelled("-0"), 1e22, 1.0]
    return [
        {
            "id": f"q{at}",
            "input": text() or "x",
            "expected": [text() for _ in range(choose.randint(0, 3))],
            "output": text(),
            "=cmd()": text(),
            " blank ": text(),
            "": text(),
            "a\rb,\"c'": choose.choice(values),
            "mixed": choose.choice([*values, text()]),
            "@": choose.choice([1, 2, None]),
        }
        for at in range(25)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "jsonl"])
def test_what_is_written_reads_back_the_same(kind: str, seed: int) -> None:
    if kind in ("parquet", "xlsx"):
        pytest.importorskip({"parquet": "pyarrow", "xlsx": "openpyxl"}[kind], reason=f"needs the extra {kind}")
    Path("d.jsonl").write_text("\n".join(exact_json(sample) for sample in nasty_samples(seed)), encoding="utf-8")
    first = run("d.jsonl", "-o", f"o.{kind}")
    written = table(first / "table.csv")
    column = "metadata.output" if kind == "jsonl" else "sample.output"
    Path("s.yaml").write_text(
        SUITE.format(dataset=f"o.{kind}").replace("column: output", f"column: {column}"), encoding="utf-8"
    )
    assert command("s.yaml", "-q").code == 0
    second = last()
    assert [row["expected"] for row in rows(second)] == [row["expected"] for row in rows(first)]
    assert [row["input"] for row in rows(second)] == [row["input"] for row in rows(first)]
    assert scores(second) == scores(first)
    if kind != "jsonl":
        again = table(second / "table.csv")
        same = [name for name in written[0] if name in again[0] and "latency" not in name]
        assert {"'=cmd()", " blank ", "sample.", "a\rb,\"c'", "mixed", "'@"} <= set(same)
        assert [{name: row[name] for name in same} for row in again] == [
            {name: row[name] for name in same} for row in written
        ]


def test_other_readers_read_the_csv_as_it_was_written() -> None:
    samples = nasty_samples(9)
    Path("d.jsonl").write_text("\n".join(exact_json(sample) for sample in samples), encoding="utf-8")
    run("d.jsonl", "-o", "o.csv")
    readings: list[list[dict[Any, Any]]] = [
        table("o.csv"),
        pandas.read_csv("o.csv", dtype=str, keep_default_na=False).to_dict("records"),
    ]
    try:
        import polars
    except ImportError:
        pass
    else:
        frame = polars.read_csv("o.csv", infer_schema=False, empty_string_is_null=False)
        readings.append(frame.to_dicts())
    for reading in readings:
        assert [row["id"] for row in reading] == [sample["id"] for sample in samples]
        for row, sample in zip(reading, samples, strict=True):
            assert row["input"] in (sample["input"], "'" + sample["input"])
            assert row["'=cmd()"] in (sample["=cmd()"], "'" + sample["=cmd()"])
            assert not row["output"].startswith(("=", "@", "\t", "\r", "＝"))


def test_control_direction_and_invisible_characters_are_escaped_in_csv_and_kept_in_the_row_log() -> None:
    text = "a\x1b]8;;http://x\x07b\x9b31m\x00\u202eevil\u2066\u061c\u200b\ufeff\x7f\U000e0041"
    Path("d.jsonl").write_text(json.dumps({"id": "a", "input": "x", "expected": text, "output": text, "\x1b[2J": text}))
    folder = run("d.jsonl")
    raw = (folder / "table.csv").read_text(encoding="utf-8")
    assert raw.count("\n") == 2 and all(sign.isprintable() or sign == "\n" for sign in raw)
    shown = r"a\x1b]8;;http://x\x07b\x9b31m\x00\u202eevil\u2066\u061c\u200b\ufeff\x7f\U000e0041"
    (row,) = table(folder / "table.csv")
    assert row["output"] == row["expected"] == row[r"\x1b[2J"] == shown
    assert rows(folder)[0]["completion"]["text"] == text and scores(folder) == [1.0]
    terminal = command("show", "last", "-v").out
    assert not set("\x1b\x07\x9b\u202e\u2066\u061c\u200b\ufeff") & set(terminal)


def test_the_sheet_holds_texts_as_text_and_says_what_it_cut() -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs the extra xlsx")
    long, wide = "y" * 40_000, "👍" * 20_000
    texts = ["=1+1", "#N/A", "a\rb", "\x01", "_x0041_", "007", "1.10", "\u202e", "'=1", long, wide, "z" * 32_767]
    lines = [{"id": f"q{at}", "input": "x", "=cmd()": 12345678901234567890, "output": t} for at, t in enumerate(texts)]
    Path("d.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    Path("s.yaml").write_text(UNSCORED.format(dataset="d.jsonl"))
    ended = command("s.yaml", "-o", "o.xlsx")
    assert "'o.xlsx': 4 cells cut to the 32,767 characters that Excel allows" in " ".join(ended.out.split())
    sheet = openpyxl.load_workbook("o.xlsx")["rows"]
    header, *body = sheet.iter_rows()
    assert {cell.data_type for cell in header} == {"s"} and "=cmd()" in [cell.value for cell in header]
    place = [cell.value for cell in header].index("output")
    cells = [row[place] for row in body]
    assert {cell.data_type for cell in cells} == {"s"}
    values = [cell.value for cell in cells]
    assert values[:9] == ["=1+1", "#N/A", "a_x000D_b", "_x0001_", "_x005F_x0041_", "007", "1.10", r"\u202e", "'=1"]
    assert values[9].endswith("y … [cut: 40,000 characters]") and len(values[9]) == 32_767
    assert len(values[10].encode("utf-16-le")) // 2 in (32_766, 32_767) and values[10].endswith(
        " … [cut: 20,000 characters]"
    )
    assert values[11] == "z" * 32_767
    assert {row[[cell.value for cell in header].index("=cmd()")].value for row in body} == {"12345678901234567890"}
    again = command("show", "last", "-o", "again.xlsx")
    assert again.code == 0 and "note: 'again.xlsx': 4 cells cut" in again.err
    assert pandas.read_excel("o.xlsx", dtype=str, keep_default_na=False)["output"].tolist() == values


def test_a_table_of_a_table_has_every_column_once() -> None:
    Path("d.jsonl").write_text('{"id":"a","input":"x","output":"1"}')
    run("d.jsonl", "-o", "o1.csv", suite=UNSCORED)
    run("o1.csv", "-o", "o2.csv", suite=UNSCORED)
    run("o2.csv", "-o", "o3.csv", suite=UNSCORED)
    header = Path("o3.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len(set(header))


def test_a_baseline_with_outputs_keeps_the_spelling() -> None:
    Path("d.jsonl").write_text('{"id":"a","input":1.50,"expected":1.50,"price":12345678901234567.89,"output":"1.50"}\n')
    folder = run("d.jsonl", "-o", "o.csv")
    accepted = command("baseline", "accept", "last", "--with-outputs")
    assert accepted.code == 0, accepted.err
    assert '"input":1.50,' in Path("baselines/s/main.jsonl").read_text()
    assert command("score", "baselines/s/main.jsonl", "--suite", "s.yaml", "-q").code == 0
    again = table(last() / "table.csv")
    assert last() != folder and (again[0]["input"], again[0]["price"]) == ("1.50", "12345678901234567.89")


def test_rows_beyond_the_limit_of_a_sheet_are_counted() -> None:
    class Counted:
        rows = 0

        def append(self, row: list[Any]) -> None:
            self.rows += 1

    target = Counted()
    sheet = RowSheet(target)
    for _ in range(1_048_580):
        sheet.append(())
    assert target.rows == 1_048_576
    assert list(sheet.notices()) == ["4 rows left out: a sheet of Excel has 1,048,576; table.csv has all rows"]
