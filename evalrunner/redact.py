"""Redact API keys in everything that is written or printed: row log, run.json, tables, terminal, error messages.

A key is a secret of the whole process, so the registry of secrets is global. Code that reads a key registers it; code that
writes text passes it through `redact`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

MIN_SECRET_LENGTH = 6  # shorter values are words such as `none`; replacing them would damage texts
REDACTED = "[redacted]"
SECRET_NAME = re.compile(r"(_|^)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)
SECRET_OPTION = re.compile(
    r"(^|[_-])(api[_-]?key|(access|private|secret)[_-]key|secret|password|passwd|credentials|authorization"
    r"|(access|auth|api|bearer|refresh)[_-]token)$",
    re.IGNORECASE,
)  # narrower than SECRET_NAME: `key` and `eos_token` are options of scorers and models
LOGIN = re.compile(r"://[^/\s@]*@")
HEADER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")

_secrets: list[str] = []


def register_secret(value: str | None) -> None:
    """Redact `value` from now on, also in its JSON spellings."""
    if value is None or len(value) < MIN_SECRET_LENGTH:
        return
    for spelling in _spellings(value):
        if spelling not in _secrets:
            _secrets.append(spelling)
    _secrets.sort(key=len, reverse=True)  # a key that contains another one is replaced first


def _spellings(value: str) -> tuple[str, ...]:
    return value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]


def forget_secret(value: str) -> None:
    """Stop redacting `value`: it turned out to be a part of public data."""
    for spelling in _spellings(value):
        if spelling in _secrets:
            _secrets.remove(spelling)


def register_environment(environ: Mapping[str, str] | None = None) -> None:
    """Register every variable with the name of a secret: `OPENAI_API_KEY`, `HF_TOKEN` …"""
    for name, value in (os.environ if environ is None else environ).items():
        if SECRET_NAME.search(name):
            register_secret(value)


def redact(text: str) -> str:
    """`text` with every registered secret replaced."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, REDACTED)
    return text


def redact_message(text: str) -> str:
    """`redact`, and also anything that looks like an authorization header: for messages of other software."""
    return HEADER.sub(lambda match: f"{match.group(1)} {REDACTED}", redact(text))


def without_secrets(data: Any) -> Any:
    """JSON-like data without the values of secret options and headers, and without registered secrets."""
    if isinstance(data, Mapping):
        return {
            redact(str(name)): _hidden(item) if _is_secret(str(name)) else without_secrets(item)
            for name, item in data.items()
        }
    if isinstance(data, list | tuple):
        return [without_secrets(item) for item in data]
    return LOGIN.sub("://", redact(data)) if isinstance(data, str) else data


def may_be_secret(name: str) -> bool:
    """Whether an option may contain a secret by its name: `api_key`, `headers`, also `key` or `token`."""
    return _is_secret(name) or SECRET_NAME.search(name) is not None


def _is_secret(name: str) -> bool:
    return SECRET_OPTION.search(name) is not None or name.lower().endswith("headers")


def _hidden(item: Any) -> Any:
    """The replacement of a secret value; header names are kept."""
    return {str(name): REDACTED for name in item} if isinstance(item, Mapping) else None if item is None else REDACTED
