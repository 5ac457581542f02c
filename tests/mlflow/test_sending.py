"""Runs in MLflow, read back from a real server with MLflow's client."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from evalrunner.api import SuiteResult
from evalrunner.mlflow.export import mlflow as exporter
from tests.fakes.command import evalrun
from tests.mlflow.conftest import Arrived
from tests.mlflow.runs import ledger, run, tracking, write_suite

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def sent(server: str, tmp_path_factory: pytest.TempPathFactory) -> SuiteResult:
    """A sent run, read-only for tests."""
    folder = tmp_path_factory.mktemp("sent")
    return run("sums", folder=folder, output_dir=folder / "runs", mlflow=server)


def test_targets_are_child_runs_of_the_suite(server: str, client: Any, sent: SuiteResult) -> None:
    result, arrived = sent, Arrived(client, "sums")
    assert sorted(arrived.targets) == ["bad", "good"]
    parent = arrived.parent
    assert {run.data.tags["mlflow.parentRunId"] for run in arrived.targets.values()} == {parent.info.run_id}
    assert parent.info.run_name == f"sums {result.run_id}"
    assert {run.info.status for run in [parent, *arrived.targets.values()]} == {"FINISHED"}
    message = json.loads((result.folder / "run.json").read_text())
    times = (datetime.fromisoformat(message[name]).timestamp() * 1000 for name in ("started_at", "finished_at"))
    assert (parent.info.start_time, parent.info.end_time) == tuple(map(round, times))
    assert ledger(result.folder) | {"done": []} == {
        "uri": server, "experiment": "sums", "experiment_id": arrived.experiment_id, "done": [], "traces": {}, "sent": True,
        "runs": {"": parent.info.run_id, **{name: run.info.run_id for name, run in arrived.targets.items()}},
        "content": ledger(result.folder)["content"], "stamp_ms": parent.info.end_time, "problem": None,
        "url": f"{server}/#/experiments/{arrived.experiment_id}/runs/{parent.info.run_id}",
    }  # fmt: skip


def test_metrics_have_mlflows_names_with_their_interval_and_count(client: Any, sent: SuiteResult) -> None:
    result, arrived = sent, Arrived(client, "sums")
    good = arrived.targets["good"].data.metrics
    stored = json.loads((result.folder / "metrics.json").read_text())["targets"]["good"]["metrics"]
    whole = next(metric for metric in stored if metric["name"] == "exact_match/v1" and metric["slice"] is None)
    assert {end: good[f"exact_match/v1{end}"] for end in ("", "/low", "/high", "/n")} == {
        "": whole["value"], "/low": whole["low"], "/high": whole["high"], "/n": 2,
    }  # fmt: skip
    assert good["contains/v1/topic/x"] == 1.0
    (odd,) = [name for name in good if name.startswith("contains/v1/topic/a_b_-") and name.count("/") == 3]
    assert good[odd] == 1.0
    assert arrived.parent.data.metrics["bad/exact_match/v1"] == 0.5
    assert arrived.parent.data.metrics["rows"] == 6


def test_parameters_and_tags_describe_the_run(server: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["init", "-b", "topic/x"], ["config", "user.email", "a@b"], ["config", "user.name", "a"]):
        subprocess.run(["git", *command], check=True, capture_output=True)
    subprocess.run(["git", "commit", "--allow-empty", "-m", "x"], check=True, capture_output=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setenv("CI_JOB_URL", "https://ci.example/job/1")
    monkeypatch.setenv("TEAM", "quality")
    more = "tracking: {mlflow: {experiment: 'said-${TEAM}', run_name: mine, tags: {team: '${TEAM}', n: 3, 'a=b': c}}}\n"
    result = run("said", more, mlflow=server)
    arrived = Arrived(client, "said-quality")
    tags, params = arrived.parent.data.tags, arrived.targets["good"].data.params
    assert arrived.parent.info.run_name == "mine"
    assert {name: tags[name] for name in ("team", "n", "evalrun.suite", "evalrun.run_id", "evalrun.verdict")} == {
        "team": "quality", "n": "3", "evalrun.suite": "said", "evalrun.run_id": result.run_id, "evalrun.verdict": "fail",
    }  # fmt: skip
    assert (tags["mlflow.source.git.commit"], tags["mlflow.source.git.branch"]) == (commit, "topic/x")
    assert (tags["evalrun.ci_url"], tags["mlflow.note.content"]) == ("https://ci.example/job/1", "Sums.")
    gates = [tags["evalrun.gate.1"], tags["evalrun.gate.2"]]
    assert gates[0].startswith("pass: contains >= 0.9 [good]: 1, ")
    assert gates[1].startswith("fail: contains >= 0.9 [bad]: 0.5, misses the threshold")
    digest = json.loads((result.folder / "run.json").read_text())["dataset"]["digest"]
    assert params == {
        "target": "good", "type": "recorded", "dataset.digest": digest, "seed": "0",
        "scorer.exact_match": "v1", "scorer.contains": "v1",
    }  # fmt: skip


def test_the_dataset_is_an_input_of_every_run(client: Any, sent: SuiteResult) -> None:
    result, arrived = sent, Arrived(client, "sums")
    digest = json.loads((result.folder / "run.json").read_text())["dataset"]["digest"]
    for actual in [arrived.parent, *arrived.targets.values()]:
        (used,) = client.get_run(actual.info.run_id).inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("sums", digest[:36])
        assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "evaluation"}


def test_the_table_has_the_names_of_mlflow_evaluate(client: Any, sent: SuiteResult) -> None:
    result, arrived = sent, Arrived(client, "sums")
    frame = arrived.table("good")
    assert list(frame.columns) == [
        "id", "epoch", "inputs", "good", "bad", "topic", "ground_truth", "outputs",
        "exact_match/v1/score", "exact_match/v1/justification", "exact_match/v1/state",
        "contains/v1/score", "contains/v1/justification", "contains/v1/state",
        "latency", "token_count", "cost_usd", "finish_reason",
    ]  # fmt: skip
    assert list(frame["inputs"]) == ["2+2?", "3+3?", "no answer known"]
    assert list(frame["ground_truth"])[:2] == ["4", '["6", "six"]']
    assert list(frame["outputs"]) == ["4", "The answer is 6.", "<script>alert(1)</script>"]
    assert list(frame["exact_match/v1/score"])[:2] == [1.0, 0.0]
    assert list(frame["exact_match/v1/state"]) == ["scored", "scored", "skipped"]
    ours = result.tables["eval_results_table"]
    assert list(ours.columns) == ["target", *frame.columns]
    assert list(ours["outputs"])[:3] == list(frame["outputs"])
    assert json.loads(arrived.targets["good"].data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "eval_results_table.json", "type": "table"}
    ]
    assert arrived.artifacts(arrived.targets["good"]) == ["eval_results_table.json"]
    assert "metrics.json" in arrived.artifacts(arrived.parent)


def test_epochs_are_steps_and_the_last_one_is_the_metric(server: str, client: Any) -> None:
    suite = (
        "name: NAME\ndataset: {rows: [{input: 1, expected: '1'}, {input: 2, expected: '2'}]}\n"
        "target: {type: python, function: drift.py:answer}\nscorers: [exact_match]\n"
        "run: {epochs: 3, reducer: [mean, pass_at_2]}\n"
    )
    Path("drift.py").write_text("def answer(input, epoch):\n    return str(input) if epoch == 1 else 'wrong'\n")
    result = run("steps", tracking(server, "log: [metrics, traces]"), suite)
    arrived = Arrived(client, "steps")
    run_id = arrived.targets["answer"].info.run_id
    # MLflow pairs the rows of two runs by the preview
    assert sorted(trace.info.request_preview for trace in arrived.traces("answer")) == [
        f"{number} (epoch {epoch})" for number in (1, 2) for epoch in (1, 2, 3)
    ]
    history = client.get_metric_history(run_id, "exact_match/v1")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)),
    ]  # fmt: skip
    assert result.metrics["exact_match/v1"] == pytest.approx(1 / 3)
    steps = {point.step for point in client.get_metric_history(run_id, "exact_match/v1/pass_at_2")}
    assert steps == {2, 3}


def test_sending_twice_creates_one_run(server: str, client: Any) -> None:
    result = run("twice", mlflow=server)
    first = ledger(result.folder)
    again = exporter.send(result.folder, server)
    assert (again.already_sent, again.problem, again.run_id) == (True, None, first["runs"][""])
    (result.folder / "mlflow.json").unlink()  # even without the record in the run folder
    third = exporter.send(result.folder, server)
    assert (third.problem, ledger(result.folder)["runs"]) == (None, first["runs"])
    arrived = Arrived(client, "twice")
    assert arrived.count == 3
    run_id = arrived.targets["good"].info.run_id
    assert len(client.get_metric_history(run_id, "exact_match/v1")) == 1
    assert len(client.get_run(run_id).inputs.dataset_inputs) == 1


def test_a_run_deleted_in_mlflow_is_sent_again(server: str, client: Any) -> None:
    result = run("deleted", mlflow=server)
    before = ledger(result.folder)["runs"]
    client.delete_run(before["good"])
    again = exporter.send(result.folder, server)
    after = ledger(result.folder)["runs"]
    assert (again.already_sent, again.problem) == (False, None)
    assert (after[""], after["bad"]) == (before[""], before["bad"])
    arrived = Arrived(client, "deleted")
    assert arrived.targets["good"].info.run_id == after["good"] != before["good"]
    assert arrived.targets["good"].data.metrics["contains/v1"] == 1.0


def test_only_the_parts_named_in_log_are_sent(server: str, client: Any) -> None:
    result = run("little", tracking(server, "log: [metrics]"), targets=("good",))
    arrived = Arrived(client, "little")
    assert [arrived.artifacts(run) for run in [arrived.parent, *arrived.targets.values()]] == [[], []]
    assert client.get_run(arrived.parent.info.run_id).inputs.dataset_inputs == []
    assert "contains/v1" in arrived.targets["good"].data.metrics
    # the metrics of a single target are in the suite's run too, without its name
    assert arrived.parent.data.metrics["contains/v1"] == result.metrics["contains/v1"]


def test_every_row_is_a_trace_with_its_scores(server: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=private")
    more = tracking(server, "log: [traces]")
    result = run("traced", more)
    arrived = Arrived(client, "traced")
    traces = {trace.info.request_preview: trace for trace in arrived.traces("bad")}
    assert sorted(traces) == ["2+2?", "3+3?", "no answer known"]
    actual = traces["2+2?"]
    assert json.loads(actual.data.request) == {"input": "2+2?"}
    assert json.loads(actual.data.response) == "five"
    assert {name for name in actual.info.tags if not name.startswith("mlflow.")} == {
        "evalrun.run_id", "evalrun.target", "evalrun.sample", "evalrun.epoch",
    }  # fmt: skip
    scores = {
        message.name: (
            message.feedback.value if message.feedback else message.expectation.value,
            message.source.source_type,
        )
        for message in actual.info.assessments
    }
    assert scores == {"expected_response": ("4", "HUMAN"), "exact_match": (0.0, "CODE"), "contains": (0.0, "CODE")}
    assert [message.name for message in traces["no answer known"].info.assessments] == []  # no scorer applies
    (result.folder / "mlflow.json").unlink()
    assert exporter.send(result.folder).problem is None
    again = Arrived(client, "traced").traces("bad")
    assert sorted(trace.info.trace_id for trace in again) == sorted(trace.info.trace_id for trace in traces.values())
    assert sorted(len(trace.info.assessments) for trace in again) == [0, 3, 3]


def test_a_resumed_run_updates_its_run_in_mlflow(server: str, client: Any) -> None:
    Path("flaky.py").write_text(
        "from pathlib import Path\ndef answer(input):\n    if input == 'b' and not Path('up').exists():\n"
        "        raise ValueError('down')\n    return input\n"
    )
    suite = (
        "name: NAME\ndataset: {rows: [{input: a, expected: a}, {input: b, expected: b}]}\n"
        "target: {type: python, function: flaky.py:answer}\nscorers: [exact_match]\n"
        + tracking(server, "log: [metrics, table, traces]")
    )
    first = run("goes-on", "", suite)
    before = Arrived(client, "goes-on")
    assert {trace.info.state.value for trace in before.traces("answer")} == {"OK", "ERROR"}
    Path("up").touch()
    run("goes-on", "", suite, resume=first.run_id, retry_errors=True)
    after = Arrived(client, "goes-on")
    assert after.count == 2
    assert after.parent.info.run_id == before.parent.info.run_id
    assert after.targets["answer"].data.metrics["exact_match/v1/n"] == 2
    assert [trace.info.state.value for trace in after.traces("answer")] == ["OK", "OK"]
    assert list(after.table("answer")["outputs"]) == ["a", "b"]


def test_hostile_texts_are_sent_as_plain_text(server: str, client: Any) -> None:
    rows = [
        {"input": "nul \0 and \x9f", "expected": "x" * 7000, "out": "\x1b[31m\u202e" + "y" * 100_000, "t": "../.."},
        {"input": "b", "expected": "b", "out": "\U0001f600", "t": "//a b"},
        {"input": "c", "expected": "c", "out": "1" * 5000, "t": "1"},  # a server that reads it as a number breaks
    ]
    Path("odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = (
        'name: NAME\ndescription: "<img src=x onerror=alert(1)>"\ndataset: odd.jsonl\n'
        "target: {type: recorded, column: out, name: 'a/../b <i>'}\nscorers: [exact_match]\nslices: [t]\n"
        + tracking(server, "tags: {'x<y>/..': z}, log: [metrics, table, dataset, traces]")
    )
    result = run("odd", "", suite)
    assert ledger(result.folder)["problem"] is None
    arrived = Arrived(client, "odd")
    assert arrived.parent.data.tags["mlflow.note.content"] == r"\<img src=x onerror=alert(1)\>"  # shown as Markdown
    frame = arrived.table("a/../b <i>")
    assert frame["inputs"][0] == "nul  and \x9f"
    assert len(frame["outputs"][0]) == 100_006
    assert [len(trace.data.spans) for trace in arrived.traces("a/../b <i>")] == [1, 1, 1]


def test_secrets_are_not_sent(server: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret-1")
    suite = (
        "name: NAME\ndataset: {rows: [{input: a, expected: a, out: it is sk-very-secret-1}]}\n"
        "target: {type: recorded, column: out}\nscorers: [exact_match]\n"
        + tracking(server, "tags: {k: '${SOME_API_KEY}'}, log: [table, traces]")
    )
    run("secret", "", suite)
    arrived = Arrived(client, "secret")
    assert arrived.parent.data.tags["k"] == "[redacted]"
    assert list(arrived.table("recorded")["outputs"]) == ["it is [redacted]"]
    assert "sk-very" not in arrived.traces("recorded")[0].to_json()


def test_the_command_prints_the_location_of_the_run(server: str, client: Any) -> None:
    suite = str(write_suite("said-so"))
    done = evalrun("--mlflow", suite, "-q", env={"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": "from-env"})
    arrived = Arrived(client, "from-env")
    page = f"{server}/#/experiments/{arrived.experiment_id}/runs/{arrived.parent.info.run_id}"
    assert (done.returncode, done.stderr) == (1, f"mlflow: sent: experiment 'from-env' at {page}\n")
    again = evalrun("track", "last", "--mlflow", server, env={"MLFLOW_EXPERIMENT_NAME": "from-env"})
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"mlflow: already sent: experiment 'from-env' at {page}\n"


def test_the_default_destination_is_a_database_in_the_working_folder() -> None:
    done = evalrun(str(write_suite("local")), "-q", "--mlflow")
    path = Path("mlflow.db").resolve()
    assert done.stderr.startswith(f"mlflow: sent: experiment 'local' at sqlite:///{path}, run "), done.stderr
    assert path.is_file()
    assert evalrun("track").stdout.startswith("mlflow: already sent: experiment 'local'")
