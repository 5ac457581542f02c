"""Error replies as a `Failure` of the right kind, with what their headers say of rate limits and waits.

Pure, and for any bytes that a server sends. The kind decides what happens next (retry, backoff, abort), so it is read
from the status and from known error codes and texts of servers: gateways answer 400 to nearly everything.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from evalrunner.domain import EMPTY, Completion, Failure, FailureKind, RateLimitStatus
from evalrunner.endpoints.vendor_words import (
    ABOUT_KEY,
    DOWN,
    ENDS_BY_ITSELF,
    FILTERED,
    FIREWALL_PAGE,
    NO_FORMAT,
    NO_KEY,
    NO_PAYMENT,
    NO_SUCH_MODEL,
    NO_SUCH_URL,
    NO_TOOLS,
    NOT_SERVED,
    PER_TIME,
    QUOTA_SENTENCE,
    RATE_LIMITED,
    TIMED_LIMIT,
    TOO_LARGE_FOR_LIMIT,
    TOO_LONG,
)
from evalrunner.redact import KEY_MARGIN, REDACTED, redact_message

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
RESET_HEADER = re.compile(r"rate-?limit.*reset")
RATE_LIMIT_FIELD = re.compile(
    r"(?:remaining=|r=)0\b.*(?:reset=|t=)(\d{1,9})"
)  # of the IETF's `RateLimit`, in both drafts
RETRY_HEADERS = (
    ("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1.0), ("x-retry-after", 1.0), ("retry_after", 1.0),
    ("x-ratelimit-retry-after", 1.0),
)  # fmt: skip
MAX_RATE_LIMIT = 2**53  # a larger number is not a count

MAX_MESSAGE_LENGTH = 200  # characters of a server's text in a message
MAX_READ_CHARS = 20_000  # of an error page
TIMEOUT_STATUS = frozenset({408, 504, 524})  # RFC 9110 §15; 524 is Cloudflare's
TRANSIENT_STATUS = frozenset({409, 424, 425, 499})
"""4xx that a retry may solve: RFC 9110 §15.5.10, RFC 8470 §5.2, of a model behind TGI, and of a call that a gateway closed."""
MISSING_STATUS = frozenset({404, 405, 410})

FIREWALL_STATUS = frozenset({200, 400, 403, 406, 418, 451})
NO_TOOLS_STATUS = frozenset({None, 400, 404, 405, 415, 422, 500, 501})
UNSTATED_STATUS = 500  # of an error in a reply with status 200 that has no code

MESSAGE_NAMES = (
    "message", "error", "detail", "details", "msg", "errmsg", "Message", "error_message", "error_msg", "errorMessage", "status_msg",
    "faultstring", "reason", "description", "title", "text",
)  # fmt: skip
CODE_NAMES = ("code", "Code", "type", "status", "param", "error_code", "error_type", "status_code", "__type")
ERROR_NAMES = ("error", "Error", "detail", "errors", "base_resp", "fault", "Response")
"""Names that hold the error, or hold what holds it: Google, FastAPI, MiniMax, Apigee and Tencent have their own."""
QUOTING_NAMES = frozenset({"input", "flagged_input", "prompt", "messages", "request", "body", "ctx", "content", "loc"})
"""Parts of an error that quote the request, whose words say nothing of the error."""
MAX_DEPTH, MAX_DETAILS = 5, 30  # of the details of an error

HTML_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})</title>", re.IGNORECASE)
KEY_LIKE = re.compile(r"\b(?:sk|pk|rk)-[\w*.…-]{6,}")  # an API key, or what is left of it where a server quotes it

WAIT_SENTENCE = re.compile(
    r"(?:retry-after|retry|again|wait|available|resets?|replenished|cool ?down|back)\b[a-z ]{0,20}?"
    r"(?: after| in| for| within| of| is)?:? (?:about |approximately |at least |another )?"
    r"((?:\d{1,9}(?:\.\d{1,12})?\s?(?:ms|milliseconds?|s|sec|secs|seconds?|m|min|mins|minutes?|h|hrs?|hours?|d|days?)\b,?"
    r"(?: and)?\s?)+|(?:\d{1,9}(?:\.\d{1,12})?[dhms]+)+|\d{1,3}:\d\d:\d\d)",
    re.IGNORECASE,
)
WAIT_TIME = re.compile(
    r"(?:resets?|retry|again|until|available|after)\b[a-z ]{0,20}:? "
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|\s?UTC|[+-]\d\d:?\d\d)?)",
    re.IGNORECASE,
)
WAIT_ABROAD = re.compile(
    r"(?P<number>\d{1,9}(?:\.\d{1,12})?)\s?(?P<unit>毫秒|秒|分钟|分|小时|時間|초|분|시간)\s?(?:钟)?(?:之?[后後]|以[后後]|후)"
    r"|(?:等待|待ち|wait)\s?(?P<number2>\d{1,9})\s?(?P<unit2>毫秒|秒|分钟|小时)"
    r"|\b(?:dans|en|em|tra|fra|через|après|después de|dopo|(?:in|nach)(?= \d+ (?:sek|minuten|stunden)))\s"
    r"(?P<number3>\d{1,9}(?:[.,]\d{1,12})?)\s?(?P<unit3>sek|sec|seg|сек|min|мин|stund|heure|hora|ore|час)",
    re.IGNORECASE,
)
"""Sentences in Chinese, Japanese, Korean, German, French, Spanish, Portuguese, Italian and Russian."""
UNITS_ABROAD = {
    "毫秒": 1e-3, "秒": 1.0, "초": 1.0, "sek": 1.0, "sec": 1.0, "seg": 1.0, "сек": 1.0, "分钟": 60.0, "分": 60.0, "분": 60.0,
    "min": 60.0, "мин": 60.0, "小时": 3600.0, "時間": 3600.0, "시간": 3600.0, "stund": 3600.0, "heure": 3600.0, "hora": 3600.0,
    "ore": 3600.0, "час": 3600.0,
}  # fmt: skip
WAIT_PART = re.compile(r"(\d+(?:\.\d+)?)\s?(ms|milli|[dhms])", re.IGNORECASE)
WAIT_UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "milli": 1e-3}
WAIT_NAMES = {
    "retrydelay": 1.0, "retryafter": 1.0, "retryafterseconds": 1.0, "retryafters": 1.0, "retryinseconds": 1.0,
    "resetsinseconds": 1.0, "retryafterms": 1e-3, "xratelimitreset": 1.0, "estimatedtime": 1.0, "resetsat": 1.0,
}  # fmt: skip
"""Details that say how long to wait, in letters and digits only, with their unit in seconds."""


@dataclass(frozen=True, slots=True)
class ErrorText:
    """The text of an error: its message, and in lower case everything that may contain an error code.

    `wait_s` are the seconds that it asks to wait. `page`: it is a web page, whose sentences are not those of an API.
    """

    message: str
    searchable: str
    wait_s: float | None = None
    page: bool = False


def parse_failure(
    status: int, headers: Mapping[str, str], body: bytes, latency_s: float | None = None
) -> Failure | Completion:
    """The failure of a reply with an error status, or a Completion (`filtered`) if the provider's filter sent it.

    A filter that answers with an error status has judged the prompt: a retry cannot help, and the cause is the model's
    provider, not the infrastructure.
    """
    if 300 <= status < 400:
        return redirect_failure(status, headers)
    return failure_from_error(status, read_error_body(body), headers, latency_s)


def failure_from_error(
    status: int | None,
    error: ErrorText,
    headers: Mapping[str, str] = EMPTY,
    latency_s: float | None = None,
    *,
    in_reply: bool = False,
) -> Failure | Completion:
    """The failure for a status and an error text. The status is None for an error that states none.

    `in_reply`: the status is what an error inside of a reply with status 200 means, which the message does not claim.
    """
    if _is_filtered(status, error):
        return filtered_answer(error.message, latency_s)
    text = "" if error.page else error.searchable
    unstated = 404 if NO_SUCH_URL.search(text) else UNSTATED_STATUS
    kind, advice, fatal = _classify(status or unstated, text)
    quoted = f": {error.message.rstrip('.')}" if error.message else ""
    message = f"{advice}{'' if status is None or in_reply else f' (HTTP {status})'}{quoted}"
    asked_s, limits = retry_after_s(headers), read_rate_limits(headers)
    wait_s = error.wait_s if asked_s is None else asked_s
    if wait_s is None and kind == "rate_limit" and not fatal:
        wait_s = reset_s(headers)
    no_tools = kind in ("bad_request", "server") and refuses_tools(status, error)
    no_format = kind in ("bad_request", "server") and refuses_format(status, error)
    return Failure(kind, message, status, wait_s, fatal, rate_limit=limits, no_tools=no_tools, no_format=no_format)


def reset_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until a limit is reset by the headers of a refusal: of the used-up ones, else of those that state no rest."""
    used_up: list[float] = []
    unstated: list[float] = []
    for name, value in headers.items():
        if RESET_HEADER.search(name) is None:
            continue
        left = headers.get(name.replace("reset", "remaining"))
        wait_s = parse_wait_s(value, headers)
        if wait_s and (left is None or _count(left) == 0):
            (unstated if left is None else used_up).append(wait_s)
    combined = RATE_LIMIT_FIELD.search(headers.get("ratelimit", "")[:MAX_HEADER_LENGTH])
    if combined is not None:
        used_up.append(float(combined.group(1)))
    return max(used_up) if used_up else min(unstated, default=None)


def filtered_answer(message: str, latency_s: float | None = None) -> Completion:
    """The answer that a filter withheld, with what the provider says about it."""
    return Completion("", finish_reason="filtered", latency_s=latency_s, filter_message=quote(message) or None)


def refuses_tools(status: int | None, error: ErrorText) -> bool:
    """Whether an error says that the server knows no tools, or that none can be forced."""
    return status in NO_TOOLS_STATUS and not error.page and NO_TOOLS.search(error.searchable) is not None


def refuses_format(status: int | None, error: ErrorText) -> bool:
    """Whether an error speaks of structured output, or of its schema."""
    return status in NO_TOOLS_STATUS and not error.page and NO_FORMAT.search(error.searchable) is not None


def _is_filtered(status: int | None, error: ErrorText) -> bool:
    if error.page:
        return status in FIREWALL_STATUS and FIREWALL_PAGE.search(error.searchable) is not None
    if status == 403 and FIREWALL_PAGE.search(error.searchable) and not ABOUT_KEY.search(error.searchable):
        return True
    return status not in (407, 429) and FILTERED.search(error.searchable) is not None


def _classify(status: int, text: str) -> tuple[FailureKind, str, bool]:
    """Kind of failure, message with advice, and whether it is permanent."""
    if status == 407:
        return "auth", "the proxy rejected its credentials; check user and password in HTTPS_PROXY or HTTP_PROXY", True
    if status == 402 or (NO_PAYMENT.search(text) and not ENDS_BY_ITSELF.search(text)):
        return (
            "rate_limit",
            "the account's quota is exhausted; waiting does not help, a payment may: check its billing",
            True,
        )
    if status == 401 or (status < 500 and status != 429 and NO_KEY.search(text)):
        if not text:
            return "auth", "the server asks for a login; check api_key and base_url", True
        return "auth", "the server rejected the API key; check api_key", True
    if status == 413 or _is_too_long(status, text):
        return "context_length", "the request exceeds the model's context length; shorten the prompt", False
    if status == 429:
        return "rate_limit", "the server's rate limit is reached", False
    if status < 500 and NOT_SERVED.search(text):
        return "bad_request", "the provider does not serve this account or place", True
    if status < 500 and NO_SUCH_MODEL.search(text):
        return "bad_request", "the server does not know this model; check its name", True
    if status == 403:
        return _classify_refusal(text)
    if status in MISSING_STATUS:
        return (
            "bad_request",
            "the server has no such model or URL; check model and base_url, which usually ends in /v1",
            True,
        )
    if status in TIMEOUT_STATUS:
        return "timeout", "the server timed out", False
    if status >= 500 or status in TRANSIENT_STATUS or DOWN.search(text):
        return _server_kind(text)
    if RATE_LIMITED.search(text) and TIMED_LIMIT.search(text):
        return "rate_limit", "the server's rate limit is reached", False
    return "bad_request", "the server rejected the request", False


def _is_too_long(status: int, text: str) -> bool:
    if status == 429 or PER_TIME.search(text):  # a limit per minute counts tokens too
        return TOO_LARGE_FOR_LIMIT.search(text) is not None
    return TOO_LONG.search(text) is not None


def _classify_refusal(text: str) -> tuple[FailureKind, str, bool]:
    """The kind of a 403, which firewalls and filters send too: it is about the key only if it speaks of who asks."""
    if RATE_LIMITED.search(text):
        return "rate_limit", "the server's rate limit is reached", False
    if ABOUT_KEY.search(text):
        return "auth", "the server rejected the API key; check api_key", True
    return "bad_request", "the server refused the request", False


def _server_kind(text: str) -> tuple[FailureKind, str, bool]:
    if NO_KEY.search(text):  # LiteLLM reports a missing key with status 500
        return "auth", "no API key for this provider; set api_key or its environment variable", True
    if RATE_LIMITED.search(text) or QUOTA_SENTENCE.search(text):
        return "rate_limit", "the server's rate limit is reached", False
    return "server", "the server failed", False


def redirect_failure(status: int, headers: Mapping[str, str]) -> Failure:
    """The failure of a redirect: the other host must get neither the API key nor the prompt."""
    where = headers.get("location", "").partition("?")[0]
    to = f" to {quote(where)}" if where else ""
    message = f"redirects to another address are not followed (HTTP {status}{to}); set base_url to the new address"
    return Failure("bad_request", message, status, fatal=True)


def read_error_body(body: bytes | str) -> ErrorText:
    """The error text of a body: JSON of any known shape, an HTML page, or plain text."""
    text = body if isinstance(body, str) else body[: (MAX_READ_CHARS + KEY_MARGIN) * 4].decode("utf-8", "replace")
    try:
        error = error_text(json.loads(text))
        return error if error.message else replace(error, message=quote(text))
    except (ValueError, RecursionError):
        pass
    start = text[:MAX_READ_CHARS]
    if start.lstrip().startswith("<"):
        return ErrorText(page_title(text) or quote(text), start.lower(), page=True)
    return ErrorText(quote(text), start.lower(), wait_in(start))


def page_title(text: str) -> str:
    """The title of a web page, "" without one."""
    title = HTML_TITLE.search(text[:MAX_READ_CHARS])
    return "" if title is None else quote(title.group(1))


def error_text(data: Any) -> ErrorText:
    """The error text of parsed JSON: `{"error": {"message", "code", "type"}}`, `{"error": "…"}`, `{"detail": …}` …"""
    whole = data
    for _ in range(4):  # Google answers with a list of one, gateways with an error inside an error
        if isinstance(data, list) and data:
            data = data[0]
        elif isinstance(data, Mapping):
            inner = (data[name] for name in ERROR_NAMES if isinstance(data.get(name), Mapping | list) and data[name])
            data = next(inner, data)
    if not isinstance(data, Mapping):
        message = data if isinstance(data, str) else ""
        return ErrorText(quote(message), message[:MAX_READ_CHARS].lower(), wait_in(message))
    message = next((text for name in MESSAGE_NAMES if (text := _text(data.get(name)))), "")
    codes = [_text(part.get(name)) for part in (data, whole) if isinstance(part, Mapping) for name in CODE_NAMES]
    facts = list(_facts(whole))
    behind = next((text for name, text in facts if name == "raw"), "")  # OpenRouter's, of the provider's own error
    if behind and behind not in message:
        own = error_text(_json(behind)).message or behind
        message = f"{message}: {own}" if message else own
    said = "\n".join((*codes, message[:MAX_READ_CHARS], *(text for _, text in facts)))
    return ErrorText(quote(message), said[: 2 * MAX_READ_CHARS].lower(), _wait_in_facts(facts) or wait_in(said))


def _facts(data: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The texts and numbers in the details of an error with their names; never a part that quotes the request."""
    if depth > MAX_DEPTH:
        return
    if isinstance(data, list):
        for item in data[:MAX_DETAILS]:
            yield from _facts(item, depth + 1)
    elif isinstance(data, Mapping):
        if isinstance(field := data.get("loc"), list) and field[:1] == ["body"]:  # FastAPI's, of the field it refuses
            yield "field", f"field: {' '.join(str(part) for part in field[1:3])}"[:100]
        for name, value in list(data.items())[:MAX_DETAILS]:
            if isinstance(value, Mapping | list):
                if name not in QUOTING_NAMES:
                    yield from _facts(value, depth + 1)
            elif name not in QUOTING_NAMES and isinstance(value, str | int | float):
                yield str(name), f"{name}: {value}"[:MAX_READ_CHARS] if name != "raw" else str(value)[:MAX_READ_CHARS]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):  # FastAPI: [{"loc", "msg", "type"}]
        value = value[0].get("msg")
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def wait_in(text: str) -> float | None:
    """Seconds to wait that a sentence asks for: `Please try again in 7m12.5s`. None where it does not."""
    text = text[:MAX_READ_CHARS]
    asked = WAIT_SENTENCE.search(text)
    if asked is None:
        return _wait_until(text) or _wait_abroad(text)
    if ":" in asked.group(1):
        hours, minutes, seconds = (int(part) for part in asked.group(1).split(":"))
        return hours * 3600.0 + minutes * 60.0 + seconds
    parts = WAIT_PART.findall(asked.group(1))
    return sum(float(number) * WAIT_UNIT_S[unit.lower()] for number, unit in parts) or None


def _wait_until(text: str) -> float | None:
    moment = WAIT_TIME.search(text)
    return (
        None
        if moment is None
        else _until(re.sub(r"\s?UTC$", "+00:00", moment.group(1), flags=re.IGNORECASE), EMPTY, None)
    )


def _wait_abroad(text: str) -> float | None:
    asked = WAIT_ABROAD.search(text)
    if asked is None:
        return None
    number, unit = (next(filter(None, asked.group(name, f"{name}2", f"{name}3"))) for name in ("number", "unit"))
    return float(number.replace(",", ".")) * UNITS_ABROAD[unit.lower()]


def _wait_in_facts(facts: Iterable[tuple[str, str]]) -> float | None:
    for name, text in facts:
        unit_s = WAIT_NAMES.get("".join(char for char in name.lower() if char.isalnum()))
        value = text.partition(": ")[2].strip()
        if unit_s is not None and value and (seconds := parse_wait_s(value, EMPTY, unit_s=unit_s)):
            return seconds
    return None


def quote(text: str, max_length: int = MAX_MESSAGE_LENGTH) -> str:
    """Someone else's text on one line, without API keys and control characters, shortened."""
    plain = "".join(
        char if char.isprintable() else " "
        for char in redact_message(text[: MAX_READ_CHARS + KEY_MARGIN])[:MAX_READ_CHARS]
    )
    # redacted again: control characters inside a key are gone now
    line = KEY_LIKE.sub(REDACTED, redact_message(" ".join(plain.split())))
    return line if len(line) <= max_length else line[: max_length - 1].rstrip() + "…"


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asks to wait, or None. LiteLLM's proxy passes it on under another name."""
    for name, unit_s in RETRY_HEADERS:
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
    text = text.strip()
    if text[:1].isdigit():
        text = text.partition(",")[0]  # a header that was sent twice
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
