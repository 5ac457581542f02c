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
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evalrun.domain import Message, Sample
from evalrun.errors import nearest

if TYPE_CHECKING:
    import jinja2

MESSAGES = "messages"
"""The role of a part that stands for a whole conversation, taken from the column that the part names."""

ABSENT: Final[Any] = object()
SYNTAX = ("{{", "{%", "{#")
MOST_NAMED = 12  # columns listed in an error; a wide table has hundreds

Context: TypeAlias = Mapping[str, Any]
Writer: TypeAlias = "Callable[[Sample, dict[str, Any]], Iterable[Message]]"


class PromptError(ValueError):
    """A template that cannot be compiled, or not be filled in with a sample."""


class BrokenConversation(ValueError):
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
        return tuple(message for writer in self.writers for message in writer(sample, context))


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
    """The messages in a list of {role, content}, or in its JSON text. Raises BrokenConversation."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as broken:
            raise BrokenConversation(f"is text that is not JSON ({broken}); it should be a list of messages") from None
    if not isinstance(value, list | tuple):
        raise BrokenConversation("should be a list of messages such as {role: user, content: …}")
    if not value:
        raise BrokenConversation("has no messages in it")
    for place, message in enumerate(value, 1):
        if not isinstance(message, Mapping):
            raise BrokenConversation(f"has a message {place} that is no mapping of role and content")
        if not isinstance(message.get("role"), str) or not message["role"]:
            raise BrokenConversation(f"has a message {place} without a role")
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise BrokenConversation(f"has a message {place} whose content is neither text nor a list of parts")
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
    if not any(sign in template for sign in SYNTAX):
        fixed = template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")  # as Jinja2 would have it

        def write_fixed(sample: Sample, context: Context) -> Iterable[Message]:
            return ({"role": role, "content": fixed},)

        return write_fixed
    compiled = _compile_template(role, template)

    def write_rendered(sample: Sample, context: dict[str, Any]) -> Iterable[Message]:
        return ({"role": role, "content": _fill(compiled, sample, context)},)

    return write_rendered


def _write_conversation(column: str, sample: Sample, context: Context) -> Iterable[Message]:
    if column == MESSAGES and sample.messages is not None:
        return sample.messages
    found = find_value(sample.metadata, column)
    if found is ABSENT:
        hint = _hint(column, sample.metadata)
        raise PromptError(f"the prompt takes its messages from {column!r}, which this sample does not have{hint}")
    try:
        return read_conversation(found)
    except BrokenConversation as broken:
        raise PromptError(f"the column {column!r} {broken}") from None


def _compile_template(role: str, text: str) -> jinja2.Template:
    """The compiled template. Raises PromptError with the line inside the text."""
    import jinja2
    from jinja2 import nodes

    environment = _environment()
    try:
        loading = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
        for node in environment.parse(text).find_all(loading):
            said = "there are no other templates to include, import or extend; say {file: PATH} in the suite instead"
            raise PromptError(f"line {node.lineno} of the {role} message: {said}")
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as wrong:
        hint = ""
        if wrong.message and "expected token 'end of print statement'" in wrong.message:
            hint = "; a column whose name is not one plain word is written metadata['the name']"
        raise PromptError(f"line {wrong.lineno} of the {role} message: {wrong.message}{hint}") from None
    except PromptError:
        raise
    except Exception as crash:  # nesting or numbers beyond what Python compiles end in errors of many kinds
        raise PromptError(f"the {role} message cannot be compiled: {type(crash).__name__}: {crash}") from crash


def _fill(template: jinja2.Template, sample: Sample, context: dict[str, Any]) -> str:
    if not context:
        context.update(_context_of(sample))
    try:
        return template.render(context)
    except Exception as crash:  # a template may raise anything: it is the author's, and so is the sentence
        raise PromptError(_sentence(crash, context)) from crash


def _context_of(sample: Sample) -> dict[str, Any]:
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


def _sentence(crash: Exception, context: Context) -> str:
    lost, name = getattr(crash, "lost_in", ABSENT), getattr(crash, "lost_name", None)
    if lost is ABSENT and name is None:
        return f"the template failed: {type(crash).__name__}: {crash}"
    if lost is ABSENT:
        return f"the template uses {name!r}, which this sample does not have{_hint(str(name), context)}"
    if isinstance(lost, Mapping):
        return f"the template uses {name!r} of a value that does not have it{_hint(str(name), lost)}"
    if isinstance(lost, list | tuple) and isinstance(name, int):
        return f"the template uses item {name} of a list that has {len(lost)}"
    kind = "an empty value" if lost is None else "text" if isinstance(lost, str) else f"a {type(lost).__name__}"
    return f"the template uses {name!r} of {kind}, which does not have it"


def _hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name, or all of them."""
    names = [str(item) for item in known]
    found = nearest(name, names)
    for item in names:
        if found.endswith(f"{item!r}?") and not item.isidentifier():
            return f"; did you mean metadata[{item!r}]?"
    if found or not names:
        return found
    more = ", …" if len(names) > MOST_NAMED else ""
    return f"; it has {', '.join(names[:MOST_NAMED])}{more}"


@functools.cache
def _environment() -> jinja2.Environment:
    """The one environment: sandboxed, without a loader, strict about names, the same output every time."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import missing

    class LostName(jinja2.UndefinedError):
        """A name that is not there, kept so that the error can name the nearest one."""

        def __init__(self, lost_in: Any, lost_name: Any, message: str | None) -> None:
            super().__init__(message)
            self.lost_in = ABSENT if lost_in is missing else lost_in
            self.lost_name = lost_name

    class Strict(jinja2.StrictUndefined):
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
                self._undefined_exception = functools.partial(LostName, obj, name)  # type: ignore[assignment]

    class Environment(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            """A key of the data goes before a method of the same name: `row.values` is the column `values`."""
            found = obj.get(attribute, missing) if isinstance(obj, dict) else missing
            return super().getattr(obj, attribute) if found is missing else found

    environment = Environment(undefined=Strict, autoescape=False, finalize=_as_text)
    del environment.filters["random"]  # a prompt is the same each time: it is rendered twice, hashed and cached
    environment.filters["tojson"] = _as_json  # Jinja2's own escapes < and & for HTML
    environment.globals = {name: environment.globals[name] for name in ("range", "namespace")}
    return environment


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _as_text(value: Any) -> Any:
    """A value as a prompt shows it: lists and mappings as JSON, true and false, nothing for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, BuiltinMethodType | MethodType):
        raise TypeError(f"{value.__name__!r} is a function here; call it: {value.__name__}()")
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else value
