"""Suites and data that are too large, never end, or are no files: a sentence, in little memory and time."""

from __future__ import annotations

import gzip
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.forked import CommandServer, Done

MEMORY_MB = 4_000  # of address space; a runaway process must not take the machine
PEAK_MB = 400  # of the process; evalrun itself has 40, with pyarrow or openpyxl 80
MB = b"a" * 2**20
RECORD = "has more than 16 MiB in one record"
COLUMNS = "columns; at most 50,000 are read"
KERNEL = "/proc or /sys, which have no data files"
DEVICE = "is a pipe or a device"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006"
HEADER = (
    b'<row r="1"><c r="A1" t="inlineStr"><is><t>input</t></is></c><c r="B1" t="inlineStr"><is><t>out</t></is></c></row>'
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def commands() -> Iterator[CommandServer]:
    with CommandServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.jsonl").write_text('{"input": "x", "expected": "y", "out": "y"}\n')
    return tmp_path


def suite(**sections: str) -> str:
    known = {"dataset": "good.jsonl", "target": "{type: recorded, column: out}", "scorers": "[exact_match]", **sections}
    return "name: s\n" + "".join(f"{name}: {text}\n" for name, text in known.items())


def validate(commands: CommandServer, folder: Path, *, seconds: float = 120) -> Done:
    """`evalrun validate` of the suite of a test."""
    return commands.run(["validate", "s.yaml"], folder=folder, seconds=seconds, memory_mb=MEMORY_MB)


def assert_refused(done: Done, expected: str, *, peak_mb: int = PEAK_MB) -> None:
    """The command ended with one of the sentences of a mistake in a suite, in bounded memory."""
    assert not done.hung
    assert done.code == 2, done.err[-2000:]
    assert expected in done.err
    assert "Traceback" not in done.err
    assert len(done.err) < 6_000
    assert done.peak_mb < peak_mb


def packed(*pieces: tuple[bytes, int]) -> Callable[[Path], None]:
    """Writes a gzip file of pieces, each repeated."""

    def write(path: Path) -> None:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for piece, times in pieces:
                for _ in range(times):
                    file.write(piece)

    return write


DATA: dict[str, tuple[Callable[[Path], None], str]] = {
    "line.jsonl.gz": (packed((b'{"input": "', 1), (MB, 40), (b'"}\n', 1)), RECORD),
    "second-line.jsonl.gz": (packed((b'{"input": "x", "out": "y"}\n{"input": "', 1), (MB, 40)), f"jsonl.gz:2: {RECORD}"),
    "no-line-end.jsonl.gz": (packed((b"\0" * 2**20, 1)), "has NUL bytes"),
    "blanks.jsonl.gz": (packed((b" " * 2**20, 40)), RECORD),
    "element.json.gz": (packed((b'[{"input": "', 1), (MB, 40)), RECORD),
    "object.json.gz": (packed((b'{"rows": [{"input": "', 1), (MB, 40)), "must be one array of objects"),
    "space.json.gz": (packed((b"[" + b" \n" * 2**19, 1), (b" \n" * 2**19, 20), (b"{}", 1)), "before the closing ]"),
    "lists.jsonl.gz": (packed((b'{"input": [', 1), (b"[]," * 2**18, 20), (b"[]]}\n", 1)), "has more than 1,048,576 values"),
    "lists.json.gz": (packed((b'[{"input": [', 1), (b"[]," * 2**18, 20), (b"[]]}]", 1)), "has more than 1,048,576 values"),
    "numbers.jsonl.gz": (packed((b'{"input": [', 1), (b"1.5," * 2**18, 15), (b"1]}\n", 1)), "has more than 1,048,576 values"),
    "brackets.jsonl.gz": (packed((b"[" * 10**6, 1)), "is nested more than 100 levels deep"),
    "brackets.json.gz": (packed((b'[{"input":' + b"[" * 10**6, 1)), "is nested more than 100 levels deep"),
    "objects.jsonl.gz": (packed((b'{"a":' * 200_000, 1)), "is nested more than 100 levels deep"),
    "digits.jsonl.gz": (packed((b'{"input": ' + b"9" * 10**6 + b"}\n", 1)), "has an integer of more than 4,300 digits"),
    "exponent.jsonl.gz": (packed((b'{"input": 1e' + b"9" * 10**6 + b"}\n", 1)), "has a number that is not finite"),
    "keys.jsonl.gz": (packed((b"".join(b'{"input": "x", "k%d": 1}\n' % n for n in range(50_001)), 1)), COLUMNS),
    "many-keys.jsonl.gz": (packed((b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}\n", 1)), COLUMNS),
    "long-key.jsonl.gz": (packed((b'{"input": "x", "' + b"k" * 10**6 + b'": 1}\n', 1)), "a column name of 1,000,000 characters"),
    "cell.csv.gz": (packed((b'input,out\n"', 1), (MB, 40)), f"csv.gz:2: {RECORD}"),
    "open-quote.csv.gz": (packed((b'input,out\n"', 1), ((b"a" * 1023 + b"\n") * 2**10, 20)), "or a quote is not closed"),
    "header.csv.gz": (packed((MB, 40)), f"csv.gz:1: {RECORD}"),
    "wide.csv.gz": (packed((b",".join(b"a%d" % n for n in range(100_000)) + b"\n1\n", 1)), COLUMNS),
    "long-name.csv.gz": (packed((MB + b",b\n1,2\n", 1)), "a column name of 1,048,576 characters"),
    "commas.csv.gz": (packed((b"input,out\n" + b"x," * 2**20 + b"\n", 1)), "has 1048577 fields, but the header has 2"),
    "wide.tsv.gz": (packed((b"\t".join(b"a%d" % n for n in range(100_000)) + b"\n1\n", 1)), COLUMNS),
    "cut.jsonl.gz": (lambda path: (path.write_bytes(gzip.compress(MB)[:100]), None)[1], "is a damaged gzip file"),
    "nested.jsonl.gz": (packed((gzip.compress(gzip.compress(MB)), 1)), "is packed more than 2 times; unpack it"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_hostile_text_data_is_a_sentence_in_little_memory(commands: CommandServer, folder: Path, name: str) -> None:
    write, expected = DATA[name]
    write(folder / name)
    (folder / "s.yaml").write_text(suite(dataset=name))
    assert_refused(validate(commands, folder), expected)


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["jsonl", "json", "csv"])
def test_a_record_of_a_gigabyte_takes_little_memory(commands: CommandServer, folder: Path, extension: str) -> None:
    starts = {"jsonl": b'{"input": "', "json": b'[{"input": "', "csv": b'input,out\n"'}
    packed((starts[extension], 1), (MB, 1024))(folder / f"bomb.{extension}.gz")
    (folder / "s.yaml").write_text(suite(dataset=f"bomb.{extension}.gz"))
    assert_refused(validate(commands, folder), RECORD, peak_mb=200)


def test_max_record_mb_allows_larger_records_and_smaller_ones_only(commands: CommandServer, folder: Path) -> None:
    packed((b'{"expected": "y", "out": "y", "input": "', 1), (MB, 17), (b'"}\n', 1))(folder / "large.jsonl.gz")
    for text, code, expected in (
        ("{path: large.jsonl.gz, max_record_mb: 32}", 0, ""),
        ("{path: large.jsonl.gz, max_record_mb: 17}", 2, "has more than 17 MiB in one record"),
        ("{path: large.jsonl.gz, max_record_mb: 0}", 2, "max_record_mb is 0; it must be between 1 and 2,000"),
        ("{path: large.jsonl.gz, max_record_mb: x}", 2, "max_record_mb"),
    ):
        (folder / "s.yaml").write_text(suite(dataset=text))
        done = validate(commands, folder)
        assert (done.code, expected in done.err) == (code, True), done.err


def workbook(path: Path, rows: bytes, *, shared: tuple[bytes, int] | None = None, doctype: str = "") -> None:
    """An Excel file whose sheet has these rows of XML; `shared` is repeated in its table of texts."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    relation = "http://schemas.openxmlformats.org/package/2006/relationships"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        book.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
            f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}.sharedStrings+xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relation}"><Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{SHEET}/main" xmlns:r="{office}"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{relation}"><Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
            f'<Relationship Id="r2" Type="{office}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
        )
        with book.open("xl/worksheets/sheet1.xml", "w") as sheet:
            sheet.write(
                f'{doctype}<worksheet xmlns="{SHEET}/main"><dimension ref="A1:XFD1048576"/><sheetData>'.encode()
            )
            sheet.write(rows + b"</sheetData></worksheet>")
        with book.open("xl/sharedStrings.xml", "w") as texts:
            texts.write(f'<sst xmlns="{SHEET}/main">'.encode())
            for _ in range(shared[1] if shared else 0):
                texts.write(shared[0] if shared else b"")
            texts.write(b"</sst>")


ENTITIES = "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9))
LAUGHS = f"<!DOCTYPE l [<!ENTITY a 'aaaaaaaaaa'>{ENTITIES}]>"
FILE_ENTITY = "<!DOCTYPE l [<!ENTITY j SYSTEM 'file:///etc/passwd'>]>"
BOOKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "texts": (lambda path: workbook(path, HEADER, shared=(b"<si><t>" + MB + b"</t></si>", 300)), "unpacks to 300 MiB, but at most 128 are read"),
    "tiny texts": (lambda path: workbook(path, HEADER, shared=(b"<si><t>a</t></si>" * 10_000, 600)), "has more than 4,194,304 XML elements"),
    "empty cells": (lambda path: workbook(path, HEADER + b'<row r="2">' + b"<c/>" * 5_000_000 + b"</row>"), "has more than 4,194,304 XML elements"),
    "runs of text": (lambda path: workbook(path, HEADER + b'<row r="2"><c r="A2" t="inlineStr"><is>' + b"<r><t>a</t></r>" * 2_500_000 + b"</is></c></row>"), "has more than 4,194,304 XML elements"),
    "one text": (lambda path: workbook(path, HEADER.replace(b"inlineStr", b"s").replace(b"<is><t>input</t></is>", b"<v>0</v>").replace(b"<is><t>out</t></is>", b"<v>0</v>"), shared=(b"<si><t>" + MB[:5000] + b"</t></si>", 1)), "a column name of 5,000 characters"),
    "laughs": (lambda path: workbook(path, HEADER.replace(b"input", b"&j;"), doctype=LAUGHS), "cannot be read as Excel"),
    "entity": (lambda path: workbook(path, HEADER.replace(b"input", b"&j;"), doctype=FILE_ENTITY), "cannot be read as Excel"),
    "gap": (lambda path: workbook(path, HEADER + b'<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>'), "has more than 1,048,576 rows"),
    "far column": (lambda path: workbook(path, HEADER + b'<row r="2"><c r="XFD2"><v>1</v></c></row>'), "has a value in XFD2"),
    "no such column": (lambda path: workbook(path, HEADER + b'<row r="2"><c r="ZZZZZZ2"><v>1</v></c></row>'), "cannot be read as Excel"),
    "not well-formed": (lambda path: workbook(path, HEADER + b"<row><c"), "cannot be read as Excel: not well-formed"),
    "no archive": (lambda path: (path.write_bytes(b"PK\3\4" + bytes(100)), None)[1], "cannot be read as Excel"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOKS)
def test_a_hostile_workbook_is_a_sentence_in_little_memory(commands: CommandServer, folder: Path, name: str) -> None:
    pytest.importorskip("openpyxl")
    write, expected = BOOKS[name]
    write(folder / "d.xlsx")
    (folder / "s.yaml").write_text(suite(dataset="d.xlsx"))
    done = validate(commands, folder)
    assert_refused(done, expected)
    assert "root:" not in done.err


def parquet_file(path: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def zeros(count: int) -> pa.Array:
        return pa.array([0], pa.int32()).take(pa.nulls(count, pa.int32()).fill_null(0))

    columns = {
        "value": lambda: {"input": pa.array(["q"]), "out": pa.array(["x" * (64 * 2**20)])},
        "dictionary": lambda: {
            "input": pa.array(["q"] * 256),
            "out": pa.DictionaryArray.from_arrays(pa.array([0] * 256, pa.int32()), pa.array(["x" * (17 * 2**20)])),
        },
        "list": lambda: {"input": pa.array(["q"]), "out": pa.array([bytes(30_000_000)], pa.binary()).cast(pa.large_binary())},
        "column": lambda: {"input": pa.array(["q"] * 100), "out": pa.array(["x" * 2**20] * 100)},
        "columns": lambda: {f"c{number}": pa.array([1]) for number in range(50_001)},
        "rows": lambda: {"input": pa.array(["q"]).take(zeros(5_000_000)), "out": pa.array([""]).take(zeros(5_000_000))},
        "repeated": lambda: {"input": pa.array(["x" * 1000]).take(zeros(1_000_000)), "out": pa.array(["y"]).take(zeros(1_000_000))},
    }  # fmt: skip
    pq.write_table(
        pa.table(columns[name]()), path, compression="zstd", dictionary_pagesize_limit=2**30,
        use_dictionary=name in ("dictionary", "rows", "repeated"), row_group_size=10**8,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("value", RECORD),
        ("list", RECORD),
        ("dictionary", "has more than 16 MiB in one record"),
        ("column", "unpacks to 100 MiB from"),
        ("columns", COLUMNS),
        ("rows", "has 5,000,000 rows in"),
        ("repeated", "rows unpack to 2"),
    ],
)
def test_a_hostile_parquet_file_is_a_sentence_in_little_memory(
    commands: CommandServer, folder: Path, name: str, expected: str
) -> None:
    pytest.importorskip("pyarrow")
    parquet_file(folder / "d.parquet", name)
    (folder / "s.yaml").write_text(suite(dataset="d.parquet"))
    assert_refused(validate(commands, folder), expected)


def special_files(folder: Path) -> None:
    """Files that are none: a pipe, a socket, devices, links into /proc and rings of links."""
    os.mkfifo(folder / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the address of a socket is short
        listener.bind("socket.jsonl")
        os.chdir(here)
    (folder / "folder.jsonl").mkdir()
    for name, to in (
        ("zero", "/dev/zero"),
        ("environ", "/proc/self/environ"),
        ("loop", "loop.jsonl"),
        ("gone", "nope"),
    ):
        (folder / f"{name}.jsonl").symlink_to(to)
    (folder / "ring").symlink_to(".")
    (folder / "proc").symlink_to("/proc")


PATHS = {
    "pipe.jsonl": DEVICE, "socket.jsonl": DEVICE, "zero.jsonl": DEVICE, "/dev/zero": DEVICE, "/dev/tty": DEVICE, "/dev/stdin": DEVICE,
    "/dev/fd/0": DEVICE, "environ.jsonl": KERNEL, "/proc/self/environ": KERNEL, "/proc/kcore": KERNEL, "/proc/self/mem": KERNEL,
    "/proc/kmsg": KERNEL, "/sys/kernel/notes": KERNEL, "proc/self/environ": KERNEL, "/proc/self/cwd/../environ": "not found",
    "/proc/**/*": KERNEL, "/proc/*/environ": KERNEL, "proc/**/*": KERNEL, "/sys/**": KERNEL, "/dev/**/*": "no file matches",
    "loop.jsonl": "a link without a file", "gone.jsonl": "a link without a file", "folder.jsonl": "is a folder", "folder.jsonl/**": "no file matches",
    "ring/ring/ring/*.nope": "no file matches", "**/nope": "no file matches",
    "*" * 200 + "b": "no file matches", "x" * 5000: "cannot be read: File name too long", "[" * 200: "no file matches",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_a_dataset_of_no_data_file_is_a_sentence(commands: CommandServer, folder: Path, path: str) -> None:
    special_files(folder)
    (folder / "s.yaml").write_text(suite(dataset=f"{{path: '{path}', type: jsonl}}"))
    done = validate(commands, folder)
    assert_refused(done, PATHS[path])


@pytest.mark.slow
def test_a_glob_over_the_whole_machine_is_a_sentence(commands: CommandServer, folder: Path) -> None:
    (folder / "s.yaml").write_text(suite(dataset="{path: '/**/*/no-such-name', type: jsonl}"))
    done = validate(commands, folder)
    assert_refused(
        done, "no file matches" if "no file matches" in done.err else "look at more than 250,000 files and folders"
    )


def test_a_ring_of_links_adds_no_files_to_a_glob(commands: CommandServer, folder: Path) -> None:
    special_files(folder)
    (folder / "below").mkdir()
    (folder / "below" / "good.jsonl").write_text('{"input": "2", "expected": "y", "out": "y"}\n')
    (folder / "linked").symlink_to("below")
    (folder / "s.yaml").write_text(suite(dataset="'**/good.jsonl'"))
    done = validate(commands, folder)
    assert (done.code, done.hung) == (0, False), done.err
    assert "(3 samples" in done.out + done.err  # good, below/good, linked/good


def test_a_glob_that_matches_ten_thousand_files_is_a_sentence(commands: CommandServer, folder: Path) -> None:
    (folder / "many").mkdir()
    for number in range(10_001):
        (folder / "many" / f"{number}.jsonl").touch()
    (folder / "s.yaml").write_text(suite(dataset="many/*"))
    done = commands.run(["validate", "s.yaml"], folder=folder)
    assert_refused(done, "'many/*' matches 10,001 files; at most 10,000 are read")


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "rows.jsonl"])
def test_a_file_of_a_run_with_a_gigabyte_takes_little_memory(commands: CommandServer, folder: Path, name: str) -> None:
    (folder / "s.yaml").write_text(suite())
    assert commands.run(["run", "s.yaml", "-q"], folder=folder).code == 0
    (run,) = (folder / "runs/s").iterdir()
    with (run / name).open("wb") as file:
        file.truncate(2**30)
    (folder / "s.yaml").write_text(suite(target=f"{{type: recorded, run: {run}}}"))
    for args in (["validate", "s.yaml"], ["show", str(run)], ["diff", str(run), str(run)]):
        done = commands.run(args, folder=folder)
        assert not done.hung
        assert done.code in (0, 2), done.err  # not every command needs each of the files
        assert "Traceback" not in done.err
        assert done.peak_mb < 900  # 256 MiB of a line, and a copy


def test_certificates_of_a_gigabyte_are_refused_unread(commands: CommandServer, folder: Path) -> None:
    with (folder / "ca.pem").open("wb") as file:
        file.truncate(2**30)
    target = "{model: m, base_url: 'https://127.0.0.1:9/v1', transport: {type: httpx, verify: ca.pem}}"
    (folder / "s.yaml").write_text(suite(target=target))
    assert_refused(commands.run(["validate", "s.yaml"], folder=folder), "it is larger than 16 MiB", peak_mb=200)


PLACES = {
    "prompt": lambda file: suite(prompt=f"{{file: {file}}}"),
    "system": lambda file: suite(prompt=f"[{{system: {{file: {file}}}}}, {{user: x}}]"),
    "verify": lambda file: suite(target=f"{{model: m, base_url: 'http://127.0.0.1:9/v1', transport: {{type: httpx, verify: {file}}}}}"),
    "cert": lambda file: suite(target=f"{{model: m, base_url: 'http://127.0.0.1:9/v1', transport: {{type: httpx, cert: {file}, key: {file}}}}}"),
    "baseline": lambda file: suite(gates=f"[{{metric: exact_match, baseline: {file}, max_drop: 0.1}}]"),
    "recorded run": lambda file: suite(target=f"{{type: recorded, run: {file}}}"),
    "scorer": lambda file: suite(scorers=f"[{{type: python, function: '{file}:f'}}]"),
    "reader": lambda file: suite(dataset=f"{{path: good.jsonl, type: '{file}:f'}}"),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_a_suite_reads_a_special_file(commands: CommandServer, folder: Path, place: str) -> None:
    special_files(folder)
    for file in ("pipe.jsonl", "/dev/zero", "/proc/self/environ", "environ.jsonl", "socket.jsonl", "zero.jsonl"):
        (folder / "s.yaml").write_text(PLACES[place](file))
        done = validate(commands, folder, seconds=60)
        assert_refused(done, "s.yaml" if place != "baseline" and place != "recorded run" else file)
        assert "PATH=" not in done.err


@pytest.mark.parametrize("to", ["/dev/zero", "/proc/self/environ", "pipe"])
def test_an_env_file_that_is_no_file_is_a_sentence(commands: CommandServer, folder: Path, to: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / ".env").symlink_to(to)
    (folder / "s.yaml").write_text(suite())
    assert_refused(validate(commands, folder), ".env: ")


def test_a_baseline_of_one_endless_line_takes_little_memory(commands: CommandServer, folder: Path) -> None:
    with (folder / "b.jsonl").open("wb") as file:
        file.truncate(2**30)  # a sparse file of NUL bytes
    (folder / "s.yaml").write_text(suite(gates="[{metric: exact_match, baseline: b.jsonl, max_drop: 0.1}]"))
    assert_refused(validate(commands, folder), "has a line of more than 64 MiB")


@pytest.mark.parametrize("name", ["s.yaml", "prompt.yaml", "prompt.txt"])
def test_a_suite_or_prompt_of_a_gigabyte_is_refused_unread(commands: CommandServer, folder: Path, name: str) -> None:
    (folder / "s.yaml").write_text(suite(prompt=f"{{file: {name}}}"))
    with (folder / name).open("ab") as file:
        file.truncate(2**30)
    assert_refused(validate(commands, folder), "larger than 16 MiB", peak_mb=150)
