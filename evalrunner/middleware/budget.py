"""A hard cap on what a run spends: the most that a call can cost is set aside before it, and settled after it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.errors import RunError
from evalrunner.formatting import money
from evalrunner.middleware.cancellation import StopSignal
from evalrunner.middleware.deadline import pause_deadline
from evalrunner.middleware.ledger import Ledger, Side

WorstCase: TypeAlias = Callable[[Request], float | None]
"""The most US dollars that one try of a request can cost, None where nothing bounds it."""

MAYBE_PAID = frozenset({"timeout", "connection", "malformed"})  # failures after which the provider may have worked
UNBOUNDED = (
    "nothing bounds what this request can cost, so it is not made under a cost cap: "
    "it holds images, sound or other parts that are not text, or the length of its answer has no limit"
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one call."""

    number: int
    side: Side
    usd: float


class Budget:
    """What a run may spend, shared by all its endpoints. What was spent and what is set aside never exceed the cap.

    Where a reservation does not fit, it waits in line for those in flight to be settled; where none is in flight and
    it still does not fit, the run is asked to stop.
    """

    def __init__(self, cap_usd: float, ledger: Ledger, stop: StopSignal) -> None:
        self.cap_usd = cap_usd
        self.ledger = ledger
        self.stop = stop
        self._open = 0
        self._reserved_usd = 0.0
        self._line: deque[tuple[Side, float, asyncio.Future[Reservation]]] = deque()

    @property
    def spent_usd(self) -> float:
        return sum(self.ledger.spent.values())

    async def reserve(self, usd: float, side: Side) -> Reservation:
        """The reservation. Raises CancelledError where the run is to stop, be it because this does not fit."""
        self.stop.check()
        if not self._line and self._fits(usd):
            return self._take(usd, side)
        turn: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        self._line.append((side, usd, turn))
        self._move_on()
        try:
            with pause_deadline():
                return await self.stop.unless_stopped(turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.settle(turn.result(), 0.0)  # it was its turn, and nobody is there any more to make the call
            else:
                turn.cancel()
                self._move_on()
            raise

    def settle(self, reservation: Reservation, usd: float) -> None:
        """Note what a call has cost, and let in who waits."""
        self._open -= 1
        self._reserved_usd = self._reserved_usd - reservation.usd if self._open else 0.0
        try:
            self.ledger.settle(reservation.number, reservation.side, usd)
        except RunError as refused:
            self.stop.request(str(refused))
        self._move_on()

    def _fits(self, usd: float) -> bool:
        return self.spent_usd + self._reserved_usd + usd <= self.cap_usd

    def _take(self, usd: float, side: Side) -> Reservation:
        try:
            reservation = Reservation(self.ledger.reserve(side, usd), side, usd)
        except RunError as refused:
            self.stop.request(str(refused))
            raise asyncio.CancelledError from None  # the row is dropped, and a resume runs it
        self._open += 1
        self._reserved_usd += usd
        return reservation

    def _move_on(self) -> None:
        """Let in from the head of the line whatever fits; stop the run where the head never will."""
        while self._line:
            side, usd, turn = self._line[0]
            if turn.done():
                self._line.popleft()
                continue
            if self._fits(usd):
                self._line.popleft()
                try:
                    turn.set_result(self._take(usd, side))
                except asyncio.CancelledError:
                    turn.cancel()
                continue
            if not self._open and not self.stop.count:
                self.stop.request(
                    f"the cost cap of {money(self.cap_usd)} is reached "
                    f"({money(self.spent_usd)} spent, and the next call may cost {money(usd)})"
                )
            return


@dataclass(frozen=True, slots=True)
class BudgetedEndpoint:
    """An endpoint whose every call fits into the budget of its run. Goes around one try, inside of any retries."""

    inner: Endpoint
    budget: Budget
    bound: WorstCase
    _: KW_ONLY
    side: Side

    async def __call__(self, request: Request, /) -> Completion | Failure:
        most = self.bound(request)
        if most is None:
            return Failure("bad_request", UNBOUNDED)
        if most == 0:
            return await self.inner(request)
        reservation = await self.budget.reserve(most, self.side)
        cost = most  # unless it is known better: a call that was cancelled may have been worked on
        try:
            answer = await self.inner(request)
            cost = cost_of_call(answer, most)
            return answer
        finally:
            self.budget.settle(reservation, cost)


def cost_of_call(answer: Completion | Failure, most: float) -> float:
    """What a call counts as: its cost, nothing for one that was refused, and the most where nobody knows."""
    if isinstance(answer, Completion):
        return most if answer.cost_usd is None else answer.cost_usd
    if answer.kind == "connection" and answer.fatal:  # there was nobody to ask
        return 0.0
    unclear = answer.kind in MAYBE_PAID or (answer.kind == "server" and answer.status is None)
    return most if unclear else 0.0
