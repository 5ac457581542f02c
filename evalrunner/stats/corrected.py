"""Metrics that people's labels make of a judge's scores: the corrected mean, and how well the judge agrees. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from evalrunner.domain import Declaration, Metric, Row
from evalrunner.stats.intervals import LEVEL, mean_error
from evalrunner.stats.judge_agreement import JudgedPairs, Rate
from evalrunner.stats.prediction_powered import MIN_LABELS, JudgedRows, powered_mean
from evalrunner.stats.rogan_gladen import JudgeRates, corrected_share
from evalrunner.stats.tally import ZEROED, Tally

CORRECTED: Final = "corrected"
AGREEMENT_STATISTICS: Final = ("agreement", "sensitivity", "specificity", "kappa")
JUDGE_STATISTICS: Final = (CORRECTED, *AGREEMENT_STATISTICS)
"""Metrics `SCORER.NAME` of a scorer with labels."""

MIDDLE: Final = 0.5  # the score from which a graded answer counts as good, unless the scorer declares another


@dataclass(frozen=True, slots=True)
class RowLabel:
    """A person's label of a row, and the probability with which the row was drawn for it; None: as likely as others."""

    value: float
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """A label of another answer, and the score that the judge gave it."""

    label: float
    verdict: float


class LabelSource(Protocol):
    """Labels matched to rows. `see` gets each row once."""

    def see(self, row: Row, /) -> None: ...

    def labels_of(self, target: str, scorer: str, /) -> Mapping[tuple[int, int], RowLabel] | None: ...

    def recorded(self, scorer: str, /) -> Sequence[RecordedVerdict]: ...


@dataclass(frozen=True, slots=True)
class JudgedTarget:
    """The scored rows of one target with their labels, in the scorer's range, and labels of other answers.

    `positions` are those of the rows in the dataset. Clusters are those of the suite, or samples with several epochs.
    """

    rows: JudgedRows
    positions: tuple[int, ...]
    recorded: tuple[RecordedVerdict, ...]
    low: float
    high: float
    threshold: float
    lower_is_better: bool = False

    def in_group(self, groups: array[int], code: int | None) -> JudgedTarget:
        """The rows of one slice; `groups` holds the group of each position in the dataset."""
        return self.take([place for place, position in enumerate(self.positions) if groups[position] == code])

    def take(self, places: Sequence[int]) -> JudgedTarget:
        """The rows at these places, with the same labels of other answers."""
        rows = self.rows.take(places)
        kept = tuple(self.positions[place] for place in places)
        return JudgedTarget(rows, kept, self.recorded, self.low, self.high, self.threshold, self.lower_is_better)

    def pairs(self) -> JudgedPairs:
        """Labels and verdicts as good (1) and bad (0): the labeled rows, and the recorded ones if there are too few."""
        places, rows = self.rows.labeled, self.rows
        labels = [self._good(rows.labels[place] or 0.0) for place in places]
        verdicts = [self._good(rows.verdicts[place]) for place in places]
        drawn = rows.probabilities
        weights = None if drawn is None else [1 / (drawn[place] or 1.0) for place in places]
        clusters = None if rows.clusters is None else [rows.clusters[place] for place in places]
        if len(places) < MIN_LABELS and self.recorded:
            first = -1 if clusters is None else max([*clusters, -1])
            labels += [self._good(self._share(one.label)) for one in self.recorded]
            verdicts += [self._good(self._share(one.verdict)) for one in self.recorded]
            weights = None
            clusters = None if clusters is None else [*clusters, *range(first + 1, first + 1 + len(self.recorded))]
        return JudgedPairs(labels, verdicts, weights, clusters)

    def corrected(self, *, level: float = LEVEL) -> Corrected:
        """The mean that people would have given: PPI++ from 20 labels of these rows on, else Rogan–Gladen.

        Rogan–Gladen needs 0/1 scores and labels of other answers, graded by the same judge.
        """
        result = powered_mean(self.rows, level=level)
        if result.method is not None:
            detail: dict[str, Any] = {"labels": result.labels, "power": round(result.power, 4)}
            if result.note:
                detail["interval"] = result.note
            value, low, high = map(self._value, (result.value, result.low, result.high))
            return Corrected(
                value, low, high, result.method, result.labels, len(self.rows.verdicts), result.n_effective, detail
            )
        pairs = self.pairs()
        labels, note = len(self.rows.labeled), result.note
        if {*self.rows.verdicts} <= {0.0, 1.0} and self.recorded:
            counts = pairs.counts()
            rates = JudgeRates(
                counts.true_good, counts.true_good + counts.false_bad,
                counts.true_bad, counts.true_bad + counts.false_good,
            )  # fmt: skip
            return self._by_rates(rates, len(pairs.labels), level)
        return Corrected(
            None, None, None, None, labels, len(self.rows.verdicts), None, {"interval": note, "labels": labels}
        )

    def _by_rates(self, rates: JudgeRates, labels: int, level: float) -> Corrected:
        n = self.effective_rows()
        share = math.fsum(map(self._good, self.rows.verdicts)) / max(1, len(self.rows.verdicts))
        result = corrected_share(share, n, rates, level=level)
        detail: dict[str, Any] = {"labels": labels, "interval": result.note} if result.note else {"labels": labels}
        value, low, high = result.value, result.low, result.high
        if self.lower_is_better:
            value, low, high = (None if end is None else 1 - end for end in (value, high, low))
        value, low, high = map(self._value, (value, low, high))
        return Corrected(value, low, high, result.method, labels, len(self.rows.verdicts), None, detail)

    def effective_rows(self) -> float:
        """The number of unrelated rows: clusters of equal verdicts at worst."""
        clusters = self.rows.clusters
        if clusters is None or len(set(clusters)) < 2:
            return float(len(self.rows.verdicts))
        spread = mean_error(list(self.rows.verdicts), list(clusters))
        if not spread.varies:
            return spread.effective
        share = math.fsum(self.rows.verdicts) / len(self.rows.verdicts)
        return min(float(len(self.rows.verdicts)), share * (1 - share) / spread.cautious_error**2)

    def _good(self, share: float) -> int:
        threshold = self._share(self.threshold)
        return int(share <= threshold if self.lower_is_better and 0 < threshold < 1 else share >= threshold)

    def _share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def _value(self, share: float | None) -> float | None:
        return None if share is None else self.low + (self.high - self.low) * share


@dataclass(frozen=True, slots=True)
class Corrected:
    """A corrected mean in the scorer's range with its interval; None without one: `detail` says why."""

    value: float | None
    low: float | None
    high: float | None
    method: str | None
    labels: int
    rows: int
    n_effective: float | None
    detail: Mapping[str, Any]


def has_statistics(declaration: Declaration) -> bool:
    """Whether labels can correct the scores: they have a bounded range."""
    return declaration.low is not None and declaration.high is not None


def judged_target(
    tally: Tally, declaration: Declaration, labels: Mapping[tuple[int, int], RowLabel],
    recorded: Sequence[RecordedVerdict], clusters: array[int] | None,
) -> JudgedTarget:  # fmt: skip
    """The scored rows of a tally with their labels. Labels outside of the scorer's range are clipped to it."""
    low, high = (
        (0.0, 1.0)
        if declaration.binary
        else (declaration.low or 0.0, 1.0 if declaration.high is None else declaration.high)
    )
    width = high - low
    epochs = tally.epochs if tally.epochs is not None else array("i", [1]) * len(tally.samples)
    verdicts: list[float] = []
    shown: list[float | None] = []
    drawn: list[float | None] = []
    positions: list[int] = []
    for position, epoch, code, value in zip(tally.samples, epochs, tally.codes, tally.values, strict=True):
        if code > ZEROED:
            continue
        label = labels.get((position, epoch))
        verdicts.append((value - low) / width)
        shown.append(None if label is None else min(1.0, max(0.0, (label.value - low) / width)))
        drawn.append(None if label is None else label.probability)
        positions.append(position)
    groups = None
    if clusters is not None:
        groups = [clusters[position] for position in positions]
    elif tally.epochs is not None:
        groups = list(positions)
    weights = drawn if any(one is not None for one in drawn) else None
    middle = low + width * MIDDLE if declaration.threshold is None else declaration.threshold
    rows = JudgedRows(verdicts, shown, weights, groups)
    return JudgedTarget(rows, tuple(positions), tuple(recorded), low, high, middle, not declaration.higher_is_better)


def labeled_verdicts(tally: Tally, labels: Mapping[tuple[int, int], RowLabel]) -> list[RecordedVerdict]:
    """The labeled rows of a tally as labels of other answers."""
    epochs = tally.epochs if tally.epochs is not None else array("i", [1]) * len(tally.samples)
    return [
        RecordedVerdict(label.value, value)
        for position, epoch, code, value in zip(tally.samples, epochs, tally.codes, tally.values, strict=True)
        if code <= ZEROED and (label := labels.get((position, epoch))) is not None
    ]


def judge_metrics(
    name: str, declaration: Declaration, judged: JudgedTarget, *, where: Mapping[str, str] | None = None
) -> Iterator[Metric]:
    """The metrics `NAME.corrected`, `NAME.agreement` … of one target or slice."""
    result = judged.corrected()
    yield Metric(
        f"{name}.{CORRECTED}", name, CORRECTED, result.value, result.rows, scored=result.rows, version=declaration.version,
        slice=where, low=result.low, high=result.high, level=LEVEL if result.method else None, method=result.method,
        n_effective=result.n_effective, unit=declaration.unit, higher_is_better=declaration.higher_is_better,
        trusted=result.value is not None, detail=result.detail,
    )  # fmt: skip
    pairs = judged.pairs()
    for statistic in AGREEMENT_STATISTICS:
        rate: Rate = getattr(pairs, statistic)()
        yield Metric(
            f"{name}.{statistic}", name, statistic, rate.value, rate.n, scored=rate.n, version=declaration.version,
            slice=where, low=rate.low, high=rate.high, level=LEVEL if rate.method else None, method=rate.method,
            trusted=rate.value is not None, detail={"interval": rate.note} if rate.note else None,
        )  # fmt: skip
