"""What a server's headers say is left of its limits, as an `RateLimitStatus`: pure, and for whatever a server sends."""

from __future__ import annotations

from collections.abc import Mapping

from evalrunner.domain import RateLimitStatus
from evalrunner.endpoints.retry_after import parse_wait_s

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
