"""Prompts in the forms that people have them in, and what the server gets of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.suites import Ended, command
from tests.fakes.server import Answer, ScriptedServer, always

ROWS = [
    {"id": "a", "input": "Capital of France?", "expected": "Paris"},
    {"id": "b", "input": "Ω {{ id }}", "expected": "x"},
]
OF_OPENAI = [{"role": "system", "content": "One word."}, {"role": "user", "content": "Q: {{ input }}"}]
SENT = [[{"role": "system", "content": "One word."}, {"role": "user", "content": f"Q: {row['input']}"}] for row in ROWS]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(always(Answer("Paris"))) as running:
        yield running


def run(server: ScriptedServer, prompt: Any, *args: str) -> Ended:
    """A run of a suite with this prompt over two rows."""
    suite = {
        "name": "forms",
        "dataset": {"rows": ROWS},
        "target": {"model": "m", "base_url": server.base_url},
        "prompt": prompt,
        "scorers": ["exact_match"],
        "run": {"concurrency": 1},
    }
    Path("s.yaml").write_text(json.dumps(suite))
    return command(*(args or ("run",)), "s.yaml")


def sent(server: ScriptedServer) -> list[Any]:
    return [request.json["messages"] for request in server.requests]


@pytest.mark.parametrize(
    "prompt",
    [
        OF_OPENAI,
        {"messages": OF_OPENAI},
        [{"system": "One word."}, {"role": "user", "content": "Q: {{ input }}"}],
        [{"role": "system", "content": {"file": "system.txt"}}, {"user": "Q: {{ input }}"}],
        {"file": "messages.json"},
        {"file": "request.json"},
        {"file": "messages.yaml"},
        {"file": "MESSAGES.YML"},
    ],
)
def test_messages_as_the_api_has_them_are_a_prompt(server: ScriptedServer, prompt: Any) -> None:
    Path("system.txt").write_text("One word.\n")
    Path("messages.json").write_text(json.dumps(OF_OPENAI))
    Path("request.json").write_text(json.dumps({"messages": OF_OPENAI}))
    text = "- role: system\n  content: One word.\n- role: user\n  content: 'Q: {{ input }}'\n"
    Path("messages.yaml").write_text(text)
    Path("MESSAGES.YML").write_text(text)
    done = run(server, prompt)
    assert done.code == 0, done.err
    assert sent(server) == SENT


def test_both_spellings_of_a_message_are_the_same_prompt(server: ScriptedServer) -> None:
    digests = []
    for prompt in (OF_OPENAI, [{"system": "One word."}, {"user": "Q: {{ input }}"}]):
        assert run(server, prompt).code == 0
        record = max(Path("runs/forms").glob("*/run.json"))
        digests.append(json.loads(record.read_text())["targets"]["m"]["prompt_digest"])
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "template",
    ["{{ env.API_KEY }}", "{{ env['API_KEY'] }}", "{{ env.API_KEY | default('x') }} {{ input }}", "{{ environ }}"],
)
def test_the_environment_is_refused_in_prompts_with_the_reason_and_the_way(
    server: ScriptedServer, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "sk-very-secret-value")
    done = run(server, template)
    assert done.code == 2
    assert "templates cannot read environment variables, which may be secrets" in done.err
    assert (
        "put the value in a column, or name the file of the prompt by a variable: {file: prompt-${NAME}.txt}"
        in done.err
    )
    assert server.requests == [] and "sk-very" not in done.err


def test_a_prompt_file_can_be_named_by_a_variable(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPT_LANGUAGE", "de")
    Path("prompt-de.txt").write_text("Frage: {{ input }}\n")
    assert run(server, {"file": "prompt-${PROMPT_LANGUAGE}.txt"}).code == 0
    assert sent(server)[0] == [{"role": "user", "content": "Frage: Capital of France?"}]


def test_a_column_named_env_is_a_column(server: ScriptedServer) -> None:
    rows = [{**row, "env": {"API_KEY": "of the data"}} for row in ROWS]
    suite = {
        "dataset": {"rows": rows},
        "target": {"model": "m", "base_url": server.base_url},
        "prompt": "{{ env.API_KEY }} {{ input }}",
        "scorers": ["exact_match"],
    }
    Path("s.yaml").write_text(json.dumps(suite))
    assert command("run", "s.yaml").code == 0
    assert {messages[0]["content"] for messages in sent(server)} == {f"of the data {row['input']}" for row in ROWS}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ '{{' }} name }} {{ id }}", "{{ name }} a"),
        ("{% raw %}{{ name }} {% if %} {# x #}{% endraw %} {{ id }}", "{{ name }} {% if %} {# x #} a"),
        ("{{ '{#' }} {{ id }} {{ '{%' }}", "{# a {%"),
        ("{ {{ id }} } }} %}", "{ a } }} %}"),
    ],
)
def test_marks_of_templates_can_be_sent_as_text(server: ScriptedServer, template: str, text: str) -> None:
    done = run(server, template)
    assert done.code == 0 and "comment" not in done.out, done.err
    assert sent(server)[0] == [{"role": "user", "content": text}]


def test_a_comment_in_a_prompt_is_noted(server: ScriptedServer) -> None:
    done = run(server, "{# the tone #} {{ input }}")
    text = " ".join(done.out.split())
    assert "the prompt contains '{# the tone #}', a comment, which is not sent" in text
    assert "write {{ '{#' }} for the characters" in text
