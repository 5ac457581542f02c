"""A conversation with any target: the messages of a column one after the other, each answer in the history of the next."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from evalrunner.attachments import without_repeats
from evalrunner.capabilities import SampleValidator
from evalrunner.domain import Completion, Failure, FailureKind, Message, Sample, Target, row_name
from evalrunner.prompts import PromptedTarget, read_turns
from evalrunner.reasoning import strip_reasoning
from evalrunner.targets.simulated_user import LABEL, RowUser, SimulatedUser

NAME: Final = "conversation"
TOOLS_ONLY: Final = "the answer only calls tools, and evalrun runs none"
ENDS_AT_ONCE: Final = f"{LABEL}: its first message has the phrase of stop_when, so there is no conversation"


@dataclass(frozen=True, slots=True)
class Conversation(SampleValidator):
    """Asks the target each message of the column `turns`, then what `user` says. The answer is the last one; cost, latency
    and tokens are sums.

    A target that is no model gets `conversation`: `session`, a new id for each row, `turn` from 1, and `history`, the
    messages so far. `name` is that of the target in requests of the user.
    """

    target: Target
    turns: str | None
    strips_reasoning: bool = True
    user: SimulatedUser | None = None
    name: str = ""

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        script = self.scripted(sample)
        row = None if self.user is None else self.user.for_row(sample, epoch, row_name(sample.id, self.name, epoch))
        last = len(script) if self.user is None else self.user.max_turns
        talk = Talk(sample, epoch, uuid.uuid4().hex)
        for number in range(1, last + 1):
            question: str | Failure | None = (
                script[number - 1] if number <= len(script) else await self._next(talk, row, number, last)
            )
            if question is None:
                return talk.joined(row, "phrase")
            if isinstance(question, Failure):
                return question
            answer = await self._answer(talk, question, number, last, simulated=number > len(script))
            if isinstance(answer, Failure):
                return answer
            if number == last or not (answer.answered or answer.called_tools):
                return talk.joined(row, "max_turns" if answer.answered else "no_answer")
            if not answer.answered:
                return talk.failure("bad_request", number, last, self.user, TOOLS_ONLY)
            if row is None or number < len(script):
                continue
            if row.says_phrase(answer.text):
                return talk.joined(row, "phrase")
            ended = await row.has_ended(talk.exchanges)
            if isinstance(ended, Failure):
                return talk.placed(ended, number, last, self.user)
            if ended:
                return talk.joined(row, "condition")
        raise AssertionError("a conversation has a turn")  # scripted() has seen to it

    def scripted(self, sample: Sample) -> tuple[str, ...]:
        """The messages that the row itself has. Raises ValueError."""
        return () if self.turns is None else read_turns(sample, self.turns)

    async def _next(self, talk: Talk, row: RowUser | None, number: int, last: int) -> str | Failure | None:
        """What the user says, a failure, or None if that ends the conversation."""
        assert row is not None  # only a user speaks after the script
        said = await row.message(talk.exchanges)
        if isinstance(said, Failure):
            return talk.placed(said, number, last, self.user)
        if not row.says_phrase(said):
            return said
        talk.closing = said
        return None if talk.answers else talk.failure("malformed", number, last, self.user, ENDS_AT_ONCE, of_user=True)

    async def _answer(
        self, talk: Talk, question: str, number: int, last: int, *, simulated: bool
    ) -> Completion | Failure:
        """The answer to a message, which is in the history from then on."""
        sent, answer = await self._ask(talk.sample, talk.epoch, question, talk.history, talk.session, number)
        talk.history = sent
        if isinstance(answer, Failure):
            return talk.placed(answer, number, last, self.user)
        talk.answers.append((question, answer))
        talk.simulated.append(simulated)
        talk.sent = sent
        talk.history = (*sent, {"role": "assistant", "content": answer.text})
        return answer

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
        """The prompt with the question; later ones have the history in place of what stands before the last message.

        An attachment is sent once: the history has it.
        """
        if target.prompt.parts is None:
            before = history or sample.messages or ()
            return (*before, {"role": "user", "content": sample.input})
        messages = target.prompt.render(sample)
        return (*history, without_repeats(messages[-1], history)) if history else messages

    def check(self, sample: Sample) -> str | None:
        """The problem with the turns of a sample, with its user, or with what the target would get."""
        try:
            questions = self.scripted(sample)
        except ValueError as wrong:
            return str(wrong)
        if self.user is not None:
            if len(questions) > self.user.max_turns:
                return f"has {len(questions)} messages in {self.turns!r}, but max_turns is {self.user.max_turns}"
            if problem := self.user.check_sample(sample):
                return problem
        if isinstance(self.target, PromptedTarget):
            first = (*questions, "Hello")[0]
            if self._messages(self.target, replace(sample, input=first), ())[-1]["role"] != "user":
                return (
                    "the prompt of a conversation should end with a message of the user, such as {user: '{{ input }}'}"
                )
        elif isinstance(self.target, SampleValidator):
            for number, question in enumerate(questions or ("Hello",), 1):
                if problem := self.target.check(_turn(sample, question, (), "", number)):
                    return problem
        return None


@dataclass(slots=True)
class Talk:
    """One conversation so far. `sent` are the messages of the last turn that was answered, `simulated` says whose each was.

    `closing` is a last message of the user that was not sent, because it ends the conversation.
    """

    sample: Sample
    epoch: int
    session: str
    answers: list[tuple[str, Completion]] = field(default_factory=list)
    simulated: list[bool] = field(default_factory=list)
    history: tuple[Message, ...] = ()
    sent: tuple[Message, ...] = ()
    closing: str | None = None

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """Each message with its answer."""
        return [(question, answer.text) for question, answer in self.answers]

    def placed(self, failure: Failure, number: int, last: int, user: SimulatedUser | None) -> Failure:
        """The failure of the row: that of a turn, with the messages so far."""
        where = f"turn {number} of {'at most ' if user is not None else ''}{last}"
        return replace(failure, message=f"{where}: {failure.message}", messages=self.history)

    def failure(
        self, kind: FailureKind, number: int, last: int, user: SimulatedUser | None, why: str, *, of_user: bool = False
    ) -> Failure:
        """A failure of the conversation itself."""
        return self.placed(Failure(kind, why, of_user=of_user), number, last, user)

    def joined(self, row: RowUser | None, end: str) -> Completion:
        """The answer of the row. With a simulated user each turn says whose message it has, the last one why it is the last."""
        answer = _joined(self.answers, self.sent)
        if row is None:
            return answer
        by = [{**turn, "simulated": mark} for turn, mark in zip(answer.turns, self.simulated, strict=True)]
        by[-1]["end"] = end
        if self.closing is not None:
            by[-1]["closing"] = self.closing
        return replace(answer, turns=tuple(by), user_calls=tuple(row.calls))


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
