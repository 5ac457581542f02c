"""Baselines as files meant for git: a head line, then a line a row, sorted; the same run gives the same bytes.

The head says what the numbers depend on: the dataset's digest, the scorers and judges with their versions, and as the
system under test the prompt, params and served models of each target. `origin` remembers, for each scorer, the first
run of the ratchet and its values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalrunner.domain import Cell, Completion, Row, Sample
from evalrunner.errors import Problem, SuiteError
from evalrunner.redact import redact
from evalrunner.runs.provenance import Provenance, without_prompts
from evalrunner.runs.record import from_json, to_json
from evalrunner.stats.summary import ERROR, JUDGE, NO_ANSWER, SCORED, SKIPPED, ZEROED, cell_code
from evalrunner.storage import write_text

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
CODES = {name: code for code, name in STATES.items()}
BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what reading anything else raises
NOT_RUN = "not_run"  # an epoch that is not there, as in a run that stopped early
CONFLICT = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")  # what git leaves in a file that it could not merge


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What says that two samples are the same: the id, and hashes of input and expected."""

    id: str
    input: str
    expected: str


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """One sample of one target: the scores of its epochs by scorer, None where there is none, with their states."""

    key: SampleKey
    target: str
    scores: Mapping[str, tuple[float | None, ...]]
    states: Mapping[str, tuple[str, ...]]
    kept: Mapping[str, Any] | None = None  # input, expected, metadata and outputs, where they were asked for


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
    """A baseline, read: `label` is the name or path that messages have, `path` its file, None for a run's.

    Rows by target and sample id.
    """

    head: BaselineHead
    label: str
    rows: Mapping[tuple[str, str], BaselineRow]
    path: Path | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.head.provenance.targets)

    def target_for(self, name: str, others: Iterable[str]) -> str | None:
        """The target to compare `name` with: that of its name, or the only one where `others`, the run's, are one too."""
        if name in self.targets:
            return name
        return self.targets[0] if len(self.targets) == 1 and len(tuple(others)) == 1 else None


def baseline_path(suite_folder: Path, suite: str, name: str) -> Path:
    """Where the baseline of a suite is kept: beside the suite file."""
    return suite_folder / FOLDER / suite / f"{name}.jsonl"


def sample_key(sample: Sample) -> SampleKey:
    """The key of a sample, the same for a sample of a dataset and for one read back from a row log."""
    content = sample.input if sample.input is not None else sample.metadata
    return SampleKey(sample.id, _hash(content), _hash(list(sample.expected)))


def _hash(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(redact(text).encode(errors="backslashreplace")).hexdigest()[:16]


def collect_rows(rows: Iterable[Row], *, epochs: int, outputs: bool = False) -> dict[tuple[str, str], BaselineRow]:
    """The rows of a run as a baseline has them, by target and sample id."""
    cells: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        cells.setdefault((row.target, row.sample.id), {})[row.epoch] = row
    return {place: _baseline_row(found, epochs, outputs=outputs) for place, found in cells.items()}


def _baseline_row(found: Mapping[int, Row], epochs: int, *, outputs: bool) -> BaselineRow:
    first = found[min(found)]
    every = [found.get(epoch) for epoch in range(1, epochs + 1)]
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
        _kept(first.sample, every) if outputs else None,
    )


def _value(cell: Cell | None) -> float | None:
    return cell.value if cell is not None and cell.state == "scored" else None


def _kept(sample: Sample, rows: Iterable[Row | None]) -> dict[str, Any]:
    answers = [row.answer if row is not None else None for row in rows]
    return {
        "input": sample.input,
        "expected": list(sample.expected),
        "metadata": dict(sample.metadata),
        "outputs": [
            {"text": answer.text, "finish_reason": answer.finish_reason, **({"tool_calls": list(answer.tool_calls)} if answer.tool_calls else {})}
            if isinstance(answer, Completion)
            else None
            for answer in answers
        ],
    }  # fmt: skip


def write_baseline(path: Path, head: BaselineHead, rows: Iterable[BaselineRow]) -> None:
    """Write a baseline, sorted by target and id. Raises RunError where the disk refuses."""
    ordered = sorted(rows, key=lambda row: (row.target, row.key.id))
    write_text(path, "\n".join([_line(_head_data(head)), *(_line(_row_data(row)) for row in ordered)]) + "\n")


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)


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
    return {**data, **(row.kept or {})}


def _short(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() and abs(value) < 2**53 else value


def read_baseline(path: Path, *, label: str) -> Baseline:
    """The baseline in a file. Raises SuiteError where it is none or broken, and FileNotFoundError where there is none."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = _read_head(path, file.readline())
            rows = dict(_read_rows(path, file, head.epochs))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as refused:
        raise SuiteError([Problem(str(path), "", f"cannot be read: {getattr(refused, 'strerror', refused)}")]) from None
    return Baseline(head, label, rows, path)


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
        said = _of_conflict(line) or "is no baseline; 'evalrun baseline accept' writes one"
    else:
        said = f"is a baseline of version {version!r}; this evalrun reads version {VERSION}"
    raise SuiteError([Problem(f"{path}:1", "", said)])


def _is_mapping_of_mappings(data: Any) -> bool:
    return isinstance(data, Mapping) and all(isinstance(value, Mapping) for value in data.values())


def _of_conflict(line: str) -> str | None:
    """What to say of a line that a merge left behind, or None for another one."""
    return "is left of a merge; take the file whole from one side" if line.startswith(CONFLICT) else None


def _read_rows(path: Path, lines: Iterable[str], epochs: int) -> Iterator[tuple[tuple[str, str], BaselineRow]]:
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            row = _row_of(json.loads(line), epochs)
        except BROKEN:
            said = (
                _of_conflict(line) or "is no row of a baseline; accept the run again, or take the file from git again"
            )
            raise SuiteError([Problem(f"{path}:{number}", "", said)]) from None
        place = (row.target, row.key.id)
        if place in seen:
            said = f"has the sample {row.key.id!r} a second time, as a merge may leave it; take the file whole from one side"
            raise SuiteError([Problem(f"{path}:{number}", "", said)])
        seen.add(place)
        yield place, row


def _row_of(data: Mapping[str, Any], epochs: int) -> BaselineRow:
    scores = {name: tuple(_finite(value) for value in values) for name, values in data["scores"].items()}
    states = dict.fromkeys(scores, ("scored",) * epochs)
    states.update({name: tuple(map(str, found)) for name, found in data.get("states", {}).items()})
    kept = {name: data[name] for name in ("input", "expected", "metadata", "outputs")} if "outputs" in data else None
    key = SampleKey(data["id"], data["input_hash"], data["expected_hash"])
    if any(len(values) != epochs for values in scores.values()) or not isinstance(key.id, str):
        raise ValueError("not what a row has")
    return BaselineRow(key, data["target"], scores, states, kept)


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def metric_key(name: str, slice_: Mapping[str, str] | None) -> str:
    """A metric with its slice as one text: `exact_match/v1[topic=law]`."""
    return name + ("[" + ",".join(f"{column}={value}" for column, value in slice_.items()) + "]" if slice_ else "")
