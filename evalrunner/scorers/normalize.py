"""Texts made comparable: the steps of SQuAD's normalisation, each by itself, in SQuAD's order.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", `normalize_answer` of
its evaluation script: lower case, then punctuation out, then the articles out, then runs of whitespace to one blank.
"""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass, replace

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
