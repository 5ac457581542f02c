"""JavaScript of assertions as expressions of `expr`.

`translate` gives the expression that has the same verdict, or raises `Unreadable`. It never guesses: what has no equal is for
a person to port. Values have static kinds, because operators of both languages differ by the kind of what they get.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from evalrunner.imports.promptfoo import javascript_lists as lists
from evalrunner.imports.promptfoo.javascript_calls import called
from evalrunner.imports.promptfoo.javascript_comparisons import compared
from evalrunner.imports.promptfoo.javascript_patterns import groups_of, python_pattern
from evalrunner.imports.promptfoo.javascript_syntax import Node, Unreadable, parse_javascript
from evalrunner.imports.promptfoo.javascript_values import (
    ADD,
    AND,
    COMPARE,
    CONDITION,
    FALSE,
    MULTIPLY,
    NOT,
    OR,
    POSTFIX,
    TRUE,
    UNARY,
    Value,
    boolean,
    number,
    quoted,
    text,
)  # fmt: skip

VARIABLE: Final = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*-?\}\}")
MAX_EXPRESSION: Final = 3_500


@dataclass(frozen=True, slots=True)
class Translation:
    """An expression for `expr`, and what is different in meaning, if anything."""

    expression: str
    notes: tuple[str, ...] = ()
    always_fails: bool = False
    """Whether the code gives no verdict in any case; it then passes neither as it is nor negated."""
    is_bool: bool = True


@dataclass(slots=True)
class Scope:
    """What the code sees: the columns of the variables with their kinds, and the kind of the output."""

    variables: Mapping[str, str]
    """Expression of each variable, by its name."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Kind of each variable: text, number, bool, list or any."""
    output_kind: str = "text"


def translate(code: str, scope: Scope, *, negated: bool = False) -> Translation:
    """The expression with the verdict of an assertion. Raises Unreadable with what has no equal."""
    stripped = _with_variables(code.rstrip(), scope)
    several_lines = "\n" in stripped
    tree = parse_javascript(stripped)
    if tree.kind == "block" and not several_lines and re.match(r"\s*return\b", stripped):
        return Translation("false", ("a single line that begins with return is an error in promptfoo",), True)
    if several_lines and not re.search(r"\breturn\b", stripped):
        return Translation("false", ("several lines without return give nothing in promptfoo",), True)
    translator = Translator(scope, certain=not negated)
    result = translator.result(lists.reduced(tree, final_expression=not several_lines))
    if result.expression.strip() and len(result.expression) > MAX_EXPRESSION:
        raise Unreadable(f"an expression of {len(result.expression):,} characters")
    return result


def _with_variables(code: str, scope: Scope) -> str:
    """The code with `{{name}}` as `${…}` inside of texts and as a variable outside of them. Raises Unreadable."""
    if "{%" in code or "{#" in code:
        raise Unreadable("a template statement in the code")

    def one(match: re.Match[str]) -> str:
        name = match[1]
        before = code[: match.start()]
        quotes = [sign for sign in re.sub(r"\\.", "", before) if sign in "'\"`"]
        inside = _open_quote(quotes)
        if inside:
            return f"{inside} + context.vars.{name} + {inside}" if inside != "`" else f"${{context.vars.{name}}}"
        if scope.kinds.get(name) not in ("number", "bool"):
            raise Unreadable(f"the variable {name!r} as code")
        return f"context.vars.{name}"

    replaced = VARIABLE.sub(one, code)
    if "{{" in replaced or ("}}" in VARIABLE.sub("", code) and "{{" in code):
        raise Unreadable("a template in the code")
    # 'a' + x + 'b' binds weaker than a call or a member, so texts with variables get parentheses
    return re.sub(
        r"(['\"])((?:(?!\1)[^\\\n])*)\1((?: \+ context\.vars\.\w+ \+ \1(?:(?!\1)[^\\\n])*\1)+)", r"(\1\2\1\3)", replaced
    )


def _open_quote(quotes: list[str]) -> str:
    current = ""
    for sign in quotes:
        current = sign if not current else "" if sign == current else current
    return current


class Translator:
    """Translates one tree."""

    def __init__(self, scope: Scope, *, certain: bool) -> None:
        self.scope = scope
        self.notes: list[str] = []
        self.certain = certain
        """Whether what cannot be computed may be false here, as for an assertion that is not negated."""

    def result(self, tree: Node) -> Translation:
        value = self.verdict(tree)
        if value is None:
            return Translation("false", ("the code gives neither true, false nor a number",), True)
        return Translation(value.code, tuple(dict.fromkeys(self.notes)), is_bool=value.kind == "bool")

    def verdict(self, node: Node) -> Value | None:
        """The value as an assertion takes it; None where it fails in any case."""
        if node.kind == "object":
            return self._graded(node)
        if node.kind == "choice":
            then, otherwise = self.verdict(node.parts[1]), self.verdict(node.parts[2])
            condition = self.uncertain().condition(node.parts[0])
            if then is None or otherwise is None:
                if not self.certain:
                    raise Unreadable("a branch without a verdict in a negated assertion")
                then, otherwise = then or FALSE, otherwise or FALSE
            return self._choice(condition, then, otherwise)
        if node.kind == "binary" and node.value == "&&":
            left, right = self.value(node.parts[0]), self.verdict(node.parts[1])
            if right is not None and right.kind == "bool" and (left.kind == "bool" or self.certain):
                return boolean(f"{self.condition(node.parts[0]).at(AND)} and {right.at(AND)}", AND)
            raise Unreadable("&& between values that are not true or false")
        value = self.value(node)
        if value.kind in ("bool", "number"):
            return value
        if value.kind == "any":
            return value
        return None

    def _graded(self, node: Node) -> Value:
        """The `pass` of a result object; its score is kept where it is the same."""
        parts = dict(zip(node.value, node.parts, strict=True))
        if "pass" not in parts:
            raise Unreadable("a result without pass")
        passed = self.condition(parts["pass"])
        if "namedScores" in parts:
            self.notes.append("named scores of the result are not kept")
        score = parts.get("score")
        same = score is not None and (
            (score.kind == "number" and parts["pass"].kind == "bool" and score.value == float(parts["pass"].value))
            or (score.kind == "choice" and score.parts[0] == parts["pass"] and [one.value for one in score.parts[1:]] == [1, 0])
        )  # fmt: skip
        if not same:
            self.notes.append("the score of the result is 1 where it passes, else 0")
        return passed

    def uncertain(self) -> Translator:
        """A translator for where a failure is not the same as false."""
        if not self.certain:
            return self
        other = Translator(self.scope, certain=False)
        other.notes = self.notes
        return other

    def condition(self, node: Node) -> Value:
        """Whether the value counts as true."""
        if node.kind == "binary" and node.value in ("&&", "||"):
            inner = self if node.value == "&&" else self.uncertain()
            word, level = ("and", AND) if node.value == "&&" else ("or", OR)
            left, right = inner.condition(node.parts[0]), inner.condition(node.parts[1])
            return boolean(f"{left.at(level)} {word} {right.at(level)}", level)
        if node.kind == "unary" and node.value == "!":
            inner_value = self.uncertain().condition(node.parts[0])
            if inner_value.code in ("true", "false"):
                return FALSE if inner_value.code == "true" else TRUE
            return boolean(f"not {inner_value.at(NOT)}", NOT)
        return self.truth(self.value(node))

    def truth(self, value: Value) -> Value:
        if value.kind == "bool":
            return value
        if value.kind == "text":
            return boolean(f"{value.at(COMPARE + 1)} != ''", COMPARE)
        if value.kind == "number":
            return boolean(f"{value.at(COMPARE + 1)} != 0", COMPARE)
        if value.kind in ("list", "object"):
            return TRUE if not value.absent else self._broken("a list that may be missing")
        if value.kind == "match":
            return boolean(value.code, POSTFIX)
        if value.kind == "nothing":
            return FALSE
        return boolean(f"{value.at(POSTFIX)}|default(none) not in [none, false, 0, '']", COMPARE)

    def value(self, node: Node) -> Value:
        """The value of an expression. Raises Unreadable."""
        method = getattr(self, f"_{node.kind}", None)
        if method is None:
            raise Unreadable(f"a JavaScript {node.kind.replace('_', ' ')}")
        found: Value = method(node)
        return found

    def _number(self, node: Node) -> Value:
        return number(repr(node.value), POSTFIX, constant=node.value)

    def _text(self, node: Node) -> Value:
        return text(quoted(node.value), POSTFIX, constant=node.value)

    def _bool(self, node: Node) -> Value:
        return TRUE if node.value else FALSE

    def _null(self, node: Node) -> Value:
        return Value("none", "nothing", POSTFIX)

    def _undefined(self, node: Node) -> Value:
        return Value("none", "nothing", POSTFIX, constant="undefined")

    def _name(self, node: Node) -> Value:
        if node.value == "output":
            return Value("output", self.scope.output_kind, POSTFIX)
        if node.value.startswith("@"):  # the element of a list, in a test for all of them
            return Value(node.value, "any", POSTFIX)
        raise Unreadable(f"the name {node.value!r}")

    def _template(self, node: Node) -> Value:
        if not node.parts:
            return text("''", POSTFIX, constant="")
        return text(" ~ ".join(self._as_text(self.value(part)) for part in node.parts), MULTIPLY - 1)

    def _as_text(self, value: Value) -> str:
        if value.kind == "text":
            return value.at(MULTIPLY)
        if value.kind == "number" and value.integer:
            return value.at(MULTIPLY)
        raise Unreadable("a value that is no text inside a text")

    def _array(self, node: Node) -> Value:
        items = [self.value(part) for part in node.parts]
        return Value(f"[{', '.join(item.code for item in items)}]", "list", POSTFIX)

    def _choice(self, condition: Value | Node, then: Value | None = None, otherwise: Value | None = None) -> Value:
        if isinstance(condition, Node):
            node = condition
            condition, then, otherwise = (
                self.uncertain().condition(node.parts[0]), self.value(node.parts[1]), self.value(node.parts[2]),
            )  # fmt: skip
        assert then is not None and otherwise is not None
        if then.kind == otherwise.kind == "bool" and (then.code, otherwise.code) in (
            ("true", "false"),
            ("false", "true"),
        ):
            return condition if then.code == "true" else boolean(f"not {condition.at(NOT)}", NOT)
        kind = then.kind if then.kind == otherwise.kind else "any"
        if kind == "any" and not {then.kind, otherwise.kind} <= {"bool", "number", "any"}:
            raise Unreadable("a choice between values of different kinds")
        return Value(f"{then.at(OR)} if {condition.at(OR)} else {otherwise.at(OR)}", kind, CONDITION,
                     integer=then.integer and otherwise.integer)  # fmt: skip

    def _unary(self, node: Node) -> Value:
        if node.value == "!":
            return self.condition(node)
        if node.value == "typeof":
            raise Unreadable("typeof outside of a comparison")
        inner = self.value(node.parts[0])
        if inner.kind != "number":
            raise Unreadable(f"{node.value} before a value that is no number")
        if node.value == "+":
            return inner
        constant = -inner.constant if isinstance(inner.constant, int | float) else None
        return replace(inner, code=f"-{inner.at(UNARY)}", level=UNARY, constant=constant)

    def _binary(self, node: Node) -> Value:
        sign = node.value
        if sign in ("&&", "||", "??"):
            return self._logic(node)
        if sign in ("===", "!==", "==", "!=", "<", ">", "<=", ">=", "in"):
            return compared(self, node)
        left, right = self.value(node.parts[0]), self.value(node.parts[1])
        if sign == "+" and "text" in (left.kind, right.kind):
            return text(f"{self._as_text(left)} ~ {self._as_text(right)}", MULTIPLY - 1)
        if {left.kind, right.kind} != {"number"}:
            raise Unreadable(f"{sign} with values that are no numbers")
        integer = left.integer and right.integer and sign != "/"
        if sign in ("+", "-"):
            return number(f"{left.at(ADD)} {sign} {right.at(ADD + 1)}", ADD, integer=integer)
        if sign == "%" and (not integer or not isinstance(right.constant, int) or right.constant <= 0):
            raise Unreadable("% of numbers that may be negative")
        return number(f"{left.at(MULTIPLY)} {sign} {right.at(MULTIPLY + 1)}", MULTIPLY, integer=integer)

    def _logic(self, node: Node) -> Value:
        left_node, right_node = node.parts
        if node.value == "||" and right_node.kind == "array" and not right_node.parts:
            left = self.value(left_node)
            if left.kind == "list":
                return replace(left, absent=False)
        left, right = self.value(left_node), self.value(right_node)
        if node.value == "??":
            if left.kind == "any" and right.kind != "nothing":
                return Value(
                    f"{left.at(OR)} if {left.at(POSTFIX)}|default(none) is not none else {right.at(OR)}",
                    "any",
                    CONDITION,
                )
            raise Unreadable("?? with such values")
        if left.kind == right.kind == "bool":
            return self.condition(node)
        if {left.kind, right.kind} <= {"bool", "match"} and node.value == "||":
            raise Unreadable("|| between values that are not true or false")
        condition = self.uncertain().truth(left)
        first, second = (left, right) if node.value == "||" else (right, left)
        if first.kind != second.kind and "any" not in (first.kind, second.kind):
            raise Unreadable(f"{node.value} between values of different kinds")
        kind = first.kind if first.kind == second.kind else "any"
        return Value(f"{first.at(OR)} if {condition.at(OR)} else {second.at(OR)}", kind, CONDITION)

    def _index(self, node: Node) -> Value:
        base, key = node.parts
        if key.kind == "text":
            return self._member(Node("member", key.value, (base,)))
        if key.kind != "number" or not isinstance(key.value, int) or key.value < 0:
            raise Unreadable("an index that is no constant")
        value = self.value(base)
        if value.kind == "match" and value.pattern:
            return self._group(value, key.value)
        if value.kind in ("list", "any", "text"):
            kind = "any" if value.kind != "list" or value.item == "any" else value.item
            return Value(f"{value.at(POSTFIX)}[{key.value}]", kind, POSTFIX)
        raise Unreadable("an index of such a value")

    def _group(self, value: Value, index: int) -> Value:
        groups = groups_of(value.pattern)
        if (index == 0 and groups == 0) or (index == 1 and groups == 1):
            return text(
                value.code.replace("|matches(", "|find(", 1) if value.code.count("|matches(") == 1 else self._fail(),
                POSTFIX,
            )
        raise Unreadable("a group of a pattern with several")

    def _fail(self) -> str:
        raise Unreadable("a match inside of a match")

    def _broken(self, what: str) -> Value:
        raise Unreadable(what)

    def _optional_member(self, node: Node) -> Value:
        inner = self.value(node.parts[0])
        if inner.kind == "text":
            return self._member(node)
        if not self.certain:
            raise Unreadable("?. in a part that may be negated")
        return self._member(node)

    def _member(self, node: Node) -> Value:
        base, key = node.parts[0], node.value
        if (
            base.kind in ("member", "optional_member")
            and base.value == "vars"
            and base.parts[0] == Node("name", "context")
        ):
            return self._variable(key)
        if base == Node("name", "context"):
            raise Unreadable(f"context.{key}")
        value = self.value(base)
        if key == "length":
            return self._length(value)
        if value.kind != "any":
            raise Unreadable(f"the property {key!r} of such a value")
        if not self.certain:
            self.notes.append("a key of null counts as missing")
        plain = key.isidentifier() and not hasattr(dict, key) and not hasattr(str, key) and not hasattr(list, key)
        return Value(f"{value.at(POSTFIX)}.{key}" if plain else f"{value.at(POSTFIX)}[{quoted(key)}]", "any", POSTFIX)

    def _variable(self, name: str) -> Value:
        if (code := self.scope.variables.get(name)) is None:
            return Value("none", "nothing", POSTFIX, constant="undefined")
        return Value(code, self.scope.kinds.get(name, "any"), POSTFIX)

    def _length(self, value: Value) -> Value:
        if value.pieces:
            return number(f"{value.code}|length + 1", ADD, integer=True)
        if value.kind not in ("text", "list", "any"):
            raise Unreadable("the length of such a value")
        return number(f"{value.at(POSTFIX)}|length", POSTFIX, integer=True, absent=value.absent)

    def _call(self, node: Node) -> Value:
        return called(self, node)

    def pattern(self, node: Node) -> tuple[str, bool, str]:
        """A regular expression for Python, whether it ignores case, and its flags."""
        pattern, flags = node.value
        translated, ignore_case = python_pattern(pattern, flags)
        return translated, ignore_case, flags
