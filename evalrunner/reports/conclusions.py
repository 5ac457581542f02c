"""What a comparison shows, in sentences: who beats whom, which pairs are too close to call, and what missing scores hide.

The same for every format. Names are cut to one line; formats escape them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from evalrunner.formatting import DASH, counted, number, one_line

if TYPE_CHECKING:
    from evalrunner.compare.result import ComparedMetric, Comparison, Pair

MAX_NAME: Final = 40
MAX_PAIRS: Final = 6  # of one sentence
MIN_ALL: Final = 3  # pairs that are named together if all are close
MIN_RATIO: Final = 1.2  # of costs that are worth a sentence


def conclusions(metric: ComparedMetric) -> Iterator[str]:
    """The sentences about the pairs of a metric: those that differ, those that are close, those in doubt."""
    beaten = list(_wins(metric))
    if beaten:
        yield " ".join(beaten)
    close = [pair for pair in metric.pairs if pair.p_adjusted is not None and pair.better_scored is None]
    if close:
        sizes = {pair.n for pair in close if pair.n}
        size = f" ({counted(sizes.pop(), 'sample')})" if len(sizes) == 1 else ""
        every = len(close) == len(metric.pairs) >= MIN_ALL
        pairs = f"all {len(close)} pairs" if every else _listed([_versus(pair) for pair in close])
        yield f"Too close to call{size}: {pairs}.{_samples_to_decide(close)}"
    doubts = [pair.doubt for pair in metric.pairs if pair.doubt is not None]
    first = doubts if len(doubts) <= MAX_PAIRS + 1 else doubts[:MAX_PAIRS]
    yield from (f"{one_line(doubt, 400)}." for doubt in first)
    if len(doubts) > len(first):
        yield f"{len(doubts) - len(first)} more pairs are not conclusive: missing answers could reverse them."


def conclusions_of(comparison: Comparison, metric: ComparedMetric) -> Iterator[str]:
    """The sentences about a metric: of a matrix those about its prompts and models and a short one about its targets."""
    crossed = False
    for factor in comparison.factors:
        found = factor.metric(metric.name)
        if found is not None and found.ranking is not None:
            crossed = True
            order = dict.fromkeys((*found.ranking.order, *factor.levels))
            values = ", ".join(
                f"{one_line(name, MAX_NAME)} {number(found.values[name].value) if name in found.values else DASH}"
                for name in order
            )
            over = counted(len(factor.others), "prompt" if factor.kind == "model" else "model")
            yield " ".join([f"{factor.kind.capitalize()}s, each over {over}: {values}.", *conclusions(found)])
    if crossed and metric.ranking is not None:
        yield _summary_of_pairs(metric)
    else:
        yield from conclusions(metric)


def _summary_of_pairs(metric: ComparedMetric) -> str:
    """How many pairs of targets differ, and which ones may be the best."""
    differing = sum(1 for pair in metric.pairs if pair.better is not None)
    doubtful = sum(1 for pair in metric.pairs if pair.doubt is not None)
    doubts = f"; missing answers could reverse {doubtful:,} more" if doubtful else ""
    text = f"Targets: {differing:,} of {counted(len(metric.pairs), 'pair')} differ{doubts}."
    order = () if metric.ranking is None else metric.ranking.order
    if not order or metric.values.get(order[0]) is None:
        return text
    equals = [name for name in order[1:] if metric.pair(order[0], name).better is None]
    best = one_line(order[0], MAX_NAME)
    if not equals:
        return f"{text} {best} is better than all others."
    rest = _joined(equals) if len(equals) <= MAX_PAIRS else f"{counted(len(equals), 'other')}"
    return f"{text} {best} leads, but is not significantly better than {rest}."


def cost_conclusion(comparison: Comparison) -> str | None:
    """`a is 70× cheaper than b and 5× faster.`: the most extreme targets in cost and latency, by their values alone."""
    free = {name for front in comparison.pareto_fronts if front.against.startswith("cost") for name in front.missing}
    cheap = _extremes(comparison, "cost_usd/mean", "cheaper", free)
    fast = _extremes(comparison, "latency/p50", "faster", set())
    if cheap is not None and fast is not None and cheap[:2] == fast[:2]:
        return f"{cheap[0]} is {cheap[2]} than {cheap[1]} and {fast[2]}."
    sentences = [f"{low} is {text} than {high}." for low, high, text in (each for each in (cheap, fast) if each)]
    return " ".join(sentences) or None


def p_text(p: float) -> str:
    """`p < 0.001`, `p = 0.034`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def signed(difference: float) -> str:
    """`+0.23`, `-0.043`, `+12.50`: two digits that tell something."""
    return f"{difference:+.2f}" if abs(difference) >= 0.1 or not difference else f"{difference:+.2g}"


def rounded_up(count: int) -> int:
    """A number of samples with two digits."""
    digits = 10 ** max(0, len(str(count)) - 2)
    return int(math.ceil(count / digits) * digits)


def _wins(metric: ComparedMetric) -> Iterator[str]:
    """A sentence for all targets that beat the same ones; with a single pair its difference."""
    order = [] if metric.ranking is None else list(metric.ranking.order)
    beaten = {name: [pair for pair in metric.pairs if pair.better == name] for name in order}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in order:
        losers = tuple(sorted((str(pair.worse) for pair in beaten[name]), key=order.index))
        if losers:
            groups.setdefault(losers, []).append(name)
    for losers, winners in groups.items():
        size = ""
        if len(winners) == len(losers) == 1:
            (pair,) = beaten[winners[0]]
            difference = (pair.difference or 0.0) * (1 if pair.better == pair.first else -1)
            size = f" ({signed(difference)}, {p_text(pair.p_adjusted or 0.0)})"
        verb = "beats" if len(winners) == 1 else "beat"
        yield f"{_joined(winners)} {verb} {_joined(losers)}{size}."


def _samples_to_decide(close: Sequence[Pair]) -> str:
    """How many samples would decide all close pairs, or the first to be decided; nothing where that is impractical."""
    counts = {pair: pair.samples_to_decide for pair in close if pair.samples_to_decide is not None}
    if not counts:
        return ""
    if len(counts) == len(close):
        return f" About {rounded_up(max(counts.values())):,} samples would decide."
    first = min(counts, key=lambda pair: counts[pair])
    return f" About {rounded_up(counts[first]):,} samples would decide {_versus(first)}."


def _versus(pair: Pair) -> str:
    return f"{one_line(pair.first, MAX_NAME)} vs {one_line(pair.second, MAX_NAME)}"


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_PAIRS
    return ", ".join(texts) if more <= 1 else f"{', '.join(texts[:MAX_PAIRS])} and {more} more pairs"


def _joined(names: Sequence[str]) -> str:
    texts = [one_line(name, MAX_NAME) for name in names]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _extremes(comparison: Comparison, name: str, word: str, left_out: set[str]) -> tuple[str, str, str] | None:
    """The lowest and the highest target of a cost, and their ratio in words; None where they hardly differ."""
    for metric in comparison.costs:
        if metric.name == name:
            values = {
                each: value.value for each, value in metric.values.items() if each not in left_out and value.value
            }
            if len(values) < 2:
                return None
            low, high = (
                min(values, key=lambda each: values[each] or 0.0),
                max(values, key=lambda each: values[each] or 0.0),
            )
            ratio = (values[high] or 0.0) / (values[low] or 1.0)
            if ratio < MIN_RATIO:
                return None
            text = f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"
            return one_line(low, MAX_NAME), one_line(high, MAX_NAME), f"{text.removesuffix('.0')}× {word}"
    return None
