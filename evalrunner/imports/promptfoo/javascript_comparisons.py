"""Comparisons of JavaScript as comparisons of expressions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from evalrunner.imports.promptfoo.javascript_syntax import Node, Unreadable
from evalrunner.imports.promptfoo.javascript_values import (
    ADD,
    AND,
    COMPARE,
    FALSE,
    NOT,
    POSTFIX,
    TRUE,
    Value,
    boolean,
    quoted,
)  # fmt: skip

if TYPE_CHECKING:
    from evalrunner.imports.promptfoo.javascript import Translator

FLIPPED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
TYPES: Final = {
    "string": "{0} is string",
    "number": "({0} is number and {0} is not boolean)",
    "boolean": "{0} is boolean",
    "undefined": "{0} is not defined",
    "object": "({0} is mapping or {0} is none or ({0} is sequence and {0} is not string))",
}
STATIC: Final = {"text": "string", "number": "number", "bool": "boolean"}
NUMERIC: Final = re.compile(r"\s*(?:[-+]?[\d.].*)?\Z", re.DOTALL)


def compared(translator: Translator, node: Node) -> Value:
    """The value of a comparison. Raises Unreadable where the languages compare in different ways."""
    left, right = node.parts
    sign = node.value
    for typed, other in ((left, right), (right, left)):
        if typed.kind == "unary" and typed.value == "typeof" and other.kind == "text":
            return _typed(translator.value(typed.parts[0]), other.value, sign)
    if sign == "in":
        container = translator.value(right)
        if left.kind != "text" or container.kind != "any":
            raise Unreadable("in with such values")
        return boolean(f"{quoted(left.value)} in {container.at(COMPARE + 1)}", COMPARE)
    if (found := _position(translator, left, sign, right)) is not None:
        return found
    one, two = translator.value(left), translator.value(right)
    if {one.kind, two.kind} == {"any", "nothing"}:
        translator.notes.append("a key of null counts as missing")
    if sign in FLIPPED:
        return _ordered(translator, one, sign, two)
    equal = _equal(translator, one, two, loose=len(sign) == 2)
    if sign.startswith("!"):
        if one.absent or two.absent or "any" in (one.kind, two.kind):
            translator.notes.append("a key of null counts as missing")
            equal = _equal(translator.uncertain(), one, two, loose=len(sign) == 2)
        if equal.code in ("true", "false"):
            return FALSE if equal.code == "true" else TRUE
        simple = re.fullmatch(r"(.+) == (.+)", equal.code)
        if simple and equal.level == COMPARE and equal.code.count("==") == 1:
            return boolean(f"{simple[1]} != {simple[2]}", COMPARE)
        return boolean(f"not {equal.at(NOT)}", NOT)
    return equal


def _typed(value: Value, kind: str, sign: str) -> Value:
    if sign not in ("===", "==", "!==", "!="):
        raise Unreadable("an order of types")
    if value.kind in STATIC:
        result = TRUE if STATIC[value.kind] == kind else FALSE
    elif value.kind == "any" and kind in TYPES:
        code = TYPES[kind].format(value.at(POSTFIX))
        result = boolean(code, POSTFIX if code.startswith("(") else COMPARE)
    else:
        raise Unreadable(f"typeof compared with {kind!r}")
    if sign.startswith("!"):
        if result in (TRUE, FALSE):
            return FALSE if result == TRUE else TRUE
        return boolean(f"not {result.at(NOT)}", NOT)
    return result


def _position(translator: Translator, left: Node, sign: str, right: Node) -> Value | None:
    """`text.indexOf(part) !== -1` and its like; None for another comparison."""
    if left.kind != "call" or left.parts[0].kind != "member" or left.parts[0].value not in ("indexOf", "search"):
        return None
    minus = right == Node("unary", "-", (Node("number", 1),))
    zero = right == Node("number", 0)
    holds = (minus and sign in ("!==", "!=", ">")) or (zero and sign == ">=")
    lacks = (minus and sign in ("===", "==")) or (zero and sign == "<")
    if not holds and not lacks:
        return None
    name = "includes" if left.parts[0].value == "indexOf" else "match"
    call = Node("call", None, (Node("member", name, left.parts[0].parts), *left.parts[1:]))
    found = translator.uncertain().condition(call) if lacks else translator.condition(call)
    return boolean(f"not {found.at(NOT)}", NOT) if lacks else found


def _ordered(translator: Translator, one: Value, sign: str, two: Value) -> Value:
    if one.absent or two.absent:
        value, bound, direction = (one, two, sign) if one.absent else (two, one, FLIPPED[sign])
        limit = bound.constant
        none_passes = limit is None or direction in ("<", "<=") or (limit <= 0 if direction == ">=" else limit < 0)
        if none_passes or not translator.certain or value.kind != "number":
            raise Unreadable("the length of a match that may be missing")
    if one.kind == two.kind and one.kind in ("number", "text"):
        return boolean(f"{one.at(ADD)} {sign} {two.at(ADD)}", COMPARE)
    if {one.kind, two.kind} == {"any", "number"}:
        unknown = one if one.kind == "any" else two
        translator.notes.append("a text or null is not compared as a number")
        order = f"{one.at(ADD)} {sign} {two.at(ADD)}"
        if translator.certain:
            return boolean(order, COMPARE)
        return boolean(f"{unknown.at(POSTFIX)} is number and {order}", AND)
    raise Unreadable(f"{sign} between such values")


def _equal(translator: Translator, one: Value, two: Value, *, loose: bool) -> Value:
    if "nothing" in (one.kind, two.kind):
        value, nothing = (two, one) if one.kind == "nothing" else (one, two)
        return _missing(value, nothing, loose=loose)
    if one.absent or two.absent:
        bound = two.constant if one.absent else one.constant
        if not isinstance(bound, int) or bound == 0 or not translator.certain:
            raise Unreadable("the length of a match that may be missing")
    if one.kind == two.kind and one.kind in ("text", "number", "bool"):
        return boolean(f"{one.at(ADD)} == {two.at(ADD)}", COMPARE)
    if "any" not in (one.kind, two.kind):
        if {one.kind, two.kind} <= {"text", "number", "bool"} and not loose:
            return FALSE
        raise Unreadable("== between different kinds")
    unknown, known = (one, two) if one.kind == "any" else (two, one)
    code = unknown.at(POSTFIX)
    guarded = code if translator.certain else f"{code}|default(none)"
    if known.kind == "bool" and isinstance(known.constant, bool) and not loose:
        return boolean(f"{code} is {known.code}", COMPARE)
    if known.kind == "text" and isinstance(known.constant, str):
        if loose and NUMERIC.match(known.constant):
            raise Unreadable("== between a text with a number and a value of any kind; === has an equal")
        return boolean(f"{guarded} == {known.at(ADD)}", COMPARE)
    if known.kind == "number" and not loose:
        test = f"{guarded} == {known.at(ADD)}"
        if known.constant in (0, 1) or known.constant is None:
            return boolean(f"{test} and {code} is not boolean", AND)
        return boolean(test, COMPARE)
    if known.kind == "text" and not loose:
        return boolean(f"{guarded} == {known.at(ADD)}", COMPARE)
    raise Unreadable("a comparison of two values of any kind")


def _missing(value: Value, nothing: Value, *, loose: bool) -> Value:
    """A comparison with null or undefined."""
    undefined = nothing.constant == "undefined"
    if value.kind == "nothing":
        return TRUE if loose or value.constant == nothing.constant else FALSE
    if value.kind == "match":
        if undefined and not loose:
            return FALSE
        return boolean(f"not {value.at(NOT)}", NOT)
    if value.absent:
        raise Unreadable("a list that may be missing")
    if value.kind != "any":
        return FALSE
    code = value.at(POSTFIX)
    if loose:
        return boolean(f"{code}|default(none) is none", COMPARE)
    return boolean(f"{code} is not defined" if undefined else f"{code}|default(0) is none", COMPARE)
