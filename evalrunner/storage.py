"""Files, JSON, the cache folder and compact tables of keys.

`load_json` and `dump_json` behave as the `json` module does, and use orjson wherever both agree: it takes a fifth of the
time. What orjson reads or writes differently, or refuses, goes through `json`: integers beyond 64 bits, NaN, lone
surrogates, encodings other than UTF-8, deep nesting. So values and exceptions are the same. Of the bytes, only the
spelling of very large and very small floats differs (1e-05 is 1e-5).
"""

from __future__ import annotations

import errno
import functools
import heapq
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from evalrunner.errors import RunError, SuiteError
from evalrunner.redact import redact
from evalrunner.spelling import Spelled, exact_json, json_text

MAX_EXPANSIONS = 1_000  # of the braces in a path
BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")

if TYPE_CHECKING:
    from filelock import BaseFileLock

DIGITS = bytes.maketrans(b"123456789", b"000000000")
LONG_NUMBER = b"0" * 19  # as many digits may exceed 64 bits; orjson reads such an integer as a float
MAX_BRACKETS = 400  # opening ones; json and orjson limit nesting at different depths
# json writes neither dataclasses nor dates; of subclasses, spelled numbers have a form of their own
ORJSON_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
CANONICAL: Mapping[str, Any] = {
    "ensure_ascii": False, "sort_keys": True, "separators": (",", ":"), "allow_nan": False, "check_circular": False,
}  # fmt: skip
ORJSON_KINDS: tuple[Any, ...] = (str, int, dict, list)  # whose subclasses orjson writes as it writes them

PART = ".part"  # in the names of temporary files, after the number of their process
PART_NAME = re.compile(rf"\..+\.(\d{{1,10}})(?:\.\w+)?{re.escape(PART)}(?:\.\w+)?")
MAX_PID = 2**31 - 1
NO_LOCK = (OSError, NotImplementedError)  # of a file system without locks; the second by older versions of the library
REMOVED = (FileNotFoundError, FileExistsError, TimeoutError)  # of a lock in a folder that another process removes
NO_HOME = Path(os.devnull, "no home folder: set HOME or EVALRUN_CACHE_DIR")
PROBE_BYTES = 16_384  # a run without rows takes as much: its record, table and report
SPOOL = "evalrun-spool-"
UNLOCKED_SPOOL = "evalrun-unlocked-spool-"
SPOOL_LOCK = ".lock"
SORTED_BLOCK = 1 << 16  # places that are sorted at once
SPOOL_ATTEMPTS = 100  # each one fails only if another process removes the folder within a millisecond
KERNEL_FOLDERS = ("/proc", "/sys")  # of Linux; what looks like a file there may never end, wait, or have secrets

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def _encode(value: Any) -> str:
    return exact_json(value, ensure_ascii=False, separators=(",", ":"), default=str)


class FileTooLargeError(OSError):
    """A file that is larger than what it may hold."""


class EncodingError(ValueError):
    """Bytes that are not UTF-8, with the line of the first one (0: the whole file). The message continues the file's name."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def open_file(path: Path, *, regular: bool = True) -> io.BufferedReader:
    """A file that somebody named, open for reading. Raises OSError with what is wrong in its `strerror`.

    Only regular files are opened unless `regular` is False: a pipe could block forever, a device has no end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | (getattr(os, "O_NONBLOCK", 0) if regular else 0))
    except ValueError as impossible:  # a NUL character in the path, or half of a surrogate pair
        raise OSError(errno.EINVAL, "the path has a character that no path can have") from impossible
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode) or (regular and not stat.S_ISREG(mode)):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        raise OSError(errno.EINVAL, "it is not a regular file")
    if regular and in_kernel_folder(path):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is in /proc or /sys, which have no data files")
    return os.fdopen(handle, "rb")


def in_kernel_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to one of the folders in which Linux shows its state as files, wherever that is mounted."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return False
    return real.startswith(tuple(f"{folder}/" for folder in KERNEL_FOLDERS)) or _device(real) in kernel_devices()


@functools.cache
def kernel_devices() -> frozenset[int]:
    """The devices of the file systems with the state of the kernel; none on other systems than Linux."""
    if sys.platform != "linux":
        return frozenset()
    return frozenset(device for folder in KERNEL_FOLDERS if (device := _device(folder)) not in (0, _device("/")))


def _device(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_dev  # noqa: PTH116
    except OSError:
        return 0


def is_file(path: Path) -> bool:
    """Whether there is a regular file; a path that no file system accepts has none, and /proc and /sys have none."""
    try:
        return path.is_file() and not in_kernel_folder(path)
    except OSError:  # a name that is too long
        return False


def read_file(path: Path, *, max_bytes: int, regular: bool = True) -> bytes:
    """The content of a file that somebody named. Raises OSError as `open_file`, and FileTooLargeError, an OSError too."""
    with open_file(path, regular=regular) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileTooLargeError(errno.EFBIG, f"it is larger than {max_bytes / 2**20:,.0f} MiB")
    return data


def decode_utf8(data: bytes) -> str:
    """UTF-8 bytes as text, without a byte order mark. Raises EncodingError."""
    if data[:2] in UTF16_MARKS:
        raise EncodingError("is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = data.count(b"\n", 0, broken.start) + 1
        raise EncodingError("is not UTF-8; save the file as UTF-8", line) from None


def load_json(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError and RecursionError as json.loads does."""
    if data.count(b"[") + data.count(b"{") > MAX_BRACKETS or LONG_NUMBER in data.translate(DIGITS):
        return json.loads(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:  # invalid, or valid only for json
        return json.loads(data)


def dump_json(value: Any, *, fallback: Callable[[Any], str] = _encode) -> str:
    """A value as compact JSON on one line. `fallback` writes what orjson cannot; its exceptions are raised.

    Floats must be finite: others may come out as null.
    """
    try:
        return orjson.dumps(value, option=ORJSON_OPTIONS, default=_base_value).decode()
    except orjson.JSONEncodeError:
        return fallback(value)


def canonical_json(value: Any) -> bytes:
    """A value as compact JSON with sorted keys and with numbers as written. Raises as the `json` module does.

    Floats must be finite.
    """
    try:
        return orjson.dumps(value, option=ORJSON_OPTIONS | orjson.OPT_SORT_KEYS, default=_base_value)
    except orjson.JSONEncodeError:
        return exact_json(value, **CANONICAL).encode()


def _base_value(value: Any) -> Any:
    """What orjson writes for an instance of a subclass. Raises TypeError for other values."""
    if isinstance(value, Spelled):
        return orjson.Fragment(json_text(value))
    for kind in ORJSON_KINDS:
        if isinstance(value, kind):
            return str.__str__(value) if kind is str else kind(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def mapping_as_dict(value: Any) -> Any:
    """Any mapping as a dict, as the `default` of an encoder. Raises TypeError for other values."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def dict_or_text(value: Any) -> Any:
    """A mapping as a dict, any other value as its text, as the `default` of an encoder."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with API keys redacted. Raises RunError where the disk refuses."""
    write_bytes(path, redact(text).encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: under a temporary name, then renamed. Raises RunError where the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{os.getpid()}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as refused:
        raise RunError(f"cannot write {str(path)!r}: {refused.strerror}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its extension, that takes its place at the end. Raises RunError."""
    part = path.with_name(f".{path.stem}.{os.getpid()}{PART}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as refused:
        raise RunError(f"cannot write {str(path)!r}: {refused.strerror or refused}") from None
    finally:
        with suppress(OSError):  # gone with its folder, or never made
            part.unlink(missing_ok=True)


def try_folder(folder: Path) -> None:
    """Create a folder, and a file in it that is removed at once. Raises OSError where the system refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".probe.{os.getpid()}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(bytes(PROBE_BYTES))
    finally:
        Path(name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `write_bytes` and `replacing` in a folder whose processes were killed."""
    with suppress(OSError):  # a folder that may not be read or written has to keep them
        for path in list(folder.iterdir()):
            if (match := PART_NAME.fullmatch(path.name)) and not is_running(int(match[1])):
                path.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Whether there is a process of this number on this machine. Windows cannot be asked without harm."""
    if sys.platform == "win32" or pid > MAX_PID:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


@contextmanager
def working_folder_restored() -> Iterator[None]:
    """Return to the working folder at the end: user-defined functions may change it, and the paths of a run are relative."""
    before = Path.cwd()
    try:
        yield
    finally:
        with suppress(OSError):  # it was removed
            os.chdir(before)


def acquire_lock(path: Path) -> BaseFileLock:
    """The lock of a file, held by this process. Raises Timeout if another one holds it, and NO_LOCK where there are none."""
    from filelock import FileLock

    lock = FileLock(path, thread_local=False)
    with warnings.catch_warnings(action="ignore"):  # one says that the library uses a lock of its own kind
        lock.acquire(blocking=False)
    return lock


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A temporary folder for copies of data; those of processes that were killed are removed. Raises SuiteError.

    Its process holds a lock in it while it lives, so another one can tell whether it is in use.
    """
    folder, lock = _locked_spool()
    try:
        _remove_old_spools(folder)
        yield folder
    finally:
        if lock is not None:
            lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _locked_spool() -> tuple[Path, BaseFileLock | None]:
    """A new spool folder and its lock; None on a file system without locks.

    Until it is locked, a folder looks like that of a killed process, and another process may remove it. Then the next one
    is tried.
    """
    for _ in range(SPOOL_ATTEMPTS):
        try:
            folder = Path(tempfile.mkdtemp(prefix=SPOOL))
        except OSError as refused:
            raise SuiteError(
                f"no temporary folder can be created: {refused.strerror}; free space, or name another folder in TMPDIR"
            ) from None
        with suppress(*REMOVED):
            return _with_lock(folder)
    raise SuiteError(
        f"no temporary folder can be locked in '{tempfile.gettempdir()}': another process removes it; "
        "name another folder in TMPDIR"
    )


def _with_lock(folder: Path) -> tuple[Path, BaseFileLock | None]:
    try:
        lock = _spool_lock(folder)
    except REMOVED:
        raise
    except NO_LOCK:  # under this name no process removes it
        folder.chmod(0o700)  # filelock may have created it again
        return folder.replace(folder.with_name(UNLOCKED_SPOOL + folder.name.removeprefix(SPOOL))), None
    folder.chmod(0o700)
    return folder, lock


def _spool_lock(folder: Path) -> BaseFileLock:
    """The lock of a spool folder. Raises REMOVED if another process holds it or removes the folder, NO_LOCK without locks."""
    opened = os.open(folder, os.O_RDONLY)  # while it is open, no other folder has its number
    try:
        lock = acquire_lock(folder / SPOOL_LOCK)
        if folder.exists() and os.path.samestat(os.fstat(opened), folder.stat()):
            return lock
        _remove_spool(folder)  # filelock creates the folder of a lock
        lock.release()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    finally:
        os.close(opened)


def _remove_old_spools(own: Path) -> None:
    """Remove the spool folders beside this one that no living process has locked."""
    for folder in own.parent.glob(f"{SPOOL}*"):
        with suppress(*NO_LOCK):  # of another user, just removed by another process, or in use
            status = folder.lstat()  # in a shared folder another user could have put a link
            if folder == own or not stat.S_ISDIR(status.st_mode) or status.st_uid != own.stat().st_uid:
                continue
            lock = _spool_lock(folder)
            try:
                _remove_spool(folder)
            finally:
                lock.release()


def _remove_spool(folder: Path) -> None:
    """Remove a folder whose lock this process holds. Renamed first, so that no process can lock it while it is removed."""
    shutil.rmtree(folder.replace(folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")), ignore_errors=True)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write data as indented JSON with a newline at the end."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def expand_braces(path: str) -> list[str]:
    """The paths that `{a,b}` in a path stands for. Raises ValueError for more than MAX_EXPANSIONS."""
    waiting, paths = [path], list[str]()
    while waiting:
        here = waiting.pop()
        match = BRACES.search(here)
        if match is None:
            paths.append(here)
        else:
            parts = match[1].split(",")
            waiting.extend(here[: match.start()] + part + here[match.end() :] for part in reversed(parts))
        if len(waiting) + len(paths) > MAX_EXPANSIONS:
            raise ValueError(f"its braces stand for more than {MAX_EXPANSIONS:,} paths; use * in their place")
    return paths


def expand_home(path: str | os.PathLike[str]) -> Path:
    """The path with `~` replaced by the user's home folder, unchanged for a user without one."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  Path.expanduser raises RuntimeError for such a user


def cache_folder(
    *, environ: Mapping[str, str] | None = None, platform: str = sys.platform, home: Path | None = None
) -> Path:
    """The folder for model weights and cached answers: `EVALRUN_CACHE_DIR`, or the platform's usual place.

    It may not exist yet. Without a home folder it is a path where nothing can exist, whose name says what to do.
    """
    names = os.environ if environ is None else environ
    if configured := names.get("EVALRUN_CACHE_DIR"):
        return expand_home(configured)
    if xdg := names.get("XDG_CACHE_HOME"):
        return Path(xdg) / "evalrun"
    home = expand_home("~") if home is None else home
    if not home.is_absolute():
        return NO_HOME
    if platform == "darwin":
        return home / "Library" / "Caches" / "evalrun"
    if platform == "win32":
        return Path(names.get("LOCALAPPDATA") or home / "AppData" / "Local") / "evalrun" / "cache"
    return home / ".cache" / "evalrun"


class KeyTable:
    """64-bit keys with an optional number each, in arrays: 16 to 32 bytes a key (24 to 48 with numbers).

    A set of ints takes four times as much. Open addressing, at most half full. 0 marks a free slot, so key 0 counts as 1.
    """

    def __init__(self, *, numbered: bool = False) -> None:
        self._slots = array("Q", [0]) * 1024
        self._numbers = array("I", [0]) * 1024 if numbered else None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: int) -> bool:
        """Whether the key is new."""
        return self._insert(key or 1, self._slot(key or 1))

    def put(self, key: int, number: int) -> int | None:
        """Give a key a number below 2**32; the one it had before, None for a new key."""
        assert self._numbers is not None  # a numbered table
        at = self._slot(key or 1)
        before = self._numbers[at] if self._slots[at] else None
        self._numbers[at] = number
        self._insert(key or 1, at)
        return before

    def get(self, key: int) -> int | None:
        """The number of a key, None if the table does not have it."""
        at = self._slot(key or 1)
        return self._numbers[at] if self._numbers is not None and self._slots[at] else None

    def _insert(self, key: int, at: int) -> bool:
        if self._slots[at]:
            return False
        self._slots[at] = key
        self._count += 1
        if self._count * 2 > len(self._slots):
            self._grow()
        return True

    def _slot(self, key: int) -> int:
        """Where the key is, or would be."""
        slots, last = self._slots, len(self._slots) - 1
        at = key & last
        while (taken := slots[at]) and taken != key:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        slots, numbers = self._slots, self._numbers
        self._slots = array("Q", [0]) * (2 * len(slots))
        self._numbers = None if numbers is None else array("I", [0]) * len(self._slots)
        for place, key in enumerate(slots):
            if key:
                at = self._slot(key)
                self._slots[at] = key
                if numbers is not None and self._numbers is not None:
                    self._numbers[at] = numbers[place]


def sorted_places(keys: array[int]) -> array[int]:
    """The places of keys in ascending order of the keys, those of equal ones in their own, in 4 bytes each.

    A list of places would hold an object for each. Here each block is sorted alone; rows arrive nearly in order, so the
    blocks seldom have to be merged.
    """
    count = len(keys)
    blocks = [
        array("I", sorted(range(start, min(start + SORTED_BLOCK, count)), key=keys.__getitem__))
        for start in range(0, count, SORTED_BLOCK)
    ]
    if any(keys[one[-1]] > keys[other[0]] for one, other in pairwise(blocks)):
        return array("I", heapq.merge(*blocks, key=keys.__getitem__))
    places = array("I")
    for block in blocks:
        places.extend(block)
    return places
