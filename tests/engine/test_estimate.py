"""Estimates before the first call: calls, cache hits, prompt tokens, a range of cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evalrunner
from evalrunner.commands.run import Session, plan_suite
from evalrunner.domain import Completion, Request
from evalrunner.endpoints.factory import EndpointPool
from evalrunner.endpoints.pricing import FREE, KnownPrice, Price
from evalrunner.engine.estimate import Estimate, ModelPrices, Total, estimate, total_of
from evalrunner.middleware.cache import ResponseCache, is_cached, request_key
from evalrunner.middleware.deadline import StopSignal
from evalrunner.reports.plan import render_estimates
from tests.fakes.server import Answer, ScriptedServer

CHEAP = KnownPrice(Price(1e-6, 1e-5), "suite")
DATA = [{"input": f"What is {n} + {n}?", "expected": str(2 * n), "out": "four" if n else ""} for n in range(10)]
TARGETS = """\
  - {name: bounded, model: m, base_url: "URL", params: {max_tokens: 50}}
  - {name: open, model: m, base_url: "URL"}
"""


def suite(url: str, targets: str = TARGETS, more: str = "") -> str:
    Path("data.jsonl").write_text("\n".join(map(json.dumps, DATA)))
    Path("s.yaml").write_text(
        f"name: s\ndataset: data.jsonl\nprompt: 'Question: {{{{ input }}}}'\n"
        f"targets:\n{targets.replace('URL', url)}scorers: [exact_match]\n{more.replace('URL', url)}"
    )
    return "s.yaml"


def estimates(
    path: str, prices: ModelPrices, kept: Callable[..., bool] | None = None, **options: Any
) -> list[Estimate]:
    spool = Path("spool")
    spool.mkdir(exist_ok=True)

    async def run() -> tuple[Estimate, ...]:
        async with EndpointPool(environ={}) as pool:
            session = Session(evalrunner.RunOptions(**options), StopSignal())
            return await estimate(plan_suite(path, session, pool, spool), prices, is_cached=kept)

    return list(asyncio.run(run()))


def test_unknown_price_and_unbounded_cost_are_distinguished() -> None:
    with ScriptedServer() as server:
        bounded, unbounded = estimates(suite(server.base_url), ModelPrices({"bounded": CHEAP, "open": CHEAP}))
        unpriced, _ = estimates("s.yaml", ModelPrices(), epochs=3)
        assert server.calls == 0
    tokens = round(10 * len("Question: What is 1 + 1?") / 4)
    assert (bounded.calls, bounded.cached, bounded.prompt_tokens) == (10, 0, tokens)
    assert bounded.low_usd == pytest.approx(tokens * 1e-6 + 10 * 1e-5)
    assert bounded.high_usd is not None and 10 * 50 * 1e-5 < bounded.high_usd < 10 * 50 * 1e-5 + 10 * 400e-6
    assert (unbounded.low_usd, unbounded.high_usd) == (bounded.low_usd, None)
    assert (unpriced.calls, unpriced.low_usd, unpriced.high_usd) == (30, None, None)


def test_cached_answers_cost_nothing(tmp_path: Path) -> None:
    store = ResponseCache(tmp_path / "answers.sqlite")
    prices = ModelPrices({"bounded": CHEAP, "open": CHEAP})

    def kept(endpoint: Any, request: Request) -> bool:
        return is_cached(store, "here", request)

    with ScriptedServer() as server:
        path = suite(server.base_url)
        bounded, _ = estimates(path, prices, kept)
        assert bounded.cached == 0 and not store.path.exists()
        for row in DATA[:4]:
            requested = Request("m", ({"role": "user", "content": f"Question: {row['input']}"},), {"max_tokens": 50})
            store.put(request_key("here", requested) or b"", Completion("4"), paid_by="r/")
        some, other = estimates(path, prices, kept)
    assert (some.calls, some.cached, other.cached) == (10, 4, 0)
    assert some.low_usd == pytest.approx(0.6 * (bounded.low_usd or 0))
    store.close()


def test_upper_estimate_is_a_sufficient_cost_cap() -> None:
    """A server that writes as much as it may, and counts every byte as a token, stays below it."""
    with ScriptedServer() as server:
        (actual,) = estimates(suite(server.base_url, TARGETS.splitlines()[0] + "\n"), ModelPrices({"bounded": CHEAP}))

        def greedy(request: Any, nth: int) -> Answer:
            return Answer("x", input_tokens=len(json.dumps(request["messages"])), output_tokens=request["max_tokens"])

        server.script = greedy
        result = evalrunner.run_suite("s.yaml")
        usage = result.details.targets["bounded"]
        assert server.calls == 10
    total = sum(10e-6 * 50 + 1e-6 * len(json.dumps(record.json["messages"])) for record in server.requests)
    assert usage is not None and actual.low_usd is not None and actual.high_usd is not None
    assert actual.low_usd < total < actual.high_usd


JUDGED = 'judge: {model: j, base_url: "URL", params: {max_tokens: 100}}\nscorers: [factuality]\n'


def test_judge_estimate_includes_sanity_checks() -> None:
    with ScriptedServer() as server:
        text = suite(server.base_url, TARGETS.splitlines()[0] + "\n  - {type: recorded, column: out}\n")
        Path(text).write_text(
            Path(text).read_text().replace("scorers: [exact_match]\n", JUDGED.replace("URL", server.base_url))
        )
        prices = ModelPrices({"bounded": CHEAP}, {"factuality": CHEAP})
        target, recorded, judge = estimates(text, prices)
        requested: list[Request] = []

        def kept(endpoint: Any, request: Request) -> bool:
            requested.append(request)
            return request.model == "j" and len(requested) % 2 == 0

        *_, half = estimates(text, prices, kept)
        assert server.calls == 0
    assert (recorded.model, recorded.low_usd, recorded.high_usd, recorded.price) == (
        None, 0.0, 0.0, KnownPrice(FREE, "free"),
    )  # fmt: skip
    assert (judge.side, judge.name, judge.calls, judge.checks) == ("judges", "factuality", 10 + 9 + 12, 12), (
        "one of the recorded answers is empty, and a judge is not asked about that"
    )
    assert 31 * 200 < judge.prompt_tokens < 31 * 600, "the template of the scorer counts"
    assert judge.low_usd is not None and judge.high_usd is not None and judge.low_usd < judge.high_usd
    assert judge.second_checks == 12
    assert (half.calls, half.cached) == (31, 12), "every second request of both dozens"
    assert half.low_usd is not None and half.low_usd < judge.low_usd
    assert total_of([target, recorded, judge], "judges") == Total(judge.low_usd, judge.high_usd)
    assert total_of([target, recorded, judge], "targets") == Total(target.low_usd, target.high_usd)


def test_the_upper_judge_estimate_covers_the_second_dozen_and_the_lower_one_does_not() -> None:
    with ScriptedServer() as server:
        text = suite(server.base_url, "  - {type: recorded, column: out}\n")
        judged = Path(text).read_text().replace("scorers: [exact_match]\n", JUDGED.replace("URL", server.base_url))
        Path(text).write_text(judged)
        prices = ModelPrices({}, {"factuality": CHEAP})
        _, both = estimates(text, prices)
        requested: list[Request] = []

        def second_dozen(endpoint: Any, request: Request) -> bool:
            requested.append(request)
            return request.model == "j" and len(requested) > 12

        _, first = estimates(text, prices, second_dozen)
        assert server.calls == 0
    assert (len(requested), first.cached, both.cached) == (24, 12, 0)
    assert (both.low_usd, both.prompt_tokens) == (first.low_usd, first.prompt_tokens)
    assert both.high_usd is not None and first.high_usd is not None
    assert both.high_usd > first.high_usd + 12 * 100 * 1e-5, "a hundred tokens of each of twelve replies"


def test_rendered_estimate() -> None:
    estimates = [
        Estimate("targets", "gateway", "m", 200, 0, 50, 12_400, 0.0139, 0.42, CHEAP),
        Estimate("targets", "own", None, 200, 0, 0, 0, 0.0, 0.0, KnownPrice(FREE, "free")),
        Estimate("judges", "factuality", "j", 412, 12, 12, 90_000, None, None, KnownPrice(None, "unknown"), 12),
        Estimate("judges", "grammar", "j", 206, 6, 0, 90_000, 0.01, 0.02, CHEAP),
    ]
    assert list(render_estimates(estimates)) == [
        "  target gateway: 200 calls (50 cached), about 12,400 prompt tokens, $0.0139 to $0.42",
        "  target own: 200 calls, not billed here",
        "  judge of factuality: 412 to 424 calls (including 12 to 24 for the sanity check, 12 cached), about 90,000 prompt tokens, price unknown",
        "  judge of grammar: 206 calls (including 6 for the sanity check), about 90,000 prompt tokens, $0.01 to $0.02",
        "  cost: targets $0.0139 to $0.42, judges price unknown",
        "  note: set unknown prices with prices: {MODEL: {input: …, output: …}}, per million tokens",
        "  note: prompt tokens are estimated at 4 bytes each; max_cost reserves the upper end of a cost",
        "  note: judge tokens depend on the answers; cache hits are known for the sanity check only",
    ]
    assert list(render_estimates([Estimate("targets", "t", "m", 1, 0, 0, 7, 0.5, None, CHEAP)]))[:3] == [
        "  target t: 1 call, about 7 prompt tokens, $0.50 or more",
        "  cost: targets $0.50 or more",
        "  note: params: {max_tokens: …} bounds a cost that has no upper end",
    ]
