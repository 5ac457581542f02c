"""Where the rows of a run stand in its row log, in the order of the page: sample, epoch, target.

Only a number and an offset are held for each row, so a log of any length can be read in order.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from evalrunner.domain import Row
from evalrunner.errors import RunError
from evalrunner.runs.row_log import NAME, BrokenRecord, decode_row

_TEXT = rb'"(?:[^"\\]|\\.)*"'
# The head of a record as the log writes it: reading no more of a line is ten times as fast as reading it whole
_HEAD = re.compile(
    rb'\{"v":\d+,"id":' + _TEXT + rb',"target":(' + _TEXT + rb'),"epoch":(\d+),"attempt":\d+,"index":(\d+),'
)
_TARGETS, _EPOCHS = 1 << 12, 1 << 16  # how many of each fit into one number with the sample's place


class RowIndex:
    """The last record of each sample, epoch and target of a run folder, in that order. A torn last line is left out."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.path = folder / NAME
        self.targets = tuple(targets)
        self.size = self.path.stat().st_size if self.path.exists() else 0
        self._keys = array("Q")
        self._offsets = array("Q")
        if self.size:
            self._read()
        self.places = sorted(range(len(self._keys)), key=self._keys.__getitem__)  # of equal keys the last one counts
        self.groups = sum(1 for _ in self._starts())

    def _read(self) -> None:
        order = {name: place for place, name in enumerate(self.targets)}
        known: dict[bytes, int] = {}
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # cut off while it was written
                    break
                named, epoch, index = _head(self.path, line)
                target = known.get(named, -2)
                if target == -2:  # -1 is a target that the run does not have
                    target = known[named] = order.get(json.loads(named), -1)
                if target >= 0:
                    self._keys.append((index * _EPOCHS + epoch) * _TARGETS + target)
                    self._offsets.append(place)
                place += len(line)

    def _starts(self) -> Iterator[int]:
        last = -1
        for place in self.places:
            group = self._keys[place] // _TARGETS
            if group != last:
                last = group
                yield group

    def read_groups(self) -> Iterator[Mapping[int, Row]]:
        """The rows of one sample and epoch after the other, by the place of their target. Raises RunError."""
        if not self.places:
            return
        with self.path.open("rb") as file:
            current = -1
            found: dict[int, int] = {}
            for place in self.places:
                group, target = divmod(self._keys[place], _TARGETS)
                if group != current and found:
                    yield self._decode(file, found)
                    found = {}
                current = group
                found[target] = self._offsets[place]
            yield self._decode(file, found)

    def _decode(self, file: IO[bytes], offsets: Mapping[int, int]) -> Mapping[int, Row]:
        rows: dict[int, Row] = {}
        for target, offset in offsets.items():
            file.seek(offset)
            try:
                rows[target] = decode_row(file.readline())
            except (BrokenRecord, ValueError, KeyError) as broken:
                raise RunError(
                    f"{self.path}: byte {offset}: {broken}; the row log was changed by something else"
                ) from None
        return rows


def _head(path: Path, line: bytes) -> tuple[bytes, int, int]:
    """Target (as JSON), epoch and place of a record; read whole where it is not spelled as we spell it."""
    head = _HEAD.match(line)
    if head is not None:
        return head[1], int(head[2]), int(head[3])
    try:
        row = decode_row(line)
    except (BrokenRecord, ValueError, KeyError) as broken:
        raise RunError(f"{path}: {broken}; the row log was changed by something else") from None
    return json.dumps(row.target).encode(), row.epoch, row.sample.index
