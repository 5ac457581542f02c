"""The response cache on disk: complete, private, shared by processes, and never a reason for a run to fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalrunner.domain import Completion
from evalrunner.errors import EvalrunError
from evalrunner.middleware.cache import WRITE_INTERVAL_S, ResponseCache, cache_info, clear_cache, is_cacheable
from evalrunner.redact import register_secret
from tests.fakes.command import command_env

WHOLE = Completion(
    "Zürich 🏔", "tool_calls", 0.25, 0.1, 12, 3, 0.00042, "gpt-x-2026",
    tool_calls=({"type": "function", "function": {"name": "f", "arguments": "{}"}},), data=[[0.5, -1.0]],
)  # fmt: skip

WRITER = """
import sys
from pathlib import Path
from evalrunner.middleware.cache import ResponseCache
from evalrunner.domain import Completion
store = ResponseCache(Path(sys.argv[1]), notify=lambda message: sys.exit(message))
for n in range(int(sys.argv[2])):
    store.put(b"%s %d" % (sys.argv[3].encode(), n), Completion(f"{sys.argv[3]} {n}"), paid_by="r/")
    print(n, flush=True)
"""


def writer(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(count), name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=command_env(),
    )  # fmt: skip


def test_a_cached_answer_round_trips(tmp_path: Path) -> None:
    store = ResponseCache(tmp_path / "a" / "answers.sqlite", now=lambda: 1000.0)
    assert not store.path.exists(), "made at the first use"
    assert store.get(b"k") is None
    store.put(b"k", WHOLE, paid_by="run/q/t/1")
    store.close()
    again = ResponseCache(store.path)
    entry = again.get(b"k")
    assert entry is not None
    assert (entry.answer, entry.created, entry.paid_by, entry.session) == (WHOLE, 1000.0, "run/q/t/1", store.session)
    again.claim(b"k")
    claimed = again.get(b"k")
    assert claimed is not None and claimed.session == again.session
    again.close()


def test_reasoning_is_cached_and_entries_without_it_are_read(tmp_path: Path) -> None:
    store = ResponseCache(tmp_path / "answers.sqlite")
    thought = Completion("Paris", reasoning="Is it?", reasoning_tokens=3)
    store.put(b"k", thought, paid_by="run/q/t/1")
    store.put(b"old", WHOLE, paid_by="run/q/t/1")
    store.close()
    with sqlite3.connect(store.path) as database:
        (data,) = database.execute("SELECT answer FROM answers WHERE key = ?", (b"old",)).fetchone()
        database.execute("UPDATE answers SET answer = ? WHERE key = ?", (json.dumps(json.loads(data)[:10]), b"old"))
    database.close()
    again = ResponseCache(store.path)
    entries = [again.get(b"k"), again.get(b"old")]
    again.close()
    assert [entry.answer for entry in entries if entry is not None] == [thought, WHOLE]


@pytest.mark.parametrize(
    "answer",
    [Completion("<think>no end"), Completion("<think>a</think>"), Completion("Paris", unknown_finish_reason="odd")],
)
def test_answers_that_may_not_be_whole_are_not_cached(answer: Completion) -> None:
    assert not is_cacheable(answer)


def test_the_cache_file_is_private_and_holds_no_api_key(tmp_path: Path) -> None:
    register_secret("sk-very-secret-1")
    store = ResponseCache(tmp_path / "answers.sqlite")
    store.put(b"k", Completion("the key is sk-very-secret-1"), paid_by="r/")
    assert store.get(b"k") is None
    store.put(b"k", Completion("fine"), paid_by="r/")
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    store.close()
    assert b"sk-very-secret-1" not in store.path.read_bytes()


@pytest.mark.parametrize("text", ["half a pair \ud800", "NUL \x00 and \x1b[31m"])
def test_odd_model_output_is_cached_or_skipped(tmp_path: Path, text: str) -> None:
    store = ResponseCache(tmp_path / "answers.sqlite")
    store.put(b"k", Completion(text), paid_by="r/")
    entry = store.get(b"k")
    assert (entry.answer.text if entry else None) == (None if "\ud800" in text else text)
    assert store.disabled is None
    store.close()
    store.close()


def test_a_damaged_cache_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"no database at all " * 500)
    notices: list[str] = []
    store = ResponseCache(path, notify=notices.append, now=lambda: 7.0)
    store.put(b"k", WHOLE, paid_by="r/")
    assert store.get(b"k") is not None
    aside = tmp_path / "answers.sqlite.broken-7"
    assert notices == [
        f"the answer cache {str(path)!r} is damaged: moved to {str(aside)!r} and replaced by an empty one"
    ]
    assert aside.read_bytes().startswith(b"no database")
    store.close()


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE accounts (name)")
    other.close()
    before, notices = path.read_bytes(), []
    store = ResponseCache(path, notify=notices.append)
    store.put(b"k", WHOLE, paid_by="r/")
    assert store.get(b"k") is None
    assert notices == [
        f"the answer cache {str(path)!r} is disabled: it is a database of another program; the run continues without it"
    ]
    assert path.read_bytes() == before
    with pytest.raises(EvalrunError, match="database of another program"):
        clear_cache(path)


def test_an_unwritable_folder_disables_the_cache_with_one_notice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    notices: list[str] = []
    store = ResponseCache(tmp_path / "file" / "answers.sqlite", notify=notices.append)
    for _ in range(3):
        store.put(b"k", WHOLE, paid_by="r/")
        assert store.get(b"k") is None
    assert len(notices) == 1 and notices[0] == store.disabled
    assert "Not a directory" in notices[0] or "File exists" in notices[0]


def test_damage_during_a_run_disables_the_cache(tmp_path: Path) -> None:
    notices: list[str] = []
    store = ResponseCache(tmp_path / "answers.sqlite", notify=notices.append)
    store.put(b"k", WHOLE, paid_by="r/")
    other = sqlite3.connect(store.path)
    other.execute("DROP TABLE answers")
    other.close()
    store.put(b"l", WHOLE, paid_by="r/")
    assert store.get(b"k") is None
    assert notices == [
        f"the answer cache {str(store.path)!r} is disabled: no such table: answers; the run continues without it"
    ]


def test_several_processes_write_to_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    writers = [writer(path, 300, name) for name in ("a", "b", "c")]
    assert [(process.communicate()[1], process.returncode) for process in writers] == [("", 0)] * 3
    assert cache_info(path).entries == 900


def test_answers_of_a_killed_process_are_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    process = writer(path, 1_000_000, "killed")
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 200:
            break
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    last = max([200, *(int(line) for line in rest.splitlines() if line)])
    store = ResponseCache(path)
    entries = [store.get(b"killed %d" % n) for n in range(last + 1)]
    assert [entry.answer.text if entry else None for entry in entries] == [f"killed {n}" for n in range(last + 1)]
    store.put(b"after", WHOLE, paid_by="r/")
    assert store.disabled is None
    store.close()


def test_a_locked_cache_does_not_fail_the_run(tmp_path: Path) -> None:
    store = ResponseCache(tmp_path / "answers.sqlite")
    store.put(b"k", WHOLE, paid_by="r/")
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store.put(b"l", WHOLE, paid_by="r/")
    assert store.get(b"k") is not None
    holder.execute("ROLLBACK")
    holder.close()
    assert store.disabled is None
    store.close()
    assert ResponseCache(store.path).get(b"l") is not None  # written once the lock was gone


def test_a_cache_that_stays_locked_is_disabled_with_one_notice(tmp_path: Path) -> None:
    notices: list[str] = []
    store = ResponseCache(tmp_path / "answers.sqlite", notices.append)
    store.put(b"k", WHOLE, paid_by="r/")
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for number in range(20):
        store.put(b"l%d" % number, WHOLE, paid_by="r/")
        store.write()
    store.close()
    holder.close()
    path = str(store.path)
    assert notices == [f"the answer cache {path!r} is disabled: database is locked; the run continues without it"]


def test_answers_that_a_lock_kept_out_at_the_end_are_counted_in_a_notice(tmp_path: Path) -> None:
    notices: list[str] = []
    store = ResponseCache(tmp_path / "answers.sqlite", notices.append)
    store.put(b"k", WHOLE, paid_by="r/")
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store.put(b"l", WHOLE, paid_by="r/")
    store.put(b"m", WHOLE, paid_by="r/")
    store.close()
    holder.close()
    assert notices == [f"2 answers are not in the cache {str(store.path)!r}: it is locked"]


def test_cache_info_and_clear_during_a_run(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    assert cache_info(path).entries == clear_cache(path) == 0
    assert not path.exists()
    at = [time.time() - 10 * 86_400]
    store = ResponseCache(path, now=lambda: at[0])
    store.put(b"old", WHOLE, paid_by="r/")
    at[0] = time.time()
    store.put(b"new", WHOLE, paid_by="r/")
    info = cache_info(path)
    assert (info.entries, info.size > 4096) == (2, True)
    assert info.oldest_s == pytest.approx(864_000, abs=60) and info.newest_s == pytest.approx(0, abs=60)
    assert clear_cache(path, older_than_s=7 * 86_400) == 1
    assert store.get(b"old") is None and store.get(b"new") is not None
    assert clear_cache(path) == 1
    store.put(b"newer", WHOLE, paid_by="r/")
    assert store.disabled is None
    store.close()
    assert cache_info(path).entries == 1


def test_an_exclusive_cache_finds_new_and_earlier_answers(tmp_path: Path) -> None:
    path, keys = tmp_path / "answers.sqlite", [bytes([place]) * 32 for place in range(100)]
    answers = {key: Completion(f"answer {place}") for place, key in enumerate(keys)}

    async def fill() -> list[Completion | None]:
        store = ResponseCache(path, exclusive=True)
        assert store.get(keys[0]) is None
        for key in keys[:-1]:
            store.put(key, answers[key], paid_by="run/row")
        result = [entry and entry.answer for entry in map(store.get, keys)]  # some of them not written yet
        store.close()
        return result

    wanted = [*[answers[key] for key in keys[:-1]], None]
    assert asyncio.run(fill()) == wanted
    later = ResponseCache(path, exclusive=True)
    assert [entry and entry.answer for entry in map(later.get, keys)] == wanted
    later.close()


def test_batched_answers_reach_the_disk_within_the_write_interval(tmp_path: Path) -> None:
    path, keys = tmp_path / "answers.sqlite", [bytes([place]) * 32 for place in range(10)]

    async def put_all() -> None:
        store, other = ResponseCache(path), ResponseCache(path)
        for key in keys:
            store.put(key, Completion("Paris"), paid_by="run/row")
        # without a close or another put
        while any(other.get(key) is None for key in keys):  # noqa: ASYNC110  there is no event for the contents of a file
            await asyncio.sleep(WRITE_INTERVAL_S / 5)
        store.close()
        other.close()

    asyncio.run(asyncio.wait_for(put_all(), 30))
