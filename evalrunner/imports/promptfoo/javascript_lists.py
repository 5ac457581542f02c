"""Trees without names, blocks and loops: constants put in place, branches as choices, tests of written lists as conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from evalrunner.imports.promptfoo.javascript_syntax import Node, Unreadable

MAX_ITEMS: Final = 20
MAX_NODES: Final = 1_500
LOOPS: Final = frozenset({"some", "every", "filter"})


def reduced(tree: Node, *, final_expression: bool) -> Node:
    """The one expression that a code gives. Raises Unreadable."""
    if tree.kind == "block":
        node = _block(tree.parts, {}, final_expression=final_expression)
    else:
        node = substituted(tree, {})
    if size(node) > MAX_NODES:
        raise Unreadable("code that is too long as one expression")
    return node


def size(node: Node) -> int:
    return 1 + sum(map(size, node.parts))


def _block(statements: Sequence[Node], names: Mapping[str, Node], *, final_expression: bool) -> Node:
    if not statements:
        return Node("undefined")
    first, rest = statements[0], statements[1:]
    if first.kind == "const":
        value = substituted(first.parts[0], names)
        if size(value) > MAX_NODES:
            raise Unreadable("code that is too long as one expression")
        return _block(rest, {**names, first.value: value}, final_expression=final_expression)
    if first.kind == "return":
        return substituted(first.parts[0], names)
    if first.kind == "if":
        condition, then, otherwise = first.parts
        return Node("choice", None, (
            substituted(condition, names),
            _block((*then.parts, *rest), names, final_expression=final_expression),
            _block((*otherwise.parts, *rest), names, final_expression=final_expression),
        ))  # fmt: skip
    if not rest:
        return substituted(first, names) if final_expression else Node("undefined")
    raise Unreadable("a statement that only has an effect")


def substituted(node: Node, names: Mapping[str, Node]) -> Node:
    """A tree with its names replaced, and with loops over written lists unrolled."""
    if node.kind == "name":
        return names.get(node.value, node)
    if node.kind == "arrow":
        inner = {name: value for name, value in names.items() if name not in node.value}
        body = node.parts[0]
        if body.kind == "block":
            return Node("arrow", node.value, (_block(body.parts, inner, final_expression=False),))
        return Node("arrow", node.value, (substituted(body, inner),))
    parts = tuple(substituted(part, names) for part in node.parts)
    if node.kind == "call":
        return _call(parts)
    if node.kind == "member" and node.value == "length":
        counted = _count(parts[0])
        if counted is not None:
            return counted
    return Node(node.kind, node.value, parts)


def _call(parts: tuple[Node, ...]) -> Node:
    function, arguments = parts[0], parts[1:]
    if function.kind == "arrow" and not arguments and not function.value:
        return function.parts[0]  # (() => …)()
    if function.kind == "member" and function.value in ("some", "every") and _is_written(function.parts[0]):
        conditions = [applied(arguments, item) for item in function.parts[0].parts]
        sign = "&&" if function.value == "every" else "||"
        node = Node("unary", "!", (Node("unary", "!", (conditions[0],)),))
        for condition in conditions[1:]:
            node = Node("binary", sign, (node, Node("unary", "!", (Node("unary", "!", (condition,)),))))
        return node
    return Node("call", None, parts)


def _count(node: Node) -> Node | None:
    """The length of a written list, or of one that is filtered; None for another."""
    if _is_written(node):
        return Node("number", len(node.parts))
    if node.kind == "call" and node.parts[0].kind == "member" and node.parts[0].value == "filter":
        listed = node.parts[0].parts[0]
        if _is_written(listed):
            total: Node | None = None
            for item in listed.parts:
                one = Node("choice", None, (applied(node.parts[1:], item), Node("number", 1), Node("number", 0)))
                total = one if total is None else Node("binary", "+", (total, one))
            return total
    return None


def _is_written(node: Node) -> bool:
    return node.kind == "array" and 0 < len(node.parts) <= MAX_ITEMS


def applied(arguments: tuple[Node, ...], item: Node) -> Node:
    """The body of an arrow function of one parameter for an item. Raises Unreadable for another function."""
    if len(arguments) != 1 or arguments[0].kind != "arrow" or len(arguments[0].value) != 1:
        raise Unreadable("a loop with such a function")
    function = arguments[0]
    return substituted(function.parts[0], {function.value[0]: item})
