"""Each promise of docs/reliability.md has tests, and they exist."""

from __future__ import annotations

import re

import pytest

from tests.fakes.command import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize(("path", "name"), sorted(set(TEST.findall(PAGE))), ids=lambda part: part)
def test_a_test_that_holds_a_promise_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_each_promise_names_a_test() -> None:
    chapters = PAGE.partition("## Figures")[0].split("\n## ")[1:]
    rows = [line for chapter in chapters for line in chapter.splitlines() if line.startswith("|")]
    promises = [row for row in rows if not row.startswith(("| promise", "|---"))]
    assert len(promises) > 20
    assert [row for row in promises if TEST.search(row) is None] == []
