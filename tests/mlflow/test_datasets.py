"""Datasets in MLflow: tables of runs, datasets logged to runs, evaluation datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.api import SuiteResult
from evalrunner.mlflow.export import mlflow as exporter
from tests.mlflow.conftest import Arrived
from tests.mlflow.runs import run, tracking

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]

AGAIN = """\
name: NAME
dataset: {mlflow: "ID"}
target: {type: recorded, column: outputs}
scorers: [exact_match, contains]
"""
ECHO = """\
name: NAME
dataset: {mlflow: "ID", MORE}
target: {type: python, function: echo.py:answer}
scorers: [exact_match]
"""
ROWS = "inputs;ground_truth;topic\nq1;q1;a\nq2;no;b\nq3;q3;a\n"


@pytest.fixture(autouse=True)
def echo() -> None:
    Path("echo.py").write_text("def answer(input):\n    return str(input)\n")


def read(name: str, server: str, reference: str, more: str = "", **options: Any) -> SuiteResult:
    """A run over a dataset of the server, which only the suite names."""
    suite = ECHO.replace("ID", reference).replace(", MORE", f", {more}" if more else "")
    return run(name, tracking(server, "log: []"), suite, **options)


def inputs(result: SuiteResult) -> list[Any]:
    return result.table["input"].tolist()


def run_file(result: SuiteResult) -> dict[str, Any]:
    return dict(json.loads((result.folder / "run.json").read_text()))


def test_outputs_of_an_earlier_run_can_be_rescored(server: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    first = run("asked", tracking(server, "log: [table]"))
    arrived = Arrived(client, "asked")
    again = run("asked-again", "", AGAIN.replace("ID", arrived.targets["good"].info.run_id))
    for column in ("id", "input", "expected", "output", "exact_match/v1/score", "contains/v1/score"):
        was = first.table[first.table["target"] == "good"][column]
        assert again.table[column].astype(str).tolist() == was.astype(str).tolist(), column
    with pytest.raises(SuiteError, match=r"dataset.mlflow: .* has several tables; name the run of one target: "):
        run("which", "", AGAIN.replace("ID", arrived.parent.info.run_id))


def test_columns_can_use_mlflow_names(server: str, client: Any) -> None:
    run("own-names", tracking(server, "log: [table]"))
    run_id = Arrived(client, "own-names").targets["good"].info.run_id
    result = read("by-name", server, run_id, "columns: {input: inputs, expected: ground_truth}")
    assert inputs(result) == ["2+2?", "3+3?", "no answer known"]
    assert result.table["exact_match/v1/state"].tolist() == ["scored", "scored", "skipped"]


def test_an_invalid_reference_is_an_error_before_the_first_call(server: str) -> None:
    with pytest.raises(
        SuiteError, match=r"'nobody' is not a reference to MLflow; it should be a run's id .*datasets:/NAME"
    ):
        read("odd", server, "nobody")
    with pytest.raises(SuiteError, match=rf"cannot be read from MLflow at {server}: RESOURCE_DOES_NOT_EXIST"):
        read("none", server, "0" * 32)
    with pytest.raises(SuiteError, match="there is no evaluation dataset 'nobody' in MLflow at"):
        read("none", server, "datasets:/nobody")
    with pytest.raises(
        SuiteError, match=r"there is no MLflow database 'mlflow.db' to read .* set the address of MLflow: "
    ):
        run("nowhere", "", AGAIN.replace("ID", "0" * 32))
    assert not Path("mlflow.db").exists()
    assert not Path("runs").exists()


def test_the_dataset_of_a_sent_run_can_be_read(server: str, client: Any, mlflow: Any) -> None:
    Path("sums.jsonl").write_text(
        '{"q": "2+2?", "a": "4|four", "key": 7, "input": "x"}\n{"q": "3+3?", "a": "", "key": 8, "input": "y"}\n'
    )
    columns = "columns: {input: q, expected: {column: a, split: '|'}, id: key}"
    suite = (
        f"name: NAME\ndataset: {{path: sums.jsonl, {columns}}}\ntarget: {{type: python, function: echo.py:answer}}\n"
        f"scorers: [exact_match]\n{tracking(server, 'log: [dataset]')}"
    )
    first = run("whole", "", suite)
    arrived = Arrived(client, "whole")
    again = read("whole-again", server, f"runs:/{arrived.parent.info.run_id}/sums")
    for column in ("id", "input", "expected", "sample_index"):
        if column in first.table:
            assert again.table[column].tolist() == first.table[column].tolist(), column

    below = read("target", server, arrived.targets["answer"].info.run_id)  # it has only its dataset
    assert inputs(below) == inputs(first)
    (used,) = arrived.parent.inputs.dataset_inputs
    assert run_file(below)["dataset_from"] == {
        "mlflow": f"runs:/{arrived.targets['answer'].info.run_id}/sums@{used.dataset.digest}",
        "name": "sums", "digest": used.dataset.digest,
    }  # fmt: skip
    path = Path(mlflow.data.get_source(used.dataset).load())  # MLflow can load the rows too
    assert [json.loads(line)["expected"] for line in path.read_text().splitlines()] == [["4", "four"], []]


def test_a_sent_dataset_has_the_same_digest_when_read_without_columns(server: str, client: Any) -> None:
    first = run("same", tracking(server, "log: [dataset]"))
    again = read("same-again", server, f"runs:/{Arrived(client, 'same').parent.info.run_id}/same")
    assert run_file(again)["dataset"]["digest"] == run_file(first)["dataset"]["digest"]
    run("same", tracking(server, "log: [dataset]"))  # MLflow names the first run as the source of both
    newest = Arrived(client, "same").parents[0].info.run_id
    client.delete_run(Arrived(client, "same").parents[1].info.run_id)
    assert inputs(read("same-as-well", server, f"runs:/{newest}/same")) == inputs(again)


def test_a_partial_dataset_is_not_sent(server: str, client: Any) -> None:
    suite = (
        "name: NAME\ndataset: {rows: [{input: a}, {input: b}]}\ntarget: {type: python, function: echo.py:answer}\n"
        "scorers: [{type: python, function: 'stop.py:score'}]\nrun: {concurrency: 1}\n"
    )
    Path("stop.py").write_text("def score(output):\n    return 1.0\n")
    result = run("part", "", suite)
    message = run_file(result)
    message["rows"] = 1  # as a run that was stopped says
    (result.folder / "run.json").write_text(json.dumps(message))
    assert exporter.send(result.folder, server).problem is None
    with pytest.raises(
        SuiteError, match="was created by part.yaml, and MLflow has its name and digest, but not its rows"
    ):
        read("part-again", server, f"runs:/{Arrived(client, 'part').parent.info.run_id}/part")


def log(mlflow: Any, source: Any = None, name: str = "facts") -> str:
    """The id of a run that a dataset was logged to. MLflow treats two with the same name and content as one, with one source."""
    import pandas

    frame = pandas.DataFrame({"inputs": ["q1", str(source)]})
    mlflow.set_experiment("logged datasets")
    with mlflow.start_run() as started:
        mlflow.log_input(mlflow.data.from_pandas(frame, source=source, name=name), context="evaluation")
    return str(started.info.run_id)


def test_a_logged_dataset_is_read_from_its_source_file(server: str, mlflow: Any) -> None:
    path = Path("facts.csv").resolve()
    path.write_text(ROWS)
    run_id = log(mlflow, source=str(path))
    assert inputs(read("all", server, run_id, "delimiter: ';'")) == ["q1", "q2", "q3"]
    result = read("some", server, f"runs:/{run_id}/facts", "delimiter: ';', where: {topic: a}, shuffle: 3, limit: 1")
    assert (len(result.table), result.table["topic"].tolist()) == (1, ["a"])
    assert result.metrics["exact_match/v1"] == 1.0
    with pytest.raises(SuiteError, match="'delimitr' is neither a key of a dataset nor an option of 'csv'"):
        read("typo", server, run_id, "delimitr: ';'")
    path.unlink()
    with pytest.raises(SuiteError, match=r"facts.csv', which is not found on this machine"):
        read("gone", server, run_id)


def test_datasets_on_other_hosts_are_refused(server: str, mlflow: Any) -> None:
    with pytest.raises(
        SuiteError, match=r"is stored at 'https://example.org/x.csv' \(http\), and only MLflow's host is contacted"
    ):
        read("far", server, log(mlflow, source="https://example.org/x.csv"))
    with pytest.raises(
        SuiteError, match=r"is stored at 's3://bucket/x.csv' \(s3\), and only MLflow's host is contacted"
    ):
        read("far", server, log(mlflow, source="s3://bucket/x.csv"))
    with pytest.raises(SuiteError, match="was created by .*, and MLflow has its name and digest, but not its rows"):
        read("far", server, log(mlflow))
    with pytest.raises(SuiteError, match=r"'x.bin' is not a file of rows; supported extensions: .csv"):
        read("far", server, log(mlflow, source=str(Path("x.bin").resolve())))


def test_one_of_several_datasets_is_selected_by_name(server: str, mlflow: Any) -> None:
    import pandas

    for name in ("one", "two"):
        Path(f"{name}.csv").write_text(f"input,expected\n{name},{name}\n")
    run_id = log(mlflow, str(Path("one.csv").resolve()), "facts")
    frame = pandas.DataFrame({"inputs": [str(Path())]})
    with mlflow.start_run(run_id=run_id):
        mlflow.log_input(mlflow.data.from_pandas(frame, source=str(Path("two.csv").resolve()), name="facts"))
        mlflow.log_artifact("one.csv", "kept")
    with pytest.raises(SuiteError, match=rf"has several datasets; name one: runs:/{run_id}/facts@\w+, runs:"):
        read("which", server, run_id)
    with pytest.raises(SuiteError, match=r"several datasets 'facts'; name one: ") as refused:
        read("which", server, f"runs:/{run_id}/facts")
    named = [word.strip(",") for word in str(refused.value).split() if word.startswith(f"runs:/{run_id}/facts@")]
    assert sorted(inputs(read(f"named-{at}", server, one))[0] for at, one in enumerate(named)) == ["one", "two"]
    assert inputs(read("file", server, f"runs:/{run_id}/kept/one.csv")) == ["one"]
    with pytest.raises(SuiteError, match=r"has no dataset and no file 'three.csv'; it has: facts@"):
        read("none", server, f"runs:/{run_id}/three.csv")


def evaluation_dataset(mlflow: Any, name: str, *records: dict[str, Any]) -> Any:
    from mlflow.genai.datasets import create_dataset

    created = create_dataset(name=name, experiment_id="0")
    return created.merge_records(list(records))


def test_an_evaluation_dataset_is_read_by_its_name_or_id(server: str, mlflow: Any) -> None:
    created = evaluation_dataset(
        mlflow, "capitals",
        {"inputs": {"question": "q1"}, "expectations": {"expected_response": "q1"}, "tags": {"topic": "a"}},
    )  # fmt: skip
    created.merge_records([
        {"inputs": {"question": "q2"}, "expectations": {"expected_facts": ["f1", "f2"], "tone": "dry"}},
        {"inputs": {"question": "q3", "context": ["c"]}, "expectations": {"expected": 3}, "tags": {"topic": "b"}},
    ])  # fmt: skip
    result = read("by-name", server, "datasets:/capitals", "columns: {input: question}")
    actual = dict(zip(inputs(result), result.table["expected"], strict=True))
    assert actual == {"q1": "q1", "q2": "f1\nf2", "q3": "3"}
    assert run_file(result)["dataset_from"] == {
        "mlflow": f"datasets:/{created.dataset_id}", "name": "capitals",
        "digest": mlflow.genai.datasets.get_dataset(dataset_id=created.dataset_id).digest,
    }  # fmt: skip
    with pytest.raises(SuiteError, match=r"no column 'input' in MLflow's evaluation dataset 'capitals' .*question"):
        read("no-input", server, "datasets:/capitals", "where: {tags.topic: b}")
    only = read("only", server, created.dataset_id, "where: {tags.topic: a}")  # one input is the input
    assert (inputs(only), only.metrics["exact_match/v1"]) == (["q1"], 1.0)
    mlflow.set_experiment("logged datasets")
    with mlflow.start_run() as started:
        mlflow.log_input(created)
    assert len(read("input", server, started.info.run_id, "columns: {input: question}").table) == 3


def test_an_ambiguous_evaluation_dataset_name_is_an_error(server: str, mlflow: Any) -> None:
    ids = [evaluation_dataset(mlflow, "double", {"inputs": {"q": name}}).dataset_id for name in "ab"]
    with pytest.raises(SuiteError, match="several evaluation datasets 'double'; use the id of one: ") as refused:
        read("double", server, "datasets:/double")
    assert all(one in str(refused.value) for one in ids)


def test_a_changed_dataset_refuses_the_resume(server: str, mlflow: Any) -> None:
    created = evaluation_dataset(mlflow, "growing", {"inputs": {"q": "1"}, "expectations": {"expected_response": "a"}})
    result = read("growing", server, "datasets:/growing")
    again = run_suite(options=RunOptions(resume=result.run_id))
    assert again.run_id == result.run_id
    created.merge_records([{"inputs": {"q": "2"}, "expectations": {"expected_response": "a"}}])
    with pytest.raises(SuiteError, match=r"dataset: its rows changed \(1 → 2 rows, other content\)"):
        run_suite(options=RunOptions(resume=result.run_id))


def test_a_conversation_in_an_evaluation_dataset_becomes_messages(server: str, mlflow: Any) -> None:
    evaluation_dataset(
        mlflow,
        "chats",
        {"inputs": {"messages": [{"role": "user", "content": "hello"}]}, "expectations": {"expected_response": "a"}},
    )
    assert inputs(read("chats", server, "datasets:/chats")) == ["hello"]


def test_the_dataset_can_set_its_own_uri(server: str, mlflow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation_dataset(mlflow, "away", {"inputs": {"q": "a"}, "expectations": {"expected_response": "a"}})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("PASS", "very-secret-word")
    suite = ECHO.replace("ID", "datasets:/away").replace("MORE", f"uri: '{server.replace('//', '//me:${PASS}@')}'")
    result = run("away", "", suite)
    assert inputs(result) == ["a"]
    assert "very-secret-word" not in "".join(path.read_text() for path in result.folder.glob("*.json*"))
    message = run_file(result)["resolved"]["dataset"]["uri"]
    assert message == server.replace("//", "//me:${PASS}@")


def test_the_address_of_the_command_line_applies_to_dataset_and_tracking(server: str, mlflow: Any) -> None:
    evaluation_dataset(mlflow, "asked-there", {"inputs": {"q": "a"}, "expectations": {"expected_response": "a"}})
    suite = ECHO.replace("ID", "datasets:/asked-there").replace(", MORE", "")
    result = run("there", "tracking: {mlflow: {uri: 'http://${NOT_SET_ANYWHERE}', log: []}}\n", suite, mlflow=server)
    assert inputs(result) == ["a"]
    assert (result.folder / "mlflow.json").is_file()
