"""What a suite comes to once its names are callables: all that a run needs, and nothing has been called yet."""

from __future__ import annotations

import hashlib
from asyncio import Semaphore
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.baselines.file import Baseline, SampleKey
from evalrunner.baselines.run_ref import RunRef
from evalrunner.datasets.identity import digest_line
from evalrunner.datasets.source import SampleSource, Scan
from evalrunner.domain import Row, Sample, Target, row_name
from evalrunner.endpoints.pricing import KnownPrice
from evalrunner.engine.costs import PlannedModel
from evalrunner.engine.judge import JudgeSession
from evalrunner.errors import SuiteError
from evalrunner.gates.metric_lookup import Gate
from evalrunner.middleware.budget import Side
from evalrunner.middleware.circuit_breaker import CircuitBreaker
from evalrunner.middleware.stack import CallTally, MiddlewareStack
from evalrunner.prompts import Prompt
from evalrunner.runs.provenance import Provenance
from evalrunner.scorers.call import BoundScorer
from evalrunner.stats.measures import Measure
from evalrunner.stats.summary import Design
from evalrunner.suite.schema import ScorerSpec, Suite
from evalrunner.suite.yaml import Document
from evalrunner.targets.recorded import RecordedRun


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target with what it was made of, for the record. `host` is where it sends to, None for nowhere.

    `turns` bounds how many calls of people's own code are under way.
    """

    name: str
    call: Target
    kind: str
    model: str | None = None
    host: str | None = None
    prompt: Prompt | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    calls: CallTally = field(default_factory=CallTally)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    turns: Semaphore | None = None


@dataclass(frozen=True, slots=True)
class PlannedScorer:
    """A scorer with what the suite said of it and the session of the judge it asks, if it asks one."""

    bound: BoundScorer
    spec: ScorerSpec
    judge: JudgeSession | None = None

    @property
    def measure(self) -> Measure:
        return Measure(self.bound.name, self.bound.scorer.declaration)


@dataclass(frozen=True, slots=True)
class Job:
    """One row to make. `stored` is the row of an earlier try whose answer is kept: only `scorers` are called again."""

    sample: Sample
    target: PlannedTarget
    epoch: int
    attempt: int = 1
    stored: Row | None = None
    scorers: frozenset[str] | None = None

    @property
    def row(self) -> str:
        """What the row is called where it asks somebody."""
        return row_name(self.sample.id, self.target.name, self.epoch)


class StoredSamples:
    """The samples of stored rows, in their order, as a dataset: nothing of the suite's own dataset is read."""

    spooled: Path | None = None
    origin: Mapping[str, str] | None = None

    def __init__(self, samples: Iterable[Sample], digest: str | None) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.index)
        self.digest = digest

    def scan(self, check: Callable[[Sample], Sequence[str]]) -> Scan:
        """What the samples have; `check` says what is wrong with one. Raises SuiteError with the first that is."""
        columns: dict[str, None] = {}
        found = hashlib.sha256()
        for sample in self.samples:
            columns.update(dict.fromkeys(str(name) for name in sample.metadata))
            found.update(digest_line(sample) + b"\n")
            if wrong := check(sample):
                raise SuiteError(f"sample {sample.id!r}: {wrong[0]}")
        answered = sum(1 for sample in self.samples if sample.expected)
        return Scan(len(self.samples), tuple(columns), self.digest or found.hexdigest(), (), answered)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """Answers of a run or a baseline, to score again. `provenance` is that of the run that gave them, `label` its path.

    `judged` is that run, None where the answers are a baseline's.
    """

    label: str
    run_id: str
    suite_file: Path | None
    epochs: int
    samples: StoredSamples
    answers: Mapping[str, RecordedRun]
    provenance: Provenance
    judged: RunRef | None = None

    def apply(self, document: Document) -> None:
        """Put the stored targets and epochs into a suite, in place of those it has."""
        data = document.data
        if not isinstance(data, dict):
            return
        data.pop("target", None)
        data["targets"] = [{"type": "recorded", "name": name, "run": self.label} for name in self.answers]
        if not isinstance(data.get("run"), dict):
            data["run"] = {}
        data["run"]["epochs"] = self.epochs
        for path in (("targets",), ("run", "epochs")):
            document.overridden[path] = self.label


@dataclass(frozen=True, slots=True)
class Plan:
    """A suite, assembled and scanned. `rows` is how many rows the run will have, `calls` what its endpoints share.

    `earlier` is how many of the rows are there from before, where the run goes on. `models` are those it asks, and `prices` is filled in with what they cost before the first call.
    `baselines` are those that its gates name and that are there; `keys` tell the samples by their place, where there
    are such. `stored` is what the answers come from where no target is asked.
    """

    suite: Suite
    dataset: SampleSource | StoredSamples
    scan: Scan
    targets: tuple[PlannedTarget, ...]
    scorers: tuple[PlannedScorer, ...]
    gates: tuple[Gate, ...]
    calls: MiddlewareStack
    models: tuple[PlannedModel, ...] = ()
    earlier: int = 0
    prices: Mapping[tuple[Side, str], KnownPrice] = field(default_factory=dict)
    design: Design = Design()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    keys: Mapping[int, SampleKey] = field(default_factory=dict)
    stored: StoredAnswers | None = None

    @property
    def rows(self) -> int:
        return self.scan.count * len(self.targets) * self.suite.run.epochs

    @property
    def measures(self) -> tuple[Measure, ...]:
        return tuple(scorer.measure for scorer in self.scorers)

    def jobs(self) -> Iterator[Job]:
        """Every call to make, lazily, the targets interleaved so that a slow hour hits them all alike."""
        for sample in self.dataset:
            for epoch in range(1, self.suite.run.epochs + 1):
                for target in self.targets:
                    yield Job(sample, target, epoch)
