"""Labels by people as a CSV file for git: one line per label, bound to the answer that was labeled.

    id,target,epoch,scorer,label,labeler,time,probability,stratum,judge_verdict,judge,prompt,version,answer
    moon,bot,1,factuality,1,ada,2026-11-29T07:00:00Z,0.2,disagree,1,openai/gpt-5.4-mini,1f0c…,v1,9a41…

Only `id` and `label` are needed; `verdict` is another name of `label`. `probability` is that with which the answer was
drawn for labeling, empty where all were as likely. `judge_verdict` is the judge's score at that time. `answer` is the
hash of the answer: another answer does not inherit the label. `prompt` and `version` are of the scorer: a label under
other criteria is stale.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from evalrunner.domain import Completion, Row
from evalrunner.errors import Problem, SuiteError, nearest
from evalrunner.formatting import one_line
from evalrunner.redact import redact
from evalrunner.runs.provenance import Provenance
from evalrunner.spelling import exact_json
from evalrunner.storage import write_text

HASH_LENGTH: Final = 16
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_PROBLEMS: Final = 20  # reported of one file
GOOD: Final = frozenset({"yes", "true", "pass", "good", "right", "correct"})
BAD: Final = frozenset({"no", "false", "fail", "bad", "wrong", "incorrect"})
ALIASES: Final = {"verdict": "label", "labeller": "labeler"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One person's verdict on one answer. Empty texts are unknown; `line` is its line in the file.

    `label` is in the range of the scorer, 0 or 1 for verdicts.
    """

    id: str
    target: str = ""
    epoch: int | None = None
    scorer: str = ""
    label: float
    labeler: str = ""
    time: str = ""
    probability: float | None = None
    stratum: str = ""
    judge_verdict: float | None = None
    judge: str = ""
    prompt: str = ""
    version: str = ""
    answer: str = ""
    line: int = 0


COLUMNS: Final = tuple(field.name for field in fields(Label) if field.name != "line")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a label or a judge's verdict depends on: judge models, and the scorer's criteria and version."""

    judge: str
    prompt: str
    version: str

    @classmethod
    def of(cls, provenance: Provenance, scorer: str) -> Binding:
        """The binding of a scorer, or a part of one, in a run."""
        declared = provenance.scorers[scorer]
        owner = declared.part_of or scorer
        source = provenance.scorers.get(owner, declared)
        files = {name: digest for name, digest in source.files.items() if name.endswith(".py")}
        content = {"type": source.type, "options": source.options, "args": source.args, "files": files}
        judges = sorted({judge.model for judge in provenance.judges_of(owner).values() if judge.role == "judge"})
        return cls(" + ".join(judges), _hash(content), declared.version or "")

    def scorer_changes(self, label: Label) -> str | None:
        """Why a label was given under other criteria; None if not, or if the label does not say."""
        if label.version and label.version != self.version:
            return f"scorer version {label.version} → {self.version or 'none'}"
        if label.prompt and label.prompt != self.prompt:
            return "criteria or options of the scorer changed"
        return None

    def judge_changes(self, label: Label) -> str | None:
        """Why the recorded verdict of a label is not one of this judge; None if it is."""
        if label.judge != self.judge:
            return f"judge {label.judge or 'unknown'} → {self.judge or 'none'}"
        return self.scorer_changes(label)


def answer_hash(row: Row) -> str:
    """The hash of the text that is scored, keys redacted, and of tool calls; empty for a failed call."""
    if not isinstance(row.answer, Completion):
        return ""
    answer = row.answer
    return text_hash(answer.output, answer.tool_calls)


def text_hash(text: str, tool_calls: Sequence[Any] = ()) -> str:
    """The hash of an answer."""
    return _hash([text, list(tool_calls)] if tool_calls else text)


def _hash(value: Any) -> str:
    text = exact_json(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(redact(text).encode(errors="backslashreplace")).hexdigest()[:HASH_LENGTH]


def label_of(row: Row, scorer: str, binding: Binding, label: float, **more: Any) -> Label:
    """A label of an answer under a scorer, bound to both. `more` are labeler, time, probability and stratum."""
    cell = row.cells.get(scorer)
    return Label(
        id=row.sample.id, target=row.target, epoch=row.epoch, scorer=scorer, label=label,
        judge_verdict=None if cell is None or cell.state != "scored" else cell.value,
        judge=binding.judge, prompt=binding.prompt, version=binding.version, answer=answer_hash(row), **more,
    )  # fmt: skip


def read_labels(path: Path) -> tuple[Label, ...]:
    """The labels of a file, in its order. Raises SuiteError with the line of every problem."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SuiteError(f"{path}: larger than {MAX_BYTES // 2**20} MB; labels need one line each")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as refused:
        raise SuiteError(f"labels file {str(path)!r} cannot be read: {refused.strerror}") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path}: not UTF-8; save it as CSV in UTF-8") from None
    problems: list[Problem] = []
    labels = tuple(_parse(text, path, problems))
    if problems:
        raise SuiteError(tuple(problems[:MAX_PROBLEMS]))
    return labels


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    """Write a labels file, replacing it at once. Columns that no label fills are left out."""
    every = list(labels)
    columns = [name for name in COLUMNS if name in ("id", "label") or any(_text(one, name) for one in every)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(one, name) for name in columns] for one in every)
    write_text(path, out.getvalue())


def _text(label: Label, name: str) -> str:
    value = getattr(label, name)
    return "" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


def _parse(text: str, path: Path, problems: list[Problem]) -> Iterator[Label]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, None)
        columns = _columns(header, path, problems)
        if columns is None:
            return
        before = 1
        for cells in reader:
            line, before = before + 1, reader.line_num
            if any(cell.strip() for cell in cells):
                label = _label(cells, columns, line, path, problems)
                if label is not None:
                    yield label
    except csv.Error as wrong:
        problems.append(_problem(path, reader.line_num, f"is not CSV: {wrong}"))


def _columns(header: Sequence[str] | None, path: Path, problems: list[Problem]) -> list[str] | None:
    if not header:
        problems.append(_problem(path, 1, "is empty; it needs a header with 'id' and 'label'"))
        return None
    names = [ALIASES.get(name, name) for name in (cell.strip().lower() for cell in header)]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        hint = nearest(unknown[0], (*COLUMNS, *ALIASES)) or f"; it has {', '.join(COLUMNS)}"
        problems.append(_problem(path, 1, f"unknown column {one_line(unknown[0], 60)!r}{hint}"))
    missing = [name for name in ("id", "label") if name not in names]
    if missing:
        problems.append(_problem(path, 1, f"has no column {missing[0]!r}"))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        problems.append(_problem(path, 1, f"has the column {twice!r} twice"))
    return None if problems else names


def _label(
    cells: Sequence[str], columns: Sequence[str], line: int, path: Path, problems: list[Problem]
) -> Label | None:
    before = len(problems)
    if len(cells) != len(columns):
        problems.append(_problem(path, line, f"has {len(cells)} values; the header has {len(columns)} columns"))
        return None
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    value = parse_label(given["label"])
    if value is None:
        problems.append(
            _problem(
                path, line, f"label {one_line(given['label'], 40)!r} is no verdict; use 1 or 0, yes or no, or a number"
            )
        )
    if not given["id"]:
        problems.append(_problem(path, line, "has no id"))
    drawn = _number(given, "probability", line, path, problems)
    if drawn is not None and not 0 < drawn <= 1:
        problems.append(_problem(path, line, f"probability is {drawn:g}; it should be above 0 and at most 1"))
    epoch = _number(given, "epoch", line, path, problems)
    if epoch is not None and (epoch < 1 or epoch != int(epoch)):
        problems.append(_problem(path, line, f"epoch is {epoch:g}; it should be a whole number from 1"))
    verdict = _number(given, "judge_verdict", line, path, problems)
    if len(problems) > before or value is None:
        return None
    texts = {name: given.get(name, "") for name in COLUMNS if name not in NUMBERS}
    return Label(
        **texts, label=value, epoch=None if epoch is None else int(epoch), probability=drawn, judge_verdict=verdict,
        line=line,
    )  # fmt: skip


NUMBERS: Final = ("label", "epoch", "probability", "judge_verdict")


def parse_label(text: str) -> float | None:
    """The number of a label: 1 for yes, pass, good, right or correct, 0 for their opposites; None if it is no label."""
    plain = text.strip().lower()
    if plain in GOOD or plain in BAD:
        return float(plain in GOOD)
    try:
        value = float(plain)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in plain else None


def _number(given: Mapping[str, str], name: str, line: int, path: Path, problems: list[Problem]) -> float | None:
    text = given.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problems.append(_problem(path, line, f"{name} is {one_line(text, 40)!r}, which is not a number"))
        return None
    return value


def _problem(path: Path, line: int, message: str) -> Problem:
    return Problem(f"{path}:{line}", "", message)
