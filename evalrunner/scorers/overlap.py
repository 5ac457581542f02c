"""Overlap of n-grams with reference texts: `bleu` and `chrf` by sacrebleu, `rouge` by rouge-score, for each answer.

The values are those of the packages, BLEU and chrF divided by 100. A run's metric is the mean of the answers' scores;
corpus BLEU, which adds up counts before it divides, is another number. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal, TypeAlias

from evalrunner.domain import Declaration, Failure, Sample, Scorer, Skipped
from evalrunner.errors import MissingExtraError
from evalrunner.plugins import main_option
from evalrunner.scorers.text import BLANK_EXPECTED, texts_of

BleuTokenizer: TypeAlias = Literal["13a", "intl", "zh", "char", "none"]
RougeVariant: TypeAlias = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
Measure: TypeAlias = Literal["f1", "recall", "precision"]

MAX_LENGTH: Final = 200_000  # characters of one text
MAX_CACHED_LENGTH: Final = 20_000  # characters: sacrebleu caches the tokens of 65,536 texts
MAX_CELLS: Final = 4_000_000  # words × words of a longest common subsequence: about a second
MAX_ANSWERS: Final = 10  # accepted answers of the largest size
FIELDS: Final = {"f1": "fmeasure", "recall": "recall", "precision": "precision"}
WORD: Final = re.compile(r"\w+")


@main_option("value")
def bleu(*, value: str | list[str] | None = None, tokenize: BleuTokenizer = "13a", ignore_case: bool = False) -> Scorer:
    """Sentence BLEU of sacrebleu divided by 100, 0 to 1. With effective order; accepted answers are references together.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        tokenize: Tokenizer of sacrebleu. zh is for Chinese, char for other languages without spaces.
        ignore_case: Ignore case.
    """
    texts, release = texts_of(value), package_version("bleu", "sacrebleu")
    declaration = Declaration(needs_expected=texts is None, backend=f"sacrebleu {release} {tokenize}")
    return Scorer(Overlap("bleu", texts, (tokenize, ignore_case)), declaration)


@main_option("value")
def chrf(*, value: str | list[str] | None = None, word_order: int = 0, ignore_case: bool = False) -> Scorer:
    """Sentence chrF of sacrebleu divided by 100, 0 to 1. The best over the accepted answers.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        word_order: Longest n-grams of words; 2 is chrF++.
        ignore_case: Ignore case.
    """
    if not 0 <= word_order <= 6:
        raise ValueError("'word_order' should be 0 to 6; 2 is chrF++")
    texts, release = texts_of(value), package_version("chrf", "sacrebleu")
    declaration = Declaration(needs_expected=texts is None, backend=f"sacrebleu {release}")
    return Scorer(Overlap("chrf", texts, (word_order, ignore_case)), declaration)


@main_option("value")
def rouge(
    *,
    value: str | list[str] | None = None,
    variant: RougeVariant = "rougeL",
    measure: Measure = "f1",
    stem: bool = False,
    words: Literal["ascii", "unicode"] = "ascii",
) -> Scorer:
    """ROUGE of rouge-score, 0 to 1. The best over the accepted answers.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        variant: Single words, pairs of words, or the longest common subsequence; rougeLsum line by line.
        measure: F1, recall or precision.
        stem: Compare the stems of English words, by Porter.
        words: What counts as words. rouge-score knows letters and digits of ASCII only; unicode knows those of all languages.
    """
    if stem and words != "ascii":
        raise ValueError("'stem' is for English; remove it, or 'words: unicode'")
    texts, release = texts_of(value), package_version("rouge", "rouge-score")
    backend = f"rouge-score {release} {variant} {measure}"
    declaration = Declaration(needs_expected=texts is None, backend=backend)
    return Scorer(Rouge(texts, variant, measure, stem, words), declaration)


@functools.cache
def package_version(scorer: str, package: str) -> str:
    """The installed version, without importing the package. Raises MissingExtraError if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise MissingExtraError(scorer, "text") from None


def too_long(texts: list[str]) -> Failure | None:
    """That a text is too long to compare; None if all are shorter."""
    longest = max(map(len, texts))
    if longest <= MAX_LENGTH:
        return None
    return Failure("function", f"too long to compare: {longest:,} characters; the limit is {MAX_LENGTH:,}")


@dataclass(frozen=True, slots=True)
class Overlap:
    """A metric of sacrebleu for one answer; `options` are those of `_metric`."""

    name: Literal["bleu", "chrf"]
    value: tuple[str, ...] | None
    options: tuple[Any, bool]

    def __call__(self, output: str, sample: Sample) -> float | Skipped | Failure:
        answers = [text for text in (sample.expected if self.value is None else self.value) if text.strip()]
        if not answers:
            return BLANK_EXPECTED
        if (failure := too_long([output, *answers])) is not None:
            return failure
        metric = _metric(self.name, *self.options)
        value = float(metric.sentence_score(output, answers).score) / 100
        if self.name == "bleu" and max(map(len, [output, *answers])) > MAX_CACHED_LENGTH:
            clear = getattr(type(metric.tokenizer).__call__, "cache_clear", None)
            if clear is not None:
                clear()
        return min(1.0, value)  # a perfect BLEU is 100.00000000000004


@functools.cache
def _metric(name: str, option: Any, ignore_case: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if name == "bleu":
        return BLEU(tokenize=option, lowercase=ignore_case, effective_order=True)
    return CHRF(word_order=option, lowercase=ignore_case)


class UnicodeWords:
    """A tokenizer for rouge-score: letters and digits of all languages, without case."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class Rouge:
    value: tuple[str, ...] | None
    variant: RougeVariant
    measure: Measure
    stem: bool
    words: str

    def __call__(self, output: str, sample: Sample) -> float | Skipped | Failure:
        answers = [text for text in (sample.expected if self.value is None else self.value) if text.strip()]
        if not answers:
            return BLANK_EXPECTED
        if (failure := too_long([output, *answers])) is not None:
            return failure
        scorer, tokens = _rouge(self.variant, self.stem, self.words)
        output_size, best, cells = len(tokens(output)), None, 0
        for answer in answers:
            size = len(tokens(answer))
            if size == 0:
                continue
            if self.variant in ("rougeL", "rougeLsum") and size * output_size > MAX_CELLS:
                sizes = f"{output_size:,} with {size:,} words; the product may be {MAX_CELLS:,}"
                return Failure("function", f"too long to compare: {sizes}")
            cells += size * output_size
            if self.variant in ("rougeL", "rougeLsum") and cells > MAX_ANSWERS * MAX_CELLS:
                return Failure("function", "too long to compare with all accepted answers")
            score = float(getattr(scorer.score(answer, output)[self.variant], FIELDS[self.measure]))
            best = score if best is None else max(best, score)
        if best is None:
            advice = "; set 'words: unicode'" if self.words == "ascii" else ""
            return Skipped(f"the expected answer has no words that ROUGE counts{advice}")
        return best


@functools.cache
def _rouge(variant: str, stem: bool, words: str) -> tuple[Any, Any]:
    """The scorer of rouge-score, and its tokenizer as a function."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    tokenizer = UnicodeWords() if words == "unicode" else DefaultTokenizer(use_stemmer=stem)
    return RougeScorer([variant], use_stemmer=stem, tokenizer=tokenizer), tokenizer.tokenize
