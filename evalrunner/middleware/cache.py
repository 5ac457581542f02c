"""The response cache: answers on disk under a hash of everything that could change them, and the endpoint that uses it.

The cache is a SQLite file that several processes share. It holds no prompt, no key and no header, only hashes of
requests and answers. Whatever is wrong with the file, a run continues without it and says so once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.errors import EvalrunError
from evalrunner.middleware.deadline import pause_deadline
from evalrunner.reasoning import strip_reasoning
from evalrunner.redact import redact
from evalrunner.storage import mapping_as_dict

CACHE_FILE = "answers.sqlite"
COMPANIONS = ("-wal", "-shm")  # suffixes of the files that SQLite keeps beside the database
APPLICATION_ID = 0x65766C72  # "evlr": tells our file from another program's
VERSION = 1
BUSY_TIMEOUT_S = 0.5  # another process writes for microseconds; this is for one that clears a large cache
MAX_REFUSALS = 6  # each blocks the run for BUSY_TIMEOUT_S
OPEN_TIMEOUT_S = 2.0  # two processes that create the file at once refuse each other for a moment
OPEN_PAUSE_S = 0.02
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key BLOB NOT NULL PRIMARY KEY, created REAL NOT NULL, paid_by TEXT NOT NULL, session TEXT NOT NULL,
  answer BLOB NOT NULL
)
"""  # with rowids, so that only the small index is rewritten; without them a write takes three times as long
INSERT = "INSERT OR REPLACE INTO answers (key, created, paid_by, session, answer) VALUES (?, ?, ?, ?, ?)"
SELECT = "SELECT key, created, paid_by, session, answer FROM answers WHERE key = ?"
WRITE_INTERVAL_S = 0.1  # at most this much is lost with the process
BATCH = 256  # answers written together: one by one they take four times as long
CLOCK_SKEW_S = 300.0  # between the clocks of computers that share a cache
PREFIXES = 1 << 20  # key prefixes distinguished in memory: a lookup of a missing key in the file takes 7 µs
CHECKPOINT_PAGES = 4000  # of 4 KB; with the default of 1,000 a write takes a quarter longer
DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

TableRow: TypeAlias = tuple[bytes, float, str, str, bytes]
"""Key, created, paid_by, session, answer."""

_ANSWER_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

_KEY_ENCODER = json.JSONEncoder(separators=(",", ":"), default=mapping_as_dict)


@dataclass(slots=True)
class CacheTally:
    """Cache hits and misses, the age of the oldest hit, and what the hits had cost when they were paid for.

    `restored` counts answers that this run paid for before it was interrupted. They count as paid, not as hits.
    """

    hits: int = 0
    misses: int = 0
    restored: int = 0
    oldest_s: float = 0.0
    saved_usd: float = 0.0

    @property
    def lookups(self) -> int:
        return self.hits + self.misses

    def hit(self, answer: Completion, age_s: float) -> None:
        """Count a cache hit."""
        self.hits += 1
        self.oldest_s = max(self.oldest_s, age_s)
        self.saved_usd += answer.cost_usd or 0.0


class AnswerStore(Protocol):
    """Where answers are kept: a `ResponseCache` on disk, or a `MemoryCache`."""

    in_flight: dict[bytes, asyncio.Future[Completion | None]]
    session: str
    disabled: str | None

    @property
    def now(self) -> Callable[[], float]: ...

    def get(self, key: bytes) -> CacheEntry | None: ...
    def put(self, key: bytes, answer: Completion, *, paid_by: str) -> None: ...
    def claim(self, key: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class CachedEndpoint:
    """An endpoint that calls only for what `store` does not have, and once for equal requests in flight.

    `identity` names the endpoint, without any secret. With `read=False` answers of other runs are not used; answers
    that this run paid for always are. `ttl_s` is the maximum age of another run's answer. `fallback` is used once the store
    is disabled.

    A cached answer has no latency and costs nothing. The exception: if this run paid for it, for this same row, and was
    interrupted before the row was complete, it is counted now as it was then.
    """

    inner: Endpoint
    store: AnswerStore
    identity: str
    _: KW_ONLY
    run_id: str
    tally: CacheTally
    read: bool = True
    ttl_s: float | None = None
    fallback: AnswerStore | None = None

    async def __call__(self, request: Request, /) -> Completion | Failure:
        key = request_key(self.identity, request)
        if key is None:
            return await self.inner(request)
        store = self._current
        while True:
            entry = store.get(key)
            if entry is not None and self._is_usable(entry):
                return self._reuse(key, entry, request)
            leader = store.in_flight.get(key)
            if leader is None:
                return await self._call(key, request)
            with pause_deadline():
                answer = await asyncio.shield(leader)  # canceling one waiting caller leaves it to the others
            if answer is not None:
                self.tally.hit(answer, 0.0)
                return _as_cached(answer)

    @property
    def _current(self) -> AnswerStore:
        return self.store if self.fallback is None or self.store.disabled is None else self.fallback

    def _is_usable(self, entry: CacheEntry) -> bool:
        if entry.paid_by.startswith(f"{self.run_id}/"):
            return True
        return self.read and is_fresh(entry, self.store.now(), self.ttl_s)

    def _reuse(self, key: bytes, entry: CacheEntry, request: Request) -> Completion:
        store = self._current
        interrupted = entry.session != store.session and entry.paid_by == f"{self.run_id}/{request.row}"
        if interrupted and request.row is not None:
            store.claim(key)
            self.tally.restored += 1
            return entry.answer
        self.tally.hit(entry.answer, max(0.0, store.now() - entry.created))
        return _as_cached(entry.answer)

    async def _call(self, key: bytes, request: Request) -> Completion | Failure:
        """The endpoint's answer, stored if cacheable. Equal requests wait for it; if it is not, one of them calls next."""
        store = self._current
        leader: asyncio.Future[Completion | None] = asyncio.get_running_loop().create_future()
        store.in_flight[key] = leader
        cacheable: Completion | None = None
        try:
            answer = await self.inner(request)
            self.tally.misses += 1
            if isinstance(answer, Completion) and is_cacheable(answer):
                cacheable = answer
                self._current.put(key, answer, paid_by=f"{self.run_id}/{request.row or ''}")
            return answer
        finally:
            del store.in_flight[key]
            leader.set_result(cacheable)


def is_cached(store: ResponseCache, identity: str, request: Request, *, ttl_s: float | None = None) -> bool:
    """Whether the cache has an answer to a request. Nothing is created, called or counted."""
    key = request_key(identity, request)
    entry = store.get(key) if key is not None and store.path.exists() else None
    return entry is not None and is_fresh(entry, store.now(), ttl_s)


def is_fresh(entry: CacheEntry, now: float, ttl_s: float | None) -> bool:
    """Whether an answer is not older than `ttl_s`. One from the future has no known age: the clock was wrong then or is now."""
    return ttl_s is None or -CLOCK_SKEW_S <= now - entry.created <= ttl_s


def is_cacheable(answer: Completion) -> bool:
    """Whether an answer is complete. One that is truncated, filtered, refused or empty may differ the next time."""
    whole = strip_reasoning(answer)  # one that is reasoning only is no answer
    return (isinstance(whole, Completion) and whole.answered and whole.unknown_finish_reason is None) or (
        answer.finish_reason in ("stop", "tool_calls") and (bool(answer.tool_calls) or answer.data is not None)
    )


def request_key(identity: str, request: Request) -> bytes | None:
    """The sha256 of everything that can change an answer, None if that has no JSON form.

    Only the params themselves are sorted: the order of keys in a schema can change an answer.
    """
    parts = (
        identity, request.kind, request.model, request.messages, sorted(request.params.items(), key=_name),
        request.tools, request.response_format, request.texts, request.epoch,
    )  # fmt: skip
    try:
        return hashlib.sha256(_KEY_ENCODER.encode(parts).encode()).digest()
    except (TypeError, ValueError, RecursionError):
        return None


def _name(item: tuple[str, Any]) -> str:
    return item[0]


class ForeignFileError(Exception):
    """A database of another program, or of a later version."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One cached answer. `paid_by` is the run and row that paid for it, `session` the `ResponseCache` that wrote it."""

    answer: Completion
    created: float
    paid_by: str
    session: str


@dataclass(slots=True)
class ResponseCache:
    """The answers in the file `path`, which is created on first use.

    One object belongs to one run of one process; `session` marks the entries that it wrote. `disabled` is the reason
    why the cache is not used any more. `notify` gets that reason, and a message if a damaged file was replaced. With
    `exclusive` no other process writes the file, so keys that were never stored need no lookup.
    """

    path: Path
    notify: Callable[[str], None] = lambda message: None
    now: Callable[[], float] = time.time
    exclusive: bool = False
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    in_flight: dict[bytes, asyncio.Future[Completion | None]] = field(default_factory=dict)
    disabled: str | None = None
    _connection: sqlite3.Connection | None = None
    _unwritten: dict[bytes, TableRow] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _written_at: float = -WRITE_INTERVAL_S
    _refusals: int = 0  # because of a lock, in a row
    _prefixes: bytearray = field(default_factory=bytearray)  # 1 for each stored key prefix; empty: any may be stored

    def get(self, key: bytes) -> CacheEntry | None:
        """The entry of a key, None if there is none that can be read."""
        if (row := self._unwritten.get(key)) is None:
            if self._prefixes and not self._prefixes[_prefix(key)]:
                return None
            row = self._run(_select, (key,))
        answer = None if row is None else _decode_answer(row[4])
        return None if row is None or answer is None else CacheEntry(answer, row[1], row[2], row[3])

    def put(self, key: bytes, answer: Completion, *, paid_by: str) -> None:
        """Store an answer, replacing an older one. It is on disk at once, or WRITE_INTERVAL_S later if many arrive.

        An answer that contains a registered API key is not stored.
        """
        data = None if self.disabled is not None else _encode_answer(answer)
        if data is None:
            return
        self._unwritten[key] = (key, self.now(), paid_by, self.session, data)
        loop = asyncio._get_running_loop()  # noqa: SLF001  the public one raises; without a loop nothing would write later
        wait_s = self._written_at + WRITE_INTERVAL_S - time.monotonic()
        if wait_s <= 0 or len(self._unwritten) >= BATCH or loop is None:
            self.write()
        elif self._timer is None:
            self._timer = loop.call_later(wait_s, self.write)

    def write(self) -> None:
        """Write all stored answers to disk."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        rows, self._unwritten = list(self._unwritten.values()), {}
        if rows:
            if self._run(_insert, rows) is None and self.disabled is None:  # locked: the next write tries again
                self._unwritten = {row[0]: row for row in rows}
                return
            if self._prefixes:
                for key, *_ in rows:
                    self._prefixes[_prefix(key)] = 1
            self._written_at = time.monotonic()

    def claim(self, key: bytes) -> None:
        """Mark an entry that its run paid for before an interruption as counted by this session."""
        self._run(_update_session, (self.session, key))

    def close(self) -> None:
        """Write everything and close the file. The next use opens it again."""
        self.write()
        if self._unwritten and self.disabled is None:
            self.notify(f"{len(self._unwritten):,} answers are not in the cache {str(self.path)!r}: it is locked")
            self._unwritten = {}
        if self._connection is not None:
            self._connection.close()
            self._connection, self._prefixes = None, bytearray()

    def _run(self, work: Callable[[sqlite3.Connection, Any], Any], values: Any) -> Any:
        """The result of `work` on the database. An error disables the cache, not the run; so does a lock that is held for long."""
        if self.disabled is not None:
            return None
        try:
            if self._connection is None:
                self._connection = self._open()
                self._prefixes = bytearray(PREFIXES if self.exclusive and _is_empty(self._connection) else 0)
            result = work(self._connection, values)
            self._refusals = 0
            return result
        except (sqlite3.Error, OSError, ForeignFileError) as refused:
            self._refusals += 1
            if self._connection is None or _code(refused) not in LOCKED or self._refusals >= MAX_REFUSALS:
                self._disable(refused)
        return None

    def _disable(self, refused: Exception) -> None:
        reason = (refused.strerror if isinstance(refused, OSError) else None) or str(refused)
        self.disabled = f"the answer cache {str(self.path)!r} is disabled: {reason}; the run continues without it"
        self.close()
        self.notify(self.disabled)

    def _open(self) -> sqlite3.Connection:
        try:
            return _open_database(self.path)
        except sqlite3.DatabaseError as damaged:
            if _code(damaged) not in DAMAGED:
                raise
        aside = self.path.with_name(f"{self.path.name}.broken-{int(self.now())}")
        self.path.replace(aside)
        for suffix in COMPANIONS:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.notify(
            f"the answer cache {str(self.path)!r} is damaged: moved to {str(aside)!r} and replaced by an empty one"
        )
        return _open_database(self.path)


def _prefix(key: bytes) -> int:
    return int.from_bytes(key[:3], "big") % PREFIXES


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM answers").fetchone() is None


def _select(connection: sqlite3.Connection, key: tuple[bytes]) -> Any:
    return connection.execute(SELECT, key).fetchone()


def _update_session(connection: sqlite3.Connection, values: tuple[str, bytes]) -> None:
    connection.execute("UPDATE answers SET session = ? WHERE key = ?", values)


def _insert(connection: sqlite3.Connection, rows: list[TableRow]) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
        return True
    except BaseException:
        connection.rollback()
        raise


def _open_database(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """A connection to the database. Raises sqlite3.Error, OSError or ForeignFileError."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # answers are private to the user
    until = time.monotonic() + OPEN_TIMEOUT_S
    while True:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection)
            return connection
        except BaseException as refused:
            connection.close()
            if time.monotonic() > until or _code(refused) not in LOCKED:
                raise
        time.sleep(OPEN_PAUSE_S)


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the table in an empty file. Two processes that switch to WAL at once can refuse each other."""
    connection.execute("BEGIN")  # one consistent look, while another process may be creating the file
    mark, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    filled = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
    connection.execute("COMMIT")
    if mark != APPLICATION_ID:
        if mark or version or filled:
            raise ForeignFileError("it is a database of another program")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(CREATE_TABLE)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    elif version != VERSION:
        raise ForeignFileError(f"it has version {version}; this evalrun reads version {VERSION}")
    connection.execute("PRAGMA synchronous = NORMAL")  # survives the end of the process, and in WAL needs no fsync
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def _encode_answer(answer: Completion) -> bytes | None:
    """An answer as compact JSON, None if it contains a registered API key or has no JSON form."""
    fields = (
        answer.text, answer.finish_reason, answer.latency_s, answer.ttft_s, answer.input_tokens, answer.output_tokens,
        answer.cost_usd, answer.served_model, answer.tool_calls, answer.data, answer.reasoning, answer.reasoning_tokens,
        answer.unknown_finish_reason,
    )  # fmt: skip
    try:
        text = _ANSWER_ENCODER.encode(fields)
        return text.encode() if redact(text) == text else None
    except (TypeError, ValueError, RecursionError):  # ValueError: NaN, or half of a surrogate pair
        return None


def _decode_answer(data: bytes) -> Completion | None:
    """The answer, None if the data is none."""
    try:
        fields = json.loads(data)
        text, reason, latency_s, ttft_s, input_tokens, output_tokens, cost_usd, model, calls, other = fields[:10]
        thoughts, thought_tokens, unknown = fields[10:] or (None, None, None)  # older entries have none
        return Completion(
            text, reason, latency_s, ttft_s, input_tokens, output_tokens, cost_usd, model, tool_calls=tuple(calls), data=other,
            reasoning=thoughts, reasoning_tokens=thought_tokens, unknown_finish_reason=unknown,
        )  # fmt: skip
    except (TypeError, ValueError):
        return None


def _as_cached(answer: Completion) -> Completion:
    """The answer without latency and cost."""
    return replace(answer, cached=True, latency_s=None, ttft_s=None, cost_usd=0.0)


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """The number of answers in a cache, the bytes of all its files, and the age of the oldest and newest in seconds."""

    path: Path
    entries: int = 0
    size: int = 0
    oldest_s: float | None = None
    newest_s: float | None = None


def cache_info(path: Path) -> CacheInfo:
    """The contents of the cache at `path`; empty if there is no file. Raises EvalrunError if it cannot be read."""
    if not path.exists():
        return CacheInfo(path)
    connection = _open_existing(path)
    try:
        entries, oldest, newest = connection.execute(
            "SELECT count(*), min(created), max(created) FROM answers"
        ).fetchone()
    except sqlite3.Error as refused:
        raise _unusable(path, refused) from None
    finally:
        connection.close()
    files = [path.with_name(path.name + suffix) for suffix in ("", *COMPANIONS)]
    size = sum(file.stat().st_size for file in files if file.exists())
    now = time.time()
    return CacheInfo(path, entries, size, *(None if at is None else max(0.0, now - at) for at in (oldest, newest)))


def clear_cache(path: Path, *, older_than_s: float | None = None) -> int:
    """The number of answers removed: all, or those of an age, and with them those from the future. Running processes continue. Raises EvalrunError."""
    if not path.exists():
        return 0
    connection = _open_existing(path)
    try:
        if older_than_s is None:
            removed = connection.execute("DELETE FROM answers WHERE true").rowcount
        else:
            now = time.time()
            range_ = (now - older_than_s, now + CLOCK_SKEW_S)
            removed = connection.execute("DELETE FROM answers WHERE created NOT BETWEEN ? AND ?", range_).rowcount
        if removed:
            connection.execute("VACUUM")  # else the file keeps its size
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as refused:
        raise _unusable(path, refused) from None
    finally:
        connection.close()
    return removed


def _open_existing(path: Path) -> sqlite3.Connection:
    try:
        return _open_database(path, create=False)
    except (sqlite3.Error, OSError, ForeignFileError) as refused:
        raise _unusable(path, refused) from None


def _unusable(path: Path, refused: Exception) -> EvalrunError:
    # locked, read-only or a full disk: removing the file is no remedy
    if isinstance(refused, sqlite3.OperationalError):
        return EvalrunError(f"the answer cache {str(path)!r} cannot be used now: {refused}")
    return EvalrunError(
        f"the answer cache {str(path)!r} cannot be read: {refused}; remove the file if you do not need it"
    )
