"""What a run with a cost cap has spent and set aside, on disk before each call, so that no end of a process loses it.

`spend.jsonl` in the run folder, append-only, a line each for
    {"reserve": 17, "side": "judges", "usd": 0.0021}    the most that a call can cost, before it is made
    {"settle": 17, "usd": 0.0004}                       what it did cost, after it
    {"before": "targets", "usd": 0.31}                  what was spent while no cap was set
A call without a second line was under way when the process ended: it counts in full.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evalrunner.errors import RunError

NAME = "spend.jsonl"
Side: TypeAlias = Literal["targets", "judges"]
SIDES: tuple[Side, ...] = ("targets", "judges")


@dataclass(slots=True)
class Spent:
    """US dollars by side; `open` holds what was set aside and not settled. `next` is the first free number."""

    settled: dict[Side, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))
    open: dict[int, tuple[Side, float]] = field(default_factory=dict)
    next: int = 1

    def of(self, side: Side) -> float:
        """What a side has cost at the most: settled, and set aside."""
        return self.settled[side] + sum(usd for whose, usd in self.open.values() if whose == side)

    def take(self, line: Mapping[str, Any]) -> None:
        """Add one line. Raises KeyError, TypeError or ValueError where it is not one of ours."""
        usd = float(line["usd"])
        if "reserve" in line:
            number, side = int(line["reserve"]), line["side"]
            self.settled[side]  # or it is no side
            self.open[number] = (side, usd)
            self.next = max(self.next, number + 1)
        elif "settle" in line:
            side, _ = self.open.pop(int(line["settle"]))
            self.settled[side] += usd
        else:
            self.settled[line["before"]] += usd


class Ledger:
    """The ledger of a run folder, open for more.

    Calls that another process had under way when it ended count in full from now on. `before` is what the row log
    says was spent by each side: where that is more than the ledger has, there were times without a cap.
    Raises RunError where the file cannot be read or written.
    """

    def __init__(self, folder: Path, *, before: Mapping[Side, float] | None = None) -> None:
        self.path = folder / NAME
        spent, size = read_ledger(folder)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.ftruncate(self._file, size)  # a torn last line would spoil the next one
        except OSError as refused:
            raise self._refused(refused) from None
        self.spent: dict[Side, float] = {side: spent.of(side) for side in SIDES}
        self._next = spent.next
        for side, usd in (before or {}).items():
            if (more := usd - self.spent[side]) > 0:
                self._write(b'{"before":"%b","usd":%b}\n' % (side.encode(), _usd(more)))
                self.spent[side] = usd

    def reserve(self, side: Side, usd: float) -> int:
        """The number of a call that is about to be made. Raises RunError; then it must not be made."""
        number = self._next
        self._write(b'{"reserve":%d,"side":"%b","usd":%b}\n' % (number, side.encode(), _usd(usd)))
        self._next += 1
        return number

    def settle(self, number: int, side: Side, usd: float) -> None:
        """Note what a call has cost. Raises RunError."""
        self.spent[side] += usd
        self._write(b'{"settle":%d,"usd":%b}\n' % (number, _usd(usd)))

    def close(self) -> None:
        """None, with everything on disk."""
        os.fsync(self._file)
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a full disk or a signal can cut a write short
                written += os.write(self._file, line[written:])
        except OSError as refused:
            raise self._refused(refused) from None

    def _refused(self, refused: OSError) -> RunError:
        return RunError(f"cannot write {str(self.path)!r}: {refused.strerror}; without it no cost cap can hold")


def read_ledger(folder: Path) -> tuple[Spent, int]:
    """What the ledger of a run folder says, and its size in bytes without a torn last line; nothing where there is none.

    Raises RunError for a line in the middle that is broken: something else has written there.
    """
    spent, size = Spent(), 0
    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return spent, 0
    except OSError as refused:
        raise RunError(f"cannot read {str(path)!r}: {refused.strerror}") from None
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):  # cut off while it was written: its call was not made yet, or is still open
            break
        try:
            spent.take(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise RunError(
                f"{path}:{number}: this line is no part of a ledger; something else has written it"
            ) from None
        size += len(line)
    return spent, size


def _usd(amount: float) -> bytes:
    return repr(float(amount)).encode()
