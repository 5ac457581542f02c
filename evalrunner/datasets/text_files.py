"""Text files for readers: unpacked if they are gzip, UTF-8 with or without a BOM, and what is broken in them.

A reader does not raise over a line. It yields a `BrokenLine` in place of the record and goes on where it can, so
that all broken lines of a file are reported at once.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from evalrunner.datasets.records import Record

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952 §2.3.1; the content decides, not the name: downloads get unpacked on their way
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UNDECODED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that are not UTF-8 (PEP 383)


class BrokenLine(dict[str, Any]):
    """What a reader yields in place of a record that cannot be read: no columns, and what is wrong in words."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message


class UnreadableFile(Exception):
    """A file of which nothing can be read. The message goes on from its name."""


@contextmanager
def open_text(path: str, *, newline: str) -> Iterator[TextIO]:
    """The text of a file without its BOM. Bytes that are not UTF-8 arrive as `UNDECODED` characters."""
    with Path(path).open("rb") as raw:
        packed = raw.peek(2)[:2] == GZIP_MAGIC
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        if stream.peek(2)[:2] in UTF16_MARKS:
            raise UnreadableFile("is UTF-16; save it as UTF-8")
        with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline=newline) as text:
            yield text


def read_records(
    path: str, read: Callable[[TextIO], Iterator[tuple[Record, str]]], *, newline: str
) -> Iterator[tuple[Record, str]]:
    """What `read` yields of the file's text; where the file itself cannot be read, a `BrokenLine` that says so."""
    try:
        with open_text(path, newline=newline) as text:
            yield from read(text)
    except UnreadableFile as unreadable:
        yield BrokenLine(str(unreadable)), path
    except (EOFError, zlib.error, gzip.BadGzipFile) as damaged:
        yield BrokenLine(f"is a damaged gzip file ({damaged}); fetch it again"), path
    except OSError as refused:
        yield BrokenLine(f"cannot be read: {refused.strerror or refused}"), path


def undecoded(text: str) -> str | None:
    """What is wrong with the bytes behind `text`, or None where they are UTF-8."""
    if text.isascii():
        return None
    found = UNDECODED.search(text)
    if found is None:
        return None
    byte = ord(found[0]) - 0xDC00
    return f"has a byte that is not UTF-8 (0x{byte:02x} at character {found.start() + 1}); save the file as UTF-8"
