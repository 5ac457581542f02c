"""Templates to messages, and what they need of the data: values at dotted paths, conversations in a column.

Templates are Jinja2, sandboxed and compiled once. Whatever cannot be filled in is a `PromptError` with a sentence
for the suite's author; text from the data is put in as it is and never read as a template. Jinja2 is imported only
where a template needs it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from evalrunner.domain import Message, Sample
from evalrunner.templates import PromptError, compile_filler, hint

__all__ = [
    "ABSENT",
    "ConversationError",
    "Prompt",
    "PromptError",
    "compile_prompt",
    "find_value",
    "read_conversation",
    "template_context",
]

MESSAGES = "messages"
"""The role of a part that stands for a whole conversation, taken from the column that the part names."""

ABSENT: Final[Any] = object()
Context: TypeAlias = Mapping[str, Any]
Writer: TypeAlias = "Callable[[Sample, dict[str, Any]], Iterable[Message]]"


class ConversationError(ValueError):
    """What should be a list of messages and is not. The message goes on from the name of its column."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Compiled templates. `parts` are the pairs of role and template they came from, None where there are none."""

    parts: tuple[tuple[str, str], ...] | None
    digest: str
    writers: tuple[Writer, ...] = field(repr=False, compare=False)

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each part, `messages` for a conversation."""
        return tuple(role for role, _ in self.parts or ())

    def render(self, sample: Sample) -> tuple[Message, ...]:
        """The messages for one sample. Raises PromptError where a template uses what the sample does not have."""
        context: dict[str, Any] = {}  # filled by the first template that needs it
        messages: list[Message] = []
        for writer in self.writers:
            messages.extend(writer(sample, context))
        return tuple(messages)


def compile_prompt(parts: Sequence[tuple[str, str]] | None) -> Prompt:
    """The prompt of pairs of role and template; None: the sample's own messages, or its input as a user message.

    In a part with role `messages` the text names the column (or dotted path) whose conversation goes there.
    Raises PromptError with the line of what is wrong.
    """
    kept = None if parts is None else tuple((role, template) for role, template in parts)
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    if kept is None:
        return Prompt(None, digest, (_write_unprompted,))
    if not kept:
        raise PromptError("a prompt needs at least one message")
    return Prompt(kept, digest, tuple(_compile_part(role, template) for role, template in kept))


def find_value(data: Any, path: str) -> Any:
    """The value at a dotted path into mappings and lists, else `ABSENT`. A key that is the whole path goes first."""
    if isinstance(data, Mapping):
        if path in data:
            return data[path]
        cut = path.rfind(".")
        while cut > 0:  # keys may hold dots themselves, so longer ones are tried first
            if path[:cut] in data:
                found = find_value(data[path[:cut]], path[cut + 1 :])
                if found is not ABSENT:
                    return found
            cut = path.rfind(".", 0, cut)
    elif isinstance(data, list | tuple):
        place, dot, rest = path.partition(".")
        if place.isdecimal() and len(place) < 10 and int(place) < len(data):
            return find_value(data[int(place)], rest) if dot else data[int(place)]
    return ABSENT


def read_conversation(value: Any) -> tuple[Message, ...]:
    """The messages in a list of {role, content}, or in its JSON text. Raises ConversationError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as broken:
            raise ConversationError(f"is text that is not JSON ({broken}); it should be a list of messages") from None
    if not isinstance(value, list | tuple):
        raise ConversationError("should be a list of messages such as {role: user, content: …}")
    if not value:
        raise ConversationError("has no messages in it")
    for place, message in enumerate(value, 1):
        if not isinstance(message, Mapping):
            raise ConversationError(f"has a message {place} that is no mapping of role and content")
        if not isinstance(message.get("role"), str) or not message["role"]:
            raise ConversationError(f"has a message {place} without a role")
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise ConversationError(f"has a message {place} whose content is neither text nor a list of parts")
    return tuple(value)


def _write_unprompted(sample: Sample, context: Context) -> Iterable[Message]:
    if sample.messages is not None:
        return sample.messages
    text = sample.input if isinstance(sample.input, str) else json.dumps(sample.input, ensure_ascii=False)
    return ({"role": "user", "content": text},)


def _compile_part(role: str, template: str) -> Writer:
    """What writes the messages of one part: a fixed text, a template, or the conversation of a column."""
    if role == MESSAGES:
        return functools.partial(_write_conversation, template.strip())
    fill = compile_filler(f"the {role} message", template)

    def write_rendered(sample: Sample, context: dict[str, Any]) -> Iterable[Message]:
        if not context:
            context.update(template_context(sample))
        return ({"role": role, "content": fill(context)},)

    return write_rendered


def _write_conversation(column: str, sample: Sample, context: Context) -> Iterable[Message]:
    if column == MESSAGES and sample.messages is not None:
        return sample.messages
    found = find_value(sample.metadata, column)
    if found is ABSENT:
        known = hint(column, sample.metadata)
        raise PromptError(f"the prompt takes its messages from {column!r}, which this sample does not have{known}")
    try:
        return read_conversation(found)
    except ConversationError as broken:
        raise PromptError(f"the column {column!r} {broken}") from None


def template_context(sample: Sample) -> dict[str, Any]:
    """The names a template may use: every source column, and ours, which win."""
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
