"""`evalrun cache`: info and clear."""

from __future__ import annotations

import re
import time
from pathlib import Path

from evalrunner.domain import Completion
from evalrunner.middleware.cache import ResponseCache
from tests.fakes.command import evalrun


def keep(folder: Path, *ages_s: float) -> Path:
    """A cache file with one answer of each age."""
    path = folder / "answers.sqlite"
    for place, age_s in enumerate(ages_s):
        store = ResponseCache(path, now=lambda age_s=age_s: time.time() - age_s)  # type: ignore[misc]
        store.put(b"%d" % place, Completion("4"), paid_by="r/")
        store.close()
    return path


def test_cache_is_empty_at_first(tmp_path: Path) -> None:
    env = {"EVALRUN_CACHE_DIR": str(tmp_path / "kept")}
    output, cleared = evalrun("cache", "info", env=env), evalrun("cache", "clear", env=env)
    assert (output.returncode, output.stderr) == (0, "")
    assert output.stdout == f"path: {tmp_path / 'kept' / 'answers.sqlite'}\nanswers: none yet\n"
    assert (cleared.returncode, cleared.stdout, cleared.stderr) == (0, "0 answers removed\n", "")
    assert not (tmp_path / "kept").exists()


def test_cache_info_and_clear(tmp_path: Path) -> None:
    env = {"EVALRUN_CACHE_DIR": str(tmp_path)}
    path = keep(tmp_path, 10 * 86_400, 5 * 3600, 30)
    output = evalrun("cache", "info", env=env)
    assert output.returncode == 0
    lines = rf"path: {re.escape(str(path))}\nanswers: 3, [\d.]+ KB\noldest: 10 d, newest: 3\d s\n"
    assert re.fullmatch(lines, output.stdout), output.stdout
    assert evalrun("cache", "clear", "--older-than", "7d", env=env).stdout == "1 answer removed\n"
    assert evalrun("cache", "clear", env=env).stdout == "2 answers removed\n"
    assert "answers: none yet" in evalrun("cache", "info", env=env).stdout


def test_invalid_age_is_one_error_line(tmp_path: Path) -> None:
    done = evalrun("cache", "clear", "--older-than", "7 moons", env={"EVALRUN_CACHE_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "evalrun: --older-than is '7 moons'; it should be a time such as 90s, 12h or 7d\n"


def test_corrupt_cache_file_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"something else " * 500)
    for command in ("info", "clear"):
        done = evalrun("cache", command, env={"EVALRUN_CACHE_DIR": str(tmp_path)})
        assert done.returncode == 3
        assert done.stderr == (
            f"evalrun: the answer cache {str(tmp_path / 'answers.sqlite')!r} cannot be read: file is not a database; "
            "remove the file if you do not need it\n"
        )
