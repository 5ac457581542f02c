"""Baselines as files for git: a head line, then one line per row, sorted; the same run gives the same bytes.

The head holds what the numbers depend on: the dataset's digest, the scorers and judges with their versions, and the
prompt, params and served models of each target. `origin` holds, for each scorer, the first accepted run and its values.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from evalrunner.domain import Cell, Completion, Row, Sample
from evalrunner.errors import Problem, SuiteError
from evalrunner.prompts import find_value
from evalrunner.redact import redact
from evalrunner.runs.provenance import Provenance, without_prompts
from evalrunner.runs.record import RunRecord, from_json, to_json
from evalrunner.spelling import exact_json, respell, spellings
from evalrunner.stats.distributions import MAX_SCORE
from evalrunner.stats.summary import value_text
from evalrunner.stats.tally import ERROR, JUDGE, NO_ANSWER, SCORED, SKIPPED, ZEROED, cell_code
from evalrunner.storage import open_file, write_text

VERSION = 2
MARK = "evalrun_baseline"
FOLDER = "baselines"
STATES = {
    SCORED: "scored",
    ZEROED: "zeroed",
    SKIPPED: "skipped",
    NO_ANSWER: "no_answer",
    JUDGE: "judge",
    ERROR: "error",
}
MAX_LINE = 64 * 1024 * 1024  # characters: a row with its output
BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # raised by reading any other file
NOT_RUN = "not_run"  # a missing epoch, as in a run that stopped early
CONFLICT = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")  # what git leaves in a file that it could not merge


@dataclass(frozen=True, slots=True)
class RunRef:
    """A stored run whose gates are decided: neither it nor a later run can be its baseline."""

    id: str
    started_at: datetime

    @classmethod
    def of(cls, run: RunRecord) -> RunRef:
        """The run of a record; where it scored stored answers, the run that produced them."""
        source = run.scored_from
        if source is not None and source.started_at is not None:
            return cls(source.run_id, source.started_at)
        return cls(run.run_id, run.started_at)

    @property
    def started_ms(self) -> int:
        return round(self.started_at.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Identifies a sample across runs: the id, and hashes of the input, and of the expected output with the checks."""

    id: str
    input: str
    expected: str


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """One sample of one target: the scores of its epochs by scorer, None for a missing one, with their states.

    `slices` holds the values of the suite's slice columns; None if the baseline does not say.
    """

    key: SampleKey
    target: str
    scores: Mapping[str, tuple[float | None, ...]]
    states: Mapping[str, tuple[str, ...]]
    content: Mapping[str, Any] | None = None  # input, expected, metadata and outputs, if they were stored
    slices: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BaselineHead:
    """What a baseline is of and depends on. `provenance` is that of its run."""

    name: str
    run_id: str
    finished_at: datetime | None
    provenance: Provenance
    origin: Mapping[str, Any] = field(default_factory=dict)
    outputs: bool = False

    @property
    def suite(self) -> str:
        return self.provenance.suite

    @property
    def epochs(self) -> int:
        return self.provenance.epochs


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline that was read. `label` is its name or path in messages, `path` its file, None for a run.

    Rows by target and sample id.
    """

    head: BaselineHead
    label: str
    rows: Mapping[tuple[str, str], BaselineRow]
    path: Path | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.head.provenance.targets)

    def never_ran(self, target: str) -> int:
        """How many samples of its dataset have no row of a target: its run did not finish."""
        return max(0, self.head.provenance.dataset.rows - sum(1 for name, _ in self.rows if name == target))

    def target_for(self, name: str, others: Iterable[str]) -> str | None:
        """The target to compare `name` with: that of its name, or the only one if the run has only one too (`others`)."""
        if name in self.targets:
            return name
        return self.targets[0] if len(self.targets) == 1 and len(tuple(others)) == 1 else None


def baseline_path(suite_folder: Path, suite: str, name: str) -> Path:
    """Where the baseline of a suite is stored: beside the suite file."""
    return suite_folder / FOLDER / suite / f"{name}.jsonl"


def sample_key(sample: Sample) -> SampleKey:
    """The key of a sample, the same for a sample of a dataset and for one read back from a row log."""
    content = sample.input if sample.input is not None else sample.metadata
    expected: Any = list(sample.expected)
    return SampleKey(sample.id, _hash(content), _hash(expected if sample.checks is None else [expected, sample.checks]))


def _hash(value: Any) -> str:
    text = exact_json(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(redact(text).encode(errors="backslashreplace")).hexdigest()[:16]


def collect_rows(
    rows: Iterable[Row], *, epochs: int, outputs: bool = False, slices: Iterable[str] = ()
) -> dict[tuple[str, str], BaselineRow]:
    """The rows of a run in the form of a baseline, by target and sample id; `slices` are the suite's slice columns."""
    columns = tuple(slices)
    cells: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        cells.setdefault((row.target, row.sample.id), {})[row.epoch] = row
    return {place: _baseline_row(by_epoch, epochs, columns, outputs=outputs) for place, by_epoch in cells.items()}


def _baseline_row(by_epoch: Mapping[int, Row], epochs: int, slices: tuple[str, ...], *, outputs: bool) -> BaselineRow:
    first = by_epoch[min(by_epoch)]
    every = [by_epoch.get(epoch) for epoch in range(1, epochs + 1)]
    names = list(first.cells)
    cells = {name: [row.cells.get(name) if row is not None else None for row in every] for name in names}
    return BaselineRow(
        sample_key(first.sample),
        first.target,
        {name: tuple(_value(cell) for cell in column) for name, column in cells.items()},
        {
            name: tuple(STATES[cell_code(cell)] if cell else NOT_RUN for cell in column)
            for name, column in cells.items()
        },
        _content(first.sample, every) if outputs else None,
        {column: value_text(find_value(first.sample.metadata, column)) for column in slices},
    )


def _value(cell: Cell | None) -> float | None:
    return cell.value if cell is not None and cell.state == "scored" else None


def _content(sample: Sample, rows: Iterable[Row | None]) -> dict[str, Any]:
    answers = [row.answer if row is not None else None for row in rows]
    return {
        "input": sample.input,
        "expected": list(sample.expected),
        "metadata": dict(sample.metadata),
        **({"checks": sample.checks} if sample.checks is not None else {}),
        "outputs": [
            {"text": answer.text, "finish_reason": answer.finish_reason, **({"tool_calls": list(answer.tool_calls)} if answer.tool_calls else {})}
            if isinstance(answer, Completion)
            else None
            for answer in answers
        ],
    }  # fmt: skip


def write_baseline(path: Path, head: BaselineHead, rows: Iterable[BaselineRow]) -> None:
    """Write a baseline, sorted by target and id. Raises RunError if the file cannot be written."""
    ordered = sorted(rows, key=lambda row: (row.target, row.key.id))
    write_text(path, "\n".join([_line(_head_data(head)), *(_line(_row_data(row)) for row in ordered)]) + "\n")


def _line(data: Mapping[str, Any]) -> str:
    return exact_json(data, ensure_ascii=False, separators=(",", ":"), default=str)


def _head_data(head: BaselineHead) -> dict[str, Any]:
    return {
        MARK: VERSION,
        "suite": head.suite,
        "name": head.name,
        "run_id": head.run_id,
        "finished_at": to_json(head.finished_at),
        "epochs": head.epochs,
        "outputs": head.outputs,
        "origin": head.origin,
        **to_json(without_prompts(head.provenance)),
    }


def _row_data(row: BaselineRow) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": row.key.id,
        "target": row.target,
        "input_hash": row.key.input,
        "expected_hash": row.key.expected,
        "scores": {name: [_short(value) for value in values] for name, values in row.scores.items()},
    }
    odd = {name: list(states) for name, states in row.states.items() if any(state != "scored" for state in states)}
    if odd:
        data["states"] = odd
    if row.slices:
        data["slices"] = dict(row.slices)
    content = row.content or {}
    texts = spellings(content)
    return {**data, **content, **({"spelling": texts} if texts else {})}


def _short(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() and abs(value) < 2**53 else value


def read_baseline(path: Path, *, label: str) -> Baseline:
    """The baseline in a file. Raises SuiteError if it is broken, FileNotFoundError if there is none."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
            lines = _lines(path, file)
            head = _read_head(path, next(lines, ""))
            rows = dict(_read_rows(path, lines, head.epochs))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as refused:
        raise SuiteError([Problem(str(path), "", f"cannot be read: {getattr(refused, 'strerror', refused)}")]) from None
    return Baseline(head, label, rows, path)


def read_baseline_head(path: Path) -> BaselineHead:
    """What the baseline in a file is of, without its rows. Raises SuiteError if it is broken or missing."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig") as file:
            return _read_head(path, next(_lines(path, file), ""))
    except (OSError, UnicodeDecodeError) as refused:
        raise SuiteError([Problem(str(path), "", f"cannot be read: {getattr(refused, 'strerror', refused)}")]) from None


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """The lines of a file. Raises SuiteError for one that is longer than any of a baseline."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            problem = f"has a line of more than {MAX_LINE // 2**20} MiB; restore the file from git"
            raise SuiteError([Problem(f"{path}:{number}", "", problem)])
        yield line


def _read_head(path: Path, line: str) -> BaselineHead:
    try:
        data = json.loads(line)
        version = data[MARK]
        if version == VERSION:
            if not _is_mapping_of_mappings(data["origin"]):
                raise TypeError("not an origin")
            finished_at = data["finished_at"] and datetime.fromisoformat(data["finished_at"])
            provenance = from_json(Provenance, data)
            return BaselineHead(
                data["name"], data["run_id"], finished_at, provenance, data["origin"], bool(data["outputs"])
            )
    except BROKEN:
        problem = _merge_conflict(line) or "is not a baseline file; create one with 'evalrun baseline accept'"
    else:
        problem = f"is a baseline of version {version!r}; this evalrun reads version {VERSION}"
    raise SuiteError([Problem(f"{path}:1", "", problem)])


def _is_mapping_of_mappings(data: Any) -> bool:
    return isinstance(data, Mapping) and all(isinstance(value, Mapping) for value in data.values())


def _merge_conflict(line: str) -> str | None:
    """The problem of a line that a merge left behind, or None for any other line."""
    return "is a merge conflict marker; restore the whole file from one side" if line.startswith(CONFLICT) else None


def _read_rows(path: Path, lines: Iterable[str], epochs: int) -> Iterator[tuple[tuple[str, str], BaselineRow]]:
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            row = _row_of(json.loads(line), epochs)
        except BROKEN:
            problem = (
                _merge_conflict(line) or "is not a baseline row; accept the run again, or restore the file from git"
            )
            raise SuiteError([Problem(f"{path}:{number}", "", problem)]) from None
        place = (row.target, row.key.id)
        if place in seen:
            problem = f"repeats sample {row.key.id!r}, perhaps after a merge; restore the whole file from one side"
            raise SuiteError([Problem(f"{path}:{number}", "", problem)])
        seen.add(place)
        yield place, row


def _row_of(data: Mapping[str, Any], epochs: int) -> BaselineRow:
    scores = {name: tuple(_finite(value) for value in values) for name, values in data["scores"].items()}
    states = dict.fromkeys(scores, ("scored",) * epochs)
    states.update({name: tuple(map(str, names)) for name, names in data.get("states", {}).items()})
    content = None
    if "outputs" in data:
        stored = {name: data[name] for name in ("input", "expected", "metadata", "outputs")}
        if "checks" in data:
            stored["checks"] = data["checks"]
        content = respell(stored, data.get("spelling"))
    key = SampleKey(data["id"], data["input_hash"], data["expected_hash"])
    if any(len(values) != epochs for values in scores.values()) or not isinstance(key.id, str):
        raise ValueError("not a row")
    slices = {str(column): str(text) for column, text in data["slices"].items()} if "slices" in data else None
    return BaselineRow(key, data["target"], scores, states, content, slices)


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not abs(number) <= MAX_SCORE:
        raise ValueError("not finite, or too large")
    return number


def metric_key(name: str, slice_: Mapping[str, str] | None) -> str:
    """A metric with its slice as one text: `exact_match/v1[topic=law]`."""
    return name + ("[" + ",".join(f"{column}={value}" for column, value in slice_.items()) + "]" if slice_ else "")
