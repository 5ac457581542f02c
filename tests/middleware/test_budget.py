"""The cost cap: never exceeded, whatever happens to a call or the process, and no row is lost when it is reached."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure, Request
from evalrunner.endpoints.openai import OpenAIEndpoint
from evalrunner.endpoints.pricing import KnownPrice, Price, PricedEndpoint
from evalrunner.endpoints.pyreqwest_transport import PyreqwestTransport
from evalrunner.errors import RunError
from evalrunner.formatting import money
from evalrunner.middleware.budget import LEDGER_FILE, Budget, BudgetedEndpoint, SpendLedger, read_ledger
from evalrunner.middleware.deadline import RowDeadline, StopSignal, Timing
from tests.fakes.command import command_env
from tests.fakes.server import Answer, Cut, Hang, Malformed, ScriptedServer, Slow, Status

ASKED = Request("m", ({"role": "user", "content": "hi"},))
PAID = Completion("ok", cost_usd=0.25)


class Model:
    """An endpoint that returns the given answer once `go` is set."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.calls = list(answers) or [PAID], 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, request: Request, /) -> Completion | Failure:
        self.calls += 1
        await self.go.wait()
        result = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(result, BaseException):
            raise result
        return result


def budget(tmp_path: Path, cap: float) -> Budget:
    return Budget(cap, SpendLedger(tmp_path), StopSignal())


def budgeted(model: Any, money: Budget, most: float | None = 0.5, side: Any = "targets") -> BudgetedEndpoint:
    return BudgetedEndpoint(model, money, lambda request: most, side=side)


@pytest.mark.parametrize(
    ("answer", "spent"),
    [
        (Completion("ok", cost_usd=0.25), 0.25),
        (Completion("ok", cost_usd=0.0, cached=True), 0.0),
        (Completion("ok"), 0.5),  # unknown cost
        (Failure("timeout", "no answer"), 0.5),
        (Failure("connection", "it broke"), 0.5),
        (Failure("malformed", "no JSON"), 0.5),
        (Failure("connection", "connection refused", fatal=True), 0.0),
        (Failure("rate_limit", "slower", 429), 0.0),
        (Failure("auth", "no key", 401), 0.0),
        (Failure("bad_request", "no", 400), 0.0),
        (Failure("context_length", "too long", 400), 0.0),
        (Failure("server", "broken", 500), 0.0),
        (Failure("server", "broken"), 0.5),
    ],
)
def test_cost_recorded_for_each_outcome_of_a_call(tmp_path: Path, answer: Any, spent: float) -> None:
    cap = budget(tmp_path, 1.0)
    assert asyncio.run(budgeted(Model(answer), cap)(ASKED)) == answer
    assert cap.ledger.spent == {"targets": spent, "judges": 0.0, "users": 0.0}
    assert read_ledger(tmp_path)[0].settled == {"targets": spent, "judges": 0.0, "users": 0.0}


def test_a_canceled_or_crashed_call_counts_its_worst_case_cost(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 2.0)
        model = Model(PAID)
        model.go.clear()
        call = asyncio.create_task(budgeted(model, cap)(ASKED))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        with pytest.raises(ZeroDivisionError):
            await budgeted(Model(ZeroDivisionError()), cap, side="judges")(ASKED)
        assert cap.ledger.spent == {"targets": 0.5, "judges": 0.5, "users": 0.0}

    asyncio.run(run())


def test_free_calls_are_not_in_the_ledger(tmp_path: Path) -> None:
    cap = budget(tmp_path, 0.01)
    assert asyncio.run(budgeted(Model(Completion("ok", cost_usd=0.0)), cap, 0.0)(ASKED)).text == "ok"  # type: ignore[union-attr]
    assert (tmp_path / LEDGER_FILE).read_bytes() == b""


def test_a_call_of_unbounded_cost_is_not_made_under_a_cap(tmp_path: Path) -> None:
    model = Model()
    answer = asyncio.run(budgeted(model, budget(tmp_path, 1.0), None)(ASKED))
    assert isinstance(answer, Failure) and answer.kind == "bad_request" and "nothing bounds the cost" in answer.message
    assert model.calls == 0


def test_reaching_the_cost_cap_stops_the_run_with_a_reason(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        endpoint = budgeted(Model(), cap)
        assert [await endpoint(ASKED) for _ in range(3)] == [PAID] * 3
        with pytest.raises(asyncio.CancelledError):
            await endpoint(ASKED)  # 0.75 spent: 0.5 more does not fit
        assert cap.stop.reason == "the cost cap of $1.00 is reached ($0.75 spent, and the next call may cost $0.50)"

    asyncio.run(run())


def test_a_reservation_that_does_not_fit_waits_for_calls_in_flight(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        model = Model(Completion("ok", cost_usd=0.1))
        model.go.clear()
        endpoint = budgeted(model, cap)
        order: list[int] = []

        async def row(number: int) -> None:
            async with RowDeadline(10.0, Timing(0.001)):  # 10 ms; waiting in the queue does not count
                await endpoint(ASKED)
                order.append(number)

        first = [asyncio.ensure_future(endpoint(ASKED)) for _ in range(2)]
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(row(number)) for number in range(2, 6)]
        await asyncio.sleep(0.05)
        assert model.calls == 2, "two reservations of 0.5 fill the cap"
        waiting[0].cancel()
        model.go.set()
        await asyncio.gather(*first, *waiting, return_exceptions=True)
        assert order == [3, 4, 5]
        assert cap.spent_usd == pytest.approx(0.5)
        assert cap.stop.count == 0

    asyncio.run(run())


def test_at_the_cap_waiting_calls_are_dropped_and_calls_in_flight_finish(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        model = Model(Completion("ok", cost_usd=0.5))
        model.go.clear()
        endpoint = budgeted(model, cap)
        calls = [asyncio.create_task(endpoint(ASKED)) for _ in range(5)]
        await asyncio.sleep(0.01)
        model.go.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Completion] * 2 + [asyncio.CancelledError] * 3
        assert (cap.spent_usd, cap.stop.count, model.calls) == (1.0, 1, 2)

    asyncio.run(run())


def test_a_reservation_granted_to_a_canceled_row_is_released(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        held = await cap.reserve(1.0, "targets")
        late = asyncio.create_task(cap.reserve(1.0, "judges"))
        third = asyncio.create_task(cap.reserve(0.5, "judges"))
        await asyncio.sleep(0)
        cap.settle(held, 0.25)  # the head still does not fit, and no call is in flight
        await asyncio.wait({late, third})
        assert late.cancelled() and third.cancelled() and cap.stop.count == 1
        cap.stop = StopSignal()
        held = await cap.reserve(0.75, "targets")
        late = asyncio.create_task(cap.reserve(0.5, "judges"))
        await asyncio.sleep(0)
        cap.settle(held, 0.0)
        late.cancel()
        await asyncio.wait({late})
        assert late.cancelled()
        assert await cap.reserve(0.75, "judges")
        assert cap.spent_usd == 0.25

    asyncio.run(run())


def test_a_small_reservation_does_not_overtake_a_waiting_one(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        held = await cap.reserve(0.75, "targets")
        large, small = (asyncio.create_task(cap.reserve(usd, "targets")) for usd in (0.75, 0.25))
        await asyncio.sleep(0.01)
        assert not large.done() and not small.done()
        cap.settle(held, 0.0)
        assert [(await task).number for task in (large, small)] == [2, 3]

    asyncio.run(run())


def test_canceling_a_waiting_reservation_grants_the_next_ones(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        await cap.reserve(0.5, "targets")
        large, *small = (asyncio.create_task(cap.reserve(usd, "targets")) for usd in (0.75, 0.25, 0.25))
        await asyncio.sleep(0.01)
        large.cancel()
        await asyncio.sleep(0.01)
        assert large.cancelled() and all(task.done() for task in small)

    asyncio.run(run())


def test_settling_frees_money_while_other_calls_are_in_flight(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        first, _ = await cap.reserve(0.5, "targets"), await cap.reserve(0.5, "targets")
        cap.settle(first, 0.25)
        assert (await asyncio.wait_for(cap.reserve(0.25, "targets"), 1.0)).usd == 0.25
        assert not cap._fits(0.01)

    asyncio.run(run())


def test_rounding_of_reservations_does_not_use_up_the_cap(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        for reservation in [await cap.reserve(usd, "targets") for usd in (0.2, 0.4, 0.3)]:
            cap.settle(reservation, 0.0)
        assert 0.2 + 0.4 + 0.3 - 0.2 - 0.4 - 0.3 + 1.0 > 1.0
        assert (await cap.reserve(1.0, "targets")).usd == 1.0

    asyncio.run(run())


def test_the_server_never_counts_more_than_the_cap_and_a_resume_with_a_higher_cap_finishes(tmp_path: Path) -> None:
    cost = [0.0]

    def script(request: Any, nth: int) -> Any:
        cost[0] += 0.01 * (1 + nth % 3)
        return Slow(0.002, Answer("ok", headers={"x-litellm-response-cost": str(0.01 * (1 + nth % 3))}))

    async def run(server: ScriptedServer, cap: Budget, rows: int) -> int:
        transport = PyreqwestTransport()
        endpoint = budgeted(OpenAIEndpoint(transport, server.base_url), cap, 0.03)
        waiting, done = iter(range(rows)), [0]

        async def work() -> None:
            for _ in waiting:
                await endpoint(ASKED)
                done[0] += 1

        await asyncio.gather(*(work() for _ in range(16)), return_exceptions=True)
        await transport.aclose()
        return done[0]

    with ScriptedServer(script) as server:
        cap = budget(tmp_path, 1.0)
        first = asyncio.run(run(server, cap, 100))
        assert cap.stop.reason and 0.9 < cost[0] <= 1.0
        assert cap.spent_usd == pytest.approx(cost[0])
        assert server.calls == first
        higher = budget(tmp_path, 10.0)
        assert higher.spent_usd == pytest.approx(cost[0])
        assert asyncio.run(run(server, higher, 100 - first)) == 100 - first
        assert higher.spent_usd == pytest.approx(cost[0])
        assert server.calls == 100


CALLER = """
import asyncio, sys
from pathlib import Path
from evalrunner.middleware.budget import Budget, BudgetedEndpoint
from evalrunner.middleware.budget import SpendLedger
from evalrunner.middleware.deadline import StopSignal
from evalrunner.domain import Completion, Request

async def model(request):
    print("asked", flush=True)
    await asyncio.sleep(0.0005)
    return Completion("ok", cost_usd=0.001)

async def main():
    budget = Budget(1e6, SpendLedger(Path(sys.argv[1])), StopSignal())
    endpoint = BudgetedEndpoint(model, budget, lambda request: 0.25, side="judges")
    async def work():
        while True:
            await endpoint(Request("m"))
    await asyncio.gather(*(work() for _ in range(8)))

asyncio.run(main())
"""


def test_calls_in_flight_in_a_killed_process_count_their_worst_case_cost(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=command_env()
    )
    assert process.stdout is not None
    for count, _ in enumerate(process.stdout):
        if count > 300:
            break
    os.kill(process.pid, signal.SIGKILL)
    requested = count + 1 + process.communicate()[0].count("\n")
    spent, _ = read_ledger(tmp_path)
    created = spent.next - 1
    assert requested <= created <= requested + 8, "on paper before it is made"
    assert 1 <= len(spent.open) <= 8
    total = 0.001 * (created - len(spent.open)) + 0.25 * len(spent.open)
    assert spent.of("judges") == pytest.approx(total)
    again = SpendLedger(tmp_path)
    assert again.spent == {"targets": 0.0, "judges": pytest.approx(total), "users": 0.0}
    assert again.reserve("judges", 0.25) == spent.next


def test_a_torn_last_ledger_line_is_removed_and_an_invalid_line_is_an_error(tmp_path: Path) -> None:
    ledger = SpendLedger(tmp_path)
    ledger.settle(ledger.reserve("targets", 0.5), "targets", 0.25)
    whole = (tmp_path / LEDGER_FILE).read_bytes()
    (tmp_path / LEDGER_FILE).write_bytes(whole + b'{"reserve":2,"si')
    again = SpendLedger(tmp_path)
    assert again.spent["targets"] == 0.25
    again.settle(again.reserve("judges", 0.5), "judges", 0.125)
    again.close()
    assert read_ledger(tmp_path)[0].settled == {"targets": 0.25, "judges": 0.125, "users": 0.0}
    (tmp_path / LEDGER_FILE).write_bytes(b'{"settle":9,"usd":1}\n' + whole)
    with pytest.raises(RunError, match=r"spend\.jsonl:1: not a ledger line"):
        SpendLedger(tmp_path)


def test_spending_without_a_cap_counts_toward_a_later_cap(tmp_path: Path) -> None:
    assert SpendLedger(tmp_path, before={"targets": 0.5, "judges": 0.25}).spent == {
        "targets": 0.5,
        "judges": 0.25,
        "users": 0.0,
    }
    assert SpendLedger(tmp_path, before={"targets": 0.75, "judges": 0.1}).spent == {
        "targets": 0.75,
        "judges": 0.25,
        "users": 0.0,
    }
    assert SpendLedger(tmp_path).spent == {"targets": 0.75, "judges": 0.25, "users": 0.0}


def test_spending_that_the_ledger_has_is_not_written_again(tmp_path: Path) -> None:
    SpendLedger(tmp_path, before={"targets": 0.5})
    written = (tmp_path / LEDGER_FILE).read_bytes()
    SpendLedger(tmp_path, before={"targets": 0.5, "judges": 0.0})
    assert (tmp_path / LEDGER_FILE).read_bytes() == written


def test_the_ledger_can_be_written_by_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        SpendLedger(tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / LEDGER_FILE).stat().st_mode & 0o777 == 0o644


def test_an_unwritable_ledger_stops_the_run_before_the_call(tmp_path: Path) -> None:
    async def run() -> None:
        cap = budget(tmp_path, 1.0)
        cap.ledger.close()
        model = Model()
        with pytest.raises(asyncio.CancelledError):
            await budgeted(model, cap)(ASKED)
        assert model.calls == 0
        assert cap.stop.reason is not None and "the cost cap needs this file" in cap.stop.reason

    asyncio.run(run())


@pytest.mark.parametrize(
    ("usd", "text"), [(2.0, "$2.00"), (1.9834, "$1.98"), (0.05, "$0.05"), (0.0042, "$0.0042"), (0.9616673, "$0.9617"), (2e-7, "$0.0000002"), (1234.5, "$1,234.50"), (0, "$0.00")]
)  # fmt: skip
def test_money_format_keeps_small_amounts_visible(usd: float, text: str) -> None:
    assert money(usd) == text


def test_the_cost_cap_holds_under_network_faults(tmp_path: Path) -> None:
    """The server counts its work, even if the answer never arrives. Only refusals are free."""
    cost = [0.0]

    def script(request: Any, nth: int) -> Any:
        actions = (Answer("ok", output_tokens=100), Hang(), Cut(), Cut(60), Malformed(), Status(429), Status(500))
        action = actions[nth * 5 % 7 if nth % 3 == 0 else 0]
        if not isinstance(action, Status):
            cost[0] += 0.01
        return action

    async def run(server: ScriptedServer, cap: Budget) -> int:
        transport, answers = PyreqwestTransport(), []
        inner = OpenAIEndpoint(transport, server.base_url, timeout_s=0.1)
        endpoint = budgeted(PricedEndpoint(inner, KnownPrice(Price(0.0, 1e-4), "suite")), cap, 0.02)

        async def work() -> None:
            while True:
                answers.append(await endpoint(ASKED))

        await asyncio.gather(*(work() for _ in range(16)), return_exceptions=True)
        await transport.aclose()
        return sum(isinstance(answer, Completion) for answer in answers)

    with ScriptedServer(script) as server:
        cap = budget(tmp_path, 3.0)
        answered = asyncio.run(run(server, cap))
    assert cap.stop.reason is not None and answered > 50
    assert 0.5 * 3.0 < cost[0] <= cap.spent_usd <= 3.0
