"""Hostile text in every place, in every sink: control and direction characters, formulas, marks of Markdown, XML and logs."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evalrunner.runs.row_log import read_rows
from tests.attacks.counts import Attacks
from tests.cases.suites import command

CODES = (
    *range(0x20), 0x7F, *range(0x80, 0xA0), 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x2070),
    0xFEFF, *range(0xFFF0, 0xFFFC), 0xFFFE, 0xFFFF, 0xFDD0, 0xAD, 0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0,
    *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE0100), 0xE01F0, 0xE0FFF,
)  # fmt: skip
"""What may not reach a terminal, a spreadsheet or a page as it is."""

HIDDEN = frozenset(map(chr, CODES)) - set("\n")
FORMULAS = [
    f"{sign}1+cmd|' /C calc'!A0"
    for sign in ("=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠", "'=", "''+")
]
MARKS = [
    "<script>alert(1)</script>", "![x](https://evil.example/x.png)", "[click](javascript:alert(1))", "@someone #1 owner/repo#2",
    "https://evil.example/a www.evil.example", "| a | b |\n| --- | --- |", "::error file=a::owned", "##[error]owned",
    "]]> <![CDATA[ <?xml ?>", "${{ secrets.X }}", "</pre></details><h1>gone</h1>",
]  # fmt: skip
SMUGGLED = [
    f"a{text}b"
    for text in (
        "\u200c", "\u200d", "\u200c\u200d" * 4, "\ufe0f", "\ufe00\ufe01\ufe02", "\U000e0100\U000e0101", "\u180b",
        "🙂\ufe0f\ufe00\ufe01", "🙂\u200d", "🙂\U000e0100\U000e0148\U000e0155", "ا\u200c\u200c\u200d", "日\U000e0100\U000e0101",
    )
]  # fmt: skip
"""Joiners and selectors where no script needs them: the places after which one is allowed are in `WORDS`."""
WORDS = [
    "می\u200cخواهم", "کتاب\u200cها", "क्\u200dष", "ක්\u200dෂ", "ന്\u200d", "👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "❤\ufe0f", "1\ufe0f\u20e3", "#\ufe0f\u20e3",
    "👩🏽\u200d🚀", "葛\U000e0100", "☎\ufe0e", "ᠮ\u180b", "a\u0301 n\u0303", "ﷺ", "עִבְרִית", "ไทย",
]  # fmt: skip
"""Words and emoji with joiners and selectors, which stay as they are."""
INVISIBLE_RUN = re.compile(
    r"[ -~]\u200c|[ -~]\u200d|[a-z][\ufe00-\ufe0f\U000e0100-\U000e01ef]|[\U0001f000-\U0001faff]\u200d[ -~]|[\u200c\u200d]{2}"
    r"|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2}|[ -~]\u180b"
)
TEXTS = [f"a{chr(code)}b" for code in CODES] + FORMULAS + MARKS + SMUGGLED + WORDS
SUITE = {
    "name": "sinks",
    "dataset": "data.jsonl",
    "targets": [{"type": "recorded", "column": "output", "name": "one\u202etwo"}],
    "scorers": [{"type": "python", "function": "own.py:explained"}, "contains"],
    "slices": ["slice"],
    "gates": ["contains >= 0.9"],
}
OWN = """
from evalrunner import Score


def explained(output, expected):
    if output.startswith("a"):
        raise ValueError(output)
    return Score(0.0, output)
"""


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The text of every sink after a run whose every text is hostile."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    monkeypatch.setattr("evalrunner.formatting.LOG_HAS_READER", True)
    rows = [
        {
            "id": f"{place} {text}" if text.isprintable() else str(place),  # others are refused
            "input": text,
            "expected": text + "x",
            "output": text,
            "slice": TEXTS[place % 90],
            "=cmd\u202e": text,
        }
        for place, text in enumerate(TEXTS)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("own.py").write_text(OWN)
    suite = {**SUITE, "description": " ".join(text for text in TEXTS if text.isprintable())}
    Path("s.json.yaml").write_text(json.dumps(suite))
    names = ("t.csv", "t.xlsx", "junit.xml", "summary.md")
    done = command("run", "s.json.yaml", "--junit-rows", *(part for name in names for part in ("-o", name)))
    assert done.code in (1, 3), done.err
    terminal = done.out + done.err
    for args in (
        ["show", "last"],
        ["show", "last", "--failed"],
        ["plan", "s.json.yaml"],
        ["runs"],
        ["diff", "last", "last"],
    ):
        shown = command(*args)
        terminal += shown.out + shown.err
    (folder,) = Path("runs/sinks").iterdir()
    return {
        "terminal": terminal,
        "rows.jsonl": str(folder),
        "table.csv": (folder / "table.csv").read_bytes().decode(),
        **{name: Path(name).read_bytes().decode() for name in names if name != "t.xlsx"},
        "step.md": Path("step.md").read_text() if Path("step.md").exists() else "",
        "report.html": (folder / "report.html").read_text(),
    }


def hidden_in(text: str) -> Iterator[str]:
    yield from (f"{found[0]!r} at {found.start()}" for found in INVISIBLE_RUN.finditer(text))
    for sign in sorted(set(text) & HIDDEN):
        place = text.index(sign)
        yield f"U+{ord(sign):04X} in {text[max(0, place - 40) : place + 20]!r}"


def test_no_sink_passes_hostile_text_on(outputs: dict[str, str], attacks: Attacks) -> None:
    for name in ("terminal", "table.csv", "t.csv", "junit.xml", "summary.md", "step.md"):
        text = outputs[name]
        if name.endswith((".csv", ".xml")):
            text = text.replace("\t", "")
        if name.endswith(".csv"):  # as data, in quotes
            text = text.replace("\r", "")
        text = re.sub(r"(?<=:)\u200b(?=:)|(?<=#)\u200b(?=#)", "", text)  # which breaks up commands of CI systems
        attacks.add(name, list(hidden_in(text)))
    for name in ("table.csv", "t.csv"):
        cells = [cell for row in csv.reader(io.StringIO(outputs[name], newline="")) for cell in row]
        attacks.add(
            f"formulas of {name}",
            [cell for cell in cells if cell[:1] in "=+-@\t\r\n＝＋－＠" and cell and not _number(cell)],
        )
        rows = list(csv.DictReader(io.StringIO(outputs[name], newline="")))
        attacks.add(f"rows of {name}", [] if len(rows) == len(TEXTS) else [f"{len(rows)} rows"])
    attacks.add(
        "commands",
        re.findall(
            r"^(?!::(?:error|warning|notice) (?:file|title)=).*(?:::|##\[).*$", outputs["terminal"], re.MULTILINE
        ),
    )
    for name in ("summary.md", "step.md"):
        attacks.add(
            f"tags of {name}",
            re.findall(r"<script|<h1>gone|!\[x\]|\]\(javascript|(?<![\w&;])@someone|https://evil", outputs[name]),
        )
    ElementTree.fromstring(outputs["junit.xml"])
    attacks.add("report.html", re.findall(r"<script>alert|<h1>gone", outputs["report.html"]))
    attacks.check()


def _number(cell: str) -> bool:
    try:
        return float(cell) is not None
    except ValueError:
        return False


def test_the_cells_of_a_sheet_are_text(outputs: dict[str, str], attacks: Attacks) -> None:
    with zipfile.ZipFile("t.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        names = book.read("xl/workbook.xml").decode()
    ElementTree.fromstring(sheet)
    attacks.add("formulas", re.findall(r"<f>.*?</f>", sheet))
    attacks.add("hidden characters", list(hidden_in(sheet.replace("\r\n", "\n").replace("\t", ""))))
    attacks.add("name of the sheet", list(hidden_in(names)))
    attacks.check()


def test_words_and_emoji_with_joiners_stay_readable(outputs: dict[str, str], attacks: Attacks) -> None:
    from evalrunner.formatting import escape_controls, one_line

    for word in WORDS:
        faults = [f"{name} changes {word!r}" for name in ("table.csv", "t.csv") if word not in outputs[name]]
        faults += [f"{escape.__name__}: {escape(word)!r}" for escape in (escape_controls,) if escape(word) != word]
        attacks.add(word, [*faults, *([one_line(word, 80)] if one_line(word, 80) != word else [])])
    attacks.check()


def test_the_row_log_keeps_every_text(outputs: dict[str, str]) -> None:
    rows = sorted(read_rows(Path(outputs["rows.jsonl"])), key=lambda row: row.sample.index)
    assert [row.sample.input for row in rows] == TEXTS
    assert [row.answer.text for row in rows] == TEXTS  # type: ignore[union-attr]


def test_the_characters_are_those_that_unicode_calls_control_and_format() -> None:
    """So that a character that Unicode adds is not forgotten; joiners of words and emoji, and numbers, stay."""
    kept = {
        0x200C,
        0x200D,
        *range(0x600, 0x606),
        0x6DD,
        0x70F,
        0x890,
        0x891,
        0x8E2,
        0x110BD,
        0x110CD,
        *range(0x13430, 0x13440),
    }
    formats = {code for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cf", "Cc", "Zl", "Zp")}
    assert formats - kept - set(CODES) == set()
