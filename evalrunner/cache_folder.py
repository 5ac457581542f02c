"""Where evalrun keeps what it can fetch or work out again: model weights, answers of the response cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def cache_folder(
    *, environ: Mapping[str, str] | None = None, platform: str = sys.platform, home: Path | None = None
) -> Path:
    """The folder, which need not be there yet: `EVALRUN_CACHE_DIR`, or what is usual on the platform."""
    names = os.environ if environ is None else environ
    if own := names.get("EVALRUN_CACHE_DIR"):
        return Path(own).expanduser()
    if xdg := names.get("XDG_CACHE_HOME"):
        return Path(xdg) / "evalrun"
    house = Path.home() if home is None else home
    if platform == "darwin":
        return house / "Library" / "Caches" / "evalrun"
    if platform == "win32":
        return Path(names.get("LOCALAPPDATA") or house / "AppData" / "Local") / "evalrun" / "cache"
    return house / ".cache" / "evalrun"
