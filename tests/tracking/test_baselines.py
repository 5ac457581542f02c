"""A gate that compares with the newest run in MLflow that passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalrun import SuiteError
from evalrun.api import SuiteResult
from tests.endpoints.conftest import free_port
from tests.tracking.conftest import Arrived
from tests.tracking.runs import run, tracking

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]

SUITE = """\
name: NAME
dataset:
  rows: [ROWS]
target: {type: recorded, column: COLUMN, name: model}
scorers: [exact_match]
gates: [{metric: exact_match, baseline: "mlflow:experiment/NAME", max_drop: 0.2}]
"""
ROWS = ", ".join(f"{{input: q{n}, expected: a, good: a, bad: {'a' if n % 2 else 'b'}}}" for n in range(60))


def go(name: str, server: str, column: str) -> SuiteResult:
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", column)
    return run(name, tracking(server, "log: [metrics, table]"), suite)


def test_the_newest_run_that_passed_is_compared_with(server: str, client: Any) -> None:
    first = go("compared", server, "good")
    assert (first.verdict, first.exit_code) == ("no_baseline", 0)
    assert "once a run is good, evalrun track last --mlflow sends it there" in first.gates[0].reason
    same = go("compared", server, "good")
    assert (same.verdict, same.exit_code) == ("pass", 0)
    baseline = same.gates[0].baseline
    assert baseline is not None
    assert (baseline.value, baseline.n) == (1.0, 60)
    worse = go("compared", server, "bad")
    assert (worse.verdict, worse.exit_code) == ("fail", 1)
    assert go("compared", server, "bad").exit_code == 1  # the failed one has not become what is compared with
    assert "baseline.jsonl" in [
        item.path for item in client.list_artifacts(Arrived(client, "compared").parents[0].info.run_id)
    ]


def test_a_server_that_cannot_be_asked_is_an_error_before_the_run() -> None:
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", "good")
    with pytest.raises(SuiteError, match="MLflow cannot be asked: "):
        run("nowhere", tracking(f"http://127.0.0.1:{free_port()}", "log: []"), suite)
    assert not Path("runs").exists()
