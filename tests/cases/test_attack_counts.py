"""The counts of attacks are those of the tests, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.command import command_env

TESTS = """
import pytest


def test_one():
    pass


@pytest.mark.parametrize("place", range(3))
def test_three(place):
    assert place != 2


def test_many(attacks):
    for place in range(1000):
        attacks.add(str(place), ["wrong"] if place < 3 else [])
    attacks.check()


def test_none(attacks):
    attacks.check()


def test_held(attacks):
    attacks.add("one", [])
    attacks.check()


@pytest.mark.skip
def test_skipped():
    pass


@pytest.fixture
def broken():
    raise OSError


def test_without_setup(broken):
    pass
"""
PRINTED = ["attacks: 1,007 tried, 1,001 held, 6 failed", "  nets: 1,007 tried, 1,001 held, 6 failed"]


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_attacks_tried_held_and_failed_are_printed(tmp_path: Path, processes: int) -> None:
    folder = tmp_path / "tests" / "attacks"
    folder.mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text("from tests.attacks.counts import attacks, pytest_terminal_summary\n")
    (folder / "test_nets.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(processes), "tests"],
        cwd=tmp_path, env=command_env(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line for line in lines if " held, " in line] == PRINTED
    assert "3 of 1000 attacks failed" in done.stdout
    assert "0: wrong" in done.stdout
