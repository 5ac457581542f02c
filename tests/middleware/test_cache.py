"""The cached endpoint: nothing is paid for twice, only complete answers are cached, a changed request is a new key."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.middleware.cache import CachedEndpoint, CacheTally, ResponseCache, request_key
from evalrunner.middleware.deadline import RowDeadline, Timing
from tests.fakes.command import command_env
from tests.fakes.server import Answer, ScriptedServer, Slow

ASKED = Request("m", ({"role": "user", "content": "2+2?"},), {"temperature": 0}, row="q1/t/1")
PAID = Completion("4", latency_s=0.5, input_tokens=7, output_tokens=1, cost_usd=0.002, served_model="m-1")
FREE = replace(PAID, cached=True, latency_s=None, cost_usd=0.0)


class Model:
    """An endpoint that counts its calls and returns the given answers."""

    def __init__(self, answer: Any = PAID) -> None:
        self.answer, self.calls = answer, 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, request: Request, /) -> Completion | Failure:
        self.calls += 1
        await self.go.wait()
        return self.answer.pop(0) if isinstance(self.answer, list) else self.answer


opened: list[ResponseCache] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Closes every cache of a test, as a run does."""
    yield
    while opened:
        opened.pop().close()


def cached(model: Any, path: Path, *, run: str = "run1", at: float = 0.0, **options: Any) -> CachedEndpoint:
    """One process of a run: its own `ResponseCache` on the shared file."""
    opened.append(store := ResponseCache(path / "answers.sqlite", now=lambda: at))
    return CachedEndpoint(model, store, "http://host/v1", run_id=run, tally=CacheTally(), **options)


def test_a_second_run_hits_the_cache_and_reports_what_it_saved(tmp_path: Path) -> None:
    model = Model()
    first, second = cached(model, tmp_path), cached(model, tmp_path, run="run2", at=3600.0)
    assert asyncio.run(first(ASKED)) == PAID
    assert asyncio.run(second(ASKED)) == FREE
    assert model.calls == 1
    assert first.tally == CacheTally(misses=1)
    assert second.tally == CacheTally(hits=1, oldest_s=3600.0, saved_usd=0.002)


@pytest.mark.parametrize(
    "bad",
    [
        Failure("server", "broken", 500),
        Completion("4", "length"),
        Completion("no", "filtered"),
        Completion("I cannot", "refused"),
        Completion("", "empty"),
        Completion("  ", "stop"),
    ],
)
def test_incomplete_answers_are_not_cached(tmp_path: Path, bad: Any) -> None:
    model = Model([bad, PAID])
    endpoint = cached(model, tmp_path)
    assert [asyncio.run(endpoint(ASKED)) for _ in range(3)] == [bad, PAID, FREE]


@pytest.mark.parametrize(
    "good", [Completion("", "tool_calls", tool_calls=({"function": {"name": "f"}},)), Completion("", data=[[0.5]])]
)
def test_tool_calls_and_embeddings_are_cached(tmp_path: Path, good: Completion) -> None:
    model = Model(good)
    endpoint = cached(model, tmp_path)
    answers = [asyncio.run(endpoint(ASKED)) for _ in range(2)]
    assert answers == [good, replace(good, cached=True, cost_usd=0.0)]


def test_the_cache_key_covers_everything_that_can_change_an_answer() -> None:
    schema = {"type": "object", "properties": {"why": {}, "verdict": {}}}
    other_order = {"type": "object", "properties": {"verdict": {}, "why": {}}}
    requested = [
        ASKED,
        replace(ASKED, model="n"),
        replace(ASKED, messages=({"role": "system", "content": "2+2?"},)),
        replace(ASKED, params={"temperature": 1}),
        replace(ASKED, params={}),
        replace(ASKED, tools=({"function": {"name": "f"}},)),
        replace(ASKED, response_format=schema),
        replace(ASKED, response_format=other_order),
        replace(ASKED, epoch=2),
        replace(ASKED, kind="embed", texts=("2+2?",)),
        replace(ASKED, kind="moderate", texts=("2+2?",)),
    ]
    keys = [request_key("http://host/v1", request) for request in requested] + [request_key("http://other/v1", ASKED)]
    assert len(set(keys)) == 12 and None not in keys


def test_the_cache_key_ignores_the_row_and_the_order_of_params() -> None:
    one = replace(ASKED, params={"temperature": 0, "seed": 1}, row="q1/t/1")
    two = replace(ASKED, params={"seed": 1, "temperature": 0}, row="q2/t/1")
    assert request_key("x", one) == request_key("x", two)


def test_a_request_without_a_json_form_bypasses_the_cache(tmp_path: Path) -> None:
    model = Model()
    endpoint = cached(model, tmp_path)
    odd = replace(ASKED, params={"stop": object()})
    assert [asyncio.run(endpoint(odd)) for _ in range(2)] == [PAID, PAID]


def test_a_cached_answer_expires_after_its_ttl(tmp_path: Path) -> None:
    model = Model()
    asyncio.run(cached(model, tmp_path)(ASKED))
    assert asyncio.run(cached(model, tmp_path, run="run2", at=60.0, ttl_s=60.0)(ASKED)) == FREE
    assert asyncio.run(cached(model, tmp_path, run="run3", at=61.0, ttl_s=60.0)(ASKED)) == PAID
    assert asyncio.run(cached(model, tmp_path, run="run4", at=121.0, ttl_s=60.0)(ASKED)) == FREE, "it is new again"


def test_refresh_calls_once_and_overwrites_the_cache_entry(tmp_path: Path) -> None:
    newer = replace(PAID, text="four")
    model = Model([PAID, newer])
    asyncio.run(cached(model, tmp_path)(ASKED))
    refreshing = cached(model, tmp_path, run="run2", read=False)
    assert asyncio.run(refreshing(ASKED)) == newer
    assert asyncio.run(refreshing(replace(ASKED, row="q2/t/1"))).text == "four", "not paid twice by one run"
    assert asyncio.run(cached(model, tmp_path, run="run3")(ASKED)).text == "four"
    assert model.calls == 2


def test_answers_paid_before_an_interruption_are_restored_with_cost_and_latency(tmp_path: Path) -> None:
    model = Model()
    asyncio.run(cached(model, tmp_path)(ASKED))
    resumed = cached(model, tmp_path, at=1e9, read=False, ttl_s=1.0)
    assert asyncio.run(resumed(ASKED)) == PAID, "this row had paid for it"
    assert asyncio.run(resumed(ASKED)) == FREE, "accounted for once"
    assert asyncio.run(resumed(replace(ASKED, row="q2/t/1"))) == FREE, "another row had not"
    assert resumed.tally == CacheTally(hits=2, restored=1, oldest_s=1e9, saved_usd=0.004)
    again = cached(model, tmp_path)
    assert asyncio.run(again(replace(ASKED, row="q2/t/1"))) == FREE
    assert asyncio.run(again(ASKED)) == PAID, "interrupted once more before the row was whole"
    assert model.calls == 1


def test_equal_requests_in_flight_share_one_call(tmp_path: Path) -> None:
    async def run() -> None:
        model = Model()
        one = cached(model, tmp_path)
        other = replace(one, tally=CacheTally())
        answers = await asyncio.gather(*(endpoint(ASKED) for endpoint in (one, one, other)))
        assert answers == [PAID, FREE, FREE]
        assert (model.calls, one.tally.hits, other.tally.hits) == (1, 1, 1)

    asyncio.run(run())


def test_when_a_shared_call_fails_the_next_waiting_request_calls(tmp_path: Path) -> None:
    async def run() -> None:
        failed = Failure("server", "broken", 500)
        model = Model([failed, PAID])
        endpoint = cached(model, tmp_path)
        assert await asyncio.gather(*(endpoint(ASKED) for _ in range(3))) == [failed, PAID, FREE]
        assert model.calls == 2

    asyncio.run(run())


def test_when_a_shared_call_is_canceled_the_next_waiting_request_calls(tmp_path: Path) -> None:
    async def run() -> None:
        model = Model()
        model.go.clear()
        endpoint = cached(model, tmp_path)
        first, second, third = (asyncio.create_task(endpoint(ASKED)) for _ in range(3))
        await asyncio.sleep(0)
        third.cancel()
        first.cancel()
        await asyncio.wait({first, third})
        await asyncio.sleep(0)
        model.go.set()
        assert await second == PAID
        assert first.cancelled() and third.cancelled() and model.calls == 2
        assert endpoint.store.in_flight == {}

    asyncio.run(run())


def test_waiting_for_a_shared_call_pauses_the_row_deadline(tmp_path: Path) -> None:
    async def run() -> None:
        timing = Timing(0.001)
        model = Model()
        model.go.clear()
        endpoint = cached(model, tmp_path)

        async def row() -> Completion | Failure:
            async with RowDeadline(10.0, timing):  # 10 ms
                return await endpoint(ASKED)

        first = asyncio.create_task(endpoint(ASKED))
        await asyncio.sleep(0)
        second = asyncio.create_task(row())
        await asyncio.sleep(0.05)
        model.go.set()
        assert await asyncio.gather(first, second) == [PAID, FREE]

    asyncio.run(run())


TWIN = """
import asyncio, sys
from pathlib import Path
from evalrunner.middleware.cache import ResponseCache
from evalrunner.middleware.cache import CachedEndpoint, CacheTally
from evalrunner.domain import Request
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.suite.schema import ModelSpec

async def main():
    async with EndpointPool() as pool:
        opened = pool.open(ModelSpec("m", "m", base_url=sys.argv[2]), timeout_s=30)
        store = ResponseCache(Path(sys.argv[1]), notify=sys.exit)
        endpoint = CachedEndpoint(opened.endpoint, store, opened.host, run_id=sys.argv[3], tally=CacheTally())
        asked = [Request("m", ({"role": "user", "content": str(n)},), row=f"{n}/t/1") for n in range(200)]
        waiting = iter(asked)
        async def work():
            for request in waiting:
                answer = await endpoint(request)
                assert answer.text == request.messages[0]["content"], answer
        await asyncio.gather(*(work() for _ in range(8)))

asyncio.run(main())
"""


def test_two_processes_sharing_a_cache_pay_for_each_request_at_most_twice(tmp_path: Path) -> None:
    def script(request: Any, nth: int) -> Any:
        return Slow(0.005, Answer(request["messages"][0]["content"]))

    with ScriptedServer(script) as server:
        twins = [
            subprocess.Popen(
                [sys.executable, "-c", TWIN, str(tmp_path / "answers.sqlite"), server.base_url, run],
                stderr=subprocess.PIPE, text=True, env=command_env(),
            )
            for run in ("one", "two")
        ]  # fmt: skip
        assert [(twin.communicate()[1], twin.returncode) for twin in twins] == [("", 0)] * 2
        requested = [request.json["messages"][0]["content"] for request in server.requests]
    assert 200 <= len(requested) <= 400
    assert max(requested.count(text) for text in requested) <= 2
