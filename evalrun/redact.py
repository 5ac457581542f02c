"""Keys, kept from every sink: row log, run.json, tables, terminal, debug output, error messages.

A key is a secret of the whole process, so the set of known ones is too. Whoever reads a key registers it;
whoever writes anything passes its text through `redact`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

SHORTEST = 6  # below this a "key" is a word such as `none`, and taking it out would maim texts
HIDDEN = "[redacted]"
SECRET_NAME = re.compile(r"(_|^)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)
HEADER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")

_secrets: list[str] = []


def register_secret(value: str | None) -> None:
    """Keep `value` out of all that is written or printed from now on, also as JSON would spell it."""
    if value is None or len(value) < SHORTEST:
        return
    for spelling in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        if spelling not in _secrets:
            _secrets.append(spelling)
    _secrets.sort(key=len, reverse=True)  # a key that holds another one goes first


def register_environment(environ: Mapping[str, str] | None = None) -> None:
    """Register every variable whose name says that it is a secret: `OPENAI_API_KEY`, `HF_TOKEN` …"""
    for name, value in (os.environ if environ is None else environ).items():
        if SECRET_NAME.search(name):
            register_secret(value)


def redact(text: str) -> str:
    """`text` without any registered key."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def redact_message(text: str) -> str:
    """`redact`, and anything that looks like an authorization header besides: for words of other software."""
    return HEADER.sub(lambda found: f"{found.group(1)} {HIDDEN}", redact(text))
