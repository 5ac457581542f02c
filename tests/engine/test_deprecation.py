"""Targets, judges and baselines whose models retire are reported by `plan` and by the run; nothing else is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from evalrunner.endpoints.model_list import retirement_dates
from evalrunner.endpoints.pricing import price_of, read_price
from tests.fakes.command import evalrun
from tests.fakes.server import Action, Answer, Hang, ScriptedServer, Status

pytest.importorskip("litellm")
pytestmark = pytest.mark.litellm

OLD = "gpt-5-chat-latest"
"""A model of LiteLLM's table with a date, which is past."""
WORDS = f"{OLD} was to retire on {getattr(price_of(OLD), 'retires', None)}"
SUITE = """\
name: dates
dataset: {rows: [{input: hi, expected: ok}, {input: ho, expected: ok}]}
target: {model: MODEL, base_url: URL}
scorers: [contains]
GATES
"""


def write(url: str, model: str, gates: str = "") -> str:
    text = SUITE.replace("MODEL", model).replace("URL", url).replace("GATES", gates)
    Path("s.yaml").write_text(text, encoding="utf-8")
    return "s.yaml"


def test_plan_and_run_report_the_date_of_a_target() -> None:
    with ScriptedServer(lambda request, nth: Answer("ok")) as server:
        suite = write(server.base_url, OLD)
        planned, done = evalrun("plan", suite, "--offline"), evalrun(suite)
    sentence = f"target '{OLD}': {WORDS}; choose its successor in time"
    assert f"  note: {sentence}" in planned.stdout.splitlines(), planned.stdout + planned.stderr
    assert sentence in done.stdout.replace("\n", " ")


def test_a_model_without_a_date_is_not_reported() -> None:
    with ScriptedServer(lambda request, nth: Answer("ok")) as server:
        planned = evalrun("plan", write(server.base_url, "gateway-chat"), "--offline")
    assert "retire" not in planned.stdout


def test_the_model_of_a_baseline_is_reported() -> None:
    gate = "gates: [{metric: contains, baseline: main, max_drop: 0.5}]"
    with ScriptedServer(lambda request, nth: Answer("ok", model=OLD)) as server:
        evalrun(write(server.base_url, "gateway-chat"), "-q")
        assert evalrun("baseline", "accept", "last").returncode == 0
        planned = evalrun("plan", write(server.base_url, "gateway-chat", gate), "--offline")
    assert f"note: baseline 'main': {WORDS}" in planned.stdout, planned.stdout


def test_a_date_in_another_form_is_none() -> None:
    rates = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    for value in ("soon", 20261128, None, ""):
        price = read_price({**rates, "deprecation_date": value})
        assert price is not None
        assert price.retires is None


JUDGED = """\
name: judged
dataset: {rows: [{input: hi, expected: ok}]}
target: {model: gateway-chat, base_url: URL}
scorers: [{type: factuality, judge: {model: JUDGE, base_url: JUDGES}}]
"""


def write_judged(url: str, judge: str, judges: str) -> str:
    text = JUDGED.replace("JUDGES", judges).replace("JUDGE", judge).replace("URL", url)
    Path("judged.yaml").write_text(text, encoding="utf-8")
    return "judged.yaml"


def serve_lists(lists: Mapping[str, Any]) -> ScriptedServer:
    """A server that replies with JSON at the paths that it has a list for, and with an answer to all else but other lists."""

    def script(body: Any, nth: int) -> Action:
        path = server.requests[-1].path
        if path in lists:
            return Status(200, lists[path])
        return Answer("ok") if path.endswith("completions") else Status(404)

    server = ScriptedServer(script)
    return server


MODELS = {"data": [{"id": "gateway-chat", "deprecation": "2031-05-06T12:00:00Z"}, {"id": "other"}]}
PROXY = {"data": [{"model_name": "gateway-chat", "model_info": {"deprecation_date": "2031-07-08"}}]}


def test_the_model_of_a_judge_is_reported_by_the_plan_and_by_the_run() -> None:
    with ScriptedServer(lambda request, nth: Answer("A")) as server:
        suite = write_judged(server.base_url, OLD, server.base_url)
        planned, done = evalrun("plan", suite, "--offline"), evalrun(suite)
    assert f"note: judge of 'factuality': {WORDS}" in planned.stdout, planned.stdout
    assert f"judge of 'factuality': {WORDS}" in " ".join(done.stdout.split()), done.stdout


@pytest.mark.parametrize(
    ("lists", "day"), [({"/v1/models": MODELS}, "2031-05-06"), ({"/model/info": PROXY}, "2031-07-08")]
)
def test_plan_reports_the_date_that_a_server_states(lists: Mapping[str, Any], day: str) -> None:
    with serve_lists(lists) as server:
        planned = evalrun("plan", write(server.base_url, "gateway-chat"))
    assert f"note: target 'gateway-chat': gateway-chat retires on {day}" in planned.stdout, planned.stdout
    assert sorted(request.path for request in server.requests) == ["/model/info", "/v1/models"]


def test_plan_asks_each_server_once_for_its_models_and_with_offline_none() -> None:
    with serve_lists({"/v1/models": MODELS}) as server, serve_lists({"/v1/models": MODELS}) as judges:
        suite = write_judged(server.base_url, "gateway-chat", judges.base_url)
        offline = evalrun("plan", suite, "--offline")
        assert (server.calls, judges.calls, "retire" in offline.stdout) == (0, 0, False)
        planned = evalrun("plan", suite)
    for asked in (server, judges):
        assert [request.path for request in asked.requests].count("/v1/models") == 1
    for whose in ("target 'gateway-chat'", "judge of 'factuality'"):
        assert f"note: {whose}: gateway-chat retires on 2031-05-06" in planned.stdout, planned.stdout


def test_a_run_asks_no_server_for_its_models() -> None:
    with serve_lists({"/v1/models": MODELS}) as server:
        done = evalrun(write(server.base_url, "gateway-chat"))
    assert done.returncode == 0, done.stderr
    assert {request.path for request in server.requests} == {"/v1/chat/completions"}


def test_a_server_that_does_not_list_its_models_is_passed_over_in_silence() -> None:
    def script(body: Any, nth: int) -> Action:
        return Hang() if server.requests[-1].path == "/v1/models" else Status(404)

    with ScriptedServer(script) as server:
        started = time.monotonic()
        planned = evalrun("plan", write(server.base_url, "gateway-chat"))
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "retire" not in planned.stdout
    assert time.monotonic() - started < 30, "it waits 3 seconds, not the time limit of calls"


def test_a_host_that_the_suite_does_not_allow_is_not_asked() -> None:
    with serve_lists({"/v1/models": MODELS}) as server:
        planned = evalrun("plan", write(server.base_url, "gateway-chat", "run: {allow_hosts: [example.com]}"))
        assert (planned.returncode, server.calls) == (2, 0), planned.stdout


@pytest.mark.parametrize(
    ("reply", "dates"),
    [
        ({"data": [{"id": "a", "deprecation": None}, {"id": "b"}, 3, {"deprecation": "2031-01-01"}]}, {}),
        ({"data": [{"id": "a", "deprecation_date": "2031-01-02"}]}, {"a": date(2031, 1, 2)}),
        ({"data": [{"id": "a", "deprecation": "x"}, {"id": ["a"], "deprecation": "2031-01-01"}]}, {}),
        ({"data": {"a": 1}}, {}),
        ([], {}),
        (None, {}),
    ],
)
def test_lists_of_models_in_another_form_have_no_dates(reply: Any, dates: Mapping[str, date]) -> None:
    assert retirement_dates(reply) == dates


def test_of_several_deployments_of_a_proxy_the_earliest_date_counts() -> None:
    entries = [{"model_name": "m", "model_info": {"deprecation_date": f"203{year}-01-01"}} for year in (3, 1, 2)]
    assert retirement_dates({"data": entries}) == {"m": date(2031, 1, 1)}
