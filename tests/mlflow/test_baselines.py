"""Gates with the newest passing run in MLflow as their baseline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.api import SuiteResult
from evalrunner.commands.regate import reevaluate_gates
from evalrunner.runs.folder import find_run
from tests.endpoints.conftest import free_port
from tests.fakes.command import evalrun
from tests.mlflow.conftest import Arrived
from tests.mlflow.runs import run, tracking

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


def test_the_newest_passing_run_is_the_baseline(server: str, client: Any) -> None:
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
    assert go("compared", server, "bad").exit_code == 1  # the failed run is not the new baseline
    assert "baseline.jsonl" in [
        item.path for item in client.list_artifacts(Arrived(client, "compared").parents[0].info.run_id)
    ]


def test_a_regated_run_is_compared_with_an_older_run(server: str) -> None:
    # only the suite has the address, for gates as for sending
    first = go("again", server, "good")
    second = go("again", server, "good")
    assert [first.verdict, second.verdict] == ["no_baseline", "pass"]
    runs = Path("runs")
    assert [reevaluate_gates(find_run(run.run_id, runs), runs=runs).verdict for run in (first, second)] == [
        "no_baseline", "pass",
    ]  # fmt: skip
    assert run_suite(options=RunOptions(resume=first.run_id)).verdict == "no_baseline"
    for run_id, verdict in ((first.run_id, "no_baseline"), (second.run_id, "pass")):
        assert evalrun("score", run_id).returncode == 0
        scored = find_run("last", runs)
        assert scored.id not in (first.run_id, second.run_id)
        assert json.loads((scored.path / "run.json").read_text())["verdict"] == verdict
        assert reevaluate_gates(scored, runs=runs).verdict == verdict  # the run with its outputs is not its baseline


def test_regate_reads_from_the_address_of_the_command_line(server: str, client: Any) -> None:
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", "good")
    more = "tracking: {mlflow: {log: [metrics, table]}}\n"
    assert run("elsewhere", more, suite, mlflow=server).verdict == "no_baseline"
    second = run("elsewhere", more, suite, mlflow=server)
    assert second.verdict == "pass"
    assert reevaluate_gates(find_run(second.run_id, Path("runs")), runs=Path("runs")).verdict == "pass"
    assert evalrun("track", second.run_id).stdout.startswith("mlflow: already sent: experiment 'elsewhere' at http")


def test_a_missing_database_means_no_baseline_yet() -> None:
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", "good")
    assert run("fresh", "", suite).verdict == "no_baseline"
    with pytest.raises(SuiteError, match=r"cannot be read from MLflow: there is no database 'mlflow.db'"):
        run("fresh", "", suite.replace("mlflow:experiment/NAME", f"mlflow:run/{'0' * 32}"))
    assert not Path("mlflow.db").exists()


def test_an_unreachable_server_is_an_error_before_the_run() -> None:
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", "good")
    with pytest.raises(SuiteError, match=r"cannot be read from MLflow: no server answers at http://127.0.0.1:\d+$"):
        run("nowhere", tracking(f"http://127.0.0.1:{free_port()}", "log: []"), suite)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (
            "mlflow:exp/main",
            "'mlflow:exp/main' is not a baseline reference; use .*mlflow:experiment/NAME or mlflow:run/ID",
        ),
        ("mlflow:experiment/", "'mlflow:experiment/' is not a baseline reference"),
        ("mlflow:Experiment/main.jsonl", "is not a baseline reference"),
        (f"mlflow:run/{'0' * 32}", "cannot be read from MLflow: .*Run with id=0+ not found"),
        (
            "mlflow:run/BARE",
            "has no baseline.jsonl, which evalrun sends with the table of a run",
        ),
    ],
)
def test_an_invalid_baseline_reference_is_an_error_before_the_run(
    server: str, mlflow: Any, baseline: str, said: str
) -> None:
    with mlflow.start_run() as bare:
        pass
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", "good")
    suite = suite.replace("mlflow:experiment/NAME", baseline.replace("BARE", bare.info.run_id))
    with pytest.raises(SuiteError, match=said):
        run("mistaken", tracking(server, "log: []"), suite)
    assert not Path("runs").exists()


def test_an_experiment_without_a_passing_run_has_no_baseline_yet(server: str) -> None:
    suite = SUITE.replace("ROWS", ROWS).replace("COLUMN", "good").replace("experiment/NAME", "experiment/none")
    reason = run("early", tracking(server, "log: []"), suite).gates[0].reason
    assert reason.startswith("'mlflow:experiment/none' has no passing run of this suite yet; once a run is good, ")
