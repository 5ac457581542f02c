"""The true share behind a judge's share, from the judge's sensitivity and specificity on other answers.

Rogan & Gladen (1978) with the interval of Lang & Reiczigel (2014). It assumes that the judge errs on these rows as often
as on the labeled ones; where labels are of these rows, `prediction_powered` needs no such assumption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from evalrunner.stats.distributions import normal_quantile
from evalrunner.stats.intervals import LEVEL, wilson

MIN_CLASS_LABELS: Final = 20  # of good and of bad answers
MIN_INFORMEDNESS: Final = 0.2  # lower 95% bound of J, below which the correction multiplies noise
METHOD: Final = "rogan-gladen"


@dataclass(frozen=True, slots=True)
class JudgeRates:
    """How often a judge is right: on `good` labeled answers `true_good` times, on `bad` ones `true_bad` times."""

    true_good: float
    good: float
    true_bad: float
    bad: float

    @property
    def sensitivity(self) -> float:
        """Share of good answers that the judge accepts."""
        return self.true_good / self.good if self.good else math.nan

    @property
    def specificity(self) -> float:
        """Share of bad answers that the judge rejects."""
        return self.true_bad / self.bad if self.bad else math.nan

    @property
    def informedness(self) -> float:
        """Youden's J (1950): sensitivity + specificity − 1. Zero for a judge that does not look."""
        return self.sensitivity + self.specificity - 1

    def informedness_low(self, *, level: float = LEVEL) -> float:
        """The lower end of J's interval, from Wilson's of both rates (Newcombe 1998, method 10)."""
        below = [
            rate - wilson(hits, count, level=level)[0]
            for rate, hits, count in (
                (self.sensitivity, self.true_good, self.good),
                (self.specificity, self.true_bad, self.bad),
            )
        ]
        return self.informedness - math.hypot(*below)

    def why_not(self) -> str | None:
        """Why these rates correct nothing; None if they do."""
        if min(self.good, self.bad) < MIN_CLASS_LABELS:
            return (
                f"{self.good:.0f} labels of good answers and {self.bad:.0f} of bad ones; at least {MIN_CLASS_LABELS} "
                "of each are needed"
            )
        if (low := self.informedness_low()) <= MIN_INFORMEDNESS:
            return (
                f"the judge hardly tells good from bad: sensitivity + specificity − 1 is {self.informedness:.2f}, at "
                f"least {low:.2f} (95%); above {MIN_INFORMEDNESS} is needed"
            )
        return None


@dataclass(frozen=True, slots=True)
class CorrectedShare:
    """A corrected share with its interval, clipped to 0..1; `clipped` is the value before. None: `note` says why."""

    value: float | None
    low: float | None
    high: float | None
    method: str | None
    note: str | None = None
    clipped: float | None = None


def corrected_share(share: float, n: float, rates: JudgeRates, *, level: float = LEVEL) -> CorrectedShare:
    """The true share where a judge accepts `share` of n (effective) rows."""
    if (reason := rates.why_not()) is not None:
        return CorrectedShare(None, None, None, None, reason)
    raw = (share + rates.specificity - 1) / rates.informedness
    low, high = _lang_reiczigel(share, n, rates, level)
    value = min(1.0, max(0.0, raw))
    low, high = min(low, value), max(high, value)
    note = f"clipped to 0..1 from {raw:.3f}" if value != raw else None
    return CorrectedShare(value, low, high, METHOD, note, raw if value != raw else None)


def _lang_reiczigel(share: float, n: float, rates: JudgeRates, level: float) -> tuple[float, float]:
    """The interval of Lang & Reiczigel (2014, §2.3): a Wald interval of counts with one more success and failure, shifted."""
    z = normal_quantile(0.5 + level / 2)
    good, bad = rates.good + 2, rates.bad + 2
    sensitivity, specificity = (rates.true_good + 1) / good, (rates.true_bad + 1) / bad
    rows = n + z * z
    apparent = (n * share + z * z / 2) / rows
    gap = sensitivity + specificity - 1
    centre = (apparent + specificity - 1) / gap
    of_good, of_bad = sensitivity * (1 - sensitivity) / good, specificity * (1 - specificity) / bad
    shift = 2 * z * z * (centre * of_good - (1 - centre) * of_bad)
    squared = apparent * (1 - apparent) / rows + centre**2 * of_good + (1 - centre) ** 2 * of_bad
    half = z * math.sqrt(squared) / gap
    return min(1.0, max(0.0, centre + shift - half)), max(0.0, min(1.0, centre + shift + half))
