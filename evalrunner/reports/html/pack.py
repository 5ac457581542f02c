"""Rows as the page reads them: arrays in a fixed order, repeated texts as places in a table, long texts cut.

A pack is `{"strings": […], "groups": […]}`; places in `strings` are its own. A group is a sample in one epoch:
`[id, epoch, index, input, expected, metadata, answers, baseline]`, with an answer (or null) for each target. The
fields stand in the order of `GROUP`, `ANSWER` and `CELL`, which the page gets told.
A text that was cut is `[what is kept, its length]`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalrunner.domain import Cell, Failure, Row
from evalrunner.redact import redact
from evalrunner.reports.worst_rows import BaselineLookup, BaselineScores
from evalrunner.storage import dump_json

GROUP = ("id", "epoch", "index", "input", "expected", "metadata", "answers", "baseline")
ANSWER = (
    "text", "finish_reason", "failure", "latency_s", "ttft_s", "input_tokens", "output_tokens", "cost_usd", "model", "cached",
    "cells", "messages", "tool_calls",
)  # fmt: skip
CELL = ("state", "value", "reason", "detail", "cost_usd")
STATES = ("scored", "skipped", "unscored", "error")
ID_LIMIT = 500  # characters of an id or a value of metadata that are shown; what is longer is no name any more
EACH = 400_000  # characters of a pack: enough for deflate to find repetitions, and inflated in one breath


class Packer:
    """Packs groups of rows. `limit` is how many characters of a text the page holds."""

    def __init__(
        self,
        scorers: Sequence[str],
        columns: Sequence[str],
        targets: Sequence[str],
        *,
        limit: int,
        baseline: BaselineLookup | None = None,
    ) -> None:
        self.scorers, self.columns, self.targets = tuple(scorers), tuple(columns), tuple(targets)
        self.limit = limit
        self.baseline = baseline
        self._strings: dict[str, int] = {}

    def packs(self, groups: Iterable[Mapping[int, Row]]) -> Iterator[str]:
        """One pack of JSON after the other."""
        parts: list[str] = []
        size = 0
        for rows in groups:
            parts.append(redact(dump_json(self._group(rows))))  # finite numbers only
            size += len(parts[-1])
            if size > EACH:
                yield self._close(parts)
                parts, size = [], 0
        if parts:
            yield self._close(parts)

    def _close(self, parts: Sequence[str]) -> str:
        strings = json_text(list(self._strings))
        self._strings = {}
        return f'{{"strings":{strings},"groups":[{",".join(parts)}]}}'

    def _place(self, text: str | None) -> int:
        """The place of a text in the table; -1 for none."""
        return -1 if text is None else self._strings.setdefault(text, len(self._strings))

    def _cut(self, text: str) -> str | list[Any]:
        return text if len(text) <= self.limit else [text[: self.limit], len(text)]

    def _group(self, rows: Mapping[int, Row]) -> list[Any]:
        first = next(iter(rows.values()))
        sample = first.sample
        answers: list[Any] = [None] * len(self.targets)
        prompts: list[Any] = []
        for target, row in rows.items():
            answers[target] = self._answer(row, target, prompts)
        before: list[Any] | None = None
        if self.baseline is not None:
            before = [None] * len(self.targets)
            for target, row in rows.items():
                before[target] = self._before(self.baseline(row))
        return [
            sample.id[:ID_LIMIT],
            first.epoch,
            sample.index,
            self._cut(_text(sample.input)),
            [self._cut(text) for text in sample.expected],
            [self._value(sample.metadata.get(name)) for name in self.columns],
            answers,
            before,
        ]

    def _before(self, found: BaselineScores | None) -> list[Any] | None:
        """What the baseline had: a score for each scorer, then its output, each None where there is none."""
        if found is None:
            return None
        output = self._cut(found.output) if found.output is not None else None
        return [[found.scores.get(name) for name in self.scorers], output]

    def _value(self, value: Any) -> int:
        if value is None:
            return -1
        text = _text(value)
        return self._place(text if len(text) <= ID_LIMIT else text[:ID_LIMIT] + "…")

    def _answer(self, row: Row, target: int, prompts: list[Any]) -> list[Any]:
        answer = row.answer
        cells = [self._cell(row.cells[name]) if name in row.cells else None for name in self.scorers]
        messages = self._messages(answer.messages, target, prompts)
        if isinstance(answer, Failure):
            said = f"{answer.kind}: {answer.message}"
            return [None, self._place(f"error: {answer.kind}"), self._cut(said), *[None] * 6, 0, cells, messages, None]
        return [
            self._cut(answer.text),
            self._place(answer.finish_reason),
            None,
            _short(answer.latency_s),
            _short(answer.ttft_s),
            answer.input_tokens,
            answer.output_tokens,
            answer.cost_usd,
            self._place(answer.served_model),
            int(answer.cached),
            cells,
            messages,
            self._cut(_text(list(answer.tool_calls))) if answer.tool_calls else None,
        ]

    def _messages(self, messages: Sequence[Mapping[str, Any]] | None, target: int, prompts: list[Any]) -> Any:
        """The prompt as pairs of role and text; the place of an earlier target that was sent the same."""
        if messages is None:
            return None
        for first, known in prompts:
            if known == messages:
                return first
        prompts.append((target, messages))
        return [[self._place(str(said.get("role", ""))), self._cut(_content(said))] for said in messages]

    def _cell(self, cell: Cell) -> list[Any]:
        packed: list[Any] = [STATES.index(cell.state), cell.value]
        message = cell.message
        if message is not None or cell.detail or cell.calls:
            packed.append(self._place(message[: self.limit] if message is not None else None))
        if cell.detail or cell.calls:
            packed.append({str(key): self._cut(_text(value)) for key, value in (cell.detail or {}).items()})
        if cell.calls:
            known = [call.cost_usd for call in cell.calls if call.cost_usd is not None]
            packed.append(sum(known) if known else None)
        return packed


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _content(message: Mapping[str, Any]) -> str:
    """What a message says: its content alone where that is all, else all but its role as JSON."""
    if len(message) == 2 and "role" in message and "content" in message:
        return _text(message["content"])
    rest = {key: value for key, value in message.items() if key != "role"}
    return _text(rest["content"]) if list(rest) == ["content"] else _text(rest)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


LEVEL = 4  # of deflate: 6 takes half as long again, for three per cent

# `</script>` and `<!--` would end or change the element; the two separators end a line in older engines
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def json_text(data: Any) -> str:
    """Data as JSON on one line, keys redacted. NaN is refused: no reader of JSON knows it."""
    return redact(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str))


def to_utf8(text: str) -> bytes:
    r"""Text as UTF-8; half of a surrogate pair as `\udc00`, which is how JSON spells it too."""
    return text.encode("utf-8", errors="backslashreplace")


def inline_json(text: str) -> bytes:
    """JSON as the content of a script element that is data: nothing in it ends the element."""
    return to_utf8(text.translate(_ESCAPES))


def packed_json(text: str) -> bytes:
    """JSON deflated (zlib, RFC 1950) and in base64, as `DecompressionStream('deflate')` takes it."""
    return base64.b64encode(zlib.compress(to_utf8(text), LEVEL))


def csp_hash(text: str) -> str:
    """What a Content-Security-Policy calls an inline script or style by: `'sha256-…'`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
