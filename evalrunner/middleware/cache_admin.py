"""What lies in an answer store, told and cleared: for people, between runs."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from evalrunner.errors import EvalrunError
from evalrunner.middleware.response_cache import SIDES, ForeignFile, open_database


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """A store's size in bytes with all its files, how many answers are in it, and the ages of the ends in seconds."""

    path: Path
    entries: int = 0
    size: int = 0
    oldest_s: float | None = None
    newest_s: float | None = None


def cache_info(path: Path) -> CacheInfo:
    """What is kept at `path`; nothing where there is no file. Raises EvalrunError where it cannot be read."""
    if not path.exists():
        return CacheInfo(path)
    connection = _open(path)
    try:
        entries, oldest, newest = connection.execute(
            "SELECT count(*), min(created), max(created) FROM answers"
        ).fetchone()
    except sqlite3.Error as refused:
        raise _unreadable(path, refused) from None
    finally:
        connection.close()
    size = sum(side.stat().st_size for name in SIDES if (side := path.with_name(path.name + name)).exists())
    now = time.time()
    return CacheInfo(path, entries, size, *(None if at is None else max(0.0, now - at) for at in (oldest, newest)))


def clear(path: Path, *, older_than_s: float | None = None) -> int:
    """How many answers were removed: all, or those of an age. Runs that are under way go on. Raises EvalrunError."""
    if not path.exists():
        return 0
    connection = _open(path)
    try:
        if older_than_s is None:
            removed = connection.execute("DELETE FROM answers WHERE true").rowcount
        else:
            removed = connection.execute(
                "DELETE FROM answers WHERE created < ?", (time.time() - older_than_s,)
            ).rowcount
        if removed:
            connection.execute("VACUUM")  # else the file keeps its size
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as refused:
        raise _unreadable(path, refused) from None
    finally:
        connection.close()
    return removed


def _open(path: Path) -> sqlite3.Connection:
    try:
        return open_database(path, make=False)
    except (sqlite3.Error, OSError, ForeignFile) as refused:
        raise _unreadable(path, refused) from None


def _unreadable(path: Path, refused: Exception) -> EvalrunError:
    if isinstance(
        refused, sqlite3.OperationalError
    ):  # in use, read-only, a full disk: nothing that removing it would mend
        return EvalrunError(f"the answer cache {str(path)!r} cannot be used now: {refused}")
    return EvalrunError(
        f"the answer cache {str(path)!r} cannot be read: {refused}; remove the file if it is not needed"
    )
