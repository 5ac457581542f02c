"""`concurrency: auto` against fixed limits, on servers that refuse, slow down, fail or change their mind.

    python benchmarks/pace.py                     # a virtual clock: the same figures on every machine, in a minute
    python benchmarks/pace.py --sockets           # whole evalrun processes against a server on the loopback
    python benchmarks/pace.py --only random,cap --seeds 20 --first-seed 101

Prints Markdown: for each server the seconds that `auto` and the fixed limit take for all rows, their ratio, and the refused
calls, as medians over the seeds. The virtual clock runs retries and limiter as a run does, without HTTP. To compare two
checkouts, run the script with PYTHONPATH set to one, then to the other.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if "PYTHONPATH" not in os.environ:
    sys.path.insert(0, str(ROOT))

from evalrunner.domain import Completion, Failure, FailureKind, Request  # noqa: E402
from evalrunner.endpoints.openai_errors import read_rate_limits  # noqa: E402
from evalrunner.middleware.concurrency import ConcurrencyLimitedEndpoint, ConcurrencyLimiter  # noqa: E402
from evalrunner.middleware.deadline import RowDeadline, StopSignal  # noqa: E402
from evalrunner.middleware.retry import RetryEndpoint, RetryRules  # noqa: E402
from tests.fakes.server import Answer, Hang, ScriptedServer, Slow, Status  # noqa: E402
from tests.fakes.virtual_time import VirtualTiming, run_virtual  # noqa: E402

REFUSAL_S = 0.005  # a refusal comes at once
AUTO_WORKERS = 256
RETRIES = 8
TIMEOUT_S = 5


@dataclass
class Reply:
    """What the server does with a call: its status, the seconds until then, and its headers."""

    status: int = 200
    seconds: float = REFUSAL_S
    headers: Mapping[str, str] = field(default_factory=dict)


class Server:
    """Answers every call after `latency_s`. Subclasses refuse. `at` is the time since the first call."""

    latency_s = 0.1

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.working = self.calls = self.refused = self.most = 0
        self.began: float | None = None

    def arrive(self, now: float) -> Reply:
        """Take a call. `leave` ends it if the status is 200."""
        self.began = now if self.began is None else self.began
        self.calls += 1
        self.working += 1
        reply = self.decide(now - self.began)
        self.most = max(self.most, self.working)
        if reply.status != 200:
            self.working -= 1
            self.refused += reply.status in (429, 503)
        return reply

    def leave(self) -> None:
        self.working -= 1

    def decide(self, at: float) -> Reply:
        return self.answer()

    def answer(self, **headers: str) -> Reply:
        return Reply(
            200, self.latency_s * self.draw.uniform(0.8, 1.2), {k.replace("_", "-"): v for k, v in headers.items()}
        )


class RandomRefusals(Server):
    """Refuses a share of the calls, whatever the load."""

    def __init__(
        self, seed: int, share: float, latency_s: float, *, headers: Mapping[str, str] | None = None, status: int = 429,
        late: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(seed)
        self.share, self.latency_s, self.status = share, latency_s, status
        self.headers = headers or {}
        self.refusal_s = latency_s if late else REFUSAL_S

    def decide(self, at: float) -> Reply:
        if self.draw.random() < self.share:
            return Reply(self.status, self.refusal_s, self.headers)
        return self.answer()


class Capped(Server):
    """Works on `cap(at)` calls and refuses the others; also `share(in_flight)` of all calls at random."""

    def __init__(
        self, seed: int, cap: Callable[[float], float], latency_s: float = 0.1, *, status: int = 429, late: bool = False,
        share: Callable[[int], float] = lambda _: 0.0,
    ) -> None:  # fmt: skip
        super().__init__(seed)
        self.cap, self.latency_s, self.status, self.share = cap, latency_s, status, share
        self.refusal_s = latency_s if late else REFUSAL_S

    def decide(self, at: float) -> Reply:
        if self.working > self.cap(at) or self.draw.random() < self.share(self.working):
            return Reply(self.status, self.refusal_s)
        return self.answer()


class Quota(Server):
    """Answers `calls` in each window of `window_s` seconds; with `headers`, `retry-after`, or neither."""

    def __init__(self, seed: int, calls: int, window_s: float, *, tells: str = "") -> None:
        super().__init__(seed)
        self.quota, self.window_s, self.tells = calls, window_s, tells
        self.window, self.used = -1, 0

    def decide(self, at: float) -> Reply:
        if int(at // self.window_s) != self.window:
            self.window, self.used = int(at // self.window_s), 0
        left_s = self.window_s - at % self.window_s
        headers = {}
        if self.tells == "headers":
            remaining = max(0, self.quota - self.used - 1)
            headers = {"x-ratelimit-remaining-requests": str(remaining), "x-ratelimit-reset-requests": f"{left_s:.2f}s"}
        if self.used >= self.quota:
            more = {"retry-after": f"{left_s:.2f}"} if self.tells == "retry-after" else {}
            return Reply(429, REFUSAL_S, {**headers, **more})
        self.used += 1
        return Reply(200, self.answer().seconds, headers)


class TokenRate(Server):
    """Answers `per_s` calls a second, by a bucket that holds one second of them."""

    def __init__(self, seed: int, per_s: float) -> None:
        super().__init__(seed)
        self.per_s = self.level = per_s
        self.at = 0.0

    def decide(self, at: float) -> Reply:
        self.level = min(self.per_s, self.level + (at - self.at) * self.per_s)
        self.at = at
        if self.level < 1:
            return Reply(429)
        self.level -= 1
        return self.answer()


class Queueing(Server):
    """Works on `parallel` calls at a time: latency grows with the load."""

    def __init__(self, seed: int, parallel: int) -> None:
        super().__init__(seed)
        self.free = [0.0] * parallel

    def decide(self, at: float) -> Reply:
        slot = min(range(len(self.free)), key=self.free.__getitem__)
        self.free[slot] = max(at, self.free[slot]) + self.answer().seconds
        return Reply(200, self.free[slot] - at)


class FalseHeaders(Server):
    """Says in every answer that no call is left for a day, and answers anyway."""

    def decide(self, at: float) -> Reply:
        return self.answer(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="99999")


@dataclass(frozen=True)
class Scenario:
    make: Callable[[int], Server]
    rows: int
    fixed: int = 64


RETRY_1 = {"retry-after": "1"}
SCENARIOS: dict[str, Scenario] = {
    "random 2%, 450 ms, retry-after 1": Scenario(lambda seed: RandomRefusals(seed, 0.02, 0.45, headers=RETRY_1), 300),
    "random 2%, 450 ms, refused late": Scenario(
        lambda seed: RandomRefusals(seed, 0.02, 0.45, headers=RETRY_1, late=True), 300
    ),
    "random 15%, 80 ms, retry-after 1": Scenario(lambda seed: RandomRefusals(seed, 0.15, 0.08, headers=RETRY_1), 300),
    "random 15%, 80 ms, refused late": Scenario(
        lambda seed: RandomRefusals(seed, 0.15, 0.08, headers=RETRY_1, late=True), 300
    ),
    "random 5%, 200 ms": Scenario(lambda seed: RandomRefusals(seed, 0.05, 0.2), 2000),
    "random 25%, 100 ms, retry-after 1": Scenario(lambda seed: RandomRefusals(seed, 0.25, 0.1, headers=RETRY_1), 1000),
    "random 2%, 450 ms, 5,000 rows": Scenario(lambda seed: RandomRefusals(seed, 0.02, 0.45, headers=RETRY_1), 5000),
    "random 503, 5%, 200 ms": Scenario(lambda seed: RandomRefusals(seed, 0.05, 0.2, status=503), 1000),
    "random 500, 5%, 200 ms": Scenario(lambda seed: RandomRefusals(seed, 0.05, 0.2, status=500), 1000),
    "random timeouts (5 s), 2%, 200 ms": Scenario(lambda seed: RandomRefusals(seed, 0.02, 0.2, status=0), 1000),
    "cap 20, refused at once": Scenario(lambda seed: Capped(seed, lambda _: 20), 4000, 20),
    "cap 20, refused late": Scenario(lambda seed: Capped(seed, lambda _: 20, late=True), 4000, 20),
    "cap 20, 1 s": Scenario(lambda seed: Capped(seed, lambda _: 20, 1.0), 1000, 20),
    "cap 3": Scenario(lambda seed: Capped(seed, lambda _: 3), 600, 3),
    "cap 1": Scenario(lambda seed: Capped(seed, lambda _: 1), 300, 1),
    "cap 100": Scenario(lambda seed: Capped(seed, lambda _: 100), 10_000, 100),
    "cap 20 and random 3%": Scenario(lambda seed: Capped(seed, lambda _: 20, share=lambda _: 0.03), 4000, 20),
    "cap 60, 10, 60 (every 15 s)": Scenario(
        lambda seed: Capped(seed, lambda at: 10 if 15 <= at < 30 else 60), 18_000, 60
    ),
    "cap 60, 10, 60, refused late": Scenario(
        lambda seed: Capped(seed, lambda at: 10 if 15 <= at < 30 else 60, late=True), 18_000, 60
    ),
    "cap 60, 25, 60": Scenario(
        lambda seed: Capped(seed, lambda at: 25 if 15 <= at < 30 else 60, late=True), 18_000, 60
    ),
    "cap between 15 and 45 (sine, 20 s)": Scenario(
        lambda seed: Capped(seed, lambda at: 30 + 15 * math.sin(at / 20 * math.tau)), 8000, 45
    ),
    "refusals grow with the load": Scenario(
        lambda seed: Capped(seed, lambda _: 999, share=lambda n: min(0.5, max(0.0, (n - 20) / 200))), 4000
    ),
    "300 calls per 10 s": Scenario(lambda seed: Quota(seed, 300, 10.0), 1500),
    "300 calls per 10 s, retry-after": Scenario(lambda seed: Quota(seed, 300, 10.0, tells="retry-after"), 1500),
    "300 calls per 10 s, headers": Scenario(lambda seed: Quota(seed, 300, 10.0, tells="headers"), 1500),
    "100 calls per second": Scenario(lambda seed: TokenRate(seed, 100.0), 3000),
    "storm of 429, 10 s": Scenario(lambda seed: Capped(seed, lambda at: 0 if 5 <= at < 15 else 20), 4000, 20),
    "storm of 503, 10 s": Scenario(
        lambda seed: Capped(seed, lambda at: 0 if 5 <= at < 15 else 20, status=503), 4000, 20
    ),
    "16 at a time, others queue": Scenario(lambda seed: Queueing(seed, 16), 3000),
    "no refusals, 100 ms": Scenario(Server, 2000),
    "headers that are wrong": Scenario(FalseHeaders, 300),
}


def as_answer(reply: Reply) -> Completion | Failure:
    """The reply as an endpoint returns it."""
    limits = read_rate_limits(reply.headers)
    if reply.status == 200:
        return Completion("ok", rate_limit=limits)
    if reply.status == 0:
        return Failure("timeout", "no answer within 5 s")
    wait = reply.headers.get("retry-after")
    kind: FailureKind = "rate_limit" if reply.status == 429 else "server"
    return Failure(kind, "refused", reply.status, None if wait is None else float(wait), rate_limit=limits)


@dataclass(frozen=True)
class Outcome:
    """Seconds for all rows, and what the server counted."""

    seconds: float
    refused: int
    calls: int
    most: int
    failed: int


def simulate(scenario: Scenario, seed: int, concurrency: int | None) -> Outcome:
    """A run on the virtual clock; `concurrency` None is auto."""
    server, timing, failed = scenario.make(seed), VirtualTiming(), 0

    async def inner(request: Request, /) -> Completion | Failure:
        reply = server.arrive(timing.now())
        await asyncio.sleep(reply.seconds if reply.status else TIMEOUT_S)
        if reply.status == 200:
            server.leave()
        return as_answer(reply)

    async def main() -> float:
        if concurrency is None:
            limiter = ConcurrencyLimiter.auto(timing=timing)
        else:
            limiter = ConcurrencyLimiter.fixed(concurrency, timing=timing)
        stop = StopSignal()
        limited = ConcurrencyLimitedEndpoint(inner, limiter, stop)
        endpoint = RetryEndpoint(limited, RetryRules(RETRIES), timing=timing, stop=stop, draw=random.Random(seed))
        rows = iter(range(scenario.rows))

        async def work() -> None:
            nonlocal failed
            for row in rows:
                deadline = RowDeadline(600.0, timing)
                async with deadline:
                    failed += isinstance(
                        await endpoint(Request("m", ({"role": "user", "content": str(row)},))), Failure
                    )

        await asyncio.gather(*(work() for _ in range(min(concurrency or AUTO_WORKERS, scenario.rows))))
        return timing.now()

    seconds = run_virtual(main())
    return Outcome(seconds, server.refused, server.calls, server.most, failed)


def run_process(scenario: Scenario, seed: int, concurrency: int | None) -> Outcome:
    """A whole evalrun process, from start to exit, against the server on the loopback."""
    server = scenario.make(seed)

    def script(_request: Any, _nth: int) -> Any:
        reply = server.arrive(time.monotonic())
        if reply.status == 0:
            return Hang()
        if reply.status != 200:
            return Slow(reply.seconds, Status(reply.status, headers=reply.headers))
        asyncio.get_running_loop().call_later(reply.seconds, server.leave)
        return Slow(reply.seconds, Answer("ok", headers=reply.headers))

    with ScriptedServer(script) as scripted, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data.jsonl").write_text("".join(f'{{"input": "{row}"}}\n' for row in range(scenario.rows)))
        (Path(folder) / "pace.yaml").write_text(
            f"dataset: data.jsonl\ntarget: {{model: m, base_url: '{scripted.base_url}'}}\nprompt: '{{{{ input }}}}'\n"
            "scorers: [{type: contains, values: [ok]}]\n"
            f"run: {{concurrency: {concurrency or 'auto'}, retries: {RETRIES}, timeout: {TIMEOUT_S}}}\n"
        )
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "evalrunner", "pace.yaml", "-q"], cwd=folder, check=False, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))},
        )  # fmt: skip
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return Outcome(seconds, server.refused, server.calls, server.most, 0)


def line(name: str, scenario: Scenario, auto: list[Outcome], fixed: list[Outcome]) -> str:
    """A row of the table: medians."""

    def median(runs: list[Outcome], value: Callable[[Outcome], float]) -> float:
        return statistics.median(value(run) for run in runs)

    seconds = [median(runs, lambda run: run.seconds) for runs in (auto, fixed)]
    ratio = statistics.median(one.seconds / other.seconds for one, other in zip(auto, fixed, strict=True))
    refused = [
        f"{median(runs, lambda run: run.refused):.0f} ({median(runs, lambda run: run.refused / run.calls):.1%})"
        for runs in (auto, fixed)
    ]
    most = median(auto, lambda run: run.most)
    return (
        f"| {name} | {scenario.rows:,} | {seconds[0]:.1f} | {seconds[1]:.1f} ({scenario.fixed}) | {ratio:.2f} "
        f"| {refused[0]} | {refused[1]} | {most:.0f} | {sum(run.failed for run in auto)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--only", default="", help="names of servers, or parts of them, separated by commas")
    parser.add_argument("--sockets", action="store_true", help="whole processes against a server on the loopback")
    options = parser.parse_args()
    run = run_process if options.sockets else simulate
    print("| server | rows | auto s | fixed s | ratio | auto refused | fixed refused | most in flight | failed rows |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, scenario in SCENARIOS.items():
        if options.only and not any(part in name for part in options.only.split(",")):
            continue
        auto, fixed = [], []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            auto.append(run(scenario, seed, None))
            fixed.append(run(scenario, seed, scenario.fixed))
        print(line(name, scenario, auto, fixed), flush=True)


if __name__ == "__main__":
    main()
