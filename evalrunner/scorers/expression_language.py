"""Expressions over one answer: compiled once, sandboxed and bounded as templates are.

An expression is what stands between `{{` and `}}` in a template, such as `output|length < 400 and json.refund == false`.
No code runs. What is undefined because of what the model answered is a `Problem` of its kind, never an exception.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from evalrunner.errors import nearest
from evalrunner.formatting import one_line
from evalrunner.json_path import MISSING
from evalrunner.limits import STANDARD, Limits
from evalrunner.matching import Pattern, SearchFailed
from evalrunner.scorers.answer_json import parse_answer
from evalrunner.scorers.regex import compile_pattern
from evalrunner.scorers.text import NUMBER, TAIL_LENGTH, last_number
from evalrunner.templates import (
    MAX_EXCEEDED,
    TEMPLATE_MARKS,
    UNDEFINED,
    UNKNOWN_FUNCTION,
    effort,
    guard_tree,
    new_environment,
)

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes

MAX_LENGTH: Final = 4_000  # characters of an expression
MAX_NAMES: Final = 8  # listed in a message
MAX_SHOWN: Final = 60  # characters of a name or value from an answer in a message
MAX_NUMBERS: Final = 10_000
RESULT: Final = "expression_result"
PATTERN_FILTERS: Final = frozenset({"matches", "find", "find_all"})
GUARDS: Final = frozenset({"defined", "undefined", "default", "d"})
TEXT_METHODS: Final = frozenset(name for name in dir(str) if not name.startswith("_"))

ANSWER_NAMES: Final[Mapping[str, str]] = {
    "output": "the text of the answer, or what `extract` took out of it",
    "json": "the JSON of the output: the whole text, a fenced block, or the first object or list in the text",
    "latency": "seconds of the call",
    "cost": "US dollars of the call",
    "tokens": "output tokens",
    "input_tokens": "input tokens",
    "ended": "how the answer ended: stop, length, refused, filtered, empty or tool_calls",
    "tool_calls": "a list of calls, each with `name` and `arguments`",
    "reasoning": "what the model thought before the answer",
    "conversation": "a list of turns, each with `input` and `output`",
}
"""Names that come from the answer; they take precedence over columns."""
SAMPLE_NAMES: Final = ("input", "expected", "id", "metadata")
"""Names that come from the sample, beside its columns."""
FUNCTION_HINTS: Final = {"len": "length", "int": "int", "float": "float", "str": "string", "lower": "lower", "abs": "abs",
                         "round": "round", "sum": "sum", "min": "min", "max": "max", "sorted": "sort", "re": "matches",
                         "parseInt": "int", "parseFloat": "float", "Number": "number", "list": "list", "any": "select", "all": "reject"}  # fmt: skip
SYNTAX_HINTS: Final = (
    (re.compile(r"&&"), "write 'and' for &&"),
    (re.compile(r"\|\|"), "write 'or' for ||"),
    (re.compile(r"===|!=="), "write == or != for === and !=="),
    (re.compile(r"=>|\blambda\b"), "there are no functions; use filters such as select and map"),
    (re.compile(r"![^=]"), "write 'not' for !"),
    (re.compile(r"\?"), "write `a if condition else b` for the ? operator"),
    (re.compile(r"(?<![=<>!])=(?!=)"), "write == to compare"),
    (re.compile(r"\bfor\b"), "there are no loops; use filters such as select, map and sum"),
)
METHOD_HINTS: Final = {"length": "output|length", "includes": "'text' in output", "contains": "'text' in output",
                       "toLowerCase": "output|lower", "toUpperCase": "output|upper", "trim": "output|trim",
                       "startsWith": "output.startswith('text')", "endsWith": "output.endswith('text')",
                       "match": "output|matches('pattern')", "test": "output|matches('pattern')"}  # fmt: skip

Kind: TypeAlias = Literal["answer", "not_reported", "timeout", "limit", "suite"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an expression has no value: `answer`, because of what the model answered; `not_reported`, a number that nobody
    reported; `timeout`, a search that takes too long; `limit`, too much work; `suite`, certainly a mistake in the expression.
    """

    kind: Kind
    reason: str


@dataclass(slots=True)
class Expression:
    """A compiled expression. `names` are those that it uses, `optional` those that it asks about with `is defined`.

    One that exceeded a limit for a few samples is not evaluated again: every sample would take as long.
    """

    text: str
    names: frozenset[str]
    optional: frozenset[str]
    paths: tuple[tuple[str | int, ...], ...]
    is_bool: bool
    searches: bool
    template: jinja2.Template
    limits: Limits
    exceeded: list[str] = field(default_factory=list)

    @property
    def columns(self) -> frozenset[str]:
        """The names that must be columns of the dataset."""
        return self.names - ANSWER_NAMES.keys() - {*SAMPLE_NAMES}

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """A bool, a finite number, or a Problem. Names that `values` lacks are undefined."""
        if len(self.exceeded) >= MAX_EXCEEDED:
            return Problem("limit", self.exceeded[-1])
        effort.begin(self.limits)
        try:
            context = self.template.new_context(dict(values))
            for _ in self.template.root_render_func(context):
                pass
            return _checked_result(context.vars.get(RESULT))
        except Exception as crash:  # an expression may raise anything
            problem = _problem_of(crash)
            if problem.kind == "limit":
                self.exceeded.append(problem.reason)
            return problem


def compile_expression(text: str, limits: Limits = STANDARD) -> Expression:
    """The compiled expression, the same object for equal texts. Raises ValueError with what to write instead."""
    return _compile(text, limits)


@functools.lru_cache(maxsize=8192)
def _compile(text: str, limits: Limits) -> Expression:
    import jinja2
    from jinja2 import nodes
    from jinja2.parser import Parser

    _check_text(text)
    environment = _environment()
    effort.begin(limits)  # constant parts are evaluated while compiling
    try:
        parser = Parser(environment, text.strip(), state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            raise jinja2.TemplateSyntaxError(f"unexpected {parser.stream.current.value!r} after the expression", 1)
        tree = nodes.Template([nodes.Assign(nodes.Name(RESULT, "store"), expression, lineno=1)], lineno=1)
        tree.set_environment(environment)
        names, optional, paths = _names_in(expression)
        searches = _check_nodes(expression, limits)
        template = environment.from_string(guard_tree(tree, environment))
    except jinja2.TemplateSyntaxError as wrong:
        raise ValueError(_syntax_problem(wrong.message or "", text)) from None
    except ValueError:
        raise
    except Exception as crash:  # nesting or numbers that Python cannot compile raise errors of many kinds
        raise ValueError(
            f"the expression cannot be compiled: {type(crash).__name__}: {one_line(str(crash), MAX_SHOWN)}"
        ) from crash
    return Expression(text, names, optional, paths, _is_bool(expression), searches, template, limits)


def _check_text(text: str) -> None:
    """Raises ValueError for a text that is no expression at first sight."""
    if not text.strip():
        raise ValueError("the expression is empty; write a condition, such as output|length < 400")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the expression has {len(text):,} characters; at most {MAX_LENGTH:,} are allowed")
    for mark in TEMPLATE_MARKS:
        if mark in text:
            inner = text.strip().removeprefix("{{").removesuffix("}}").strip()
            example = f": {one_line(inner, MAX_SHOWN)}" if mark == "{{" and text.strip().startswith("{{") else ""
            raise ValueError(
                f"an expression is not a template, so it has no {mark}; write names without braces{example}"
            )


def _syntax_problem(message: str, text: str) -> str:
    if match := UNKNOWN_FUNCTION.match(message):
        environment = _environment()
        known = environment.filters if match["kind"] == "filter" else environment.tests
        return f"unknown {match['kind']} {match['name']!r}{nearest(match['name'], map(str, known)) or '; filters are listed on the page Expressions'}"
    outside = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
    hint = next((f"; {advice}" for pattern, advice in SYNTAX_HINTS if pattern.search(outside)), "")
    return f"the expression cannot be read: {one_line(message.rstrip('.'), 200)}{hint}"


def _names_in(expression: nodes.Expr) -> tuple[frozenset[str], frozenset[str], tuple[tuple[str | int, ...], ...]]:
    """The names of an expression, those that it may lack, and the constant paths into them, such as `("meta", "a", 0)`."""
    from jinja2 import nodes

    names = {node.name for node in _nodes(expression, nodes.Name)}
    guards = [
        node.node for kind in (nodes.Test, nodes.Filter) for node in _nodes(expression, kind) if node.name in GUARDS
    ]
    optional = {path[0] for node in guards if node is not None and (path := _path(node))}
    paths = {
        path for kind in (nodes.Getattr, nodes.Getitem) for node in _nodes(expression, kind) if (path := _path(node))
    }
    return frozenset(names), frozenset(map(str, optional)), tuple(sorted(paths, key=str))


def _nodes(expression: nodes.Expr, kind: Any) -> Iterator[Any]:
    if isinstance(expression, kind):
        yield expression
    yield from expression.find_all(kind)


def _path(node: nodes.Node) -> tuple[str | int, ...] | None:
    """The name and the constant keys behind it, None for anything else."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        inner = _path(node.node)
        return None if inner is None else (*inner, node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str | int):
        inner = _path(node.node)
        return None if inner is None else (*inner, node.arg.value)
    return None


def _check_nodes(expression: nodes.Expr, limits: Limits) -> bool:
    """Whether the expression searches with a pattern. Raises ValueError for calls, methods and patterns that cannot work."""
    from jinja2 import nodes

    called = {id(node.node) for node in _nodes(expression, nodes.Call)}
    for node in _nodes(expression, nodes.Call):
        if isinstance(node.node, nodes.Name):
            name = node.node.name
            hint = (
                f"; use the filter: output|{FUNCTION_HINTS[name]}"
                if name in FUNCTION_HINTS
                else nearest(name, _environment().filters)
            )
            raise ValueError(  # noqa: TRY004  a mistake in the suite
                f"unknown function {name!r}{hint or '; expressions have filters, such as output|length'}"
            )
    for node in _nodes(expression, nodes.Getattr):
        path = _path(node)
        if path is None or len(path) != 2 or path[0] not in ("output", "reasoning", "ended"):
            continue
        if node.attr in METHOD_HINTS and node.attr not in TEXT_METHODS:
            raise ValueError(
                f"{path[0]} has no {node.attr!r}; write {METHOD_HINTS[node.attr].replace('output', str(path[0]))}"
            )
        if node.attr not in TEXT_METHODS:
            raise ValueError(f"{path[0]} is text, which has no {node.attr!r}{nearest(node.attr, TEXT_METHODS)}")
        if id(node) not in called:
            raise ValueError(f"{path[0]}.{node.attr} is a function; call it: {path[0]}.{node.attr}()")
    searches = False
    for node in _nodes(expression, nodes.Filter):
        if node.name in PATTERN_FILTERS:
            searches = True
            _check_pattern(node, limits)
    return searches


def _check_pattern(node: nodes.Filter, limits: Limits) -> None:
    """Raises ValueError if the pattern of a filter is no constant text, or is wrong or slow."""
    from jinja2 import nodes

    pattern = node.args[0] if node.args else next((item.value for item in node.kwargs if item.key == "pattern"), None)
    if not isinstance(pattern, nodes.Const) or not isinstance(pattern.value, str):
        raise ValueError(  # noqa: TRY004  a mistake in the suite
            f"the filter {node.name} needs its pattern as a text in quotes: output|{node.name}('[0-9]+')"
        )
    ignore = next((item.value for item in node.kwargs if item.key == "ignore_case"), None)
    if ignore is not None and not isinstance(ignore, nodes.Const):
        raise ValueError(f"ignore_case of the filter {node.name} should be true or false")
    _pattern(pattern.value, bool(ignore is not None and ignore.value), limits.match_s)


@functools.lru_cache(maxsize=4096)
def _pattern(pattern: str, ignore_case: bool, limit_s: float) -> Pattern:
    return compile_pattern(pattern, re.IGNORECASE * ignore_case, "pattern", limit_s, None)


BOOL_METHODS: Final = frozenset(name for name in TEXT_METHODS if name.startswith("is")) | {"startswith", "endswith"}


def _is_bool(node: nodes.Node) -> bool:
    """Whether an expression gives true or false, whatever its values are."""
    from jinja2 import nodes

    if isinstance(node, nodes.Compare | nodes.Not | nodes.Test):
        return True
    if isinstance(node, nodes.And | nodes.Or):
        return _is_bool(node.left) and _is_bool(node.right)
    if isinstance(node, nodes.CondExpr):
        return node.expr2 is not None and _is_bool(node.expr1) and _is_bool(node.expr2)
    if isinstance(node, nodes.Filter):
        return node.name == "matches"
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) and node.node.attr in BOOL_METHODS
    return isinstance(node, nodes.Const) and isinstance(node.value, bool)


def _checked_result(value: Any) -> Any:
    """A bool or a number as it is; what was undefined raises, and anything else is a Problem."""
    import jinja2

    if isinstance(value, jinja2.Undefined):
        bool(value)  # raises the error that says why
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if number - number == 0:  # neither infinite nor NaN
            return number
        return Problem("answer", "the expression gives a number that is not finite")
    if callable(value):
        return Problem("suite", "the expression gives a function; call it")
    kind = (
        "null"
        if value is None
        else f"the text {one_line(value, MAX_SHOWN)!r}"
        if isinstance(value, str)
        else f"a {type(value).__name__}"
    )
    return Problem("suite", f"the expression gives {kind}, not true, false or a number")


class NotReported(Exception):
    """A number of an answer that nobody reported was used."""


class NothingThere(Exception):
    """What a filter or a name looks for is not in the answer."""


def _problem_of(crash: Exception) -> Problem:
    """Why an evaluation failed."""
    import jinja2
    from jinja2.exceptions import SecurityError

    if isinstance(crash, NotReported):
        return Problem("not_reported", str(crash))
    if isinstance(crash, NothingThere):
        return Problem("answer", str(crash))
    if isinstance(crash, SearchFailed):
        return Problem("timeout", str(crash))
    if isinstance(crash, SecurityError):
        return Problem("suite", f"the expression uses what no expression may: {one_line(str(crash), 200)}")
    if isinstance(crash, OverflowError) and crash.args and isinstance(crash.args[0], str):
        return Problem("limit", f"the expression is too expensive: {crash}")
    if isinstance(crash, MemoryError | RecursionError):
        return Problem("limit", f"the expression is too expensive: {type(crash).__name__}")
    if isinstance(crash, jinja2.UndefinedError):
        return _undefined_problem(crash)
    message = one_line(str(crash), 200) or type(crash).__name__
    return Problem(
        "suite" if isinstance(crash, TypeError) else "answer", f"the expression cannot be computed: {message}"
    )


def _undefined_problem(crash: Exception) -> Problem:
    value, name = getattr(crash, "value", UNDEFINED), getattr(crash, "undefined_name", None)
    shown = one_line(str(name), MAX_SHOWN)
    if value is UNDEFINED:
        return Problem("answer", str(crash) if name is None else f"{shown!r} is not defined")
    if isinstance(value, Mapping):
        keys = [one_line(str(key), MAX_SHOWN) for key in list(value)[:MAX_NAMES]]
        more = ", …" if len(value) > MAX_NAMES else ""
        return Problem("answer", f"no {shown!r} in the object; it has {', '.join(keys) + more if keys else 'no keys'}")
    if isinstance(value, list | tuple) and isinstance(name, int):
        return Problem("answer", f"no item {name} in a list of {len(value)}")
    kind = "null" if value is None else "text" if isinstance(value, str) else f"a {type(value).__name__}"
    certain = isinstance(value, str) and isinstance(name, str)
    return Problem("suite" if certain else "answer", f"no {shown!r} in {kind}")


@functools.cache
def _environment() -> jinja2.Environment:
    """The environment of expressions: that of templates with filters for answers."""
    return new_environment(None, _filters())


def undefined(reason: str, name: str, *, reported: bool = True) -> Any:
    """A value that is undefined for a reason: asking with `is defined` is fine, using it is a Problem."""
    return _environment().undefined(hint=reason, name=name, exc=NothingThere if reported else NotReported)  # type: ignore[arg-type]


def _filters() -> Mapping[str, Callable[..., Any]]:
    return {
        "matches": _matches, "find": _find, "find_all": _find_all, "json": _json, "words": _words, "lines": _lines,
        "number": _number, "numbers": _numbers,
    }  # fmt: skip


def _text(value: Any, name: str) -> str:
    """The value if it is text. Raises TypeError, or the error of a value that is undefined."""
    import jinja2

    if isinstance(value, str):
        return value
    if isinstance(value, jinja2.Undefined):
        bool(value)
    raise TypeError(f"the filter {name} takes text, not {'null' if value is None else 'a ' + type(value).__name__}")


def _matches(value: Any, pattern: str, *, ignore_case: bool = False) -> bool:
    """Whether a pattern is found."""
    return _pattern(pattern, ignore_case, effort.limits.match_s).find(_text(value, "matches")) is not None


def _find(value: Any, pattern: str, *, ignore_case: bool = False, last: bool = False) -> Any:
    """The first or last match: its group 1, or all of it where there is no group."""
    compiled = _pattern(pattern, ignore_case, effort.limits.match_s)
    match = compiled.find(_text(value, "find"), min(1, compiled.compiled.groups), last=last)
    if match is None or match[0] is None:
        return undefined(f"nothing matches {one_line(pattern, MAX_SHOWN)!r}", "find")
    return match[0]


def _find_all(value: Any, pattern: str, *, ignore_case: bool = False) -> list[str]:
    """Every match, as by `find`."""
    compiled = _pattern(pattern, ignore_case, effort.limits.match_s)
    return compiled.find_all(_text(value, "find_all"), min(1, compiled.compiled.groups))


def _json(value: Any, *, strict: bool = False) -> Any:
    """The JSON value of a text, read as `json` is; with `strict` only if the whole text is JSON."""
    text = _text(value, "json")
    if not strict:
        return answer_json(text)
    try:
        return json.loads(text.strip(" \t\n\r"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return undefined("the text is not JSON", "json")


def _refuse_constant(name: str) -> Any:
    """Raises ValueError for NaN and Infinity, which are no JSON."""
    raise ValueError(name)


def answer_json(text: str) -> Any:
    """The JSON of an output, undefined where there is none."""
    value = parse_answer(text)
    return undefined("the output has no JSON", "json") if value is MISSING else value


def _words(value: Any) -> list[str]:
    """The words of a text: what whitespace separates."""
    return _text(value, "words").split()


def _lines(value: Any) -> list[str]:
    """The lines of a text that are not blank, without whitespace at their ends."""
    return [line.strip() for line in _text(value, "lines").splitlines() if line.strip()]


def _number(value: Any) -> Any:
    """The last number of a text, as `numeric_match` reads it; a number as it is."""
    if isinstance(value, int | float):
        return value
    number = last_number(_text(value, "number"))
    return undefined("no number in the text", "number") if number is None else _plain_number(number)


def _numbers(value: Any) -> list[float | int]:
    """Every number of the last 20,000 characters of a text."""
    text = _text(value, "numbers")[-TAIL_LENGTH:]
    every: list[float | int] = []
    for match in NUMBER.finditer(text):
        number = last_number(text[max(0, match.start() - 1) : match.end()])
        if number is not None and len(every) < MAX_NUMBERS:
            every.append(_plain_number(number))
    return every


def _plain_number(number: Any) -> float | int:
    """A Decimal as an int where it is one of up to 15 digits, else as a float."""
    value = float(number)
    return int(value) if abs(value) < 1e15 and value == int(value) else value
