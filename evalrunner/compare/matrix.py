"""A matrix of models and prompts: the models over all prompts, and the prompts over all models. Pure.

A sample's score of a model is its mean over the prompts, so that a pair of models is compared sample by sample as two
candidates are, and the difficulty of a sample cancels out; in the same way for prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evalrunner.compare.pairs import CandidateScores, Scale
from evalrunner.compare.result import Candidate


@dataclass(frozen=True, slots=True)
class Crossing:
    """One side of a matrix: for each level the names of its candidates, one for each of the `others`."""

    kind: Literal["model", "prompt"]
    members: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...]

    @property
    def levels(self) -> tuple[str, ...]:
        """The models, or the prompts."""
        return tuple(self.members)


def crossings(candidates: Sequence[Candidate]) -> Iterator[Crossing]:
    """The prompts over all models and the models over all prompts, where there are several of both.

    Where not every model is asked with every prompt, prompts are compared over the models that are asked with all of
    them, and models over the prompts that all of them are asked with.
    """
    cells: dict[tuple[str, str], str] = {}
    for one in candidates:
        if one.prompt is not None and one.target.endswith(f"/{one.prompt}"):
            cells[one.target.removesuffix(f"/{one.prompt}"), one.prompt] = one.name
    if len(cells) < sum(one.prompt is not None for one in candidates):
        return  # several runs with the same matrix
    models = tuple(dict.fromkeys(model for model, _ in cells))
    prompts = tuple(dict.fromkeys(prompt for _, prompt in cells))
    if len(models) < 2 or len(prompts) < 2:
        return
    complete = tuple(model for model in models if all((model, prompt) in cells for prompt in prompts))
    shared = tuple(prompt for prompt in prompts if all((model, prompt) in cells for model in models))
    if len(complete) > 1:
        yield Crossing("prompt", {name: tuple(cells[one, name] for one in complete) for name in prompts}, complete)
    if len(shared) > 1:
        yield Crossing("model", {name: tuple(cells[name, one] for one in shared) for name in models}, shared)


def averaged(sides: Sequence[CandidateScores], scale: Scale, *, epochs: int) -> CandidateScores:
    """The mean of several candidates on each sample, scored where all of them are.

    Where some have no score, the mean ranges between its ends; a sample that one of them skips, or has no row of, misses its
    `epochs`. Samples that all of them skip are left out.
    """
    values: dict[int, float] = {}
    worst: dict[int, float] = {}
    best: dict[int, float] = {}
    gaps: dict[int, int] = {}
    skipped = frozenset.intersection(*(side.skipped for side in sides))
    for place in sorted(frozenset.union(*(side.places for side in sides)) - skipped):
        if all(place in side.values for side in sides):
            values[place] = math.fsum(side.values[place] for side in sides) / len(sides)
        missing = sum(side.gaps.get(place, 0) if place in side.places else epochs for side in sides)
        if missing or any(place in side.worst for side in sides) or place not in values:
            ends = [side.ends(place, scale.worst_and_best) for side in sides]
            worst[place], best[place] = mean([end[0] for end in ends]), mean([end[1] for end in ends])
        if missing:
            gaps[place] = missing
    return CandidateScores(values, worst, best, gaps, skipped)


def mean(numbers: Sequence[float]) -> float:
    """The mean of those that are not left out; infinite if one is, NaN without any."""
    kept = [number for number in numbers if not math.isnan(number)]
    return math.fsum(kept) / len(kept) if kept else math.nan
