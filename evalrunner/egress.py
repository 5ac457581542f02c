"""What may leave this process, and where to: the hosts that a run may contact.

    policy = EgressPolicy.of(["api.openai.com", "*.openai.azure.com", "localhost:4000"])
    policy.refusal("https://models.example/v1")     # a sentence; None for an allowed address

Everything that sends something asks the policy of its suite: HTTP targets and judges when their client is created,
LiteLLM with every request, MLflow and the Hugging Face hub before they are opened. A host that a suite does not name is
never contacted, whatever the policy says. User-defined Python is not covered, and proxies are not: they come from the
environment, which a suite cannot change.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443, "mysql": 3306, "postgresql": 5432, "mssql": 1433}
HOST = re.compile(r"[^\s\x00-\x20\x7f\\/?#@%<>^`{|}]+")  # without the characters that URL parsers disagree about
ENTRY = re.compile(
    r"(?:(?P<scheme>(?i:https?))://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]]+)(?::(?P<port>\d{1,5}))?/?"
)
LABELS = re.compile(r"(?:\*\.)?[^\s.*,;-][^\s.*,;]*(?:\.[^\s.*,;-][^\s.*,;]*)*")
LOGIN = re.compile(r"^(\s*(?:[A-Za-z][\w+.-]*://)?)[^/?#]*@")
ENTRY_FORMS = "api.openai.com, *.openai.azure.com, localhost:4000 or https://models.example"


class EgressError(Exception):
    """A request to a host that the policy does not allow. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a connection goes: scheme, host and port, in one spelling, without a login."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Address:
        """The address of a URL. Raises ValueError where two parsers could read different hosts."""
        parts = urlsplit(url.strip())
        host = parts.netloc.rpartition("@")[2]
        if not parts.hostname or not HOST.fullmatch(host) or "\\" in parts.netloc:
            raise ValueError(f"{parts.scheme}://{host} is not an address with a plain host name")
        scheme = parts.scheme.partition("+")[0]  # the driver of a database
        return cls(scheme, _one_spelling(parts.hostname), parts.port or DEFAULT_PORTS.get(scheme))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        shown = "" if self.port in (None, DEFAULT_PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{host}{shown}"


@dataclass(frozen=True, slots=True)
class HostPattern:
    """An entry of `allow_hosts`. What it leaves out may be anything: the port, and the scheme.

    `*.example.com` means every host below example.com, at any depth, and not example.com itself.
    """

    host: str
    port: int | None = None
    scheme: str | None = None

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """The pattern in a text. Raises ValueError, which says what is wrong."""
        match = ENTRY.fullmatch(text.strip())
        host = match["host"].strip("[]") if match else ""
        named = match is not None and (match["host"].startswith("[") or LABELS.fullmatch(host.removesuffix(".")))
        if match is None or not named:
            shown = repr(LOGIN.sub(r"\1", text, count=1))  # a login is not repeated in a message
            raise ValueError(f"{shown} should be a host such as {ENTRY_FORMS}{_entry_advice(text.strip())}")
        port = None if match["port"] is None else int(match["port"])
        if port is not None and not 0 < port < 65536:
            raise ValueError(f"{text!r} has the port {port}; it should be from 1 to 65535")
        wildcard = "*." if host.startswith("*.") else ""
        return cls(wildcard + _one_spelling(host.removeprefix("*.")), port, match["scheme"] and match["scheme"].lower())

    def matches(self, address: Address) -> bool:
        """Whether connections to the address are allowed."""
        if self.port not in (None, address.port) or self.scheme not in (None, address.scheme):
            return False
        if self.host.startswith("*."):
            return address.host.endswith(self.host[1:])
        return self.host == address.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = f"{self.scheme}://" if self.scheme else ""
        return f"{scheme}{host}{f':{self.port}' if self.port else ''}"


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The hosts that may be contacted: those of `patterns`, or with None every host that the suite names.

    `source` is what set it, for messages: the key of the suite or the option of the command line; `advice` says how to
    allow another host. `outer` has to allow the host as well.
    """

    patterns: tuple[HostPattern, ...] | None = None
    source: str = "run.allow_hosts"
    outer: EgressPolicy | None = None
    advice: str = "add its host there"

    @classmethod
    def of(cls, hosts: Iterable[str] | None, source: str = "run.allow_hosts") -> EgressPolicy:
        """The policy of a list of hosts; an empty list allows none. Raises ValueError for an entry that is no host."""
        return cls(None if hosts is None else tuple(map(HostPattern.parse, hosts)), source)

    @property
    def limited(self) -> bool:
        """Whether there is a list of hosts."""
        return self.patterns is not None or (self.outer is not None and self.outer.limited)

    def within(self, outer: EgressPolicy) -> EgressPolicy:
        """The policy that allows what both allow."""
        return replace(self, outer=outer) if outer.limited else self

    def allows(self, url: str) -> bool:
        """Whether the host of a URL may be contacted."""
        return self.refusal(url) is None

    def refusal(self, url: str) -> str | None:
        """Why the host of a URL may not be contacted, as a sentence without a login; None if it may."""
        if self.outer is not None and (refusal := self.outer.refusal(url)) is not None:
            return refusal
        if self.patterns is None:
            return None
        try:
            address = Address.of(url)
        except ValueError as unclear:
            return f"{unclear}, so {self.source} cannot allow it"
        if any(pattern.matches(address) for pattern in self.patterns):
            return None
        listed = ", ".join(map(str, self.patterns)) or "none"
        return f"{address} is not among the hosts that {self.source} allows ({listed}); {self.advice}"

    @contextmanager
    def active(self) -> Iterator[None]:
        """A context whose requests through MLflow and the Hugging Face hub obey this policy."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


ANY_HOST = EgressPolicy()
_current: ContextVar[EgressPolicy] = ContextVar("_current", default=ANY_HOST)


def current_policy() -> EgressPolicy:
    """The policy of the suite that is being checked or run."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class Destination:
    """A host that a suite sends something to, and why.

    `address` is its URL without a login, or a pattern such as `https://*.amazonaws.com`, or empty where only a library
    knows it. `secrets` name what goes there: a variable, or where in the suite a literal value is. `key_path` is the
    place in the suite that names it. An `optional` one is contacted only if something asks for it in the run.
    """

    address: str
    purpose: str
    secrets: tuple[str, ...] = ()
    key_path: tuple[str | int, ...] = ()
    optional: bool = False

    def refusal(self, policy: EgressPolicy) -> str | None:
        """Why the policy does not allow the host; None if it does, or if that is not known before the request."""
        return None if "*" in self.address or not self.address else policy.refusal(self.address)


def _entry_advice(text: str) -> str:
    """How to write an entry of `allow_hosts` that is none, as the rest of a sentence; nothing if that is not clear."""
    if text == "*":
        return "; a list cannot allow every host: name each one"
    if "," in text or ";" in text or len(text.split()) > 1:
        return "; write each host as an entry of its own"
    if re.fullmatch(r"[0-9a-fA-F.:]+/\d+", text):
        return "; a network cannot be allowed: write each address"
    if text.count(":") > 1 and re.fullmatch(r"[0-9a-fA-F:.]+", text):
        return f"; write [{text}]"
    plain = re.sub(r"^(https?)(?::/?|//)(?=[^/:\d])", r"\1://", LOGIN.sub(r"\1", text))
    scheme, mark, rest = plain.rpartition("://")
    if scheme not in ("", "http", "https"):
        return "; only http and https can be named"
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rstrip(":")
    host = f"*.{host.lstrip('*.')}" if host[:1] in ("*", ".") else host
    if "*" in host.removeprefix("*."):
        return "; * can only be the first part of a name"
    corrected = f"{scheme}{mark}{host}"
    entry = ENTRY.fullmatch(corrected)
    fits = entry is not None and corrected != text and LABELS.fullmatch(entry["host"]) is not None
    return f"; write {corrected}" if fits else ""


def _one_spelling(host: str) -> str:
    """A host in lower case, without a final dot, international names in their ASCII form, addresses in the shortest."""
    host = host.lower().removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if host.isascii():
        return host
    try:
        plain = host.encode("idna").decode("ascii")
        same = plain.encode("ascii").decode("idna") == host
    except UnicodeError:
        same, plain = False, ""
    if not same:  # ß, full-width letters and the like: HTTP libraries disagree about the host that they mean
        raise ValueError(
            f"{host!r} has letters that mean different hosts to different programs; write it in ASCII (xn--…)"
        )
    return plain
