"""Templates to text: Jinja2, sandboxed, strict about names, the same output every time.

Jinja2 is imported only where a template needs it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evalrunner.errors import nearest

if TYPE_CHECKING:
    import jinja2

_NOWHERE: Final[Any] = object()
SYNTAX = ("{{", "{%", "{#")
ONE_NAME = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
# what a lone name means in Jinja2 that is not a name of the data, or is a function there
LITERALS = frozenset({"true", "True", "false", "False", "none", "None", "range", "namespace", "self", "loop", "not"})
MOST_NAMED = 12  # columns listed in an error; a wide table has hundreds

Context: TypeAlias = Mapping[str, Any]


class PromptError(ValueError):
    """A template that cannot be compiled, or not be filled in with a sample."""


def compile_filler(
    where: str, template: str, *, write: Callable[[Any], Any] | None = None
) -> Callable[[dict[str, Any]], str]:
    """A function from a context to a text. Raises PromptError with the line of what is wrong in `where`.

    `write` makes text of each value that is filled in; left out, it is what a prompt shows.
    """
    write = write or as_text
    if not any(sign in template for sign in SYNTAX):
        fixed = _as_jinja_reads(template)
        return lambda context: fixed
    return _plain_filler(template, write) or functools.partial(_fill, _compile_template(where, template, write))


def hint(name: str, known: Iterable[str]) -> str:
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


def bare_name(template: str) -> str | None:
    """The name, where the template is that of one value and nothing else."""
    found = ONE_NAME.fullmatch(template.strip())
    return None if found is None or found[1] in LITERALS else found[1]


def _compile_template(where: str, text: str, write: Callable[[Any], Any]) -> jinja2.Template:
    """The compiled template. Raises PromptError with the line inside the text."""
    import jinja2
    from jinja2 import nodes

    environment = _environment(write)
    try:
        loading = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
        for node in environment.parse(text).find_all(loading):
            said = "there are no other templates to include, import or extend; say {file: PATH} in the suite instead"
            raise PromptError(f"line {node.lineno} of {where}: {said}")
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as wrong:
        hint = ""
        if wrong.message and "expected token 'end of print statement'" in wrong.message:
            hint = "; a column whose name is not one plain word is written metadata['the name']"
        raise PromptError(f"line {wrong.lineno} of {where}: {wrong.message}{hint}") from None
    except PromptError:
        raise
    except Exception as crash:  # nesting or numbers beyond what Python compiles end in errors of many kinds
        raise PromptError(f"{where} cannot be compiled: {type(crash).__name__}: {crash}") from crash


def _plain_filler(template: str, write: Callable[[Any], Any]) -> Callable[[dict[str, Any]], str] | None:
    """What fills in a template of nothing but names, such as `{{ input }}`: most are, and importing Jinja2 takes longer
    than a hundred answers. None for all others; the result is the same to the letter.
    """
    fixed = ONE_NAME.split(_as_jinja_reads(template))
    if any(sign in text for text in fixed[::2] for sign in ("{", "}")) or LITERALS & set(fixed[1::2]):
        return None

    def fill(context: dict[str, Any]) -> str:
        try:
            parts = [str(write(context[part])) if place % 2 else part for place, part in enumerate(fixed)]
        except KeyError as missing:
            name = missing.args[0]
            raise PromptError(
                f"the template uses {name!r}, which this sample does not have{hint(name, context)}"
            ) from None
        return "".join(parts)

    return fill


def _fill(template: jinja2.Template, context: dict[str, Any]) -> str:
    try:
        return template.render(context)
    except Exception as crash:  # a template may raise anything: it is the author's, and so is the sentence
        raise PromptError(_sentence(crash, context)) from crash


def _sentence(crash: Exception, context: Context) -> str:
    lost, name = getattr(crash, "lost_in", _NOWHERE), getattr(crash, "lost_name", None)
    if lost is _NOWHERE and name is None:
        return f"the template failed: {type(crash).__name__}: {crash}"
    if lost is _NOWHERE:
        return f"the template uses {name!r}, which this sample does not have{hint(str(name), context)}"
    if isinstance(lost, Mapping):
        return f"the template uses {name!r} of a value that does not have it{hint(str(name), lost)}"
    if isinstance(lost, list | tuple) and isinstance(name, int):
        return f"the template uses item {name} of a list that has {len(lost)}"
    kind = "an empty value" if lost is None else "text" if isinstance(lost, str) else f"a {type(lost).__name__}"
    return f"the template uses {name!r} of {kind}, which does not have it"


@functools.cache
def _environment(write: Callable[[Any], Any]) -> jinja2.Environment:
    """The one environment for a way to write values: sandboxed, without a loader, strict about names, the same output every time."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import missing

    class LostName(jinja2.UndefinedError):
        """A name that is not there, kept so that the error can name the nearest one."""

        def __init__(self, lost_in: Any, lost_name: Any, message: str | None) -> None:
            super().__init__(message)
            self.lost_in = _NOWHERE if lost_in is missing else lost_in
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

    environment = Environment(undefined=Strict, autoescape=False, finalize=write)
    del environment.filters["random"]  # a prompt is the same each time: it is rendered twice, hashed and cached
    environment.filters["tojson"] = _as_json  # Jinja2's own escapes < and & for HTML
    environment.globals = {name: environment.globals[name] for name in ("range", "namespace")}
    return environment


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def as_text(value: Any) -> Any:
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


def _as_jinja_reads(template: str) -> str:
    """The text with the line ends that Jinja2 leaves of it."""
    return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
