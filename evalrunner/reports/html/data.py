"""The data of a page: an overview of the run, and its rows in packs.

`RowIndex` reads the rows of a run in the order of the page: sample, epoch, target. It holds a number and an offset of
each row, so a log of any length can be read in order.

A pack is `{"strings": […], "groups": […]}`. Repeated texts are places in `strings`, long texts are cut. A group is a
sample in one epoch: `[id, epoch, index, input, expected, metadata, answers, baseline]`, with an answer (or null) for
each target. The fields are in the order of `GROUP`, `ANSWER` and `CELL`, which the page receives. A text that was cut is
`[its start, its length]`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from evalrunner.attachments import attachments_in, content_lines, label_of
from evalrunner.domain import Cell, Failure, Metric, Row
from evalrunner.errors import RunError
from evalrunner.formatting import plain_text
from evalrunner.redact import redact, redact_start
from evalrunner.reports.checks import CheckResult, checks_of
from evalrunner.reports.conversation import spoken_messages
from evalrunner.reports.html.thumbnails import Thumbnails
from evalrunner.reports.missing import answers_texts
from evalrunner.reports.verdict_sentence import sentence
from evalrunner.reports.view import RunView
from evalrunner.reports.worst_rows import BaselineLookup, BaselineScores
from evalrunner.runs.folder import ROWS_FILE
from evalrunner.runs.provenance import ScorerProvenance, TargetProvenance
from evalrunner.runs.record import RunRecord, UsageRecord, to_json
from evalrunner.runs.row_log import BrokenRecord, decode_row, is_event
from evalrunner.storage import dump_json, sorted_places

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison

RUN_FIELDS = (
    "status", "started_at", "finished_at", "duration_s", "seed", "epochs", "rows", "rows_planned", "stopped", "suite_file",
    "options", "source",
)  # fmt: skip
SCORER_FIELDS = ("range", "higher_is_better", "binary", "unit", "threshold", "headline", "version", "backend")

_TEXT = rb'"(?:[^"\\]|\\.)*"'
# The head of a record as the log writes it: reading no more of a line is ten times as fast as reading it whole
_HEAD = re.compile(
    rb'\{"v":\d+,"id":' + _TEXT + rb',"target":(' + _TEXT + rb'),"epoch":(\d+),"attempt":\d+,"index":(\d+),'
)
_TARGETS, _EPOCHS = 1 << 12, 1 << 16  # how many of each fit into one number with the sample's place

GROUP = ("id", "epoch", "index", "input", "expected", "metadata", "answers", "baseline")
ANSWER = (
    "text", "finish_reason", "failure", "latency_s", "ttft_s", "input_tokens", "output_tokens", "cost_usd", "model", "cached",
    "cells", "messages", "tool_calls", "reasoning", "reasoning_length", "reasoning_tokens", "extracted",
)  # fmt: skip
CELL = ("state", "value", "reason", "detail", "cost_usd", "checks")
CHECK = (  # `passed` is 1, 0 or null
    "text", "type", "name", "passed", "value", "weight", "state", "why", "extracted", "depth", "decides",
)  # fmt: skip
STATES = ("scored", "skipped", "unscored", "error")
MAX_FIELD_LENGTH = 500  # characters of an id or a sample field
MAX_CHECKS = 200  # checks of a row
MAX_SUITE_LENGTH = 20_000  # characters of the suite, which may hold its samples
PACK_LENGTH = 400_000  # characters of a pack: enough for deflate to find repetitions, and inflated in one breath

DEFLATE_LEVEL = 4  # of deflate: 6 takes half as long again, for three per cent

# `</script>` and `<!--` would end or change the element; the two separators end a line in older engines
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def overview_data(view: RunView) -> dict[str, Any]:
    """Verdict, gates, metrics, usage and configuration of a run."""
    run = view.record
    assert run is not None  # only views of tests have none
    baselines = dict(_baseline_parts(view))
    return {
        "suite": run.suite,
        "run_id": run.run_id,
        "description": run.resolved.get("description"),
        "word": view.word,
        "sentence": sentence(view),
        "verdict": view.verdict,
        "exit_code": view.exit_code,
        "about": {key: to_json(getattr(run, key)) for key in RUN_FIELDS},
        "dataset_hash": run.dataset.digest,
        "suite_text": suite_text(run.resolved),
        "versions": dict(run.versions),
        "notices": list(run.notices),
        "columns": [name for name in run.columns if name not in ("id", "input", "expected")],
        "headline": run.headline_scorer,
        "scorers": [scorer_part(name, scorer) for name, scorer in run.scorers.items()],
        "judges": to_json(run.judges),
        "targets": [
            target_part(
                name,
                target,
                view.targets[name].metrics,
                view.targets[name].usage if view.numbers else None,
                view.answers_planned,
            )
            | {"epochs": to_json(view.targets[name].epochs), "baseline": baselines.get(name)}
            for name, target in run.targets.items()
        ],
        "gates": to_json(view.gates),
        "comparison": comparison_part(view.comparison),
        "shape": {"group": GROUP, "answer": ANSWER, "cell": CELL, "check": CHECK, "states": STATES},
    }


def _baseline_parts(view: RunView) -> Iterator[tuple[str, dict[str, Any]]]:
    """Metrics, p50 latency, cost of an answer and errors of each target in the run of its baseline, if that is still there."""
    if view.baseline_run is None:
        return
    folder = view.folder.parent / view.baseline_run
    try:
        run = RunRecord.load(folder)
        numbers = run.load_metrics(folder)
    except RunError:
        return
    targets = {} if numbers is None else numbers.targets
    for name in view.targets:
        partner = targets.get(name) or (
            next(iter(targets.values())) if len(targets) == len(view.targets) == 1 else None
        )
        if partner is None:
            continue
        whole = [metric for metric in partner.metrics if metric.slice is None]
        by_name = {(metric.scorer, metric.aggregate): metric for metric in whole}
        latency, cost = by_name.get(("latency", "p50")), by_name.get(("cost_usd", "mean"))
        yield (
            name,
            {
                "p50": latency and latency.value,
                "cost": (cost and cost.value) or None,
                "errors": latency and latency.errors,
                "metrics": [
                    {"name": each.name, "value": each.value, "low": each.low, "high": each.high, "unit": each.unit}
                    for each in whole
                    if each.scorer in run.scorers and each.value is not None
                ],
            },
        )


def suite_text(resolved: Mapping[str, Any]) -> str | list[Any] | None:
    """The suite as it was read, as indented JSON, cut like every long text; None where a run has none."""
    if not resolved:
        return None
    text = redact(json.dumps(resolved, ensure_ascii=False, indent=2, default=str))
    return text if len(text) <= MAX_SUITE_LENGTH else [text[:MAX_SUITE_LENGTH], len(text)]


def comparison_part(comparison: Comparison | None) -> dict[str, Any] | None:
    """The comparison in the data of the page, with the keys of `metrics.json`."""
    if comparison is None:
        return None
    from evalrunner.reports.comparison import adjustment_note
    from evalrunner.reports.conclusions import conclusions_of, cost_conclusion

    data = comparison.to_json()
    part = {key: data[key] for key in ("paired", "family", "metrics", "warnings", "notes")}
    part["conclusions"] = [list(conclusions_of(comparison, metric)) for metric in comparison.metrics]
    part["cost"] = cost_conclusion(comparison)
    part["adjustment"] = adjustment_note(comparison)
    return part


def scorer_part(name: str, scorer: ScorerProvenance) -> dict[str, Any]:
    """A scorer in the data of the page."""
    return {"name": name, "type": scorer.type, **{key: to_json(getattr(scorer, key)) for key in SCORER_FIELDS}}


def target_part(
    name: str, target: TargetProvenance, metrics: Sequence[Metric], usage: UsageRecord | None, planned: int = 0
) -> dict[str, Any]:
    """A target in the data of the page; `usage` is None where its calls were not counted, `planned` its answers."""
    return {
        "name": name,
        "type": target.type,
        "model": target.model,
        "host": target.host,
        "params": dict(target.params),
        "served_models": list(target.served_models),
        "usage": {} if usage is None else to_json(usage),
        "metrics": [
            {**metric, "answers": answers}
            for metric, answers in zip(to_json(metrics), answers_texts(metrics, planned), strict=True)
        ],
    }


def headline(overview: Mapping[str, Any]) -> str:
    """`PASS qa` as one line of text, for the title and for readers without scripts."""
    return f"{overview['word']} {overview['suite']}"


def scorer_names(overview: Mapping[str, Any]) -> list[str]:
    """The scorers in the order of the suite."""
    return [scorer["name"] for scorer in overview["scorers"]]


def target_names(overview: Mapping[str, Any]) -> list[str]:
    """The targets in the order of the page."""
    return [target["name"] for target in overview["targets"]]


class RowIndex:
    """The last record of each sample, epoch and target of a run folder, in that order. A torn last line is left out."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.path = folder / ROWS_FILE
        self.targets = tuple(targets)
        self.size = self.path.stat().st_size if self.path.exists() else 0
        self._keys = array("Q")
        self._offsets = array("Q")
        if self.size:
            self._read()
        self.places = sorted_places(self._keys)  # of equal keys the last one counts
        self.groups = sum(1 for _ in self._starts())

    def _read(self) -> None:
        order = {name: place for place, name in enumerate(self.targets)}
        known: dict[bytes, int] = {}
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # cut off while it was written
                    break
                if is_event(line):
                    place += len(line)
                    continue
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
            offsets: dict[int, int] = {}
            for place in self.places:
                group, target = divmod(self._keys[place], _TARGETS)
                if group != current and offsets:
                    yield self._decode(file, offsets)
                    offsets = {}
                current = group
                offsets[target] = self._offsets[place]
            yield self._decode(file, offsets)

    def _decode(self, file: IO[bytes], offsets: Mapping[int, int]) -> Mapping[int, Row]:
        rows: dict[int, Row] = {}
        for target, offset in offsets.items():
            file.seek(offset)
            try:
                rows[target] = decode_row(file.readline())
            except (BrokenRecord, ValueError, KeyError) as broken:
                raise RunError(f"{self.path}: byte {offset}: {broken}; another program changed the row log") from None
        return rows


def _head(path: Path, line: bytes) -> tuple[bytes, int, int]:
    """Target (as JSON), epoch and index of a record; parsed in full where its keys are in another order."""
    head = _HEAD.match(line)
    if head is not None:
        return head[1], int(head[2]), int(head[3])
    try:
        row = decode_row(line)
    except (BrokenRecord, ValueError, KeyError) as broken:
        raise RunError(f"{path}: {broken}; another program changed the row log") from None
    return json.dumps(row.target).encode(), row.epoch, row.sample.index


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
        thumbnails: Thumbnails | None = None,
    ) -> None:
        self.thumbnails = thumbnails
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
            if size > PACK_LENGTH:
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
            redact_start(sample.id, MAX_FIELD_LENGTH),
            first.epoch,
            sample.index,
            self._cut(sample.input if isinstance(sample.input, str) else plain_text(sample.input)),
            [self._cut(text) for text in sample.expected],
            [self._value(sample.metadata.get(name)) for name in self.columns],
            answers,
            before,
        ]

    def _before(self, stored: BaselineScores | None) -> list[Any] | None:
        """The baseline of a row: a score for each scorer, then its output, each None where it is missing."""
        if stored is None:
            return None
        output = self._cut(stored.output) if stored.output is not None else None
        return [[stored.scores.get(name) for name in self.scorers], output]

    def _value(self, value: Any) -> int:
        if value is None:
            return -1
        text = value if isinstance(value, str) else plain_text(value)  # most are text, and there are many
        return self._place(text if len(text) <= MAX_FIELD_LENGTH else redact_start(text, MAX_FIELD_LENGTH) + "…")

    def _start(self, text: str) -> int:
        """The place of a text, cut; -1 for an empty one. The whole table is redacted, so only a text that is cut is here."""
        if not text:
            return -1
        return self._place(text if len(text) <= MAX_FIELD_LENGTH else redact_start(text, MAX_FIELD_LENGTH))

    def _answer(self, row: Row, target: int, prompts: list[Any]) -> list[Any]:
        answer = row.answer
        cells = [self._cell(row.cells[name]) if name in row.cells else None for name in self.scorers]
        messages = self._messages(spoken_messages(answer), target, prompts)
        if isinstance(answer, Failure):
            failure = f"{answer.kind}: {answer.message}"
            return [
                None,
                self._place(f"error: {answer.kind}"),
                self._cut(failure),
                *[None] * 6,
                0,
                cells,
                messages,
                *[None] * 5,
            ]
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
            self._cut(plain_text(list(answer.tool_calls))) if answer.tool_calls else None,
            None if answer.reasoning is None else self._cut(answer.reasoning),
            None if answer.reasoning is None else len(answer.reasoning),
            answer.reasoning_tokens,
            None if answer.extracted is None else self._cut(answer.extracted),
        ]

    def _messages(self, messages: Sequence[Mapping[str, Any]] | None, target: int, prompts: list[Any]) -> Any:
        """The prompt as pairs of role and text, or the place of an earlier target with the same prompt."""
        if messages is None:
            return None
        for first, known in prompts:
            if known == messages:
                return first
        prompts.append((target, messages))
        return [self._message(message) for message in messages]

    def _message(self, message: Mapping[str, Any]) -> list[Any]:
        """Role, text, and the attachments with a thumbnail and a label each."""
        packed = [self._place(str(message.get("role", ""))), self._cut(_content(message))]
        if attached := list(attachments_in([message])):
            pictures = [None if self.thumbnails is None else self.thumbnails.find(part) for part in attached]
            labels = [self._start(label_of(part)) for part in attached]
            packed.append([[self._place(one), label] for one, label in zip(pictures, labels, strict=True)])
        return packed

    def _cell(self, cell: Cell) -> list[Any]:
        packed: list[Any] = [STATES.index(cell.state), cell.value]
        if cell.reason is None and cell.cause is None and not cell.detail and not cell.calls:
            return packed  # nearly always
        message = cell.message
        if message is not None or cell.detail or cell.calls:
            packed.append(self._place(message[: self.limit] if message is not None else None))
        checks = checks_of(cell)
        if cell.detail or cell.calls:
            rest = {key: value for key, value in (cell.detail or {}).items() if not checks or key != "checks"}
            packed.append({str(key): self._cut(plain_text(value)) for key, value in rest.items()})
        if cell.calls or checks:
            known = [call.cost_usd for call in cell.calls if call.cost_usd is not None]
            packed.append(sum(known) if known else None)
        if checks:
            packed.append([self._check(check) for check in checks[:MAX_CHECKS]])
        return packed

    def _check(self, check: CheckResult) -> list[Any]:
        name = check.name
        return [
            self._start(check.text),
            self._start(check.type),
            self._start(name) if name else -1,
            None if check.passed is None else int(check.passed),
            check.value,
            check.weight,
            self._place(check.state),
            self._cut(check.why) if check.why else None,
            None if check.extracted is None else self._cut(check.extracted),
            check.depth,
            int(check.decides),
        ]


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _content(message: Mapping[str, Any]) -> str:
    """The content of a message, attachments by what they are; with other keys than role and content, all but the role as JSON."""
    if len(message) == 2 and "role" in message and isinstance(message.get("content"), str):
        text: str = message["content"]  # nearly always
        return text
    if len(message) == 2 and (lines := content_lines(message.get("content"))) is not None:
        return "\n".join(lines)
    rest = {key: value for key, value in message.items() if key != "role"}
    return plain_text(rest["content"]) if list(rest) == ["content"] else plain_text(rest)


def json_text(data: Any) -> str:
    """Data as JSON on one line, API keys redacted. Raises ValueError for NaN, which JSON does not have."""
    return redact(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str))


def to_utf8(text: str) -> bytes:
    r"""Text as UTF-8; half of a surrogate pair as `\udc00`, which is how JSON spells it too."""
    return text.encode("utf-8", errors="backslashreplace")


def inline_json(text: str) -> bytes:
    """JSON as the content of a data script element, which it cannot close."""
    return to_utf8(text.translate(_ESCAPES))


def packed_json(text: str) -> bytes:
    """JSON deflated (zlib, RFC 1950) and in base64, as `DecompressionStream('deflate')` takes it."""
    return base64.b64encode(zlib.compress(to_utf8(text), DEFLATE_LEVEL))


def csp_hash(text: str) -> str:
    """The source of an inline script or style in a Content-Security-Policy: `'sha256-…'`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
