"""Seconds that a header tells: a number, `6m0s`, a moment in one of the forms that servers write."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

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
