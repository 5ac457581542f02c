"""What is made of a stored run again: its page, and its interval plot as a picture."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from evalrunner.errors import MissingExtraError, SuiteError, nearest
from evalrunner.reports.baseline_rows import baseline_lookup_of_stored
from evalrunner.reports.html.forest import forest_png, forest_svg
from evalrunner.reports.html.page import write_report
from evalrunner.reports.view import stored_view
from evalrunner.runs.folder import RunFolder
from evalrunner.storage import write_bytes

KINDS = (".html", ".svg", ".png")


def check_png_support(path: Path) -> None:
    """Refuse what cannot be written. Raises SuiteError."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise SuiteError(f"-o {str(path)!r}: the extension should be one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    if kind == ".png" and importlib.util.find_spec("resvg_py") is None:
        raise MissingExtraError(f"-o {str(path)!r}", "png")


def rewrite_report(folder: RunFolder, path: Path, *, runs: Path) -> Path:
    """Write the page or the plot of a stored run, by the extension; returns where. `runs` is where baselines may be."""
    kind = path.suffix.lower()
    if kind == ".html":
        return write_report(folder.path, path, earlier=baseline_lookup_of_stored(stored_view(folder), runs))
    if kind == ".svg":
        write_bytes(path, forest_svg(folder.path).encode("utf-8", errors="replace"))
    else:
        write_bytes(path, forest_png(folder.path))
    return path
