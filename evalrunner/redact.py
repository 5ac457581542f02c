"""Keys, kept from every sink: row log, run.json, tables, terminal, debug output, error messages.

A key is a secret of the whole process, so the set of known ones is too. Whoever reads a key registers it;
whoever writes anything passes its text through `redact`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

SHORTEST = 6  # below this a "key" is a word such as `none`, and taking it out would maim texts
HIDDEN = "[redacted]"
SECRET_NAME = re.compile(r"(_|^)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)
SECRET_OPTION = re.compile(
    r"(^|[_-])(api[_-]?key|(access|private|secret)[_-]key|secret|password|passwd|credentials|authorization"
    r"|(access|auth|api|bearer|refresh)[_-]token)$",
    re.IGNORECASE,
)  # narrower than names of variables: `key` and `eos_token` are options of scorers and models
LOGIN = re.compile(r"://[^/\s@]*@")
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


def without_secrets(data: Any) -> Any:
    """Plain data without the values of options that are named like a secret, of headers, and without known keys."""
    if isinstance(data, Mapping):
        return {
            redact(str(name)): _hidden(item) if _is_secret(str(name)) else without_secrets(item)
            for name, item in data.items()
        }
    if isinstance(data, list | tuple):
        return [without_secrets(item) for item in data]
    return LOGIN.sub("://", redact(data)) if isinstance(data, str) else data


def may_be_secret(name: str) -> bool:
    """Whether an option may hold a secret, by its name: `api_key`, `headers`, and also `key` or `token`."""
    return _is_secret(name) or SECRET_NAME.search(name) is not None


def _is_secret(name: str) -> bool:
    return SECRET_OPTION.search(name) is not None or name.lower().endswith("headers")


def _hidden(item: Any) -> Any:
    """What stands in place of a secret; the names of headers may be told."""
    return {str(name): HIDDEN for name in item} if isinstance(item, Mapping) else None if item is None else HIDDEN
