"""`tools` of a suite and its targets, as the server gets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.errors import SuiteError
from tests.fakes.command import evalrun
from tests.fakes.server import ScriptedServer

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI = {"type": "function", "function": {"name": "go", "description": "Go.", "parameters": SCHEMA}}


def write(server: str = "http://127.0.0.1:1/v1", *, targets: Any = None, **keys: Any) -> str:
    model = {"model": "m", "base_url": server}
    suite = {
        "name": "t",
        "dataset": {"rows": [{"id": "a", "input": "x", "expected": "ok"}]},
        "targets": [{**model, **one} for one in targets or [{}]],
        "scorers": ["contains"],
        **keys,
    }
    Path("t.yaml").write_text(json.dumps(suite))
    return "t.yaml"


def sent(**keys: Any) -> list[Any]:
    """The tools of each request."""
    with ScriptedServer() as server:
        evalrunner.run_suite(write(server.base_url, **keys))
        return [request.json.get("tools") for request in server.requests]


@pytest.mark.parametrize(
    "form",
    [
        OPENAI,
        OPENAI["function"],
        {"name": "go", "description": "Go.", "input_schema": SCHEMA},
        {"name": "go", "description": "Go.", "inputSchema": SCHEMA},
        {"type": "function", "name": "go", "description": "Go.", "parameters": SCHEMA},
    ],
)
def test_every_form_is_sent_as_the_api_of_openai_has_it(form: Any) -> None:
    assert sent(tools=[form]) == [[OPENAI]]


@pytest.mark.parametrize("content", [[OPENAI], OPENAI, {"tools": [OPENAI]}])
@pytest.mark.parametrize("name", ["one.json", "one.yaml"])
def test_tools_come_from_files(name: str, content: Any) -> None:
    Path(name).write_text(json.dumps(content))
    assert sent(tools=name) == [[OPENAI]]
    second = {"name": "stop"}
    whole = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}
    assert sent(tools=[name, second]) == [[OPENAI, whole]]


def test_tools_of_a_target_replace_those_of_the_suite() -> None:
    other = {"name": "stop", "parameters": SCHEMA}
    tools = sent(tools=[OPENAI], targets=[{"name": "a"}, {"name": "b", "tools": [other]}, {"name": "c", "tools": []}])
    names = [None if one is None else [tool["function"]["name"] for tool in one] for one in tools]
    assert sorted(names, key=str) == sorted([["go"], ["stop"], None], key=str)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tools": 7}, "tools: is 7; it should be a file or a list of tools"),
        ({"tools": "nope.json"}, "nope.json: file not found"),
        ({"tools": "notes.txt"}, "should be a file that ends in .json, .yaml or .yml"),
        ({"tools": ["broken.json"]}, "'broken.json' (tool 2) has no name"),
        ({"tools": [OPENAI, OPENAI]}, "tools[1]: has the tool 'go' a second time"),
        ({"tools": [{"name": "go", "arguments": {}}]}, "has the key 'arguments'"),
        ({"tools": [{"name": "go", "parameters": {"type": "array"}}]}, "are no JSON Schema of an object"),
        (
            {"tools": [{"name": "go", "parameters": {"properties": {"a": {"type": "txt"}}}}]},
            "no JSON Schema: properties.a.type",
        ),
        ({"tools": [{"type": "web_search"}]}, "has no name"),
        ({"tools": [OPENAI], "params": {"tools": [OPENAI]}}, "cannot be combined with params.tools"),
        ({"targets": [{"tools": [OPENAI], "params": {"tools": [OPENAI]}}]}, "cannot be combined with params.tools"),
    ],
)
def test_wrong_tools_are_reported_before_the_first_call(keys: dict[str, Any], said: str) -> None:
    Path("broken.json").write_text(json.dumps([OPENAI, {"nom": "go"}]))
    with pytest.raises(SuiteError) as error:
        evalrunner.run_suite(write(**keys))
    assert said in str(error.value)


def test_untrusted_suites_read_tools_of_their_folder_only(tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside.json"
    outside.write_text(json.dumps(OPENAI))
    write(tools=f"../{outside.name}")
    done = evalrun("validate", "t.yaml", "--untrusted", "--allow-host", "127.0.0.1:1")
    assert done.returncode == 2 and "leads out of the suite's folder" in done.stderr


def test_tools_are_compared_as_parameters() -> None:
    Path("one.json").write_text(json.dumps(OPENAI))
    with ScriptedServer() as server:
        result = evalrunner.run_suite(write(server.base_url, tools="one.json"))
    target = json.loads((Path(result.folder) / "run.json").read_text())["targets"]["m"]
    assert target["params"]["tools"] == [OPENAI]
