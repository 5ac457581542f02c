"""Error replies as a `Failure` of the right kind, with what their headers say of rate limits and waits.

Pure, and for any bytes that a server sends. The kind decides what happens next (retry, backoff, abort), so it is read
from the status and from known error codes and texts of servers: gateways answer 400 to nearly everything.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from evalrunner.domain import EMPTY, Completion, Failure, FailureKind, RateLimitStatus
from evalrunner.redact import REDACTED, redact_message

MAX_HEADER_LENGTH = 64  # characters; no such header is longer
DURATION_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s?(ms|[dhms]|us|µs|ns)")
UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
MIN_EPOCH_S = 1e9  # as a wait it would be thirty years, so it is a time since 1970
MIN_EPOCH_MS = 1e11  # from here on in milliseconds

# in `x-ratelimit-…`, `anthropic-ratelimit-…`, and either behind LiteLLM's `llm_provider-`
RATE_LIMIT_MARK = "ratelimit-"
RATE_LIMIT_NAMES = ("remaining-requests", "reset-requests", "remaining-tokens", "reset-tokens")
RATE_LIMIT_ALIASES = {
    "requests-remaining": "remaining-requests",
    "requests-reset": "reset-requests",
    "tokens-remaining": "remaining-tokens",
    "tokens-reset": "reset-tokens",
    "remaining": "remaining-requests",
    "reset": "reset-requests",
    "remaining-req": "remaining-requests",
}
"""The names that Anthropic, gateways which only count requests, and Mistral use."""
RATE_LIMIT_PREFIX_RANKS = {
    "llm_provider-x-": 1, "llm_provider-anthropic-": 2, "llm_provider-": 3, "x-": 4, "anthropic-": 5, "": 6,
}  # fmt: skip
"""Prefixes of the names. The highest rank counts: a proxy's own limits override those that it passes on."""
MAX_RATE_LIMIT = 2**53  # a larger number is not a count

MAX_MESSAGE_LENGTH = 200  # characters of a server's text in a message
MAX_READ_CHARS = 20_000  # of an error page
TIMEOUT_STATUS = frozenset({408, 504, 524})  # RFC 9110 §15; 524 is Cloudflare's
TRANSIENT_STATUS = frozenset({409, 425})  # RFC 9110 §15.5.10, RFC 8470 §5.2: 4xx that a retry may solve
MISSING_STATUS = frozenset({404, 405, 410})

# Error codes and texts of servers in lower case, each from their documentation or source.
TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|contextwindowexceeded|maximum context length|context window"
    r"|prompt is too long|exceeds the (?:available|maximum) (?:context|number of tokens)|exceeds the maximum number"
    r"|`inputs` tokens|string_above_max_length|request_too_large|reduce the length of the (?:messages|prompt)"
)
NO_SUCH_MODEL = re.compile(
    r"model_not_found|invalid_model\b|model_not_available|unknown_model|deploymentnotfound|invalid model name"
    r"|not a valid model|model not exist|llm provider not provided|no such model"
    r"|\bmodel\b.{0,80}(?:does not exist|not found|is not supported by any provider)"
)
NO_QUOTA = re.compile(r"insufficient_quota|insufficient balance|exceeded your current quota|billing_hard_limit")
FILTERED = re.compile(
    r"\bcontent_filter\b|content_?policy_?violation|responsibleaipolicyviolation|data_inspection_failed"
)
NO_KEY = re.compile(
    r"no connected db|missing credentials|invalid[ _]api[ _]key|missing [a-z ]{0,20}api[ _]key|api[ _]key not valid"
    r"|(?:api_key|api key)[^.]{0,60}(?:must be set|is not set|not provided|missing)|authenticationerror"
)
HTML_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})</title>", re.IGNORECASE)
KEY_LIKE = re.compile(r"\b(?:sk|pk|rk)-[\w*.…-]{6,}")  # an API key, or what is left of it where a server quotes it


@dataclass(frozen=True, slots=True)
class ErrorText:
    """The text of an error: its message, and in lower case everything that may contain an error code."""

    message: str
    searchable: str


def parse_failure(
    status: int, headers: Mapping[str, str], body: bytes, latency_s: float | None = None
) -> Failure | Completion:
    """The failure of a reply with an error status, or a Completion (`filtered`) if the provider's filter sent it.

    A filter that answers with an error status has judged the prompt: a retry cannot help, and the cause is the model's
    provider, not the infrastructure.
    """
    if 300 <= status < 400:
        return _redirect_failure(status, headers)
    return failure_from_error(status, read_error_body(body), headers, latency_s)


def failure_from_error(
    status: int, error: ErrorText, headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Failure | Completion:
    """The failure for a status and an error text."""
    if status not in (401, 403, 429) and FILTERED.search(error.searchable):
        return Completion("", finish_reason="filtered", latency_s=latency_s)
    kind, advice, fatal = _classify(status, error.searchable)
    quoted = f": {error.message.rstrip('.')}" if error.message else ""
    message = f"{advice} (HTTP {status}){quoted}"
    return Failure(kind, message, status, retry_after_s(headers), fatal, rate_limit=read_rate_limits(headers))


def _classify(status: int, text: str) -> tuple[FailureKind, str, bool]:
    """Kind of failure, message with advice, and whether it is permanent."""
    if status in (401, 403, 407) or (status < 500 and status != 429 and NO_KEY.search(text)):
        return "auth", "the server rejected the API key; check api_key", True
    if status == 402 or (status < 500 and NO_QUOTA.search(text)):
        return "rate_limit", "the account's quota is exhausted; waiting does not help, check its billing", True
    if status == 413 or (status != 429 and TOO_LONG.search(text)):
        return "context_length", "the request exceeds the model's context length; shorten the prompt", False
    if status == 429:
        return "rate_limit", "the server's rate limit is reached", False
    if status < 500 and NO_SUCH_MODEL.search(text):
        return "bad_request", "the server does not know this model; check its name", True
    if status in MISSING_STATUS:
        return "bad_request", "the server has no such model or URL; check model and base_url", True
    if status in TIMEOUT_STATUS:
        return "timeout", "the server timed out", False
    if status >= 500 or status in TRANSIENT_STATUS:
        return _server_kind(text)
    return "bad_request", "the server rejected the request", False


def _server_kind(text: str) -> tuple[FailureKind, str, bool]:
    if NO_KEY.search(text):  # LiteLLM reports a missing key with status 500
        return "auth", "no API key for this provider; set api_key or its environment variable", True
    return "server", "the server failed", False


def _redirect_failure(status: int, headers: Mapping[str, str]) -> Failure:
    where = headers.get("location", "").partition("?")[0]
    to = f" to {quote(where)}" if where else ""
    return Failure(
        "bad_request", f"redirects are not followed (HTTP {status}{to}), "
        "because the API key must not go to another host; set base_url to the new address", status, fatal=True,
    )  # fmt: skip


def read_error_body(body: bytes | str) -> ErrorText:
    """The error text of a body: JSON of any known shape, an HTML page, or plain text."""
    text = body if isinstance(body, str) else body[: MAX_READ_CHARS * 4].decode("utf-8", "replace")
    try:
        error = error_text(json.loads(text))
        return error if error.message else ErrorText(quote(text), error.searchable)
    except (ValueError, RecursionError):
        pass
    page = HTML_TITLE.search(text[:MAX_READ_CHARS]) if text.lstrip().startswith("<") else None
    return ErrorText(quote(page.group(1) if page else text[:MAX_READ_CHARS]), text[:MAX_READ_CHARS].lower())


def error_text(data: Any) -> ErrorText:
    """The error text of parsed JSON: `{"error": {"message", "code", "type"}}`, `{"error": "…"}`, `{"detail": …}` …"""
    for _ in range(3):  # Google answers with a list of one, gateways with an error inside an error
        if isinstance(data, list) and data:
            data = data[0]
        elif isinstance(data, Mapping) and isinstance(data.get("error"), Mapping | list) and data["error"]:
            data = data["error"]
    if not isinstance(data, Mapping):
        message = data if isinstance(data, str) else ""
        return ErrorText(quote(message), message[:MAX_READ_CHARS].lower())
    message = next((text for name in ("message", "error", "detail", "msg") if (text := _text(data.get(name)))), "")
    codes = [_text(data.get(name)) for name in ("code", "type", "status", "param")]
    inner = data.get("innererror")
    codes.append(_text(inner.get("code")) if isinstance(inner, Mapping) else "")
    return ErrorText(quote(message), "\n".join((*codes, message[:MAX_READ_CHARS])).lower())


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):  # FastAPI: [{"loc", "msg", "type"}]
        value = value[0].get("msg")
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def quote(text: str, max_length: int = MAX_MESSAGE_LENGTH) -> str:
    """Someone else's text on one line, without API keys and control characters, shortened."""
    plain = "".join(char if char.isprintable() else " " for char in redact_message(text[:MAX_READ_CHARS]))
    # redacted again: control characters inside a key are gone now
    line = KEY_LIKE.sub(REDACTED, redact_message(" ".join(plain.split())))
    return line if len(line) <= max_length else line[: max_length - 1].rstrip() + "…"


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asks to wait, or None. LiteLLM's proxy passes it on under another name."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        for value in (headers.get(name), headers.get(f"llm_provider-{name}")):
            seconds = parse_wait_s(value, headers, unit_s=unit_s, now=now) if value else None
            if seconds is not None:
                return seconds
    return None


def parse_wait_s(
    text: str, headers: Mapping[str, str], *, unit_s: float = 1.0, now: float | None = None
) -> float | None:
    """Seconds from now until the time in a header, at least 0.0, or None if it cannot be read.

    Reads a number (in `unit_s`), a duration such as `6m0s`, and ISO 8601 and HTTP dates. "Now" is the server's own
    `date` header, if there is one.
    """
    if len(text) > MAX_HEADER_LENGTH:
        return None
    if text[:1].isdigit() and text[-1:] in "dhms":
        return _duration(text)
    try:
        seconds = float(text) * unit_s
    except ValueError:
        return _until(text, headers, now)
    if not math.isfinite(seconds) or seconds < 0:
        return None
    if seconds < MIN_EPOCH_S:
        return seconds
    then = seconds / 1000 if seconds >= MIN_EPOCH_MS else seconds
    return max(0.0, then - _now(headers, now))


def read_rate_limits(headers: Mapping[str, str]) -> RateLimitStatus | None:
    """The remaining quota by the rate limit headers, or None without readable ones. Names are in lower case."""
    values: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for name, value in headers.items():
        if RATE_LIMIT_MARK in name:
            prefix, _, rest = name.partition(RATE_LIMIT_MARK)
            rest = rest.removesuffix("-minute")
            known = RATE_LIMIT_ALIASES.get(rest, rest)
            rank = RATE_LIMIT_PREFIX_RANKS.get(prefix, 0)
            if known in RATE_LIMIT_NAMES and rank > ranks.get(known, 0):
                values[known], ranks[known] = value, rank
    if not values:
        return None
    requests, tokens = _count(values.get(RATE_LIMIT_NAMES[0])), _count(values.get(RATE_LIMIT_NAMES[2]))
    if requests is None and tokens is None:
        return None
    return RateLimitStatus(
        requests,
        _wait(values.get(RATE_LIMIT_NAMES[1]), headers),
        tokens,
        _wait(values.get(RATE_LIMIT_NAMES[3]), headers),
    )


def _duration(text: str) -> float | None:
    parts = DURATION_PART.findall(text)
    is_complete = "".join(DURATION_PART.split(text)[::3]).strip() == ""
    return sum(float(number) * UNIT_S[unit] for number, unit in parts) if parts and is_complete else None


def _until(text: str, headers: Mapping[str, str], now: float | None) -> float | None:
    then = _moment(text)
    return None if then is None else max(0.0, then - _now(headers, now))


def _now(headers: Mapping[str, str], now: float | None) -> float:
    if now is not None:
        return now
    date = _moment(headers.get("date", "")[:MAX_HEADER_LENGTH])
    return time.time() if date is None else date


def _moment(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 or HTTP date; one without a zone is in UTC."""
    try:
        if text[:4].isdigit():
            then = datetime.fromisoformat(text)
        else:
            from email.utils import parsedate_to_datetime  # as long to import as this module

            then = parsedate_to_datetime(text)
        return (then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _count(text: str | None) -> int | None:
    """A whole number, or None; some servers send a negative one where there is no limit."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return int(number) if 0 <= number < MAX_RATE_LIMIT else None  # NaN is neither


def _wait(text: str | None, headers: Mapping[str, str]) -> float | None:
    return parse_wait_s(text, headers) if text else None
