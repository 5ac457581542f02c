"""What a gate is decided on: one score per sample of its target and slice; and what is missing, in words."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, get_args

from evalrunner.domain import BaselineResult, FailureKind
from evalrunner.formatting import counted, significant
from evalrunner.gates.metric_lookup import Gate
from evalrunner.scorers.call import NO_EXPECTED
from evalrunner.stats.distributions import variance
from evalrunner.stats.number_column import NumberColumn
from evalrunner.stats.summary import BUILTIN_MEASURES, Summary
from evalrunner.stats.tally import (
    ERROR,
    JUDGE,
    NO_ANSWER,
    SKIPPED,
    ZEROED,
    FillRange,
    Reason,
    ReducedScores,
    SampleScores,
    Tally,
    reduce_tally,
)

if TYPE_CHECKING:
    from evalrunner.stats.hypothesis_tests import SamplesToDecide

REPORTED_BY_PROVIDER: Final = ("cost_usd", "token_count", "ttft", "output_rate")  # missing values are no judge's fault


@dataclass(frozen=True, slots=True)
class Evidence:
    """The samples of a gate's slice. `clusters` is by the position of a sample; `reasons` cover the whole target.

    `calls` is the tally of the target's own calls, which separates their failures from those of scorers. `fill` is what
    a missing score could be, `ends` the worst and best score of a sample that never ran. `not_run` counts samples of
    the slice without a row, `elsewhere` those of which nothing is known, not even the slice.
    """

    per_sample: SampleScores
    reduced: ReducedScores
    clusters: array[int] | None
    tally: Tally
    calls: Tally
    fill: FillRange
    ends: tuple[float, float]
    epochs: int = 1
    not_run: int = 0
    elsewhere: int = 0

    @property
    def values(self) -> array[float]:
        """The scores of the samples that have one."""
        return self.reduced.values

    @property
    def scored(self) -> int:
        """Answers with a score."""
        return sum(self.per_sample.scored)

    @property
    def total(self) -> int:
        """Answers that the scorer applies to: sample × epoch, scored or not."""
        return sum(self.per_sample.applicable) + (self.not_run + self.elsewhere) * self.epochs

    @property
    def missing(self) -> int:
        """Answers that the scorer applies to and that have no score."""
        return self.total - self.scored

    @property
    def coverage(self) -> float:
        """Share of those answers that have a score."""
        return self.scored / self.total if self.total else 0.0

    @property
    def reasons(self) -> Mapping[Reason, int]:
        """Why cells have no score, with counts."""
        return self.tally.reasons

    def count_answers(self) -> tuple[Counter[int], int]:
        """How many answers of the slice have each code; and how many errors are failed calls to the target."""
        inside = set(self.per_sample.samples)
        failed = {key for key, code in _cells(self.calls) if code == ERROR}
        codes: Counter[int] = Counter()
        of_target = 0
        for key, code in _cells(self.tally):
            if key[0] in inside:
                codes[code] += 1
                of_target += code == ERROR and key in failed
        return codes, of_target

    def cluster_of(self, place: int) -> int:
        """The cluster of the sample at a position of the dataset."""
        return self.clusters[place] if self.clusters is not None else 0

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


def _cells(tally: Tally) -> Iterator[tuple[tuple[int, int], int]]:
    """Each cell's position of the sample and epoch, and its code."""
    epochs: Iterable[int] = tally.epochs if tally.epochs is not None else [1] * len(tally.samples)
    return zip(zip(tally.samples, epochs, strict=True), tally.codes, strict=True)


def gather_evidence(gate: Gate, summary: Summary, target: str) -> Evidence:
    """The evidence of one gate on one target."""
    tally = summary.tallies[target, gate.measure.name]
    fill = summary.fill_range(gate.measure, gate.reducer)
    scores = gather_scores(gate, tally, fill, summary.epochs)
    rows = len(scores.samples)
    elsewhere = max(0, summary.samples_in() - rows)
    if gate.spec.slice is None:
        not_run, elsewhere = elsewhere, 0
    else:
        ((column, text),) = gate.spec.slice.items()
        groups = summary.slices[column]
        code = groups.code_of(text)
        parts = scores.split(groups.codes) if code is not None else {}
        scores = parts.get(code if code is not None else -1) or SampleScores.empty()
        not_run = summary.samples_in(gate.spec.slice) - len(scores.samples)
        elsewhere = max(0, summary.samples_in() - sum(1 for known in groups.codes if known >= 0))
    clusters = summary.clusters.codes if summary.clusters is not None else None
    calls = summary.tallies[target, BUILTIN_MEASURES[0].name]  # every target has a latency, or a reason why not
    ends = (0.0, 1.0) if gate.reducer.counts else (fill.worst, fill.best)
    return Evidence(
        scores, scores.partition_states(clusters), clusters, tally, calls, fill, ends, summary.epochs, not_run, elsewhere,
    )  # fmt: skip


def gather_scores(gate: Gate, tally: Tally, fill: FillRange, epochs: int) -> SampleScores:
    """The scores of a gate's metric by sample; `fill` is what a missing score could be, `epochs` are those of the run."""
    return reduce_tally(_negated(tally) if _counts_low_scores(gate) else tally, gate.reducer, fill, epochs=epochs)


def positions_in_slice(gate: Gate, summary: Summary) -> set[int] | None:
    """The positions of the samples in the gate's slice; None for all of them."""
    if gate.spec.slice is None:
        return None
    ((column, text),) = gate.spec.slice.items()
    code = summary.slices[column].code_of(text)
    return {place for place, known in enumerate(summary.slices[column].codes) if known == code}


def value_of(gate: Gate, evidence: Evidence) -> float | None:
    """The metric over the samples that have a score."""
    return gate.estimand.value(evidence.values)


def _counts_low_scores(gate: Gate) -> bool:
    """Whether epochs pass by scoring at most the bound: that is counting high scores, negated."""
    return gate.spec.per_sample is not None and gate.spec.per_sample.operator == "<="


def _negated(tally: Tally) -> Tally:
    return replace(tally, values=NumberColumn(-value for value in tally.values))


def _variance_within(tally: Tally, samples: set[int]) -> float:
    """The mean over samples of the variance of their mean over epochs, of samples with several scored ones."""
    scores: dict[int, list[float]] = {}
    for sample, value, code in zip(tally.samples, tally.values, tally.codes, strict=True):
        if code <= ZEROED and sample in samples:
            scores.setdefault(sample, []).append(value)
    spread = [variance(epochs) / (len(epochs) - 1) for epochs in scores.values() if len(epochs) > 1]
    return math.fsum(spread) / len(spread) if spread else 0.0


def why_unscored(evidence: Evidence, scorer: str) -> str:
    """Why answers have no score. A failed provider, an unreadable judge and a silent model are different things."""
    codes, of_target = evidence.count_answers()
    reasons = _error_reasons(evidence, of_target, codes[ERROR] - of_target)
    if unreadable := codes[JUDGE]:
        reasons.append(_judge_reason(unreadable, evidence.reasons, scorer))
    if unanswered := codes[NO_ANSWER]:
        kinds = [reason or "" for cause, reason in evidence.reasons if cause == "no_answer"]
        reasons.append(f"the model did not answer {unanswered:,}{_in_brackets(kinds)}")
    if not_run := evidence.total - sum(count for code, count in codes.items() if code != SKIPPED):
        kinds = _failure_kinds(evidence.calls.reasons)
        because = (
            f" because the provider failed{_in_brackets(kinds)}" if kinds and evidence.not_run and not of_target else ""
        )
        reasons.append(f"{not_run:,} did not run{because}")
    return "; ".join(reasons)


def _error_reasons(evidence: Evidence, of_target: int, of_scorer: int) -> list[str]:
    """Which failed: the target's provider, the judge's, or code that the suite names."""
    calls, reasons = evidence.calls.reasons, list[str]()
    if of_target:
        kinds = _failure_kinds(calls)
        who = "the target's function" if kinds == ["function"] else "the provider"
        reasons.append(f"{who} failed on {of_target:,}{_in_brackets(kinds)}")
    if of_scorer:
        kinds = _failure_kinds(one for one, count in evidence.reasons.items() if count > calls.get(one, 0))
        who = "the scorer" if kinds == ["function"] else "the judge's provider"
        reasons.append(f"{who} failed on {of_scorer:,}{_in_brackets(kinds)}")
    return reasons


def _failure_kinds(reasons: Iterable[Reason]) -> list[str]:
    return [str(cause) for cause, _ in reasons if cause in get_args(FailureKind)]


def _judge_reason(count: int, reasons: Iterable[Reason], scorer: str) -> str:
    checks = [reason for cause, reason in reasons if cause == "judge_check"]
    if checks:
        return f"the judge failed its sanity check ({checks[0]})"
    if scorer in REPORTED_BY_PROVIDER:
        return f"the provider did not report it for {count:,}"
    return f"the judge's reply was unreadable on {count:,}"


def _in_brackets(kinds: Sequence[str]) -> str:
    return f" ({', '.join(kinds)})" if kinds else ""


def skipped_note(evidence: Evidence, scorer: str) -> str | None:
    """`based on 1 of 3 samples; 2 have no expected answer`, `exact_match skipped 50 of 100 answers`; None without skipped ones."""
    if not evidence.reduced.skipped:
        return None
    skipped = evidence.count_answers()[0][SKIPPED]
    every, noun = evidence.total + skipped, "samples" if evidence.epochs == 1 else "answers"
    if set(evidence.tally.skip_reasons) == {NO_EXPECTED.reason}:
        verb = "has" if skipped == 1 else "have"
        return f"based on {evidence.total:,} of {every:,} {noun}; {skipped:,} {verb} no expected answer"
    return f"{scorer} skipped {skipped:,} of {every:,} answers"


def missing_note(evidence: Evidence, scorer: str) -> str:
    """`scored 182 of 300 answers: the provider failed on 118 (server)`."""
    return f"scored {evidence.scored:,} of {evidence.total:,} answers: {why_unscored(evidence, scorer)}"


def percent(confidence: float) -> str:
    """`95%`"""
    return f"{100 * confidence:.4g}%"


def amount(gate: Gate, value: float, *, unit: bool = True) -> str:
    """A difference of a metric: `8.1 points` for a metric in 0..1, else with the metric's unit. Bare without `unit`."""
    if gate.estimand.bounds == (0.0, 1.0):
        points = 100 * value
        text, noun = f"{points:.1f}" if abs(points) >= 0.05 or not points else f"{points:.1g}", "points"
    else:
        (text,), noun = significant(value), gate.measure.declaration.unit or ""
    return f"{text} {noun}" if unit and noun else text


def changed_samples(result: BaselineResult) -> str | None:
    """`31 samples got worse, 7 got better`; None if no sample changed."""
    if not result.worse and not result.better:
        return None
    return f"{counted(result.worse or 0, 'sample')} got worse, {result.better or 0:,} got better"


def samples_needed(rows: SamplesToDecide | None, assumption: str = "") -> str:
    """` About 1,900 samples are needed to decide, if 12% of them change.`, rounded to two digits; empty where unknown."""
    if rows is None:
        return ""
    if rows.strong is None:
        return " No practical number of samples would decide."
    digits = 10 ** max(0, len(str(rows.strong)) - 2)
    return f" About {math.ceil(rows.strong / digits) * digits:,} samples are needed to decide{assumption}."


def samples_needed_in_detail(rows: SamplesToDecide | None, *, more_epochs_help: bool) -> list[str]:
    """The same for 50% and 80% power, and whether more epochs would do as well."""
    if rows is None or rows.even is None or rows.strong is None:
        return []
    counts = f"{rows.even:,} samples decide with 50% power, " if rows.even != rows.strong else ""
    counts += f"{rows.strong:,} {'' if counts else 'samples decide '}with 80%{'' if counts else ' power'}"
    return [counts, *(["more epochs would help as well"] if more_epochs_help else [])]
