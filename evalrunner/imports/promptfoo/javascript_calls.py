"""Calls of JavaScript's methods and functions as filters of expressions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from evalrunner.imports.promptfoo.javascript_syntax import Node, Unreadable
from evalrunner.imports.promptfoo.javascript_values import (
    ADD,
    AND,
    COMPARE,
    POSTFIX,
    TRUE,
    Value,
    boolean,
    number,
    quoted,
    text,
)  # fmt: skip

if TYPE_CHECKING:
    from evalrunner.imports.promptfoo.javascript import Translator

FILTERS: Final = {"toLowerCase": "lower", "toUpperCase": "upper", "trim": "trim",
                  "toLocaleLowerCase": "lower", "toLocaleUpperCase": "upper"}  # fmt: skip
PARSE_INT: Final = r"^\s*([-+]?[0-9]+)"
PARSE_FLOAT: Final = r"^\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
BLANK_TESTS: Final = ("trim", "trim().length", "trim().length > 0", "trim() !== ''")


def called(translator: Translator, node: Node) -> Value:
    """The value of a call. Raises Unreadable for one without an equal."""
    function, arguments = node.parts[0], node.parts[1:]
    if function.kind == "name":
        return _function(translator, function.value, arguments)
    if function.kind not in ("member", "optional_member"):
        raise Unreadable("a call of such a value")
    base, name = function.parts[0], function.value
    if base.kind == "name" and base.value in ("JSON", "Object", "Array", "Math", "Number"):
        return _static(translator, base.value, name, arguments)
    if base.kind == "regex" and name == "test" and len(arguments) == 1:
        return _matching(translator, translator.value(arguments[0]), base)
    subject = translator.value(base)
    if function.kind == "optional_member" and subject.kind != "text":
        raise Unreadable("an optional call")
    if (name == "toString" and subject.kind == "text") or (name == "valueOf" and subject.kind == "text"):
        return subject
    if name in FILTERS and not arguments:
        return text(f"{_text(subject).at(POSTFIX)}|{FILTERS[name]}", POSTFIX)
    if name in ("includes", "startsWith", "endsWith") and len(arguments) == 1:
        return _part(translator, subject, name, arguments[0])
    if name == "match" and len(arguments) == 1 and arguments[0].kind == "regex":
        return _match(translator, subject, arguments[0])
    if name == "split" and len(arguments) == 1:
        return _split(translator, subject, arguments[0])
    if name == "filter" and len(arguments) == 1:
        return _filter(subject, arguments[0])
    if name in ("join", "sort") and subject.kind == "list" and subject.item == "text" and len(arguments) <= 1:
        return _list_call(translator, subject, name, arguments)
    if name in ("some", "every") and len(arguments) == 1 and subject.kind == "any":
        return _every(translator, subject, name, arguments[0])
    raise Unreadable(f"the method {name!r}")


def _text(value: Value) -> Value:
    if value.kind not in ("text", "any"):
        raise Unreadable("a method of texts on another value")
    return value


def _function(translator: Translator, name: str, arguments: tuple[Node, ...]) -> Value:
    if name == "Boolean" and len(arguments) == 1:
        return translator.condition(arguments[0])
    if name in ("isNaN", "Number", "parseInt", "parseFloat", "String") and arguments:
        base = arguments[1:] == (Node("number", 10),) and name == "parseInt"
        if len(arguments) != 1 and not base:
            raise Unreadable(f"{name} with such arguments")
        if name == "isNaN":
            return _not_a_number(translator, arguments[0])
        value = translator.value(arguments[0])
        if name == "String" and value.kind == "text":
            return value
        if value.kind == "number" and name in ("Number", "parseFloat"):
            return value
        if value.kind == "text" and name in ("parseInt", "parseFloat"):
            if not translator.certain:
                raise Unreadable(f"{name} in a part that may be negated")
            pattern = PARSE_INT if name == "parseInt" else PARSE_FLOAT
            cast = "int" if name == "parseInt" else "float"
            return number(f"{value.at(POSTFIX)}|find({quoted(pattern)})|{cast}", POSTFIX, integer=cast == "int")
    raise Unreadable(f"the function {name!r}")


def _not_a_number(translator: Translator, node: Node) -> Value:
    if node.kind == "call" and node.parts[0].kind == "name" and node.parts[0].value in ("parseInt", "parseFloat"):
        value = translator.value(node.parts[1])
        if value.kind == "text":
            pattern = PARSE_INT if node.parts[0].value == "parseInt" else PARSE_FLOAT
            return boolean(f"not {value.at(POSTFIX)}|matches({quoted(pattern)})", 3)
    raise Unreadable("isNaN of such a value")


def _static(translator: Translator, base: str, name: str, arguments: tuple[Node, ...]) -> Value:
    values = [translator.value(argument) for argument in arguments]
    if (base, name) == ("JSON", "parse") and len(values) == 1 and values[0].kind == "text":
        return Value(f"({values[0].at(POSTFIX)}|json(strict=true))", "any", POSTFIX)
    if base == "Object" and name == "keys" and len(values) == 1 and values[0].kind == "any":
        return Value(f"{values[0].at(POSTFIX)}|list", "list", POSTFIX, item="text")
    if (base, name) == ("Array", "isArray") and len(values) == 1:
        if values[0].kind == "any":
            code = values[0].at(POSTFIX)
            return boolean(f"{code} is sequence and {code} is not string and {code} is not mapping", AND)
        if values[0].kind == "list" and not values[0].absent:
            return TRUE
    if base == "Math" and values and all(value.kind == "number" and not value.absent for value in values):
        return _math(name, values)
    raise Unreadable(f"{base}.{name} with such arguments")


def _math(name: str, values: list[Value]) -> Value:
    first = values[0].at(POSTFIX)
    if name == "abs" and len(values) == 1:
        return number(f"{first}|abs", POSTFIX, integer=values[0].integer)
    if name in ("min", "max"):
        return number(f"[{', '.join(value.code for value in values)}]|{name}", POSTFIX)
    if name in ("floor", "ceil") and len(values) == 1:
        return number(f"{first}|round(0, '{name}')", POSTFIX)
    if name == "round" and len(values) == 1:
        return number(f"({values[0].at(ADD)} + 0.5)|round(0, 'floor')", POSTFIX)
    raise Unreadable(f"Math.{name}")


def _part(translator: Translator, subject: Value, name: str, node: Node) -> Value:
    if node.kind == "regex":
        raise Unreadable(f"a regular expression in {name}")
    part = translator.value(node)
    if name == "includes":
        if subject.kind == "list" and subject.absent:
            raise Unreadable("a list that may be missing")
        if subject.kind == "text" and part.kind not in ("text", "any"):
            raise Unreadable("a part that is no text")
        if subject.kind not in ("text", "list", "any"):
            raise Unreadable("includes of such a value")
        return boolean(f"{part.at(ADD)} in {subject.at(ADD)}", COMPARE)
    if subject.kind not in ("text", "any") or part.kind not in ("text", "any"):
        raise Unreadable(f"{name} with such values")
    return boolean(f"{subject.at(POSTFIX) if '|' not in subject.code else '(' + subject.code + ')'}"
                   f".{name.lower()}({part.code})", POSTFIX)  # fmt: skip


def _matching(translator: Translator, subject: Value, regex: Node) -> Value:
    pattern, ignore_case, _ = translator.pattern(regex)
    if subject.kind not in ("text", "any"):
        raise Unreadable("a pattern for a value that is no text")
    code = f"{subject.at(POSTFIX)}|matches({quoted(pattern)}{', ignore_case=true' * ignore_case})"
    return boolean(code, POSTFIX)


def _match(translator: Translator, subject: Value, regex: Node) -> Value:
    found = _matching(translator, subject, regex)
    pattern, _, flags = translator.pattern(regex)
    if "g" in flags:
        return Value(found.code.replace("|matches(", "|find_all(", 1), "list", POSTFIX, absent=True, item="text")
    return replace(found, kind="match", pattern=pattern)


def _split(translator: Translator, subject: Value, node: Node) -> Value:
    if subject.kind != "text":
        raise Unreadable("split of a value that is no text")
    if node.kind == "text" and node.value:
        base = subject.at(POSTFIX) if "|" not in subject.code else f"({subject.code})"
        return Value(f"{base}.split({quoted(node.value)})", "list", POSTFIX, item="text")
    if node.kind == "regex":
        pattern, ignore_case, _ = translator.pattern(node)
        if "(" in pattern.removeprefix("(?a)"):
            raise Unreadable("split with such a pattern")
        if subject.code.endswith("|trim") and node.value[0] == r"\s+":
            return Value(f"({subject.code.removesuffix('|trim')}|words or [''])", "list", POSTFIX, item="text")
        code = f"{subject.at(POSTFIX)}|find_all({quoted(pattern)}{', ignore_case=true' * ignore_case})"
        return Value(code, "list", POSTFIX, item="text", pieces=True, pattern=node.value[0])
    raise Unreadable("split with such a separator")


def _filter(subject: Value, function: Node) -> Value:
    """The list without blank items; no other filter has an equal."""
    if function == Node("name", "Boolean") and subject.kind == "list" and subject.item == "text":
        if subject.code.endswith("|words or [''])"):
            return replace(subject, code=subject.code[1:].removesuffix(" or [''])"))
        if subject.pieces and subject.pattern == r"\s+":
            base = subject.code[: subject.code.rindex("|find_all(")]
            return Value(f"{base}|words", "list", POSTFIX, item="text")
        if not subject.pieces:
            return Value(f"{subject.at(POSTFIX)}|select|list", "list", POSTFIX, item="text")
    raise Unreadable("a filter with such a function")


def _list_call(translator: Translator, subject: Value, name: str, arguments: tuple[Node, ...]) -> Value:
    if subject.pieces or subject.absent:
        raise Unreadable(f"{name} of such a list")
    if name == "sort":
        if arguments:
            raise Unreadable("a sort with a function")
        return replace(subject, code=f"{subject.code}|sort(case_sensitive=true)")
    separator = translator.value(arguments[0]) if arguments else text("','", POSTFIX)
    return text(f"{subject.at(POSTFIX)}|join({separator.code})", POSTFIX)


def _every(translator: Translator, subject: Value, name: str, function: Node) -> Value:
    """A test of the items of a list from the answer."""
    if function.kind != "arrow" or len(function.value) != 1:
        raise Unreadable("a loop with such a function")
    item, body = function.value[0], function.parts[0]
    code, test = subject.at(POSTFIX), _test(translator, item, body)
    if name == "some":
        return boolean(f"{code}|select{test}|list|length > 0", COMPARE)
    return boolean(f"{code}|reject{test}|list|length == 0", COMPARE)


def _test(translator: Translator, item: str, body: Node) -> str:
    """The filter's arguments for a comparison of an item, or of one of its keys, with a constant."""
    tests = {"===": "eq", "!==": "ne", ">": "gt", "<": "lt", ">=": "ge", "<=": "le"}
    if body.kind == "binary" and body.value in tests and body.parts[1].kind in ("text", "number"):
        left, right = body.parts
        if right.kind == "number" and body.value in ("===", "!=="):
            raise Unreadable("a loop with such a comparison")
        constant = translator.value(right).code
        if left.kind == "member" and left.parts[0] == Node("name", item) and left.value != "length":
            if not translator.certain:
                raise Unreadable("a loop in a part that may be negated")
            translator.notes.append("an item without the key fails the check")
            return f"attr({quoted(left.value)}, '{tests[body.value]}', {constant})"
        if left == Node("name", item):
            return f"('{tests[body.value]}', {constant})"
    if (
        body.kind == "call" and body.parts[0].kind == "member" and body.parts[0].value == "includes"
        and body.parts[1:] == (Node("name", item),)
    ):  # fmt: skip
        container = translator.value(body.parts[0].parts[0])
        if container.kind == "text":
            return f"('in', {container.code})"
    raise Unreadable("a loop with such a function")
