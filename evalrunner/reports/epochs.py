"""How scores vary between the epochs of a run, as lines of text: the split, the flaky samples, the next calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from evalrunner.domain import EpochVariance
from evalrunner.formatting import counted, number, one_line

MAX_IDS: Final = 5  # flaky samples named in a line
SAME_GAIN: Final = 0.1  # relative difference of two gains below which they are called equal


def epoch_lines(splits: Iterable[EpochVariance]) -> Iterator[str]:
    """Two lines for each scorer whose scores vary: what they vary by, and what the next calls gain."""
    for split in splits:
        if split.between + split.within > 0:
            yield f"{one_line(split.scorer, 40)}: {split_text(split)}"
            yield f"  {next_calls_text(split)}"


def split_text(split: EpochVariance) -> str:
    """`33% of variance within samples; 7 flaky: q7, q28, q49, q54, q0, …`."""
    if not split.within:
        return f"equal in all {split.epochs} epochs of every sample; one epoch is enough"
    share = split.within / (split.between + split.within)
    inside = f"{100 * share:.0f}%" if 0.005 <= share <= 0.995 else "under 1%" if share < 0.5 else "over 99%"
    text = f"{inside} of variance within samples"
    if not split.flaky:
        return f"{text}; no flaky samples"
    names = [one_line(name, 24) for name in split.flaky_samples[:MAX_IDS]]
    return f"{text}; {split.flaky:,} flaky: {', '.join(names)}{', …' if split.flaky > MAX_IDS else ''}"


def next_calls_text(split: EpochVariance) -> str:
    """`next 100 calls: standard error 0.049 → 0.042 (25 samples) or 0.049 (epochs)`."""
    calls, now = f"next {split.calls} calls", number(split.error)
    new = counted(max(1, split.calls // split.epochs), "sample")
    gains = split.error - split.error_with_samples, split.error - split.error_with_epochs
    if gains[1] >= (1 - SAME_GAIN) * gains[0]:
        return f"{calls}: standard error {now} → {number(split.error_with_epochs)} ({new} or epochs)"
    with_samples, with_epochs = number(split.error_with_samples), number(split.error_with_epochs)
    return f"{calls}: standard error {now} → {with_samples} ({new}) or {with_epochs} (epochs)"
