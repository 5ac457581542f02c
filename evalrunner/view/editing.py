"""Changes made in the browser of the person who started `evalrun view`: notes, tags, and deleting runs.

Other users of the machine and pages of other sites can reach the port too. So a change needs a key that only the address on
the terminal contains; the first page stores it in a cookie that other sites cannot send, and the origin must be this server.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote

from evalrunner.errors import SuiteError
from evalrunner.runs.folder import RunFolder
from evalrunner.runs.notes import RunNotes
from evalrunner.runs.prune import delete_run, plan_prune

MAX_FORM_BYTES: Final = 65_536
FORM_TYPE: Final = "application/x-www-form-urlencoded"


class EditKey:
    """The key of one server. `cookie` has its port in the name, because cookies are shared by all ports of a host."""

    def __init__(self, port: int) -> None:
        self.value = secrets.token_urlsafe(32)
        self.name = f"evalrun-{port}"

    @property
    def cookie(self) -> str:
        """The value of Set-Cookie."""
        return f"{self.name}={self.value}; Path=/; HttpOnly; SameSite=Strict"

    def matches(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.value.encode())

    def is_in(self, cookies: str) -> bool:
        """Whether the text of a Cookie header contains the key."""
        try:
            found = SimpleCookie(cookies).get(self.name)
        except CookieError:
            return False
        return found is not None and self.matches(found.value)


def read_form(data: bytes) -> dict[str, Sequence[str]]:
    """The fields of a submitted form. Raises ValueError if it is not one."""
    return dict(parse_qs(data.decode("utf-8"), keep_blank_values=True, max_num_fields=100, errors="replace"))


def save_notes(run: RunFolder, form: Mapping[str, Sequence[str]]) -> str:
    """Replace note and tags by those of the form; the address of the page to show next. Raises SuiteError."""
    tags = form.get("tags", [""])[0].replace(",", " ").split()
    RunNotes().with_note(form.get("note", [""])[0].replace("\r\n", "\n")).with_tags(tags).write(run.path)
    return f"/runs/{quote(run.suite, safe='')}/{quote(run.id, safe='')}"


def delete_one(run: RunFolder) -> str:
    """Delete a run; the address of the page to show next. Raises RunLockedError or RunError."""
    delete_run(run)
    return f"/suites/{quote(run.suite, safe='')}"


def prune_suite(output_dir: Path, suite: str, form: Mapping[str, Sequence[str]]) -> str:
    """Delete all but the newest runs of a suite; the address of the page to show next. Raises SuiteError."""
    for run in plan_prune(output_dir, keep=runs_to_keep(form), suite=suite).delete:
        delete_run(run)
    return f"/suites/{quote(suite, safe='')}"


def runs_to_keep(form: Mapping[str, Sequence[str]]) -> int:
    """How many of the newest runs a form keeps. Raises SuiteError if it is not a whole number."""
    text = form.get("keep", [""])[0]
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise SuiteError(f"Runs to keep: {text[:20]!r} is not a whole number below 1,000,000,000.")
    return int(text)
