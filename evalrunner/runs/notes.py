"""Notes and tags of a run: what people wrote about it, in `notes.json` beside its results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from evalrunner.errors import InvalidRunError, RunError, SuiteError
from evalrunner.runs.folder import read_json
from evalrunner.storage import is_file, write_json

NOTES_FILE: Final = "notes.json"
FORMAT: Final = 1
TAG: Final = re.compile(r"[\w][\w.:/+-]{0,49}")
MAX_NOTE: Final = 10_000  # characters
MAX_TAGS: Final = 50


@dataclass(frozen=True, slots=True)
class RunNotes:
    """A note and tags. Tags are words of at most 50 characters, sorted."""

    note: str = ""
    tags: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The notes of a run folder, empty if it has none. Raises InvalidRunError, or RunNotFoundError if it is no JSON."""
        path = folder / NOTES_FILE
        if not is_file(path):
            return cls()
        data = read_json(path)
        note, tags = data.get("note"), data.get("tags")
        valid = isinstance(tags, list) and all(isinstance(tag, str) and TAG.fullmatch(tag) for tag in tags)
        if data.get("evalrun_notes") != FORMAT or not isinstance(note, str) or not valid:
            raise InvalidRunError(f"{str(path)!r} is not a valid file of notes; delete it or restore it")
        return cls(note[:MAX_NOTE], tuple(sorted(set(tags)))[:MAX_TAGS])  # type: ignore[arg-type]  # checked above

    def write(self, folder: Path) -> None:
        """Replace the notes of a run folder. Raises RunError if they cannot be written."""
        path = folder / NOTES_FILE
        try:
            if self == RunNotes():
                path.unlink(missing_ok=True)
            else:
                write_json(path, {"evalrun_notes": FORMAT, "note": self.note, "tags": list(self.tags)})
        except OSError as refused:
            raise RunError(f"cannot write {str(path)!r}: {refused.strerror}") from None

    def with_note(self, note: str) -> Self:
        """The same tags with another note. Raises SuiteError if it is too long."""
        if len(note) > MAX_NOTE:
            raise SuiteError(f"the note has {len(note):,} characters; at most {MAX_NOTE:,} are allowed")
        return replace(self, note=note.strip())

    def with_tags(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Self:
        """The same note with other tags. Raises SuiteError for a tag that is not a word."""
        added = tuple(add)
        for tag in added:
            if not TAG.fullmatch(tag):
                raise SuiteError(
                    f"tag {tag[:60]!r} should be one word of at most 50 letters, digits and . _ - + : /, such as release-1.2"
                )
        tags = sorted({*self.tags, *added} - set(remove))
        if len(tags) > MAX_TAGS:
            raise SuiteError(f"a run may have {MAX_TAGS} tags, not {len(tags)}")
        return replace(self, tags=tuple(tags))
