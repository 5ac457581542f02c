"""Servers that are down, slow, or break: the run is never lost, and what arrives is there exactly once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrun import RunOptions, SuiteError, run_suite
from evalrun.errors import RunError, RunTakenError
from evalrun.runs.lock import RunLock
from evalrun.tracking.runs import track_run
from tests.endpoints.conftest import free_port
from tests.fakes.command import evalrun
from tests.fakes.mlflow_server import Fault, faulty_proxy
from tests.tracking.conftest import Arrived
from tests.tracking.runs import ledger, run, tracking, write_suite

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


def whole(client: Any, name: str, *, traces: int = 0) -> Arrived:
    """What arrived of a run of the usual suite, which is all of it, and nothing of it twice."""
    arrived = Arrived(client, name)
    assert (len(arrived.parents), sorted(arrived.targets), arrived.count) == (1, ["bad", "good"], 3)
    assert arrived.parent.data.metrics["rows"] == 6
    assert "metrics.json" in arrived.artifacts(arrived.parent)
    for target, found in arrived.targets.items():
        assert found.data.tags["mlflow.parentRunId"] == arrived.parent.info.run_id
        assert found.info.status == "FINISHED"
        assert len(client.get_metric_history(found.info.run_id, "contains/v1")) == 1
        assert list(arrived.table(target)["inputs"]) == ["2+2?", "3+3?", "no answer known"]
        assert len(client.get_run(found.info.run_id).inputs.dataset_inputs) == 1
        assert len(arrived.traces(target)) == traces
    return arrived


def test_a_dead_server_changes_neither_verdict_nor_files(server: str, client: Any) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    suite = str(write_suite("dead"))
    done = evalrun(suite, "-q", "--mlflow", dead)
    (folder,) = Path("runs/dead").iterdir()
    assert (done.returncode, done.stdout.split()[0]) == (1, "FAIL")
    assert done.stderr.startswith(f"evalrun: warning: mlflow: not sent to {dead}: experiment 'dead': ")
    assert done.stderr.endswith(f"can be sent later: evalrun track {folder}\n")
    assert json.loads((folder / "run.json").read_text())["exit_code"] == 1
    place = ledger(folder)
    assert (place["sent"], place["runs"], place["problem"] is None) == (False, {}, False)
    later = track_run(folder, server)
    assert later.problem is None
    whole(client, "dead")


def test_where_it_is_required_an_unsent_run_ends_with_3(server: str) -> None:
    suite = write_suite("required", "", "name: NAME\ndataset: {rows: [{input: a, out: a, expected: a}]}\n"
                        "target: {type: recorded, column: out}\nscorers: [exact_match]\n")  # fmt: skip
    with faulty_proxy(server, Fault(lambda number: "before", status=403)) as refusing:
        lost = run_suite(suite, options=RunOptions(mlflow=refusing, mlflow_required=True))
        fine = run_suite(suite, options=RunOptions(mlflow=refusing))
    assert (lost.verdict, lost.exit_code, fine.exit_code) == ("pass", 3, 0)
    (notice,) = lost.details.notices
    assert "not sent" in notice and "403" in notice
    assert json.loads((lost.folder / "run.json").read_text())["exit_code"] == 0


def test_a_refused_key_is_told_at_once_and_not_shown(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-very-secret")
    fault = Fault(lambda number: "before", status=401)
    with faulty_proxy(server, fault) as refusing:
        result = run("refused", mlflow=refusing)
    assert len(fault.seen) == 1  # asking again would not mend it
    assert "token-very" not in (result.folder / "mlflow.json").read_text()
    assert "401" in ledger(result.folder)["problem"]


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_third_of_requests_refused_loses_and_doubles_nothing(server: str, client: Any, lost: str) -> None:
    name = f"third-{lost}"
    fault = Fault(lambda number: lost if number % 3 == 0 else None)
    with faulty_proxy(server, fault) as proxy:
        run(name, tracking(proxy, "log: [metrics, table, report, dataset, traces]"))
    whole(client, name, traces=3)


def test_a_server_that_dies_in_the_middle_is_taken_up_where_it_was(server: str, client: Any) -> None:
    fault = Fault()
    with faulty_proxy(server, fault) as proxy:
        result = run("dies")
        broken = 0
        for more in range(2, 40, 2):  # each try comes a little further
            fault.fails = lambda number, more=more: "drop" if number > more else None
            fault.seen.clear()
            if track_run(result.folder, proxy, patience_s=0.1).problem is None:
                break
            assert ledger(result.folder)["sent"] is False
            broken += 1
        assert broken >= 4
    whole(client, "dies")


def test_nothing_is_sent_before_the_last_row_is_on_disk(server: str, client: Any) -> None:
    fault = Fault(delay_s=1.0)
    with faulty_proxy(server, fault) as slow:
        result = run("slow", mlflow=slow)
    assert fault.first_at is not None
    assert fault.first_at > (result.folder / "rows.jsonl").stat().st_mtime
    assert fault.first_at > (result.folder / "metrics.json").stat().st_mtime
    whole(client, "slow")


def test_an_address_that_mlflow_cannot_take_is_refused_before_anything_is_called() -> None:
    for wrong in ("ftp://x", "mlruns", "http:/half"):
        with pytest.raises(SuiteError, match="tracking.mlflow.uri: '.*' should be http"):
            run("wrong", tracking(wrong, "log: []"))
    assert not Path("runs").exists()


def test_a_login_in_an_address_is_neither_written_nor_told(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_PASSWORD", "very-secret-1")
    address = server.replace("://", "://me:${MLFLOW_PASSWORD}@")
    result = run("login", tracking(address, "log: []"))
    assert ledger(result.folder)["uri"] == server
    assert ledger(result.folder)["problem"] is None
    for path in result.folder.iterdir():
        assert b"very-secret" not in path.read_bytes(), path
    literal = run("literal", tracking(server.replace("://", "://me:other-secret-1@"), "log: []"))
    for path in literal.folder.iterdir():
        assert b"other-secret" not in path.read_bytes(), path


def test_a_run_that_another_process_writes_is_left_alone(server: str) -> None:
    result = run("taken")
    with RunLock(result.folder), pytest.raises(RunTakenError):
        track_run(result.folder, server)


def test_a_run_that_did_not_end_is_not_sent(server: str) -> None:
    result = run("unfinished")
    path = result.folder / "run.json"
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "running"'))
    with pytest.raises(RunError, match="did not come to its end"):
        track_run(result.folder, server)


def test_a_run_that_goes_elsewhere_needs_not_know_the_address_of_its_suite(
    server: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_MLFLOW", f"http://127.0.0.1:{free_port()}")
    result = run("moved", tracking("${OUR_MLFLOW}", "tags: {team: '${OUR_TEAM:-us}'}"))
    monkeypatch.delenv("OUR_MLFLOW")
    lost = evalrun("track", "last")
    assert (lost.returncode, "the variable OUR_MLFLOW is not set" in lost.stderr) == (2, True)
    sent = evalrun("track", result.run_id, "--mlflow", server)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert Arrived(client, "moved").parent.data.tags["team"] == "us"
