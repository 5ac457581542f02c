"""Scorers that compare the output with the accepted answers, as text or as numbers, and their normalization."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from evalrunner.domain import Declaration, Sample, SampleFilter, Score, Scorer, Skipped

PUNCTUATION = str.maketrans("", "", string.punctuation)  # as SQuAD: the 32 ASCII signs, no typographic quotes
ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
ARTICLES_WITH_GAP = re.compile(r"\b(?:a|an|the)\b\s*", re.IGNORECASE)

BLANK_EXPECTED = Skipped("the expected answer is blank")
NO_NUMBER = "the expected answer has no number"
BINARY = Declaration(binary=True, needs_expected=True, inline=True)

NUMBER = re.compile(
    r"(?P<sign>[-+]?) ?[$€£]? ?(?P<inner>[-+]?)"
    r"(?P<digits>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,3})?)",
    re.ASCII | re.IGNORECASE,
)
DIGIT = re.compile("[0-9]")  # one is enough for a number
MINUS_SIGNS = str.maketrans("\u2212\u2012\u2013", "---")  # minus, figure dash and en dash are used as minus signs
NUMBER_SUFFIXES = ".,:;!%$€£ "  # signs that may follow a number: of sentences, prices and percentages
MAX_COMPARED = 500_000_000  # characters of a text at all places where it occurs inside longer words
MAX_NUMBER_LENGTH = 1_000  # characters; anything longer is compared as text
TAIL_LENGTH = 20_000  # characters at the end that are searched for the last number


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalizer:
    """Normalizes a text for comparison; always to Unicode NFC, without whitespace at its ends."""

    case: bool = False
    punctuation: bool = False
    articles: bool = False
    whitespace: bool = False

    def __call__(self, text: str) -> str:
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if self.case:
            text = text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())
        if self.punctuation:
            text = text.translate(PUNCTUATION)
        if self.articles:
            # if whitespace counts, an article is removed with the whitespace after it
            text = ARTICLES.sub(" ", text) if self.whitespace else ARTICLES_WITH_GAP.sub("", text)
        return " ".join(text.split()) if self.whitespace else text.strip()

    def of_answer(self, answer: str) -> tuple[Normalizer, str]:
        """The normalizer for outputs that are compared with an accepted answer, and the normalized answer.

        Steps that would leave nothing of the answer (`A`, `the`, `+`) are dropped. The script of SQuAD keeps them, so
        such an answer equals any other text that becomes empty.
        """
        rule, wanted = self, self(answer)
        if not wanted and self.articles:
            rule = replace(rule, articles=False)
            wanted = rule(answer)
        if not wanted and self.punctuation:
            rule = replace(rule, punctuation=False)
            wanted = rule(answer)
        return rule, wanted


SQUAD = Normalizer(case=True, punctuation=True, articles=True, whitespace=True)


def normalizer(case: bool, punctuation: bool, articles: bool, whitespace: bool, shorthand: str) -> Normalizer:
    """The normalizer for a scorer's options; `shorthand` is its option `normalize`."""
    if shorthand == "squad":
        return SQUAD
    return Normalizer(case=case, punctuation=punctuation, articles=articles, whitespace=whitespace)


def exact_match(
    *,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output equals one of the accepted answers, else 0; leading and trailing whitespace is ignored.

    Args:
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    return Scorer(ExactMatch(rule), BINARY)


def contains(
    *,
    values: list[str] | None = None,
    mode: Literal["any", "all"] = "any",
    negate: bool = False,
    whole_words: bool = False,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output contains an accepted answer, or one of the given texts, else 0.

    Args:
        values: Texts to look for instead of the accepted answers; samples then need none.
        mode: Whether any or all of the texts are required.
        negate: Invert the score: 1 if they are not found.
        whole_words: Do not find a text inside a longer word, such as cat in category.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    if values is not None and (not values or not all(value.strip() for value in values)):
        raise ValueError("'values' should have at least one text, and no blank one")
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    function = Contains(rule, None if values is None else tuple(values), mode == "all", negate, whole_words)
    return Scorer(function, Declaration(binary=True, needs_expected=values is None, inline=True))


def token_f1(*, ignore_case: bool = True, ignore_punctuation: bool = True, ignore_articles: bool = True) -> Scorer:
    """Word overlap of output and accepted answer (F1 as in SQuAD); the best over the accepted answers.

    Args:
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts; use false for other languages than English.
    """
    rule = Normalizer(case=ignore_case, punctuation=ignore_punctuation, articles=ignore_articles, whitespace=True)
    return Scorer(TokenF1(rule), Declaration(needs_expected=True, inline=True))


@dataclass(frozen=True, slots=True)
class ExactMatch:
    rule: Normalizer

    def __call__(self, output: str, sample: Sample) -> bool | Skipped:
        compared = False
        normalized = self.rule(output)
        for answer in sample.expected:
            rule, wanted = self.rule.of_answer(answer)
            if wanted and wanted == (normalized if rule is self.rule else rule(output)):
                return True
            compared = compared or bool(wanted)
        return False if compared else BLANK_EXPECTED


@dataclass(frozen=True, slots=True)
class Contains:
    rule: Normalizer
    values: tuple[str, ...] | None
    require_all: bool
    negate: bool
    whole_words: bool

    def __call__(self, output: str, sample: Sample) -> bool | Skipped:
        texts = [text for text in (sample.expected if self.values is None else self.values) if text.strip()]
        if not texts:
            return BLANK_EXPECTED
        matches = all(self._finds(texts, output)) if self.require_all else any(self._finds(texts, output))
        return matches != self.negate

    def _finds(self, texts: Sequence[str], output: str) -> Iterator[bool]:
        """For each text whether the output has it, lazily."""
        normalized = self.rule(output)
        for text in texts:
            rule, wanted = self.rule.of_answer(text)
            where = normalized if rule is self.rule else rule(output)
            yield contains_whole_words(where, wanted) if self.whole_words else wanted in where


def contains_whole_words(text: str, wanted: str) -> bool:
    """Whether `wanted` is in `text` as whole words: no letter, digit or underscore continues it at either end.

    Raises ValueError if a long text occurs too often inside longer words.
    """
    index, compared = text.find(wanted), 0
    while index >= 0:
        end = index + len(wanted)
        if not (_is_inside_word(text, index) or _is_inside_word(text, end)):
            return True
        compared += len(wanted)
        if compared > max(MAX_COMPARED, len(text)):
            raise ValueError(f"a text of {len(wanted):,} characters occurs too often inside longer words of the output")
        index = text.find(wanted, index + 1)
    return False


def _is_inside_word(text: str, index: int) -> bool:
    """Whether the characters before and at `index` belong to one word."""
    return 0 < index < len(text) and _is_word_character(text[index - 1]) and _is_word_character(text[index])


def _is_word_character(sign: str) -> bool:
    return sign.isalnum() or sign == "_"


@dataclass(frozen=True, slots=True)
class TokenF1:
    rule: Normalizer

    def __call__(self, output: str, sample: Sample) -> float | Skipped:
        best: float | None = None
        output_words = Counter(self.rule(output).split())
        for answer in sample.expected:
            rule, wanted = self.rule.of_answer(answer)
            if wanted:
                words = output_words if rule is self.rule else Counter(rule(output).split())
                score = overlap_f1(words, Counter(wanted.split()))
                best = score if best is None else max(best, score)
        return BLANK_EXPECTED if best is None else best


def overlap_f1(output_words: Counter[str], wanted: Counter[str]) -> float:
    """F1 of two bags of words, 0..1: twice the size of their overlap divided by the sum of their sizes."""
    shared = (output_words & wanted).total()
    return 2 * shared / (output_words.total() + wanted.total()) if shared else 0.0


def parse_number(text: str) -> Decimal | None:
    """The number that `text` is, exactly, or None: `$1,234.50`, `-3.`, `75 %`, `1e6`; never `nan` or `1_000`."""
    text = text.strip()
    if len(text) > MAX_NUMBER_LENGTH:
        return None
    match = NUMBER.fullmatch(text.translate(MINUS_SIGNS).rstrip(NUMBER_SUFFIXES))
    if match is None or (match["sign"] and match["inner"]):
        return None
    return Decimal(match["sign"] + match["inner"] + match["digits"].replace(",", ""))


def same_number(one: str, other: str) -> bool | None:
    """Whether two texts are the same number; None if one of them is not a number."""
    first, second = parse_number(one), parse_number(other)
    return None if first is None or second is None else first == second


def last_number(text: str) -> Decimal | None:
    """The last number in a text, exactly, or None: -2 for `so -$2.`, 3 for `5-3` and `5 - 3`."""
    every = list(NUMBER.finditer(text[-TAIL_LENGTH:].translate(MINUS_SIGNS)))
    return _signed(every[-1]) if every else None


def _signed(match: re.Match[str]) -> Decimal:
    """The matched number, with its sign unless that is a dash between words or a subtraction."""
    group = "sign" if match["sign"] else "inner"
    index = match.start(group)
    before, after = match.string[max(0, index - 1) : index], match.string[index + 1 : index + 2]
    dash = before.isalnum() or before in (")", "%") or after == " "
    return Decimal(("" if dash else match[group]) + match["digits"].replace(",", ""))


def numeric_match(*, tolerance: float = 0.0, relative: float = 0.0) -> Scorer:
    """1 if the last number of the output is the last number of an accepted answer, else 0.

    An output without a number is wrong; a sample whose accepted answers have none is skipped.

    Args:
        tolerance: Maximum absolute difference.
        relative: Maximum difference as a share of the accepted number; the larger of both limits applies.
    """
    if not (0 <= tolerance < float("inf") and 0 <= relative < float("inf")):
        raise ValueError("'tolerance' and 'relative' should be 0 or more")
    return Scorer(
        NumericMatch(Decimal(repr(tolerance)), Decimal(repr(relative))),
        Declaration(binary=True, needs_expected=True, inline=True),
    )


@dataclass(frozen=True, slots=True)
class NumericMatch(SampleFilter):
    tolerance: Decimal
    relative: Decimal

    def __call__(self, output: str, sample: Sample) -> Score | Skipped:
        wanted = [number for answer in sample.expected if (number := last_number(answer)) is not None]
        if not wanted:
            return Skipped(NO_NUMBER)
        last = last_number(output)
        if last is None:
            return Score(0.0, "no number in the output")
        near = any(abs(last - number) <= max(self.tolerance, self.relative * abs(number)) for number in wanted)
        return Score(float(near), f"{last} for {' or '.join(map(str, wanted))}")

    def skip_reason(self, sample: Sample) -> str | None:
        """That no accepted answer has a number; None if one has."""
        return None if any(map(DIGIT.search, sample.expected)) else NO_NUMBER
