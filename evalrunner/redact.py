"""Redact API keys in everything that is written or printed: row log, run.json, tables, terminal, error messages.

A key is a secret of the whole process, so the registry of secrets is global. Code that reads a key registers it; code that
writes text passes it through `redact`, which finds a key as it is and in these spellings, also one within another:

- base64, at any offset (`Basic base64(user:key)`), standard and URL-safe, with line breaks; hexadecimal digits
- percent-encoded (once or more, wholly or in part), escapes of JSON and Python, references of HTML
- split by white space, control characters or other characters that are not visible ASCII
- in other case, if it is long
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any
from urllib.parse import quote

from evalrunner.secret_names import (
    LOGIN,
    PLAIN_HEADERS,
    is_secret_name,
    is_secret_option,
    secrets_in_text,
    secrets_of_variable,
)

MIN_SECRET_LENGTH = 6  # shorter values are words such as `none`; replacing them would damage texts
MIN_FOLDED_LENGTH = 12  # from which a secret with digits is found in any case
MIN_LINE_LENGTH = 20  # of a line of a private key
KEY_MARGIN = 4096  # characters searched for keys beyond those that are shown, so that no key is cut in half
MAX_LAYERS = 6  # of encodings within each other
REDACTED = "[redacted]"
HEADER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
ESCAPE = re.compile(
    r"%([0-9a-f]{2})|\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|&#(?:x0*([0-9a-f]{1,6})|0*([0-9]{1,7}));?"
    r'|(&[a-z][a-z0-9]{1,30};)|\\(["\'\\/nrtbfv])|"(?=")',
    re.IGNORECASE | re.DOTALL,
)
PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
CODE = re.compile(rb"\\[uxUX]")
SHORT_ESCAPE = re.compile(r"\\[trbfv]")
INNER_ESCAPE = re.compile(r"\0+[nrtbfv]")
RARE = re.compile(r'\\[^"\\/n]')
ENTITY = re.compile(rb"&(?:#|[a-zA-Z][a-zA-Z0-9]{1,30};)")
STARTED_CODE = re.compile(r"\\u[0-9a-f]{0,3}\Z", re.IGNORECASE)
OPTION_IN_TEXT = re.compile(r"(?<![\w.-])([\w.-]{1,100})[\"']?\s*[:=]\s*([^\s,}\]]+)")
GAP = re.compile(r"[^\x21-\x7e]+")
NUMBER = re.compile(r"[0-9.+-]+")
LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", b"abcdefghijklmnopqrstuvwxyz+/")
URL_SAFE = str.maketrans("-_", "+/")
DROPPED = bytes(range(33)) + b'\x7f\\"'
COMMON = 'etaoinsrhldcum"fpgyw,b:.vk01{}[]()23456789+/jxqz'  # characters of texts, the commonest first
GRAM = 4
TRACE = b"0123456789gjkmpqwyz"  # that a search looks at first: rare in texts, and in no escape but those of codes
MORE_TRACE = b"xcdhliosae"  # for secrets with few of those; never n, r, t, b, f, v and u, the letters of escapes
WORDS_OF_FILES = frozenset(
    ["aggregates", "answers", "attempt", "baseline", "baselines", "batch", "binary", "bound", "cached", "cached_input_tokens",
     "calls", "cases", "cause", "causes", "cells", "clusters", "columns", "completed", "completion", "completions", "compared",
     "concurrency", "confidence", "config", "content", "context", "cost_usd", "created", "created_at", "dataset", "detail",
     "details", "digest", "dropped", "duration_s", "effective", "endpoint", "engine", "environment", "epochs", "error",
     "errors", "event", "evalrun", "evalrunner", "executed", "expected", "explanation", "failed", "failure", "failures",
     "failure_kinds", "field", "fields", "filtered", "finished", "finished_at", "finish_reason", "folder", "format",
     "function", "gate_results", "gates", "git_commit", "higher_is_better", "http_status", "identity", "ignored",
     "inconclusive", "index", "information", "input", "input_tokens", "inputs", "interval", "judge", "judges", "justification",
     "labels", "latency", "latency_s", "length", "limits", "local", "message", "messages", "metadata", "metric", "metrics",
     "mlflow", "models", "notices", "object", "openai", "options", "output", "output_tokens", "outputs", "params", "passed",
     "passing", "platform", "policy", "prices", "prompt", "prompts", "provenance", "provider", "python", "reason", "reasoning",
     "reasoning_length", "reasoning_tokens", "recorded", "redacted", "reducer", "refused", "rejected", "report", "reports",
     "resumed", "rows_done", "rows_planned", "run_id", "running", "sample", "samples", "schema", "score", "scored", "scorer",
     "scorers", "scores", "served_model", "served_models", "settings", "skipped", "slices", "source", "spelling", "started",
     "started_at", "state", "states", "status", "stopped", "streaming", "string", "suites", "summary", "system", "target",
     "targets", "thresholds", "timeout", "timing", "token_count", "tokens", "tool_calls", "tracking", "ttft_s", "truncated",
     "unscored", "untrusted", "usage", "user_code", "values", "verdict", "verdicts", "version", "versions", "warnings"]
)  # fmt: skip
"""Keys and values of the files of a run, which a secret that is one of them would damage."""


@dataclass(frozen=True)
class _Secret:
    """A secret and its spellings. `exact` are those that are searched for as they are: for secrets beyond visible ASCII."""

    value: str

    @cached_property
    def plain(self) -> str:
        """The secret without gaps, as it stands in a text without them."""
        return GAP.sub("", self.value)

    @cached_property
    def exact(self) -> tuple[str, ...]:
        if self.is_number or "\\" in self.value:
            return ()  # a cut within an escape would break JSON
        if not self.is_unusual:
            return (self.value,)
        texts = (
            self.value,
            json.dumps(self.value)[1:-1],
            html.escape(self.value),
            quote(self.value),
            quote(self.value, safe=""),
        )
        return tuple(
            dict.fromkeys((*texts, *(re.sub("%..", lambda code: code[0].lower(), text) for text in texts[3:])))
        )

    @cached_property
    def is_unusual(self) -> bool:
        """Whether characters beyond visible ASCII are more than gaps in it."""
        return not self.value.isascii() or len(self.plain) < MIN_SECRET_LENGTH

    @cached_property
    def is_number(self) -> bool:
        return NUMBER.fullmatch(self.value) is not None

    @cached_property
    def folds(self) -> bool:
        return len(self.plain) >= MIN_FOLDED_LENGTH and any(character.isdigit() for character in self.plain)

    @cached_property
    def base64(self) -> tuple[tuple[str, int, int], ...]:
        """The characters of base64 that depend on the secret only, for each offset, and those beside them that do in part."""
        cores = []
        for text, offset in product(dict.fromkeys((self.value, json.dumps(self.value)[1:-1])), range(3)):
            raw = text.encode("utf-8", "surrogatepass")
            first, after = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
            encoded = base64.b64encode(bytes(offset) + raw).decode()
            cores.append((encoded[first:after], int(offset > 0), int((offset + len(raw)) % 3 > 0)))
        return tuple(cores)

    @cached_property
    def hexadecimal(self) -> str:
        return self.value.encode("utf-8", "surrogatepass").hex()

    def probes(self) -> Iterator[bytes]:
        """What a text has, in the form of `_condensed`, if it has the secret in any spelling but the exact ones."""
        if len(self.plain) >= MIN_SECRET_LENGTH:
            for text in {self.value, _decoded(self.value)} if "\\" not in self.value else {self._longest_part()}:
                yield _condensed(text)[1:] or _condensed(text)  # the escape \n before it may take the first letter
        yield from (_condensed(core) for core, _, _ in self.base64)
        yield _condensed(self.hexadecimal)

    def _longest_part(self) -> str:
        """What no escape changes in a secret with backslashes."""
        return max((part[1:] for part in f" {self.plain}".split("\\")), key=len)

    def spans(self, text: _Mapped) -> Iterator[tuple[int, int]]:
        """Where the secret is in a text without gaps: first and last index."""
        if len(self.plain) >= MIN_SECRET_LENGTH and not self.is_number:
            here, wanted = (text.folded, self.plain.lower()) if self.folds else (text.text, self.plain)
            yield from _places(here, wanted)
        yield from _places(text.folded, self.hexadecimal)
        for core, before, after in self.base64:
            for start, end in _places(text.url_safe, core):
                padding = len(text.text) - end - after - len(text.text[end + after :].lstrip("="))
                yield max(0, start - before), min(end + after + max(0, padding), len(text.text))


class _Mapped:
    """A text whose escapes are decoded and gaps removed, with the place of each character in the original."""

    def __init__(self, text: str, starts: list[int], ends: list[int]) -> None:
        self.text, self.starts, self.ends = text, starts, ends

    @cached_property
    def folded(self) -> str:
        return self.text.translate(ASCII_LOWER)

    @cached_property
    def url_safe(self) -> str:
        return self.text.translate(URL_SAFE)

    def without_gaps(self) -> _Mapped:
        return self._replaced(GAP, lambda gap: "")

    def decoded(self) -> _Mapped:
        return self._replaced(ESCAPE, _decode)

    def _replaced(self, pattern: re.Pattern[str], replace: Any) -> _Mapped:
        pieces: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for match in pattern.finditer(self.text):
            start, end = match.span()
            new = replace(match)
            pieces += self.text[done:start], new
            starts += self.starts[done:start]
            ends += self.ends[done:start]
            starts += [self.starts[start]] * len(new)
            ends += [self.ends[end - 1]] * len(new)
            done = end
        return _Mapped("".join((*pieces, self.text[done:])), starts + self.starts[done:], ends + self.ends[done:])


ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class _Finder:
    """Finds all secrets at once: a text without any is passed over in one search, however many there are."""

    def __init__(self, secrets: tuple[_Secret, ...]) -> None:
        self.secrets = secrets
        self.exact = [(secret, text) for secret in secrets for text in secret.exact if secret.is_unusual]
        self.numbers = [secret for secret in secrets if secret.is_number]
        self.probes = [(secret, probe) for secret in secrets for probe in secret.probes()]
        self.gram = _search({_rarest_gram(probe) for _, probe in self.probes})
        kept = _trace_characters(probe for _, probe in self.probes)
        self.untraced = bytes(code for code in range(256) if LOWER[code] not in kept)
        self.trace = _search({_rarest_gram(probe.translate(None, self.untraced)) for _, probe in self.probes})
        self.shortest = min([MIN_SECRET_LENGTH, *(len(text) for _, text in self.exact)])

    def redact(self, text: str) -> str:
        if len(text) < self.shortest or not self._may_have_one(text):
            return text
        found = self._suspects(text)
        if not found:
            return text
        spans = {span for secret in found for span in _exact_spans(secret, text)} | self._spans(found, text)
        pieces: list[str] = []
        done = 0
        for start, end in sorted((_before_escape(text, start), end) for start, end in spans):
            if end <= done:
                continue
            if start >= done:
                pieces += text[done:start], REDACTED
            done = end
        return "".join((*pieces, text[done:]))

    def _may_have_one(self, text: str) -> bool:
        """Whether a text needs a closer look: it has a code of a character, or the traces of a secret.

        What is left of a secret without all but some characters is in what is left of the text, however it is split.
        """
        raw = text.encode("utf-8", "surrogatepass")
        return (
            self.trace.search(raw.translate(LOWER, self.untraced)) is not None
            or (b"\\" in raw and CODE.search(raw) is not None)
            or (b"%" in raw and PERCENT.search(raw) is not None)
            or (b"&" in raw and ENTITY.search(raw) is not None)
            or (bool(self.exact) and any(spelling in text for _, spelling in self.exact))
            or (bool(self.numbers) and any(secret.value in text for secret in self.numbers))
        )

    def _suspects(self, text: str) -> list[_Secret]:
        """The secrets that may be in a text; an empty list for nearly every one."""
        found = [secret for secret, spelling in self.exact if spelling in text]
        found += [secret for secret in self.numbers if secret.value in text]
        for form in _forms(text):
            condensed = _condensed(form)
            if self.gram.search(condensed) is not None:
                found += [secret for secret, probe in self.probes if probe in condensed]
        return list(dict.fromkeys(found))

    @staticmethod
    def _spans(secrets: list[_Secret], text: str) -> set[tuple[int, int]]:
        places = list(range(len(text) + 1))
        layer, spans = _Mapped(text, places[:-1], places[1:]), set()
        for _ in range(MAX_LAYERS + 1):
            form = layer.without_gaps()
            for secret in secrets:
                spans |= {(form.starts[start], form.ends[end - 1]) for start, end in secret.spans(form)}
            decoded = layer.decoded()
            if decoded.text == layer.text:
                break
            layer = decoded
        return spans


def _forms(text: str) -> Iterator[str]:
    """The text as it is, and decoded as often as it has escapes."""
    escaped = "\\" in text
    raw = text.encode("utf-8", "surrogatepass")
    if CODE.search(raw) is not None or PERCENT.search(raw) is not None or ENTITY.search(raw) is not None:
        yield text
        for _ in range(MAX_LAYERS):
            decoded = _decoded(text)
            if decoded == text:
                return
            yield decoded
            text = decoded
    elif escaped:  # nearly every JSON; `probes` do without the letter that this may take
        text = text.replace("\\\\", "\0").replace("\\n", "")
        text = text if RARE.search(text) is None else SHORT_ESCAPE.sub("", text)
        yield text
        if "\0" in text:  # a backslash, of an escape within another one
            yield INNER_ESCAPE.sub("", text)
    else:
        yield text


def _condensed(text: str) -> bytes:
    """The visible ASCII of a text in lower case, in the alphabet of standard base64."""
    return text.encode("ascii", "ignore").translate(LOWER, DROPPED)


def _decoded(text: str) -> str:
    return ESCAPE.sub(_decode, text)


def _decode(match: re.Match[str]) -> str:
    """The character of one escape; nothing for one that is no visible ASCII."""
    percent, unicode, code, hexadecimal, decimal, name, letter = match.groups()
    if letter is not None:
        return "" if letter in "nrtbfv" else letter
    if name is not None:
        return html.unescape(name)
    digits = percent or unicode or code or hexadecimal
    number = int(digits, 16) if digits else int(decimal) if decimal else 0
    return chr(number) if 0x20 < number < 0x7F else ""


def _exact_spans(secret: _Secret, text: str) -> Iterator[tuple[int, int]]:
    """Where a secret is as it is; one of digits only where it is no part of a number."""
    for spelling in secret.exact:
        yield from _places(text, spelling)
    for start, end in _places(text, secret.value) if secret.is_number else ():
        before, after = text[start - 1 : start] if start else "", text[end : end + 1]
        if not (before.isdigit() or before == "." or after.isdigit() or _is_json_number(text, start)):
            yield start, end


def _before_escape(text: str, place: int) -> int:
    """A place, or that of the escape of JSON that it is in: what is left of one would break the JSON."""
    started = STARTED_CODE.search(text, max(0, place - 5), place)
    place = place if started is None else started.start()
    while place and text[place - 1] == "\\":
        place -= 1
    return place


def _is_json_number(text: str, place: int) -> bool:
    """Whether a place in JSON is outside of texts."""
    return text[:1] in ("{", "[") and len(re.findall(r'(?<!\\)(?:\\\\)*"', text[:place])) % 2 == 0


def _places(text: str, wanted: str) -> Iterator[tuple[int, int]]:
    start = text.find(wanted)
    while start >= 0:
        yield start, start + len(wanted)
        start = text.find(wanted, start + len(wanted))


def _rarest_gram(probe: bytes) -> bytes:
    """The characters of a probe that are least likely in other texts, the rarest first."""
    grams = [probe[start : start + GRAM] for start in range(max(1, len(probe) - GRAM + 1))]
    return max(grams, key=lambda gram: [COMMON.find(chr(code)) % len(COMMON) for code in gram])


def _trace_characters(probes: Iterable[bytes]) -> bytes:
    """Characters of which each probe has some: the rare ones of texts, and others where a probe has few of them."""
    kept = TRACE
    for probe in probes:
        for code in MORE_TRACE:
            if sum(one in kept for one in probe) >= GRAM:
                break
            kept += bytes({code} & set(probe))
    return kept


def _search(grams: set[bytes]) -> re.Pattern[bytes]:
    """A pattern of all texts, by first characters: the search then skips all others at once."""
    if not grams:
        return re.compile(rb"(?!)")
    by_first: dict[bytes, list[bytes]] = {}
    for gram in sorted(grams):
        by_first.setdefault(gram[:1], []).append(re.escape(gram[1:]))
    return re.compile(b"|".join(re.escape(first) + b"(?:" + b"|".join(rest) + b")" for first, rest in by_first.items()))


_secrets: dict[str, _Secret] = {}
_finder: _Finder | None = None


def register_secret(value: str | None) -> None:
    """Redact `value` from now on, in all spellings."""
    global _finder
    if value is None:
        return
    whole = value.strip().strip("\"'")
    lines = [line.strip() for line in whole.splitlines()] if "\n" in whole else []
    for text in (whole, *(line for line in lines if len(line) >= MIN_LINE_LENGTH and "-----" not in line)):
        if len(text) >= MIN_SECRET_LENGTH and text not in WORDS_OF_FILES and text not in _secrets:
            _secrets[text] = _Secret(text)
            _finder = None


def forget_secret(value: str) -> None:
    """Stop redacting `value`: it turned out to be a part of public data."""
    global _finder
    if _secrets.pop(value.strip().strip("\"'"), None) is not None:
        _finder = None


def register_environment(environ: Mapping[str, str] | None = None) -> None:
    """Register the secrets of all variables: `OPENAI_API_KEY`, `HF_TOKEN`, the password in `DATABASE_URL` …"""
    for name, value in (os.environ if environ is None else environ).items():
        for secret in secrets_of_variable(name, value):
            register_secret(secret)


def register_secrets_of(data: Any) -> None:
    """Register the values of secret options and headers in JSON-like data, and the secrets in addresses."""
    if isinstance(data, Mapping):
        for name, item in data.items():
            if is_secret_option(str(name), item):
                _register_texts(item)
            else:
                register_secrets_of(item)
    elif isinstance(data, list | tuple):
        for item in data:
            register_secrets_of(item)
    elif isinstance(data, str):
        for secret in secrets_in_text(data):
            _register_texts(secret)


def register_secrets_of_text(text: str) -> None:
    """Register the values of secret options in YAML that cannot be read, which its problems may repeat."""
    for name, value in OPTION_IN_TEXT.findall(text):
        if is_secret_option(name, value):
            register_secret(value.strip("\"'*&!|>"))


def _register_texts(item: Any) -> None:
    if isinstance(item, Mapping):
        for name, value in item.items():
            if str(name).lower() not in PLAIN_HEADERS:
                _register_texts(value)
    elif isinstance(item, list | tuple):
        for value in item:
            _register_texts(value)
    elif isinstance(item, str) and "${" not in item:
        register_secret(re.sub(r"(?i)^(bearer|basic|token)\s+", "", item))
        for secret in secrets_in_text(item):
            register_secret(secret)
    elif isinstance(item, int | float) and not isinstance(item, bool):
        register_secret(str(item))


def redact(text: str) -> str:
    """`text` with every registered secret replaced."""
    global _finder
    finder = _finder
    if finder is None:
        finder = _finder = _Finder(tuple(_secrets.values()))
    return finder.redact(text)


def redact_start(text: str, limit: int) -> str:
    """The first `limit` characters, redacted, without a part of a key where they end."""
    return redact(text[: limit + KEY_MARGIN])[:limit]


def redact_message(text: str) -> str:
    """`redact`, and also logins in addresses and what looks like an authorization header: for messages of other software."""
    return LOGIN.sub("://", HEADER.sub(lambda match: f"{match.group(1)} {REDACTED}", redact(text)))


def without_secrets(data: Any) -> Any:
    """JSON-like data without the values of secret options and headers, and without registered secrets."""
    if isinstance(data, Mapping):
        return {
            redact(str(name)): _hidden(item) if is_secret_option(str(name), item) else without_secrets(item)
            for name, item in data.items()
        }
    if isinstance(data, list | tuple):
        return [without_secrets(item) for item in data]
    return LOGIN.sub(_public_login, redact(data)) if isinstance(data, str) else data


def _public_login(match: re.Match[str]) -> str:
    return match[0] if "${" in match[0] else "://"


def may_be_secret(name: str) -> bool:
    """Whether an option may contain a secret by its name: `api_key`, `headers`, also `key` or `token`."""
    return is_secret_option(name) or is_secret_name(name)


def _hidden(item: Any) -> Any:
    """The replacement of a secret value; names of headers and of variables are kept."""
    if isinstance(item, Mapping):
        return {str(name): _hidden(value) for name, value in item.items()}
    if isinstance(item, list | tuple):
        return [_hidden(value) for value in item]
    return item if item is None or (isinstance(item, str) and "${" in item) else REDACTED
