"""Unpack gzip, bzip2, xz, Zstandard and ZIP while a file is read. Nothing is written, and memory stays bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from evalrunner.errors import MissingExtraError, nearest
from evalrunner.storage import open_file

GZIP_MAGIC: Final = b"\x1f\x8b"  # RFC 1952 §2.3.1; the content decides, not the name: downloads are sometimes unpacked
BZIP2: Final = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
XZ_MAGIC: Final = b"\xfd7zXZ\x00"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878 §3.1.1
ZIP_MAGIC: Final = b"PK\x03\x04"
HEAD: Final = 512  # bytes that are looked at to tell what a file is
BLOCK: Final = 1 << 16
ZSTD_BLOCK: Final = 1024  # bytes; four of them can be a block of 128 KiB
MAX_LAYERS: Final = 2  # of packing: a .csv.gz in a ZIP archive
MAX_WINDOW: Final = (
    128 * 2**20
)  # bytes of memory that xz and Zstandard may use; their strongest usual levels take 65 and 128 MiB
MAX_DIRECTORY: Final = 8 * 2**20  # bytes of the list of files in an archive: more than 100,000 of them
MAX_RATIO: Final = 200
FREE_BYTES: Final = 2**30  # that a file of any size may unpack to
MAX_MEMBERS_NAMED: Final = 5
EXTENSIONS: Final = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".zip")
DAMAGE: Final = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


class UnreadableFileError(Exception):
    """A file of which nothing can be read. The message continues its name."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def open_unpacked(path: str, *, member: str | None = None) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked. `member` is the file in a ZIP archive. Raises UnreadableFileError."""
    with ExitStack() as stack:
        raw = stack.enter_context(open_file(Path(path)))
        raw.seek(0, io.SEEK_END)
        limit = max(FREE_BYTES, MAX_RATIO * raw.tell())
        raw.seek(0)
        stream, packed = raw, False
        for _ in range(MAX_LAYERS):
            layer = _layer_of(stream, member)
            if layer is None:
                break
            name, inner = layer
            stream, packed = io.BufferedReader(_Unpacked(inner, name, limit), BLOCK), True
            if name == "ZIP":
                member = None
        if packed and packed_with(stream.peek(HEAD)[:HEAD]) is not None:
            raise UnreadableFileError(f"is packed more than {MAX_LAYERS} times; unpack it")
        if member is not None:
            raise UnreadableFileError(f"is no ZIP archive; remove member: {member}")
        yield stream


def packed_with(head: bytes) -> str | None:
    """How bytes are packed, by the first ones."""
    if BZIP2.match(head):
        return "bzip2"
    magics = ((GZIP_MAGIC, "gzip"), (XZ_MAGIC, "xz"), (ZSTD_MAGIC, "Zstandard"), (ZIP_MAGIC, "ZIP"))
    return next((name for magic, name in magics if head.startswith(magic)), None)


def _layer_of(stream: io.BufferedReader, member: str | None) -> tuple[str, _Stream] | None:
    """How a stream is packed and what unpacks it, None if it is not packed."""
    name = packed_with(stream.peek(HEAD)[:HEAD])
    if name is None:
        return None
    if name == "ZIP":
        if not isinstance(stream.raw, io.FileIO):
            raise UnreadableFileError("is a ZIP archive that is packed again; unpack it")
        return name, _open_member(stream, member)
    openers: dict[str, Callable[[Any], _Stream]] = {
        "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
        "bzip2": bz2.BZ2File,
        "xz": _Xz,
        "Zstandard": _open_zstd,
    }
    return name, openers[name](stream)


class _Unpacked(io.RawIOBase):
    """What a stream unpacks to. Raises UnreadableFileError for damage, and for far more bytes than the file has."""

    def __init__(self, stream: _Stream, name: str, limit: int) -> None:
        self._stream = stream
        self._name = name
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._stream.read(len(buffer))
        except DAMAGE as damaged:
            raise _damage(damaged, self._name) from None
        except OSError as refused:
            if refused.errno is not None:  # of the disk; the modules give no number
                raise
            raise _damage(refused, self._name) from None
        except ValueError as wrong:  # of zstandard, and of strange ZIP archives
            raise _damage(wrong, self._name) from None
        self._left -= len(data)
        if self._left < 0:
            raise UnreadableFileError(
                f"unpacks to more than {FREE_BYTES // 2**30} GiB and {MAX_RATIO} times its size; if that is right, unpack it yourself"
            )
        buffer[: len(data)] = data
        return len(data)


def _damage(damaged: BaseException, name: str) -> UnreadableFileError:
    """The problem of a file that cannot be unpacked."""
    reason = str(damaged).strip().partition("\n")[0]
    if "encrypted" in reason or "password" in reason:
        return UnreadableFileError("is an archive with a password; unpack it")
    if "emory usage limit" in reason or "too much memory" in reason:
        return UnreadableFileError(f"needs more than {MAX_WINDOW // 2**20} MiB of memory to be unpacked; unpack it")
    if isinstance(damaged, NotImplementedError):
        return UnreadableFileError(f"is a ZIP archive packed in a way that is not read ({reason}); unpack it")
    return UnreadableFileError(f"is a damaged {name} file ({reason}); download it again")


class _Xz:
    """Unpacks xz, one stream after the other, with bounded memory, which LZMAFile does not have."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self._decoder = lzma.LZMADecompressor(memlimit=MAX_WINDOW)

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._next_block().lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=MAX_WINDOW)
            else:
                rest = self._raw.read(BLOCK) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("it ends too early")
            if data := self._decoder.decompress(rest, size):
                return data

    def _next_block(self) -> bytes:
        """The next bytes of the file that are not padding alone; empty at its end."""
        while block := self._raw.read(BLOCK):
            if block.strip(b"\0"):
                return block
        return b""


def _open_zstd(raw: io.BufferedReader) -> _Stream:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("Reading Zstandard files", "zstd") from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)

    class Frames:
        """The frames of a file. Its errors are those of every damaged file."""

        def __init__(self) -> None:
            self._frame = decompressor.decompressobj()
            self._rest = b""
            self._ready = io.BytesIO()
            self._begun = False

        def read(self, size: int, /) -> bytes:
            while not (data := self._ready.read(size)):
                if not (block := self._rest or raw.read(ZSTD_BLOCK)):
                    if self._begun:
                        raise EOFError("it ends too early")
                    return b""
                self._rest = b""
                self._unpack(block)
            return data

        def _unpack(self, block: bytes) -> None:
            try:
                self._begun = True
                self._ready = io.BytesIO(self._frame.decompress(block))
            except zstandard.ZstdError as damaged:
                raise zlib.error(str(damaged)) from None
            if self._frame.eof:
                self._rest, self._begun = self._frame.unused_data, False
                self._frame = decompressor.decompressobj()

    return Frames()


class _Directory:
    """The file of an archive. Refuses to read a list of files that would fill the memory."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self.seek, self.tell, self.seekable = raw.seek, raw.tell, raw.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of files has more than {MAX_DIRECTORY // 2**20} MiB")
        return self._raw.read(size)


def _open_archive(raw: io.BufferedReader) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_Directory(raw))
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as damaged:
        raise UnreadableFileError(f"is a damaged ZIP file ({damaged}); download it again") from None


def _open_member(raw: io.BufferedReader, member: str | None) -> _Stream:
    archive = _open_archive(raw)
    name = _choose(archive, member)
    try:
        return archive.open(name)
    except (*DAMAGE, ValueError, OSError) as damaged:  # OSError: a place before the start of the file
        raise _damage(damaged, "ZIP") from None


def _choose(archive: zipfile.ZipFile, member: str | None) -> str:
    """The name of the file to read in an archive. Raises UnreadableFileError if that is not clear."""
    names = [item.filename for item in archive.infolist() if not item.is_dir() and not _is_hidden(item.filename)]
    if "[Content_Types].xml" in names or ("mimetype" in names and "content.xml" in names):
        raise UnreadableFileError("is a spreadsheet or a document, not text; set type: xlsx, or save the sheet as CSV")
    listed = ", ".join(map(repr, names[:MAX_MEMBERS_NAMED])) + (", …" if len(names) > MAX_MEMBERS_NAMED else "")
    if member is not None:
        if member not in names:
            raise UnreadableFileError(
                f"has no file {member!r} in it; it has: {listed or 'none'}{nearest(member, names)}"
            )
        return member
    if not names:
        raise UnreadableFileError("is a ZIP archive without a file in it")
    if len(names) > 1:
        raise UnreadableFileError(f"has {len(names):,} files in it: {listed}; name one: member: {names[0]}")
    return names[0]


def _is_hidden(name: str) -> bool:
    """Whether a member is of the system that packed it, such as macOS."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def member_name(path: Path, member: str | None) -> str:
    """The name of the file that is read in an archive. Raises UnreadableFileError, and OSError if it cannot be opened."""
    with open_file(path) as raw:
        if packed_with(raw.peek(HEAD)[:HEAD]) != "ZIP":
            raise UnreadableFileError("is no ZIP archive, whatever its name says; download it again")
        return _choose(_open_archive(raw), member)
