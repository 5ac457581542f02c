"""stdout and stderr that never raise: what is printed cannot change an exit code or end a run.

A stream that is closed, full or gone drops what it is given. Characters that its encoding lacks get ASCII stand-ins.
User-defined functions may close, wrap or detach the streams, as scripts do to change their encoding.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import string
import sys
import time
from typing import Any, Final, TextIO

STAND_INS: Final = {
    # dashes and lines
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "·": "|", "•": "*",
    "━": "-", "─": "-", "╸": "-", "╺": "-", "│": "|", "├": "|", "└": "`",
    # quotes, ellipsis and spaces
    "‘": "'", "’": "'", "‚": ",", "“": '"', "”": '"', "„": '"', "«": "<<", "»": ">>", "…": "...",
    "\xa0": " ", "\u2007": " ", "\u2009": " ", "\u202f": " ",
    # signs of numbers and statistics
    "≈": "~", "≠": "!=", "≤": "<=", "≥": ">=", "±": "+-", "×": "x", "÷": "/", "√": "sqrt",
    "²": "^2", "³": "^3", "⁴": "^4", "ⁿ": "^n", "µ": "u", "μ": "u", "α": "alpha", "χ": "chi", "σ": "sigma", "∞": "inf",
    # marks and arrows
    "→": "->", "←": "<-", "↑": "^", "↓": "v", "✓": "+", "✔": "+", "✅": "+", "✗": "x", "✘": "x", "❌": "x",
}  # fmt: skip
"""ASCII for characters of messages and tables. A zero-width space has none: it breaks workflow commands of CI systems."""

ERRORS: Final = "evalrun-stand-ins"
ASCII: Final = "evalrun-ascii"  # under its own name: Typer sends UTF-8 to streams that are called ASCII
FULL_PIPE_WAIT_S: Final = 0.005
CLOSED: Final = "it is closed"


class RawStream(io.RawIOBase):
    """The bytes of a standard stream. `problem` says why the rest is dropped, `dropped` whether anything was."""

    def __init__(self, raw: Any, name: str, problem: str | None = None) -> None:
        self.raw, self.name, self.problem = raw, f"<{name}>", problem
        self.dropped = False
        self.reader_left = False

    def write(self, data: Any, /) -> int:
        """Write all of the data, and wait for a full pipe that does not block."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self.problem is None:
            try:
                written = self.raw.write(rest)
            except (OSError, ValueError) as refused:  # ValueError: the file object was closed
                self._drop_rest(refused)
                break
            if written is None:
                time.sleep(FULL_PIPE_WAIT_S)
            else:
                rest = rest[written:]
        self.dropped = self.dropped or len(rest) > 0
        return size

    def _drop_rest(self, refused: OSError | ValueError) -> None:
        """Drop what follows, and send what libraries and child processes write to the descriptor nowhere."""
        self.problem = getattr(refused, "strerror", None) or str(refused)
        self.reader_left = isinstance(refused, ConnectionError)
        with contextlib.suppress(OSError, ValueError):  # no descriptor left, or none to connect
            connect_to_null(self.raw.fileno())

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self.raw.fileno())

    def isatty(self) -> bool:
        return self.problem is None and bool(self.raw.isatty())


class Buffer(io.BufferedWriter):
    """The buffer of a standard stream, which stays open."""

    def close(self) -> None:
        self.flush()

    def detach(self) -> Any:
        self.flush()
        return self.raw


class Stream(io.TextIOWrapper):
    """A standard stream, which stays open. `origin` is the interpreter's own, whose end would close the file."""

    def __init__(self, raw: RawStream, encoding: str, *, origin: io.TextIOWrapper | None = None) -> None:
        through = origin is not None and origin.write_through
        super().__init__(Buffer(raw), encoding, ERRORS, line_buffering=True, write_through=through)
        self.state, self.origin = raw, origin

    def close(self) -> None:
        self.flush()

    def detach(self) -> Any:
        self.flush()
        return self.buffer


def stand_in(error: UnicodeError) -> tuple[str, int]:
    """ASCII for characters that an encoding lacks, and where to continue, for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(STAND_INS.get(char) or ascii(char)[1:-1] for char in text), error.end


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode, known.decode, known.streamreader, known.streamwriter, known.incrementalencoder,
        known.incrementaldecoder, ASCII,
    )  # fmt: skip


codecs.register(_find_codec)
codecs.register_error(ERRORS, stand_in)


def connect_to_null(number: int) -> None:
    """Connect a descriptor to the null device, for child processes too."""
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(null, number)
        os.close(null)


def protect_streams() -> None:
    """Replace sys.stdout and sys.stderr by streams that never raise.

    Standard descriptors that are closed are opened on the null device. Otherwise the next file would get the number, and
    with it what libraries print.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            connect_to_null(number)
    sys.stdout = sys.__stdout__ = _protected(sys.stdout, 1)  # type: ignore[misc]  # scripts restore it
    sys.stderr = sys.__stderr__ = _protected(sys.stderr, 2)  # type: ignore[misc]


def _protected(stream: TextIO | None, number: int) -> Any:
    """The stream, protected. None is a closed one; what is not the interpreter's is unchanged."""
    name = "stdout" if number == 1 else "stderr"
    if stream is None:
        return Stream(RawStream(io.FileIO(number, "w", closefd=False), name, CLOSED), "utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered, the buffer is the file itself
    return Stream(RawStream(raw, name), _usable(stream.encoding), origin=stream)


def _usable(encoding: str) -> str:
    """The encoding, or the one for ASCII if it is that or lacks some of it, as cp864 lacks the percent sign."""
    try:
        string.printable.encode(encoding)
    except UnicodeError:
        return ASCII
    return ASCII if codecs.lookup(encoding).name == "ascii" else encoding


def report(text: str) -> None:
    """Print a message to stderr, or to stdout if stderr cannot be written; wherever user-defined functions put those."""
    print(text, file=sys.__stderr__, flush=True)
    if is_lost(sys.__stderr__):
        print(text, file=sys.__stdout__, flush=True)


def is_lost(stream: TextIO | None) -> bool:
    """Whether a stream has dropped something."""
    return isinstance(stream, Stream) and stream.state.dropped


def flush_streams() -> None:
    """Write what is buffered. Report if stdout could not be written, unless its reader left: that is how `head` ends."""
    out = sys.__stdout__
    for stream in (sys.stdout, out, sys.stderr, sys.__stderr__):
        with contextlib.suppress(Exception):  # user-defined functions may have put anything there
            stream.flush()  # type: ignore[union-attr]
    if isinstance(out, Stream) and is_lost(out) and not out.state.reader_left and not is_lost(sys.__stderr__):
        report(f"evalrun: stdout could not be written in full ({out.state.problem}); the exit code is not affected")
