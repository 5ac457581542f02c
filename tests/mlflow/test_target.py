"""Models logged with MLflow as targets: loaded from a real registry, with aliases resolved once."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.mlflow.client import quiet_mlflow
from evalrunner.mlflow.target import read_answer, text_of
from tests.endpoints.conftest import free_port
from tests.fakes.server import Answer, ScriptedServer, Status
from tests.mlflow.conftest import Arrived

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
def registry(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package with the address of the server, as used to log models."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("the extra 'mlflow' is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with quiet_mlflow(MLFLOW_TRACKING_URI=server):
        import mlflow

        mlflow.set_experiment("models")
        yield mlflow


def log_shouting(registry: Any, name: str, sign: str) -> str:
    """A registered version of a model that shouts, from a file so that it needs no module of the tests."""
    code = Path("shouting.py")
    code.write_text(
        "import mlflow\n\nclass Shouting(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        text = model_input.iloc[0, 0]\n        if text == 'boom':\n            raise ValueError('no')\n"
        f"        return [text.upper() + {sign!r}]\n\nmlflow.models.set_model(Shouting())\n"
    )
    with warnings.catch_warnings(record=True):  # MLflow recommends type hints
        logged = registry.pyfunc.log_model(
            name="model", python_model=str(code), registered_model_name=name, pip_requirements=[]
        )
    return str(logged.registered_model_version)


def test_an_alias_is_resolved_to_a_version_before_the_run(registry: Any) -> None:
    first = log_shouting(registry, "shouting", "")
    registry.MlflowClient().set_registered_model_alias("shouting", "champion", first)
    log_shouting(registry, "shouting", "!")
    result = run_suite(write("models:/shouting@champion"))
    table = result.table
    assert table["finish_reason"].tolist() == ["stop", "error: function"]
    assert table["output"][0] == "PARIS"
    run = json.loads((result.folder / "run.json").read_text())
    assert run["targets"]["mlflow"]["model"] == f"models:/shouting/{first}"
    assert run["targets"]["mlflow"]["options"] == {"model_uri": "models:/shouting@champion"}
    latest = run_suite(write("models:/shouting/latest"), options=RunOptions(limit=1))
    assert list(latest.table["output"]) == ["PARIS!"]


def test_a_changed_alias_refuses_the_resume(registry: Any) -> None:
    first = log_shouting(registry, "moving", "")
    registry.MlflowClient().set_registered_model_alias("moving", "champion", first)
    result = run_suite(write("models:/moving@champion"))
    second = log_shouting(registry, "moving", "!")
    registry.MlflowClient().set_registered_model_alias("moving", "champion", second)
    with pytest.raises(SuiteError, match="models:/moving/"):
        run_suite(options=RunOptions(resume=result.run_id, retry_errors=True))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "models:/nobody@champion",
            "'models:/nobody@champion' cannot be found: .*Registered Model with name=nobody not",
        ),
        ("models:/nobody/3", "'models:/nobody/3' cannot be found: .*name=nobody, version=3.* not found"),
        ("models:/nobody/latest", "cannot be found: MLflow has no version of a model 'nobody'"),
        ("models:/nobody@", "'models:/nobody@' is not a model of MLflow; it should be models:/NAME@ALIAS, "),
        ("'models:'", "is not a model of MLflow"),
        (f"runs:/{'0' * 32}/model", "cannot be found: .*Run with id=0+ not found"),
        ("models:/m-0123", "'models:/m-0123' cannot be found: "),
        ("http://127.0.0.1:9/model", "is not a model of MLflow"),
        ("./nowhere", r"there is no folder './nowhere' with a model \(a file MLmodel\) in "),
    ],
)
def test_a_missing_model_is_an_error_before_the_run(registry: Any, uri: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        run_suite(write(uri))
    assert not Path("runs").exists()


def test_an_unreachable_server_is_reported_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(SuiteError, match=rf"'models:/qa@champion' cannot be found: no server answers at {address}$"):
        run_suite(write("models:/qa@champion"))


def test_a_model_folder_is_relative_to_the_suite(registry: Any, tmp_path: Path) -> None:
    log_shouting(registry, "saved", "!")
    folder = tmp_path / "beside"
    folder.mkdir()
    with quiet_mlflow():
        registry.pyfunc.save_model(str(folder / "model"), python_model="shouting.py", pip_requirements=[])
    suite = folder / "saved.yaml"
    suite.write_text(write("./model").read_text())
    assert run_suite(suite).table["output"].iloc[0].endswith("!")


def test_the_logged_model_of_the_tutorial_runs(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


CHAT = """\
import mlflow
from mlflow.pyfunc import ChatModel
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage, TokenUsageStats

with open("loaded", "a") as file:
    file.write("x")


class Shouting(ChatModel):
    def predict(self, context, messages, params):
        said = " ".join(f"{message.role}:{message.content}" for message in messages)
        return ChatCompletionResponse(
            choices=[ChatChoice(
                index=0, finish_reason="length" if messages[-1].content == "boom" else "stop",
                message=ChatMessage(role="assistant", content=f"{said} at {params.temperature}"),
            )],
            usage=TokenUsageStats(prompt_tokens=3, completion_tokens=4, total_tokens=7),
        )


mlflow.models.set_model(Shouting())
"""
AGENT = """\
import mlflow
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentResponse


class Echoing(ResponsesAgent):
    def predict(self, request):
        text = request.input[-1].content
        return ResponsesAgentResponse(output=[self.create_text_output_item(text=text.upper(), id="1")])


mlflow.models.set_model(Echoing())
"""


def log_code(registry: Any, code: str, **more: Any) -> str:
    Path("model.py").write_text(code)
    with warnings.catch_warnings(record=True):
        return str(
            registry.pyfunc.log_model(name="model", python_model="model.py", pip_requirements=[], **more).model_uri
        )


def test_a_chat_model_gets_the_conversation_and_its_parameters(registry: Any) -> None:
    model = log_code(registry, CHAT)
    Path("loaded").unlink(missing_ok=True)
    rows = "[{messages: [{role: system, content: s}, {role: user, content: hi}]}, {input: boom}, {input: a}]"
    suite = (
        f"name: chat\ndataset: {{rows: {rows}}}\ntarget: {{type: mlflow, model_uri: MODEL, params: {{temperature: 0.5}}}}\n"
        "scorers: [{type: contains, values: [hi]}]\n"
    )
    result = run_suite(write(model, suite))
    table = result.table.sort_values("output")
    assert table["output"].tolist() == ["system:s user:hi at 0.5", "user:a at 0.5", "user:boom at 0.5"]
    assert table["finish_reason"].tolist() == ["stop", "stop", "length"]
    assert result.metrics["token_count/total"] == 12
    assert Path("loaded").read_text() == "x"  # once for all rows


def test_an_agent_gets_the_input_as_a_conversation(registry: Any) -> None:
    model = log_code(registry, AGENT)
    assert list(run_suite(write(model), options=RunOptions(limit=1)).table["output"]) == ["PARIS"]


def test_an_unknown_model_parameter_is_an_error_of_its_rows(registry: Any) -> None:
    log_shouting(registry, "plain", "")
    suite = SUITE.replace("MODEL", "models:/plain/1, params: {temprature: 1}")
    result = run_suite(write("", suite), options=RunOptions(limit=1))
    assert list(result.table["finish_reason"]) == ["error: function"]
    assert "the model has no parameter 'temprature'" in (result.folder / "rows.jsonl").read_text()


def test_a_logged_model_with_a_failing_server_is_an_error(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none-at-all")
    refused = {"error": {"message": "no such model", "type": "invalid_request_error"}}
    with ScriptedServer(lambda request, nth: Status(400, refused)) as gateway:
        monkeypatch.setenv("OPENAI_BASE_URL", gateway.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", gateway.base_url)
        logged = registry.openai.log_model(
            model="gateway-chat", task="chat.completions", name="model", pip_requirements=[],
            messages=[{"role": "user", "content": "{inputs}"}],
        )  # fmt: skip
        result = run_suite(write(logged.model_uri), options=RunOptions(limit=1))
    assert list(result.table["finish_reason"]) == ["error: function"]
    assert "exact_match/v1" not in result.metrics or result.metrics["exact_match/v1"] is None
    assert result.verdict != "pass"


def test_the_registry_uses_the_address_of_the_suite(
    registry: Any,
    server: str,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = log_shouting(registry, "placed", "")
    registry.MlflowClient().set_registered_model_alias("placed", "champion", version)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    registry.set_tracking_uri(None)
    suite = SUITE + f"tracking: {{mlflow: {{uri: '{server}', experiment: placed, log: [metrics]}}}}\n"
    result = run_suite(write("models:/placed@champion", suite), options=RunOptions(limit=1))
    assert list(result.table["output"]) == ["PARIS"]
    params = Arrived(client, "placed").targets["mlflow"].data.params
    assert (params["model"], params["model_uri"]) == (f"models:/placed/{version}", "models:/placed@champion")
    monkeypatch.setenv("PASS", "very-secret-word")
    own = SUITE.replace("MODEL", f"models:/placed/{version}, uri: '{server.replace('//', '//me:${PASS}@')}'")
    result = run_suite(write("", own), options=RunOptions(limit=1))
    assert list(result.table["output"]) == ["PARIS"]
    assert "very-secret-word" not in "".join(path.read_text() for path in result.folder.glob("*.json*"))
    with pytest.raises(SuiteError, match="there is no MLflow database 'mlflow.db'; set the address of MLflow: uri, "):
        run_suite(write("models:/placed@champion"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"choices": [{"message": {"content": "a"}, "finish_reason": "content_filter"}]}, ("a", "filtered", None)),
        ({"choices": [{"message": {"content": None}}]}, ("", "empty", None)),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, ("a", "stop", None)),
        (
            {"output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]},
            ], "usage": {"input_tokens": 1, "output_tokens": 2}},
            ("ab", "stop", 2),
        ),
        ([{"content": " "}], ("", "empty", None)),
    ],
)  # fmt: skip
def test_a_chat_output_gives_text_and_finish_reason(answer: Any, said: tuple[str, str, int | None]) -> None:
    result = read_answer(answer, latency_s=0.0, model="m")
    assert (result.text, result.finish_reason, result.output_tokens) == said


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
def test_text_is_extracted_from_model_outputs(answer: Any, text: str) -> None:
    assert text_of(answer) == text
