"""A scripted chat endpoint on a real loopback socket: it answers, fails, hangs, cuts the connection or sends garbage.

    def script(request, nth):
        return Status(429, headers={"retry-after": "0"}) if nth == 1 else Answer("Paris")

    with ScriptedServer(script) as server:
        ...  # server.base_url, server.requests, server.calls, server.most_in_flight

`nth` counts all calls from 1. `in_order(...)` plays actions over all calls, `each_request(...)` over the calls of
one request, to test retries. The server runs in its own thread and event loop, so a test may block or use asyncio.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """A completion. `message` replaces or adds fields of the message, `extra` fields of the whole reply.

    A request with `stream: true` gets it word by word, with `pause_s` before each.
    """

    text: str | None = "ok"
    finish_reason: str | None = "stop"
    input_tokens: Any = 10
    output_tokens: Any = 2
    model: str | None = None
    message: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0


@dataclass(frozen=True)
class Streamed:
    """A body in chunks: bytes are written unchanged, a number is a wait in seconds.

    It ends regularly, is `cut` after the last piece, or never ends (`hang`).
    """

    pieces: tuple[bytes | float, ...]
    ending: Literal["end", "cut", "hang"] = "end"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """An HTTP status with a body: JSON, text, or bytes."""

    code: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Never answers; the connection stays open."""


@dataclass(frozen=True)
class Cut:
    """Cuts the connection after this many bytes of a valid reply, including the head."""

    after_bytes: int = 0


@dataclass(frozen=True)
class Malformed:
    """Status 200 with these bytes as the body."""

    body: bytes = b'{"choices": [{'


@dataclass(frozen=True)
class Raw:
    """These bytes as the whole reply, head included; `close` ends the connection after them."""

    reply: bytes
    close: bool = False


@dataclass(frozen=True)
class Wire:
    """The whole reply in pieces, head included: bytes are written unchanged, a number is a wait in seconds.

    Then the connection is kept, closed, reset, or stays open with the reply owed (`hang`).
    """

    pieces: tuple[bytes | float, ...]
    ending: Literal["keep", "close", "reset", "hang"] = "keep"


@dataclass(frozen=True)
class Slow:
    """Another action after a wait."""

    seconds: float
    then: Answer | Streamed | Status | Cut | Malformed | Raw = Answer()


Action = Answer | Streamed | Status | Hang | Cut | Malformed | Raw | Wire | Slow
Script = Callable[[Any, int], Action]


@dataclass(frozen=True)
class Recorded:
    """One received request: header names in lower case, `json` None unless the body is JSON."""

    path: str
    headers: Mapping[str, str]
    json: Any
    method: str = "POST"


def always(action: Action) -> Script:
    return lambda _request, _nth: action


def in_order(*actions: Action) -> Script:
    """The first call gets the first action, and so on; the last action repeats."""
    return lambda _request, nth: actions[min(nth, len(actions)) - 1]


def each_request(*actions: Action) -> Script:
    """Like `in_order`, counted separately for each distinct request."""
    seen: Counter[str] = Counter()

    def script(request: Any, _nth: int) -> Action:
        name = json.dumps(request, sort_keys=True)
        seen[name] += 1
        return actions[min(seen[name], len(actions)) - 1]

    return script


class ScriptedServer:
    """The server, as a context manager that starts and stops it."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        capacity: int | None = None,
        tls: ssl.SSLContext | None = None,
        uds: str | None = None,
    ) -> None:
        self.script = script or always(Answer())
        self.capacity = capacity  # answers 429 while this many requests are in flight
        self.refused = 0
        self.requests: list[Recorded] = []
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections = 0
        self.dropped = 0  # connections that the client closed while waiting for an answer
        self.port = 0
        self.tls = tls
        self.uds = uds  # path of the Unix socket to listen on in place of a port
        self._loop = asyncio.new_event_loop()
        self._open: set[_Connection] = set()
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)
        self._up = threading.Event()

    @property
    def base_url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        assert self._up.wait(10), "the scripted server did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def settle(self, seconds: float = 5.0) -> tuple[int, int, int]:
        """`(calls, dropped, in_flight)` once no request is pending, or after `seconds`."""
        until = time.monotonic() + seconds
        while self.in_flight and time.monotonic() < until:
            time.sleep(0.005)
        return self.calls, self.dropped, self.in_flight

    def drain(self, seconds: float = 10.0) -> int:
        """The calls so far, once everything is read that clients sent which have ended since; or after `seconds`.

        What a process sends just before it ends may wait in the sockets while the machine is busy.
        """
        until, connections = time.monotonic() + seconds, self.connections
        with socket.create_connection(("127.0.0.1", self.port)):  # accepted after all that were opened before
            while self.connections == connections and time.monotonic() < until:
                time.sleep(0.001)
        while self._open and time.monotonic() < until:
            time.sleep(0.001)
        return self.calls

    async def __aenter__(self) -> ScriptedServer:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(self._listen())
        if self.uds is None:
            self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self._loop.run_forever()
        server.close()
        for connection in list(self._open):
            connection.drop()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        if self.uds is not None:
            return await self._loop.create_unix_server(lambda: _Connection(self), self.uds)
        return await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=4096, ssl=self.tls)

    def take(self, connection: _Connection, request: Recorded) -> None:
        """Answer one request by the script. An exception in the script is answered with status 599 and its message."""
        self.requests.append(request)
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.capacity is not None and self.in_flight > self.capacity:
            self.refused += 1
            connection.act(Status(429))
            return
        try:
            action = self.script(request.json, self.calls)
        except Exception as error:  # a mistake in the test, reported where the test sees it
            action = Status(599, f"the script raised {error!r}")
        inner = action.then if isinstance(action, Slow) else action
        if isinstance(inner, Answer) and isinstance(request.json, dict) and request.json.get("stream"):
            inner = stream_of(inner, request.json)
            action = Slow(action.seconds, inner) if isinstance(action, Slow) else inner
        if isinstance(action, Slow):
            self._loop.call_later(action.seconds, connection.act, action.then)
        else:
            connection.act(action)


class _Connection(asyncio.Protocol):
    """Serve one connection with sequential requests."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.waiting = b""
        self.owed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1
        self.server._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.server._open.discard(self)
        self.server.dropped += self.owed > 0
        self.server.in_flight -= self.owed
        self.owed = 0

    def data_received(self, data: bytes) -> None:
        data = self.waiting + data if self.waiting else data
        while (request := _first_request(data)) is not None:
            size, recorded = request
            data = data[size:]
            self.owed += 1
            self.server.take(self, recorded)
        self.waiting = data

    def act(self, action: Action) -> None:
        """Perform the action unless the client has disconnected."""
        if self.transport is None or isinstance(action, Hang):
            return
        if isinstance(action, Streamed):
            self.transport.write(_streamed_head(action))
            self.send(action, 0)
            return
        if isinstance(action, Wire):
            self.write(action, 0)
            return
        self.settle()
        if isinstance(action, Raw):
            self.transport.write(action.reply)
            if action.close:
                self.transport.close()
        elif isinstance(action, Cut):
            self.transport.write(_reply_bytes(Answer("cut off"))[: action.after_bytes])
            self.transport.close()
        else:
            assert not isinstance(action, Slow)  # the server has waited
            self.transport.write(_reply_bytes(action))

    def send(self, action: Streamed, place: int) -> None:
        """Write the chunks from `place` on, then the end of the body."""
        for now in range(place, len(action.pieces)):
            if self.transport is None:
                return
            piece = action.pieces[now]
            if not isinstance(piece, bytes):
                self.server._loop.call_later(piece, self.send, action, now + 1)
                return
            self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if self.transport is None or action.ending == "hang":
            return
        self.settle()
        if action.ending == "cut":
            self.transport.close()
        else:
            self.transport.write(b"0\r\n\r\n")

    def write(self, action: Wire, place: int) -> None:
        """Write the pieces from `place` on, then end as the action says."""
        for now in range(place, len(action.pieces)):
            if self.transport is None:
                return
            piece = action.pieces[now]
            if not isinstance(piece, bytes):
                self.server._loop.call_later(piece, self.write, action, now + 1)
                return
            self.transport.write(piece)
        if self.transport is None or action.ending == "hang":
            return
        self.settle()
        if action.ending == "close":
            self.transport.close()
        elif action.ending == "reset":
            self.reset(self.transport)

    def reset(self, transport: asyncio.Transport) -> None:
        """End the connection with an RST, in place of the FIN of a regular end."""
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def settle(self) -> None:
        self.owed -= 1
        self.server.in_flight -= 1

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _first_request(data: bytes) -> tuple[int, Recorded] | None:
    """The first complete request in `data` and its size, or None."""
    end = data.find(HEAD_END)
    if end < 0:
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = end + len(HEAD_END) + int(headers.get("content-length", 0))
    if len(data) < size:
        return None
    try:
        body = json.loads(data[end + len(HEAD_END) : size])
    except ValueError:
        body = None
    method, path, _ = first.split(" ", 2)
    return size, Recorded(path, headers, body, method)


def event(data: Any) -> bytes:
    """One server-sent event in OpenAI's format."""
    return b"data: %b\n\n" % (data if isinstance(data, bytes) else json.dumps(data).encode())


DONE = event(b"[DONE]")


def delta(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a streamed answer."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "model": "scripted-1", "choices": [choice]}


def stream_of(answer: Answer, request: Mapping[str, Any]) -> Streamed:
    """The answer word by word, with usage if requested."""
    words = (answer.text or "").split(" ")
    chunks = [
        delta(role="assistant", content=""),
        *(delta(content=word if place == 0 else f" {word}") for place, word in enumerate(words) if answer.text),
        delta(answer.finish_reason, **answer.message),
    ]
    whole = _completion(answer)
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append({"object": "chat.completion.chunk", "choices": [], "usage": whole["usage"]})
    pieces: list[bytes | float] = []
    for chunk in chunks:
        pieces += [answer.pause_s, event({**chunk, "model": whole["model"], **answer.extra})]
    return Streamed((*pieces, DONE), headers=answer.headers)


def _streamed_head(action: Streamed) -> bytes:
    headers = {"content-type": "text/event-stream", **action.headers, "transfer-encoding": "chunked"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 Scripted\r\n{head}\r\n".encode("latin-1")


def _reply_bytes(action: Answer | Status | Malformed) -> bytes:
    status, headers, body = 200, {"content-type": "application/json"}, b""
    match action:
        case Answer():
            headers |= action.headers
            body = json.dumps(_completion(action)).encode()
        case Status(code=code, body=content):
            status = code
            headers |= action.headers
            body = content if isinstance(content, bytes) else _written(content)
        case Malformed(body=body):
            pass
    headers["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode("latin-1") + body


def _written(content: Any) -> bytes:
    return b"" if content is None else content.encode() if isinstance(content, str) else json.dumps(content).encode()


def _completion(answer: Answer) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": answer.model or "scripted-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text, **answer.message},
                "finish_reason": answer.finish_reason,
            }
        ],
        "usage": {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens},
        **answer.extra,
    }
