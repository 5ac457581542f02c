"""A run through faults at all rates loses no row, doubles none, and makes no call that is not a retry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.soak import PHASES, soak
from tests.attacks.counts import Attacks

ROWS = 5_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory and descriptors are read from /proc")
def test_no_row_is_lost_or_doubled_at_any_rate_of_faults(tmp_path: Path, attacks: Attacks) -> None:
    run = soak(ROWS, 64, tmp_path)
    failed_calls = sum(run.served.values()) - run.served["answered"]
    assert failed_calls > ROWS * sum(PHASES) / len(PHASES) * 0.8
    attacks.add(f"{ROWS:,} rows, {failed_calls:,} failing calls", run.faults())
    attacks.check()
    assert sum(run.logged.values()) == ROWS
    assert run.readings.seen
