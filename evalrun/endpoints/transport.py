"""The one seam to the network: bytes out, a `Reply` or a `TransportFault` back.

Nothing above it knows what speaks HTTP, and a test hands in a transport of its own. `PyreqwestTransport` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol


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
