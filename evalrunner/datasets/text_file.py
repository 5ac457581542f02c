"""Text files of datasets: unpacked, decoded, and distinguished from what is no text."""

from __future__ import annotations

import codecs
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final, TextIO

from evalrunner.datasets.packing import HEAD, UnreadableFileError, open_unpacked
from evalrunner.datasets.records import InvalidRecord, Record

UTF8: Final = "utf-8"
NO_CHARSETS: Final = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
"""Encodings of Python that no data file has, or that are not the same on every system."""
SIGNATURES: Final = (
    (b"version https://git-lfs.github.com/spec/", "is a pointer of Git LFS, not the data; get it: git lfs pull"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel workbook of the old format; save the sheet as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive; unpack it"),
    (b"PAR1", "is a Parquet file; set type: parquet"),
    (b"ARROW1", "is an Arrow file; save the table as Parquet"),
    (b"SQLite format 3\x00", "is an SQLite database; save the table as CSV"),
    (b"%PDF-", "is a PDF; save the data as CSV"),
)
WIDE: Final = (  # marks of encodings with several bytes for every character
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
MARKS: Final = {
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
ANNEX_POINTER: Final = re.compile(rb"/?(?:\.git/)?annex/objects/\S+\s*\Z")
UNDECODED: Final = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes in no encoding (PEP 383)


def checked_encoding(name: str) -> str:
    """The encoding's own name. Raises ValueError if Python has no such encoding of text."""
    try:
        known = codecs.lookup(name).name
        if known.replace("-", "_") in NO_CHARSETS:
            raise LookupError
        "".encode(known)  # refuses what is no encoding of text, such as base64
    except (LookupError, ValueError):  # ValueError: a NUL character
        raise ValueError(f"the encoding is {name!r}, which is not known; such as utf-8, cp1252 or utf-16") from None
    return UTF8 if known == "utf-8-sig" else known


def other_format(head: bytes, encoding: str = UTF8) -> str | None:
    """What a file is, by its first bytes, if it is no text in that encoding with data in it, and what to do; else None."""
    for sign, problem in SIGNATURES:
        if head.startswith(sign):
            return problem
    wide = encoding.startswith(("utf-16", "utf-32"))
    for sign, name in WIDE:
        if head.startswith(sign) and not wide:
            return f"is {name}; save it as UTF-8, or set encoding: {name.lower()}"
    if head.count(0) * 4 >= len(head) > 0 and not wide:  # text of ASCII characters in two bytes each, without a mark
        return f"is not {_display_name(encoding)} text (it has NUL bytes, as UTF-16 has); save it as UTF-8, or set encoding: utf-16"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "is a web page or XML, not data; download the file itself (its raw form)"
    if ANNEX_POINTER.match(head):
        return "is a pointer of git-annex, not the data; get it: git annex get FILE"
    return None


@contextmanager
def open_text(path: str, *, newline: str, encoding: str = UTF8, member: str | None = None) -> Iterator[TextIO]:
    """The text of a file, unpacked and without BOM. Bytes in no encoding become `UNDECODED` characters."""
    with open_unpacked(path, member=member) as stream:
        head = stream.peek(HEAD)[:HEAD]
        if problem := other_format(head, encoding):
            raise UnreadableFileError(problem)
        if (mark := MARKS.get(encoding)) and head.startswith(mark):
            stream.read(len(mark))
        codec = "utf-8-sig" if encoding == UTF8 else encoding
        with io.TextIOWrapper(stream, codec, errors="surrogateescape", newline=newline) as text:
            yield text


def read_records(
    path: str,
    read: Callable[[TextIO], Iterator[tuple[Record, str]]],
    *,
    newline: str,
    encoding: str = UTF8,
    member: str | None = None,
) -> Iterator[tuple[Record, str]]:
    """What `read` yields for the file's text; an `InvalidRecord` if the file itself cannot be read."""
    try:
        with open_text(path, newline=newline, encoding=encoding, member=member) as text:
            yield from read(text)
    except UnreadableFileError as unreadable:
        yield InvalidRecord(str(unreadable)), path
    except UnicodeError:  # where an encoding cannot go on after a wrong byte, as UTF-16
        yield (
            InvalidRecord(f"is not {_display_name(encoding)} to its end; set another encoding, or save it as UTF-8"),
            path,
        )
    except OSError as refused:
        yield InvalidRecord(f"cannot be read: {refused.strerror or refused}"), path


def encoding_problem(text: str, encoding: str = UTF8) -> str | None:
    """What is wrong with the bytes behind `text`, None if they are in the encoding."""
    if text.isascii():
        return None
    match = UNDECODED.search(text)
    if match is None:
        return None
    byte = f"0x{ord(match[0]) - 0xDC00:02x} at character {match.start() + 1}"
    if encoding == UTF8:
        return f"has a byte that is not UTF-8 ({byte}); save the file as UTF-8, or set its encoding, such as cp1252"
    return f"has a byte that is not {_display_name(encoding)} ({byte}); set another encoding, or save the file as UTF-8"


def _display_name(encoding: str) -> str:
    return encoding.upper() if encoding.startswith("utf") else encoding


@dataclass(slots=True)
class StructuredFile(ABC):
    """Reads one file of JSON or YAML. `records` is the path of the rows in it, None for those of the whole file."""

    path: str
    max_record_mb: int
    records: str | None = None
    encoding: str = UTF8
    member: str | None = None
    text_only: bool = False
    newline: ClassVar[str] = "\n"

    def __call__(self) -> Iterator[tuple[Record, str]]:
        return read_records(self.path, self._records, newline=self.newline, encoding=self.encoding, member=self.member)

    @abstractmethod
    def _records(self, text: TextIO) -> Iterator[tuple[Record, str]]:
        """The records of the text, each with its location."""
