"""A whole evalrun process against a fast local mock server, compared with a bare request loop.

    python benchmarks/throughput.py [--rows 1000 --latency 0.1 --concurrency 64 --repeats 3]

The ideal is rows × latency ÷ concurrency. Compare times of one machine only; the ratio is what
matters. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BARE = """
import asyncio, json, os, sys
from pyreqwest.client import ClientBuilder
url, rows, workers = sys.argv[1] + "/chat/completions", int(sys.argv[2]), int(sys.argv[3])
async def main():
    places = iter(range(rows))
    async with ClientBuilder().build() as client:
        async def work():
            for place in places:
                message = {"role": "user", "content": f"What is {place} plus one?"}
                body = json.dumps({"model": "m", "messages": [message]}).encode()
                reply = await client.post(url).body_bytes(body).header("content-type", "application/json").build().send()
                json.loads(bytes(await reply.bytes()))["choices"][0]["message"]["content"]
        await asyncio.gather(*(work() for _ in range(workers)))
asyncio.run(main())
os._exit(0)  # like the command line: the client's threads can abort a normal exit
"""


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a whole process, including its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has bytecode; a checkout compiles it once
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_suite(folder: Path, address: str, rows: int, concurrency: int) -> None:
    """Write a dataset of `rows` questions and a suite that sends them to the mock."""
    lines = [
        f'{{"id": "q{place}", "input": "What is {place} plus one?", "expected": "{place + 1}"}}'
        for place in range(rows)
    ]
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "bench.yaml").write_text(
        f"""\
name: bench
dataset: data.jsonl
prompt:
  - system: Answer with a number.
  - user: "{{{{ input }}}}"
target: {{model: mock, base_url: "{address}"}}
scorers: [exact_match, contains]
gates: [exact_match >= 0]
run: {{concurrency: {concurrency}}}
"""
    )


def start_mock(latency: float, seconds: float) -> tuple[subprocess.Popen[str], str]:
    """Start the mock in its own process; its address comes back too."""
    command = [sys.executable, str(ROOT / "benchmarks" / "mock_server.py"), "--port", "0", "--latency", str(latency)]
    mock = subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
    assert mock.stdout is not None
    return mock, f"http://127.0.0.1:{int(mock.stdout.readline().split()[-1])}/v1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ideal = options.rows * options.latency / options.concurrency
    mock, address = start_mock(options.latency, 60 + 20 * ideal * options.repeats)
    found: dict[str, list[tuple[float, float]]] = {"bare loop (pyreqwest)": [], "evalrun": []}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_suite(folder, address, options.rows, options.concurrency)
            bare = [sys.executable, "-c", BARE, address, str(options.rows), str(options.concurrency)]
            whole = [sys.executable, "-m", "evalrunner", "bench.yaml"]
            measure(whole, folder)  # compiles bytecode
            for _ in range(options.repeats):
                found["bare loop (pyreqwest)"].append(measure(bare, folder))
                found["evalrun"].append(measure(whole, folder))
    finally:
        mock.terminate()
        mock.wait()
    print(
        f"{options.rows:,} rows, {options.latency * 1000:.0f} ms, concurrency {options.concurrency}; ideal {ideal:.2f} s\n"
    )
    print("| whole process | wall s (median) | ÷ ideal | CPU ms per row |\n|---|---|---|---|")
    for name, times in found.items():
        wall = statistics.median(wall for wall, _ in times)
        cpu = statistics.median(cpu for _, cpu in times)
        print(f"| {name} | {wall:.2f} | {wall / ideal:.2f} | {cpu / options.rows * 1000:.2f} |")


if __name__ == "__main__":
    main()
