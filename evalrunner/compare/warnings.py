"""What casts doubt on a comparison: judges that are kin of a candidate, and rows without a score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evalrunner.compare.families import shared_family
from evalrunner.compare.result import Candidate, ComparedMetric

FEW_LEFT_OUT = 0.05  # share of the samples of a pair; the same 5 % that a gate's coverage allows


def comparison_warnings(
    metrics: Sequence[ComparedMetric], candidates: Sequence[Candidate], judges: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """A sentence for each: who judges its own kind, and which scores are missing in numbers that matter."""
    for metric in metrics:
        yield from _kin(metric, candidates, judges.get(metric.scorer, ()))
    yield from _unscored(metrics)
    for metric in metrics:
        yield from _left_out(metric)


def _unscored(metrics: Sequence[ComparedMetric]) -> Iterator[str]:
    """Who missing_reason scores, once for all metrics that lack as many."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for metric in metrics:
        for name, value in metric.values.items():
            if not value.trusted:
                left = value.unscored + value.errors
                found.setdefault((name, left, value.n + left), []).append(metric.name)
    for (name, left, total), names in found.items():
        if not total:
            yield f"{name} has no sample that a score could be of ({', '.join(names)})"
            continue
        yield (
            f"{name} has no score on {left:,} of {total:,} samples ({', '.join(names)}), and pairs without one are left out: "
            "whoever leaves out what is hard looks better"
        )


def _left_out(metric: ComparedMetric) -> Iterator[str]:
    """Pairs that lack many samples though neither side lacks scores: rows that never ran."""
    for pair in metric.pairs:
        sides = [metric.values.get(name) for name in (pair.first, pair.second)]
        many = pair.left_out > FEW_LEFT_OUT * (pair.n + pair.left_out)
        if many and all(side is None or side.trusted for side in sides):
            yield (
                f"{metric.name}: on {pair.left_out:,} samples only one of {pair.first} and {pair.second} has a score; "
                f"they are left out of the {pair.n:,} pairs"
            )


def _kin(metric: ComparedMetric, candidates: Sequence[Candidate], judge: Sequence[str]) -> Iterator[str]:
    """Judges prefer what they might have written themselves (Zheng et al. 2023, §3.3; Panickssery et al. 2024)."""
    found: dict[str, list[str]] = {}
    for candidate in candidates:
        kin = shared_family(judge, candidate.models)
        if kin is not None:
            found.setdefault(kin, []).append(candidate.name)
    for kin, names in found.items():
        if len(names) < len(candidates):
            yield f"{metric.name}: the judge {judge[0]} is {kin}, as {', '.join(names)}; judges favour their own kind"
        else:
            yield f"{metric.name}: the judge {judge[0]} is {kin}, as all that are compared"
