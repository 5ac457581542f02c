"""Packed files and encodings: what is read, and the message for each file that is not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from evalrunner.datasets import packing
from tests.datasets.reading import inputs, problems, samples, write

CSV = "id,input\n1,hi\n2,héllo\n"


def zipped(files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def zstd(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard", reason="needs the extra zstd")
    packed: bytes = zstandard.ZstdCompressor().compress(content)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd, "zstd": zstd,
    "zip": lambda content: zipped({"data/qa": content}),
}  # fmt: skip


@pytest.mark.parametrize("ending", PACKERS)
def test_text_formats_are_read_packed_under_their_own_name_or_another(ending: str) -> None:
    packed = PACKERS[ending](CSV.encode())
    assert inputs(write(f"qa.csv.{ending}", packed)) == inputs(write("qa.csv", packed)) == ["hi", "héllo"]
    assert inputs(write(f"QA.YML.{ending.upper()}", PACKERS[ending](b"- input: a\n"))) == ["a"]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_files_that_were_packed_in_parts_are_read_to_their_end(ending: str) -> None:
    pack = PACKERS[ending]
    write(f"qa.csv.{ending}", pack(CSV.encode()) + pack(b"3,more\n"))
    assert inputs(f"qa.csv.{ending}") == ["hi", "héllo", "more"]


def test_padding_between_xz_streams_is_passed_over() -> None:
    write("qa.csv.xz", lzma.compress(CSV.encode()) + bytes(70_000 // 4 * 4) + lzma.compress(b"3,x\n") + bytes(8))
    assert inputs("qa.csv.xz") == ["hi", "héllo", "x"]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "zip"])
def test_a_truncated_file_is_damaged(ending: str) -> None:
    import random

    text = "input\n" + "".join(f"{random.Random(n).random()}\n" for n in range(4000))
    packed = PACKERS[ending](text.encode())
    write(f"qa.csv.{ending}", packed[: len(packed) // 2] + (packed[-120:] if ending == "zip" else b""))
    assert "is a damaged " in problems(f"qa.csv.{ending}")[0]


def test_an_archive_with_one_file_is_that_file() -> None:
    write(
        "qa.zip",
        zipped({"data/": "", "data/qa.jsonl": '{"input": "a"}\n', "__MACOSX/data/._qa.jsonl": "x", ".DS_Store": "x"}),
    )
    assert inputs("qa.zip") == ["a"]
    assert inputs(write("qb.zip", zipped({"q.csv.gz": gzip.compress(CSV.encode())}))) == ["hi", "héllo"]


def test_of_an_archive_with_several_files_one_is_named() -> None:
    write("qa.zip", zipped({"train.csv": "input\na\n", "test.jsonl": '{"input": "b"}\n', "../../etc/passwd": "root"}))
    assert problems("qa.zip") == [
        "dataset.path: 'qa.zip' has 3 files in it: 'train.csv', 'test.jsonl', '../../etc/passwd'; name one: member: train.csv"
    ]
    assert inputs("qa.zip", options={"member": "test.jsonl"}) == ["b"]
    assert "has no file 'tset.jsonl' in it" in problems("qa.zip", options={"member": "tset.jsonl"})[0]
    assert inputs("qa.zip", type="csv", options={"member": "train.csv"}) == ["a"]


def test_a_member_of_a_file_that_is_no_archive_is_an_error() -> None:
    write("qa.csv", CSV)
    assert problems("qa.csv", options={"member": "x"}) == ["qa.csv: is no ZIP archive; remove member: x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"a/": ""}), "is a ZIP archive without a file in it"),
        (zipped({"[Content_Types].xml": "", "xl/workbook.xml": ""}), "is a spreadsheet or a document"),
        (gzip.compress(zipped({"a.csv": "input\nx\n"})), "is a ZIP archive that is packed again; unpack it"),
        (gzip.compress(bz2.compress(lzma.compress(b"input\nx\n"))), "is packed more than 2 times; unpack it"),
    ],
    ids=[
        "empty",
        "spreadsheet",
        "packed again",
        "packed three times",
    ],  # gzip writes the time, which would be in the id
)
def test_other_archives_are_named(content: bytes, message: str) -> None:
    write("qa.csv.gz", content)
    assert message in problems("qa.csv.gz")[0]


def test_an_archive_with_a_password_is_named() -> None:
    packed = bytearray(zipped({"q.csv": "input\nx\n"}))
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(sign) + place] |= 1
    assert problems(write("q.zip", bytes(packed))) == ["q.zip: is an archive with a password; unpack it"]


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "FREE_BYTES", 1 << 20)
    write("qa.csv.bz2", bz2.compress(b"input\n" + b"a\n" * 3_000_000))
    assert "and 200 times its size" in problems("qa.csv.bz2")[-1]
    write("qb.csv.bz2", bz2.compress(b"input\n" + b"a\n" * 3_000))
    assert len(inputs("qb.csv.bz2")) == 3_000


def test_an_xz_file_that_needs_much_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 512 * 2**20}]
    write("qa.csv.xz", lzma.compress(CSV.encode(), filters=filters))
    assert problems("qa.csv.xz") == ["qa.csv.xz: needs more than 128 MiB of memory to be unpacked; unpack it"]


def test_packed_rows_have_the_ids_and_the_digest_of_the_plain_file() -> None:
    plain = samples(write("qa.csv", "input\na\nb\n"))
    assert samples(write("qa.csv.xz", lzma.compress(b"input\na\nb\n"))) == plain


# encodings


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [
        ("cp1252", "cp1252"), ("latin-1", "latin-1"), ("UTF-16", "utf-16"), ("utf-16-le", "utf-16"), ("utf-16be", "utf-16-be"),
        ("utf-32", "utf-32"), ("utf-8", "utf-8"), ("utf8", "utf-8-sig"), ("mac_roman", "mac_roman"),
    ],
)  # fmt: skip
def test_text_is_read_in_its_encoding(encoding: str, raw: str) -> None:
    options = {"encoding": encoding}
    assert inputs(write("qa.csv", CSV.encode(raw)), options=options) == ["hi", "héllo"]
    assert inputs(write("qa.jsonl", '{"input": "é"}\n'.encode(raw)), options=options) == ["é"]
    assert inputs(write("qa.json", '[{"input": "é"}]'.encode(raw)), options=options) == ["é"]
    assert inputs(write("qa.yaml", "- input: é\n".encode(raw)), options=options) == ["é"]
    assert inputs(write("qa.tsv.bz2", bz2.compress("input\té\nx\ty\n".encode(raw))), options=options) == ["x"]


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", "idna", "unicode_escape", "undefined", ""])
def test_an_unknown_encoding_is_an_error(name: str) -> None:
    write("qa.csv", CSV)
    assert problems("qa.csv", options={"encoding": name}) == [
        f"dataset: the encoding is {name!r}, which is not known; such as utf-8, cp1252 or utf-16"
    ]


def test_bytes_that_an_encoding_does_not_have_are_reported() -> None:
    write("qa.csv", b"input\nok\n\x81\n")
    assert problems("qa.csv", options={"encoding": "cp1252"}) == [
        "qa.csv:3: has a byte that is not cp1252 (0x81 at character 1); set another encoding, or save the file as UTF-8"
    ]
    write("qb.csv", "input\nok\n".encode("utf-16") + b"x")
    assert "set another encoding" in problems("qb.csv", options={"encoding": "utf-16"})[0]


# rows and headers of CSV


def test_rows_of_delimiters_can_be_kept() -> None:
    write("qa.csv", "input,expected\na,1\n,\nb,2\n")
    assert inputs("qa.csv") == inputs("qa.csv", options={"skip_blank_rows": True}) == ["a", "b"]
    assert problems("qa.csv", options={"skip_blank_rows": False}) == ["qa.csv:3: has an empty input (column 'input')"]


def test_a_file_without_a_header_line_gets_one() -> None:
    write("qa.csv", "What?,1\nWho?,2\n")
    (first, second) = samples("qa.csv", options={"header": ["input", "expected"]})
    assert (first.input, first.expected, second.input) == ("What?", ("1",), "Who?")
    assert (
        problems("qa.csv", options={"header": ["input"]})[0]
        == "qa.csv:1: has 2 fields, but the header has 1; a field with ',' in it needs quotes"
    )
    assert "has the column 'a' twice" in problems("qa.csv", options={"header": ["a", "a"]})[0]
    assert "has no name for a column" in problems("qa.csv", options={"header": ["a", " "]})[0]
    assert Path("qa.csv").exists()
