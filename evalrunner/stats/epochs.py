"""The variance of scores between samples and within them, by the epochs of a run; and what more calls would gain. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from evalrunner.domain import EpochVariance
from evalrunner.stats.aggregates import Range
from evalrunner.stats.distributions import variance
from evalrunner.stats.tally import ZEROED

if TYPE_CHECKING:
    from evalrunner.stats.summary import Summary
    from evalrunner.stats.tally import Tally

MORE_CALLS: Final = 100  # whose best use is reported
FLAKY_SHARE: Final = 0.5  # of the range of the scores, by which the epochs of a flaky sample differ at least
MAX_FLAKY_IDS: Final = 50  # in metrics.json


def epoch_variances(summary: Summary, target: str) -> tuple[EpochVariance, ...]:
    """The split for each scorer of a target; none where no sample has two scored epochs."""
    splits = (
        split_variance(
            measure.name,
            summary.tallies[target, measure.name],
            ids=summary.ids,
            bounds=(measure.declaration.low, measure.declaration.high),
            epochs=summary.epochs,
        )
        for measure in summary.quality_measures
    )
    return tuple(split for split in splits if split is not None)


def split_variance(
    scorer: str, tally: Tally, *, ids: Mapping[int, str], bounds: Range, epochs: int
) -> EpochVariance | None:
    """The variance of one answer's score as that of the samples' true means plus that of one sample's answers.

    One-way random effects with every sample weighted alike: `within` is the mean of the variances between epochs (ddof
    1), `between` the variance of the samples' means without the part of it that `within` explains, at least 0 (Searle,
    Casella & McCulloch 1992, §3.6). `ids` are by the position of a sample. None if no sample has two scored epochs.
    """
    scores: dict[int, list[float]] = {}
    for sample, value, code in zip(tally.samples, tally.values, tally.codes, strict=True):
        if code <= ZEROED:
            scores.setdefault(sample, []).append(value)
    spreads = {
        sample: variance(values) * len(values) / (len(values) - 1)
        for sample, values in scores.items()
        if len(values) > 1
    }
    if not spreads or len(scores) < 2:
        return None
    n, means = len(scores), [math.fsum(values) / len(values) for values in scores.values()]
    within = math.fsum(spreads.values()) / len(spreads)
    of_means = variance(means) * n / (n - 1)
    per_epoch = math.fsum(1 / len(values) for values in scores.values()) / n
    between = max(0.0, of_means - within * per_epoch)
    flaky = _flaky(scores, spreads, bounds)
    answers = math.fsum(len(values) for values in scores.values()) / n
    return EpochVariance(
        scorer=scorer,
        samples=n,
        epochs=epochs,
        between=between,
        within=within,
        flaky=len(flaky),
        flaky_samples=tuple(ids.get(sample, str(sample)) for sample in flaky[:MAX_FLAKY_IDS]),
        calls=MORE_CALLS,
        error=_error(between, within, n, answers),
        error_with_samples=_error(between, within, n + MORE_CALLS / epochs, answers),
        error_with_epochs=_error(between, within, n, answers + MORE_CALLS / n),
    )


def _error(between: float, within: float, samples: float, epochs: float) -> float:
    """The standard error of a mean over samples with several epochs each."""
    return math.sqrt((between + within / epochs) / samples)


def _flaky(scores: Mapping[int, list[float]], spreads: Mapping[int, float], bounds: Range) -> list[int]:
    """The samples whose epochs differ by half of the scorer's range, or of the observed one if that is open.

    Most variable first, then in the order of the dataset.
    """
    low, high = bounds
    low = min(map(min, scores.values())) if low is None else low
    high = max(map(max, scores.values())) if high is None else high
    least = FLAKY_SHARE * (high - low)
    varied = [sample for sample in spreads if 0 < max(scores[sample]) - min(scores[sample]) >= least]
    return sorted(varied, key=lambda sample: (-spreads[sample], sample))
