"""A conversation with any target: the messages of a column one after the other, each answer in the history of the next."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Completion, Failure, Message, Sample, Target
from evalrunner.prompts import PromptedTarget, read_turns
from evalrunner.reasoning import strip_reasoning

NAME: Final = "conversation"


@dataclass(frozen=True, slots=True)
class Conversation(SampleValidator):
    """Asks the target each message of the column `turns`. The answer is the last one; cost, latency and tokens are sums.

    A target that is no model gets `conversation`: `session`, a new id for each row, `turn` from 1, and `history`, the
    messages so far.
    """

    target: Target
    turns: str
    strips_reasoning: bool = True

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        questions = read_turns(sample, self.turns)
        session, answers = uuid.uuid4().hex, list[tuple[str, Completion]]()
        history: tuple[Message, ...] = ()
        for number, question in enumerate(questions, 1):
            where = f"turn {number} of {len(questions)}"
            sent, answer = await self._ask(sample, epoch, question, history, session, number)
            if isinstance(answer, Failure):
                return replace(answer, message=f"{where}: {answer.message}", messages=sent)
            answers.append((question, answer))
            if number == len(questions) or not (answer.answered or answer.called_tools):
                return _joined(answers, sent)
            if not answer.answered:
                message = f"{where}: the answer only calls tools, and evalrun runs none"
                return Failure("bad_request", message, messages=sent)
            history = (*sent, {"role": "assistant", "content": answer.text})
        raise AssertionError("a conversation has a turn")  # read_turns has seen to it

    async def _ask(
        self, sample: Sample, epoch: int, question: str, history: tuple[Message, ...], session: str, number: int
    ) -> tuple[tuple[Message, ...], Completion | Failure]:
        """The messages up to the question, and its answer."""
        if isinstance(self.target, PromptedTarget):
            sent = self._messages(self.target, replace(sample, input=question), history)
            answer = await self.target.send(sent, sample, epoch)
        else:
            sent = (*history, {"role": "user", "content": question})
            answer = await self.target(_turn(sample, question, history, session, number), epoch)
        return sent, strip_reasoning(answer) if self.strips_reasoning else answer

    def _messages(self, target: PromptedTarget, sample: Sample, history: tuple[Message, ...]) -> tuple[Message, ...]:
        """The prompt with the question; later ones have the history in place of what stands before the last message."""
        if target.prompt.parts is None:
            before = history or sample.messages or ()
            return (*before, {"role": "user", "content": sample.input})
        messages = target.prompt.render(sample)
        return (*history, messages[-1]) if history else messages

    def check(self, sample: Sample) -> str | None:
        """The problem with the turns of a sample, or with what the target would get."""
        try:
            questions = read_turns(sample, self.turns)
        except ValueError as wrong:
            return str(wrong)
        if isinstance(self.target, PromptedTarget):
            if self._messages(self.target, replace(sample, input=questions[0]), ())[-1]["role"] != "user":
                return (
                    "the prompt of a conversation should end with a message of the user, such as {user: '{{ input }}'}"
                )
        elif isinstance(self.target, SampleValidator):
            for number, question in enumerate(questions, 1):
                if problem := self.target.check(_turn(sample, question, (), "", number)):
                    return problem
        return None


def _turn(sample: Sample, question: str, history: tuple[Message, ...], session: str, number: int) -> Sample:
    """The sample with the message as its input, and what the target may know of the conversation."""
    about = {"session": session, "turn": number, "history": list(history)}
    return replace(sample, input=question, metadata={**sample.metadata, NAME: about})


def _joined(answers: list[tuple[str, Completion]], sent: tuple[Message, ...]) -> Completion:
    """The last answer with the sums of all turns; a number that one of them lacks is unknown."""
    each = [answer for _, answer in answers]
    turns = tuple(
        {"input": question, "output": answer.text, "latency_s": answer.latency_s, "input_tokens": answer.input_tokens,
         "output_tokens": answer.output_tokens, "cost_usd": answer.cost_usd}
        for question, answer in answers
    )  # fmt: skip
    return replace(
        each[-1], messages=sent, turns=turns, ttft_s=None if len(each) > 1 else each[-1].ttft_s,
        latency_s=_sum(answer.latency_s for answer in each), cost_usd=_sum(answer.cost_usd for answer in each),
        input_tokens=_sum(answer.input_tokens for answer in each), cached=all(answer.cached for answer in each),
        output_tokens=_sum(answer.output_tokens for answer in each),
        cached_tokens=_sum(answer.cached_tokens for answer in each),
        reasoning_tokens=_sum(answer.reasoning_tokens for answer in each),
    )  # fmt: skip


def _sum(values: Iterable[Any]) -> Any:
    listed = list(values)
    return None if None in listed else sum(listed)
