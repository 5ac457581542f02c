"""A hard cost cap for a run. The most that a call can cost is reserved before it and settled after it.

Both are written to the spend ledger before they count, so that no end of a process loses them: `spend.jsonl` in the run
folder, append-only, one line each for
    {"reserve": 17, "side": "judges", "usd": 0.0021}    the most that a call can cost, before it is made
    {"settle": 17, "usd": 0.0004}                       what it cost, after it
    {"before": "targets", "usd": 0.31}                  what was spent while no cap was set
A reservation that was never settled was in flight when the process ended: it counts in full.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evalrunner.domain import Completion, Endpoint, Failure, Request
from evalrunner.errors import RunError
from evalrunner.formatting import money
from evalrunner.middleware.deadline import StopSignal, pause_deadline
from evalrunner.storage import open_file

Side: TypeAlias = Literal["targets", "judges", "users"]  # users: simulated ones
SIDES: tuple[Side, ...] = ("targets", "judges", "users")
LEDGER_FILE = "spend.jsonl"
MAX_LINE_BYTES = 1_000_000

WorstCase: TypeAlias = Callable[[Request], float | None]
"""The most US dollars that one attempt of a request can cost, None if nothing bounds it."""

# failures after which the provider may have worked
POSSIBLY_BILLED_KINDS = frozenset({"timeout", "connection", "malformed"})
UNBOUNDED = (
    "nothing bounds the cost of this request, so it is not sent under a cost cap: "
    "it has images, audio or other parts that are not text, or no limit of output tokens"
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money reserved for one call."""

    number: int
    side: Side
    usd: float


class Budget:
    """The cost cap of a run, shared by its endpoints. Spent and reserved money together never exceed it.

    A reservation that does not fit waits in order for the calls in flight. If none is in flight and it still does not
    fit, the run is stopped.
    """

    def __init__(self, cap_usd: float, ledger: SpendLedger, stop: StopSignal) -> None:
        self.cap_usd = cap_usd
        self.ledger = ledger
        self.stop = stop
        self._open = 0
        self._reserved_usd = 0.0
        self._queue: deque[tuple[Side, float, asyncio.Future[Reservation]]] = deque()

    @property
    def spent_usd(self) -> float:
        return sum(self.ledger.spent.values())

    async def reserve(self, usd: float, side: Side) -> Reservation:
        """The reservation. Raises CancelledError if the run stops, also because this reservation does not fit."""
        self.stop.check()
        if not self._queue and self._fits(usd):
            return self._take(usd, side)
        turn: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        self._queue.append((side, usd, turn))
        self._grant_waiting()
        try:
            with pause_deadline():
                return await self.stop.unless_stopped(turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.settle(turn.result(), 0.0)  # granted, but the call will not be made
            else:
                turn.cancel()
                self._grant_waiting()
            raise

    def settle(self, reservation: Reservation, usd: float) -> None:
        """Record what a call cost, and grant reservations that fit now."""
        self._open -= 1
        self._reserved_usd = self._reserved_usd - reservation.usd if self._open else 0.0
        try:
            self.ledger.settle(reservation.number, reservation.side, usd)
        except RunError as refused:
            self.stop.request(str(refused))
        self._grant_waiting()

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

    def _grant_waiting(self) -> None:
        """Grant reservations in order while they fit. Stop the run if the first one never will."""
        while self._queue:
            side, usd, turn = self._queue[0]
            if turn.done():
                self._queue.popleft()
                continue
            if self._fits(usd):
                self._queue.popleft()
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
    """An endpoint whose calls fit the budget of the run. It wraps one attempt, inside the retries."""

    inner: Endpoint
    budget: Budget
    bound: WorstCase
    _: KW_ONLY
    side: Side

    async def __call__(self, request: Request, /) -> Completion | Failure:
        max_cost = self.bound(request)
        if max_cost is None:
            return Failure("bad_request", UNBOUNDED)
        if max_cost == 0:
            return await self.inner(request)
        reservation = await self.budget.reserve(max_cost, self.side)
        cost = max_cost  # unless the answer says otherwise: the provider may have worked on a canceled call
        try:
            answer = await self.inner(request)
            cost = cost_of_call(answer, max_cost)
            return answer
        finally:
            self.budget.settle(reservation, cost)


def cost_of_call(answer: Completion | Failure, max_cost: float) -> float:
    """The cost to record for a call: nothing if it was refused, and the most it can cost if that is unknown."""
    if isinstance(answer, Completion):
        return max_cost if answer.cost_usd is None else answer.cost_usd
    if answer.kind == "connection" and answer.fatal:  # the server was never reached
        return 0.0
    unclear = answer.kind in POSSIBLY_BILLED_KINDS or (answer.kind == "server" and answer.status is None)
    return max_cost if unclear else 0.0


@dataclass(slots=True)
class Spending:
    """US dollars by side, as a ledger has them. `open` are reservations not settled, `next` the first free number."""

    settled: dict[Side, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))
    open: dict[int, tuple[Side, float]] = field(default_factory=dict)
    next: int = 1

    def of(self, side: Side) -> float:
        """The most that a side has cost: settled and reserved."""
        return self.settled[side] + sum(usd for owner, usd in self.open.values() if owner == side)

    def add(self, line: Mapping[str, Any]) -> None:
        """Add one line. Raises KeyError, TypeError or ValueError for anything else."""
        usd = float(line["usd"])
        if "reserve" in line:
            number, side = int(line["reserve"]), line["side"]
            self.settled[side]  # raises KeyError for another side
            self.open[number] = (side, usd)
            self.next = max(self.next, number + 1)
        elif "settle" in line:
            side, _ = self.open.pop(int(line["settle"]))
            self.settled[side] += usd
        else:
            self.settled[line["before"]] += usd


class SpendLedger:
    """The ledger of a run folder, open for appending.

    Calls that another process had in flight when it ended count in full. `before` is what each side had spent by the
    row log: if that is more than the ledger has, part of the run had no cap.
    Raises RunError if the file cannot be read or written.
    """

    def __init__(self, folder: Path, *, before: Mapping[Side, float] | None = None) -> None:
        self.path = folder / LEDGER_FILE
        spending, size = read_ledger(folder)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.ftruncate(self._file, size)  # removes a torn last line, which would corrupt the next one
        except OSError as refused:
            raise self._unwritable(refused) from None
        self.spent: dict[Side, float] = {side: spending.of(side) for side in SIDES}
        self._next = spending.next
        for side, usd in (before or {}).items():
            if (more := usd - self.spent[side]) > 0:
                self._write(b'{"before":"%b","usd":%b}\n' % (side.encode(), _usd(more)))
                self.spent[side] = usd

    def reserve(self, side: Side, usd: float) -> int:
        """The number of the call to be made. Raises RunError; then the call must not be made."""
        number = self._next
        self._write(b'{"reserve":%d,"side":"%b","usd":%b}\n' % (number, side.encode(), _usd(usd)))
        self._next += 1
        return number

    def settle(self, number: int, side: Side, usd: float) -> None:
        """Record what a call cost. Raises RunError."""
        self.spent[side] += usd
        self._write(b'{"settle":%d,"usd":%b}\n' % (number, _usd(usd)))

    def close(self) -> None:
        """Sync and close the file."""
        os.fsync(self._file)
        os.close(self._file)

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a full disk or a signal can cut a write short
                written += os.write(self._file, line[written:])
        except OSError as refused:
            raise self._unwritable(refused) from None

    def _unwritable(self, refused: OSError) -> RunError:
        return RunError(f"cannot write {str(self.path)!r}: {refused.strerror}; the cost cap needs this file")


def read_ledger(folder: Path) -> tuple[Spending, int]:
    """The spending of a run folder, and the size of the ledger in bytes without a torn last line.

    Raises RunError for an invalid line in the middle: another program wrote to the file.
    """
    spending, size = Spending(), 0
    path = folder / LEDGER_FILE
    try:
        with open_file(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                    break  # cut off while it was written: its call was not made yet, or is still open
                try:
                    spending.add(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    raise RunError(f"{path}:{number}: not a ledger line; another program changed the file") from None
                size += len(line)
    except FileNotFoundError:
        return spending, 0
    except OSError as refused:
        raise RunError(f"cannot read {str(path)!r}: {refused.strerror}") from None
    return spending, size


def _usd(amount: float) -> bytes:
    return repr(float(amount)).encode()
