"""Answers on disk, found again by a hash of everything that could have changed them. SQLite, for several processes.

A store is a convenience: whatever is wrong with its file, a run goes on without it and says so once. It holds no
prompt, no key and no header, only hashes of what was asked and the answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from evalrunner.domain import Completion
from evalrunner.redact import redact

CACHE_FILE = "answers.sqlite"
OURS = 0x65766C72  # "evlr" as SQLite's application_id: what tells our file from somebody else's
VERSION = 1
BUSY_S = 0.5  # another process writes for microseconds; this is for one that clears a large store
OPEN_WITHIN_S = 2.0  # two processes that make the file at once refuse each other for a moment
OPEN_PAUSE_S = 0.02
SIDES = ("", "-wal", "-shm")  # what SQLite keeps beside a file
TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key BLOB NOT NULL PRIMARY KEY, created REAL NOT NULL, paid_by TEXT NOT NULL, session TEXT NOT NULL,
  answer BLOB NOT NULL
)
"""  # with rowids, for then only the index is written all over, which is small; without them a write takes thrice as long
WRITE_AFTER_S = 0.1  # at the latest, so that little is lost with the process
BATCH = 256  # answers that are written together: one by one they take four times as long
PLACES = 1 << 20  # beginnings of keys that are told apart: a look into the file for nothing costs 7 µs
KEEP = "INSERT OR REPLACE INTO answers (key, created, paid_by, session, answer) VALUES (?, ?, ?, ?, ?)"
CHECKPOINT_PAGES = 4000  # of 4 KB; the default of 1,000 makes a write a quarter dearer
NOT_A_DATABASE = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
IN_USE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class ForeignFile(Exception):
    """A database that is not ours, or of a later version."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answer of the store. `paid_by` is the run and row that paid for it; `session` the store that wrote it."""

    answer: Completion
    created: float
    paid_by: str
    session: str


Entry: TypeAlias = tuple[bytes, float, str, str, bytes]
"""A row of the table: key, created, paid_by, session, answer."""


@dataclass(slots=True)
class ResponseCache:
    """The answers in the file `path`, which is made at the first use.

    One store belongs to one run of one process: `session` says which entries it wrote itself. `off` is why nothing is
    kept any more, None while all is well; `tell` hears that, and of a broken file that was moved aside. A file that is
    `alone`, written by nobody else, is not asked for what was never put in.
    """

    path: Path
    tell: Callable[[str], None] = lambda said: None
    now: Callable[[], float] = time.time
    alone: bool = False
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    under_way: dict[bytes, asyncio.Future[Completion | None]] = field(default_factory=dict)
    off: str | None = None
    _connection: sqlite3.Connection | None = None
    _unwritten: dict[bytes, Entry] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _written_at: float = -WRITE_AFTER_S
    _put: bytearray = field(default_factory=bytearray)  # a 1 for each beginning of a key, empty where any may be there

    def get(self, key: bytes) -> CacheEntry | None:
        """What is kept under a key, None where there is nothing, or nothing that can be read."""
        if (entry := self._unwritten.get(key)) is None:
            if self._put and not self._put[_place(key)]:
                return None
            entry = self._run(_read_one, (key,))
        answer = None if entry is None else decode_answer(entry[4])
        return None if entry is None or answer is None else CacheEntry(answer, entry[1], entry[2], entry[3])

    def put(self, key: bytes, answer: Completion, *, paid_by: str) -> None:
        """Keep an answer, over what was there. It is on disk at once, or where many come, WRITE_AFTER_S later.

        One that holds a key that is to be kept secret is not.
        """
        data = None if self.off is not None else encode_answer(answer)
        if data is None:
            return
        self._unwritten[key] = (key, self.now(), paid_by, self.session, data)
        loop = asyncio._get_running_loop()  # noqa: SLF001  the public one raises; without a loop nobody would write later
        wait_s = self._written_at + WRITE_AFTER_S - time.monotonic()
        if wait_s <= 0 or len(self._unwritten) >= BATCH or loop is None:
            self.write()
        elif self._timer is None:
            self._timer = loop.call_later(wait_s, self.write)

    def write(self) -> None:
        """None, with all that was kept on disk, or what refused it told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._unwritten = list(self._unwritten.values()), {}
        if entries:
            self._run(_write_all, entries)
            if self._put:
                for key, *_ in entries:
                    self._put[_place(key)] = 1
            self._written_at = time.monotonic()

    def claim(self, key: bytes) -> None:
        """Note that this session has accounted for an entry that its run paid for before it was interrupted."""
        self._run(_claim_one, (self.session, key))

    def close(self) -> None:
        """None, with everything written and the file closed; it is opened again by the next use."""
        self.write()
        if self._connection is not None:
            self._connection.close()
            self._connection, self._put = None, bytearray()

    def _run(self, work: Callable[[sqlite3.Connection, Any], Any], values: Any) -> Any:
        """What `work` finds in the file. What the file refuses switches the store off, not the run."""
        if self.off is not None:
            return None
        try:
            if self._connection is None:
                self._connection = self._open()
                self._put = bytearray(PLACES if self.alone and _is_empty(self._connection) else 0)
            return work(self._connection, values)
        except (sqlite3.Error, OSError, ForeignFile) as refused:
            if self._connection is None or _code(refused) not in IN_USE:  # else these are not kept, no more
                self._switch_off(refused)
        return None

    def _switch_off(self, refused: Exception) -> None:
        self.off = f"answers are not cached: {str(self.path)!r}: {_said(refused)}; the run goes on without"
        self.close()
        self.tell(self.off)

    def _open(self) -> sqlite3.Connection:
        try:
            return open_database(self.path)
        except sqlite3.DatabaseError as broken:
            if _code(broken) not in NOT_A_DATABASE:
                raise
        aside = move_aside(self.path, now=self.now())
        self.tell(
            f"the answer cache {str(self.path)!r} could not be read; it is now {str(aside)!r}, and a new one begun"
        )
        return open_database(self.path)


def _place(key: bytes) -> int:
    return int.from_bytes(key[:3], "big") % PLACES


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM answers").fetchone() is None


def _read_one(connection: sqlite3.Connection, key: tuple[bytes]) -> Any:
    return connection.execute(
        "SELECT key, created, paid_by, session, answer FROM answers WHERE key = ?", key
    ).fetchone()


def _claim_one(connection: sqlite3.Connection, values: tuple[str, bytes]) -> None:
    connection.execute("UPDATE answers SET session = ? WHERE key = ?", values)


def _write_all(connection: sqlite3.Connection, entries: list[Entry]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(KEEP, entries)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def open_database(path: Path, *, make: bool = True) -> sqlite3.Connection:
    """A connection to the store's file, made where it is not there. Raises sqlite3.Error, OSError, ForeignFile."""
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # what models said is its owner's business
    until = time.monotonic() + OPEN_WITHIN_S
    while True:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
            return connection
        except BaseException as refused:
            connection.close()
            if time.monotonic() > until or _code(refused) not in IN_USE:
                raise
        time.sleep(OPEN_PAUSE_S)


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the file ours where it is empty. Going over to WAL is what two processes at once can refuse each other."""
    connection.execute("BEGIN")  # one look at all of it, while another process may be making the file
    mark, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    filled = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
    connection.execute("COMMIT")
    if mark != OURS:
        if mark or version or filled:
            raise ForeignFile("it is a database of something else")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(TABLE)
        connection.execute(f"PRAGMA application_id = {OURS}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    elif version != VERSION:
        raise ForeignFile(f"it is of version {version}, and this evalrun reads version {VERSION}")
    connection.execute("PRAGMA synchronous = NORMAL")  # survives the end of the process, and in WAL needs no fsync
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def move_aside(path: Path, *, now: float) -> Path:
    """The new place of a file that cannot be read, its companions removed."""
    aside = path.with_name(f"{path.name}.broken-{int(now)}")
    path.replace(aside)
    for side in SIDES[1:]:
        path.with_name(path.name + side).unlink(missing_ok=True)
    return aside


def encode_answer(answer: Completion) -> bytes | None:
    """An answer as compact JSON, or None where it holds a registered key or what JSON cannot say."""
    fields = (
        answer.text, answer.finish_reason, answer.latency_s, answer.ttft_s, answer.input_tokens, answer.output_tokens,
        answer.cost_usd, answer.served_model, answer.tool_calls, answer.data,
    )  # fmt: skip
    try:
        text = _ENCODER.encode(fields)
        return text.encode() if redact(text) == text else None
    except (TypeError, ValueError, RecursionError):  # ValueError: NaN, or half of a surrogate pair
        return None


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode_answer(data: bytes) -> Completion | None:
    """The answer, or None where it is not one."""
    try:
        text, finish_reason, latency_s, ttft_s, input_tokens, output_tokens, cost_usd, served, calls, found = (
            json.loads(data)
        )
        return Completion(
            text, finish_reason, latency_s, ttft_s, input_tokens, output_tokens, cost_usd, served, tool_calls=tuple(calls), data=found
        )  # fmt: skip
    except (TypeError, ValueError):
        return None


def as_cached(answer: Completion) -> Completion:
    """The answer as one that took no time and cost nothing."""
    return replace(answer, cached=True, latency_s=None, ttft_s=None, cost_usd=0.0)


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
