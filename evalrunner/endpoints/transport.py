"""The one seam to the network: bytes out, a `Reply` or a `TransportFault` back.

Nothing above it knows what speaks HTTP, and a test hands in a transport of its own. `PyreqwestTransport` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from evalrunner.domain import Failure
from evalrunner.endpoints.openai_errors import quote


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered. Header names are in lower case; of a repeated header the first is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransportFault(Exception):
    """No whole reply came. `connecting`: there was not even a connection, so nothing was asked."""

    def __init__(self, kind: Literal["connection", "timeout"], message: str, *, connecting: bool = False) -> None:
        super().__init__(message)
        self.kind: Literal["connection", "timeout"] = kind
        self.message = message
        self.connecting = connecting


def describe_fault(fault: TransportFault, origin: str, timeout_s: float) -> Failure:
    """The failure of a call that got no reply. What could not even connect will not the next time either."""
    why = quote(fault.message.partition(" (os error")[0])
    if fault.connecting:
        message = f"nothing answers at {origin} ({why[:1].lower()}{why[1:]}); is the server up?"
        return Failure("connection", message, fatal=True)
    if fault.kind == "timeout":
        return Failure("timeout", f"no answer within {timeout_s:g} s")
    return Failure("connection", f"the connection to {origin} broke before the whole answer came ({why})")


class Transport(Protocol):
    """Sends one request. After `timeout_s` its connection is dropped; redirects are handed back, not followed."""

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Reply: ...

    async def post_streamed(
        self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float, take: Callable[[bytes], bool]
    ) -> Reply:
        """The reply, whose body is empty where the status is 2xx: it went to `take` as it came.

        `take` says of each piece whether it was the last that is needed.
        """
        ...

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Reply: ...

    async def get(self, url: str, *, headers: Mapping[str, str], timeout_s: float) -> Reply: ...

    async def aclose(self) -> None: ...


DEADLINE_GRACE_S = 0.25  # for whoever waits to say in their own words that time is up


@dataclass(frozen=True, slots=True)
class DeadlineTransport:
    """A `Transport` whose requests end when the real seconds are over that `time_left_s` tells as each is sent.

    Whoever waits gives up by themselves then; this is what drops the connection, which giving up does not.
    """

    inner: Transport
    time_left_s: Callable[[], float]

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Reply:
        return await self.inner.post(url, headers=headers, body=body, timeout_s=self._limit_s(timeout_s))

    async def post_streamed(
        self, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float, take: Callable[[bytes], bool]
    ) -> Reply:
        limit_s = self._limit_s(timeout_s)
        return await self.inner.post_streamed(url, headers=headers, body=body, timeout_s=limit_s, take=take)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Reply:
        limit_s = self._limit_s(timeout_s)
        return await self.inner.request(method, url, headers=headers, body=body, timeout_s=limit_s)

    async def get(self, url: str, *, headers: Mapping[str, str], timeout_s: float) -> Reply:
        return await self.inner.get(url, headers=headers, timeout_s=self._limit_s(timeout_s))

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _limit_s(self, timeout_s: float) -> float:
        return min(timeout_s, max(0.0, self.time_left_s()) + DEADLINE_GRACE_S)
