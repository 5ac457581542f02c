"""Models logged with MLflow as targets: loaded from a real registry, their alias resolved to a version once."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalrun import RunOptions, SuiteError, run_suite
from evalrun.mlflow_package import quiet_mlflow
from evalrun.targets.mlflow_answers import text_of
from tests.fakes.server import Answer, ScriptedServer
from tests.tracking.conftest import client, server  # noqa: F401  fixtures

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]

SUITE = """\
name: logged
dataset: {rows: [{input: paris, expected: PARIS}, {input: boom, expected: BOOM}]}
target: {type: mlflow, model_uri: MODEL}
scorers: [exact_match]
"""


def write(model: str, suite: str = SUITE) -> Path:
    Path("logged.yaml").write_text(suite.replace("MODEL", model))
    return Path("logged.yaml")


@pytest.fixture
def registry(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:  # noqa: F811
    """The package, talking to the server, as somebody who logs models has it."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("the extra 'mlflow' is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with quiet_mlflow(MLFLOW_TRACKING_URI=server):
        import mlflow

        mlflow.set_experiment("models")
        yield mlflow


def log_shouting(registry: Any, name: str, sign: str) -> str:
    """The version of a model that shouts, written to a file so that it needs no module of ours."""
    code = Path("shouting.py")
    code.write_text(
        "import mlflow\n\nclass Shouting(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        text = model_input.iloc[0, 0]\n        if text == 'boom':\n            raise ValueError('no')\n"
        f"        return [text.upper() + {sign!r}]\n\nmlflow.models.set_model(Shouting())\n"
    )
    with warnings.catch_warnings(record=True):  # MLflow wants type hints of those who log models
        logged = registry.pyfunc.log_model(
            name="model", python_model=str(code), registered_model_name=name, pip_requirements=[]
        )
    return str(logged.registered_model_version)


def test_an_alias_is_the_version_that_it_meant_when_the_run_began(registry: Any) -> None:
    first = log_shouting(registry, "shouting", "")
    registry.MlflowClient().set_registered_model_alias("shouting", "champion", first)
    log_shouting(registry, "shouting", "!")
    result = run_suite(write("models:/shouting@champion"))
    table = result.table
    assert table["ended"].tolist() == ["stop", "error: function"]
    assert table["output"][0] == "PARIS"
    run = json.loads((result.folder / "run.json").read_text())
    assert run["targets"]["mlflow"]["model"] == f"models:/shouting/{first}"
    assert run["definition"]["targets"]["mlflow"]["options"] == {"model_uri": "models:/shouting@champion"}
    latest = run_suite(write("models:/shouting/latest"), options=RunOptions(limit=1))
    assert list(latest.table["output"]) == ["PARIS!"]


def test_a_run_does_not_go_on_with_another_version_behind_the_alias(registry: Any) -> None:
    first = log_shouting(registry, "moving", "")
    registry.MlflowClient().set_registered_model_alias("moving", "champion", first)
    result = run_suite(write("models:/moving@champion"))
    second = log_shouting(registry, "moving", "!")
    registry.MlflowClient().set_registered_model_alias("moving", "champion", second)
    with pytest.raises(SuiteError, match="models:/moving/"):
        run_suite(options=RunOptions(resume=result.run_id, retry_errors=True))


def test_a_model_that_is_not_there_is_told_before_the_run(registry: Any) -> None:
    with pytest.raises(SuiteError, match="'models:/nobody@champion' cannot be resolved to a version: "):
        run_suite(write("models:/nobody@champion"))
    assert not Path("runs").exists()


def test_the_tutorials_logged_model_answers_through_it(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none-at-all")
    with ScriptedServer(lambda request, nth: Answer(f"You asked: {request['messages'][-1]['content']}")) as gateway:
        monkeypatch.setenv("OPENAI_BASE_URL", gateway.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", gateway.base_url)
        logged = registry.openai.log_model(
            model="gateway-chat", task="chat.completions", name="model", pip_requirements=[],
            messages=[{"role": "system", "content": "Two sentences."}, {"role": "user", "content": "{question}"}],
        )  # fmt: skip
        suite = SUITE.replace("input: paris, expected: PARIS", "input: x, expected: 'You asked: x'")
        result = run_suite(write(logged.model_uri, suite), options=RunOptions(limit=1))
    assert list(result.table["output"]) == ["You asked: x"]
    assert result.metrics["exact_match/v1"] == 1.0


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("a", "a"),
        (["a"], "a"),
        ([{"content": "a", "role": "assistant"}], "a"),
        ([{"x": "a"}], "a"),
        (None, ""),
        (["a", "b"], '["a", "b"]'),
        ([{"x": 1, "y": 2}], '{"x": 1, "y": 2}'),
    ],
)
def test_the_text_of_an_answer_is_found(answer: Any, text: str) -> None:
    assert text_of(answer) == text
