"""Which variables, options and parts of addresses hold secrets, by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SECRET_WORDS = frozenset(
    ["apikey", "dbpass", "mypass", "pgpass", "sshpass", "userpass", "authorization", "bearer", "cookie", "credential", "credentials", "dsn", "jwt", "key", "keys", "passphrase",
     "passwd", "password", "passwords", "secret", "secrets", "signature", "signing", "token", "webhook"]
)  # fmt: skip
LAST_SECRET_WORDS = frozenset(["auth", "pass", "pat", "pwd", "sas", "sig"])  # elsewhere they mean other things
SECRET_ENDINGS = ("apikey", "password", "passwd", "passphrase", "secret", "token")  # of a word: PGPASSWORD, AUTHTOKEN
QUALIFIERS = frozenset(
    ["a", "b", "backup", "ci", "dev", "development", "live", "local", "main", "new", "next", "old", "prev", "primary", "prod",
     "production", "qa", "secondary", "stage", "staging", "test", "v", "value"]
)  # fmt: skip
"""Words after the one that counts: `OPENAI_API_KEY_2`, `DB_PASS_PROD`."""

DESCRIPTIONS = frozenset(
    ["algorithm", "attributes", "class", "column", "count", "dir", "directory", "enabled", "endpoint", "env", "expiry", "file",
     "files", "fingerprint", "folder", "format", "header", "helper", "host", "id", "ids", "length", "limit", "location", "method",
     "mode", "name", "names", "path", "paths", "policy", "port", "prefix", "provider", "region", "role", "server", "size",
     "sock", "socket", "source", "store", "timeout", "ttl", "type", "types", "uri", "url", "user", "username", "version"]
)  # fmt: skip
"""Last words of names that describe a secret and do not hold it: `SSH_KEY_PATH`, `AWS_ACCESS_KEY_ID`."""

PLAIN_TOKENS = frozenset(
    ["bos", "cls", "delimiter", "end", "eos", "eot", "first", "image", "last", "mask", "max", "min", "new", "next", "pad", "per",
     "sep", "special", "start", "stop", "think", "unk"]
)  # fmt: skip
"""What a `…_token` of a model is, that is no secret: `eos_token`."""

PLAIN_HEADERS = frozenset(
    ["accept", "accept-encoding", "accept-language", "anthropic-beta", "anthropic-version", "cache-control", "connection",
     "content-type", "host", "http-referer", "openai-beta", "openai-organization", "openai-project", "origin", "referer",
     "user-agent", "x-title"]
)  # fmt: skip
"""Headers whose values are words of many texts: they are not stored, but not searched for either."""

PLACEHOLDERS = frozenset(
    ["anything", "default", "disabled", "dummy-key", "enabled", "lm-studio", "localai", "no-key", "no-key-required", "not-needed",
     "ollama", "optional", "placeholder", "required", "sk-no-key-required"]
)  # fmt: skip
"""Values of servers that check no key."""

OPTION = re.compile(
    r"(^|[_-])(api[_-]?key|apikey|(access|account|private|secret|subscription|signing|shared|master|auth|encryption)[_-]?key"
    r"|(client[_-])?secret(s)?|password|passwd|passphrase|pwd|credential(s)?|authorization|cookie(s)?|bearer|jwt|dsn"
    r"|signature|webhook([_-]url)?|connection[_-]string|sas|access[_-]key[_-]id)([_-]?\d+)?$",
    re.IGNORECASE,
)  # `key` alone is an option of scorers
PARAMETER = re.compile(
    r"^(x-(amz|goog)-)?(key|code|sig|signature|sas|auth|pat|credential|security-token)$", re.IGNORECASE
)
PAIR = re.compile(
    r"(?:^|[;,\s?&])(?:password|pwd|passwd|account_?key|shared_?access_?key|shared_?access_?signature|secret|token|api_?key|sig)"
    r"\s*=\s*(\"[^\"]+\"|'[^']+'|[^;,\s&]+)",
    re.IGNORECASE,
)
LOGIN = re.compile(r"""://[^/\s?#"'<>\\]*@""")
LOGIN_WITHOUT_SCHEME = re.compile(r"^[^:@/\s]+:([^@\s/][^@\s]*)@[^@\s]+$")  # user:password@tcp(host)/database


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: of snake_case, kebab-case and camelCase."""
    return [word.lower() for word in WORD.findall(name)]


def is_secret_name(name: str) -> bool:
    """Whether the value of an environment variable is a secret: `OPENAI_API_KEY_2`, `PGPASSWORD`, `GH_PAT`."""
    words = words_of(name)
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in QUALIFIERS):
        words.pop()
    if not words or (words[-1] in DESCRIPTIONS and not {"webhook", "dsn"} & set(words)):
        return False
    if "public" in words[-2:-1]:
        return False
    if words[-1] in LAST_SECRET_WORDS and len(words) > 1:
        return True
    if words[-1] in ("key", "keys", "token") and PLAIN_TOKENS & set(words[-2:-1]):
        return False
    return any(word in SECRET_WORDS or word.endswith(SECRET_ENDINGS) for word in words)


def is_secret_option(name: str, value: Any = "") -> bool:
    """Whether an option of a suite is a secret: `api_key`, `azure_ad_token`, `extra_headers`; `value` decides in doubt."""
    if name.lower().endswith("headers") or OPTION.search(name):
        return True
    words = words_of(name)
    if not isinstance(value, str) or not words or PLAIN_TOKENS & set(words[-2:-1]):
        return False
    if words[-1].endswith("token") and (len(words) > 1 or not value):
        return True
    return words[-1] in ("key", "token", "pat", "pass", "auth") and looks_random(value)


def looks_random(value: str) -> bool:
    """Whether a text looks like a generated key: one word of 16 characters or more with letters and digits."""
    return (
        len(value) >= 16
        and not any(character.isspace() for character in value)
        and any(character.isdigit() for character in value)
        and any(character.isalpha() for character in value)
    )


def secrets_of_variable(name: str, value: str) -> Iterator[str]:
    """The secrets in an environment variable: its value, if its name says so; logins and keys in addresses, whatever its name."""
    yield from secrets_in_text(value)
    if not is_secret_name(name) or value.strip().lower() in PLACEHOLDERS or _is_file(value):
        return
    yield value
    if "webhook" in words_of(name) and "://" in value and _is_address(value):  # who knows the path may post
        path = urlsplit(value).path
        yield path.strip("/")
        yield from (part for part in path.split("/") if looks_random(part))


def secrets_in_text(text: str) -> Iterator[str]:
    """Passwords of logins, keys of queries and of connection strings, and those of a JSON object."""
    if text[:1] == "{":
        yield from _secrets_in_json(text)
    if "=" in text:
        yield from (pair[1].strip("\"'") for pair in PAIR.finditer(text))
    if "@" not in text and "?" not in text:
        return
    if "://" not in text:
        match = LOGIN_WITHOUT_SCHEME.match(text)
        if match is not None:
            yield match[1]
        return
    for login in LOGIN.finditer(text):
        user, _, password = login[0][len("://") : -1].partition(":")
        for secret in (password, user if looks_random(user) else ""):  # https://TOKEN@host
            yield from filter(None, (secret, unquote(secret)))
    if _is_address(text):
        for name, value in parse_qsl(urlsplit(text).query):
            if PARAMETER.match(name) or is_secret_option(name, value):
                yield value


def _is_address(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme)
    except ValueError:
        return False


def _secrets_in_json(text: str) -> Iterator[str]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(data, Mapping):
        yield from (
            value
            for name, value in data.items()
            if isinstance(value, str) and (is_secret_option(name, value) or is_secret_name(name))
        )


def _is_file(value: str) -> bool:
    """Whether a value is the path of a file, such as that of GOOGLE_APPLICATION_CREDENTIALS."""
    try:
        path = Path(value).expanduser()
        return path.is_absolute() and path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, no such user
        return False
