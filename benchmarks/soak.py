"""A long run through faults at all rates: are all counts exact, and do memory and descriptors stay flat?

    python benchmarks/soak.py [--rows 300000 --concurrency 128]

A server process on the loopback fails by a plan that depends only on the sample and the attempt: errors, rate limits,
resets, cut and malformed replies, hangs; other answers are truncated, filtered or empty. The share of failing calls
changes from phase to phase (`PHASES`). The run is one `evalrun` process, so its row log, the requests that the server
counted and the plan must agree to the last call. Prints Markdown; exits with 1 if something does not hold. Linux only,
because it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parents[1]
PHASES = (0.0, 0.01, 0.02, 0.05, 0.08, 0.15, 0.25, 0.35, 0.5, 0.1)
"""The share of calls that fail in each tenth of the samples."""
FAULTS = (("error", 300), ("rate limit", 250), ("reset", 200), ("malformed", 140), ("cut", 107), ("hang", 3))
"""Kinds of failing calls, in thousandths of them. All are retried."""
ENDINGS = (("stop", 900), ("truncated", 40), ("filtered", 40), ("empty", 20))
"""Kinds of answers, in thousandths of the samples."""
RETRIES = 5
TIMEOUT_S = 10.0  # of a call; only hangs may reach it, also on a busy machine
STEADY_ROWS = 50_000  # from here on memory must stay within FLAT_MB
FLAT_MB = 20.0
FLAT_DESCRIPTORS = 20  # idle connections come and go
SAMPLED_S = 0.25
QUESTION = re.compile(rb"What is (\d+) plus one")
HEAD_END = b"\r\n\r\n"


def draw(name: str) -> int:
    """A number in 0..999,999 that is always the same for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % 1_000_000


def pick(table: tuple[tuple[str, int], ...], number: int) -> str:
    """The entry of a table of thousandths at a number in 0..999."""
    for kind, share in table:
        if number < share:
            return kind
        number -= share
    raise AssertionError("the shares of a table add up to 1,000")


def phase_of(place: int, rows: int) -> int:
    return place * len(PHASES) // rows


def fault_of(place: int, attempt: int, rows: int) -> str | None:
    """The kind of fault of one call, None if it is answered. Attempts count from 1."""
    number = draw(f"{place} {attempt}")
    share = PHASES[phase_of(place, rows)] * 1_000_000
    return pick(FAULTS, int(number * 1000 / share)) if number < share else None


def outcome_of(place: int, rows: int) -> tuple[str, int]:
    """How the row of a sample ends, and after how many calls."""
    for attempt in range(1, RETRIES + 2):
        if fault_of(place, attempt, rows) is None:
            return pick(ENDINGS, draw(f"ending {place}") // 1000), attempt
    return "error", RETRIES + 1


def as_reply(status: int, body: Any, headers: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Soak\r\ncontent-type: application/json\r\n{headers}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def answer(place: int) -> bytes:
    """The reply to a call that does not fail."""
    ending = pick(ENDINGS, draw(f"ending {place}") // 1000)
    text = {"stop": str(place + 1), "truncated": str(place + 1)}.get(ending, "")
    finish = {"truncated": "length", "filtered": "content_filter"}.get(ending, "stop")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return as_reply(
        200,
        {
            "id": f"soak-{place}", "object": "chat.completion", "model": "soak-1", "choices": [choice],
            "usage": {"prompt_tokens": 20, "completion_tokens": len(text)},
        },
    )  # fmt: skip


class SoakServer(asyncio.Protocol):
    """One connection. Calls of each kind are counted over all connections."""

    rows = 1
    calls: ClassVar[Counter[str]] = Counter()
    attempts: ClassVar[Counter[int]] = Counter()

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(HEAD_END)) >= 0 and self.transport is not None:
            length = re.search(rb"content-length: *(\d+)", self.buffer[:end], re.IGNORECASE)
            size = end + len(HEAD_END) + (int(length[1]) if length else 0)
            if len(self.buffer) < size:
                return
            request, self.buffer = self.buffer[:size], self.buffer[size:]
            question = QUESTION.search(request, end)
            if question is None:  # of the benchmark itself
                self.transport.write(as_reply(200, dict(self.calls)))
            else:
                self.act(int(question[1]), self.transport)

    def act(self, place: int, transport: asyncio.Transport) -> None:
        """Answer one call, or fail as planned."""
        self.attempts[place] += 1
        fault = fault_of(place, self.attempts[place], self.rows)
        self.calls[fault or "answered"] += 1
        reply = answer(place)
        if fault is None:
            transport.write(reply)
        elif fault == "error":
            transport.write(as_reply((500, 502, 503, 529)[place % 4], {"error": {"message": "overloaded"}}))
        elif fault == "rate limit":
            transport.write(as_reply(429, {"error": {"message": "too many requests"}}, "retry-after-ms: 20\r\n"))
        elif fault == "malformed":
            transport.write(as_reply(200, (b'{"choices": [{', b"", b'{"choices": 1}', b"\xff\xfe")[place % 4]))
        elif fault == "cut":
            transport.write(reply[: len(reply) - 20])
            transport.close()
        elif fault == "reset":
            transport.abort()


async def serve(rows: int) -> None:
    """Serve until the process is terminated. Prints the port."""
    SoakServer.rows = rows
    server = await asyncio.get_running_loop().create_server(SoakServer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


@dataclass
class Readings:
    """What was seen of a process: rows in its log, resident MB and open descriptors, with the time."""

    seen: list[tuple[float, int, float, int]] = field(default_factory=list)

    def watch(self, process: subprocess.Popen[str], folder: Path) -> None:
        """Take readings until the process ends."""
        started, log, rows = time.monotonic(), None, 0
        while process.poll() is None:
            if log is None:
                path = next(iter(folder.glob("runs/soak/*/rows.jsonl")), None)
                log = path.open("rb") if path else None
            if log is not None:
                while block := log.read(1 << 20):
                    rows += block.count(b"\n")
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
            except OSError:  # it has just ended
                break
            resident = re.search(r"VmRSS:\s+(\d+)", status)
            if resident is not None:
                self.seen.append((time.monotonic() - started, rows, int(resident[1]) / 1024, descriptors))
            time.sleep(SAMPLED_S)
        if log is not None:
            log.close()

    def between(self, first: int, last: int) -> list[tuple[float, int, float, int]]:
        """The readings while the log had at least `first` and fewer than `last` rows."""
        return [reading for reading in self.seen if first <= reading[1] < last]


@dataclass
class Soak:
    """A finished soak: the plan, what the log and the server say, and the readings."""

    rows: int
    code: int
    output: str
    logged: Counter[str]
    doubled: int
    wrong: int
    served: Counter[str]
    readings: Readings
    seconds: float

    def faults(self) -> list[str]:
        """What does not hold, as sentences."""
        planned: Counter[str] = Counter()
        calls: Counter[str] = Counter()
        for place in range(self.rows):
            ending, attempts = outcome_of(place, self.rows)
            planned[ending] += 1
            calls["answered"] += ending != "error"
            failed = attempts if ending == "error" else attempts - 1
            calls.update(str(fault_of(place, attempt, self.rows)) for attempt in range(1, failed + 1))
        result = [f"exit code {self.code}: {self.output[-500:]}"] if self.code != 0 else []
        if self.logged != planned:
            result.append(f"the row log has {dict(self.logged)}, the plan {dict(planned)}")
        if +self.served != +calls:
            result.append(f"the server counted {dict(self.served)}, the plan {dict(calls)}")
        if self.doubled:
            result.append(f"{self.doubled} rows are doubled")
        if self.wrong:
            result.append(f"{self.wrong} rows have the answer of another sample")
        return [*result, *self.growth()]

    def growth(self) -> list[str]:
        """Whether memory or descriptors grew after STEADY_ROWS, as sentences."""
        steady = self.readings.between(STEADY_ROWS, self.rows)
        if not steady:
            return []
        memory = [resident for _, _, resident, _ in steady]
        descriptors = [number for _, _, _, number in steady]
        result = []
        if max(memory) - memory[0] > FLAT_MB:
            result.append(f"memory grew by {max(memory) - memory[0]:.1f} MB after {STEADY_ROWS:,} rows")
        if max(descriptors) - max(descriptors[: len(descriptors) // 4 + 1]) > FLAT_DESCRIPTORS:
            result.append(f"descriptors grew from {descriptors[0]} to {max(descriptors)}")
        return result

    def table(self) -> str:
        """Markdown of the counts and of each phase."""
        calls = sum(self.served.values())
        last_s = max((at for at, rows, _, _ in self.readings.seen if rows < self.rows), default=self.seconds)
        counts = f"row log: {listing(self.logged)}; calls: {listing(self.served)}"
        lines = [
            f"{self.rows:,} rows, {calls:,} calls, {self.seconds:.0f} s; {counts}; {self.doubled} doubled, {self.wrong} mixed up\n",
            "| rows | failing calls | rows per s | MB (min–max) | descriptors (max) |\n|---|---|---|---|---|",
        ]
        for number, share in enumerate(PHASES):
            first, last = number * self.rows // len(PHASES), (number + 1) * self.rows // len(PHASES)
            seen = self.readings.between(first, last)
            if len(seen) > 1:
                pace = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
                memory = [reading[2] for reading in seen]
                lines.append(
                    f"| {first:,}–{last:,} | {share:.0%} | {pace:,.0f} | {min(memory):.1f}–{max(memory):.1f} "
                    f"| {max(reading[3] for reading in seen)} |"
                )
        after = [resident for at, _, resident, _ in self.readings.seen if at > last_s]
        if after:
            lines.append(f"| all, files are written | – | – | {min(after):.1f}–{max(after):.1f} | – |")
        return "\n".join(lines)


def listing(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.most_common())


def read_log(path: Path) -> tuple[Counter[str], int, int]:
    """Rows by ending, rows that stand twice, and rows with the answer of another sample."""
    endings: Counter[str] = Counter()
    seen: set[str] = set()
    doubled = wrong = 0
    names = {"length": "truncated", "content_filter": "filtered"}
    with path.open("rb") as log:
        for line in log:
            row = json.loads(line)
            doubled += row["id"] in seen
            seen.add(row["id"])
            answered = row.get("completion")
            if answered is None:
                endings["error"] += 1
                continue
            finish = answered["finish_reason"]
            endings[names.get(finish, finish)] += 1
            wrong += answered["text"] not in ("", str(int(row["id"][1:]) + 1))
    return endings, doubled, wrong


def soak(rows: int, concurrency: int, folder: Path) -> Soak:
    """Run `rows` rows in `folder` through the faults."""
    with (folder / "data.jsonl").open("w", encoding="utf-8") as data:
        for place in range(rows):
            data.write(f'{{"id": "q{place}", "input": "What is {place} plus one?", "expected": "{place + 1}"}}\n')
    command = [sys.executable, str(Path(__file__)), "--serve", "--rows", str(rows)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            suite = (
                f"name: soak\ndataset: data.jsonl\nscorers: [exact_match]\n"
                f'target: {{name: t, model: m, base_url: "http://127.0.0.1:{port}/v1", api_key: none}}\n'
                f"run: {{concurrency: {concurrency}, retries: {RETRIES}, timeout: {TIMEOUT_S:g}}}\n"
            )
            (folder / "soak.yaml").write_text(suite, encoding="utf-8")
            started = time.monotonic()
            readings = Readings()
            command = [sys.executable, "-m", "evalrunner", "soak.yaml", "-q"]
            with (
                (folder / "output").open("w", encoding="utf-8") as output,
                subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=output, stderr=output) as run,
            ):
                watcher = threading.Thread(target=readings.watch, args=(run, folder))
                watcher.start()
                code = run.wait()
                watcher.join()
            seconds = time.monotonic() - started
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/counts")
            served = Counter(json.loads(connection.getresponse().read()))
            connection.close()
        finally:
            server.terminate()
    (log,) = folder.glob("runs/soak/*/rows.jsonl")
    output_text = (folder / "output").read_text(encoding="utf-8")
    return Soak(rows, code, output_text, *read_log(log), served, readings, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--concurrency", type=int, default=128)
    parser.add_argument("--serve", action="store_true", help="only the server")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.rows))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = soak(options.rows, options.concurrency, Path(folder))
    print(found.table())
    faults = found.faults()
    print(*(f"\nFAULT: {fault}" for fault in faults), sep="")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
