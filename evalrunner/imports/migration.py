"""What became of every part of an imported project: carried, changed in meaning, left, or to be ported by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from evalrunner.formatting import plain_text


class Outcome(StrEnum):
    """What became of a part. LEFT and PORT need a hand."""

    CARRIED = "carried"
    CHANGED = "changed"
    LEFT = "left"
    PORT = "port"


NEEDS_A_HAND = frozenset({Outcome.LEFT, Outcome.PORT})
TITLES: Mapping[Outcome, tuple[str, str]] = {
    Outcome.LEFT: ("Left", "Not in the suites. Each line says why."),
    Outcome.PORT: ("To be ported", "In the suites as a check that fails until you write it."),
    Outcome.CHANGED: ("Changed in meaning", "In the suites, and it counts or works otherwise than before."),
    Outcome.CARRIED: ("Carried", "In the suites, with the same meaning."),
}
"""Heading and explanation of each outcome, in the order of the report."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file of the old tool: `tests[3].assert[1]`, with its line where the file has lines."""

    file: str
    line: int | None = None
    path: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where} {self.path}".rstrip()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the report. `to` is where the part is now, `reason` what changed or why it was left."""

    outcome: Outcome
    place: Place
    what: str
    to: str = ""
    reason: str = ""


@dataclass(slots=True)
class Migration:
    """The entries of one import, in the order of the source."""

    entries: list[Entry] = field(default_factory=list)

    def carried(self, place: Place, what: str, to: str = "") -> None:
        """A part that is in the suites with the same meaning."""
        self.entries.append(Entry(Outcome.CARRIED, place, what, to))

    def changed(self, place: Place, what: str, to: str, meaning: str) -> None:
        """A part that is in the suites, but means something else."""
        self.entries.append(Entry(Outcome.CHANGED, place, what, to, meaning))

    def left(self, place: Place, what: str, reason: str) -> None:
        """A part that is not in the suites."""
        self.entries.append(Entry(Outcome.LEFT, place, what, "", reason))

    def port(self, place: Place, what: str, where: str) -> None:
        """A part for which a check fails with "to be ported"."""
        self.entries.append(Entry(Outcome.PORT, place, what, where))

    @property
    def counts(self) -> dict[Outcome, int]:
        """Entries by outcome, also those with none."""
        found = Counter(entry.outcome for entry in self.entries)
        return {outcome: found[outcome] for outcome in Outcome}

    @property
    def needs_a_hand(self) -> bool:
        """Whether something is not in the suites, or fails until it is ported."""
        return any(entry.outcome in NEEDS_A_HAND for entry in self.entries)

    def by_outcome(self) -> Iterator[tuple[Outcome, list[Entry]]]:
        """The entries by outcome, those that need a hand first; outcomes without entries are left out."""
        for outcome in TITLES:
            if entries := [entry for entry in self.entries if entry.outcome is outcome]:
                yield outcome, entries

    def to_markdown(self, title: str) -> str:
        """The report as Markdown."""
        lines = [f"# {_cell(title)}", "", summary(self), ""]
        for outcome, entries in self.by_outcome():
            heading, explanation = TITLES[outcome]
            lines += [
                f"## {heading}: {len(entries):,}",
                "",
                explanation,
                "",
                "| where | what | now | why |",
                "|---|---|---|---|",
            ]
            lines += [
                f"| {_cell(str(entry.place))} | {_cell(entry.what)} | {_cell(entry.to)} | {_cell(entry.reason)} |"
                for entry in entries
            ]
            lines.append("")
        return "\n".join(lines)


def summary(migration: Migration) -> str:
    """The counts as one line."""
    counts = migration.counts
    return (
        f"{counts[Outcome.CARRIED]:,} carried, {counts[Outcome.CHANGED]:,} changed in meaning,"
        f" {counts[Outcome.LEFT]:,} left, {counts[Outcome.PORT]:,} to be ported"
    )


def _cell(text: str) -> str:
    """Text of a source in a cell of a Markdown table: one line, without markup."""
    shown = " ".join(plain_text(text).split())
    for sign in "\\`*_{}[]<>|#!":
        shown = shown.replace(sign, "\\" + sign) if sign != "<" else shown.replace("<", "&lt;")
    return shown
