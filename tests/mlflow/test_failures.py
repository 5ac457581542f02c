"""Servers that are down, slow, or crash: the run is never lost, and everything is sent exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.errors import RunError, RunLockedError
from evalrunner.mlflow.client import mlflow_client
from evalrunner.mlflow.export import mlflow as exporter
from evalrunner.runs.folder import RunLock
from tests.endpoints.conftest import free_port
from tests.fakes.command import command_env, evalrun
from tests.fakes.mlflow_server import Fault, faulty_proxy, mlflow_server
from tests.mlflow.conftest import Arrived
from tests.mlflow.runs import ledger, run, tracking, write_suite

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]
EVERYTHING = "log: [metrics, table, report, dataset, traces]"


def whole(client: Any, name: str, *, traces: int = 0) -> Arrived:
    """The runs in MLflow, checked to be complete and without duplicates."""
    arrived = Arrived(client, name)
    assert (len(arrived.parents), sorted(arrived.targets), arrived.count) == (1, ["bad", "good"], 3)
    assert arrived.parent.data.metrics["rows"] == 6
    assert "metrics.json" in arrived.artifacts(arrived.parent)
    for target, result in arrived.targets.items():
        assert result.data.tags["mlflow.parentRunId"] == arrived.parent.info.run_id
        assert result.info.status == "FINISHED"
        assert len(client.get_metric_history(result.info.run_id, "contains/v1")) == 1
        assert list(arrived.table(target)["inputs"]) == ["2+2?", "3+3?", "no answer known"]
        assert len(client.get_run(result.info.run_id).inputs.dataset_inputs) == 1
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
    later = exporter.send(folder, server)
    assert later.problem is None
    whole(client, "dead")


def test_mlflow_required_makes_an_unsent_run_exit_with_3(server: str) -> None:
    suite = write_suite("required", "", "name: NAME\ndataset: {rows: [{input: a, out: a, expected: a}]}\n"
                        "target: {type: recorded, column: out}\nscorers: [exact_match]\n")  # fmt: skip
    with faulty_proxy(server, Fault(lambda number: "before", status=403)) as refusing:
        lost = run_suite(suite, options=RunOptions(mlflow=refusing, mlflow_required=True))
        fine = run_suite(suite, options=RunOptions(mlflow=refusing))
    assert (lost.verdict, lost.exit_code, fine.exit_code) == ("pass", 3, 0)
    (notice,) = lost.details.notices
    assert "not sent" in notice and "403" in notice
    assert json.loads((lost.folder / "run.json").read_text())["exit_code"] == 0


def test_a_rejected_token_is_reported_at_once_and_redacted(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-very-secret")
    fault = Fault(lambda number: "before", status=401)
    with faulty_proxy(server, fault) as refusing:
        result = run("refused", mlflow=refusing)
    assert len(fault.seen) == 1  # a retry would not help
    assert "token-very" not in (result.folder / "mlflow.json").read_text()
    assert "401" in ledger(result.folder)["problem"]


@pytest.mark.parametrize("lost", ["before", "after"])
def test_transient_failures_neither_lose_nor_duplicate_data(server: str, client: Any, lost: str) -> None:
    name = f"third-{lost}"
    fault = Fault(lambda number: lost if number % 3 == 0 else None)
    with faulty_proxy(server, fault) as proxy:
        run(name, tracking(proxy, EVERYTHING))
    whole(client, name, traces=3)


def test_sending_continues_after_a_server_crash(server: str, client: Any) -> None:
    fault = Fault()
    with faulty_proxy(server, fault) as proxy:
        result = run("dies")
        broken = 0
        for more in range(2, 40, 2):  # each attempt gets a little further
            fault.fails = lambda number, more=more: "drop" if number > more else None
            fault.seen.clear()
            if exporter.send(result.folder, proxy, patience_s=0.1).problem is None:
                break
            assert ledger(result.folder)["sent"] is False
            broken += 1
        assert broken >= 4
    whole(client, "dies")


def test_a_restarted_server_receives_the_rest(tmp_path: Path) -> None:
    result, folder, port = run("killed", tracking("http://127.0.0.1:1", EVERYTHING)), tmp_path / "server", free_port()
    folder.mkdir()
    groups: list[int] = []

    def kill(number: int) -> str | None:
        if number == 10:
            os.killpg(groups[0], signal.SIGKILL)
        return None

    with mlflow_server(folder, port, groups) as first, faulty_proxy(first, Fault(kill)) as proxy:
        assert exporter.send(result.folder, proxy, patience_s=1).problem is not None
    with mlflow_server(folder, port) as again:
        done = evalrun(
            "track", str(result.folder), "--mlflow", again
        )  # MLflow caches addresses of artifacts in a process
        assert done.returncode == 0, done.stderr
        with warnings.catch_warnings(), mlflow_client(again) as client:
            whole(client, "killed", traces=3)


def test_a_killed_sending_is_continued_by_only_one_of_two_processes(server: str, client: Any) -> None:
    result = run("shot", tracking("http://127.0.0.1:1", EVERYTHING))
    fault = Fault(delay_s=0.3)
    command = [sys.executable, "-m", "evalrunner", "track", str(result.folder), "--mlflow"]
    with faulty_proxy(server, fault) as proxy:
        shot = subprocess.Popen([*command, proxy], env=command_env())
        while len(fault.seen) < 10 and shot.poll() is None:
            time.sleep(0.05)
        shot.kill()
        assert shot.wait() == -signal.SIGKILL
        fault.delay_s = 0.0
        both = [subprocess.Popen([*command, proxy], env=command_env(), stderr=subprocess.PIPE) for _ in range(2)]
        message = [process.communicate()[1].decode() for process in both]
    assert sorted(process.returncode for process in both) in ([0, 0], [0, 2]), message
    whole(client, "shot", traces=3)


def test_a_busy_database_is_retried(server: str, client: Any) -> None:
    busy = {"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5 overflow 10 reached, timed out"}
    fault = Fault(lambda number: "before" if number % 4 == 0 else None, status=400, body=json.dumps(busy).encode())
    with faulty_proxy(server, fault) as proxy:
        run("full", tracking(proxy, EVERYTHING))
    whole(client, "full", traces=3)


def test_concurrent_requests_stay_below_the_connections_of_the_server(server: str) -> None:
    rows = ", ".join(f"{{input: q{n}, out: a, expected: a}}" for n in range(12))
    targets = ", ".join(f"{{type: recorded, column: out, name: t{n}}}" for n in range(6))
    suite = f"name: NAME\ndataset: {{rows: [{rows}]}}\ntargets: [{targets}]\nscorers: [contains]\n"
    fault = Fault(delay_s=0.2)
    with faulty_proxy(server, fault) as proxy:
        result = run("crowd", tracking(proxy, EVERYTHING), suite)
    assert ledger(result.folder)["traces"] == {f"t{n}": 12 for n in range(6)}
    assert 4 < fault.most_at_once < 15


def test_traces_continue_after_an_interrupted_sending(server: str, client: Any) -> None:
    Path("long.jsonl").write_text(
        "".join(json.dumps({"input": f"q{n}", "expected": "0", "out": str(n) * 1_100_000}) + "\n" for n in range(4))
    )
    suite = "name: NAME\ndataset: long.jsonl\ntarget: {type: recorded, column: out}\nscorers: [contains]\n"
    result = run("long", "", suite)
    fault = Fault()
    fault.fails = lambda number: "drop" if fault.seen.count(("POST", "/v1/traces")) > 2 else None
    more = {"tracking": {"mlflow": {"log": ["traces"]}}}
    path = result.folder / "run.json"
    path.write_text(
        json.dumps({**(message := json.loads(path.read_text())), "resolved": {**message["resolved"], **more}})
    )
    with faulty_proxy(server, fault) as proxy:
        broken = exporter.send(result.folder, proxy, patience_s=3)
        assert broken.problem is not None
        assert ledger(result.folder)["traces"] == {"recorded": 2}  # each row is a separate batch
        fault.fails = lambda number: None
        fault.seen.clear()
        assert exporter.send(result.folder, proxy).problem is None
    assert fault.seen.count(("POST", "/v1/traces")) == 2
    assert [len(trace.data.spans) for trace in Arrived(client, "long").traces("recorded")] == [1, 1, 1, 1]


def test_suites_do_not_wait_for_the_sending_of_others(server: str, client: Any) -> None:
    fault = Fault(delay_s=0.1)
    with faulty_proxy(server, fault) as slow:
        suites = [str(write_suite(name, tracking(slow, "log: [metrics]"))) for name in ("first-of-two", "second")]
        assert evalrun(*suites, "-q").returncode == 1
    (second,) = Path("runs/second").iterdir()
    assert fault.first_at is not None and fault.first_at > (second / "metrics.json").stat().st_mtime
    assert [Arrived(client, name).count for name in ("first-of-two", "second")] == [3, 3]


def test_nothing_is_sent_before_the_last_row_is_on_disk(server: str, client: Any) -> None:
    fault = Fault(delay_s=1.0)
    with faulty_proxy(server, fault) as slow:
        result = run("slow", mlflow=slow)
    assert fault.first_at is not None
    assert fault.first_at > (result.folder / "rows.jsonl").stat().st_mtime
    assert fault.first_at > (result.folder / "metrics.json").stat().st_mtime
    whole(client, "slow")


def test_an_invalid_address_is_an_error_before_the_first_call() -> None:
    for wrong in ("ftp://x", "mlruns", "http:/half"):
        with pytest.raises(SuiteError, match="tracking.mlflow.uri: '.*' should be http"):
            run("wrong", tracking(wrong, "log: []"))
    assert not Path("runs").exists()


def test_a_login_in_an_address_is_never_written_or_printed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_locked_run_is_not_sent(server: str) -> None:
    result = run("taken")
    with RunLock(result.folder), pytest.raises(RunLockedError):
        exporter.send(result.folder, server)


def test_an_unfinished_run_is_not_sent(server: str) -> None:
    result = run("unfinished")
    path = result.folder / "run.json"
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "running"'))
    with pytest.raises(RunError, match="did not finish"):
        exporter.send(result.folder, server)


def test_another_address_does_not_need_the_variables_of_the_suites_address(
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
