"""A chat endpoint on the loopback that sends the same answer to every POST after a fixed wait, for benchmarks.

    python benchmarks/mock_server.py --port 0 --latency 0.1 --seconds 600

Prints its port on the first line and stops after `--seconds`. The reply is encoded once; a request costs a read, a timer
and a write, so that measurements show the work of the client. It supports HTTP/1.1 with content-length only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


def answer_bytes(text: str) -> bytes:
    """An HTTP reply with a chat completion of `text`."""
    body = json.dumps(
        {
            "id": "chatcmpl-mock",
            "object": "chat.completion",
            "created": 0,
            "model": "mock-1",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class MockProtocol(asyncio.Protocol):
    """One connection: sequential requests, each answered with the same bytes."""

    served = 0  # over all connections

    def __init__(self, loop: asyncio.AbstractEventLoop, reply: bytes, latency_s: float) -> None:
        self.loop = loop
        self.reply = reply
        self.latency_s = latency_s
        self.transport: asyncio.Transport | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        while (size := request_size(data)) is not None and len(data) >= size:
            data = data[size:]
            MockProtocol.served += 1
            if self.latency_s > 0:
                self.loop.call_later(self.latency_s, self.send)
            else:
                self.send()
        self.buffer = data

    def send(self) -> None:
        if self.transport is not None:
            self.transport.write(self.reply)


def request_size(data: bytes) -> int | None:
    """Bytes of the first request in `data`, head and body; None while its head is incomplete."""
    end = data.find(HEAD_END)
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(LENGTH)
    if at < 0:
        return end + len(HEAD_END)
    stop = head.find(b"\r\n", at)
    return end + len(HEAD_END) + int(head[at + len(LENGTH) : stop if stop >= 0 else end])


async def serve(port: int, latency_s: float, seconds: float, text: str) -> None:
    loop = asyncio.get_running_loop()
    reply = answer_bytes(text)
    server = await loop.create_server(lambda: MockProtocol(loop, reply, latency_s), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(seconds)
    print(f"served {MockProtocol.served}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0, help="port; 0 picks a free one")
    parser.add_argument("--latency", type=float, default=0.1, metavar="SECONDS", help="wait before each answer")
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after this time")
    parser.add_argument("--text", default="Paris", help="text of every answer")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.latency, options.seconds, options.text))


if __name__ == "__main__":
    main()
