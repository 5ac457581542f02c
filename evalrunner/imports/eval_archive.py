"""An `.eval` log of Inspect: a ZIP archive of JSON files, packed with deflate or Zstandard, read with limits.

Nothing is unpacked to the disk, so the names of its files lead nowhere.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from evalrunner.errors import MissingExtraError, SuiteError
from evalrunner.imports.source_data import parse_json, unreadable
from evalrunner.storage import open_file

MAX_MEMBER: Final = 256 * 2**20  # bytes of a sample with all its events
MAX_TOTAL: Final = 2**30  # bytes that a log of any size may unpack to
MAX_RATIO: Final = 200  # times its size that a larger log may unpack to
MAX_MEMBERS: Final = 200_000
MAX_DIRECTORY: Final = 64 * 2**20
ZSTANDARD: Final = 93  # APPNOTE.TXT 6.3.10 of the ZIP format, section 4.4.5
LOCAL_HEADER: Final = 30  # bytes before the name, section 4.3.7
DAMAGE: Final = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError, struct.error)


class EvalArchive:
    """The files of a log. `left` is how many bytes may still be unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opened = ExitStack()  # closed if anything below raises
        try:
            self._file = opened.enter_context(open_file(path))
            size = path.stat().st_size
            self._check_directory(size)
            self._zip = zipfile.ZipFile(self._file)
            opened.pop_all()
        except FileNotFoundError:
            raise unreadable(path, "file not found") from None
        except IsADirectoryError:
            raise unreadable(path, "is a folder; name a log in it") from None
        except DAMAGE as damaged:
            raise unreadable(path, f"is no .eval log, or a damaged one ({damaged})") from None
        except OSError as refused:
            raise unreadable(path, f"cannot be read: {refused.strerror or refused}") from None
        finally:
            opened.close()
        self.names = [item.filename for item in self._zip.infolist() if not item.is_dir()]
        if len(self.names) > MAX_MEMBERS:
            self.close()
            raise unreadable(path, f"has {len(self.names):,} files in it; at most {MAX_MEMBERS:,} are read")
        self.left = max(MAX_TOTAL, MAX_RATIO * size)

    def _check_directory(self, size: int) -> None:
        """Raise where the list of files would fill the memory: it is at the end of the file."""
        tail = min(size, 65_557)
        self._file.seek(size - tail)
        end = self._file.read(tail)
        at = end.rfind(b"PK\x05\x06")
        if at >= 0 and len(end) - at >= 22 and struct.unpack_from("<L", end, at + 12)[0] > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its list of files is too long")
        self._file.seek(0)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def json(self, name: str) -> Any:
        """The value of a JSON file of the log. Raises SuiteError for damage and for too much data."""
        try:
            data = self._read(self._zip.getinfo(name))
        except MissingExtraError:
            raise
        except KeyError:
            raise unreadable(self.path, f"has no {name} in it") from None
        except DAMAGE as damaged:
            raise unreadable(self.path, f"{name!r} is damaged ({damaged})") from None
        except OSError as refused:
            raise unreadable(self.path, f"{name!r} cannot be read: {refused}") from None
        return parse_json(data.decode("utf-8", "replace"), self.path / name)

    def _read(self, item: zipfile.ZipInfo) -> bytes:
        limit = min(MAX_MEMBER, self.left)
        if item.compress_type == ZSTANDARD:
            data = self._read_zstandard(item, limit)
        else:
            with self._zip.open(item) as stream:
                data = stream.read(limit + 1)
        if len(data) > limit:
            raise self._too_large(item.filename)
        self.left -= len(data)
        return data

    def _too_large(self, name: str) -> SuiteError:
        return unreadable(self.path, f"{name!r} unpacks to too much data; at most {MAX_MEMBER // 2**20} MiB are read")

    def _read_zstandard(self, item: zipfile.ZipInfo, limit: int) -> bytes:
        """The bytes of a file that Python's zipfile cannot unpack before 3.14."""
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError("Reading .eval logs that Inspect packed with Zstandard", "zstd") from None
        self._file.seek(item.header_offset)
        header = self._file.read(LOCAL_HEADER)
        if header[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile("no file at the place that the list names")
        name_length, extra_length = struct.unpack_from("<HH", header, 26)
        self._file.seek(name_length + extra_length, 1)
        packed = self._file.read(min(item.compress_size, limit))
        try:
            with zstandard.ZstdDecompressor(max_window_size=128 * 2**20).stream_reader(
                packed, read_across_frames=True
            ) as stream:
                data = stream.read(limit + 1)
        except zstandard.ZstdError as damaged:
            raise zipfile.BadZipFile(str(damaged)) from None
        if len(data) <= limit and zlib.crc32(data) != item.CRC:
            raise zipfile.BadZipFile("its checksum is wrong")
        return bytes(data)
