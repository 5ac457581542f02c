"""Scorers that compare the output with the accepted answers, as text or as numbers, and their normalization."""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from evalrunner.capabilities import SampleFilter
from evalrunner.domain import Declaration, Sample, Score, Scorer, Skipped
from evalrunner.plugins import main_option
from evalrunner.redact import redact_start

PUNCTUATION = str.maketrans("", "", string.punctuation)  # as SQuAD: the 32 ASCII signs, no typographic quotes
ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
ARTICLES_WITH_GAP = re.compile(r"\b(?:a|an|the)\b\s*", re.IGNORECASE)

OF_VALUE = Declaration(binary=True, inline=True)
OF_EXPECTED = Declaration(binary=True, needs_expected=True, inline=True)
BLANK_EXPECTED = Skipped("the expected answer is blank")
NO_NUMBER = "the expected answer has no number"

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
MAX_MISSING = 5  # texts in an explanation
MAX_SHOWN = 80  # characters of a text in an explanation


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


@functools.cache
def normalizer(case: bool, punctuation: bool, articles: bool, whitespace: bool, shorthand: str) -> Normalizer:
    """The normalizer for a scorer's options; `shorthand` is its option `normalize`."""
    if shorthand == "squad":
        return SQUAD
    return Normalizer(case=case, punctuation=punctuation, articles=articles, whitespace=whitespace)


def texts_of(value: str | Sequence[str] | None, option: str = "value") -> tuple[str, ...] | None:
    """The texts of an option that replaces the accepted answers; None if it is not set. Raises ValueError for blank ones."""
    if value is None:
        return None
    texts = (value,) if isinstance(value, str) else tuple(value)
    if not texts or not all(text.strip() for text in texts):
        raise ValueError(f"'{option}' should have at least one text, and no blank one")
    return texts


def are_texts(value: Any) -> bool:
    """Whether `texts_of` takes a value: a text that is not blank, or a list of such texts."""
    if type(value) is str:
        return bool(value) and not value.isspace()
    return type(value) is list and bool(value) and all(type(text) is str and are_texts(text) for text in value)


def binary(value: Sequence[str] | None) -> Declaration:
    """The declaration of a scorer that compares with `value`, or without it with the accepted answers."""
    return OF_EXPECTED if value is None else OF_VALUE


@main_option("value", accepts=are_texts)
def exact_match(
    *,
    value: str | list[str] | None = None,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output equals an accepted answer, else 0. Leading and trailing whitespace is ignored.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    return Scorer(ExactMatch(rule, texts), binary(texts))


@main_option("value", accepts=are_texts)
def contains(
    *,
    value: str | list[str] | None = None,
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
    """1 if the output contains an accepted answer, else 0. With `value`, one of the given texts.

    Args:
        value: Text, or several of them, to look for instead of the accepted answers; samples then need none.
        values: The same as value, for lists.
        mode: Whether any or all of the texts are required.
        negate: Invert the score: 1 if they are not found.
        whole_words: Do not find a text inside a longer word, such as cat in category.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    if value is not None and values is not None:
        raise ValueError("has both 'value' and 'values'; write all texts under 'value'")
    texts = texts_of(value) if values is None else texts_of(values, "values")
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    return Scorer(Contains(rule, texts, mode == "all", negate, whole_words), binary(texts))


@main_option("value", accepts=are_texts)
def contains_any(
    *,
    value: str | list[str] | None = None,
    whole_words: bool = False,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output contains one of several texts, else 0.

    Args:
        value: Texts to look for instead of the accepted answers; samples then need none.
        whole_words: Do not find a text inside a longer word, such as cat in category.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    return Scorer(Contains(rule, texts, False, False, whole_words), binary(texts))


@main_option("value", accepts=are_texts)
def contains_all(
    *,
    value: str | list[str] | None = None,
    whole_words: bool = False,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output contains all of several texts, else 0. The explanation names those that are missing.

    Args:
        value: Texts to look for instead of the accepted answers; samples then need none.
        whole_words: Do not find a text inside a longer word, such as cat in category.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    return Scorer(Contains(rule, texts, True, False, whole_words), binary(texts))


@main_option("value", accepts=are_texts)
def starts_with(
    *,
    value: str | list[str] | None = None,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output starts with an accepted answer, else 0. Whitespace before it is ignored.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    return Scorer(Affix(rule, texts, at_end=False), binary(texts))


@main_option("value", accepts=are_texts)
def ends_with(
    *,
    value: str | list[str] | None = None,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output ends with an accepted answer, else 0. Whitespace after it is ignored.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts.
        ignore_whitespace: Treat any run of whitespace as one space.
        normalize: squad is all four of them, as in the evaluation script of SQuAD.
    """
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    texts = texts_of(value)
    return Scorer(Affix(rule, texts, at_end=True), binary(texts))


@main_option("value", accepts=are_texts)
def token_f1(
    *,
    value: str | list[str] | None = None,
    ignore_case: bool = True,
    ignore_punctuation: bool = True,
    ignore_articles: bool = True,
) -> Scorer:
    """Word overlap of output and accepted answer, 0 to 1. F1 as in SQuAD; the best over the accepted answers.

    Args:
        value: Text, or several of them, to compare with instead of the accepted answers; samples then need none.
        ignore_case: Ignore case.
        ignore_punctuation: Remove ASCII punctuation from both texts.
        ignore_articles: Remove the words a, an and the from both texts; use false for other languages than English.
    """
    rule = Normalizer(case=ignore_case, punctuation=ignore_punctuation, articles=ignore_articles, whitespace=True)
    texts = texts_of(value)
    return Scorer(TokenF1(rule, texts), Declaration(needs_expected=texts is None, inline=True))


@dataclass(frozen=True, slots=True)
class ExactMatch:
    rule: Normalizer
    value: tuple[str, ...] | None = None

    def __call__(self, output: str, sample: Sample) -> bool | Skipped:
        compared = False
        normalized = self.rule(output)
        for answer in sample.expected if self.value is None else self.value:
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

    def __call__(self, output: str, sample: Sample) -> bool | Score | Skipped:
        texts = [text for text in (sample.expected if self.values is None else self.values) if text.strip()]
        if not texts:
            return BLANK_EXPECTED
        if not self.require_all or self.negate:
            return (all if self.require_all else any)(self._finds(texts, output)) != self.negate
        missing = [text for text, is_there in zip(texts, self._finds(texts, output), strict=True) if not is_there]
        return Score(0.0, f"missing: {', '.join(map(quoted, missing[:MAX_MISSING]))}") if missing else True

    def _finds(self, texts: Sequence[str], output: str) -> Iterator[bool]:
        """For each text whether the output has it, lazily."""
        normalized = self.rule(output)
        for text in texts:
            rule, wanted = self.rule.of_answer(text)
            where = normalized if rule is self.rule else rule(output)
            yield contains_whole_words(where, wanted) if self.whole_words else wanted in where


def quoted(text: str) -> str:
    """A text of a suite or an answer in quotes, shortened, for an explanation."""
    return repr(redact_start(text, MAX_SHOWN))


@dataclass(frozen=True, slots=True)
class Affix:
    """Whether the output starts or ends with one of the texts."""

    rule: Normalizer
    value: tuple[str, ...] | None
    at_end: bool

    def __call__(self, output: str, sample: Sample) -> bool | Skipped:
        compared, normalized = False, self.rule(output)
        for answer in sample.expected if self.value is None else self.value:
            rule, wanted = self.rule.of_answer(answer)
            if wanted:
                compared = True
                text = normalized if rule is self.rule else rule(output)
                if text.endswith(wanted) if self.at_end else text.startswith(wanted):
                    return True
        return False if compared else BLANK_EXPECTED


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
    value: tuple[str, ...] | None = None

    def __call__(self, output: str, sample: Sample) -> float | Skipped:
        best: float | None = None
        output_words = Counter(self.rule(output).split())
        for answer in sample.expected if self.value is None else self.value:
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


@main_option("value")
def numeric_match(
    *,
    value: int | float | str | list[int | float | str] | None = None,  # noqa: PYI041  a whole number stays exact
    tolerance: float = 0.0,
    relative: float = 0.0,
) -> Scorer:
    """1 if the last number of the output is right, else 0. It has to equal the last number of an accepted answer.

    An output without a number is wrong; a sample whose accepted answers have none is skipped.

    Args:
        value: Number, or several of them, to compare with instead of the accepted answers; samples then need none.
        tolerance: Maximum absolute difference.
        relative: Maximum difference as a share of the accepted number; the larger of both limits applies.
    """
    if not (0 <= tolerance < float("inf") and 0 <= relative < float("inf")):
        raise ValueError("'tolerance' and 'relative' should be 0 or more")
    items = value if isinstance(value, list | None) else [value]
    texts = None if items is None else texts_of([str(item) for item in items])
    numbers = None if texts is None else tuple(map(last_number, texts))
    if numbers is not None and None in numbers:
        raise ValueError(f"'value' has a text without a number: {texts[numbers.index(None)]!r}")  # type: ignore[index]
    return Scorer(NumericMatch(Decimal(repr(tolerance)), Decimal(repr(relative)), numbers), binary(texts))


@dataclass(frozen=True, slots=True)
class NumericMatch(SampleFilter):
    tolerance: Decimal
    relative: Decimal
    value: tuple[Decimal | None, ...] | None = None

    def __call__(self, output: str, sample: Sample) -> Score | Skipped:
        numbers = map(last_number, sample.expected) if self.value is None else self.value
        wanted = [number for number in numbers if number is not None]
        if not wanted:
            return Skipped(NO_NUMBER)
        last = last_number(output)
        if last is None:
            return Score(0.0, "no number in the output")
        near = any(abs(last - number) <= max(self.tolerance, self.relative * abs(number)) for number in wanted)
        return Score(float(near), f"{last} for {' or '.join(map(str, wanted))}")

    def skip_reason(self, sample: Sample) -> str | None:
        """That no accepted answer has a number; None if one has."""
        return None if self.value is not None or any(map(DIGIT.search, sample.expected)) else NO_NUMBER
