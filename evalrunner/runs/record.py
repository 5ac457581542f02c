"""`run.json` and `metrics.json` as typed records: the one place that reads and writes them.

Both files carry `schema_version`. Reading and writing go by the fields of the same dataclasses, so they cannot drift.
Keys that a record does not know are ignored; a required key that is missing, or a value of another type, is an error.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, cast

from evalrunner.domain import EMPTY, Declaration, EpochVariance, GateResult, Metric
from evalrunner.errors import InvalidRunError
from evalrunner.formatting import check_summary, known_answers
from evalrunner.runs.folder import MAX_JSON_BYTES, METRICS_FILE, RUN_FILE
from evalrunner.runs.provenance import (
    JudgeProvenance,
    Provenance,
    ScorerProvenance,
    TargetProvenance,
)
from evalrunner.storage import read_file, write_json
from evalrunner.verdicts import Verdict

if TYPE_CHECKING:
    from evalrunner.compare.result import Comparison
    from evalrunner.middleware.usage import Usage
    from evalrunner.stats.summary import Design, Measure

SCHEMA_VERSION = 2
FIRST_KEYS = ("run_id", "suite", "suite_file", "status", "verdict", "exit_code", "stopped", "started_at", "finished_at", "duration_s", "rows", "rows_planned")  # fmt: skip
"""The keys of `run.json` that a person looks for, which come first."""

RunStatus: TypeAlias = Literal["running", "finished", "stopped", "interrupted"]
T = TypeVar("T")

SCALARS: Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """Totals of calls. `cost_usd` is None where no call has a known cost, `unpriced_calls` counts those without one."""

    calls: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    unpriced_calls: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """The record of a count."""
        priced = usage.calls - usage.failures - usage.unpriced
        return cls(
            calls=usage.calls,
            failures=usage.failures,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd if priced else None,
            unpriced_calls=usage.unpriced,
            reasoning_tokens=usage.reasoning_tokens,
        )

    @property
    def usage(self) -> Usage:
        """The count again."""
        from evalrunner.middleware.usage import Usage

        return Usage(
            self.calls, self.failures, self.input_tokens, self.output_tokens, self.cost_usd or 0.0, self.unpriced_calls
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRecord:
    """The right verdicts of a judge on its good, or its bad, known answers, and how many are needed to pass."""

    right: int
    total: int
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SanityCheckRecord:
    """How a judge did on its known answers; `failure` is set where a call failed and nothing is known.

    `coin` is the probability that a coin passes. `unread` counts replies without a verdict by cause, and `note` says why.
    `good` and `bad` are None in runs of before they were recorded.
    """

    right: int
    total: int
    good: SideRecord | None = None
    bad: SideRecord | None = None
    coin: float | None = None
    passed: bool
    failure: str | None = None
    wrong: tuple[str, ...] = ()
    unread: Mapping[str, int] = EMPTY
    note: str | None = None

    @property
    def summary(self) -> str:
        """`8 of 12 known answers: 6 of 6 good, 2 of 6 bad`, and why replies could not be read."""
        if self.good is None or self.bad is None:
            return f"{self.right} of {self.total} known answers"
        known = known_answers((self.good.right, self.good.total), (self.bad.right, self.bad.total))
        return check_summary(known, self.note)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRecord(TargetProvenance):
    """A target and the calls made for it."""

    usage: UsageRecord = UsageRecord()

    @classmethod
    def of(cls, target: TargetProvenance, usage: Usage) -> Self:
        """A target with the calls that were counted."""
        return cls(**field_values(target), usage=UsageRecord.of(usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRecord(JudgeProvenance):
    """A judge, its sanity check and the calls made to it."""

    sanity_check: SanityCheckRecord | None = None
    usage: UsageRecord = UsageRecord()

    @classmethod
    def of(cls, judge: JudgeProvenance, usage: Usage, sanity_check: SanityCheckRecord | None) -> Self:
        """A judge with its sanity check and the calls that were counted."""
        return cls(**field_values(judge), usage=UsageRecord.of(usage), sanity_check=sanity_check)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFrom:
    """The run or baseline whose stored answers were scored. `targets` gave the answers."""

    run_id: str
    path: str
    targets: Mapping[str, TargetProvenance]
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedRecord:
    """A run that ended because every gate was decided: after how many of its rows, and about how much that saved.

    `saved_usd` is None where the cost of a row is unknown. `units` are what the dataset has for each gate: without the
    samples that were not run they could not be counted again.
    """

    rows: int
    rows_planned: int
    saved_usd: float | None = None
    units: Mapping[str, UnitsRecord] = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsRecord:
    """The samples of a dataset or a slice; if they are clustered also the clusters, and the samples of the largest.

    `removed` counts the samples of a gate's baseline that the dataset does not have.
    """

    samples: int
    clusters: int | None = None
    largest_cluster: int | None = None
    removed: int = 0

    @property
    def count(self) -> int:
        """The number of units that a sequential test draws: samples or clusters."""
        return self.samples if self.clusters is None else self.clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRecord:
    """A verdict on the data of that time: how many samples and epochs it had."""

    samples: int
    epochs: int
    at: datetime

    def is_of(self, other: LookRecord) -> bool:
        """Whether both are looks at the same data."""
        return (self.samples, self.epochs) == (other.samples, other.epochs)


def add_look(looks: tuple[LookRecord, ...], now: LookRecord | None) -> tuple[LookRecord, ...]:
    """The looks with the one of now, if the data has grown since the last one."""
    return looks if now is None or (looks and looks[-1].is_of(now)) else (*looks, now)


def first_look(looks: tuple[LookRecord, ...], now: LookRecord | None) -> LookRecord | None:
    """The first look, if the data has grown since; None if the look of now is the first one."""
    return looks[0] if now is not None and looks and not looks[0].is_of(now) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(Provenance):
    """A stored run: what was run, with which options, when, and how it ended (`run.json`).

    It is written at the start of a run with status `running` and again at its end; `finished_at`, `duration_s`, `rows`,
    `rows_in_error`, `verdict` and `exit_code` are None before. `decided` is set where it ended early because every gate
    was decided, `headline` is the scorer that leads tables, `looks` are the verdicts given so far on ever more data.
    `columns` are the columns of the dataset, `resolved` is the suite as it was understood, `options` are those given on
    the command line.
    """

    run_id: str
    suite_file: Path
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None = None
    duration_s: float | None = None
    rows: int | None = None
    rows_planned: int
    rows_in_error: int | None = None
    verdict: Verdict | None = None
    exit_code: int | None = None
    stopped: str | None = None
    decided: DecidedRecord | None = None
    looks: tuple[LookRecord, ...] = ()
    notices: tuple[str, ...] = ()
    streaming: bool = False
    reducers: tuple[str, ...] = ("mean",)
    cluster: str | None = None
    slices: tuple[str, ...] = ()
    headline: str | None = None
    columns: tuple[str, ...] = ()
    targets: Mapping[str, TargetRecord]
    judges: Mapping[str, JudgeRecord] = EMPTY
    dataset_from: Mapping[str, str] | None = None
    scored_from: ScoredFrom | None = None
    versions: Mapping[str, str] = EMPTY
    source: Mapping[str, str] = EMPTY
    options: Mapping[str, Any] = EMPTY
    resolved: Mapping[str, Any] = EMPTY

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The record of a run folder. Raises InvalidRunError where it is missing, broken or of another version."""
        return _load(cls, folder / RUN_FILE)

    def load_metrics(self, folder: Path, *, overall: bool = False) -> MetricsRecord | None:
        """The numbers of the run, None where it did not finish; `overall` as in `MetricsRecord`. Raises InvalidRunError."""
        return MetricsRecord.load(folder, overall=overall) if self.is_complete else None

    def write(self, folder: Path) -> None:
        """Write `run.json`, keys redacted. Raises RunError where the disk refuses."""
        write_json(folder / RUN_FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The record as `run.json` has it."""
        data = to_json(self)
        return {"schema_version": SCHEMA_VERSION, **{name: data[name] for name in FIRST_KEYS}, **data}

    @property
    def headline_scorer(self) -> str:
        """The scorer that leads tables; the first one in runs of before this was recorded."""
        if self.headline is not None and self.headline in self.scorers:
            return self.headline
        return next(iter(self.scorers))

    @property
    def is_complete(self) -> bool:
        """Whether the run ended and has metrics, whatever its verdict."""
        return self.status != "running"

    @property
    def failed_from(self) -> str | None:
        """The run whose failed samples are the only ones of this run; None for a run of the whole dataset.

        Such a run has no verdict and is no baseline: its samples were selected because they failed.
        """
        return self.options.get("failed_from")

    @property
    def part(self) -> str | None:
        """Why the run has a part of its samples only, on which gates say nothing; None for a whole run."""
        if self.failed_from is not None:
            return f"has only the samples that failed in run {self.failed_from}"
        if self.dataset.shard is not None:
            return f"has only shard {self.dataset.shard} of the samples; merge the shards: evalrun merge RUN…"
        return None

    @property
    def provenance(self) -> Provenance:
        """What the numbers are of: with stored answers, the targets are those that gave them."""
        return Provenance(
            suite=self.suite,
            dataset=self.dataset,
            targets=self.targets if self.scored_from is None else self.scored_from.targets,
            scorers=self.scorers,
            judges=self.judges,
            seed=self.seed,
            epochs=self.epochs,
        )

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The scorers and their parts with what they declared."""
        from evalrunner.stats.summary import Measure

        return tuple(Measure(name, _declaration(scorer), scorer.part_of) for name, scorer in self.scorers.items())

    @property
    def design(self) -> Design:
        """How the samples are grouped and reduced."""
        from evalrunner.stats.aggregates import parse_reducer
        from evalrunner.stats.summary import Design

        reducers = tuple(parse_reducer(name) for name in self.reducers)
        return Design(reducers=reducers, cluster=self.cluster, slices=self.slices, seed=self.seed)


def _declaration(scorer: ScorerProvenance) -> Declaration:
    return Declaration(
        low=scorer.range[0],
        high=scorer.range[1],
        higher_is_better=scorer.higher_is_better,
        unit=scorer.unit,
        version=scorer.version,
        binary=scorer.binary,
        infer_binary=scorer.infer_binary,
        needs_answer=scorer.needs_answer,
        needs_expected=scorer.needs_expected,
        aggregates=scorer.aggregates,
        headline=scorer.headline,
        threshold=scorer.threshold,
        backend=scorer.backend,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMetrics:
    """The metrics of one target, what its rows took, and with several epochs how scores vary between them."""

    metrics: tuple[Metric, ...]
    usage: UsageRecord = UsageRecord()
    epochs: tuple[EpochVariance, ...] = ()

    def headline(self, scorer: str, declared: ScorerProvenance) -> Metric | None:
        """The headline metric of a scorer over all samples; its first metric if it has none."""
        own = [metric for metric in self.metrics if metric.scorer == scorer and metric.slice is None]
        return next((metric for metric in own if metric.aggregate == declared.headline), own[0] if own else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsRecord:
    """The numbers of a run: metrics by target, gates, and the comparison of several targets (`metrics.json`)."""

    run_id: str
    suite: str
    verdict: Verdict
    exit_code: int
    targets: Mapping[str, TargetMetrics]
    gates: tuple[GateResult, ...] = ()
    decided: DecidedRecord | None = None
    comparison: Comparison | None = field(default=None)

    @classmethod
    def load(cls, folder: Path, *, overall: bool = False) -> Self:
        """The numbers of a run that ended. Raises InvalidRunError where they are missing, broken or of another version.

        With `overall`, only the metrics over all samples and the gates: without slices and the comparison, which are most
        of the file.
        """
        return _load(cls, folder / METRICS_FILE, _overall if overall else None)

    def write(self, folder: Path) -> None:
        """Write `metrics.json`. Raises RunError where the disk refuses."""
        write_json(folder / METRICS_FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The record as `metrics.json` has it; without `comparison` where there is one target."""
        data = to_json(self)
        if self.comparison is None:
            del data["comparison"]
        return {"schema_version": SCHEMA_VERSION, **data}


def field_values(record: Any) -> dict[str, Any]:
    """The fields of a record by name, with their values as they are."""
    return {item.name: getattr(record, item.name) for item in fields(record)}


def to_json(value: Any) -> Any:
    """A record as plain JSON data. Times are UTC with milliseconds: `2026-11-23T10:15:00.000Z`."""
    if is_dataclass(value):
        return {item.name: _part_to_json(getattr(value, item.name)) for item in fields(value)}
    return _part_to_json(value)


def _part_to_json(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return {item.name: _part_to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _part_to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_part_to_json(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def _overall(data: dict[str, Any]) -> dict[str, Any]:
    """The data of `metrics.json` without slices and the comparison."""
    try:
        targets = {
            name: {**target, "metrics": [metric for metric in target["metrics"] if metric.get("slice") is None]}
            for name, target in data["targets"].items()
        }
    except (AttributeError, KeyError, TypeError):
        return data  # its reader says what is wrong
    return {**data, "targets": targets, "comparison": None}


def _load(kind: type[T], path: Path, select: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> T:
    try:
        data = json.loads(read_file(path, max_bytes=MAX_JSON_BYTES).decode())
    except FileNotFoundError:
        raise InvalidRunError(f"{path}: not found; name the folder of a run that has it") from None
    except (OSError, ValueError, RecursionError) as broken:
        reason = getattr(broken, "strerror", None) or broken
        raise InvalidRunError(f"{path}: cannot be read ({reason}); restore the file or name another run") from None
    try:
        _check_version(data, path)
        return from_json(kind, data if select is None else select(data))
    except InvalidValueError as wrong:
        raise InvalidRunError(f"{path}: {wrong}; restore the file or name another run") from None


def _check_version(data: Any, path: Path) -> None:
    if not isinstance(data, Mapping):
        raise InvalidValueError(_expected("", "a mapping", data))
    if "schema_version" not in data:
        raise InvalidValueError("schema_version is missing")
    version = _scalar_from_json(int, data["schema_version"], "schema_version")
    if version > SCHEMA_VERSION:
        raise InvalidRunError(f"{path}: written by a newer version of evalrun (schema {version}); upgrade evalrun")
    if version < SCHEMA_VERSION:
        raise InvalidRunError(f"{path}: written by an older version of evalrun (schema {version}); run the suite again")


class InvalidValueError(ValueError):
    """A value that does not fit its field. The message says where it is and what was expected."""


def from_json(kind: type[T], data: Any, where: str = "") -> T:
    """The record in plain JSON data. Raises InvalidValueError for a missing key or a value of another type."""
    if not isinstance(data, Mapping):
        raise InvalidValueError(_expected(where, "a mapping", data))
    values: dict[str, Any] = {}
    for name, hint, required in _fields_of(cast("Any", kind)):
        path = f"{where}.{name}" if where else name
        if name in data:
            values[name] = _from_json(hint, data[name], path)
        elif required:
            raise InvalidValueError(f"{path} is missing")
    return kind(**values)


@cache
def _fields_of(kind: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type and whether it is required, of each field."""
    hints = typing.get_type_hints(kind, localns={"Comparison": _LazyComparison})
    return tuple(
        (item.name, hints[item.name], item.default is MISSING and item.default_factory is MISSING)
        for item in fields(kind)
    )


class _LazyComparison:
    """Stands for `Comparison` in the types of a record: imported only if a run has one."""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Comparison:
        from evalrunner.compare.result import Comparison

        return Comparison.from_json(data)


def _from_json(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return _from_json(hint, value, where)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise InvalidValueError(_expected(where, f"one of {', '.join(map(str, typing.get_args(hint)))}", value))
        return value
    if origin is tuple:
        return _tuple_from_json(typing.get_args(hint), value, where)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise InvalidValueError(_expected(where, "a mapping", value))
        item_hint = typing.get_args(hint)[1]
        return {name: _from_json(item_hint, item, f"{where}.{name}") for name, item in value.items()}
    if hasattr(hint, "from_json"):
        try:
            return hint.from_json(value)
        except (KeyError, TypeError, ValueError) as broken:
            raise InvalidValueError(f"{where} is broken: {broken!r}") from None
    if isinstance(hint, type) and is_dataclass(hint):
        return from_json(hint, value, where)
    return _scalar_from_json(hint, value, where)


def _tuple_from_json(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    repeated = len(hints) == 2 and hints[1] is Ellipsis
    if not isinstance(value, list) or not (repeated or len(value) == len(hints)):
        raise InvalidValueError(_expected(where, "a list" if repeated else f"a list of {len(hints)}", value))
    each = [hints[0]] * len(value) if repeated else hints
    return tuple(
        _from_json(hint, item, f"{where}[{place}]") for place, (hint, item) in enumerate(zip(each, value, strict=True))
    )


def _scalar_from_json(hint: Any, value: Any, where: str) -> Any:
    if hint is datetime or hint is Path:
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value) if hint is datetime else Path(value)
            except ValueError:
                pass
        raise InvalidValueError(_expected(where, "a time" if hint is datetime else "a path", value))
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise InvalidValueError(_expected(where, SCALARS[hint], value))
    return value


def _expected(where: str, kind: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{where or 'the file'} should be {kind}, not {text if len(text) <= 40 else text[:39] + '…'}"
