"""Verdicts in the replies of judges, read wherever they are unambiguous and never guessed.

A judge calls a tool, writes JSON with or without a fence, or ends its prose with `Answer: C`. All of these are read. Two
different verdicts are none, and neither is a letter that is a word of the prose. A verdict that the judge only quotes
from the answer that it grades can contradict its own, and never replaces it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

from evalrunner.domain import Completion, Unscored
from evalrunner.reasoning import split_reasoning
from evalrunner.redact import redact_message, redact_start
from evalrunner.scorers.lenient_json import (
    FENCE,
    MAX_DEPTH,
    JsonObject,
    Span,
    decode_nested,
    find_objects,
    parse_call,
    with_pairs,
    without_pairs,
)

Problem: TypeAlias = Literal["cut off", "refused", "filtered", "empty", "two verdicts", "unreadable"]

MAX_QUOTE_LENGTH = 200  # characters of a reply in a reason
MAX_READ_CHARS = 200_000  # of a reply; a longer one is unreadable
MAX_STATEMENTS = 50  # lines of a reply that state a verdict
MAX_PIECES = 1_000  # of a graded text
MAX_NUMBER = 1e9
MAX_VALUE_LENGTH = 2_000  # characters of a value that contains a label

ENDINGS: Final[Mapping[str, Problem]] = {"length": "cut off", "filtered": "filtered", "refused": "refused"}
NOUNS = (
    "choice|answer|verdict|grade|rating|selection|decision|judge?ment|result|option|label|category|classification"
    "|conclusion|evaluation|assessment|score"
)
NUMBER_NOUNS = "score|rating|grade|mark"
REASONS = "reasons?|reasoning|rationale|justification|explanation"
WRAPPERS = frozenset(
    {"arguments", "parameters", "args", "kwargs", "function", "function_call", "tool_call", "tool_calls", "properties",
     "select_choice", "give_verdict"}
)  # fmt: skip
"""Keys of a tool call that a model writes as text, around its arguments."""
OPTION = re.compile(r"\s*\(([^()\n]{1,40})\)\s+\S")
PART_OF_MAXIMUM = re.compile(r"(\d{1,3}) ?(?:/|out of) ?(\d{1,3})")
OPTION_WORD = re.compile(r"^(?:option|choice|letter)\s+(?=\S)")
INVISIBLE = " \t\r\n\f\v\ufeff\u200b\u200e\u200f\u2060"
PAIRS = ("()", "[]", "{}", "<>", "**", "__", "``", '""', "''", "“”", "‘’", "«»", "「」", "【】", "$$")

LINE_END = re.compile(r"\r\n|\n|\r")
MARKUP = re.compile(
    r"(?:`{3,}|~{3,})[\w-]*|</?[\w|:=.-]{1,40}>|<\|[^|>]{0,40}\|>|\[/?[A-Z_]{3,20}\]|[\[\],`*]|(?<![\w.])[\w.]*(?:select_choice|give_verdict)[\w.:]*|\bjson\b",
    re.IGNORECASE,
)
"""What stands around the JSON of a reply without being prose."""
CLOSING_MARK = re.compile(r"</|\[/|◁/|<\||\|>|<unused|assistantfinal|my response:", re.IGNORECASE)
CLOSING_MARK_END = re.compile(r"[\n>\]▷:]|assistantfinal", re.IGNORECASE)
OPEN = r"""(?:\\boxed\{|\\text\{|[\[({<"'`*_“‘「【$\s])*"""
OPEN_OR_COLON = r"""(?:\\boxed\{|\\text\{|[\[({<"'`*_“‘「【$\s:])*"""
"""What may stand before a label. Never beside a repetition that accepts the same characters: that takes quadratic time."""
CLOSE = r"""[\])}>"'`*_”’」】$]*"""
LEAD = (
    r"""^\s*(?:[-+•]\s+|\#{1,6}\s+)?[*_`"'{]*(?:(?:so|thus|therefore|hence|overall|finally|in conclusion|to conclude|in summary"""
    r"""|based on (?:this|the above)[^,\n]{0,40}),?\s+)?(?:(?:the|my|our)\s+)?(?:(?:final|overall|best|selected|chosen)\s+){0,2}"""
)
ENDS = re.compile(r"[\s.,;!}\]*_]*$")
GOES_ON = re.compile(rf"[.,;:]?\s*(?:because|since)\b|[.,;]?\s*(?:{REASONS})\W{{0,3}}[:=]|\s+[-–—(]", re.IGNORECASE)
MENTION_ENDS = re.compile(r"\s*(?:$|[.,;:!?)\]}\"'\n]|(?:because|since|and|but|or|so)\b)", re.IGNORECASE)
TAG = re.compile(r"</?[\w|:=.-]{1,40}(?:\s[^<>]{0,80})?>")
REASONS_TEXT = re.compile(rf"^\W{{0,6}}(?:{REASONS})\W{{0,3}}[:=]\W{{0,3}}\s*", re.IGNORECASE)
BULLETS_AND_SIGNS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")


@dataclass(frozen=True)
class VerdictFormat:
    """What a judge is asked for: a value under `key`, one of `labels`, and its reasons under `reasons`.

    Without labels the value is a whole number. `options` are the lines of the prompt that explain the labels: `(C) …`.
    Not `alone`: the reply has verdicts under other keys too, so only what names the key is one.
    """

    key: str
    reasons: str
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    alone: bool = True

    def match(self, value: Any) -> str | None:
        """The label that a value means, in the spelling of the format; None for any other value.

        Booleans mean true and false, or yes and no, where both are labels.
        """
        if isinstance(value, bool):
            return self._of_bool(value)
        if isinstance(value, int | float):
            value = str(int(value)) if abs(value) < MAX_NUMBER and value == int(value) else str(value)
        if not isinstance(value, str) or len(value) > MAX_VALUE_LENGTH:
            return None
        if value in self.labels:
            return value
        return self.match_bare(value) or self._in_sentence(value)

    def match_bare(self, text: str) -> str | None:
        """The label, or option with its label, that a text consists of, apart from brackets, emphasis, case and a period."""
        plain = plain_label(text)
        if self.labels:
            if (part := PART_OF_MAXIMUM.fullmatch(plain)) is not None and part[2] == self.labels[-1]:
                plain = part[1]
            label = self._by_plain.get(plain) or self._by_plain.get(plain_label(OPTION_WORD.sub("", plain)))
            return label or (self._by_option.get(words_of(text)) if self.options else None)
        return str(int(plain)) if re.fullmatch(r"[+-]?\d{1,9}", plain) else None

    def mentions(self, text: str) -> Iterator[tuple[re.Match[str], str]]:
        """`choice: A`, `the answer is (A)` and the like anywhere in a text, each with its label."""
        for match in self._mention.finditer(text):
            written = match["label"]
            label = self.match_bare(written)
            if label is not None and not _is_word(written, label, match["sign"]):
                yield match, label

    def stated_in(self, texts: Iterable[str]) -> frozenset[str]:
        """The labels that a text states as a verdict: what a judge may quote from the answer that it grades."""
        plain = [unicodedata.normalize("NFKC", text) for text in texts]
        return frozenset(label for text in plain for found in (self.mentions, self.tags) for _, label in found(text))

    def others_in(self, text: str, label: str) -> bool:
        """Whether a text names another label, in brackets, in capitals or as a word."""
        return any(self.match_bare(match[0]) not in (None, label) for match in self._any_label.finditer(text))

    @cached_property
    def _by_plain(self) -> Mapping[str, str]:
        """Labels by their plain form; those that share one are matched only exactly."""
        plain = [plain_label(label) for label in self.labels]
        return {name: label for name, label in zip(plain, self.labels, strict=True) if plain.count(name) == 1}

    @cached_property
    def _by_option(self) -> Mapping[str, str]:
        found = ((OPTION.match(line), line) for line in self.options)
        return {
            words_of(line): self._by_plain.get(plain_label(match[1]), "") for match, line in found if match is not None
        }

    @cached_property
    def _label(self) -> str:
        if not self.labels:
            return r"[+-]?\d{1,9}(?![\d/%]|[.,]\d|\s*(?:/|out of\b))"
        names = sorted(
            (unicodedata.normalize("NFKC", name) for name in self.labels if name.strip()), key=len, reverse=True
        )
        return "|".join(r"[\s_-]+".join(map(re.escape, BULLETS_AND_SIGNS.split(name))) for name in names)

    @cached_property
    def _nouns(self) -> str:
        if not self.alone:
            return re.escape(self.key)
        return f"{re.escape(self.key)}|{NOUNS if self.labels else NUMBER_NOUNS}"

    @cached_property
    def _core(self) -> str:
        return (
            rf"""(?:{self._nouns})(?:\s+(?:choice|answer|option|verdict|letter))?["'”’*_`)]*"""
            rf"""\s*(?P<sign>[:=]|->|→|⇒|\bis\b|\bwould be\b){OPEN_OR_COLON}(?:(?:option|choice|answer|letter)\s{OPEN})?"""
            rf"""(?P<label>{self._label})(?!\w){CLOSE}"""
        )

    @cached_property
    def _mention(self) -> re.Pattern[str]:
        return re.compile(rf"(?<!\w){self._core}", re.IGNORECASE)

    @cached_property
    def _statement(self) -> re.Pattern[str]:
        chosen = r"i(?:'d| would| will|'ll)?\s+(?:choose|select|pick|chose|selected|go with)\s(?:\s*(?:option|choice|answer))?"
        others = rf"{chosen}{OPEN}" if self.alone else r"(?!)"
        return re.compile(rf"{LEAD}(?:{self._core}|{others}(?P<label2>{self._label})(?!\w){CLOSE})", re.IGNORECASE)

    @cached_property
    def _tag(self) -> re.Pattern[str]:
        return re.compile(
            rf"""<(?:\w+\s*(?:=|\sname=)\s*["']?)?(?:{self._nouns})["']?\s*>{OPEN}(?P<label>{self._label})(?!\w){CLOSE}\s*</[^<>]*>""",
            re.IGNORECASE,
        )

    @cached_property
    def _any_label(self) -> re.Pattern[str]:
        flags = 0 if self.labels and all(len(label) == 1 for label in self.labels) else re.IGNORECASE
        return re.compile(rf"(?<![\w'’])(?:{self._label})(?![\w'’])", flags)

    def _of_bool(self, value: bool) -> str | None:
        for yes, no in (("true", "false"), ("yes", "no"), ("pass", "fail")):
            if yes in self._by_plain and no in self._by_plain:
                return self._by_plain[yes if value else no]
        return None

    def _in_sentence(self, value: str) -> str | None:
        """The label of `Choice: C`, `Option C` or `C) It says the same` as the value of a field."""
        value = unicodedata.normalize("NFKC", value).strip()
        if (found := self.statement(value)) is not None:
            return found[0]
        begins = re.match(rf"{OPEN}({self._label})(?:{CLOSE}[:.,)]|[)\]*\"']+)\s+(?=\S)", value)
        if begins is None or not self.labels or self.others_in(value[begins.end() :], begins[1]):
            return None
        return self.match_bare(begins[1])

    def statement(self, line: str) -> tuple[str, str] | None:
        """The label of a line or sentence that does nothing but state a verdict, and what follows; None for any other."""
        match = self._statement.match(line)
        if match is None:
            return None
        written, rest = match["label"] or match["label2"], line[match.end() :]
        label = self.match_bare(written)
        if label is None or _is_word(written, label, match["sign"] or "is"):
            return None
        if ENDS.match(rest) or (GOES_ON.match(rest) and not self.others_in(rest, label)):
            return label, rest
        return None

    def tags(self, text: str) -> Iterator[tuple[re.Match[str], str]]:
        """`<choice>C</choice>` and the like, each with its label."""
        for match in self._tag.finditer(text):
            if (label := self.match_bare(match["label"])) is not None:
                yield match, label


def _is_word(written: str, label: str, sign: str) -> bool:
    """Whether a letter may be a word: `the answer is a …`."""
    return len(written) == 1 and written != label and sign[:1].isalpha()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict in the spelling of its format, with the judge's reasons."""

    label: str
    reasons: str | None = None


@dataclass(frozen=True, slots=True)
class NoVerdict(Unscored):
    """Why a reply has no verdict. `reply` is its text."""

    problem: Problem = "unreadable"
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A verdict somewhere in a reply. `is_own`: the judge states it, so it counts; any other can only contradict."""

    label: str | None
    written: str
    reasons: str | None = None
    is_own: bool = True


def read_verdict(answer: Completion, form: VerdictFormat, graded: Sequence[str] = ()) -> Verdict | NoVerdict:
    """The one verdict of a judge's reply, or why there is none. `graded` are the texts that the judge may quote."""
    reply = reply_text(answer)
    if answer.finish_reason in ENDINGS:
        problem = ENDINGS[answer.finish_reason]
        word = "truncated" if problem == "cut off" else problem
        return NoVerdict("judge", f"the judge's reply was {word}", problem, reply)
    if not answer.tool_calls and not answer.text.strip():
        return NoVerdict("judge", "the judge's reply was empty", "empty", reply)
    candidates = [item for call in answer.tool_calls for item in _in_call(call, form)]
    if answer.text.strip() and len(answer.text) <= MAX_READ_CHARS:
        candidates += _in_text(answer.text, form, _quotable(answer, form, graded))
    return _decide(candidates, form, reply)


@dataclass(frozen=True, slots=True)
class Quotable:
    """The labels that a reply may only quote. `whole`: even where the reply consists of nothing else."""

    labels: frozenset[str] = frozenset()
    whole: bool = False


def _quotable(answer: Completion, form: VerdictFormat, graded: Sequence[str]) -> Quotable:
    """What the judge may quote. A quoted `</think>` makes reasoning of all that is before it, and a reply of what follows."""
    stated = form.stated_in(graded)
    if not answer.reasoning or not any(CLOSING_MARK.search(text) for text in graded):
        return Quotable(stated)
    pieces = (form.match_bare(piece) for text in graded for piece in CLOSING_MARK_END.split(text)[:MAX_PIECES])
    return Quotable(stated | {label for label in pieces if label is not None}, whole=True)


def reply_text(answer: Completion) -> str:
    """What a judge wrote: its text, or the arguments of its first tool call."""
    if answer.text.strip():
        return answer.text
    for call in answer.tool_calls:
        arguments = arguments_of(call)
        if arguments:
            return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ""


def quote_reply(text: str, max_length: int = MAX_QUOTE_LENGTH) -> str:
    """A reply as one short line in quotes, without secrets."""
    line = redact_message(" ".join(redact_start(text, 4 * max_length).split()))
    return repr(line if len(line) <= max_length else line[:max_length] + "…")


def _decide(candidates: Sequence[Candidate], form: VerdictFormat, reply: str) -> Verdict | NoVerdict:
    own = [item for item in candidates if item.is_own]
    if not own:
        only = "only quoted in " if any(item.label is not None for item in candidates) else ""
        return NoVerdict("judge", f"unreadable verdict: {only}{quote_reply(reply)}", "unreadable", reply)
    verdicts = {item.label or item.written: item for item in candidates if item.is_own or item.label is not None}
    if len(verdicts) > 1:
        first, second, *_ = (quote_reply(name, 60) for name in verdicts)
        return NoVerdict("judge", f"two different verdicts: {first} and {second}", "two verdicts", reply)
    if own[0].label is None:
        wanted = f"one of {', '.join(form.labels)}" if form.labels else "a whole number"
        reason = f"unreadable verdict: {quote_reply(own[0].written, 60)} is not {wanted}"
        return NoVerdict("judge", reason[:MAX_QUOTE_LENGTH], "unreadable", reply)
    return Verdict(own[0].label, next((item.reasons for item in own if item.reasons), None))


def _in_call(call: Any, form: VerdictFormat) -> list[Candidate]:
    """The verdicts in a tool call, whatever the tool is called."""
    arguments = arguments_of(call)
    if not isinstance(arguments, str):
        return list(_in_value(with_pairs(arguments), form))
    found = decode_nested(arguments)
    if isinstance(found, JsonObject | list):
        return list(_in_value(found, form))
    text = found if isinstance(found, str) else arguments
    split = split_reasoning(text)
    return _in_text(text if split is None else split.text, form, Quotable())


def arguments_of(call: Any) -> Any:
    """The arguments of a tool call: JSON text or an object; None for anything else."""
    function = call.get("function") if isinstance(call, Mapping) else None
    return function.get("arguments") if isinstance(function, Mapping) else None


def _in_value(value: Any, form: VerdictFormat, *, is_own: bool = True, depth: int = 0) -> Iterator[Candidate]:
    """The verdicts in parsed JSON. One outside of a tool call's own keys is only mentioned."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _in_value(item, form, is_own=is_own, depth=depth + 1)
    if not isinstance(value, JsonObject):
        return
    names = {_folded(name) for name, _ in value.pairs}
    for name, item in value.pairs:
        key = _folded(name)
        if key == form.key:
            yield Candidate(form.match(item), _as_text(item), _reasons(value, form), is_own)
            continue
        wraps = key in WRAPPERS or (key == "input" and "name" in names)
        inner = decode_nested(item) if wraps and isinstance(item, str) else item
        yield from _in_value(inner, form, is_own=is_own and wraps, depth=depth + 1)


def _folded(name: str) -> str:
    return name.strip(" \"'*_:").casefold()


def _reasons(value: JsonObject, form: VerdictFormat) -> str | None:
    wanted = re.compile(rf"{re.escape(form.reasons)}|{REASONS}")
    for name, item in value.pairs:
        if wanted.fullmatch(_folded(name)) and item not in (None, "", []):
            lines = item if isinstance(item, list) else [item]
            return "\n".join(_as_text(line) for line in lines)
    return None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(without_pairs(value), ensure_ascii=False)


def _in_text(text: str, form: VerdictFormat, quotable: Quotable) -> list[Candidate]:
    """The verdicts in a text: JSON, tags, lines and sentences that state one."""
    called = parse_call(text)
    if called is not None:
        return list(_in_value(called, form))
    if text.lstrip().startswith('"') and not isinstance(decoded := decode_nested(text), str):
        return list(_in_value(decoded, form))
    spans = list(find_objects(text))
    prose = _without(text, spans)
    is_alone = not MARKUP.sub("", prose).strip()
    candidates = list[Candidate]()
    for span in spans:
        own = not span.is_nested and _stands_alone(text, span)
        for item in _in_value(span.value, form, is_own=own):
            quoted = item.label in quotable.labels and (quotable.whole or not is_alone)
            reasons = item.reasons or (None if is_alone else _prose_reasons(FENCE.sub("", prose)))
            candidates.append(replace(item, reasons=reasons, is_own=item.is_own and not quoted))
    return [*candidates, *_in_prose(prose, form, quotable, has_object=bool(candidates))]


def _in_prose(text: str, form: VerdictFormat, quotable: Quotable, *, has_object: bool) -> Iterator[Candidate]:
    text, stated = unicodedata.normalize("NFKC", FENCE.sub("\n", text)), quotable.labels
    for tag, label in form.tags(text):
        before, after = text[: tag.start()].rpartition("\n")[2].strip(), text[tag.end() :].partition("\n")[0].strip()
        is_own = label not in stated and before[-1:] in ("", ">") and after[:1] in ("", "<")
        yield Candidate(label, label, _prose_reasons(text.replace(tag[0], "")), is_own)
    lines, seen = [line.strip() for line in LINE_END.split(text) if line.strip()], 0
    if not lines:
        return
    for place, line in enumerate(lines):
        statement, is_alone = form.statement(line), len(lines) == 1
        bare = form.match_bare(line) if statement is None and form.alone and (form.labels or is_alone) else None
        if statement is None and bare is None:
            continue
        seen += 1
        if seen > MAX_STATEMENTS:  # further ones are mentions
            break
        rest = "\n".join((*lines[:place], *lines[place + 1 :]))
        if statement is not None:
            label, inline = statement
            goes_on = place == 0 and bool(REASONS_TEXT.match(inline.strip(" .,;") or rest))
            reasons = _prose_reasons("\n".join(filter(None, (inline.strip(" .,;"), rest))))
            is_own = label not in stated or (not quotable.whole and (is_alone or goes_on))
            yield Candidate(label, line, reasons, is_own)
        elif bare is not None:
            is_first = place == 0 and not form.others_in(rest, bare)
            is_last = place == len(lines) - 1
            is_own = not has_object and (is_first or is_last) and not (quotable.whole and bare in stated)
            yield Candidate(bare, line, _prose_reasons(rest), is_own)
    last = re.split(r"(?<=[.!?])\s+", lines[-1])[-1]
    if last != lines[-1] and (statement := form.statement(last)) is not None:
        yield Candidate(statement[0], last, text.strip(), statement[0] not in stated)
    for match, label in form.mentions(text):
        if MENTION_ENDS.match(text, match.end()) is not None:
            yield Candidate(label, match[0], is_own=False)


def _prose_reasons(text: str) -> str | None:
    """The judge's prose around its verdict, as its reasons."""
    return REASONS_TEXT.sub("", TAG.sub("", text)).strip() or None


def _without(text: str, spans: Sequence[Span]) -> str:
    """The text without its objects."""
    parts, place = list[str](), 0
    for span in spans:
        parts.append(text[place : span.start])
        place = span.end
    return "".join((*parts, text[place:]))


def _stands_alone(text: str, span: Span) -> bool:
    """Whether an object is between lines or sentences; one within a sentence is a quotation."""
    line_end = text.find("\n", span.end)
    before = text[text.rfind("\n", 0, span.start) + 1 : span.start]
    after = text[span.end : len(text) if line_end < 0 else line_end]
    before, after = (MARKUP.sub("", part).strip(" \t\r") for part in (before, after))
    return (not before or before[-1] in ".:!?}") and (re.match(r"[.;]?\s*(?:$|[A-Z{])", after) is not None)


def options_in(prompt: str) -> tuple[str, ...]:
    """The lines of a prompt that explain a label: `(C) It says the same.`"""
    return tuple(dict.fromkeys(line.strip() for line in prompt.split("\n") if OPTION.match(line)))


def words_of(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def plain_label(text: str) -> str:
    """A text without brackets, quotes, emphasis and a final period around it, in lower case."""
    text = unicodedata.normalize("NFKC", text).strip(INVISIBLE)
    boxed = re.fullmatch(r"\\(?:boxed|text)\{(.*)\}", text.strip("$"))
    text = text if boxed is None else boxed[1]
    while text:
        inner = text.rstrip(".,;:!").strip()
        inner = next((inner[1:-1] for pair in PAIRS if len(inner) > 2 and inner[0] + inner[-1] == pair), inner).strip()
        if inner.endswith(")") and "(" not in inner:
            inner = inner[:-1]
        if inner == text:
            break
        text = inner
    return BULLETS_AND_SIGNS.sub(" ", text).casefold()
