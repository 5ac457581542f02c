"""The line of a file that a problem is in, with a caret below its place."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Final

MAX_WIDTH: Final = 76  # cells of an excerpt
MAX_LINE: Final = 4096  # characters of a line that is shown
INDENT: Final = "    "
_PLACE: Final = re.compile(r"(?P<file>.+):(?P<line>[1-9]\d*):(?P<column>[1-9]\d*)")
_KEY: Final = re.compile(r"[\w.-]+(?=[\"']?\s*[:=])")


def excerpt(where: str) -> list[str]:
    """The line at `file:line:column` and a caret; nothing where it cannot be read, or where it may hold a secret."""
    place = _PLACE.fullmatch(where)
    if place is None:
        return []
    text = _line_of(place["file"], int(place["line"]))
    column = int(place["column"]) - 1
    if text is None or column > len(text) or _may_be_secret(text):
        return []
    text = text.replace("\t", " ")
    start = len(text) - len(text.lstrip())
    if column - start > MAX_WIDTH // 2:  # a long line is shown around the place
        start = column - MAX_WIDTH // 2
    shown = text[start : start + MAX_WIDTH]
    return [INDENT + shown, INDENT + " " * _cells(text[start:column]) + "^"]


def _line_of(file: str, number: int) -> str | None:
    """A line of a file without its end; None where it cannot be read, is very long, or has characters that are not text."""
    path = Path(file)
    try:
        if not path.is_file():  # a pipe was read already, and would block
            return None
        with path.open(encoding="utf-8-sig") as lines:
            line = next(itertools.islice(lines, number - 1, number), None)
    except (OSError, ValueError):
        return None
    if line is None or len(line) > MAX_LINE:
        return None
    line = line.rstrip("\r\n")
    return line if line.replace("\t", " ").isprintable() and line.strip() else None


def _may_be_secret(text: str) -> bool:
    """Whether a line has a key such as `api_key` or `headers`, or something that is redacted in messages."""
    from evalrunner.redact import redact_message
    from evalrunner.secret_names import is_secret_option

    return redact_message(text) != text or any(is_secret_option(name, "x") for name in _KEY.findall(text))


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
