"""Errors of YAML files in the words of somebody who writes suites: where, what is wrong, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import yaml

TEMPLATE_START = re.compile(
    r"^(?P<before>\s*(?:- +)*(?:[^\s#:{\[\"'][^:{\[\"']*:\s+|[\"'][^\"']*[\"']:\s+)?)(?P<rest>\{[{%#].*)$"
)
TEMPLATE_INSIDE = re.compile(r"(?:^|[:,\[{]\s*)(?P<rest>\{\{[^{}]*\}\}|\{%[^{}]*%\})")
COMMENT = re.compile(r"\s+#(?![}])[^}]*$")
TAB_IN_INDENTATION = re.compile(r"^ *(?:- *)*\t")
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
MAX_LINE = 60  # characters of the file that a message repeats

SENTENCES: tuple[tuple[str, str], ...] = (
    (
        "found unknown escape character",
        (
            "a backslash in double quotes begins an escape, and {0} is none; use single "
            "quotes, which keep backslashes as they are"
        ),
    ),
    (
        "expected escape sequence of",
        (
            "a backslash in double quotes begins an escape, and this one is incomplete; use "
            "single quotes, which keep backslashes as they are"
        ),
    ),
    ("that cannot start any token", "text cannot begin with {0}; put it in quotes"),
    (
        "mapping values are not allowed here",
        ("': ' is not allowed here; put text that contains ': ' in quotes, or correct the indentation"),
    ),
    ("sequence entries are not allowed here", "'- ' is not allowed here; begin the list on its own line"),
    ("could not find expected ':'", "a key without ': '; write `key: value`, or indent the line as the text above it"),
    ("found undefined alias", "{0} refers to no anchor; put text that begins with * in quotes"),
    ("found duplicate anchor", "the anchor {0} is set twice; rename one"),
    ("expected alphabetic or numeric character", "* and & mark anchors; put text that begins with * or & in quotes"),
    (
        "expected chomping or indentation indicators",
        ("| and > begin a block of text, which starts on the next line; put text that begins with | or > in quotes"),
    ),
    (
        "expected a comment or a line break",
        ("| and > begin a block of text, which starts on the next line; put text that begins with | or > in quotes"),
    ),
    ("found unexpected end of stream", "a quote that is not closed"),
    ("found unexpected document separator", "a quote that is not closed before the line ---"),
    ("exceeded maximum nesting depth", "more than 100 levels"),
    ("but found another document", "several documents; put each suite into a file of its own, without ---"),
    (
        "expected ',' or ']'",
        ("a list that is not closed or lacks a comma; write [a, b], and put text that contains brackets in quotes"),
    ),
    (
        "expected ',' or '}'",
        (
            "a mapping that is not closed or lacks a comma; write {a: 1, b: 2}, and put text that contains "
            "braces in quotes"
        ),
    ),
    ("expected the node content", "a value is missing here; put text that begins with a special sign in quotes"),
    ("found undefined tag handle", "{0} is no known tag; put text that begins with ! in quotes"),
    ("while scanning a tag", "this is no tag; put text that begins with ! in quotes"),
    ("while parsing a tag", "this is no tag; put text that begins with ! in quotes"),
    ("while scanning a directive", "this is no directive; put text that begins with % in quotes"),
    (
        "expected <block end>, but found '<scalar>'",
        (
            "text after a closing quote, or a line that does not align with its "
            "neighbors; put the whole text in quotes, with '' for a quote inside single quotes"
        ),
    ),
    (
        "expected <block end>",
        ("the line does not continue what is above it; align it with its neighbors, or put the whole text in quotes"),
    ),
    (
        "expected '<document start>'",
        ("the line does not continue what is above it; align it with its neighbors, or put the whole text in quotes"),
    ),
    (
        "did not find expected <document start>",
        "the line does not continue what is above it; align it with its neighbors",
    ),
)
"""Words of PyYAML and a sentence for each; {0} is what PyYAML quotes."""

LIBYAML: Mapping[str, str] = {
    "mapping values are not allowed in this context": "mapping values are not allowed here",
    "block sequence entries are not allowed in this context": "sequence entries are not allowed here",
    "did not find expected node content": "expected the node content",
    "did not find expected key": "expected <block end>",
    "did not find expected '-' indicator": "expected <block end>",
    "did not find expected comment or line break": "expected a comment or a line break",
    "did not find expected chomping or indentation": "expected chomping or indentation indicators",
    "did not find expected hexdecimal number": "expected escape sequence of",
    "found a tab character": "found character '\\t' that cannot start any token",
}
"""Words of libyaml and those of PyYAML for the same. Only files that are too long for PyYAML's scanner need them."""


class YamlSlip(NamedTuple):
    """A mistake in a YAML file: its line and column, counted from 1 (0: unknown), and a sentence."""

    line: int
    column: int
    message: str

    def place(self, file: str) -> str:
        """`file:line:column`."""
        return f"{file}:{self.line}:{self.column}" if self.line else file


def explain(error: yaml.YAMLError, text: str) -> YamlSlip:
    """What an exception of PyYAML means for the author of `text`."""
    assert isinstance(error, yaml.MarkedYAMLError)  # PyYAML raises no others while it reads
    problem, context = error.problem or "", error.context or ""
    problem = next((words for words_of_c, words in LIBYAML.items() if problem.startswith(words_of_c)), problem)
    mark = error.problem_mark or error.context_mark
    if problem.startswith("found unexpected end of stream") and error.context_mark is not None:
        mark = error.context_mark  # the quote that is open
    if mark is None:
        return YamlSlip(0, 0, f"is not valid YAML: {problem or error}")
    if isinstance(error, yaml.constructor.ConstructorError):  # raised here, for what is YAML but no suite
        return YamlSlip(mark.line + 1, mark.column + 1, f"has {problem}")
    lines = text.splitlines() or [""]
    for other in (mark, error.context_mark):
        for number in () if other is None else (other.line, other.line - 1):
            if 0 <= number < len(lines) and (slip := _template(lines[number], number)) is not None:
                return slip
    line = lines[mark.line] if mark.line < len(lines) else ""
    if TAB_IN_INDENTATION.match(line) or "'\\t'" in problem:
        return YamlSlip(mark.line + 1, line.find("\t") + 1 or 1, "is not valid YAML: a tab; use spaces")
    start = error.context_mark
    begins = (
        f" (it begins in line {start.line + 1})" if " flow " in context and start and start.line < mark.line else ""
    )
    return YamlSlip(mark.line + 1, mark.column + 1, f"is not valid YAML: {_sentence(problem, context)}{begins}")


def quoted_template(text: str) -> str:
    """The sentence for a template without quotes; `text` is the value as the file has it."""
    shown = " ".join(COMMENT.sub("", text).split())
    if len(shown) > MAX_LINE:
        shown = f"{shown[: MAX_LINE - 1]}…"
    whole = f'"{shown}"' if '"' not in shown and "\\" not in shown else "'{}'".format(shown.replace("'", "''"))
    return f"put the template in quotes: {whole}"


def _sentence(problem: str, context: str) -> str:
    quoted = QUOTED.search(problem) or QUOTED.search(context)
    for words, sentence in SENTENCES:
        if words in problem or words in context:
            return sentence.replace("{0}", quoted[0] if quoted is not None else "it")
    return f"{problem}{f' ({context})' if context else ''}; put text that contains ? : , # or brackets in quotes"


def _template(line: str, number: int) -> YamlSlip | None:
    """The slip of a line that begins a template without quotes, None for any other line."""
    match = TEMPLATE_START.match(line)
    if match is None and any(bracket in line.partition("{{")[0] for bracket in "{["):
        match = TEMPLATE_INSIDE.search(line)
    if match is None or _is_quoted(line[: match.start("rest")]):
        return None
    return YamlSlip(number + 1, match.start("rest") + 1, quoted_template(match["rest"]))


def _is_quoted(before: str) -> bool:
    return before.count('"') % 2 == 1 or before.count("'") % 2 == 1


def control_character(text: str, position: int) -> YamlSlip:
    """The slip of a character that no YAML file may have."""
    code = ord(text[position]) if position < len(text) else 0
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    if 0xD800 <= code <= 0xDFFF or code > 0xFFFD:
        return YamlSlip(line, column, f"has the character U+{code:04X}, which is no text; remove it")
    written = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return YamlSlip(
        line, column, f'has the control character U+{code:04X}; remove it, or write it as "{written}" in double quotes'
    )
