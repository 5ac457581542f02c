"""Which of several choices an answer names: a letter, or the text of a choice. Never a guess: none, or two, is no choice.

The rules are for English answers; letters alone are read in any language.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from evalrunner.formatting import one_line
from evalrunner.scorers.text import SQUAD, contains_whole_words

MAX_READ: Final = 20_000  # characters at the end of an answer
MAX_SHORT: Final = 8  # words of an answer whose last letter stands for a choice without any mark
MAX_JOINED: Final = 20  # characters before a letter in which another one may stand: `A or B`
MAX_EVIDENCE: Final = 60  # characters of an answer in a detail

BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
LATEX = re.compile(r"\\(?:text|textbf|textit|mathbf|mathrm|mathit)\s*\{|\\[()\[\]]|\$")
EMPHASIS = re.compile(r"[*_`\"“”„]+")
BRACKETS = str.maketrans("{}[]（）：", "()()():")
CUE = (
    r"(?i:\b(?:answer|solution|choice|option|pick|choose|chose|choosing|select|selecting|go\ with|going\ with)\b"
    r"(?:\s+(?:to|for)\s+(?:this|the)\s+question)?"
    r"(?:\s*(?:\bis\b|\bwas\b|\bwould\ be\b|\bshould\ be\b|\bmust\ be\b|\btherefore\b|\bthus\b|\boption\b|\bchoice\b|\banswer\b"
    r"|\bletter\b|[:=–-]|\#+)){0,4})\s*"
)
DENIAL = re.compile(
    r"(?i:\b(?:not|neither|nor|except|exclude|excluding|eliminate|eliminating|out|unlike|than)\b|n['’]t\b)[\s,]*(?i:option|choice|answer)?\s*\(?\Z"
)
REJECTION = re.compile(
    r"\s*\)?\s*(?i:(?:is|are|was|seems|would\s+be)\s+(?:not|wrong|incorrect|false)\b|(?:is|was|ca)n['’]t\b|cannot\b)"
)
ANSWER_TEXT = re.compile(
    r"(?i:\banswer\b(?:\s+(?:is|was|would\ be|should\ be|must\ be)\b)?)\s*[:=–-]?\s*(?P<rest>[^\n]{1,400})", re.VERBOSE
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The label of the choice that an answer names, None if it names none or several; `evidence` says where it was read."""

    label: str | None
    evidence: str = ""
    candidates: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why there is no choice."""
        if self.candidates:
            return f"names {' and '.join(self.candidates[:5])}"
        return "names no choice"


NONE: Final = Reading(None)


def read_choice(text: str, labels: Iterable[str], texts: Mapping[str, str] | None = None) -> Reading:
    """The choice that an answer names. `labels` are single letters or digits, `texts` what stands behind them, if known."""
    rules = _rules("".join(labels))
    plain = _plain(text[-MAX_READ:])
    if not plain:
        return NONE
    exact = _equal_texts(plain, texts or {})
    letter = rules.by_letter(plain)
    if exact:
        named = tuple(dict.fromkeys([*exact, *([letter.label] if letter.label else [])]))
        return Reading(named[0], one_line(plain, MAX_EVIDENCE)) if len(named) == 1 else Reading(None, candidates=named)
    if letter.label is not None or letter.candidates or not texts:
        return letter
    return _by_text(plain, texts)


def _plain(text: str) -> str:
    """The text without Markdown emphasis and LaTeX; what is in a box is an answer."""
    text = BOXED.sub(" answer: (", text)
    text = LATEX.sub(" ", text)
    return EMPHASIS.sub("", text).translate(BRACKETS).strip()


@functools.lru_cache(maxsize=64)
def _rules(labels: str) -> _LetterRules:
    return _LetterRules(labels)


class _LetterRules:
    """The patterns that find letters of a set. Lower case counts only where no word can be meant."""

    def __init__(self, labels: str) -> None:
        both = re.escape(labels + labels.lower())
        one = rf"(?P<label>[{both}])"
        last = r"(?![\w'’])"  # no letter of a word
        self.labels = labels
        self.alone = re.compile(rf"\(?\s*{one}\s*[).:]{{0,2}}")
        self.cue = re.compile(CUE.replace(r"\ ", r"[ ]") + rf"\(?\s*{one}{last}(?P<closing>\s*\))?")
        self.verdict = re.compile(
            rf"\(?(?<!\w){one}{last}\s*\)?\s+(?i:(?:is|seems|looks)\s+(?:the\s+)?(?:most\s+likely\s+)?(?:correct|right|best|true)\b)"
        )
        self.start = re.compile(rf"\(?\s*{one}\s*(?:[).:,]|\s[–-]\s|\n|$)")
        self.marked = re.compile(
            rf"\(\s*{one}\s*\)|(?<!\w)(?P<before>[{re.escape(labels)}])[).:](?!\w)"
            rf"|(?i:\b(?:option|choice|answer)\s+)(?P<named>[{re.escape(labels)}]){last}"
        )
        capital = rf"(?P<label>[{re.escape(labels)}])"
        joined = r"\s*\)?\s*(?:,|/|&|(?i:and|or)\b)\s*\(?\s*"
        self.last = re.compile(rf"(?<![\w'’.]){capital}\W*\Z")
        self.also = re.compile(rf"{joined}{capital}{last}")
        self.before = re.compile(rf"(?<![\w'’]){capital}{joined}\Z")

    def by_letter(self, text: str) -> Reading:
        """The letter that a text names: after a cue (the last one counts), alone, at its start, or marked."""
        cues = [*self._cues(text)]
        if cues:
            return self._with_alternatives(max(cues, key=re.Match.end), text)
        lines = text.split("\n")
        for line in (text, lines[-1].strip()):
            if (match := self.alone.fullmatch(line)) is not None:
                return self._reading(match["label"], line)
        places = [match for match in self.marked.finditer(text) if not _is_denied(match, text)]
        marked = list(dict.fromkeys(self._upper(next(filter(None, match.groups()))) for match in places))
        start = self.start.match(text)
        if start is not None and not (start["label"] in "aiAI" and start[0][-1:] == ","):
            label = self._upper(start["label"])
            if set(marked) <= {label}:
                return self._with_alternatives(start, text)
        if not marked and len(text.split()) <= MAX_SHORT:
            end = self.last.search(text)
            if end is not None and not _is_denied(end, text):
                return self._with_alternatives(end, text)
        if len(marked) == 1:
            return self._reading(marked[0], text)
        return Reading(None, candidates=tuple(marked))

    def _cues(self, text: str) -> Iterable[re.Match[str]]:
        for match in self.cue.finditer(text):
            if self._is_label(match, text):
                yield match
        for match in self.verdict.finditer(text):
            if self._is_label(match, text) or match["label"] in self.labels:
                yield match

    def _is_label(self, match: re.Match[str], text: str) -> bool:
        """Whether a letter is no word: `I` and lower-case letters must not be followed by one, and `A` must not without a cue."""
        label, after = match["label"], text[match.end() : match.end() + 2]
        if "closing" in match.re.groupindex and match["closing"]:
            return True
        followed = len(after) == 2 and after[0].isspace() and after[1].isalnum()
        if label in self.labels and label not in "AI":
            return True
        if label == "A" and match.re is self.cue and label in self.labels:
            return True
        return not followed

    def _with_alternatives(self, match: re.Match[str], text: str) -> Reading:
        """The letter of a match, unless another one is named beside it: `A or B`."""
        label = self._upper(match["label"])
        start, end = match.span("label")
        for other in (self.before.search(text[max(0, start - MAX_JOINED) : start]), self.also.match(text, end)):
            if (
                other is not None
                and other["label"] != label
                and (other.re is self.before or self._is_label(other, text))
            ):
                return Reading(None, candidates=tuple(sorted((label, other["label"]))))
        return self._reading(label, match[0])

    def _upper(self, letter: str) -> str:
        return letter if letter in self.labels else letter.upper()

    def _reading(self, letter: str, evidence: str) -> Reading:
        return Reading(self._upper(letter), one_line(evidence.strip(), MAX_EVIDENCE))


def _is_denied(match: re.Match[str], text: str) -> bool:
    """Whether a letter is named as no answer: `not A`, `B is wrong`."""
    start, end = next(match.span(group) for group in match.re.groupindex if match[group])
    return DENIAL.search(text[max(0, start - 30) : start]) is not None or REJECTION.match(text, end) is not None


def _equal_texts(text: str, texts: Mapping[str, str]) -> list[str]:
    """The labels of the choices whose text is the answer."""
    if len(text) > 4 * max(map(len, texts.values()), default=0) + 100:
        return []
    return [
        label for label, choice in texts.items() if (rule := SQUAD.of_answer(choice))[1] and rule[0](text) == rule[1]
    ]


def _by_text(text: str, texts: Mapping[str, str]) -> Reading:
    """The choice whose text stands after `answer:`, else the only one whose text is in the answer as whole words."""
    for cue in reversed(list(ANSWER_TEXT.finditer(text))):
        starts = {
            label: wanted
            for label, choice in texts.items()
            if (wanted := _text_inside(cue["rest"], choice, start=True))
        }
        if starts:
            return _only(starts, cue["rest"])
    return _only({label: wanted for label, choice in texts.items() if (wanted := _text_inside(text, choice))}, text)


def _only(inside: Mapping[str, str], text: str) -> Reading:
    """The one label of these texts, leaving out texts that are a part of another one."""
    names = [
        label
        for label, wanted in inside.items()
        if not any(wanted != other and wanted in other for other in inside.values())
    ]
    return (
        Reading(names[0], one_line(text.strip(), MAX_EVIDENCE))
        if len(names) == 1
        else Reading(None, candidates=tuple(names))
    )


def _text_inside(text: str, choice: str, *, start: bool = False) -> str | None:
    """The text of a choice, normalized, if a text has it as whole words, or starts with it."""
    rule, wanted = SQUAD.of_answer(choice)
    where = rule(text)
    if start:
        where = where[: len(wanted) + 1] if where.startswith(wanted) else ""
    return wanted if wanted and contains_whole_words(where, wanted) else None
