"""Prompts: templates to messages, and values of the data at dotted paths."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from evalrunner.attachments import AttachmentError, AttachmentReader, check_total
from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, Message, Request, Sample, row_name
from evalrunner.errors import nearest
from evalrunner.formatting import one_line, plain_text
from evalrunner.limits import STANDARD, Limits
from evalrunner.templates import PromptError, compile_template, name_hint

MESSAGES = "messages"
"""The role of a part that stands for a whole conversation, taken from the column that the part names."""
ABSENT: Final[Any] = object()
MAX_TURNS: Final = 100  # of a conversation
SHOTS = "shots"
"""The role of a part that stands for worked examples; its text describes them for the digest of the prompt."""
QUESTION, ANSWER = "{{ input }}", "{{ expected }}"  # of an example
Context: TypeAlias = Mapping[str, Any]
MessageWriter: TypeAlias = "Callable[[Sample, dict[str, Any]], Iterable[Message]]"


SPEAKERS: Mapping[str, str] = {
    **dict.fromkeys(("user", "human", "prompter", "question", "client", "customer"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "bing", "bard", "claude", "model", "ai", "bot", "answer", "agent"), "assistant"
    ),
    "system": "system",
    "developer": "developer",
}
"""Who speaks in other layouts of conversations, as a role."""


class ConversationError(ValueError):
    """A value that is no list of messages. The message continues the name of its column."""


@dataclass(frozen=True, slots=True)
class Content:
    """The parts of a message: kind, template and detail of each. `files` reads what is no text."""

    items: tuple[tuple[str, str, str | None], ...]
    files: AttachmentReader

    def compile(self, role: str, limits: Limits) -> Callable[[dict[str, Any]], list[Mapping[str, Any]]]:
        """A function that makes the content of a message. Raises PromptError, as the function does."""
        templates = [
            (kind, compile_template(f"the {kind} of the {role} message", text, limits=limits), detail)
            for kind, text, detail in self.items
        ]

        def render(context: dict[str, Any]) -> list[Mapping[str, Any]]:
            try:
                return [
                    {"type": "text", "text": fill(context)}
                    if kind == "text"
                    else self.files.read(kind, fill(context), detail)
                    for kind, fill, detail in templates
                ]
            except AttachmentError as wrong:
                raise PromptError(f"{wrong} (sample {one_line(str(context.get('id')), 60)!r})") from None

        return render


@dataclass(frozen=True, slots=True)
class Shots:
    """Worked examples: the first `n` samples of `pool` that are not the sample itself, by `never`.

    `user` and `assistant` are their templates; None: that of the next user message, and the first expected answer. `text`
    describes all of it, `label` names the file, beside which `files` reads what the questions attach.
    """

    pool: tuple[Sample, ...]
    n: int
    never: str
    label: str
    text: str
    user: str | None = None
    assistant: str | None = None
    files: AttachmentReader | None = None

    def chosen(self, sample: Sample) -> Sequence[Sample]:
        """The examples for a sample. Raises PromptError if there are too few."""
        found: list[Sample] = []
        for shot in self.pool:
            same = shot.id == sample.id if self.never == "same id" else _input_text(shot) == _input_text(sample)
            if not same:
                found.append(shot)
            if len(found) == self.n:
                return found
        raise PromptError(f"needs {self.n} shots, but {self.label} has only {len(found)} without the {self.never}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Compiled templates. `parts` are the pairs of role and template they were compiled from, None without a prompt."""

    parts: tuple[tuple[str, str], ...] | None
    digest: str
    writers: tuple[MessageWriter, ...] = field(repr=False, compare=False)

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each part, `messages` for a conversation."""
        return tuple(role for role, _ in self.parts or ())

    def render(self, sample: Sample) -> tuple[Message, ...]:
        """The messages for one sample. Raises PromptError if a template uses what the sample does not have."""
        context: dict[str, Any] = {}  # filled by the first template that needs it
        messages: list[Message] = []
        for writer in self.writers:
            messages.extend(writer(sample, context))
        if not messages:
            raise PromptError(self._why_empty(sample))
        if (too_large := check_total(messages)) is not None:
            raise PromptError(too_large)
        return tuple(messages)

    @property
    def conversations(self) -> tuple[str, ...]:
        """The columns whose conversations are inserted."""
        return tuple(template.strip() for role, template in self.parts or () if role == MESSAGES)

    def _why_empty(self, sample: Sample) -> str:
        for column in self.conversations:
            if find_value(sample.metadata, column) is ABSENT:
                hint = name_hint(column, sample.metadata)
                return f"the prompt takes its messages from {column!r}, which this sample does not have{hint}"
        columns = " and ".join(map(repr, self.conversations)) or "the conversation"
        return f"the prompt is empty: {columns} has no messages for this sample; add a message, such as {{user: …}}"


def compile_prompt(
    parts: Sequence[tuple[str, str]] | None,
    limits: Limits = STANDARD,
    shots: Mapping[int, Shots] | None = None,
    contents: Mapping[int, Content] | None = None,
) -> Prompt:
    """The prompt of pairs of role and template; None: the sample's own messages, or its input as a user message.

    In a part with role `messages` the text names the column (or dotted path) whose conversation is inserted. `shots` holds
    the examples of parts with that role, by their place, `contents` the messages that have several parts.
    Raises PromptError with the line of the mistake.
    """
    pairs = None if parts is None else tuple((role, template) for role, template in parts)
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    if pairs is None:
        return Prompt(None, digest, (_write_input,))
    if not pairs:
        raise PromptError("a prompt needs at least one message")
    examples, several = shots or {}, contents or {}
    writers = [
        _compile_shots(examples[place], pairs[place:], limits, _question_content(pairs, several, place))
        if place in examples
        else _compile_part(role, template, limits, several.get(place))
        for place, (role, template) in enumerate(pairs)
    ]
    return Prompt(pairs, digest, tuple(writers))


def find_value(data: Any, path: str) -> Any:
    """The value at a dotted path into mappings and lists, else `ABSENT`. A key that is the whole path goes first."""
    if isinstance(data, Mapping):
        if path in data:
            return data[path]
        cut = path.rfind(".")
        while cut > 0:  # keys may contain dots themselves, so longer ones are tried first
            if path[:cut] in data:
                value = find_value(data[path[:cut]], path[cut + 1 :])
                if value is not ABSENT:
                    return value
            cut = path.rfind(".", 0, cut)
    elif isinstance(data, list | tuple):
        index, dot, rest = path.partition(".")
        if index.isdecimal() and len(index) < 10 and int(index) < len(data):
            return find_value(data[int(index)], rest) if dot else data[int(index)]
    return ABSENT


def read_conversation(value: Any, *, role: str | None = None, content: str | None = None) -> tuple[Message, ...]:
    """The messages in a list of {role, content}, or in its JSON text; none for null and empty text. Raises ConversationError.

    `role` and `content` are the keys of another layout. Without them {from, value}, as ShareGPT has it, is read too.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as broken:
            raise ConversationError(f"is text that is not JSON ({broken}); it must be a list of messages") from None
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        return ()
    if not isinstance(value, list | tuple):
        raise ConversationError("must be a list of messages such as {role: user, content: …}")
    value = [_translate(message, number, role, content) for number, message in enumerate(value, 1)]
    for number, message in enumerate(value, 1):
        if not isinstance(message.get("role"), str) or not message["role"]:
            raise ConversationError(f"has a message {number} without a role")
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise ConversationError(f"has a message {number} whose content is neither text nor a list of parts")
    return tuple(value)


def _translate(message: Any, number: int, role: str | None, content: str | None) -> Message:
    """A message of any layout as {role, content}. Raises ConversationError."""
    if not isinstance(message, Mapping):
        raise ConversationError(f"has a message {number} that is not a mapping of role and content")
    plain: dict[str, Any] = dict(message)
    if role is None and content is None:
        if "role" in message or not ("from" in message and "value" in message):
            return plain
        role, content = "from", "value"
    role_key, content_key = role or "role", content or "content"
    for name in (role_key, content_key):
        if name not in message:
            raise ConversationError(f"has a message {number} without {name!r}; it has: {', '.join(map(str, message))}")
    speaker = message[role_key]
    known = SPEAKERS.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if known is None:
        raise ConversationError(
            f"has a message {number} of {str(speaker)[:40]!r}, which is no known role; such as human, gpt, user, assistant, system"
        )
    return {"role": known, "content": message[content_key]}


def _write_input(sample: Sample, context: Context) -> Iterable[Message]:
    if sample.messages is not None:
        return sample.messages
    return ({"role": "user", "content": _input_text(sample)},)


def _input_text(sample: Sample) -> str:
    return sample.input if isinstance(sample.input, str) else plain_text(sample.input)


def _question_content(pairs: Sequence[tuple[str, str]], several: Mapping[int, Content], start: int) -> Content | None:
    """The parts of the next user message, None if it is one text."""
    return next((several.get(place) for place in range(start, len(pairs)) if pairs[place][0] == "user"), None)


def _compile_shots(
    shots: Shots, parts: Sequence[tuple[str, str]], limits: Limits, content: Content | None
) -> MessageWriter:
    """A function that writes the examples, a question and an answer each; `parts` are those from the examples on."""
    question = shots.user or next((template for role, template in parts if role == "user"), QUESTION)
    ask: Callable[[dict[str, Any]], Any]
    if content is not None and shots.user is None:
        ask = replace(content, files=shots.files or content.files).compile("user", limits)
    else:
        ask = compile_template("the user message of a shot", question, limits=limits)
    answer = compile_template("the assistant message of a shot", shots.assistant or ANSWER, limits=limits)
    rendered: dict[str, tuple[Message, Message]] = {}  # by id: most samples get the same examples

    def write_shots(sample: Sample, _context: dict[str, Any]) -> Iterable[Message]:
        for shot in shots.chosen(sample):
            if shot.id not in rendered:
                context = template_context(shot)
                try:
                    pair = (
                        {"role": "user", "content": ask(context)},
                        {"role": "assistant", "content": answer(context)},
                    )
                except PromptError as wrong:
                    raise PromptError(f"shot {shot.id!r} of {shots.label}: {wrong}") from None
                rendered[shot.id] = pair
            yield from rendered[shot.id]

    return write_shots


def _compile_part(role: str, template: str, limits: Limits, content: Content | None) -> MessageWriter:
    """A function that writes the messages of one part: a fixed text, a template, or the conversation of a column."""
    if role == MESSAGES:
        return functools.partial(_write_conversation, template.strip())
    render: Callable[[dict[str, Any]], Any]
    if content is None:
        render = compile_template(f"the {role} message", template, limits=limits)
    else:
        render = content.compile(role, limits)

    def write_rendered(sample: Sample, context: dict[str, Any]) -> Iterable[Message]:
        if not context:
            context.update(template_context(sample))
        return ({"role": role, "content": render(context)},)

    return write_rendered


def _write_conversation(column: str, sample: Sample, context: Context) -> Iterable[Message]:
    if column == MESSAGES and sample.messages is not None:
        return sample.messages
    value = find_value(sample.metadata, column)
    if value is ABSENT:  # the first turn of a conversation; that no sample has the column is found by the scan
        return ()
    try:
        return read_conversation(value)
    except ConversationError as wrong:
        raise PromptError(f"the column {column!r} {wrong}") from None


def template_context(sample: Sample) -> dict[str, Any]:
    """The names a template may use: every source column, and the fields of the sample, which take precedence."""
    context = {"metadata": sample.metadata, **sample.metadata, "id": sample.id, "input": sample.input}
    if sample.messages is not None:
        context["messages"] = sample.messages
    if len(sample.expected) == 1:
        context["expected"] = sample.expected[0]
    elif sample.expected:
        context["expected"] = list(sample.expected)
    else:
        context.pop("expected", None)
    return context


@dataclass(frozen=True, slots=True)
class PromptedTarget:
    """Renders the prompt with the sample and requests a chat completion from the endpoint, as a stream if `stream`."""

    endpoint: Endpoint
    model: str
    prompt: Prompt
    params: Mapping[str, Any] = EMPTY
    name: str = ""
    stream: bool = False

    async def __call__(self, sample: Sample, epoch: int, /) -> Completion | Failure:
        return await self.send(self.prompt.render(sample), sample, epoch)

    async def send(self, messages: tuple[Message, ...], sample: Sample, epoch: int) -> Completion | Failure:
        """The answer to messages about a sample."""
        row = row_name(sample.id, self.name, epoch)
        request = Request(self.model, messages, self.params, epoch=epoch, stream=self.stream, row=row)
        answer = await self.endpoint(request)
        return answer if answer.messages is messages else replace(answer, messages=messages)


def read_turns(sample: Sample, column: str) -> tuple[str, ...]:
    """The messages of the user. Raises ValueError, whose message continues the name of the sample."""
    value = find_value(sample.metadata, column)
    if value is ABSENT:
        return _refuse(f"has no column {column!r} for 'turns'{nearest(column, map(str, sample.metadata))}")
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _refuse(f"has turns in {column!r} that are no JSON list")
    if not isinstance(value, list | tuple):
        return _refuse(f"has no list of messages in {column!r}, the column of 'turns'")
    if not 1 <= len(value) <= MAX_TURNS:
        return _refuse(f"has {len(value)} messages in {column!r}; a conversation has 1 to {MAX_TURNS}")
    texts = [_text(item) for item in value]
    if None in texts:
        number = texts.index(None) + 1
        return _refuse(f"has a message {number} in {column!r} that is neither text nor a message of the user")
    return tuple(text for text in texts if text is not None)


def turn_of(answer: Completion, number: int) -> Completion | None:
    """The answer of a turn, from 1, as an answer of its own; None if there is no such turn."""
    if number > len(answer.turns):
        return None
    if number == len(answer.turns):
        return answer
    turn = answer.turns[number - 1]
    return Completion(
        turn["output"],
        latency_s=turn.get("latency_s"),
        input_tokens=turn.get("input_tokens"),
        output_tokens=turn.get("output_tokens"),
        cost_usd=turn.get("cost_usd"),
        served_model=answer.served_model,
        turns=answer.turns[:number],
    )


def transcript(turns: Iterable[Mapping[str, Any]]) -> str:
    """The conversation up to the last message of the user, for a reader; without its answer."""
    lines: list[str] = []
    for turn in turns:
        lines += [f"User: {turn['input']}", f"Assistant: {turn['output']}"]
    return "\n\n".join(lines[:-1])


def _text(item: Any) -> str | None:
    if isinstance(item, Mapping) and item.get("role", "user") == "user":
        item = item.get("content")
    return item if isinstance(item, str) and item.strip() else None


def _refuse(message: str) -> tuple[str, ...]:
    raise ValueError(message)
