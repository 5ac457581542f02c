"""Every behavior of a provider becomes the right failure or finish reason of a row, never a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.domain import Completion, Failure, Row
from evalrunner.runs.row_log import read_rows
from tests.fakes.server import Action, Answer, Cut, Hang, Malformed, ScriptedServer, Status

ENDINGS: dict[str, tuple[Action, str]] = {
    "fine": (Answer("Paris"), "stop"),
    "too many": (Status(429, {"error": {"message": "slow down"}}, {"retry-after": "1"}), "error: rate_limit"),
    "broken": (Status(500, "oops"), "error: server"),
    "hang": (Hang(), "error: timeout"),
    "cut": (Cut(60), "error: connection"),
    "no json": (Malformed(b'{"choices": [{'), "error: malformed"),
    "no choices": (Malformed(b"{}"), "error: malformed"),
    "too long": (
        Status(400, {"error": {"code": "context_length_exceeded", "message": "too long"}}),
        "error: context_length",
    ),
    "bad": (Status(422, {"error": {"message": "no such parameter"}}), "error: bad_request"),
    "null": (Answer(None), "empty"),
    "blank": (Answer("  \n"), "empty"),
    "cut off": (Answer("Par", finish_reason="length"), "length"),
    "thought only": (Answer(None, finish_reason="length"), "length"),
    "filtered": (Answer("", finish_reason="content_filter"), "filtered"),
    "azure filter": (Status(400, {"error": {"code": "content_filter", "message": "policy"}}), "filtered"),
    "refused": (Answer(None, message={"refusal": "I will not"}), "refused"),
}

QUICK = evalrunner.RunOptions(wait_scale=0.001)


def by_input(request: Any, _nth: int) -> Action:
    return ENDINGS[request["messages"][-1]["content"]][0]


def write_suite(address: str, more: str = "", inputs: list[str] | None = None) -> str:
    rows = [{"id": name, "input": name, "expected": "Paris"} for name in inputs or ENDINGS]
    Path("data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("s.yaml").write_text(
        f'name: s\ndataset: data.jsonl\ntarget: {{model: m, name: m, base_url: "{address}", api_key: sk-secret-key-1}}\n'
        f"scorers: [exact_match, contains]\nrun: {{timeout: 1}}\n{more}"
    )
    return "s.yaml"


def rows_of(result: evalrunner.SuiteResult) -> dict[str, Row]:
    return {row.sample.id: row for row in read_rows(result.folder)}


def test_finish_reasons_are_distinguished_and_not_scored() -> None:
    with ScriptedServer(by_input) as server:
        result = evalrunner.run_suite(write_suite(server.base_url), options=QUICK)
    rows = rows_of(result)
    actual = {
        name: row.answer.finish_reason if isinstance(row.answer, Completion) else f"error: {row.answer.kind}"
        for name, row in rows.items()
    }
    assert actual == {name: ended for name, (_, ended) in ENDINGS.items()}
    for name, row in rows.items():
        cell = row.cells["exact_match"]
        if name == "fine":
            assert (cell.state, cell.value) == ("scored", 1.0)
        elif isinstance(row.answer, Failure):
            assert (cell.state, cell.value) == ("error", None)
        else:
            says = ": policy" if name == "azure filter" else ""  # what the provider's filter says
            assert (cell.state, cell.value, cell.message) == (
                "unscored",
                None,
                f"no_answer: {row.answer.finish_reason}{says}",
            )
    metric = result.details.targets["m"].metrics[0]
    assert (metric.value, metric.n, metric.unscored, metric.errors, metric.trusted) == (1.0, 1, 7, 8, False)


def test_provider_outage_makes_the_run_untrusted_not_failed() -> None:
    def script(request: Any, nth: int) -> Action:
        return Answer("Paris") if nth <= 5 else Status(503, "down")

    with ScriptedServer(script) as server:
        suite = write_suite(server.base_url, "gates: [exact_match >= 0.9]\n", [f"q{i}" for i in range(40)])
        result = evalrunner.run_suite(suite, options=QUICK)
    assert (result.verdict, result.exit_code) == ("untrusted", 3)
    assert result.gates[0].reason == (
        "1 on 5 of 40 answers, 0.125 to 1 with the rest: the provider failed on 35 (server)"
    )


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Status(401, {"error": {"message": "bad key sk-secret-key-1"}}), "key"),
        (Status(404, {"error": {"code": "model_not_found", "message": "The model `m` does not exist"}}), "model"),
    ],
)
def test_misconfigured_target_is_aborted_and_others_finish(action: Action, reason: str) -> None:
    inputs = [f"q{i}" for i in range(200)]
    with (
        ScriptedServer(lambda request, nth: action) as bad,
        ScriptedServer(lambda request, nth: Answer("Paris")) as good,
    ):
        suite = write_suite(bad.base_url, inputs=inputs)
        text = (
            Path(suite)
            .read_text()
            .replace("target: {", "targets:\n  - {")
            .replace("\nscorers", f'\n  - {{model: m, name: other, base_url: "{good.base_url}"}}\nscorers')
            .replace("timeout: 1", "timeout: 30, row_timeout: 60000")  # scaled: the default of a row is 0.6 s
        )
        Path(suite).write_text(text)
        result = evalrunner.run_suite(suite, options=QUICK)
    assert bad.calls <= 16
    others = [row for row in read_rows(result.folder) if row.target == "other"]
    assert [str(row.answer) for row in others if isinstance(row.answer, Failure)] == []
    assert (len(others), result.details.targets["other"].answered) == (200, 200)
    assert result.exit_code == 3
    stopped = result.details.stopped or ""
    assert "target 'm' aborted: " in stopped and reason in stopped
    assert "sk-secret" not in stopped


def test_unreachable_host_is_a_plain_error() -> None:
    suite = write_suite("http://127.0.0.1:9/v1", "gates: [exact_match >= 0.5]\n", [f"q{i}" for i in range(100)])
    result = evalrunner.run_suite(suite, options=QUICK)
    assert result.exit_code == 3
    assert "cannot connect to http://127.0.0.1:9" in (result.details.stopped or "")
    assert result.details.rows <= 16


def test_api_key_is_sent_to_its_host_only_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-alone")
    echo = Answer("you sent sk-secret-key-1 and sk-of-openai-alone")
    with ScriptedServer(lambda request, nth: echo) as server:
        result = evalrunner.run_suite(
            write_suite(server.base_url, inputs=["q"]), options=evalrunner.RunOptions(outputs=("o.csv", "o.xlsx"))
        )
        assert server.requests[0].headers["authorization"] == "Bearer sk-secret-key-1"
    for path in [*result.folder.iterdir(), Path("o.csv")]:
        text = path.read_text(errors="replace")
        assert "sk-secret" not in text and "sk-of-openai" not in text, path


def test_params_are_passed_through_and_null_removes_one() -> None:
    more = "params: {temperature: 0, max_tokens: 7, logit_bias: {'1': 2}}\n"
    with ScriptedServer() as server:
        suite = write_suite(server.base_url, more, ["q"])
        Path(suite).write_text(
            Path(suite).read_text().replace("name: m,", "name: m, params: {temperature: null, top_p: 1},")
        )
        evalrunner.run_suite(suite)
        assert server.requests[0].json == {
            "model": "m",
            "messages": [{"role": "user", "content": "q"}],
            "max_tokens": 7,
            "logit_bias": {"1": 2},
            "top_p": 1,
        }


def test_concurrency_limits_rows_in_flight() -> None:
    from tests.fakes.server import Slow

    with ScriptedServer(lambda request, nth: Slow(0.01)) as server:
        suite = write_suite(server.base_url, inputs=[f"q{i}" for i in range(100)])
        result = evalrunner.run_suite(suite, options=evalrunner.RunOptions(concurrency=7))
        assert (server.calls, server.most_in_flight) == (100, 7)
    assert result.metrics["token_count/total"] == 200


def test_epochs_call_each_sample_again() -> None:
    with ScriptedServer(lambda request, nth: Answer("Paris" if nth % 2 else "Rome")) as server:
        suite = write_suite(server.base_url, inputs=["a", "b"])
        result = evalrunner.run_suite(suite, options=evalrunner.RunOptions(epochs=4, concurrency=1))
        assert server.calls == 8
    keys = sorted((row.sample.id, row.epoch) for row in read_rows(result.folder))
    assert keys == [(name, epoch) for name in "ab" for epoch in (1, 2, 3, 4)]
    assert result.metrics["exact_match/v1"] == 0.5
    assert result.details.targets["m"].metrics[0].n == 2
