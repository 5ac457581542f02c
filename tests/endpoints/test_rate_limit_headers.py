"""What rate headers say, in the forms in which servers send them; nothing that they send raises."""

from __future__ import annotations

import pytest

from evalrunner.domain import RateLimitStatus
from evalrunner.endpoints.openai_errors import parse_wait_s, read_rate_limits

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
def test_what_is_left_is_read_from_the_headers(headers: dict[str, str], found: RateLimitStatus | None) -> None:
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
def test_the_forms_of_a_wait(text: str, seconds: float | None) -> None:
    assert parse_wait_s(text, NOW) == seconds
