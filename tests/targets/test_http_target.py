"""An HTTP service as the target: the request, the reply, and that data cannot redirect a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrunner import RunOptions, SuiteError, run_suite
from evalrunner.domain import Completion, Failure, Row
from evalrunner.runs.row_log import read_rows
from tests.fakes.command import evalrun
from tests.fakes.server import Action, Cut, Hang, Malformed, ScriptedServer, Slow, Status, always, in_order

ROW: dict[str, Any] = {"input": "Capital of France?", "expected": "Paris", "id": "r1", "tags": ["a", "b"], "n": 3}


def suite(path: Path, target: dict[str, Any], row: dict[str, Any] = ROW) -> Path:
    """A suite file of one row and one `http` target."""
    data = {
        "name": "s",
        "dataset": {"rows": [row]},
        "target": {"type": "http", **target},
        "scorers": ["exact_match"],
        "run": {"timeout": 0.5, "retries": 0},
    }
    file = path / "s.yaml"
    file.write_text(json.dumps(data))
    return file


def asked(path: Path, action: Action, row: dict[str, Any] = ROW, **target: Any) -> tuple[Row, ScriptedServer]:
    """The row of one call, and the server that was called; `url` is appended to its base URL."""
    with ScriptedServer(always(action)) as server:
        url = f"http://127.0.0.1:{server.port}{target.pop('url', '/answer')}"
        if target.get("method") != "GET":
            target.setdefault("body", {"question": "{{ input }}"})
        result = run_suite(suite(path, {"url": url, **target}, row), options=RunOptions(output_dir=path / "runs"))
    (actual,) = read_rows(result.folder)
    return actual, server


def refused(path: Path, row: dict[str, Any] = ROW, **target: Any) -> str:
    """The error message of a target that is not called."""
    with pytest.raises(SuiteError) as caught:
        run_suite(suite(path, target, row))
    return str(caught.value)


def test_a_body_is_sent_as_json_and_the_answer_is_read_from_its_path(tmp_path: Path) -> None:
    reply = {"result": [{"text": "Paris"}], "usage": {"in": 7, "out": 2}, "price": 0.5}
    row, server = asked(
        tmp_path,
        Status(200, reply),
        body={"question": "Q: {{ input }}", "tags": "{{ tags }}", "n": "{{ n }}", "fixed": 1.5, "deep": [{"id": "{{ id }}"}]},
        headers={"X-Team": "a"},
        output="result.0.text",
        input_tokens="usage.in",
        output_tokens="usage.out",
        cost="price",
    )  # fmt: skip
    sent = server.requests[0]
    assert (sent.path, sent.headers["content-type"], sent.headers["x-team"]) == ("/answer", "application/json", "a")
    assert sent.json == {
        "question": "Q: Capital of France?", "tags": ["a", "b"], "n": 3, "fixed": 1.5, "deep": [{"id": "r1"}],
    }  # fmt: skip
    answer = row.answer
    assert isinstance(answer, Completion)
    assert (answer.text, answer.finish_reason, answer.input_tokens, answer.output_tokens, answer.cost_usd) == (
        "Paris", "stop", 7, 2, 0.5,
    )  # fmt: skip
    assert answer.latency_s is not None
    assert row.cells["exact_match"].value == 1.0


def test_a_text_body_is_sent_unchanged_and_the_whole_reply_is_the_answer(tmp_path: Path) -> None:
    row, server = asked(tmp_path, Status(200, "Paris"), body="{{ input }} <{{ n }}>", method="PUT")
    assert server.requests[0].headers["content-type"] == "text/plain; charset=utf-8"
    assert server.requests[0].json is None
    assert row.answer.messages == ({"role": "user", "content": "Capital of France? <3>"},)
    assert isinstance(row.answer, Completion)
    assert row.answer.text == "Paris"


def test_values_in_a_url_are_percent_encoded(tmp_path: Path) -> None:
    row = {**ROW, "input": "a/b?c=d&é #"}
    _, server = asked(tmp_path, Status(200, "x"), row, method="GET", url="/v1/{{ input }}?q={{ input }}&n={{ n + 1 }}")
    assert server.requests[0].path == "/v1/a%2Fb%3Fc%3Dd%26%C3%A9%20%23?q=a%2Fb%3Fc%3Dd%26%C3%A9%20%23&n=4"
    assert "content-type" not in server.requests[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "{{ input }}/answer",
        "http://{{ input }}/answer",
        "http://127.0.0.1{{ input }}",
        "http://127.0.0.1:{{ n }}/",
        "{{ 'http' }}://127.0.0.1/",
        "http://{% if n %}a{% endif %}/x",
    ],
)
def test_data_cannot_choose_the_host(tmp_path: Path, url: str) -> None:
    assert "data must not choose the host" in refused(tmp_path, url=url, body="x")


@pytest.mark.parametrize("value", ["..", ".", "%2e%2e"])
def test_data_cannot_leave_the_path(tmp_path: Path, value: str) -> None:
    if "%" in value:  # its percent sign is encoded, so it stays a name
        _, server = asked(tmp_path, Status(200, "x"), {**ROW, "input": value}, method="GET", url="/a/{{ input }}/b")
        assert server.requests[0].path == "/a/%252e%252e/b"
    else:
        message = refused(tmp_path, {**ROW, "input": value}, url="http://127.0.0.1:1/a/{{ input }}/b", method="GET")
        assert "would lead to another path" in message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"url": "http://h/x", "body": {"q": "{{ inptu }}"}}, "uses 'inptu', which this sample does not have; did you"),
        ({"url": "http://h/{{ nothing }}", "body": "x"}, "uses 'nothing', which this sample does not have"),
        ({"url": "http://h/x", "body": {"q": "{{ input"}}, "line 1 of the body"),
        ({"url": "ftp://h/x", "body": "x"}, "url should look like http://"),
        ({"url": "http://u:geheim@h/x", "body": "x"}, "send them in headers"),
        ({"url": "http://h:port/x", "body": "x"}, "url should look like http://"),
        ({"url": "http://h/x"}, "a POST needs 'body'"),
        ({"url": "http://h/x", "method": "GET", "body": "x"}, "remove 'body'"),
        ({"url": "http://h/x", "method": "DELETE", "body": "x"}, "it should be one of GET, POST, PUT"),
        ({"url": "http://h/x", "body": "x", "stream": True}, "'stream'|stream"),
        ({"url": "http://h/${NOT_THERE}", "body": "x"}, "NOT_THERE is not set"),
        ({"url": "http://h/x", "body": "x", "timeout": 0}, "it should be above 0"),
    ],
)
def test_suite_errors_are_reported_before_the_first_call(tmp_path: Path, target: dict[str, Any], words: str) -> None:
    message = refused(tmp_path, **target)
    assert any(word in message for word in words.split("|")), message
    assert "geheim" not in message


@pytest.mark.parametrize(
    ("reply", "text", "finish_reason"),
    [
        ({"a": None}, "", "empty"),
        ({"a": "  "}, "  ", "empty"),
        ({"a": {"b": [1, True]}}, '{"b": [1, true]}', "stop"),
        ({"a": 7}, "7", "stop"),
        ({"a": "half \ud800"}, "half \ufffd", "stop"),
    ],
)
def test_values_at_the_output_path(tmp_path: Path, reply: Any, text: str, finish_reason: str) -> None:
    row, _ = asked(tmp_path, Status(200, reply), output="a")
    assert isinstance(row.answer, Completion)
    assert (row.answer.text, row.answer.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        (Status(200, {"b": 1, "c": {}}), "malformed", "no 'a.x', the target's output; it has 'b', 'c'"),
        (Status(200, {"a": {"y": 1}}), "malformed", "'a' has 'y'"),
        (Status(200, {"a": []}), "malformed", "'a' is a list of 0"),
        (Status(200, {"error": {"message": "no capacity", "code": 503}}), "server", "no capacity"),
        (Malformed(b"<html>"), "malformed", "is not JSON"),
        (Malformed(b""), "malformed", "is empty"),
        (Status(401, "no"), "auth", "check headers"),
        (Status(404, "no"), "bad_request", "check url"),
        (Status(307, headers={"location": "http://127.0.0.1:1/x"}), "bad_request", "set url to"),
        (Status(429, "no"), "rate_limit", "rate limit"),
        (Status(500, "no"), "server", "failed"),
        (Cut(30), "connection", "closed before"),
        (Hang(), "timeout", "within 0.5 s"),
        (Slow(3.0), "timeout", "within 0.5 s"),
    ],
)
def test_failures_of_a_service_have_their_kind(tmp_path: Path, action: Action, kind: str, words: str) -> None:
    row, server = asked(tmp_path, action, output="a.x")
    assert isinstance(row.answer, Failure)
    assert (row.answer.kind, words in row.answer.message) == (kind, True), row.answer
    assert server.calls == 1


def test_calls_to_a_service_use_the_middleware_of_models(tmp_path: Path) -> None:
    """Its own retries and timeout apply, and its calls are counted."""
    with ScriptedServer(in_order(Status(500, "no"), Hang(), Status(200, {"a": "Paris"}))) as server:
        target = {"url": f"http://127.0.0.1:{server.port}/", "body": "x", "output": "a", "retries": 2, "timeout": 0.2}
        options = RunOptions(output_dir=tmp_path / "runs", wait_scale=0.01)
        result = run_suite(suite(tmp_path, target), options=options)
        assert server.calls == 3
    assert result.metrics["exact_match/v1"] == 1.0


def test_an_unreachable_service_is_a_failure(tmp_path: Path) -> None:
    result = run_suite(suite(tmp_path, {"url": "http://127.0.0.1:1/x", "body": "x"}))
    assert (result.exit_code, result.details.stopped is not None) == (3, True)
    assert "cannot connect to http://127.0.0.1:1" in str(result.details.stopped)


def test_secrets_are_sent_and_never_written_to_disk(tmp_path: Path) -> None:
    env = {"TEAM_SECRET_WORD": "geheim-header-1", "QUERY_WORD": "geheim-query-1"}
    with ScriptedServer(always(Status(200, "geheim-header-1 geheim-query-1"))) as server:
        target = {
            "url": f"http://127.0.0.1:{server.port}/a?k=${{QUERY_WORD}}",
            "headers": {"Authorization": "Token ${TEAM_SECRET_WORD}"},
            "body": {"literal": "${QUERY_WORD}"},
        }
        done = evalrun(str(suite(tmp_path, target)), "-o", "all.json", env=env)
        assert done.returncode == 0, done.stderr
        sent = server.requests[0]
    assert (sent.path, sent.headers["authorization"]) == ("/a?k=geheim-query-1", "Token geheim-header-1")
    assert sent.json == {"literal": "${QUERY_WORD}"}  # a body is data: nothing is filled in
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 4
    assert [path.name for path in written if "geheim" in path.read_text()] == []
    assert "geheim" not in done.stdout + done.stderr


def test_plan_list_and_schema_include_the_http_target(tmp_path: Path) -> None:
    file = suite(
        tmp_path, {"url": "http://example.test:8/x?q={{ input }}", "method": "GET", "rpm": 60, "concurrency": 2}
    )
    planned = evalrun("plan", str(file))
    assert "http at http://example.test:8 with method=GET, path=/x?q={{ input }}" in planned.stdout, planned
    assert "http" in evalrun("list", "targets").stdout
    schema = json.loads(evalrun("schema").stdout)
    (known,) = [
        item["properties"]
        for item in schema["$defs"]["target"]["anyOf"]
        if item.get("properties", {}).get("type", {}).get("const") == "http"
    ]
    assert {"url", "body", "output", "rpm", "tpm", "retries", "timeout", "concurrency"} <= known.keys()
    assert "stream" not in known
