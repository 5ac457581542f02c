"""Error replies as a `Failure` of the right kind, with what their headers say of rate limits and waits.

Pure, and for any bytes that a server sends. The kind decides what happens next (retry, backoff, abort), so it is read
from the status and from the codes and words that servers are known to use: gateways answer 400 to nearly everything.
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
PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s?(ms|[dhms]|us|µs|ns)")
UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
EPOCH_FROM = 1e9  # seconds; as a wait it were thirty years, so it is a moment since 1970
EPOCH_MS_FROM = 1e11  # and this one is in milliseconds


def parse_wait_s(
    text: str, headers: Mapping[str, str], *, unit_s: float = 1.0, now: float | None = None
) -> float | None:
    """Seconds from now, not negative, 0.0 for a moment that is past; None where `text` says none.

    A bare number counts in `unit_s`. "Now" is what the server's own `date` says, if it says it.
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
    if seconds < EPOCH_FROM:
        return seconds
    then = seconds / 1000 if seconds >= EPOCH_MS_FROM else seconds
    return max(0.0, then - _start(headers, now))


def _duration(text: str) -> float | None:
    parts = PART.findall(text)
    whole = "".join(PART.split(text)[::3]).strip() == ""
    return sum(float(number) * UNIT_S[unit] for number, unit in parts) if parts and whole else None


def _until(text: str, headers: Mapping[str, str], now: float | None) -> float | None:
    then = _moment(text)
    return None if then is None else max(0.0, then - _start(headers, now))


def _start(headers: Mapping[str, str], now: float | None) -> float:
    told = None if now is not None else _moment(headers.get("date", "")[:MAX_HEADER_LENGTH])
    return now if now is not None else told if told is not None else time.time()


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


MARK = "ratelimit-"  # in `x-ratelimit-…`, `anthropic-ratelimit-…`, and either behind LiteLLM's `llm_provider-`
NAMES = ("remaining-requests", "reset-requests", "remaining-tokens", "reset-tokens")
OTHER_NAMES = {
    "requests-remaining": NAMES[0], "requests-reset": NAMES[1], "tokens-remaining": NAMES[2], "tokens-reset": NAMES[3],
    "remaining": NAMES[0], "reset": NAMES[1], "remaining-req": NAMES[0],
}  # fmt: skip
"""Anthropic's way to say them, that of gateways which count calls only, and Mistral's."""
RANKS = {
    "llm_provider-x-": 1, "llm_provider-anthropic-": 2, "llm_provider-": 3, "x-": 4, "anthropic-": 5, "": 6,
}  # fmt: skip
"""What may stand before it; the highest counts: a proxy's own limits stand before those it hands on."""
MAX_COUNT = 2**53  # a count beyond it is none


def read_rate_limits(headers: Mapping[str, str]) -> RateLimitStatus | None:
    """What is left by the rate headers, or None where there are none that can be read. Names are in lower case."""
    found: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for name, value in headers.items():
        if MARK in name:
            prefix, _, rest = name.partition(MARK)
            rest = rest.removesuffix("-minute")
            known = OTHER_NAMES.get(rest, rest)
            rank = RANKS.get(prefix, 0)
            if known in NAMES and rank > ranks.get(known, 0):
                found[known], ranks[known] = value, rank
    if not found:
        return None
    requests, tokens = _count(found.get(NAMES[0])), _count(found.get(NAMES[2]))
    if requests is None and tokens is None:
        return None
    return RateLimitStatus(requests, _wait(found.get(NAMES[1]), headers), tokens, _wait(found.get(NAMES[3]), headers))


def _count(text: str | None) -> int | None:
    """A whole number, or None; a negative one is what some send where there is no limit."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return int(number) if 0 <= number < MAX_COUNT else None  # NaN is neither


def _wait(text: str | None, headers: Mapping[str, str]) -> float | None:
    return parse_wait_s(text, headers) if text else None


MAX_MESSAGE_LENGTH = 200  # characters of another's words in a message of ours
MAX_READ_CHARS = 20_000  # characters of an error page that are looked at
TIMEOUT_STATUS = frozenset({408, 504, 524})  # RFC 9110 §15; 524 is Cloudflare's
TRANSIENT_STATUS = frozenset({409, 425})  # RFC 9110 §15.5.10, RFC 8470 §5.2: a 4xx that may be gone the next time
MISSING_STATUS = frozenset({404, 405, 410})

# What servers say, each seen in their documentation or source, in lower case.
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
TITLE = re.compile(r"<title[^>]*>([^<]{1,300})</title>", re.IGNORECASE)
KEY_LIKE = re.compile(r"\b(?:sk|pk|rk)-[\w*.…-]{6,}")  # a key, or what a server left of one when it repeats it


@dataclass(frozen=True, slots=True)
class ErrorText:
    """What an error says: its sentence, and everything of it that may hold a code, in lower case."""

    message: str
    words: str


def parse_failure(
    status: int, headers: Mapping[str, str], body: bytes, latency_s: float | None = None
) -> Failure | Completion:
    """What a reply with an error status means. A Completion (ended `filtered`) where the provider's filter spoke.

    A filter that answers with an error status did judge the prompt: asking again would not help, and the row is
    the model's doing, not the infrastructure's.
    """
    if 300 <= status < 400:
        return _redirected(status, headers)
    return failure_from_error(status, read_error_body(body), headers, latency_s)


def failure_from_error(
    status: int, said: ErrorText, headers: Mapping[str, str] = EMPTY, latency_s: float | None = None
) -> Failure | Completion:
    """The failure that a status and an error's words stand for."""
    if status not in (401, 403, 429) and FILTERED.search(said.words):
        return Completion("", finish_reason="filtered", latency_s=latency_s)
    kind, advice, fatal = _sort(status, said.words)
    quoted = f": {said.message.rstrip('.')}" if said.message else ""
    message = f"{advice} (HTTP {status}){quoted}"
    return Failure(kind, message, status, retry_after_s(headers), fatal, rate_limit=read_rate_limits(headers))


def _sort(status: int, words: str) -> tuple[FailureKind, str, bool]:
    """Kind, what it means with what to do, and whether asking again is of no use."""
    if status in (401, 403, 407) or (status < 500 and status != 429 and NO_KEY.search(words)):
        return "auth", "the server refused the key; check api_key", True
    if status == 402 or (status < 500 and NO_QUOTA.search(words)):
        return "rate_limit", "the account has no quota left; waiting will not mend it, a payment may", True
    if status == 413 or (status != 429 and TOO_LONG.search(words)):
        return "context_length", "the request is longer than the model takes; shorten the prompt", False
    if status == 429:
        return "rate_limit", "the server asks for a slower pace", False
    if status < 500 and NO_SUCH_MODEL.search(words):
        return "bad_request", "the server does not know this model; check its name", True
    if status in MISSING_STATUS:
        return "bad_request", "the server has no such model or no such address; check model and base_url", True
    if status in TIMEOUT_STATUS:
        return "timeout", "the server gave up waiting", False
    if status >= 500 or status in TRANSIENT_STATUS:
        return _server_kind(words)
    return "bad_request", "the server does not take this request", False


def _server_kind(words: str) -> tuple[FailureKind, str, bool]:
    if NO_KEY.search(words):  # LiteLLM tells of a missing key as a 500
        return "auth", "there is no key for this provider; set api_key or its environment variable", True
    return "server", "the server failed", False


def _redirected(status: int, headers: Mapping[str, str]) -> Failure:
    where = headers.get("location", "").partition("?")[0]
    to = f" to {quote(where)}" if where else ""
    return Failure(
        "bad_request", f"redirects to another address are not followed (HTTP {status}{to}); "
        "a key must not travel there unseen, so give the new address as base_url", status, fatal=True,
    )  # fmt: skip


def read_error_body(body: bytes | str) -> ErrorText:
    """What an error body says: JSON of any known shape, a page of HTML, or plain text."""
    text = body if isinstance(body, str) else body[: MAX_READ_CHARS * 4].decode("utf-8", "replace")
    try:
        said = error_text(json.loads(text))
        return said if said.message else ErrorText(quote(text), said.words)
    except (ValueError, RecursionError):
        pass
    page = TITLE.search(text[:MAX_READ_CHARS]) if text.lstrip().startswith("<") else None
    return ErrorText(quote(page.group(1) if page else text[:MAX_READ_CHARS]), text[:MAX_READ_CHARS].lower())


def error_text(data: Any) -> ErrorText:
    """The same of parsed JSON: `{"error": {"message", "code", "type"}}`, `{"error": "…"}`, `{"detail": …}` …"""
    for _ in range(3):  # Google answers with a list of one, gateways with an error inside an error
        if isinstance(data, list) and data:
            data = data[0]
        elif isinstance(data, Mapping) and isinstance(data.get("error"), Mapping | list) and data["error"]:
            data = data["error"]
    if not isinstance(data, Mapping):
        message = data if isinstance(data, str) else ""
        return ErrorText(quote(message), message[:MAX_READ_CHARS].lower())
    message = next((found for name in ("message", "error", "detail", "msg") if (found := _text(data.get(name)))), "")
    codes = [_text(data.get(name)) for name in ("code", "type", "status", "param")]
    inner = data.get("innererror")
    codes.append(_text(inner.get("code")) if isinstance(inner, Mapping) else "")
    return ErrorText(quote(message), "\n".join((*codes, message[:MAX_READ_CHARS])).lower())


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):  # FastAPI: [{"loc", "msg", "type"}]
        value = value[0].get("msg")
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def quote(text: str, longest: int = MAX_MESSAGE_LENGTH) -> str:
    """Another's words on one line: without keys, without control characters, cut."""
    plain = "".join(sign if sign.isprintable() else " " for sign in redact_message(text[:MAX_READ_CHARS]))
    line = KEY_LIKE.sub(REDACTED, redact_message(" ".join(plain.split())))  # once more: signs inside a key are gone now
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asks us to wait, or None. LiteLLM's proxy hands it on under a name of its own."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        for told in (headers.get(name), headers.get(f"llm_provider-{name}")):
            seconds = parse_wait_s(told, headers, unit_s=unit_s, now=now) if told else None
            if seconds is not None:
                return seconds
    return None
