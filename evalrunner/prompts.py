"""Prompts: templates to messages, and values of the data at dotted paths.

Templates are Jinja2: sandboxed, strict about names, compiled once, with the same output every time. Whatever cannot be
rendered is a `PromptError` with a sentence for the suite's author. Text from the data is inserted as it is and never
read as a template. Jinja2 is imported only if a template needs it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evalrunner.domain import EMPTY, Completion, Endpoint, Failure, Message, Request, Sample, row_name
from evalrunner.errors import nearest
from evalrunner.formatting import plain_text
from evalrunner.spelling import exact_json

if TYPE_CHECKING:
    import jinja2

MESSAGES = "messages"
"""The role of a part that stands for a whole conversation, taken from the column that the part names."""
ABSENT: Final[Any] = object()
UNDEFINED: Final[Any] = object()
TEMPLATE_MARKS = ("{{", "{%", "{#")
SINGLE_NAME = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
# names that are no names of the data in Jinja2: literals and functions
RESERVED_NAMES = frozenset(
    {"true", "True", "false", "False", "none", "None", "range", "namespace", "self", "loop", "not"}
)
MAX_COLUMNS_NAMED = 12  # in an error; a wide table has hundreds

Context: TypeAlias = Mapping[str, Any]
MessageWriter: TypeAlias = "Callable[[Sample, dict[str, Any]], Iterable[Message]]"
Renderer: TypeAlias = "Callable[[dict[str, Any]], str]"


class PromptError(ValueError):
    """A template that cannot be compiled, or not be rendered for a sample."""


class ConversationError(ValueError):
    """A value that is no list of messages. The message continues the name of its column."""


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
        return tuple(messages)


def compile_prompt(parts: Sequence[tuple[str, str]] | None) -> Prompt:
    """The prompt of pairs of role and template; None: the sample's own messages, or its input as a user message.

    In a part with role `messages` the text names the column (or dotted path) whose conversation is inserted.
    Raises PromptError with the line of the mistake.
    """
    pairs = None if parts is None else tuple((role, template) for role, template in parts)
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    if pairs is None:
        return Prompt(None, digest, (_write_input,))
    if not pairs:
        raise PromptError("a prompt needs at least one message")
    return Prompt(pairs, digest, tuple(_compile_part(role, template) for role, template in pairs))


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


def read_conversation(value: Any) -> tuple[Message, ...]:
    """The messages in a list of {role, content}, or in its JSON text. Raises ConversationError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as broken:
            raise ConversationError(f"is text that is not JSON ({broken}); it must be a list of messages") from None
    if not isinstance(value, list | tuple):
        raise ConversationError("must be a list of messages such as {role: user, content: …}")
    if not value:
        raise ConversationError("has no messages")
    for number, message in enumerate(value, 1):
        if not isinstance(message, Mapping):
            raise ConversationError(f"has a message {number} that is not a mapping of role and content")
        if not isinstance(message.get("role"), str) or not message["role"]:
            raise ConversationError(f"has a message {number} without a role")
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise ConversationError(f"has a message {number} whose content is neither text nor a list of parts")
    return tuple(value)


def _write_input(sample: Sample, context: Context) -> Iterable[Message]:
    if sample.messages is not None:
        return sample.messages
    text = sample.input if isinstance(sample.input, str) else plain_text(sample.input)
    return ({"role": "user", "content": text},)


def _compile_part(role: str, template: str) -> MessageWriter:
    """A function that writes the messages of one part: a fixed text, a template, or the conversation of a column."""
    if role == MESSAGES:
        return functools.partial(_write_conversation, template.strip())
    render = compile_template(f"the {role} message", template)

    def write_rendered(sample: Sample, context: dict[str, Any]) -> Iterable[Message]:
        if not context:
            context.update(template_context(sample))
        return ({"role": role, "content": render(context)},)

    return write_rendered


def _write_conversation(column: str, sample: Sample, context: Context) -> Iterable[Message]:
    if column == MESSAGES and sample.messages is not None:
        return sample.messages
    value = find_value(sample.metadata, column)
    if value is ABSENT:
        hint = name_hint(column, sample.metadata)
        raise PromptError(f"the prompt takes its messages from {column!r}, which this sample does not have{hint}")
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


def compile_template(where: str, template: str, *, write: Callable[[Any], Any] | None = None) -> Renderer:
    """A function from a context to text. Raises PromptError with the line of the mistake in `where`.

    `write` turns each inserted value into text; the default is `value_text`.
    """
    write = write or value_text
    if not any(mark in template for mark in TEMPLATE_MARKS):
        text = _normalized_lines(template)
        return lambda context: text
    return _names_renderer(template, write) or functools.partial(_render, _compile_jinja(where, template, write))


def name_hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name, or all of them."""
    names = [str(item) for item in known]
    hint = nearest(name, names)
    for item in names:
        if hint.endswith(f"{item!r}?") and not item.isidentifier():
            return f"; did you mean metadata[{item!r}]?"
    if hint or not names:
        return hint
    more = ", …" if len(names) > MAX_COLUMNS_NAMED else ""
    return f"; it has {', '.join(names[:MAX_COLUMNS_NAMED])}{more}"


def single_name(template: str) -> str | None:
    """The name, if the template is one value and nothing else."""
    match = SINGLE_NAME.fullmatch(template.strip())
    return None if match is None or match[1] in RESERVED_NAMES else match[1]


def value_text(value: Any) -> Any:
    """A value as a prompt shows it: lists and mappings as JSON, true and false, nothing for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, BuiltinMethodType | MethodType):
        raise TypeError(f"{value.__name__!r} is a function here; call it: {value.__name__}()")
    return exact_json(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else value


def _names_renderer(template: str, write: Callable[[Any], Any]) -> Renderer | None:
    """A renderer without Jinja2 for a template of names alone, such as `{{ input }}`; None for any other.

    Most templates are like that, and importing Jinja2 takes longer than a hundred answers. The result is the same.
    """
    parts = SINGLE_NAME.split(_normalized_lines(template))
    if any(mark in text for text in parts[::2] for mark in ("{", "}")) or RESERVED_NAMES & set(parts[1::2]):
        return None

    def render(context: dict[str, Any]) -> str:
        try:
            texts = [str(write(context[part])) if index % 2 else part for index, part in enumerate(parts)]
        except KeyError as missing:
            raise PromptError(_unknown_name(missing.args[0], context)) from None
        return "".join(texts)

    return render


def _compile_jinja(where: str, text: str, write: Callable[[Any], Any]) -> jinja2.Template:
    """The compiled template. Raises PromptError with the line inside the text."""
    import jinja2
    from jinja2 import nodes

    environment = _environment(write)
    try:
        loading = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
        for node in environment.parse(text).find_all(loading):
            message = "a prompt cannot include, import or extend templates; use {file: PATH} in the suite instead"
            raise PromptError(f"line {node.lineno} of {where}: {message}")
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as wrong:
        hint = ""
        if wrong.message and "expected token 'end of print statement'" in wrong.message:
            hint = "; write a column whose name is not a single word as metadata['the name']"
        raise PromptError(f"line {wrong.lineno} of {where}: {wrong.message}{hint}") from None
    except PromptError:
        raise
    except Exception as crash:  # nesting or numbers that Python cannot compile raise errors of many kinds
        raise PromptError(f"{where} cannot be compiled: {type(crash).__name__}: {crash}") from crash


def _render(template: jinja2.Template, context: dict[str, Any]) -> str:
    try:
        return template.render(context)
    except Exception as crash:  # a template may raise anything
        raise PromptError(_render_problem(crash, context)) from crash


def _render_problem(crash: Exception, context: Context) -> str:
    value, name = getattr(crash, "value", UNDEFINED), getattr(crash, "undefined_name", None)
    if value is UNDEFINED and name is None:
        return f"the template failed: {type(crash).__name__}: {crash}"
    if value is UNDEFINED:
        return _unknown_name(str(name), context)
    if isinstance(value, Mapping):
        return f"the template uses {name!r} of a value that does not have it{name_hint(str(name), value)}"
    if isinstance(value, list | tuple) and isinstance(name, int):
        return f"the template uses item {name} of a list that has {len(value)}"
    kind = "an empty value" if value is None else "text" if isinstance(value, str) else f"a {type(value).__name__}"
    return f"the template uses {name!r} of {kind}, which does not have it"


def _unknown_name(name: str, context: Context) -> str:
    return f"the template uses {name!r}, which this sample does not have{name_hint(name, context)}"


@functools.cache
def _environment(write: Callable[[Any], Any]) -> jinja2.Environment:
    """The environment for a way to write values: sandboxed, without a loader, strict about names, deterministic."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import missing

    class UndefinedNameError(jinja2.UndefinedError):
        """An undefined name, for an error that suggests the nearest one. `value` is what it was used of."""

        def __init__(self, value: Any, undefined_name: Any, message: str | None) -> None:
            super().__init__(message)
            self.value = UNDEFINED if value is missing else value
            self.undefined_name = undefined_name

    class NamedUndefined(jinja2.StrictUndefined):
        __slots__ = ()

        def __init__(
            self,
            hint: str | None = None,
            obj: Any = missing,
            name: str | None = None,
            exc: type[jinja2.TemplateRuntimeError] = jinja2.UndefinedError,
        ) -> None:
            super().__init__(hint, obj, name, exc)
            if exc is jinja2.UndefinedError and hint is None:
                self._undefined_exception = functools.partial(UndefinedNameError, obj, name)  # type: ignore[assignment]

    class Environment(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            """A key of the data takes precedence over a method: `row.values` is the column `values`."""
            value = obj.get(attribute, missing) if isinstance(obj, dict) else missing
            return super().getattr(obj, attribute) if value is missing else value

    environment = Environment(undefined=NamedUndefined, autoescape=False, finalize=write)
    del environment.filters["random"]  # a prompt must be the same each time: it is rendered twice, hashed and cached
    environment.filters["tojson"] = _tojson  # Jinja2's own escapes < and & for HTML
    environment.globals = {name: environment.globals[name] for name in ("range", "namespace")}
    return environment


def _tojson(value: Any, indent: int | None = None) -> str:
    return exact_json(value, ensure_ascii=False, indent=indent)


def _normalized_lines(template: str) -> str:
    """The text with line ends as Jinja2 renders them."""
    return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


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
        messages = self.prompt.render(sample)
        row = row_name(sample.id, self.name, epoch)
        request = Request(self.model, messages, self.params, epoch=epoch, stream=self.stream, row=row)
        answer = await self.endpoint(request)
        return answer if answer.messages is messages else replace(answer, messages=messages)
