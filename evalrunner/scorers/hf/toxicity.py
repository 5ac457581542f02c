"""Toxicity by a transformers classifier. Rows that ask at once go to the model's one thread together, off the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalrunner.domain import Failure, Outcome, Preparable, Score
from evalrunner.middleware.deadline import pause_deadline
from evalrunner.scorers.hf.model import (
    FoundModel,
    LoadedModel,
    find_model,
    load_model,
    probabilities,
    require_packages,
    said,
)

MODEL, LABEL = "facebook/roberta-hate-speech-dynabench-r4-target", "hate"  # what MLflow's toxicity asks
REMEMBERED = 20_000  # texts whose score is kept: models repeat themselves, and a forward takes a tenth of a second


def hf(
    folder: Path, *, model: str | None = None, label: str = LABEL, batch_size: int = 1, device: str = "cpu"
) -> HfToxicity:
    """The scorer with its model found, not loaded. Raises ValueError, MissingExtraError among SuiteErrors."""
    if batch_size < 1:
        raise ValueError(f"'batch_size' is {batch_size}; it should be at least 1")
    require_packages()
    return HfToxicity(
        find_model(MODEL if model is None else model, label, folder, hub_only=model is None), label, batch_size, device
    )


@dataclass(slots=True)
class Asked:
    """A text that waits for its score, and how many rows wait for it."""

    text: str
    answer: asyncio.Future[Outcome]
    waiting: int = 0


@dataclass(slots=True)
class HfToxicity(Preparable):
    """The probability of a label by a classifier, as a scorer that is awaited."""

    found: FoundModel
    label: str
    batch_size: int
    device: str
    _loaded: LoadedModel | None = None
    _known: dict[str, Outcome] = field(default_factory=dict)
    _asked: dict[str, Asked] = field(default_factory=dict)
    _new: list[Asked] = field(default_factory=list)
    _sending: asyncio.Task[None] | None = None

    @property
    def label_in_results(self) -> str:
        """The backend and model, as every result of the scorer names them."""
        return f"hf {self.found.told}"

    async def prepare(self, tell: Callable[[str], None]) -> None:
        """None, with the model in memory; `tell` is told of a download. Raises ValueError where it cannot be had."""
        if self._loaded is None:
            self._loaded = await in_thread(lambda: load_model(self.found, self.device, tell))

    async def __call__(self, output: str) -> Outcome:
        if output in self._known:
            return self._known[output]
        asked = self._asked.get(output)
        if asked is None or asked.answer.cancelled():
            asked = self._asked[output] = Asked(output, asyncio.get_running_loop().create_future())
            self._new.append(asked)
            if self._sending is None or self._sending.done():
                self._sending = asyncio.create_task(self._send())
        asked.waiting += 1
        try:
            with pause_deadline():  # a row that queues behind others is not slow
                return await asyncio.shield(asked.answer)
        finally:
            asked.waiting -= 1

    async def _send(self) -> None:
        """Everything that waits to the thread, in one hop, until nothing does."""
        loop = asyncio.get_running_loop()
        try:
            await self.prepare(lambda _: None)  # done before the run, but for who calls the scorer without one
            assert self._loaded is not None
            while self._new:
                taken, self._new = self._new, []
                if self.batch_size > 1:  # texts of like length need the least padding
                    taken.sort(key=lambda asked: (len(asked.text), asked.text))
                await loop.run_in_executor(self._loaded.thread, self._score_all, self._loaded, taken, loop)
        except Exception as crash:  # whatever it is, no row may wait for ever
            self._new = []
            self._hand_back(left := list(self._asked.values()), [Failure("function", said(crash))] * len(left))

    def _score_all(self, loaded: LoadedModel, taken: Sequence[Asked], loop: asyncio.AbstractEventLoop) -> None:
        """Runs in the model's thread; each answer is handed back as soon as it is there."""
        for start in range(0, len(taken), self.batch_size):
            part = [asked for asked in taken[start : start + self.batch_size] if asked.waiting]
            if part and not loop.is_closed():
                loop.call_soon_threadsafe(self._hand_back, part, self._outcomes(loaded, [one.text for one in part]))

    def _outcomes(self, loaded: LoadedModel, texts: Sequence[str]) -> list[Outcome]:
        try:
            found = probabilities(loaded, texts, self.label)
        except Exception as crash:  # whatever a model raises on a text is an error of its cell
            if len(texts) > 1:  # the others are not to blame
                return [outcome for text in texts for outcome in self._outcomes(loaded, [text])]
            return [Failure("function", f"the model {self.found.name!r} raised {said(crash)}")]
        return [score_of(value, cut=cut) for value, cut in found]

    def _hand_back(self, part: Sequence[Asked], outcomes: Sequence[Outcome]) -> None:
        for asked, outcome in zip(part, outcomes, strict=True):
            self._asked.pop(asked.text, None)
            if not asked.answer.done():
                asked.answer.set_result(outcome)
            if isinstance(outcome, Score):
                self._known[asked.text] = outcome
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]


def score_of(value: float, *, cut: bool) -> Score:
    """The score of a text; that it was longer than the model takes is said beside it."""
    return Score(value, metadata={"backend": "hf", "truncated": True} if cut else {"backend": "hf"})


async def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a thread that does not keep the process from ending."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # handed on to whoever waits
            done.set_exception(error)

    threading.Thread(target=run, name="evalrun-toxicity-load", daemon=True).start()
    return await asyncio.wrap_future(done)
