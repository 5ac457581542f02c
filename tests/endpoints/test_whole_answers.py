"""An answer is whole, or it is not an answer: errors beside text, and finish reasons in the words of every vendor."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure
from evalrunner.endpoints.openai_replies import load_reply, read_chat
from evalrunner.endpoints.sse import ChatStream
from evalrunner.middleware.retry import is_retryable
from tests.fakes.server import DONE, delta, event

HALF = "The capital of"


def choice(finish_reason: Any = "stop", content: Any = HALF, **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason, **more}


def read(data: Any) -> Completion | Failure:
    loaded = load_reply(json.dumps(data).encode())
    return read_chat(loaded) if isinstance(loaded, dict) else loaded


def streamed(*events: Any, done: bool = True) -> Completion | Failure:
    stream = ChatStream()
    for item in events:
        stream.feed(item if isinstance(item, bytes) else event(item))
    if done:
        stream.feed(DONE)
    data = stream.reply()
    return read_chat(data) if isinstance(data, dict) else data


def both_ways(finish_reason: Any, **more: Any) -> list[Completion | Failure]:
    chunk = delta(finish_reason)
    chunk["choices"][0].update(more)
    return [read({"choices": [choice(finish_reason, **more)]}), streamed(delta(content=HALF), chunk)]


@pytest.mark.parametrize(
    "reason",
    [
        "error", "ERROR", "abort", "network_error", "insufficient_system_resource", "incomplete", "load", "unload",
        "cancelled", "USER_CANCEL", "FINISH_REASON_OTHER", "OTHER", "timeout", "MALFORMED_FUNCTION_CALL", "failed",
        "engine overloaded", "FinishReason.OTHER", "pause_turn", "modelUnloaded", "userStopped", "upstream_error", "gpu_error",
        "client_disconnected", "TIME_LIMIT", "deadline_exceeded", "in_progress", "NOT_FINISHED", "out_of_memory", "killed", "partial",
        "preemption", "failed_generation", "service_unavailable", "crashed", "worker lost",
    ],
)  # fmt: skip
def test_an_answer_that_was_broken_off_is_a_failure_that_is_retried(reason: str) -> None:
    for result in both_ways(reason):
        assert isinstance(result, Failure)
        assert result.kind == "server"
        assert result.message == f"the provider broke off the answer (finish reason {reason!r})"
        assert is_retryable(result, answered=True)


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("end_turn", "stop"), ("COMPLETE", "stop"), ("eos_token", "stop"), ("eosFound", "stop"),
        ("stop_sequence", "stop"), ("FINISH_REASON_STOP", "stop"),
        ("MAX_TOKENS", "length"), ("max tokens", "length"), ("model_context_window_exceeded", "length"), ("ERROR_LIMIT", "length"),
        ("SAFETY", "filtered"), ("SPII", "filtered"), ("sensitive", "filtered"), ("ERROR_TOXIC", "filtered"),
        ("content_filter: PROHIBITED_CONTENT", "filtered"), ("IMAGE_SAFETY", "filtered"), ("guardrail_intervened", "filtered"),
        ("content_filtered", "filtered"), ("refusal", "refused"),
        ("maxPredictedTokensReached", "length"), ("contextLengthReached", "length"), ("truncated", "length"), ("cut-off", "length"),
        ("repetition", "length"), ("limit", "length"), ("too_many_tokens", "length"), ("context_overflow", "length"),
        ("input_guardrail_triggered", "filtered"), ("safety_stop", "filtered"), ("censored", "filtered"), ("output blocked", "filtered"),
        ("stop_string", "stop"), ("END_OF_SEQUENCE", "stop"), ("stopStringFound", "stop"),
    ],
)  # fmt: skip
def test_finish_reasons_in_the_words_of_vendors(reason: Any, finish_reason: str) -> None:
    for result in both_ways(reason):
        assert isinstance(result, Completion)
        assert (result.finish_reason, result.unknown_finish_reason) == (finish_reason, None)


@pytest.mark.parametrize("reason", [None, "", "null", "FINISH_REASON_UNSPECIFIED"])
def test_a_missing_finish_reason_is_kept_as_missing(reason: Any) -> None:
    for result in both_ways(reason):
        assert isinstance(result, Completion)
        assert (result.finish_reason, result.unknown_finish_reason) == ("stop", "")


@pytest.mark.parametrize("reason", ["galaxy_brain", "weird reason", 7])
def test_an_unknown_finish_reason_is_kept(reason: Any) -> None:
    for result in both_ways(reason):
        assert isinstance(result, Completion)
        assert (result.finish_reason, result.unknown_finish_reason) == ("stop", str(reason))


@pytest.mark.parametrize(
    ("native", "ending"), [("abort", None), ("MAX_TOKENS", "length"), ("SAFETY", "filtered"), ("any_word", "stop")]
)
def test_the_providers_own_reason_behind_a_gateways_stop_counts(native: str, ending: str | None) -> None:
    for more in ({"native_finish_reason": native}, {"provider_specific_fields": {"native_finish_reason": native}}):
        for result in both_ways("stop", **more):
            assert (result.finish_reason if isinstance(result, Completion) else None) == ending


def test_an_unknown_reason_that_litellm_calls_a_stop_is_kept() -> None:
    for result in both_ways("stop", provider_specific_fields={"native_finish_reason": "galaxy_brain"}):
        assert isinstance(result, Completion)
        assert result.unknown_finish_reason == "galaxy_brain"
    for result in both_ways("stop", native_finish_reason="galaxy_brain"):  # a gateway that knows all its providers
        assert isinstance(result, Completion)
        assert result.unknown_finish_reason is None


ERROR = {"code": 502, "message": "Upstream error"}


@pytest.mark.parametrize(
    "data",
    [
        {"error": ERROR, "choices": [choice()]},
        {"error": "Upstream error", "choices": [choice()]},
        {"choices": [choice(error=ERROR)]},
        {"choices": [choice(None, error=ERROR)]},
        {"choices": [choice("error", error=ERROR)]},
        {"base_resp": {"status_code": 1013, "status_msg": "Upstream error"}, "choices": [choice()]},
    ],
)
def test_an_error_beside_an_answer_is_a_failure_with_its_words(data: Any) -> None:
    result = read(data)
    assert isinstance(result, Failure)
    assert (result.kind, is_retryable(result, answered=True)) == ("server", True)
    assert "Upstream error" in result.message


@pytest.mark.parametrize(
    "more", [{"error": None}, {"error": {}}, {"error": {"code": None, "message": ""}}, {"error": ""}, {"base_resp": {"status_code": 0, "status_msg": "success"}}]
)  # fmt: skip
def test_an_empty_error_beside_an_answer_is_none(more: dict[str, Any]) -> None:
    assert isinstance(read({"choices": [choice(content="Paris")], **more}), Completion)


BEGIN = (delta(role="assistant", content=""), delta(content="Paris"))
EVENTS: list[tuple[str, Any, str, str]] = [
    ("fastchat", {"text": "CUDA out of memory", "error_code": 50002}, "server", "CUDA out of memory"),
    ("fastapi", {"detail": "Internal Server Error"}, "server", "Internal Server Error"),
    ("message", {"message": "the worker died"}, "server", "the worker died"),
    ("msg", {"code": 500, "msg": "no worker"}, "server", "no worker"),
    ("minimax", {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate_limit", "rate limit"),
    ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "server", "Overloaded"),
    ("typed", {"object": "error", "message": "bad temperature", "type": "BadRequestError", "code": 400}, "bad_request", "bad temperature"),
    ("credits", {**delta("error", content=""), "error": {"code": 402, "message": "Insufficient credits"}}, "rate_limit", "Insufficient credits"),
    ("context", {**delta("error", content=""), "error": {"code": 400, "message": "maximum context length is 5 tokens"}}, "context_length", "5 tokens"),
    ("named", b'event: error\ndata: {"code":400,"details":"no such parameter"}\n\n', "bad_request", "no such parameter"),
    ("named without a code", b'event: error\ndata: {"details":"it fell over"}\n\n', "server", "it fell over"),
    ("named text", b"event: error\ndata: the worker died\n\n", "server", "the worker died"),
    ("named without words", b"event: error\ndata: {}\n\n", "server", "without words"),
    ("without choices", {"choices": None, "code": 500, "message": "the worker died"}, "server", "the worker died"),
    ("empty choices", {"choices": [], "error_code": 50001, "text": "no worker"}, "server", "no worker"),
    ("dashscope", {"code": "InternalError.Algo", "message": "inference failed", "request_id": "x"}, "server", "inference failed"),
    ("no words", {"status": "failed"}, "malformed", "no chunk of an answer; it begins '{\"status\": \"failed\"}'"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "kind", "words"), [case[1:] for case in EVENTS], ids=[case[0] for case in EVENTS])
@pytest.mark.parametrize("begin", [BEGIN, ()], ids=["after text", "first"])
@pytest.mark.parametrize("done", [True, False], ids=["done", "cut"])
def test_an_event_that_is_no_chunk_is_an_error_with_its_words(
    item: Any, kind: str, words: str, begin: tuple[Any, ...], done: bool
) -> None:
    result = streamed(*begin, item, done=done)
    assert isinstance(result, Failure)
    assert result.kind == kind
    assert words in result.message


def test_a_moderation_event_is_filtered() -> None:
    item = {**delta("error", content=""), "error": {"code": 403, "message": "your input was flagged"}}
    result = streamed(*BEGIN, item)
    assert isinstance(result, Completion)
    assert result.finish_reason == "filtered"


@pytest.mark.parametrize(
    "item",
    [
        {"choices": [], "prompt_filter_results": []},  # Azure's first
        b": OPENROUTER PROCESSING\n\n",
        b"event: ping\ndata: {}\n\n",
        {"type": "ping"},
        {"object": "chat.completion.chunk", "model": "m"},
        {"usage": {"prompt_tokens": 1}},
        {},
    ],
)
def test_other_events_of_a_whole_answer_do_not_matter(item: Any) -> None:
    for events in ((item, *BEGIN, delta("stop")), (*BEGIN, item, delta("stop")), (*BEGIN, delta("stop"), item)):
        result = streamed(*events)
        assert isinstance(result, Completion), events
        assert (result.text, result.finish_reason) == ("Paris", "stop")


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        ({"detail": "Not authenticated"}, "auth", "Not authenticated"),
        ({"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 40303}, "context_length", "4096"),
        ({"code": 500, "msg": "no worker available"}, "server", "no worker"),
        ({"success": False, "errors": [{"code": 7003, "message": "Could not route"}]}, "server", "Could not route"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail: Please carry the API secret key"}, "choices": None}, "auth", "login fail"),
    ],
)  # fmt: skip
def test_a_reply_without_choices_that_tells_an_error_is_that_error(data: Any, kind: str, words: str) -> None:
    result = read(data)
    assert isinstance(result, Failure)
    assert (result.kind, words in result.message) == (kind, True)


@pytest.mark.parametrize(("reason", "ending"), [("content_filter", "filtered"), ("length", "length")])
def test_a_choice_without_a_message_ends_as_it_says(reason: str, ending: str) -> None:
    result = read({"choices": [{"index": 0, "finish_reason": reason, "content_filter_results": {}}]})
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason) == ("", ending)


def test_a_blocked_prompt_of_gemini_is_filtered() -> None:
    result = read({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
    assert isinstance(result, Completion)
    assert result.finish_reason == "filtered"


@pytest.mark.parametrize(
    "data", [{"status": "ok"}, {"message": "Welcome to the API"}, {"model": "m", "message": {"role": "assistant", "content": "Paris"}, "done": True}]
)  # fmt: skip
def test_a_reply_of_another_service_asks_for_the_address_and_is_final(data: Any) -> None:
    result = read(data)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("malformed", True)
    assert "the reply has no choices" in result.message
    assert result.message.endswith("check base_url, which usually ends in /v1")


def test_a_web_page_is_final_for_a_first_call_and_transient_later() -> None:
    page = b'<!doctype html><html lang="en"><head><title>Open WebUI</title></head><body></body></html>'
    result = load_reply(page)
    assert result == Failure(
        "malformed",
        "the reply is a web page ('Open WebUI'), not an answer; check base_url, which usually ends in /v1",
        200,
        fatal=True,
    )
    assert isinstance(result, Failure)
    assert not is_retryable(result, answered=True)
    assert is_retryable(result, answered=True, completed=True)
