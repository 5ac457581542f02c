"""Attacks as tests, and how many were tried, held and failed: printed at the end of every test run that has some.

Each test in this folder is one attack; its kind is the name of its file. A test that tries many says so:

    def test_a_hostile_reply_ends_its_row_as_its_line_says(attacks):
        for line in LINES:
            attacks.add(line["name"], faults(line))     # a list of sentences, empty where the attack was held
        attacks.check()

Tests elsewhere that take the fixture are counted too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import pytest

FOLDER = "tests/attacks/"
PROPERTY = "attacks"
SHOWN = 20  # faults in the message of a failed test


class Attacks:
    """The attacks of one test."""

    def __init__(self) -> None:
        self.numbers = [0, 0]  # tried and failed
        self.lines: list[str] = []

    def add(self, name: str, faults: Sequence[str]) -> None:
        """One attack, and what was wrong after it."""
        self.numbers[0] += 1
        self.numbers[1] += bool(faults)
        self.lines += [f"{name}: {fault}" for fault in faults]

    def check(self) -> None:
        """Fail the test with the faults of its attacks; a test without any attack fails too."""
        __tracebackhide__ = True
        tried, failed = self.numbers
        assert tried > 0, "no attack was tried"
        more = [f"… and {len(self.lines) - SHOWN} more"] if len(self.lines) > SHOWN else []
        assert not failed, "\n".join([f"{failed} of {tried} attacks failed", *self.lines[:SHOWN], *more])


@pytest.fixture
def attacks(request: pytest.FixtureRequest) -> Attacks:
    """The counter of a test that tries many attacks."""
    counter = Attacks()
    request.node.user_properties.append((PROPERTY, counter.numbers))
    return counter


def counts(reports: Iterable[pytest.TestReport]) -> dict[str, tuple[int, int]]:
    """Attacks tried and failed of each kind. A test that fails is at least one failed attack; a skipped one is none."""
    tests: dict[str, tuple[int, int]] = {}
    for report in reports:
        numbers = dict(report.user_properties).get(PROPERTY)
        if numbers is None and not report.nodeid.startswith(FOLDER):
            continue
        tried, failed = numbers if isinstance(numbers, list) else (1, 0)
        if report.failed:
            tried, failed = max(1, tried), max(1, failed)
        before = tests.get(report.nodeid, (0, 0))
        tests[report.nodeid] = max(before[0], tried), max(before[1], failed)
    kinds: dict[str, tuple[int, int]] = {}
    for name, (tried, failed) in sorted(tests.items()):
        kind = PurePosixPath(name.partition("::")[0]).stem.removeprefix("test_")
        before = kinds.get(kind, (0, 0))
        kinds[kind] = before[0] + tried, before[1] + failed
    return kinds


def summary(numbers: dict[str, tuple[int, int]]) -> list[str]:
    """The lines of the counts, the total first; none without attacks."""
    if not numbers:
        return []
    total = tuple(sum(column) for column in zip(*numbers.values(), strict=True))
    rows = [("attacks", total), *((f"  {kind}", both) for kind, both in numbers.items())]
    return [f"{name}: {tried:,} tried, {tried - failed:,} held, {failed:,} failed" for name, (tried, failed) in rows]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for kind in ("passed", "failed", "error")
        for report in terminalreporter.stats.get(kind, [])
        if isinstance(report, pytest.TestReport)
    ]
    for line in summary(counts(reports)):
        terminalreporter.write_line(line)
