"""Toxicity by a transformers classifier. Concurrent rows are sent together to the one thread of the model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.capabilities import Preparable
from evalrunner.domain import Failure, Outcome, Score
from evalrunner.middleware.deadline import pause_deadline
from evalrunner.scorers.hf.model import (
    DEFAULT_MODEL,
    FoundModel,
    LoadedModel,
    describe_error,
    find_model,
    load_model,
    probabilities,
    require_packages,
)

LABEL = "hate"
MAX_CACHED_SCORES = 20_000  # outputs repeat, and a forward pass takes a tenth of a second


def hf(
    folder: Path, *, model: str | None = None, label: str = LABEL, batch_size: int = 1, device: str = "cpu"
) -> HfToxicity:
    """The scorer with its model found, but not loaded. Raises ValueError and MissingExtraError."""
    if batch_size < 1:
        raise ValueError(f"'batch_size' is {batch_size}; it should be at least 1")
    require_packages()
    return HfToxicity(
        find_model(DEFAULT_MODEL if model is None else model, label, folder, hub_only=model is None),
        label,
        batch_size,
        device,
    )


@dataclass(slots=True)
class PendingText:
    """A text that waits for its score, and how many rows wait for it."""

    text: str
    answer: asyncio.Future[Outcome]
    waiting: int = 0


@dataclass(slots=True)
class HfToxicity(Preparable):
    """The probability of a label by a classifier, as an async scorer."""

    model: FoundModel
    label: str
    batch_size: int
    device: str
    _loaded: LoadedModel | None = None
    _scores: dict[str, Outcome] = field(default_factory=dict)
    _pending: dict[str, PendingText] = field(default_factory=dict)
    _queue: list[PendingText] = field(default_factory=list)
    _sending: asyncio.Task[None] | None = None

    @property
    def label_in_results(self) -> str:
        """The backend and model, as every result of the scorer names them."""
        return f"hf {self.model.label}"

    async def prepare(self, notify: Callable[[str], None]) -> None:
        """Load the model. `notify` gets a message before a download. Raises ValueError if it is not available."""
        if self._loaded is None:
            self._loaded = await in_thread(lambda: load_model(self.model, self.device, notify))

    async def __call__(self, output: str) -> Outcome:
        if output in self._scores:
            return self._scores[output]
        pending = self._pending.get(output)
        if pending is None or pending.answer.cancelled():
            pending = self._pending[output] = PendingText(output, asyncio.get_running_loop().create_future())
            self._queue.append(pending)
            if self._sending is None or self._sending.done():
                self._sending = asyncio.create_task(self._send())
        pending.waiting += 1
        try:
            with pause_deadline():  # time in the queue does not count against the row
                return await asyncio.shield(pending.answer)
        finally:
            pending.waiting -= 1

    async def _send(self) -> None:
        """Send all waiting texts to the thread in one step, until none is left."""
        loop = asyncio.get_running_loop()
        try:
            await self.prepare(lambda _: None)  # already done in a run
            assert self._loaded is not None
            while self._queue:
                texts, self._queue = self._queue, []
                if self.batch_size > 1:  # texts of similar length need the least padding
                    texts.sort(key=lambda pending: (len(pending.text), pending.text))
                await loop.run_in_executor(self._loaded.thread, self._score_all, self._loaded, texts, loop)
        except Exception as crash:  # no row may wait forever, whatever was raised
            self._queue = []
            pending_texts = list(self._pending.values())
            self._resolve(pending_texts, [Failure("function", describe_error(crash))] * len(pending_texts))

    def _score_all(self, loaded: LoadedModel, texts: Sequence[PendingText], loop: asyncio.AbstractEventLoop) -> None:
        """Runs in the model's thread; each score is returned as soon as it is known."""
        for start in range(0, len(texts), self.batch_size):
            part = [pending for pending in texts[start : start + self.batch_size] if pending.waiting]
            if part and not loop.is_closed():
                loop.call_soon_threadsafe(self._resolve, part, self._outcomes(loaded, [one.text for one in part]))

    def _outcomes(self, loaded: LoadedModel, texts: Sequence[str]) -> list[Outcome]:
        try:
            scores = probabilities(loaded, texts, self.label)
        except Exception as crash:  # an error of the model is the error of its cell
            if len(texts) > 1:  # only one of them may be the cause
                return [outcome for text in texts for outcome in self._outcomes(loaded, [text])]
            return [Failure("function", f"the model {self.model.name!r} raised {describe_error(crash)}")]
        return [score_of(value, cut=cut) for value, cut in scores]

    def _resolve(self, part: Sequence[PendingText], outcomes: Sequence[Outcome]) -> None:
        for pending, outcome in zip(part, outcomes, strict=True):
            self._pending.pop(pending.text, None)
            if not pending.answer.done():
                pending.answer.set_result(outcome)
            if isinstance(outcome, Score):
                self._scores[pending.text] = outcome
        while len(self._scores) > MAX_CACHED_SCORES:
            del self._scores[next(iter(self._scores))]


def score_of(value: float, *, cut: bool) -> Score:
    """The score of a text; its metadata says if the text was truncated."""
    return Score(value, metadata={"backend": "hf", "truncated": True} if cut else {"backend": "hf"})


async def in_thread(work: Callable[[], Any]) -> Any:
    """The result of `work`, run in a daemon thread."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # raised in the caller
            done.set_exception(error)

    threading.Thread(target=run, name="evalrun-toxicity-load", daemon=True).start()
    return await asyncio.wrap_future(done)
