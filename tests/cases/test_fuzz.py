"""2,000 broken suites: no traceback, no hang, no exit code that is not in the table, and a place for every problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.counts import Attacks
from tests.cases.suite_fuzz import ENVIRONMENT, fuzz, write_files

SEED = 20261128


@pytest.mark.slow
def test_no_mutation_of_a_suite_ends_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], attacks: Attacks
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    write_files(Path())
    outcome = fuzz(SEED, 2000)
    with capsys.disabled():
        print(f"\nseed {SEED}: {outcome}")
    attacks.numbers[:] = 2000, len(outcome.faults)
    assert outcome.faults == []
    assert outcome.without_place == {}
    for code in (0, 2):
        assert outcome.codes["validate"][code] > 100
    assert outcome.codes["run"].total() > 100
