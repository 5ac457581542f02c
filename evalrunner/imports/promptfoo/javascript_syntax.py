"""The syntax tree of a subset of JavaScript: expressions, `const`, `if` and `return`.

`parse_javascript` reads what assertions and transforms usually are. Anything else raises `Unreadable` with the reason; the
code is never run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

MAX_CODE: Final = 4_000
MAX_DEPTH: Final = 60  # nested expressions
TOKEN: Final = re.compile(
    r"(?P<space>\s+|//[^\n]*|/\*.*?\*/)"
    r"|(?P<number>0[xX][\da-fA-F]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_$][\w$]*)"
    r"|(?P<text>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<template>`(?:[^`\\]|\\.)*`)"
    r"|(?P<sign>\?\.(?!\d)|===|!==|\*\*|==|!=|<=|>=|=>|&&|\|\||\?\?|\.\.\.|[-+*/%]=|\+\+|--|[-+*/%<>=!?:;,.(){}\[\]&|^~])",
    re.DOTALL,
)
REGEX: Final = re.compile(r"/((?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)/([a-z]*)")
ESCAPE: Final = re.compile(r"\\(u\{[\da-fA-F]{1,6}\}|u[\da-fA-F]{4}|x[\da-fA-F]{2}|\n|.)", re.DOTALL)
ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}
LEVELS: Final = (
    ("??",), ("||",), ("&&",), ("===", "!==", "==", "!="), ("<", ">", "<=", ">=", "in"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
RESERVED: Final = frozenset(
    ["await", "async", "class", "for", "while", "do", "switch", "throw", "try", "catch", "finally", "function", "new", "delete", "yield", "import", "export", "this", "void", "instanceof", "return", "const", "let", "var", "if", "else", "in", "typeof"]
)  # fmt: skip


class Unreadable(ValueError):
    """Code outside of the subset; the message says what."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    value: Any = None
    line_break: bool = False
    """Whether a line break stands before it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `kind` says what `value` and `parts` are.

    number, text, bool, null, undefined, name: the value. regex: (pattern, flags). template, array: the parts.
    object: the keys, with a part for each. member: the key of the part; optional_member the same. index: parts are
    object and key. call: function and arguments. arrow: the parameters, and the body. unary, binary: the operator and
    its parts. choice: condition, then, else. block: statements. const: the name and its value. if: condition, then,
    else. return: its value.
    """

    kind: str
    value: Any = None
    parts: tuple[Node, ...] = ()


def parse_javascript(code: str) -> Node:
    """The tree of an expression, or a `block` of statements. Raises Unreadable."""
    if len(code) > MAX_CODE:
        raise Unreadable(f"the code has {len(code):,} characters")
    return Parser(tokens_of(code)).program()


def tokens_of(code: str) -> list[Token]:
    """The tokens of a code, with one of the kind `end` behind them."""
    tokens: list[Token] = []
    place, broken = 0, False
    while place < len(code):
        if code[place] == "/" and code[place : place + 2] not in ("//", "/*") and _regex_may_follow(tokens):
            if (match := REGEX.match(code, place)) is None:
                raise Unreadable("a regular expression that does not end")
            tokens.append(Token("regex", match[0], (match[1], match[2]), broken))
        elif (match := TOKEN.match(code, place)) is None:
            raise Unreadable(f"the character {code[place]!r}")
        elif match.lastgroup == "space":
            broken = broken or "\n" in match[0]
            place = match.end()
            continue
        else:
            tokens.append(_token(str(match.lastgroup), match[0], broken))
        place, broken = match.end(), False
    return [*tokens, Token("end", "", None, broken)]


def _token(kind: str, text: str, broken: bool) -> Token:
    if kind == "number":
        plain = text.replace("_", "")
        value: Any = int(plain, 16) if plain[:2].lower() == "0x" else float(plain)
        return Token(kind, text, int(value) if value == int(value) and abs(value) < 2**53 else value, broken)
    if kind == "text":
        return Token(kind, text, unescaped(text[1:-1]), broken)
    return Token(kind, text, text[1:-1] if kind == "template" else None, broken)


def _regex_may_follow(tokens: list[Token]) -> bool:
    """Whether a slash begins a regular expression here; after a value it divides."""
    if not tokens:
        return True
    last = tokens[-1]
    if last.kind == "name":
        return last.text in RESERVED
    return last.kind == "sign" and last.text not in (")", "]", "}")


def unescaped(text: str) -> str:
    """The text that a literal stands for."""

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) > 1:
            point = int(code.strip("ux{}"), 16)
            if point > 0x10FFFF or 0xD800 <= point < 0xE000:
                raise Unreadable("half of a character in an escape")
            return chr(point)
        return ESCAPES.get(code, code)

    return ESCAPE.sub(one, text)


class Parser:
    """Reads tokens by recursive descent."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0

    @property
    def now(self) -> Token:
        return self.tokens[self.place]

    def peek(self, *texts: str) -> bool:
        return self.now.kind in ("sign", "name") and self.now.text in texts

    def take(self, *texts: str) -> bool:
        if not self.peek(*texts):
            return False
        self.place += 1
        return True

    def need(self, text: str) -> None:
        if not self.take(text):
            raise Unreadable(f"{text!r} expected before {self.now.text or 'the end'!r}")

    def name(self) -> str:
        token = self.now
        if token.kind != "name" or token.text in RESERVED:
            raise Unreadable(f"a name expected before {token.text or 'the end'!r}")
        self.place += 1
        return token.text

    def program(self) -> Node:
        """All statements; a single expression as such."""
        statements = self.statements()
        if self.now.kind != "end":
            raise Unreadable(f"{self.now.text!r}")
        if len(statements) == 1 and statements[0].kind not in ("const", "if", "return"):
            return statements[0]
        return Node("block", None, tuple(statements))

    def statements(self) -> list[Node]:
        every: list[Node] = []
        while self.now.kind != "end" and not self.peek("}"):
            if not self.take(";"):
                every.append(self.statement())
        return every

    def statement(self) -> Node:
        if self.take("const", "let", "var"):
            name = self.name()
            self.need("=")
            return self.ended(Node("const", name, (self.expression(),)))
        if self.take("return"):
            if self.peek(";", "}") or self.now.kind == "end" or self.now.line_break:
                return self.ended(Node("return", None, (Node("undefined"),)))
            return self.ended(Node("return", None, (self.expression(),)))
        if self.take("if"):
            self.need("(")
            condition = self.expression()
            self.need(")")
            then = self.body()
            otherwise = self.body() if self.take("else") else Node("block")
            return Node("if", None, (condition, then, otherwise))
        return self.ended(self.expression())

    def ended(self, node: Node) -> Node:
        if not self.take(";") and not self.peek("}") and self.now.kind != "end" and not self.now.line_break:
            raise Unreadable(f"{self.now.text!r} after a statement")
        return node

    def body(self) -> Node:
        if not self.take("{"):
            return Node("block", None, (self.statement(),))
        statements = self.statements()
        self.need("}")
        return Node("block", None, tuple(statements))

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("more than 60 nested expressions")
        try:
            if (arrow := self.arrow()) is not None:
                return arrow
            condition = self.binary(0)
            if self.take("?"):
                then = self.expression()
                self.need(":")
                return Node("choice", None, (condition, then, self.expression()))
            if self.peek("=", "+=", "-=", "*=", "/=", "++", "--"):
                raise Unreadable("an assignment")
            return condition
        finally:
            self.depth -= 1

    def arrow(self) -> Node | None:
        """An arrow function, None if none begins here."""
        start = self.place
        names: list[str] = []
        if self.now.kind == "name" and self.now.text not in RESERVED:
            names = [self.name()]
        elif self.take("("):
            while self.now.kind == "name" and self.now.text not in RESERVED:
                names.append(self.name())
                if not self.take(","):
                    break
            if not self.take(")"):
                names = ["not", "closed"]
        if not self.take("=>"):
            self.place = start
            return None
        if self.peek("{"):
            return Node("arrow", tuple(names), (self.body(),))
        return Node("arrow", tuple(names), (self.expression(),))

    def binary(self, level: int) -> Node:
        if level == len(LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.peek(*LEVELS[level]):
            sign = self.now.text
            self.place += 1
            left = Node("binary", sign, (left, self.binary(level + 1)))
        return left

    def unary(self) -> Node:
        if self.peek("!", "-", "+", "typeof"):
            sign = self.now.text
            self.place += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise Unreadable("more than 60 nested expressions")
            inner = self.unary()
            self.depth -= 1
            return Node("unary", sign, (inner,))
        return self.postfix(self.primary())

    def postfix(self, node: Node) -> Node:
        while True:
            if self.take("?."):
                if self.peek("(", "["):
                    raise Unreadable("an optional call or index")
                node = Node("optional_member", self.member_name(), (node,))
            elif self.take("."):
                node = Node("member", self.member_name(), (node,))
            elif self.take("["):
                node = Node("index", None, (node, self.expression()))
                self.need("]")
            elif self.take("("):
                node = Node("call", None, (node, *self.items(")")))
            else:
                return node

    def member_name(self) -> str:
        token = self.now
        if token.kind != "name":
            raise Unreadable(f"a name expected before {token.text or 'the end'!r}")
        self.place += 1
        return token.text

    def items(self, end: str) -> list[Node]:
        every: list[Node] = []
        while not self.take(end):
            every.append(self.expression())
            if not self.peek(end):
                self.need(",")
        return every

    def primary(self) -> Node:
        token = self.now
        if token.kind in ("number", "text", "regex"):
            self.place += 1
            return Node(token.kind, token.value)
        if token.kind == "template":
            self.place += 1
            return _template(token.value)
        if self.take("("):
            node = self.expression()
            self.need(")")
            return node
        if self.take("["):
            return Node("array", None, tuple(self.items("]")))
        if self.take("{"):
            return self.object()
        if token.kind == "name" and token.text not in RESERVED:
            self.place += 1
            known = {"true": Node("bool", True), "false": Node("bool", False), "null": Node("null"),
                     "undefined": Node("undefined")}  # fmt: skip
            return known.get(token.text, Node("name", token.text))
        raise Unreadable(repr(token.text) if token.text else "an unexpected end")

    def object(self) -> Node:
        keys: list[str] = []
        values: list[Node] = []
        while not self.take("}"):
            token = self.now
            if token.kind not in ("name", "text"):
                raise Unreadable(f"{token.text!r} as a key")
            self.place += 1
            keys.append(token.value if token.kind == "text" else token.text)
            values.append(self.expression() if self.take(":") else Node("name", keys[-1]))
            if not self.peek("}"):
                self.need(",")
        return Node("object", tuple(keys), tuple(values))


def _template(text: str) -> Node:
    """The parts of a template literal: texts and expressions."""
    parts: list[Node] = []
    for number, piece in enumerate(re.split(r"\$\{([^{}`]*)\}", text)):
        if number % 2:
            parts.append(Parser(tokens_of(piece)).program())
        elif "${" in piece:
            raise Unreadable("a nested template")
        elif piece:
            parts.append(Node("text", unescaped(piece)))
    return Node("template", None, tuple(parts))
