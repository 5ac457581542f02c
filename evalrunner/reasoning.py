"""Reasoning inside the text of an answer: the marks of model families, and an answer split from what stands in them.

Servers without a parser for a family send its marks as text. `split_reasoning` finds whole blocks, blocks whose opening
mark was part of the prompt, and blocks that never end. Marks that are quoted as code are a part of the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from evalrunner.domain import Completion, Failure, FinishReason

MARKS: Final = (
    (r"<think(?:\s[^<>]*)?>", r"</think\s*>"),  # DeepSeek, Qwen, GLM, Nemotron, MiniMax and many more
    (r"<seed:think>", r"</seed:think>"),  # Seed-OSS
    (r"<mm:think>", r"</mm:think>"),
    (r"<ant_?thinking>", r"</ant_?thinking>"),  # Claude
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # Sky-T1, OpenThinker
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    (r"<\|thinking\|>", r"<\|/thinking\|>"),
    (r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)[^<]{0,80}<\|message\|>",
     r"<\|end\|>|(?=(?:<\|start\|>assistant)?<\|channel\|>final)"),  # gpt-oss
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma
    (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
    (r"<longcat_think>", r"</longcat_think>"),
    (r"<\|think\|>", r"<\|end\|>"),  # Solar
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<details type=\"reasoning\"[^<>]*>", r"</details>"),  # Open WebUI
)  # fmt: skip
"""Opening and closing marks that mean reasoning wherever they are."""

LEADING_MARKS: Final = (
    (r"<thinking>", r"</thinking>"),  # Claude, Reflection
    (r"<thoughts?>", r"</thoughts?>"),  # Gemini, EXAONE
    (r"<reasoning>", r"</reasoning>"),
    (r"<reflection>", r"</reflection>"),
    (r"<scratch_?pad>", r"</scratch_?pad>"),
    (r"<inner_?(?:monologue|thoughts?)>", r"</inner_?(?:monologue|thoughts?)>"),
    (r"<chain_of_thought>", r"</chain_of_thought>"),
    (r"<thought_process>", r"</thought_process>"),
    (r"Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:"),  # Granite
    (r"analysis ?(?=[A-Z])", r"assistant(?:<\|channel\|>)?final"),  # gpt-oss without its special tokens
)
"""Marks that are ordinary words or tags too: they count only at the start of an answer."""

WRAPPERS: Final = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>final[^<]{0,80}(?:<\|constrain\|>\w{0,20})?<\|message\|>|<\|return\|>|<\|end\|>"
    r"|<\|(?:begin|end)_of_solution\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>|<\|begin\|>assistant<\|content\|>|<\|flush\|>"
    r"|<\|(?:begin|end)_of_box\|>",
    re.IGNORECASE,
)
"""Marks around the answer itself, which are removed together with the reasoning."""

MAX_LINE = 2_000  # characters after a mark in which the end of a quoted code is looked for
MAX_MARKS = 500  # in one answer; what comes after more of them is left as it is

_ONLY_CLOSED = frozenset({"analysis ?(?=[A-Z])", r"Here(?:'s| is) my thought process:"})  # ordinary text unless closed
_NEVER_HALF_OPEN = frozenset({"</details>"})


def _pattern(mark: str) -> str:
    return f"(?i:{mark})" if mark[0] in "<[◁(" else f"(?:{mark})"


_OPENS = re.compile("|".join(f"({_pattern(mark)})" for mark, _ in MARKS))
_LEADS = re.compile("|".join(f"({_pattern(mark)})" for mark, _ in LEADING_MARKS))
_CLOSES = tuple(re.compile(_pattern(close)) for _, close in MARKS)
_LEAD_CLOSES = tuple(re.compile(_pattern(close)) for _, close in LEADING_MARKS)
_HALF_OPEN = re.compile(
    "|".join(
        _pattern(close)
        for _, close in (*MARKS, *LEADING_MARKS)
        if (close.startswith(("</", r"\[/", "◁/", r"<\|END", r"<\|end_of", r"<\|/", "<unused")))
        and close not in _NEVER_HALF_OPEN
    )
)
_HINTS = (
    "think", "thought", "reasoning", "reflection", "scratchpad", "scratch_pad", "innermonologue", "inner_monologue", "<|", "|>",
    "<unused9",
)  # fmt: skip
"""In lower case; nearly no other answer has one."""
_TAG_CLOSES = re.compile(r"(?i:</(?:think|thinking|thoughts?|reasoning|reflection)\s*>)")  # of models that mix them up
_FENCES = ("```", "~~~")
_ABOUT = re.compile(
    r"[ \t]*[:：,;|)\]}=–—*]|[ \t]+(?:tags?|tokens?|elements?|markers?|blocks?|sections?|is|are|opens?|starts?|begins?|closes?|ends?|marks?|means|and|or"
    r"|to|at|with|when|before|after|in|in the)\b"
)
"""What follows a mark that a sentence mentions."""
_GOES_ON = re.compile(r"[ \t]+[a-z]|[ \t]*[.,;:)|]|\s*\Z")  # a sentence after a mark that it mentions
_LIST_ITEM = re.compile(r"\s*(?:\d+[.)]|[-*+•])\s*")
_SENTENCE_ENDS = frozenset(".!?…。！？>")
_BINDING = frozenset("([{|=+,/\\\"'`“‘«")  # signs before a mark in code and in quotes
_PREFIXES = re.compile(
    r"[\u200b\ufeff]+|(?:<\|im_start\|>)?assistant\n+"
)  # what some templates leave before the first mark
_QUOTES = frozenset("`'\"“”‘’«»")


@dataclass(frozen=True, slots=True)
class SplitAnswer:
    """An answer without its reasoning. `is_open`: the reasoning never ended, so the answer is not complete."""

    text: str
    reasoning: str
    is_open: bool = False


def split_reasoning(text: str) -> SplitAnswer | None:
    """The answer and its reasoning, or None for an answer without the mark of any family."""
    if not _may_have_marks(text):
        return None
    prefix = _PREFIXES.match(text)
    if prefix is not None and (_OPENS.match(text, prefix.end()) or _LEADS.match(text, prefix.end())):
        text = text[prefix.end() :]
    start = _half_open_end(text)
    thoughts = [text[: start.start()]] if start is not None else []
    place = 0 if start is None else start.end()
    kept = ""
    for _ in range(MAX_MARKS):
        opening = _next_open(text, place, at_start=not kept.strip())
        if opening is None:
            break
        mark, close = opening
        kept += text[place : mark.start()]
        end = _close(close, text, mark)
        if end is None:
            return SplitAnswer(_clean(kept), _joined([*thoughts, text[mark.end() :]]), is_open=True)
        thoughts.append(text[mark.end() : end.start()])
        place = end.end()
    if not thoughts and WRAPPERS.match(text.lstrip()) is None:
        return None
    return SplitAnswer(_clean(kept + text[place:]), _joined(thoughts))


def _may_have_marks(text: str) -> bool:
    """Whether a text may have a mark: one pass for each hint takes a tenth of the time of a pattern of all."""
    folded = text.casefold()
    return text.startswith("analysis") or any(hint in folded for hint in _HINTS)


def _half_open_end(text: str) -> re.Match[str] | None:
    """The closing mark of reasoning whose opening mark was part of the prompt: the last one that an answer follows."""
    last: re.Match[str] | None = None
    place = 0
    for _ in range(MAX_MARKS):
        match = _unquoted(_HALF_OPEN, text, place)
        if match is None or _OPENS.search(text, place, match.start()) or _LEADS.search(text, place, match.start()):
            break
        if not _mentions_end(text, match) and (last is None or text[match.end() :].strip()):
            last = match
        place = match.end()
    return last


def _next_open(text: str, place: int, *, at_start: bool) -> tuple[re.Match[str], re.Pattern[str]] | None:
    """The next opening mark and the pattern of its closing mark."""
    first = place
    if at_start:
        start = place + len(text[place:]) - len(text[place:].lstrip())
        lead = _LEADS.match(text, start)
        if lead is not None:
            mark, close = LEADING_MARKS[(lead.lastindex or 1) - 1][0], _LEAD_CLOSES[(lead.lastindex or 1) - 1]
            found = close.search(text, lead.end())
            if (mark not in _ONLY_CLOSED or found is not None) and not _mentions(text, lead, first, found):
                return lead, close
    for _ in range(MAX_MARKS):
        match = _unquoted(_OPENS, text, place)
        if match is None:
            return None
        close = _CLOSES[(match.lastindex or 1) - 1]
        line = text[max(first, text.rfind("\n", 0, match.start()) + 1) : match.start()]
        end = close.search(text, match.end())
        if (not line.strip() or end is not None) and not _mentions(text, match, first, end):
            return match, close
        place = match.end()  # within a line, a mark without an end is a word
    return None


def _mentions(text: str, mark: re.Match[str], first: int, end: re.Match[str] | None) -> bool:
    """Whether text speaks of an opening mark, as in "the <think> tag", rather than opens a block of reasoning with it.

    `first` is where the text after the last block begins, `end` the closing mark.
    """
    start = text.rfind("\n", 0, mark.start()) + 1
    line = text[max(first, start) : mark.start()]
    about = _ABOUT.match(text, mark.end()) is not None
    if line.strip() and _LIST_ITEM.fullmatch(line):
        return about
    if not line.strip():
        if (
            start > first and text[first:start].strip() and (line.startswith(("    ", "\t")))
        ):  # an indented block of code
            return True
        one_line = end is not None and "\n" not in text[mark.end() : end.start()].strip()
        return about and end is not None and one_line and _GOES_ON.match(text, end.end()) is not None
    if line.lstrip()[0] in ">|":  # a quotation or a table
        return True
    if first > start:  # after a block of reasoning
        return about
    if line[-1].isspace() and line.rstrip()[-1] not in _SENTENCE_ENDS:
        return about or end is None or text.startswith("<", end.end()) or _GOES_ON.match(text, end.end()) is not None
    return about or line[-1] in _BINDING


def _mentions_end(text: str, mark: re.Match[str]) -> bool:
    """Whether text speaks of a closing mark."""
    line = text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]
    if not line.strip():
        return False
    if _LIST_ITEM.fullmatch(line):
        return _ABOUT.match(text, mark.end()) is not None
    if line[-1] in _BINDING - _QUOTES or line.lstrip()[0] in ">|":
        return True
    return (
        line[-1].isspace() and line.rstrip()[-1] not in _SENTENCE_ENDS and _GOES_ON.match(text, mark.end()) is not None
    )


def _close(close: re.Pattern[str], text: str, mark: re.Match[str]) -> re.Match[str] | None:
    """The end of a block: the first closing mark that is not quoted and closes no block inside of it, else the last one."""
    start = mark.end()
    last: re.Match[str] | None = None
    quoted: re.Match[str] | None = None
    nested, place = 0, start
    for _, match in zip(range(MAX_MARKS), close.finditer(text, start), strict=False):
        if _is_quoted(text, match, start) or _mentions_end(text, match):
            quoted = match
            continue
        nested += sum(opening.group() == mark.group() for opening in _OPENS.finditer(text, place, match.start()))
        last, place = match, match.end()
        if nested == 0:
            return match
        nested -= 1
    if last is None and mark.group().startswith("<") and mark.group().endswith(">") and "|" not in mark.group():
        return _unquoted(_TAG_CLOSES, text, start) or quoted
    return last or quoted


def _unquoted(pattern: re.Pattern[str], text: str, start: int) -> re.Match[str] | None:
    matches = zip(range(MAX_MARKS), pattern.finditer(text, start), strict=False)
    return next((match for _, match in matches if not _is_quoted(text, match)), None)


def _is_quoted(text: str, mark: re.Match[str], start: int = 0) -> bool:
    """Whether a mark is in a fence of code, in backticks, or between quotes, reading from `start`."""
    place, end = mark.span()
    if start < place and end < len(text) and text[place - 1] in _QUOTES and text[end] in _QUOTES:
        return True
    if any(text.count(fence, start, place) % 2 == 1 and text.find(fence, end) >= 0 for fence in _FENCES):
        return True
    before = text[max(start, text.rfind("\n", 0, place) + 1) : place].replace(_FENCES[0], "")
    after = text[end : text.find("\n", end) if "\n" in text[end : end + MAX_LINE] else end + MAX_LINE]
    return before.count("`") % 2 == 1 and "`" in after


def _clean(text: str) -> str:
    """The answer without the marks around it, and without a closing mark that is repeated at its end."""
    text = WRAPPERS.sub("", text).lstrip()
    for match in _HALF_OPEN.finditer(text, max(0, len(text) - 40)):
        if not text[match.end() :].strip():
            return text[: match.start()].rstrip()
    return text


def _joined(thoughts: list[str]) -> str:
    return "\n\n".join(thought.strip() for thought in thoughts if thought.strip())


def strip_reasoning(answer: Completion | Failure) -> Completion | Failure:
    """The answer with the reasoning in its text set apart. One that is all reasoning is no answer: `length` or `empty`."""
    if isinstance(answer, Failure):
        return answer
    split = split_reasoning(answer.text)
    if split is None:
        return answer
    own = answer.reasoning or ""
    reasoning = split.reasoning if not own or split.reasoning in own else f"{own}\n\n{split.reasoning}"
    reason: FinishReason = answer.finish_reason
    if reason in ("stop", "tool_calls") and split.is_open and not answer.tool_calls:
        reason = "length"
    elif reason == "stop" and not split.text.strip():
        reason = "empty"
    return replace(answer, text=split.text, reasoning=reasoning or own or None, finish_reason=reason)
