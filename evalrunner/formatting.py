"""Numbers, durations, and untrusted text that is safe to print."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evalrunner.redact import redact, redact_start
from evalrunner.spelling import Spelled, exact_json

if TYPE_CHECKING:
    from rich.table import Table

# C1 controls, separators of lines, marks and overrides of the direction, fillers, tags, noncharacters, halves of surrogate
# pairs, and all other characters that Unicode calls invisible, but for those below
ALWAYS_HIDDEN = (
    r"\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef"
    r"\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff"
    r"\U000e01f0-\U000e0fff"
)
_JOINED = r"\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1820-\u18af\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"
_PICTURES = r"\u2190-\u2bff\u3030\u303d\U0001f000-\U0001faff"
_SELECTED = rf"0-9#*\xa9\xae\u203c\u2049\u2122\u2139{_PICTURES}\u2e80-\u2fff\u3005-\u3029\u3041-\u3163\u3165-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
# A joiner belongs after a letter of Arabic, Indic and related scripts, or between two pictures; a selector of a variation after
# a picture, a digit or an ideograph. Elsewhere, and in rows, they hide text.
_HIDING = r"\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
_MISPLACED = (
    rf"(?<=\u200c)(?<![{_JOINED}].)"
    rf"|(?<=\u200d)(?:(?<![{_JOINED}{_PICTURES}\ufe0f].)|(?<=[{_PICTURES}\ufe0f].)(?![{_PICTURES}]))"
    rf"|(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])(?<![{_SELECTED}].)|(?<=[\u180b-\u180d\u180f])(?<![\u1820-\u18af].)"
)


def _hidden(more: str = "") -> re.Pattern[str]:
    """A pattern of one hidden character, or one of `more`. It begins with a set, so that the search skips all others fast."""
    return re.compile(rf"[{more}{ALWAYS_HIDDEN}{_HIDING}](?:(?<=[{more}{ALWAYS_HIDDEN}])|{_MISPLACED})")


HIDDEN = _hidden()
UNSAFE = _hidden(r"\x00-\x1f")
UNSAFE_IN_CELL = _hidden(r"\x00-\x08\x0b\x0c\x0e-\x1f")  # tabs and line ends are data
# characters at which spreadsheets start a formula, also the wide ones of East Asian input, or which they skip before one
FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
DASH = "–"
MAX_DIGITS = 15  # more than usual, that a number can get: a float has 17
# What a line of a log begins with, or holds, to give a command to the machine that reads it: `::error` of GitHub,
# `##[…]` and `##vso[…]` of GitHub and Azure, `##teamcity[…]`
COMMAND = re.compile(r"::|##(?=\w*\[)")
LOG_READERS = ("GITHUB_ACTIONS", "TF_BUILD", "TEAMCITY_VERSION")
LOG_HAS_READER = any(os.environ.get(name) for name in LOG_READERS)


def without_commands(text: str) -> str:
    """`text` without workflow commands: a zero-width space breaks their marks."""
    return COMMAND.sub(lambda match: f"{match.group()[0]}\u200b{match.group()[1:]}", text)


def for_log(text: str) -> str:
    """`text` as it may be printed: without workflow commands where a CI system reads the log."""
    return without_commands(text) if LOG_HAS_READER else text


def json_for_log(data: Any) -> str:
    """Data as indented JSON, without workflow commands where a CI system reads the log."""
    text = json.dumps(data, indent=2)
    return text.replace("##", "#\\u0023") if LOG_HAS_READER else text  # within a text only: JSON has no # elsewhere


def escape_controls(text: str) -> str:
    r"""`text` with control, direction and invisible characters as escapes such as `\x1b` and `\u202e`."""
    if text.isascii() and text.isprintable():  # nearly always, and ten times as fast
        return text
    return UNSAFE_IN_CELL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def guard_formula(text: str) -> str:
    """Text that is safe for spreadsheets: a formula gets an apostrophe, numbers do not.

    So does a formula with apostrophes before it, which makes `unguard_formula` exact.
    """
    return "'" + text if _is_formula(text) else text


def unguard_formula(text: str) -> str:
    """The text that `guard_formula` was given."""
    return text[1:] if text[:1] == "'" and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    if text[:1] == "'":
        text = text.lstrip("'")
    if text[:1] not in FORMULA:
        return False
    try:
        float(text)
    except ValueError:
        return True
    return text.strip() != text


def one_line(text: str, limit: int) -> str:
    """`text` on one line without control characters, API keys or workflow commands, cut to `limit` characters."""
    cut = redact_start(text, 4 * limit)
    is_plain = cut.isascii() and cut.isprintable()  # nearly always
    clean = " ".join((cut if is_plain else UNSAFE.sub(" ", cut)).split())
    if LOG_HAS_READER:
        clean = without_commands(clean)
    return clean if len(clean) <= limit and len(text) <= 4 * limit else clean[: limit - 1] + "…"


def one_lines(texts: Sequence[str], limit: int) -> list[str]:
    """`one_line` of each text; together they are searched for keys once, which is most of its time."""
    whole = " ".join(texts)
    is_short = len(whole) <= 4 * limit * len(texts)
    if not (is_short and whole.isascii() and whole.isprintable() and redact(whole) == whole):
        return [one_line(text, limit) for text in texts]
    lines = [" ".join(text[: 4 * limit].split()) for text in texts]
    if LOG_HAS_READER:
        lines = [without_commands(line) for line in lines]
    return [
        line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"
        for line, text in zip(lines, texts, strict=True)
    ]


def number(value: float | None, unit: str | None = None, *, beside: Sequence[float | None] = ()) -> str:
    """A number and its unit: `0.742`, `2e-07`, `1,234.5`, `$0.0031`, `0.42 s`; a dash for None.

    It gets as many more digits as tell it from the other values that it stands `beside`.
    """
    return numbers((value, *beside), unit)[0]


def numbers(values: Sequence[float | None], unit: str | None = None) -> list[str]:
    """Numbers that stand side by side: values that differ have different texts."""
    texts = [_number(value, unit) for value in values]
    for more in range(1, MAX_DIGITS):
        if len(texts) == 1:
            break
        different: dict[str, set[float | None]] = {}
        for value, text in zip(values, texts, strict=True):
            different.setdefault(text, set()).add(value)
        same = {text for text, group in different.items() if len(group) > 1}
        if not same:
            break
        texts = [
            _number(value, unit, more) if text in same else text for value, text in zip(values, texts, strict=True)
        ]
    return texts


def signed(value: float) -> str:
    """A difference: `+0.032`, `-2e-07`."""
    return f"{'-' if value < 0 else '+'}{number(abs(value))}"


def significant(*values: float) -> list[str]:
    """Numbers for a sentence, with four significant digits and no closing zeros: `0.9072`, `1`, `2e-07`, `1,000,000,003`.

    They get as many more digits as tell those that differ apart.
    """
    for digits in range(4, 4 + MAX_DIGITS):
        texts = [_significant(value, digits) for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def _significant(value: float, digits: int) -> str:
    size = abs(value)
    if not value or size < 1e-4 or size >= 1e15:
        return f"{value:.{digits}g}"
    text = f"{value:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _number(value: float | None, unit: str | None = None, more: int = 0) -> str:
    """One number with `more` digits than usual."""
    if value is None:
        return DASH
    size = abs(value)
    if unit == "s" and not more and (size >= 0.0005 or not value):
        return duration(value)
    if unit == "tokens":
        decimals = 0 if value == int(value) or size >= 1000 else 1
    elif unit == "USD":
        decimals = 2 if size >= 1 else max(4, 1 - math.floor(math.log10(size))) if value else 4
    elif value and (size < 0.001 or size >= 1e15):
        text = f"{value:.{3 + more}g}"
        return f"{text} {unit}" if unit else text
    else:
        decimals = 3 if size < 1000 else 1 if size < 1e6 else 0
    text = f"{value:,.{decimals + more}f}"
    return f"${text}" if unit == "USD" else f"{text} {unit}" if unit and unit != "tokens" else text


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `1,000 rows`; `plural` is for nouns whose plural is irregular."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or f'{noun}s'}"


def known_answers(good: tuple[int, int], bad: tuple[int, int]) -> str:
    """`8 of 12 known answers: 6 of 6 good, 2 of 6 bad`, from the right verdicts and the number of each side."""
    sides = f"{good[0]} of {good[1]} good, {bad[0]} of {bad[1]} bad"
    return f"{good[0] + bad[0]} of {good[1] + bad[1]} known answers: {sides}"


def check_summary(known: str, note: str | None) -> str:
    """The known answers that a judge got right, and a note on replies that could not be read; without any, the note only."""
    return known if note is None else note if note.startswith("0 of") else f"{known}; {note}"


def unread_replies(causes: Mapping[str, int], replies: int, first: str, advice: str) -> str:
    """`0 of 12 replies could be read (cut off: 12); the first begins '…'; raise max_tokens …`."""
    unread = sum(causes.values())
    count = (
        f"0 of {replies} replies could be read"
        if unread == replies
        else f"{unread} of {replies} replies could not be read"
    )
    counts = ", ".join(f"{cause}: {causes[cause]}" for cause in sorted(causes, key=lambda name: (-causes[name], name)))
    begins = f"; the first begins {first}" if first else ""
    return f"{count} ({counts}){begins}; {advice}"


def plain_text(value: Any) -> str:
    """A value as text: text unchanged, numbers as written, anything else as JSON."""
    if isinstance(value, str | Spelled) or type(value) is int or (type(value) is float and math.isfinite(value)):
        return str(value)  # as JSON writes it too, in a tenth of the time
    return exact_json(value, ensure_ascii=False, default=str)


def duration(seconds: float) -> str:
    """`0.004 s`, `0.42 s`, `12.3 s`, `4 min 5 s`."""
    if seconds < 1:
        return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds:.3f} s"
    return f"{seconds:.1f} s" if seconds < 60 else long_duration(seconds)


def long_duration(seconds: float) -> str:
    """Seconds in words with two units at most, rounded: `5 h 20 min`."""
    remaining = round(seconds)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (smaller, part) in pairwise(units):
        if remaining >= size:
            rest = round(remaining % size / part)
            count, rest = (remaining // size + 1, 0) if rest * part >= size else (remaining // size, rest)
            return f"{count} {unit} {rest} {smaller}" if rest else f"{count} {unit}"
    return f"{seconds:.3g} s"


def money(usd: float) -> str:
    """`$2.00`, `$0.0042`: cents, and more digits where cents would hide the amount."""
    if usd >= 1 or abs(usd - round(usd, 2)) < 1e-9:
        return f"${usd:,.2f}"
    digits = 4 if usd >= 0.01 else 6 if usd >= 1e-4 else 9
    return "$" + f"{usd:.{digits}f}".rstrip("0").ljust(4, "0")


def age(seconds: float) -> str:
    """An age in its largest unit: `40 s`, `12 min`, `5 h`, `3 d`."""
    for unit, length_s in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """`812 B`, `4.1 KB`, `3.2 MB`."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:,.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:,.1f} MB"


def interval(
    low: float | None, high: float | None, unit: str | None = None, *, beside: Sequence[float | None] = ()
) -> str:
    """`0.740–0.890`, or a dash where there is none; `≥ 0.740` where one end is open.

    The ends have as many digits as tell them from each other and from the values that they stand `beside`.
    """
    first, last, *_ = numbers((low, high, *beside), unit)
    if low is None or high is None:
        return DASH if low is None and high is None else f"≤ {last}" if low is None else f"≥ {first}"
    plain = low >= 0 and (unit is None or unit == "USD") and not ("e" in first or "e" in last)
    return f"{first}{'–' if plain else ' to '}{last}"


def plain_table(title: str, columns: Sequence[str], *, wraps: bool = False) -> Table:
    """An empty table. Where it is too wide its texts are wrapped and no number is cut; `wraps` is for cells of several words."""
    from rich import box
    from rich.table import Table

    table = Table(title=styled(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        wide = wraps or name in (
            "reason",
            "input",
            "output",
            "expected",
            "metric",
            "gate",
            "target",
            "pair",
            "answers scored",
        )
        right = name in ("value", "scored", "skipped", "unscored", "errors")
        table.add_column(
            styled(name), justify="right" if right else "left", overflow="fold", ratio=None, no_wrap=not wide
        )
    return table


def styled(text: str, style: str | None = None) -> Any:
    """Text as it is, in a style: no markup is read in it."""
    from rich.text import Text

    return Text(text, style=style or "")
