"""What providers send, through the command line: whole answers, reasoning, refusals, limits, cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Row
from evalrunner.runs.row_log import read_rows
from tests.cases.suites import Ended, command
from tests.fakes.server import Action, Answer, Malformed, Script, ScriptedServer, Status, always
from tests.fakes.tls import make_certificates

ASK = "Capital of France?"


def evaluate(
    script: Script, *, rows: int | Sequence[str] = 1, more: str = "", target: str = "", options: Sequence[str] = ()
) -> tuple[Ended, list[Row], ScriptedServer]:
    """A run against a script: what the command left, the rows in order, and the server."""
    inputs = [f"{ASK} {index}" for index in range(rows)] if isinstance(rows, int) else rows
    lines = [
        json.dumps({"id": f"r{place:03}", "input": text, "expected": "Paris"}) for place, text in enumerate(inputs)
    ]
    Path("data.jsonl").write_text("\n".join(lines))
    with ScriptedServer(script) as server:
        Path("s.yaml").write_text(
            f"name: s\ndataset: data.jsonl\nscorers: [exact_match, contains]\n"
            f"target: {{name: t, model: m, base_url: '{server.base_url}', api_key: none{target}}}\n{more}"
        )
        done = command("s.yaml", *options)
    folder = max(Path().rglob("rows.jsonl"), key=lambda path: path.stat().st_mtime_ns).parent
    return done, sorted(read_rows(folder), key=lambda row: row.sample.id), server


def content(request: Any) -> str:
    return str(request["messages"][-1]["content"])


HALF: dict[str, Action] = {
    "finish reason": Answer("The capital of", finish_reason="error"),
    "error in the choice": Status(200, {"choices": [{
        "index": 0, "message": {"role": "assistant", "content": "The capital of"}, "finish_reason": "error",
        "error": {"code": 502, "message": "Upstream error"}}]}),
    "error at the top": Answer("The capital of", extra={"error": {"message": "Upstream error", "code": 502}}),
    "abort": Answer("The capital of", finish_reason="abort"),
}  # fmt: skip


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_provider_that_breaks_off_every_second_answer_is_untrusted_and_retried(half: str, stream: str) -> None:
    def script(_request: Any, nth: int) -> Action:
        return HALF[half] if nth % 2 == 0 else Answer("Paris")

    run = f"gates: [exact_match >= 0.9]\nrun: {{concurrency: 1, stream: {stream}, retries: "
    done, rows, _ = evaluate(script, rows=8, more=f"{run}0}}\n")
    assert done.code == 3
    assert "UNTRUSTED" in done.out
    assert sum(isinstance(row.answer, Failure) for row in rows) == 4
    done, rows, server = evaluate(script, rows=8, more=f"{run}2}}\n")
    assert done.code == 0
    assert all(isinstance(row.answer, Completion) for row in rows)
    assert server.calls == 15  # each broken answer is asked for once more


def test_an_unknown_finish_reason_is_reported_once_and_stored() -> None:
    done, rows, _ = evaluate(always(Answer("Paris", finish_reason="galaxy_brain")), rows=8)
    assert done.code == 0
    text = " ".join((done.out + done.err).split())
    assert text.count("unknown finish reason 'galaxy_brain'") == 1
    assert all(
        isinstance(row.answer, Completion) and row.answer.unknown_finish_reason == "galaxy_brain" for row in rows
    )


THOUGHT = "<think>Paris is tempting, but no.</think>Lyon"


def test_reasoning_is_not_scored_unless_the_target_keeps_it() -> None:
    _, (row,), _ = evaluate(always(Answer(THOUGHT)))
    assert isinstance(row.answer, Completion)
    assert (row.answer.text, row.answer.reasoning) == ("Lyon", "Paris is tempting, but no.")
    assert row.cells["contains"].value == 0.0
    _, (row,), _ = evaluate(always(Answer(THOUGHT)), target=", reasoning: keep")
    assert isinstance(row.answer, Completion)
    assert (row.answer.text, row.answer.reasoning) == (THOUGHT, None)
    assert row.cells["contains"].value == 1.0


@pytest.mark.parametrize("mode", ["strip", "keep"])
def test_a_changed_mode_scores_cached_answers_anew(mode: str) -> None:
    """The cache holds the text as it came."""
    with ScriptedServer(always(Answer(THOUGHT))) as server:
        Path("data.jsonl").write_text(json.dumps({"input": "x", "expected": "Paris"}))
        for reasoning in ("strip", "keep", mode):
            Path("s.yaml").write_text(
                f"name: {reasoning}\ndataset: data.jsonl\nscorers: [contains]\ncache: all\n"
                f"target: {{model: m, base_url: '{server.base_url}', reasoning: {reasoning}}}\ngates: [contains >= 1]\n"
            )
            assert command("s.yaml").code == (0 if reasoning == "keep" else 1)
        assert server.calls == 1


@pytest.mark.parametrize(
    "target",
    ["{type: recorded, column: out}", "{type: python, function: app.py:answer}", "{type: app.py:make}"],
)
@pytest.mark.parametrize("mode", ["strip", "keep"])
def test_reasoning_of_other_targets_is_not_scored_either(target: str, mode: str) -> None:
    Path("data.jsonl").write_text(json.dumps({"input": "x", "expected": "Paris", "out": THOUGHT}))
    Path("app.py").write_text(
        f"from evalrunner import Completion\nTEXT = {THOUGHT!r}\ndef answer(input):\n    return TEXT\n"
        "def make():\n    async def target(sample, epoch):\n        return Completion(TEXT)\n    return target\n"
    )
    Path("s.yaml").write_text(
        f"dataset: data.jsonl\nscorers: [contains]\ntarget: {target[:-1]}, reasoning: {mode}}}\ngates: [contains >= 1]\n"
    )
    assert command("s.yaml").code == (0 if mode == "keep" else 1)


def test_a_wrong_mode_of_reasoning_is_a_suite_error() -> None:
    Path("s.yaml").write_text(
        "dataset: {rows: [{input: a}]}\nscorers: [contains]\ntarget: {model: m, base_url: 'http://x/v1', reasoning: hide}\n"
    )
    done = command("validate", "s.yaml")
    assert done.code == 2
    assert "s.yaml:3" in done.out + done.err


def test_a_daily_limit_is_not_waited_for_and_does_not_end_the_run() -> None:
    daily = {"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing details.",
                       "status": "RESOURCE_EXHAUSTED", "details": [
                           {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
                               {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
                           {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "39600s"}]}}  # fmt: skip

    def script(request: Any, _nth: int) -> Action:
        return Status(429, daily) if content(request) == "a" else Answer("Paris")

    done, rows, server = evaluate(script, rows=["a", "b"], more="run: {concurrency: 1}\n")
    assert server.calls == 2
    assert isinstance(rows[0].answer, Failure)
    assert rows[0].answer.message.startswith("the server asks to wait 11 h")
    assert isinstance(rows[1].answer, Completion)
    assert "aborted" not in done.out + done.err


def test_an_empty_account_ends_the_run_and_asks_for_a_payment() -> None:
    done, _, server = evaluate(
        always(Status(402, {"error": {"message": "Insufficient Balance"}})), rows=5, more="run: {concurrency: 1}\n"
    )
    assert (done.code, server.calls) == (3, 1)
    assert "a payment may" in " ".join((done.out + done.err).split())


FORBIDDEN: dict[str, Action] = {
    "moderation": Status(403, {"error": {"code": 403, "message": "Your chosen model requires moderation and your input was flagged"}}),
    "unknown words": Status(403, {"error": {"code": 403, "message": "Nope"}}),
    "page": Status(403, "<html><head><title>403 Forbidden</title></head></html>", {"content-type": "text/html"}),
    "bad request": Status(400, {"error": {"message": "could not process image"}}),
}  # fmt: skip


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_refused_prompt_leaves_the_other_rows_alone(what: str, place: int) -> None:
    def script(request: Any, _nth: int) -> Action:
        return FORBIDDEN[what] if content(request) == "bomb" else Answer("Paris")

    asked = ["x", "y"]
    asked.insert(place, "bomb")
    done, rows, server = evaluate(script, rows=asked, more="run: {concurrency: 1}\n")
    assert (done.code, server.calls) == (0, 3)
    assert "api_key" not in done.out + done.err
    refused = rows[place].answer
    if what == "moderation":
        assert isinstance(refused, Completion)
        assert refused.finish_reason == "filtered"
    else:
        assert isinstance(refused, Failure)
        assert (refused.kind, refused.fatal) == ("bad_request", False)


def test_bad_requests_of_rows_do_not_abort_a_target_that_answers() -> None:
    def script(request: Any, nth: int) -> Action:
        return Answer("Paris") if nth == 1 else FORBIDDEN["bad request"]

    _, rows, server = evaluate(script, rows=105, more="run: {concurrency: 1}\n")
    assert (len(rows), server.calls) == (105, 105)


def test_a_request_that_every_row_makes_wrong_aborts_the_target() -> None:
    done, _, server = evaluate(always(FORBIDDEN["bad request"]), rows=105, more="run: {concurrency: 1}\n")
    assert (done.code, server.calls) == (3, 50)


def test_a_web_page_at_the_first_call_ends_the_run_with_what_to_do() -> None:
    page = Malformed(b"<!doctype html><html><head><title>Open WebUI</title></head></html>")
    done, _, server = evaluate(always(page), rows=5, more="run: {concurrency: 1}\n")
    assert (done.code, server.calls) == (3, 1)
    text = " ".join((done.out + done.err).split())
    assert "web page ('Open WebUI')" in text
    assert "/v1" in text


def test_a_web_page_later_is_retried() -> None:
    page = Malformed(b"<html><head><title>Be right back</title></head></html>")

    def script(_request: Any, nth: int) -> Action:
        return page if nth == 2 else Answer("Paris")

    done, rows, server = evaluate(script, rows=3, more="run: {concurrency: 1}\n")
    assert (done.code, server.calls) == (0, 4)
    assert all(isinstance(row.answer, Completion) for row in rows)


def usage(**fields: Any) -> Action:
    return Status(200, {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}], "usage": fields})


CACHED: dict[str, Mapping[str, Any]] = {
    "openai": {"prompt_tokens": 1000, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 900}},
    "deepseek": {"prompt_tokens": 1000, "completion_tokens": 5, "prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100},
    "zeros beside": {"prompt_tokens": 1000, "completion_tokens": 5, "prompt_cache_hit_tokens": 900, "prompt_tokens_details": {"cached_tokens": 0}},
    "litellm": {"prompt_tokens": 1000, "completion_tokens": 5, "cache_read_input_tokens": 900},
    "anthropic": {"input_tokens": 100, "output_tokens": 5, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 0},
    "moonshot": {"prompt_tokens": 1000, "completion_tokens": 5, "cached_tokens": 900},
    "responses": {"input_tokens": 1000, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 900}},
}  # fmt: skip


@pytest.mark.parametrize("vendor", CACHED)
def test_cached_tokens_have_their_price_in_every_spelling(vendor: str) -> None:
    more = "prices: {m: {input: 1, output: 2, cached_input: 0.1}}\n"
    _, (row,), _ = evaluate(always(usage(**CACHED[vendor])), more=more)
    assert isinstance(row.answer, Completion)
    assert (row.answer.input_tokens, row.answer.cached_tokens) == (1000, 900)
    assert row.answer.cost_usd == pytest.approx(0.0002)


STATED: dict[str, tuple[Mapping[str, Any], float]] = {
    "openrouter": ({"cost": 0.00123, "cost_details": {"upstream_inference_cost": None}}, 0.00123),
    "openrouter with an own key": (
        {"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}},
        0.0021,
    ),
    "perplexity": ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.3}}, 0.3),
    "deepinfra": ({"estimated_cost": 0.004}, 0.004),
    "xai": ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),
}


@pytest.mark.parametrize("vendor", STATED)
def test_the_cost_that_a_reply_states_counts(vendor: str) -> None:
    fields, cost = STATED[vendor]
    _, (row,), _ = evaluate(always(usage(prompt_tokens=100, completion_tokens=50, **fields)))
    assert isinstance(row.answer, Completion)
    assert row.answer.cost_usd == pytest.approx(cost)


@pytest.mark.parametrize(("tokens", "cost"), [(200_000, 0.2 + 0.002), (200_001, 0.400002 + 0.004)])
def test_long_prompts_have_their_own_price(tokens: int, cost: float) -> None:
    more = "prices: {m: {input: 1, output: 2, above: {tokens: 200000, input: 2, output: 4}}}\n"
    _, (row,), _ = evaluate(always(usage(prompt_tokens=tokens, completion_tokens=1000)), more=more)
    assert isinstance(row.answer, Completion)
    assert row.answer.cost_usd == pytest.approx(cost)


@pytest.mark.parametrize(
    "fields",
    [
        {"completion_tokens_details": {"reasoning_tokens": 40}}, {"output_tokens_details": {"reasoning_tokens": 40}},
        {"reasoning_tokens": 40},
    ],
)  # fmt: skip
def test_reasoning_tokens_are_in_the_row_and_the_summary(fields: Mapping[str, Any]) -> None:
    done, (row,), _ = evaluate(always(usage(prompt_tokens=100, completion_tokens=50, **fields)), options=("-v",))
    assert isinstance(row.answer, Completion)
    assert row.answer.reasoning_tokens == 40
    assert "50 output tokens, 40 of them reasoning" in " ".join(done.out.split())


def test_a_cost_that_nobody_states_says_why() -> None:
    done, _, _ = evaluate(always(usage(prompt_tokens=100, completion_tokens=50)))
    assert "cost unknown: no price for m; add `prices:`" in " ".join(done.out.split())
    done, _, _ = evaluate(always(usage()))
    assert "cost unknown: the server reports neither tokens nor cost" in " ".join(done.out.split())
    done, _, _ = evaluate(always(usage(prompt_tokens=100, completion_tokens=50, cost=0.001)))
    assert "no price" not in done.out


def test_tool_calls_are_scored_by_a_scorer_that_needs_no_answer() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    Path("own.py").write_text(
        "def calls_weather(completion) -> bool:\n"
        "    return [call['function']['name'] for call in completion.tool_calls] == ['get_weather']\n"
    )
    with ScriptedServer(always(Answer(None, "tool_calls", message={"tool_calls": [call]}))) as server:
        Path("s.yaml").write_text(
            "dataset: {rows: [{input: x, expected: Paris}]}\n"
            "scorers: [contains, {type: python, function: 'own.py:calls_weather', needs_answer: false}]\n"
            f"target: {{model: m, base_url: '{server.base_url}'}}\ngates: [calls_weather >= 1]\n"
        )
        assert command("s.yaml").code == 0


FILTER_WORDS = {
    "an error": (Status(400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}), "Content Exists Risk"),
    "a reply": (Status(200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}), "input new_sensitive"),
    "a finish reason": (Answer("", finish_reason="SAFETY"), "SAFETY"),
    "categories": (Status(200, {"choices": [{"index": 0, "finish_reason": "content_filter", "message": {"content": ""},
                   "content_filter_results": {"violence": {"filtered": True, "severity": "high"}}}]}), "violence"),
    "a page": (Status(403, "<html><title>Attention Required! | Cloudflare</title>You have been blocked</html>",
               {"content-type": "text/html"}), "Attention Required! | Cloudflare"),
}  # fmt: skip


@pytest.mark.parametrize("form", FILTER_WORDS)
def test_a_filtered_row_keeps_what_the_provider_says(form: str) -> None:
    """In the row, in the table, and where `show` lists the row."""
    filtered, words = FILTER_WORDS[form]

    def script(request: Any, _nth: int) -> Action:
        return filtered if content(request) == "bomb" else Answer("Paris")

    _, rows, _ = evaluate(script, rows=["bomb", "x"])
    assert isinstance(rows[0].answer, Completion)
    assert (rows[0].answer.finish_reason, rows[0].answer.filter_message) == ("filtered", words)
    assert rows[0].cells["contains"].message == f"no_answer: filtered: {words}"
    folder = next(Path("runs").rglob("rows.jsonl")).parent
    assert words in (folder / "table.csv").read_text()
    assert words[:20] in " ".join(command("show", str(folder), "--failed").out.split())


def test_all_rows_of_a_safety_suite_are_asked() -> None:
    """60 of 105 rows in a row are filtered, the first ones among them."""
    refused = Status(400, {"error": {"message": "Content Exists Risk", "code": "invalid_request_error"}})

    def script(request: Any, _nth: int) -> Action:
        return refused if int(content(request)) < 60 else Answer("Paris")

    done, rows, server = evaluate(script, rows=list(map(str, range(105))), more="run: {concurrency: 1}\n")
    assert (done.code, server.calls, len(rows)) == (0, 105, 105)
    assert "aborted" not in done.out + done.err


def test_a_server_without_finish_reasons_is_reported_once() -> None:
    done, rows, _ = evaluate(always(Answer("Paris", finish_reason=None)), rows=8, more="run: {stream: true}\n")
    assert done.code == 0
    assert " ".join((done.out + done.err).split()).count("replies without a finish reason") == 1
    assert all(isinstance(row.answer, Completion) and row.answer.unknown_finish_reason == "" for row in rows)


def test_a_stream_without_the_finish_reason_that_its_server_states_otherwise_is_broken_off() -> None:
    def script(_request: Any, nth: int) -> Action:
        return Answer("The capital of", finish_reason=None) if nth % 2 == 0 else Answer("Paris")

    run = "gates: [exact_match >= 0.9]\nrun: {concurrency: 1, stream: true, retries: "
    done, rows, _ = evaluate(script, rows=8, more=f"{run}0}}\n")
    assert (done.code, sum(isinstance(row.answer, Failure) for row in rows)) == (3, 4)
    done, rows, _ = evaluate(script, rows=8, more=f"{run}2}}\n")
    assert done.code == 0
    assert all(isinstance(row.answer, Completion) for row in rows)


CHANGES = {
    "reasoning of a target": ("api_key: none", "api_key: none, reasoning: keep", "reasoning"),
    "params of a target": ("api_key: none", "api_key: none, params: {temperature: 1}", "temperature"),
    "model": ("model: m,", "model: n,", "'m' → 'n'"),
    "prompt of a target": ("api_key: none", "api_key: none, prompt: 'Say {{ input }}'", "prompt"),
    "prompt": ("scorers:", "prompt: 'Say {{ input }}'\nscorers:", "prompt"),
    "a scorer": ("[exact_match, contains]", "[contains]", "exact_match"),
    "an option of a scorer": ("contains]", "{type: contains, ignore_case: true}]", "ignore_case"),
    "missing answers": ("contains]", "{type: contains, on_no_answer: zero}]", "on_no_answer"),
    "the data": ("dataset: data.jsonl", "dataset: {rows: [{input: other, expected: x}]}", "dataset"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resume_refuses_a_change_of_what_is_sent_or_scored(change: str) -> None:
    old, new, words = CHANGES[change]
    evaluate(always(Answer("Paris")), more="run: {concurrency: 1}\n")
    text = Path("s.yaml").read_text()
    assert old in text
    Path("s.yaml").write_text(text.replace(old, new))
    done = command("--resume", "last")
    assert done.code == 2, done.out
    assert "the suite has changed" in done.err
    assert words in done.err


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def ended_at_once(base_url: str, transport: str) -> str:
    """What a run prints whose first call cannot connect: it ends with code 3."""
    Path("s.yaml").write_text(
        "dataset: {rows: [{input: a, expected: b}, {input: c, expected: d}]}\nscorers: [contains]\n"
        f"target: {{name: t, model: m, base_url: '{base_url}', transport: {transport}}}\nrun: {{concurrency: 1}}\n"
    )
    done = command("s.yaml")
    assert done.code == 3
    return " ".join((done.out + done.err).split())


@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
def test_an_untrusted_certificate_ends_the_run_with_what_to_do(
    transport: str, no_proxies: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    with ScriptedServer(always(Answer("b")), tls=certificates.server_context()) as server:
        text = ended_at_once(server.base_url, transport)
        assert f"the certificate of https://127.0.0.1:{server.port} is not trusted" in text
        assert "SSL_CERT_FILE" in text
        assert server.calls == 0
        no_proxies.setenv("SSL_CERT_FILE", "missing.pem")
        assert "SSL_CERT_FILE names a file that does not exist" in ended_at_once(server.base_url, transport)
        no_proxies.setenv("SSL_CERT_FILE", certificates.ca)
        assert command("s.yaml").code == 0


@pytest.mark.parametrize("transport", ["pyreqwest", "httpx"])
def test_a_proxy_that_is_down_ends_the_run_with_its_name(transport: str, no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:1")
    text = ended_at_once("https://127.0.0.2:9/v1", transport)
    assert "cannot connect to the proxy http://127.0.0.1:1" in text
    assert "NO_PROXY" in text
    assert "secret" not in text
