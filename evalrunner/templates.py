"""Templates: compiled once, with the same output every time, and bounded in steps, sizes and time.

Templates are Jinja2: sandboxed and strict about names. Whatever cannot be rendered is a `PromptError` with a sentence for
the suite's author. Text from the data is inserted as it is and never read as a template. Jinja2 is imported only if a
template needs it.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from evalrunner.domain import EMPTY
from evalrunner.errors import nearest
from evalrunner.limits import STANDARD, Limits
from evalrunner.spelling import exact_json
from evalrunner.template_filters import FILTERS, FilterProblem

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes

UNDEFINED: Final[Any] = object()
TEMPLATE_MARKS = ("{{", "{%", "{#")
SINGLE_NAME = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
# names that are no names of the data in Jinja2: literals and functions
LITERALS = frozenset({"true", "True", "false", "False", "none", "None"})
RESERVED_NAMES = frozenset({*LITERALS, "range", "namespace", "self", "loop", "not"})
SELF = "column_self"  # the column `self` in compiled templates, where Jinja2 has the template itself under that name
STEP, CONCATENATE, COLLECT = (
    "template_step",
    "template_concatenate",
    "template_collect",
)  # calls that limit what a template can do
MAX_EXCEEDED = 3  # samples
ENVIRONMENT_NAMES = frozenset({"env", "environ", "ENV", "os"})  # where other tools have the environment
ENVIRONMENT = (
    "templates cannot read environment variables, which may be secrets and would change the prompt without a trace; put the "
    "value in a column, or name the file of the prompt by a variable: {file: prompt-${NAME}.txt}"
)
UNKNOWN_FUNCTION = re.compile(r"No (?P<kind>filter|test) named '(?P<name>\w+)'")
FORMAT_PLACE = re.compile(r"%(?:\([^)]*\))?[-+ #0]*\d*(?:\.\d*)?|\{[^{}]*(?::[^{}]*)?")
COMPUTED_WIDTH = re.compile(r"%(?:\([^)]*\))?[-+ #0]*\d*\.?\*|\{[^{}]*:[^{}]*\{")
COLLECTIONS = (list, tuple, dict, set, frozenset)
ENCODINGS = frozenset({"utf-8", "utf8", "ascii", "latin-1", "utf-16", "utf-32"})
MAX_CODE = 2 * 1024 * 1024  # characters of a template that is more than text and names
MAX_TAGS = 10_000
SLOWNESS = 64  # how often longer
MAX_DIGITS = 1_000  # of a rounded number
MAX_COLUMNS_NAMED = 12  # in an error; a wide table has hundreds

Context: TypeAlias = Mapping[str, Any]
Renderer: TypeAlias = "Callable[[dict[str, Any]], str]"
ValueRenderer: TypeAlias = "Callable[[dict[str, Any]], Any]"


class PromptError(ValueError):
    """A template that cannot be compiled, or not be rendered for a sample."""


def compile_template(
    where: str, template: str, *, write: Callable[[Any], Any] | None = None, limits: Limits = STANDARD
) -> Renderer:
    """A function from a context to text. Raises PromptError with the line of the mistake in `where`.

    `write` turns each inserted value into text; the default is `value_text`.
    """
    write = write or value_text
    if not any(mark in template for mark in TEMPLATE_MARKS):
        text = _normalized_lines(template)
        return lambda context: text
    fast = _names_renderer(template, write)
    if fast is not None:
        return fast
    if len(template) > MAX_CODE or sum(map(template.count, TEMPLATE_MARKS)) > MAX_TAGS:
        raise PromptError(f"{where} is a template of more than {MAX_CODE:,} characters or {MAX_TAGS:,} tags")
    literals = sorted(LITERALS.intersection(SINGLE_NAME.findall(template)))
    effort.begin(limits)  # constant parts are evaluated while compiling
    return _JinjaRenderer(literals, _compile_jinja(where, template, write), limits)


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
    if isinstance(value, dict | list | tuple):
        return exact_json(value, ensure_ascii=False, default=str)
    if callable(value):
        name = getattr(value, "__name__", None) or getattr(value, "name", None) or type(value).__name__
        raise TypeError(f"{name!r} is a function here; call it: {name}()")
    if isinstance(value, Iterator):
        raise TypeError("a sequence without an end of its own; write `| list` or `| join(', ')` after it")
    return value


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
            raise PromptError(unknown_name(missing.args[0], context)) from None
        return "".join(texts)

    return render


def _compile_jinja(where: str, text: str, write: Callable[[Any], Any]) -> jinja2.Template:
    """The compiled template. Raises PromptError with the line inside the text."""
    import jinja2
    from jinja2 import nodes

    environment = environment_for(write)
    try:
        tree = environment.parse(text)
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            message = "a prompt cannot include, import or extend templates; use {file: PATH} in the suite instead"
            raise PromptError(f"line {node.lineno} of {where}: {message}")
        return environment.from_string(guard_tree(tree, environment))
    except jinja2.TemplateSyntaxError as wrong:
        raise PromptError(f"line {wrong.lineno} of {where}: {_syntax_problem(wrong.message or '', text)}") from None
    except PromptError:
        raise
    except Exception as crash:  # nesting or numbers that Python cannot compile raise errors of many kinds
        raise PromptError(f"{where} cannot be compiled: {type(crash).__name__}: {crash}") from crash


def _syntax_problem(message: str, text: str) -> str:
    if "expected token 'end of print statement'" in message:
        return f"{message}; write a column whose name is not a single word as metadata['the name']"
    if "Missing end of comment tag" in message:
        return "{# begins a comment that does not end; write {{ '{#' }} for the characters themselves"
    if match := UNKNOWN_FUNCTION.match(message):
        known = environment_for(value_text).filters if match["kind"] == "filter" else environment_for(value_text).tests
        return message.rstrip(".") + nearest(match["name"], map(str, known))
    sign = next((mark for mark in TEMPLATE_MARKS if mark in text), "{{")
    literal = f"write {{{{ '{sign}' }}}} or {{% raw %}}…{{% endraw %}} for the characters themselves"
    return f"{message.rstrip('.')}; {literal}"


def guard_tree(tree: nodes.Template, environment: jinja2.Environment) -> nodes.Template:
    """The template with a limit on the steps of its loops and on texts it joins, and `self` as the column of that name."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    sets_self = any(node.name == "self" and node.ctx != "load" for node in tree.find_all(nodes.Name))
    keeps_self = sets_self or tree.find(nodes.Block) is not None  # where `self.title()` is a block

    def call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
        return nodes.Call(nodes.Name(name, "load"), arguments, [], None, None)

    def is_constant(node: nodes.Expr) -> bool:
        computed = (nodes.Name, nodes.Call, nodes.Filter, nodes.BinExpr, nodes.Getattr, nodes.Getitem)
        return next(node.find_all(computed), None) is None

    class Guard(NodeTransformer):
        in_literal = False  # the check of a list covers the lists in it

        def visit_For(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(call(STEP, [])))
            return node

        visit_Macro = visit_CallBlock = visit_For  # noqa: N815

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            return call(CONCATENATE, node.nodes)

        def visit_List(self, node: nodes.List | nodes.Dict | nodes.Tuple) -> nodes.Node:  # noqa: N802
            if is_constant(node) or getattr(node, "ctx", "load") != "load":
                return node
            outermost, self.in_literal = not self.in_literal, True
            self.generic_visit(node)
            self.in_literal = not outermost
            return call(COLLECT, [node]) if outermost else node

        visit_Dict = visit_Tuple = visit_List  # noqa: N815

        def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
            if node.name == "self" and node.ctx == "load" and not keeps_self:
                return nodes.Name(SELF, "load")
            return node

    guarded: nodes.Template = Guard().visit(tree)
    for node in guarded.find_all(nodes.Node):
        node.lineno = node.lineno or 1
    guarded.set_environment(environment)
    return guarded


@dataclass(slots=True)
class _JinjaRenderer:
    """Renders a compiled template. `literals` are names in it that are values of Jinja2.

    A template that exceeded a limit for a few samples is not rendered again: every sample would take as long.
    """

    literals: Sequence[str]
    template: jinja2.Template
    limits: Limits
    exceeded: list[str] = field(default_factory=list)

    def __call__(self, context: dict[str, Any]) -> str:
        for name in self.literals:
            if name in context:
                message = f"{name!r} is a value in templates, not the column of that name"
                raise PromptError(f"{message}; write metadata[{name!r}]")
        if len(self.exceeded) >= MAX_EXCEEDED:
            raise PromptError(self.exceeded[-1])
        if "self" in context:
            context = {**context, SELF: context["self"]}
        effort.begin(self.limits)
        try:
            return _joined(self.template.generate(context))
        except Exception as crash:  # a template may raise anything
            problem = render_problem(crash, context)
            if isinstance(crash, OverflowError):
                self.exceeded.append(problem)
            raise PromptError(problem) from crash


class _Effort(threading.local):
    """What the template that this thread renders has done."""

    limits = STANDARD
    steps = 0
    ends_at = 0.0

    def begin(self, limits: Limits) -> None:
        self.limits, self.steps, self.ends_at = limits, 0, time.monotonic() + limits.template_s


effort = _Effort()


def _step() -> str:
    """Count one pass of a loop or call of a macro. Raises OverflowError beyond the limit."""
    effort.steps += 1
    if effort.steps > effort.limits.template_steps:
        raise OverflowError(f"its loops take more than {effort.limits.template_steps:,} steps")
    _check_time()
    return ""


def _check_time() -> None:
    if time.monotonic() > effort.ends_at:
        raise OverflowError(f"it takes more than {effort.limits.template_s:g} s")


def _joined(texts: Iterable[Any]) -> str:
    """The texts as one. Raises OverflowError before it is longer than a message may be."""
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text if isinstance(text, str) else str(text))
        size += len(parts[-1])
        _check_size(size)
    return "".join(parts)


def _check_size(size: float) -> None:
    if size > effort.limits.text:
        raise OverflowError(f"it makes a text of more than {effort.limits.text:,} characters")


def _weight(value: Any) -> int:
    """Characters and items in a value, those of nested ones included. Raises OverflowError beyond the limit."""
    if not isinstance(value, COLLECTIONS):
        return len(value) if isinstance(value, str | bytes) else 1
    items, characters, waiting = 0, 0, [value]
    while waiting:
        collection = waiting.pop()
        items += len(collection)
        if items > effort.limits.items:
            raise OverflowError(f"it makes a list or mapping of more than {effort.limits.items:,} items")
        parts = (*collection, *collection.values()) if isinstance(collection, dict) else collection
        waiting.extend(part for part in parts if isinstance(part, COLLECTIONS))
        characters += sum(len(part) for part in parts if isinstance(part, str | bytes))
        _check_size(characters)
    return items + characters


def _checked(value: Any) -> Any:
    """The value, if it is not huge. Raises OverflowError."""
    if isinstance(value, int) and value.bit_length() > effort.limits.bits:
        raise OverflowError("a number of too many digits")
    if isinstance(value, str | bytes | int | float):
        _check_size(len(value) if isinstance(value, str | bytes) else 0)
    elif isinstance(value, COLLECTIONS):
        _weight(value)
    return value


def counted_items(items: Iterator[Any]) -> Iterator[Any]:
    """The items, which are not huge together. Raises OverflowError."""
    size = 0
    for item in items:
        size += 1 + _weight(item)
        _check_size(size)
        _check_time()
        yield item


def _check_arguments(function: str, subject: Any, given: Sequence[Any]) -> None:
    """None, if a call makes nothing huge out of its arguments. Raises OverflowError."""
    _check_time()
    check = SIZES.get(function)
    if check is not None:
        _check_size(check(subject, given))
    if function == "format":  # its arguments are shown, and its widths cannot be computed
        return
    for item in given:
        if isinstance(item, int) and abs(item) > (MAX_DIGITS if function == "round" else effort.limits.text):
            raise OverflowError(
                f"{function} with the number {item:,}" if abs(item) < 10**12 else f"a number in {function}"
            )


def _replaced_size(subject: Any, given: Sequence[Any]) -> int:
    texts = [item for item in given if isinstance(item, str)]
    if isinstance(subject, str) and len(texts) > 1:
        return len(subject) + subject.count(texts[0]) * len(texts[1])
    return 0


def _joined_size(subject: Any, given: Sequence[Any]) -> int:
    several = subject if isinstance(subject, list | tuple) else given[0] if given else ()
    between = subject if isinstance(subject, str) else next((item for item in given if isinstance(item, str)), "")
    return len(between) * len(several) + _weight(several) if isinstance(several, list | tuple | str) else 0


def _formatted_size(subject: Any, given: Sequence[Any]) -> int:
    if not isinstance(subject, str):
        return 0
    text = subject.replace("%%", "").replace("{{", "").replace("}}", "")
    if COMPUTED_WIDTH.search(text):
        raise OverflowError("a format with a width that is computed")
    places = FORMAT_PLACE.findall(text)
    digits = [digit for place in places for digit in re.findall(r"\d+", place)]
    if any(len(digit) > 8 for digit in digits):
        raise OverflowError("a format with a width of millions")
    return len(subject) + sum(map(int, digits)) + len(places) * max(map(_weight, given), default=0)


def _indented_size(subject: Any, given: Sequence[Any]) -> int:
    widths = [item if isinstance(item, int) else len(item) for item in given if isinstance(item, int | str)]
    text = subject if isinstance(subject, str) else ""
    return len(text) + (1 + text.count("\n") + text.count("\t")) * max(0, *widths, 0)


def _translated_size(subject: Any, given: Sequence[Any]) -> int:
    tables = [item for item in given if isinstance(item, dict)]
    return len(subject) * max((_weight(value) for table in tables for value in table.values()), default=1)


def _encoded_size(subject: Any, given: Sequence[Any]) -> int:
    if any(str(item).lower().replace("_", "-") not in ENCODINGS for item in given[:1]):
        raise OverflowError(f"encode takes {', '.join(sorted(ENCODINGS))}")
    return len(subject)


def _json_size(subject: Any, given: Sequence[Any]) -> int:
    indent = max((item for item in given if isinstance(item, int)), default=0)
    return _weight(subject) * (1 + indent) if indent else 0


def _summed_size(subject: Any, given: Sequence[Any]) -> int:
    if any(isinstance(item, COLLECTIONS) for item in given):
        raise OverflowError("sum takes numbers; join lists with +")
    return 0


def _batched_size(subject: Any, given: Sequence[Any]) -> int:
    number = max((item for item in given if isinstance(item, int)), default=0)
    return number if number <= effort.limits.items else effort.limits.text + 1


def _slow_size(subject: Any, given: Sequence[Any]) -> int:
    return SLOWNESS * _weight(subject)


SIZES: Final[Mapping[str, Callable[[Any, Sequence[Any]], int]]] = {
    "replace": _replaced_size, "join": _joined_size, "format": _formatted_size, "indent": _indented_size,
    "expandtabs": _indented_size, "translate": _translated_size, "encode": _encoded_size, "tojson": _json_size,
    "sum": _summed_size, "batch": _batched_size, "slice": _batched_size,
    **dict.fromkeys(("pprint", "striptags", "title", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"), _slow_size),
}  # fmt: skip
"""What a filter or method makes of its subject and arguments, at most: only of those that make more than they are given.

Filters written in Python count as if they made a longer text, because of the time that they take.
"""


def _limited_operation(operator: str, left: Any, right: Any) -> None:
    """None, if an operator makes nothing huge. Raises OverflowError."""
    _check_time()
    if operator == "%" and isinstance(left, str | bytes):
        given = right if isinstance(right, tuple) else tuple(right.values()) if isinstance(right, dict) else (right,)
        _check_size(_formatted_size(left if isinstance(left, str) else left.decode("latin-1"), given))
    elif operator == "*":
        for several, times in ((left, right), (right, left)):
            if isinstance(several, str | bytes | list | tuple) and isinstance(times, int) and times > 0:
                if not isinstance(several, str | bytes) and _weight(several) * times > effort.limits.items:
                    raise OverflowError(f"it makes a list of more than {effort.limits.items:,} items or characters")
                _check_size(len(several) * times)
    if isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > effort.limits.bits:
            raise OverflowError("a number of too many digits")


def render_problem(crash: Exception, context: Context) -> str:
    value, name = getattr(crash, "value", UNDEFINED), getattr(crash, "undefined_name", None)
    if (
        index := getattr(name, "_undefined_name", None)
    ) is not None:  # the index of `choices[anwser]` is undefined itself
        return unknown_name(str(index), context)
    if isinstance(crash, FilterProblem):
        return f"the template failed: {crash}"
    if value is UNDEFINED and name is None:
        return f"the template failed: {type(crash).__name__}: {crash}"
    if value is UNDEFINED:
        return unknown_name("self" if name == SELF else str(name), context)
    if isinstance(value, Mapping):
        return f"the template uses {name!r} of a value that does not have it{name_hint(str(name), value)}"
    if isinstance(value, list | tuple) and isinstance(name, int):
        return f"the template uses item {name} of a list that has {len(value)}"
    if isinstance(value, list | tuple) and str(name).isdigit():
        return f"the template uses {name!r}, a text, as the index of a list; write `| int` after it"
    kind = "an empty value" if value is None else "text" if isinstance(value, str) else f"a {type(value).__name__}"
    return f"the template uses {name!r} of {kind}, which does not have it"


def unknown_name(name: str, context: Context) -> str:
    hint = f"; {ENVIRONMENT}" if name in ENVIRONMENT_NAMES else name_hint(name, context)
    return f"the template uses {name!r}, which this sample does not have{hint}"


@functools.cache
def environment_for(write: Callable[[Any], Any]) -> jinja2.Environment:
    """The environment for a way to write values."""
    return new_environment(write)


def new_environment(
    write: Callable[[Any], Any] | None, filters: Mapping[str, Callable[..., Any]] = EMPTY
) -> jinja2.Environment:
    """An environment with further filters: sandboxed, without a loader, strict about names, deterministic."""
    environment = _environment_class()(undefined=_undefined_class(), autoescape=False, finalize=write)
    del environment.filters["random"]  # a prompt must be the same each time: it is rendered twice, hashed and cached
    environment.filters.update({**FILTERS, **filters})
    environment.filters["tojson"] = _tojson  # Jinja2's own escapes < and & for HTML
    functions: Any
    for functions in (environment.filters, environment.tests):
        functions.update({name: _limited(name, function) for name, function in functions.items()})
    names = {name: environment.globals[name] for name in ("range", "namespace")}
    environment.globals = {**names, STEP: _step, CONCATENATE: lambda *texts: _joined(texts), COLLECT: _checked}
    return environment


def _undefined_class() -> type[jinja2.Undefined]:
    """The class of undefined names. Using one raises an error that suggests the nearest name."""
    import jinja2
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

    return NamedUndefined


def _environment_class() -> type[jinja2.Environment]:
    """The sandbox: keys of the data take precedence over methods, and nothing huge is made."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import missing

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})
        concat = staticmethod(_joined)

        def getattr(self, obj: Any, attribute: str) -> Any:
            """A key of the data takes precedence over a method: `row.values` is the column `values`."""
            value = obj.get(attribute, missing) if isinstance(obj, dict) else missing
            return super().getattr(obj, attribute) if value is missing else value

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _limited_operation(operator, left, right)
            return _checked(super().call_binop(context, operator, left, right))

        def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
            """`str.format` in the sandbox, with a limit on what it makes."""
            formatted = super().wrap_str_format(value)
            if formatted is None:
                return None

            def limited(*args: Any, **kwargs: Any) -> str:
                mapping = args[0].values() if value.__name__ == "format_map" and isinstance(args[0], dict) else ()
                _check_arguments("format", value.__self__, (*args, *kwargs.values(), *mapping))
                return str(formatted(*args, **kwargs))

            return limited

        def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            _check_time()
            subject = getattr(function, "__self__", None)
            if isinstance(subject, str | bytes | int):
                args = tuple(counted_items(item) if isinstance(item, Iterator) else item for item in args)
                _check_arguments(function.__name__, subject, (*args, *kwargs.values()))
            return _checked(super().call(context, function, *args, **kwargs))

    return Environment


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter or test, refusing what would make something huge."""
    place = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or the context comes before the value

    @functools.wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        subject = args[place] if len(args) > place else ""
        if isinstance(subject, Iterator):
            subject = counted_items(subject)
        _check_arguments(name, subject, (*args[place + 1 :], *kwargs.values()))
        return _checked(function(*args[:place], subject, *args[place + 1 :], **kwargs))

    return limited


def _tojson(value: Any, indent: int | None = None) -> str:
    import jinja2

    if isinstance(value, jinja2.Undefined):
        bool(value)  # raises the error that names it
    return exact_json(value, ensure_ascii=False, indent=indent)


def _normalized_lines(template: str) -> str:
    """The text with line ends as Jinja2 renders them."""
    return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
