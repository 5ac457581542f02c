"""Error replies become failures of the right kind, with one clean sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, RateLimitStatus
from evalrunner.endpoints.openai_errors import parse_failure, parse_wait_s, quote, read_rate_limits, retry_after_s
from evalrunner.redact import register_secret


def failed(status: int, body: Any = b"", headers: dict[str, str] | None = None) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    result = parse_failure(status, headers or {}, raw)
    assert isinstance(result, Failure)
    return result


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "fatal"),
    [
        (401, error("Incorrect API key provided", code="invalid_api_key"), "auth", True),
        (403, error("Forbidden"), "bad_request", False),  # says nothing of the key
        (403, error("Your API key does not have permission to use this resource"), "auth", True),
        (400, error("No connected db."), "auth", True),  # LiteLLM's proxy, of a wrong key
        (400, [error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")], "auth", True),
        (404, error("The model `x` does not exist", code="model_not_found"), "bad_request", True),
        (404, error('model "x" not found, try pulling it first'), "bad_request", True),  # Ollama
        (404, b"404 page not found", "bad_request", True),
        (405, b"", "bad_request", True),
        (400, error("x is not a valid model ID"), "bad_request", True),  # OpenRouter
        (400, {"message": "Invalid model: x", "type": "invalid_model"}, "bad_request", True),  # Mistral
        (400, error("/chat/completions: Invalid model name passed in model=x. Call `/v1/models`"), "bad_request", True),
        (400, error("Unsupported parameter: 'max_tokens'", code="unsupported_parameter"), "bad_request", False),
        (422, {"detail": [{"loc": ["body"], "msg": "Field required", "type": "missing"}]}, "bad_request", False),
        (302, b"", "bad_request", True),
        (400, error("This model's maximum context length is 8192 tokens."), "context_length", False),
        (400, error("too long", code="context_length_exceeded"), "context_length", False),
        (400, error("exceeds the available context size", type="exceed_context_size_error"), "context_length", False),
        (400, error("litellm.ContextWindowExceededError: litellm.BadRequestError: …"), "context_length", False),
        (400, error("prompt is too long: 210000 tokens > 200000 maximum"), "context_length", False),  # Anthropic
        (413, b"<html><head><title>413 Request Entity Too Large</title></head>", "context_length", False),
        (429, error("Rate limit reached", code="rate_limit_exceeded"), "rate_limit", False),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "rate_limit", True),
        (402, error("Insufficient Balance"), "rate_limit", True),
        (408, b"", "timeout", False),
        (504, b"<html><title>504 Gateway Time-out</title></html>", "timeout", False),
        (524, b"", "timeout", False),
        (409, error("lock timeout"), "server", False),
        (425, b"", "server", False),
        (500, error("The server had an error"), "server", False),
        (503, b"upstream connect error", "server", False),
        (529, error("Overloaded", type="overloaded_error"), "server", False),
    ],
)  # fmt: skip
def test_the_kind_follows_status_and_error_codes(status: int, body: Any, kind: str, fatal: bool) -> None:
    result = failed(status, body)
    assert (result.kind, result.fatal, result.status) == (kind, fatal, status)


@pytest.mark.parametrize(
    "body",
    [
        error("The response was filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        error("litellm.ContentPolicyViolationError: litellm.BadRequestError: AzureException"),
        {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}, "message": "no"}},
    ],
)
def test_a_content_filter_with_an_error_status_is_a_completion(body: Any) -> None:
    error = body["error"]
    assert parse_failure(400, {}, json.dumps(body).encode(), 0.5) == Completion(
        "", finish_reason="filtered", latency_s=0.5, filter_message=error["message"]
    )


def test_a_message_has_advice_and_quotes_the_server() -> None:
    assert failed(401, error("Incorrect API key provided.")) == Failure(
        "auth", "the server rejected the API key; check api_key (HTTP 401): Incorrect API key provided", 401, fatal=True
    )
    assert failed(502, b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>").message == (
        "the server failed (HTTP 502): 502 Bad Gateway"
    )
    assert failed(302, b"", {"location": "https://elsewhere.example/v1?key=1"}).message == (
        "redirects to another address are not followed (HTTP 302 to https://elsewhere.example/v1); "
        "set base_url to the new address"
    )


def test_a_message_is_short_without_keys_and_control_characters() -> None:
    register_secret("geheim-1234567")
    result = failed(500, error("key geheim-1234567, Bearer abcdefghijk, sk-proj-abcdefgh\x1b[31m\u202e" + "x" * 5000))
    assert "geheim" not in result.message
    assert "abcdefgh" not in result.message
    assert result.message.isprintable()
    assert len(result.message) < 300


def test_a_key_with_invisible_characters_inside_is_redacted() -> None:
    register_secret("zwischen räumen")
    assert "räumen" not in quote("zwischen\u200bräumen zwischen\nräumen")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"llm_provider-retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:29:30 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"retry-after": "2026-10-21T07:28:00Z", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"retry-after": "1792567680", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "soon", "llm_provider-retry-after": "9"}, 9.0),
        ({"retry-after-ms": "nan", "retry-after": "2"}, 2.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "Wed, 99 Oct 99999 07:28:00 GMT"}, None),
    ],
)
def test_retry_after_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"{}", b'{"error": []}', b'{"error": 3}', b"[[]]"]
)
def test_error_parsing_never_raises(body: bytes) -> None:
    for status in (300, 400, 401, 404, 429, 500, 599):
        assert isinstance(parse_failure(status, {}, body), Failure)


NOW = {"date": "Wed, 21 Oct 2026 07:27:30 GMT"}  # 1792567650 s after 1970


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"content-type": "application/json"}, None),
        ({"x-ratelimit-limit-requests": "60"}, None),
        (  # OpenAI
            {
                "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s",
            },
            RateLimitStatus(59, 1.0, 149_984, 360.0),
        ),
        ({"llm_provider-x-ratelimit-remaining-requests": "3"}, RateLimitStatus(3)),
        (  # a LiteLLM proxy's own limits stand before those behind it
            {"x-ratelimit-remaining-requests": "7", "llm_provider-x-ratelimit-remaining-requests": "3"},
            RateLimitStatus(7),
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "4", **NOW,
                "anthropic-ratelimit-requests-reset": "2026-10-21T07:28:00Z",
            },
            RateLimitStatus(4, 30.0),
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1792567680", **NOW}, RateLimitStatus(0, 30.0)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1792567680000", **NOW}, RateLimitStatus(0, 30.0)),
        ({"ratelimit-remaining": "2", "ratelimit-reset": "1.5"}, RateLimitStatus(2, 1.5)),
        ({"x-ratelimit-remaining-tokens-minute": "9"}, RateLimitStatus(tokens=9)),
        ({"x-ratelimit-remaining-requests": "-1"}, None),  # no limit
        ({"x-ratelimit-remaining-requests": "3.0", "x-ratelimit-reset-requests": "soon"}, RateLimitStatus(3)),
        ({"x-ratelimit-remaining-requests": "nan", "x-ratelimit-remaining-tokens": "1e999"}, None),
        ({"x-ratelimit-remaining-requests": "9" * 400}, None),
        ({"x-ratelimit-remaining-requests": "many", "ratelimit-": "", "x-ratelimit-remaining": ""}, None),
    ],
)  # fmt: skip
def test_rate_limit_headers_of_different_servers(headers: dict[str, str], found: RateLimitStatus | None) -> None:
    assert read_rate_limits(headers) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1.5", 1.5), ("1h2m3.5s", 3723.5), ("2d", 172_800.0),
        ("59.999s", 59.999), ("0", 0.0), ("1792567650", 0.0), ("1792567651", 1.0), ("1792567000", 0.0),
        ("2026-10-21T07:28:00+00:00", 30.0), ("2026-10-21T07:28:00", 30.0), ("2026-10-21T09:28:00+02:00", 30.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 30.0), ("Wed, 21 Oct 2026 07:28:00", 30.0), ("2020-01-01T00:00:00Z", 0.0),
        ("-1", None), ("nan", None), ("inf", None), ("1x", None), ("s", None), ("1s!2s", None), ("9" * 500, None),
        ("²s", None), ("0000-00-00T00:00:00Z", None), (" ", None), ("12 12 12 12", None),
    ],
)  # fmt: skip
def test_formats_of_reset_times(text: str, seconds: float | None) -> None:
    assert parse_wait_s(text, NOW) == seconds
