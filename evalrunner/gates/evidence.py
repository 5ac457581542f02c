"""What a gate is decided on: one score per sample of its target and slice; and why samples have none, in words."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, get_args

from evalrunner.domain import FailureKind
from evalrunner.gates.metric_lookup import Gate
from evalrunner.stats.distributions import variance
from evalrunner.stats.summary import BUILTIN_MEASURES, Summary
from evalrunner.stats.tally import (
    ERROR,
    JUDGE,
    NO_ANSWER,
    SKIPPED,
    TOO_FEW_EPOCHS,
    ZEROED,
    Reason,
    ReducedScores,
    SampleScores,
    Tally,
    reduce_tally,
)

if TYPE_CHECKING:
    from evalrunner.baselines.file import SampleKey
    from evalrunner.runs.provenance import Provenance
    from evalrunner.stats.hypothesis_tests import SamplesToDecide

REPORTED_BY_PROVIDER: Final = ("cost_usd", "token_count", "ttft", "output_rate")  # missing values are no judge's fault


@dataclass(frozen=True, slots=True)
class CandidateRun:
    """The run that is compared with a baseline: its provenance, and its samples by their position in the dataset."""

    provenance: Provenance
    keys: Mapping[int, SampleKey]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The samples of a gate's slice. `clusters` is by the position of a sample; `reasons` cover the whole target.

    `calls` is the tally of the target's own calls, which separates their failures from those of scorers.
    """

    per_sample: SampleScores
    reduced: ReducedScores
    clusters: array[int] | None
    tally: Tally
    calls: Tally
    seed: int = 0

    @property
    def values(self) -> array[float]:
        """The scores of the samples that have one."""
        return self.reduced.values

    @property
    def missing(self) -> int:
        """Samples that the scorer applies to and that have no score."""
        return self.reduced.missing

    @property
    def total(self) -> int:
        """Samples that the scorer applies to."""
        return len(self.reduced.values) + self.missing

    @property
    def coverage(self) -> float:
        """Share of those samples that have a score."""
        return len(self.reduced.values) / self.total if self.total else 0.0

    @property
    def reasons(self) -> Mapping[Reason, int]:
        """Why cells have no score, with counts."""
        return self.tally.reasons

    def filled(self, end: float) -> tuple[array[float], array[int] | None]:
        """The scores of all samples that the scorer applies to, missing ones set to `end`, with their clusters."""
        values = self.reduced.values + array("d", [end]) * self.missing
        if self.clusters is None or self.reduced.clusters is None:
            return values, None
        return values, self.reduced.clusters + array(
            "q",
            (
                self.clusters[place]
                for place, code in zip(self.per_sample.samples, self.per_sample.codes, strict=True)
                if code > SKIPPED
            ),
        )

    def count(self, code: int) -> int:
        """Samples whose state has this code."""
        return Counter(self.per_sample.codes)[code]

    def errors(self) -> tuple[int, int]:
        """Samples in error because a call to the target failed, and those because the scorer failed."""
        failed = {place for place, code in zip(self.calls.samples, self.calls.codes, strict=True) if code == ERROR}
        states = zip(self.per_sample.samples, self.per_sample.codes, strict=True)
        counts = Counter(place in failed for place, code in states if code == ERROR)
        return counts[True], counts[False]

    def cluster_of(self, place: int) -> int:
        """The cluster of the sample at a position of the dataset."""
        return self.clusters[place] if self.clusters is not None else 0

    def by_position(self) -> Iterator[tuple[int, float | None]]:
        """Every sample of the slice with its score, or None; skipped ones among them."""
        scores = self.per_sample
        for place, value, code in zip(scores.samples, scores.values, scores.codes, strict=True):
            yield place, value if code <= ZEROED else None

    @property
    def more_epochs_help(self) -> bool:
        """Whether over half of the variance lies within samples: then more epochs help, else only more samples."""
        values = self.reduced.values
        if self.tally.epochs is None or len(values) < 2:
            return False
        inside = _variance_within(self.tally, set(self.reduced.samples))
        total = variance(values) * len(values) / (len(values) - 1)
        from evalrunner.stats.power import WITHIN_HALF

        return total > 0 and inside / total > WITHIN_HALF


def gather_evidence(gate: Gate, summary: Summary, target: str) -> Evidence:
    """The evidence of one gate on one target."""
    tally = summary.tallies[target, gate.measure.name]
    per_sample = reduce_tally(_negated(tally) if _counts_low_scores(gate) else tally, gate.reducer)
    if gate.spec.slice is not None:
        ((column, text),) = gate.spec.slice.items()
        groups = summary.slices[column]
        code = groups.code_of(text)
        parts = per_sample.split(groups.codes) if code is not None else {}
        per_sample = parts.get(code if code is not None else -1) or SampleScores.empty()
    clusters = summary.clusters.codes if summary.clusters is not None else None
    calls = summary.tallies[target, BUILTIN_MEASURES[0].name]  # every target has a latency, or a reason why not
    return Evidence(per_sample, per_sample.partition_states(clusters), clusters, tally, calls, summary.design.seed)


def value_of(gate: Gate, evidence: Evidence) -> float | None:
    """The metric over the samples that have a score."""
    return gate.estimand.value(evidence.values)


def reduce_scores(gate: Gate, scores: Sequence[float]) -> float | None:
    """The score of a sample from its scored epochs; None where there are too few."""
    return gate.reducer.reduce(scores) if scores else None


def _counts_low_scores(gate: Gate) -> bool:
    """Whether epochs pass by scoring at most the bound: that is counting high scores, negated."""
    return gate.spec.per_sample is not None and gate.spec.per_sample.operator == "<="


def _negated(tally: Tally) -> Tally:
    return replace(tally, values=array("d", (-value for value in tally.values)))


def _variance_within(tally: Tally, samples: set[int]) -> float:
    """The mean over samples of the variance of their mean over epochs, of samples with several scored ones."""
    scores: dict[int, list[float]] = {}
    for sample, value, code in zip(tally.samples, tally.values, tally.codes, strict=True):
        if code <= ZEROED and sample in samples:
            scores.setdefault(sample, []).append(value)
    spread = [variance(epochs) / (len(epochs) - 1) for epochs in scores.values() if len(epochs) > 1]
    return math.fsum(spread) / len(spread) if spread else 0.0


def why_unscored(evidence: Evidence, scorer: str) -> str:
    """Why samples have no score. A failed provider, an unreadable judge and a silent model are different things."""
    reasons = _error_reasons(evidence)
    if unreadable := evidence.count(JUDGE):
        reasons.append(_judge_reason(unreadable, evidence.reasons, scorer))
    if unanswered := evidence.count(NO_ANSWER):
        kinds = [reason or "" for cause, reason in evidence.reasons if cause == "no_answer"]
        reasons.append(f"the model did not answer {unanswered}{_in_brackets(kinds)}")
    if too_few_epochs := evidence.count(TOO_FEW_EPOCHS):
        reasons.append(f"too few scored epochs for {too_few_epochs}")
    return "; ".join(reasons)


def _error_reasons(evidence: Evidence) -> list[str]:
    """Which failed: the target's provider, the judge's, or code that the suite names."""
    of_target, of_scorer = evidence.errors()
    calls, reasons = evidence.calls.reasons, list[str]()
    if of_target:
        kinds = _failure_kinds(calls)
        who = "the target's function" if kinds == ["function"] else "the provider"
        reasons.append(f"{who} failed on {of_target}{_in_brackets(kinds)}")
    if of_scorer:
        kinds = _failure_kinds(one for one, count in evidence.reasons.items() if count > calls.get(one, 0))
        who = "the scorer" if kinds == ["function"] else "the judge's provider"
        reasons.append(f"{who} failed on {of_scorer}{_in_brackets(kinds)}")
    return reasons


def _failure_kinds(reasons: Iterable[Reason]) -> list[str]:
    return [str(cause) for cause, _ in reasons if cause in get_args(FailureKind)]


def _judge_reason(count: int, reasons: Iterable[Reason], scorer: str) -> str:
    checks = [reason for cause, reason in reasons if cause == "judge_check"]
    if checks:
        return f"the judge failed its sanity check ({checks[0]})"
    if scorer in REPORTED_BY_PROVIDER:
        return f"the provider did not report it for {count}"
    return f"the judge's reply was unreadable on {count}"


def _in_brackets(kinds: Sequence[str]) -> str:
    return f" ({', '.join(kinds)})" if kinds else ""


def percent(confidence: float) -> str:
    """`95%`"""
    return f"{100 * confidence:.4g}%"


def amount(gate: Gate, value: float, *, unit: bool = True) -> str:
    """A difference of a metric: `8.1 points` for a metric in 0..1, else with the metric's unit. Bare without `unit`."""
    if gate.estimand.bounds == (0.0, 1.0):
        points = 100 * value
        text, noun = f"{points:.1f}" if abs(points) >= 0.05 or not points else f"{points:.1g}", "points"
    else:
        text, noun = f"{value:.4g}", gate.measure.declaration.unit or ""
    return f"{text} {noun}" if unit and noun else text


def samples_needed(rows: SamplesToDecide | None) -> str:
    """` About 1,900 samples are needed to decide.`, rounded to two digits; empty where that is unknown."""
    if rows is None:
        return ""
    if rows.strong is None:
        return " No practical number of samples would decide."
    digits = 10 ** max(0, len(str(rows.strong)) - 2)
    return f" About {math.ceil(rows.strong / digits) * digits:,} samples are needed to decide."


def samples_needed_in_detail(rows: SamplesToDecide | None, *, more_epochs_help: bool) -> list[str]:
    """The same for 50% and 80% power, and whether more epochs would do as well."""
    if rows is None or rows.even is None or rows.strong is None:
        return []
    counts = f"{rows.even:,} samples decide with 50% power, " if rows.even != rows.strong else ""
    counts += f"{rows.strong:,} {'' if counts else 'samples decide '}with 80%{'' if counts else ' power'}"
    return [counts, *(["more epochs would help as well"] if more_epochs_help else [])]
