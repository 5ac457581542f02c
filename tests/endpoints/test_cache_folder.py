"""The folder for files that can be downloaded again."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrunner.storage import cache_folder


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({}, "linux", "/home/me/.cache/evalrun"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/evalrun"),
        ({"XDG_CACHE_HOME": "/x", "EVALRUN_CACHE_DIR": "/own"}, "linux", "/own"),
        ({"EVALRUN_CACHE_DIR": ""}, "linux", "/home/me/.cache/evalrun"),
        ({}, "darwin", "/home/me/Library/Caches/evalrun"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/evalrun/cache"),
        ({}, "win32", "/home/me/AppData/Local/evalrun/cache"),
    ],
)
def test_the_folder_follows_environment_and_platform(environ: dict[str, str], platform: str, folder: str) -> None:
    assert cache_folder(environ=environ, platform=platform, home=Path("/home/me")) == Path(folder)
