"""Untrusted text, made fit for GitHub's Markdown: it stays text, whatever stands in it.

Every punctuation mark that Markdown, HTML or GitHub's own additions read something into becomes a character
reference, and line breaks do too. So a text is always one line of the file, cannot end the table, tag or code that it
stands in, and `${{` or a workflow command never stands in the file at all. References alone do not stop what GitHub
looks for in the finished page (mentions, issue numbers, addresses, emoji): a blank of no width behind
the mark does.
"""

from __future__ import annotations

import re

from evalrunner.formatting import DASH, UNSAFE
from evalrunner.redact import redact

LONGEST_KEY = 4096  # characters: so many more than are shown are looked through for keys, so that none is cut in half
INVISIBLE = re.compile(r"[\u00ad\u061c\u180e\u200b\u2028\u2029\u2060-\u2064\ufff9-\ufffb\U000e0000-\U000e007f]+")
LINE_END = re.compile(r"\r\n?|[\n\x0b\x0c\x85\u2028\u2029]")
ACTIVE = "&<>\"'\\`*_~[]!|#@${}:^"  # Markdown reads nothing into the other marks, but at the start of a line
REFERENCES = {ord(mark): f"&#{ord(mark)};" for mark in ACTIVE}
HARMLESS = {  # and better to read as they are: no emphasis within a word (CommonMark 0.31, §6.2)
    "_": re.compile(r"(?<=\w)&#95;(?=\w)"),
    ":": re.compile(r"&#58;(?= )"),
}
NO_WIDTH = "&#8203;"
LOOKED_FOR = re.compile(  # what GitHub makes a link or a picture of, each at the place where it can be broken
    r"(?<=&#64;)|(?<=&#58;)(?=[A-Za-z/+-])|(?<=&#35;)(?=\w)|(?i:(?<=\bwww)(?=\.)|(?<=\bgh)(?=-\d))"
)


def inline(text: str, limit: int) -> str:
    """`text` on one line for a paragraph or a cell of a table, cut to `limit` characters."""
    shown = " ".join(UNSAFE.sub(" ", INVISIBLE.sub("", _cut(text, limit))).split())
    return LOOKED_FOR.sub(NO_WIDTH, _escaped(shown))


def code(text: str, limit: int) -> str:
    """`text` on one line as code, cut to `limit` characters; a dash where there is nothing to show."""
    shown = inline(text, limit)
    return f"<code>{shown}</code>" if shown else DASH


def block(text: str, limit: int) -> str:
    """`text` with its line breaks as `<pre>`, on one line, for inside an element of HTML; cut to `limit` characters."""
    lines = [
        UNSAFE.sub("", INVISIBLE.sub("", line.replace("\t", "    "))) for line in LINE_END.split(_cut(text, limit))
    ]
    shown = "&#10;".join(_escaped(line) for line in lines)
    return f"<pre>{shown}</pre>"


def _escaped(text: str) -> str:
    text = text.translate(REFERENCES)
    for mark, place in HARMLESS.items():
        text = place.sub(mark, text)
    return text


def _cut(text: str, limit: int) -> str:
    """The first `limit` characters without keys; an ellipsis says that there are more."""
    shown = redact(text[: limit + LONGEST_KEY])[:limit]
    return shown if len(text) <= limit else shown + "…"
