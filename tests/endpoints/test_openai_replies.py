"""Replies of OpenAI's API in all the forms that servers send."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure
from evalrunner.endpoints.openai_replies import (
    count,
    load_reply,
    read_chat,
    read_embeddings,
    read_moderations,
    read_usage,
)

CALL = {"id": "c1", "type": "function", "function": {"name": "pick", "arguments": "{}"}}


def reply(message: Any = None, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Paris"} if message is None else message
    return {"choices": [{"message": message, "finish_reason": finish_reason}], **more}


def parsed(data: Any, headers: dict[str, str] | None = None) -> Completion | Failure:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return parse_chat(raw, headers or {}, latency_s=0.25)


def parse_chat(
    raw: bytes, headers: dict[str, str] | None = None, latency_s: float | None = None
) -> Completion | Failure:
    data = load_reply(raw)
    return read_chat(data, headers=headers or {}, latency_s=latency_s) if isinstance(data, dict) else data


def test_a_complete_reply() -> None:
    data = reply(model="gpt-5-mini-2025-08-07", usage={"prompt_tokens": 12, "completion_tokens": 3})
    assert parsed(data, {"x-litellm-response-cost": "0.0002"}) == Completion(
        "Paris",
        latency_s=0.25,
        input_tokens=12,
        output_tokens=3,
        cost_usd=0.0002,
        served_model="gpt-5-mini-2025-08-07",
    )


@pytest.mark.parametrize(
    ("message", "reason", "finish_reason", "text"),
    [
        ({"content": "Paris"}, "stop", "stop", "Paris"),
        ({"content": "Paris"}, None, "stop", "Paris"),
        ({"content": "Paris"}, "eos_token", "stop", "Paris"),
        ({"content": "Paris"}, 7, "stop", "Paris"),
        ({"content": "Par"}, "length", "length", "Par"),
        ({"content": ""}, "length", "length", ""),  # a reasoning model that thought too long
        ({"content": "Par"}, "MAX_TOKENS", "length", "Par"),
        ({"content": "Par"}, "content_filter", "filtered", "Par"),
        ({"content": None}, "SAFETY", "filtered", ""),
        ({"content": None, "refusal": "I will not."}, "stop", "refused", "I will not."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "stop", "refused", "No."),
        ({"content": "I cannot"}, "refusal", "refused", "I cannot"),
        ({"content": None}, "stop", "empty", ""),
        ({"content": " \n"}, "stop", "empty", " \n"),
        ({}, "stop", "empty", ""),
        ({"content": None, "tool_calls": []}, "tool_calls", "empty", ""),
        ({"content": "Paris", "tool_calls": None}, "tool_calls", "stop", "Paris"),
        ({"content": [{"type": "text", "text": "Par"}, {"type": "image"}, "is"]}, "stop", "stop", "Paris"),
    ],
)
def test_the_finish_reason_follows_from_reason_and_content(
    message: Any, reason: Any, finish_reason: str, text: str
) -> None:
    result = parsed(reply(message, reason))
    assert isinstance(result, Completion)
    assert (result.finish_reason, result.text) == (finish_reason, text)


@pytest.mark.parametrize("reason", ["tool_calls", "stop", None])  # "stop" is what a forced call ends with
def test_tool_calls_are_part_of_the_completion(reason: str | None) -> None:
    result = parsed(reply({"content": None, "tool_calls": [CALL]}, reason))
    assert isinstance(result, Completion)
    assert (result.finish_reason, result.tool_calls) == ("tool_calls", (CALL,))


def test_a_function_call_becomes_a_tool_call() -> None:
    result = parsed(reply({"content": None, "function_call": CALL["function"]}, "function_call"))
    assert isinstance(result, Completion)
    assert result.tool_calls == ({"type": "function", "function": CALL["function"]},)


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        (b"", "the reply is empty"),
        (b'{"choices": [{', "the reply is not JSON; it begins"),
        (b"\xff\xff", "the reply is not JSON"),
        (b"[" * 200_000, "the reply is not JSON"),
        (b"[]", "the reply is not a JSON object"),
        (b"data: {}\n\n", "the reply is a stream; remove 'stream' from params"),
        (b"{}", "the reply has no choices"),
        (b'{"choices": []}', "the reply has no choices"),
        (b'{"choices": [3]}', "the reply has a choice that is not an object"),
        (b'{"choices": [{"index": 0}]}', "the reply has a choice without a message"),
        (b'{"choices": [{"message": {"content": 3}}]}', "the reply has content that is not text"),
    ],
)
def test_a_malformed_reply_is_quoted(body: bytes, begins: str) -> None:
    result = parsed(body)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("malformed", False)
    assert result.message.startswith(begins)
    assert len(result.message) < 320


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"error": {"message": "slow down", "code": 429}}, "rate_limit"),
        ({"error": {"message": "no such key", "code": "401"}}, "auth"),
        ({"error": "it broke"}, "server"),
        ({"error": {"message": "maximum context length is 5"}}, "context_length"),
        ([{"error": {"message": "bad", "code": 400}}], "bad_request"),
        ({"choices": [{"error": {"message": "upstream", "code": 502}, "finish_reason": "error"}]}, "server"),
        (reply({"content": ""}, "error", error=None), "server"),
    ],
)
def test_an_error_with_status_200_is_a_failure(data: Any, kind: str) -> None:
    result = parsed(data)
    assert isinstance(result, Failure)
    assert result.kind == kind


def test_an_empty_error_next_to_an_answer_is_ignored() -> None:
    assert isinstance(parsed(reply(error=None)), Completion)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, "3.5", "x", True, None, 2.5, [], -0.5])
def test_invalid_token_counts_are_ignored(value: Any) -> None:
    assert count(value) is None
    assert read_usage({"usage": {"prompt_tokens": value, "completion_tokens": 4.0}}).output_tokens == 4


@pytest.mark.parametrize("cost", ["None", "nan", "-1", "", "inf"])
def test_invalid_costs_are_ignored(cost: str) -> None:
    result = parsed(reply(), {"x-litellm-response-cost": cost})
    assert isinstance(result, Completion)
    assert result.cost_usd is None


def test_half_a_surrogate_pair_is_replaced() -> None:
    result = parsed(b'{"choices": [{"message": {"content": "a\\ud83d b \\ud83d\\ude00"}}]}')
    assert isinstance(result, Completion)
    assert result.text == "a\ufffd b \U0001f600"
    assert result.text.encode()


def test_embeddings_are_in_the_order_of_the_texts() -> None:
    data = {
        "data": [{"index": 1, "embedding": [3, 4.5]}, {"index": 0, "embedding": [1, 2]}],
        "usage": {"prompt_tokens": 4},
    }
    result = read_embeddings(data, texts=2, latency_s=0.1)
    assert result == Completion("", latency_s=0.1, input_tokens=4, data=[[1, 2], [3, 4.5]])


@pytest.mark.parametrize(
    "items", [None, [], [{"embedding": "AAAA"}], [{"embedding": [1, None]}], [{"embedding": []}], [3]]
)
def test_invalid_embeddings_are_malformed(items: Any) -> None:
    result = read_embeddings({"data": items}, texts=1)
    assert isinstance(result, Failure)
    assert result.kind == "malformed"


def test_moderations_have_one_result_per_text() -> None:
    results = [{"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9}}]
    assert read_moderations({"results": results, "model": "m"}, texts=1) == Completion(
        "", served_model="m", data=results
    )
    assert isinstance(read_moderations({"results": [{}]}, texts=1), Failure)
    assert isinstance(read_moderations({"results": results}, texts=2), Failure)


def mutated(value: Any, rng: random.Random) -> Any:
    """`value` with something in it replaced, removed or wrapped."""
    odd = [None, True, -1, 1e999, math.nan, 10**30, "", "\ud800", "x" * 300, [], {}, [[]], {"error": {}}, "\x00"]
    if rng.random() < 0.15:
        return rng.choice(odd)
    if isinstance(value, dict):
        result = {name: mutated(inner, rng) for name, inner in value.items() if rng.random() > 0.05}
        if rng.random() < 0.1:
            result[rng.choice(["error", "choices", "message", "usage", "code", "status", "refusal"])] = rng.choice(odd)
        return result
    if isinstance(value, list):
        return [mutated(inner, rng) for inner in value] * rng.choice([1, 1, 1, 2])
    return value


def test_reply_parsing_never_raises() -> None:
    rng = random.Random(0)
    whole = reply(
        {"content": [{"type": "text", "text": "a"}], "refusal": None, "tool_calls": [CALL], "function_call": {}},
        model="m",
        usage={"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
        error=None,
        data=[{"index": 0, "embedding": [1.0]}],
        results=[{"flagged": False}],
    )
    for _ in range(20_000):
        raw = json.dumps(mutated(whole, rng)).encode()
        if rng.random() < 0.2:
            at = rng.randrange(len(raw) + 1)
            raw = raw[:at] + bytes(rng.randrange(256) for _ in range(3)) + raw[at + rng.randrange(4) :]
        answers = [parse_chat(raw)]
        data = load_reply(raw)
        if isinstance(data, dict):
            answers += [read_embeddings(data, texts=1), read_moderations(data, texts=1)]
        for answer in answers:
            if isinstance(answer, Completion):
                answer.text.encode()
                assert answer.input_tokens is None or answer.input_tokens >= 0
            else:
                assert answer.message.isprintable()
                assert len(answer.message) < 500


OTHER_FORMS = {
    "the older API's text": b'{"choices": [{"text": "Paris", "finish_reason": "stop"}]}',
    "a chunk in place of a reply": b'{"choices": [{"delta": {"content": "Paris"}, "finish_reason": "stop"}]}',
    "choices in another order": b'{"choices": [{"index": 1, "message": {"content": "Lyon"}, "finish_reason": "stop"},'
    b' {"index": 0, "message": {"content": "Paris"}, "finish_reason": "stop"}]}',
    "a gateway's envelope": b'{"code": 0, "msg": "ok", "data": {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}}',
    "an error that says success": b'{"error": {"code": 200, "message": "success"}, "choices": [{"message": {"content": "Paris"},'
    b' "finish_reason": "stop"}]}',
    "keepalive blanks": b'\n\n  {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}',
    "a byte order mark": b'\xef\xbb\xbf{"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}',
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_answers_in_other_forms_are_read(form: str) -> None:
    result = parsed(OTHER_FORMS[form])
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason) == ("Paris", "stop")


def test_control_characters_inside_of_a_text_are_read() -> None:
    result = parsed(b'{"choices": [{"message": {"content": "Par\nis"}, "finish_reason": "stop"}]}')
    assert isinstance(result, Completion)
    assert result.text == "Par\nis"


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": "Par", "error": {"message": "boom"}}, "finish_reason": "stop"}]}',
        b'{"status": "failed", "choices": [{"message": {"content": "Par"}, "finish_reason": null}]}',
    ],
)
def test_an_error_in_the_message_and_a_failed_status_break_an_answer_off(body: bytes) -> None:
    assert isinstance(parsed(body), Failure)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "10", "completion_tokens": "5"}, {"promptTokens": 10, "completionTokens": 5},
        {"prompt_eval_count": 10, "eval_count": 5}, {"tokens": {"input_tokens": 10, "output_tokens": 5}},
        {"billed_units": {"input_tokens": 10.0, "output_tokens": 5.0}}, {"num_input_tokens": 10, "num_output_tokens": 5},
    ],
)  # fmt: skip
def test_tokens_are_read_in_other_spellings(usage: dict[str, Any]) -> None:
    result = read_usage({"usage": usage})
    assert (result.input_tokens, result.output_tokens) == (10, 5)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": "0.25"}, 0.25), ({"cost": {"total": 0.25}}, 0.25), ({"cost_in_usd": 0.25}, 0.25),
        ({"cost_details": {"total_cost": 0.25}}, 0.25), ({"cost": "$0.25"}, None), ({"cost": -0.25}, None), ({"cost": True}, None),
        ({"cost": 0.25, "currency": "EUR"}, None),
    ],
)  # fmt: skip
def test_costs_are_read_in_other_spellings(usage: dict[str, Any], cost: float | None) -> None:
    assert read_usage({"usage": usage}).cost_usd == cost
