"""Scorers that compare the output with the accepted answers as text, and the normalization that they share."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalrunner.domain import Declaration, Sample, Scorer, Skipped

PUNCTUATION = str.maketrans("", "", string.punctuation)  # SQuAD's: the 32 signs of ASCII, no typographic quotes
ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
ARTICLES_WITH_GAP = re.compile(r"\b(?:a|an|the)\b\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalizer:
    """Text to the form in which it is compared; always in Unicode's NFC and without blanks at its ends."""

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
            # Where runs of blanks count, an article takes the blanks after it along and leaves no hole.
            text = ARTICLES.sub(" ", text) if self.whitespace else ARTICLES_WITH_GAP.sub("", text)
        return " ".join(text.split()) if self.whitespace else text.strip()

    def of_answer(self, answer: str) -> tuple[Normalizer, str]:
        """An accepted answer in the form to compare with, and the steps that its counterpart then goes through.

        They are fewer where all of them would leave nothing of the answer (`A`, `the`, `+`): SQuAD's script makes
        the empty text of such a one, which then equals any other text that it empties.
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
    """The steps that a scorer's options ask for; `shorthand` is its option `normalize`."""
    if shorthand == "squad":
        return SQUAD
    return Normalizer(case=case, punctuation=punctuation, articles=articles, whitespace=whitespace)


__all__ = ["contains", "exact_match", "token_f1"]

BLANK_EXPECTED = Skipped("the expected answer is blank")
BINARY = Declaration(binary=True, needs_expected=True, inline=True)


def exact_match(
    *,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_articles: bool = False,
    ignore_whitespace: bool = False,
    normalize: Literal["none", "squad"] = "none",
) -> Scorer:
    """1 if the output equals one of the accepted answers, else 0; blanks around either never count.

    Args:
        ignore_case: Take upper and lower case for the same.
        ignore_punctuation: Leave the punctuation of ASCII out of both texts.
        ignore_articles: Leave the words a, an and the out of both texts.
        ignore_whitespace: Take any run of blanks and line breaks for one blank.
        normalize: squad is all four of them, as in SQuAD's own evaluation.
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
    """1 if an accepted answer, or one of the given texts, stands somewhere in the output, else 0.

    Args:
        values: Look for these texts instead of the accepted answers; samples then need none.
        mode: Whether any or all of the texts have to be there.
        negate: Turn the score around: 1 if they are not there.
        whole_words: Do not find a text inside a longer word, such as cat in category.
        ignore_case: Take upper and lower case for the same.
        ignore_punctuation: Leave the punctuation of ASCII out of both texts.
        ignore_articles: Leave the words a, an and the out of both texts.
        ignore_whitespace: Take any run of blanks and line breaks for one blank.
        normalize: squad is all four of them, as in SQuAD's own evaluation.
    """
    if values is not None and (not values or not all(value.strip() for value in values)):
        raise ValueError("'values' should hold at least one text, and none that is blank")
    rule = normalizer(ignore_case, ignore_punctuation, ignore_articles, ignore_whitespace, normalize)
    function = Contains(rule, None if values is None else tuple(values), mode == "all", negate, whole_words)
    return Scorer(function, Declaration(binary=True, needs_expected=values is None, inline=True))


def token_f1(*, ignore_case: bool = True, ignore_punctuation: bool = True, ignore_articles: bool = True) -> Scorer:
    """How far the words of output and accepted answer agree (F1 as in SQuAD), best over the accepted answers.

    Args:
        ignore_case: Take upper and lower case for the same.
        ignore_punctuation: Leave the punctuation of ASCII out of both texts.
        ignore_articles: Leave the words a, an and the out of both texts; false for languages other than English.
    """
    rule = Normalizer(case=ignore_case, punctuation=ignore_punctuation, articles=ignore_articles, whitespace=True)
    return Scorer(TokenF1(rule), Declaration(needs_expected=True, inline=True))


@dataclass(frozen=True, slots=True)
class ExactMatch:
    rule: Normalizer

    def __call__(self, output: str, sample: Sample) -> bool | Skipped:
        compared = False
        said = self.rule(output)
        for answer in sample.expected:
            rule, wanted = self.rule.of_answer(answer)
            if wanted and wanted == (said if rule is self.rule else rule(output)):
                return True
            compared = compared or bool(wanted)
        return False if compared else BLANK_EXPECTED


@dataclass(frozen=True, slots=True)
class Contains:
    rule: Normalizer
    values: tuple[str, ...] | None
    all_of_them: bool
    negate: bool
    whole_words: bool

    def __call__(self, output: str, sample: Sample) -> bool | Skipped:
        texts = [text for text in (sample.expected if self.values is None else self.values) if text.strip()]
        if not texts:
            return BLANK_EXPECTED
        found = all(self._finds(texts, output)) if self.all_of_them else any(self._finds(texts, output))
        return found != self.negate

    def _finds(self, texts: Sequence[str], output: str) -> Iterator[bool]:
        """For each text whether it is there, as far as it is asked for."""
        said = self.rule(output)
        for text in texts:
            rule, wanted = self.rule.of_answer(text)
            where = said if rule is self.rule else rule(output)
            yield has_whole(where, wanted) if self.whole_words else wanted in where


def has_whole(text: str, wanted: str) -> bool:
    """Whether `wanted` is in `text` without a letter, digit or underscore running on at either end of it."""
    place = text.find(wanted)
    while place >= 0:
        end = place + len(wanted)
        if not (_joined(text, place) or _joined(text, end)):
            return True
        place = text.find(wanted, place + 1)
    return False


def _joined(text: str, place: int) -> bool:
    """Whether the characters before and at `place` belong to one word."""
    return 0 < place < len(text) and _in_word(text[place - 1]) and _in_word(text[place])


def _in_word(sign: str) -> bool:
    return sign.isalnum() or sign == "_"


@dataclass(frozen=True, slots=True)
class TokenF1:
    rule: Normalizer

    def __call__(self, output: str, sample: Sample) -> float | Skipped:
        best: float | None = None
        said = Counter(self.rule(output).split())
        for answer in sample.expected:
            rule, wanted = self.rule.of_answer(answer)
            if wanted:
                words = said if rule is self.rule else Counter(rule(output).split())
                agreed = overlap_f1(words, Counter(wanted.split()))
                best = agreed if best is None else max(best, agreed)
        return BLANK_EXPECTED if best is None else best


def overlap_f1(said: Counter[str], wanted: Counter[str]) -> float:
    """F1 of two bags of words, 0..1: twice what they share by the sum of their sizes."""
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total()) if shared else 0.0
