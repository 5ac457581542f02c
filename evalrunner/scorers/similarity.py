"""Scorers that compare texts character by character: `levenshtein` and `similarity`, computed by rapidfuzz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from evalrunner.domain import Declaration, Failure, Sample, Score, Scorer, Skipped
from evalrunner.plugins import main_option
from evalrunner.scorers.text import BLANK_EXPECTED, Normalizer, normalizer, texts_of

Method: TypeAlias = Literal["ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "jaro_winkler"]

MAX_CELLS: Final = 10_000_000_000  # product of both lengths: about a quarter of a second of CPU time
MAX_PARTIAL_CELLS: Final = 2_500_000  # of partial_ratio, which slides one text along the other
MAX_ANSWERS: Final = 4  # accepted answers of the largest size


@main_option("value")
def levenshtein(
    *,
    value: str | list[str] | None = None,
    max_distance: int | None = None,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """Similarity by edit distance, 0 to 1. It is 1 - distance / length of the longer text; the best over the accepted answers.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        max_distance: Score 1 if at most this many characters differ, else 0.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    if max_distance is not None and max_distance < 0:
        raise ValueError("'max_distance' should be 0 or more")
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    declaration = Declaration(binary=max_distance is not None, needs_expected=texts is None, inline=True)
    return Scorer(EditDistance(rule, texts, max_distance), declaration)


@main_option("value")
def similarity(
    *,
    value: str | list[str] | None = None,
    method: Method = "ratio",
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """Similarity of characters or words by rapidfuzz, 0 to 1. The best over the accepted answers.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        method: Function of rapidfuzz. The token methods ignore the order of words; partial_ratio compares the best part.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    max_cells = MAX_PARTIAL_CELLS if method == "partial_ratio" else MAX_CELLS
    declaration = Declaration(needs_expected=texts is None, inline=True, backend=f"rapidfuzz {method}")
    return Scorer(Similarity(rule, texts, method, max_cells), declaration)


def too_long(output: str, answer: str, max_cells: int, compared: int = 0) -> Failure | None:
    """That the comparison of two texts would take too long after `compared` cells; None if it does not."""
    cells = len(output) * len(answer)
    if compared > 0 and cells <= max_cells < (cells + compared) / MAX_ANSWERS:
        total = f"the sum of their products may be {MAX_ANSWERS * max_cells:,}"
        return Failure("function", f"too long to compare with all accepted answers: {total}")
    if cells <= max_cells:
        return None
    return Failure(
        "function",
        f"too long to compare: {len(output):,} with {len(answer):,} characters; the product may be {max_cells:,}",
    )


@dataclass(frozen=True, slots=True)
class EditDistance:
    """The similarity by edit distance, or whether the distance is at most `max_distance`."""

    rule: Normalizer
    value: tuple[str, ...] | None
    max_distance: int | None

    def __call__(self, output: str, sample: Sample) -> Score | Skipped | Failure:
        from rapidfuzz.distance import Levenshtein

        normalized, best, cells = self.rule(output), None, 0
        for answer in sample.expected if self.value is None else self.value:
            rule, wanted = self.rule.of_answer(answer)
            if not wanted:
                continue
            text = normalized if rule is self.rule else rule(output)
            limit = max(len(text), len(wanted))
            if self.max_distance is not None and self.max_distance < 64:  # beyond it the cutoff saves no time
                limit = min(limit, self.max_distance)
            elif (failure := too_long(text, wanted, MAX_CELLS, cells)) is not None:
                return failure
            cells += len(text) * len(wanted)
            distance = Levenshtein.distance(text, wanted, score_cutoff=limit)
            # beyond the cutoff the distance is the cutoff + 1, and only compared
            rank = (1 - distance / max(len(text), len(wanted)), -distance)
            if self.max_distance is not None:
                rank = (float(distance <= self.max_distance), -distance)
            best = rank if best is None else max(best, rank)
        if best is None:
            return BLANK_EXPECTED
        score, distance = best[0], -best[1]
        if self.max_distance is None:
            return Score(score, f"distance {distance}")
        return Score(score, f"distance {distance}" if score else f"distance over {self.max_distance}")


@dataclass(frozen=True, slots=True)
class Similarity:
    """A similarity of rapidfuzz in 0..1."""

    rule: Normalizer
    value: tuple[str, ...] | None
    method: Method
    max_cells: int

    def __call__(self, output: str, sample: Sample) -> float | Skipped | Failure:
        compare, best, cells = comparison(self.method), None, 0
        normalized = self.rule(output)
        for answer in sample.expected if self.value is None else self.value:
            rule, wanted = self.rule.of_answer(answer)
            if not wanted:
                continue
            text = normalized if rule is self.rule else rule(output)
            if (failure := too_long(text, wanted, self.max_cells, cells)) is not None:
                return failure
            cells += len(text) * len(wanted)
            score = compare(text, wanted)
            best = score if best is None else max(best, score)
        return BLANK_EXPECTED if best is None else best


def comparison(method: Method) -> Callable[[str, str], float]:
    """The function from two texts to their similarity in 0..1."""
    from rapidfuzz import fuzz
    from rapidfuzz.distance import JaroWinkler

    if method == "jaro_winkler":
        normalized_similarity: Callable[[str, str], float] = JaroWinkler.normalized_similarity
        return normalized_similarity
    percent: Callable[[str, str], Any] = getattr(fuzz, method)
    return lambda text, wanted: percent(text, wanted) / 100
