"""CPU time per request and import time of HTTP clients against the same fast local mock.

    python benchmarks/transports.py [--requests 3000 --latency 0.05 --concurrency 64]

Clients that are not installed are skipped; install httpx-aiohttp for all of them. Prints Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys

from throughput import start_mock

BODY = '{"model": "m", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
LOOP = """
import asyncio, json, os, sys, time
began = time.process_time()
{imports}
imported = time.process_time() - began
url, count, workers = sys.argv[1] + "/chat/completions", int(sys.argv[2]), int(sys.argv[3])
body, headers = {body!r}.encode(), {{"content-type": "application/json"}}
async def main():
    async with {client} as client:
        async def post():
            {post}
        places = iter(range(count))
        async def work():
            for _ in places:
                json.loads(await post())
        await asyncio.gather(*(work() for _ in range(workers)))
begun = time.process_time()
asyncio.run(main())
print(imported * 1000, (time.process_time() - begun) / count * 1000, flush=True)
os._exit(0)
"""
CLIENTS = {
    "pyreqwest": (
        "pyreqwest",
        "from pyreqwest.client import ClientBuilder",
        "ClientBuilder().build()",
        "reply = await client.post(url).body_bytes(body).headers(headers).build().send(); return bytes(await reply.bytes())",
    ),
    "aiohttp": (
        "aiohttp",
        "import aiohttp",
        "aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))",
        "reply = await client.post(url, data=body, headers=headers); return await reply.read()",
    ),
    "httpx over aiohttp": (
        "httpx_aiohttp",
        "import httpx, httpx_aiohttp",
        "httpx.AsyncClient(timeout=60, transport=httpx_aiohttp.AiohttpTransport(limits=httpx.Limits(max_connections=None)))",
        "reply = await client.post(url, content=body, headers=headers); return reply.content",
    ),
    "httpx": (
        "httpx",
        "import httpx",
        "httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))",
        "reply = await client.post(url, content=body, headers=headers); return reply.content",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    mock, address = start_mock(options.latency, 600)
    print("| client | import, ms CPU | request, ms CPU |\n|---|---|---|")
    try:
        for name, (package, imports, client, post) in CLIENTS.items():
            if importlib.util.find_spec(package) is None:
                print(f"| {name} | not installed | |")
                continue
            code = LOOP.format(imports=imports, client=client, post=post, body=BODY)
            command = [sys.executable, "-c", code, address, str(options.requests), str(options.concurrency)]
            env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
            took, each = (float(text) for text in done.stdout.split())
            print(f"| {name} | {took:.0f} | {each:.2f} |", flush=True)
    finally:
        mock.terminate()
        mock.wait()


if __name__ == "__main__":
    main()
