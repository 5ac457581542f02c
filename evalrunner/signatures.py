"""Calling people's functions by the names of their parameters: they take what they want, and may take less.

So that a contract can grow without breaking anyone, and a wrong parameter is found before the first call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrunner.errors import nearest
from evalrunner.redact import redact_message

LONGEST_MESSAGE = 300  # characters of someone else's error message


class SignatureProblem(ValueError):
    """A function asks for something that is not on offer. The message names it."""


@dataclass(frozen=True, slots=True)
class ByName:
    """A function with the names it takes of those offered; `args` are passed along every time."""

    function: Callable[..., Any]
    wanted: tuple[str, ...]
    args: Mapping[str, Any]
    positional: str | None = None
    is_async: bool = False

    def __call__(self, offered: Mapping[str, Any]) -> Any:
        named = {}
        for name in self.wanted:  # a comprehension would be a function of its own for each call
            named[name] = offered[name]
        if self.positional is not None:
            return self.function(offered[self.positional], **named, **self.args)
        return self.function(**named, **self.args)


def bind_by_name(
    function: Callable[..., Any],
    offered: Sequence[str],
    *,
    args: Mapping[str, Any] | None = None,
    single: str | None = None,
) -> ByName:
    """`function` bound to what it wants of `offered` and to its own `args`. Raises SignatureProblem.

    A function with one required parameter of a name that is not on offer gets `single` in it, if that is given.
    """
    args = dict(args or {})
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async is async
    )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin such as str.upper: nothing to read, so it gets the one value
        return ByName(function, (), args, single, is_async)
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    takes_all = any(item.kind is item.VAR_KEYWORD for item in parameters)
    refuse_unknown_args(function, args, named, takes_all=takes_all)
    open_ones = [item for item in parameters if item.kind is not item.VAR_KEYWORD and item.name not in args]
    required = [
        item
        for item in open_ones
        if item.default is item.empty and item.kind is not item.VAR_POSITIONAL and item.name not in offered
    ]
    positional = None
    alone = len(required) == 1 and required[0] is parameters[0]
    if single is not None and alone and required[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        positional = single
        required = []
    if required:
        missing = required[0].name
        raise SignatureProblem(
            f"{name_of(function)} wants {missing!r}, which is not among {', '.join(offered)}"
            f"{nearest(missing, offered)}; give it under `args`, or a default"
        )
    wanted = tuple(offered) if takes_all else tuple(item.name for item in named if item.name in offered)
    return ByName(function, tuple(name for name in wanted if name not in args), args, positional, is_async)


def refuse_unknown_args(
    function: Callable[..., Any], args: Mapping[str, Any], named: Sequence[inspect.Parameter], *, takes_all: bool
) -> None:
    known = [item.name for item in named]
    for name in args:
        if name not in known and not takes_all:
            raise SignatureProblem(f"{name_of(function)} takes no {name!r}{nearest(name, known)}")


def name_of(function: Callable[..., Any]) -> str:
    """The function's name as its author wrote it, with parentheses."""
    return f"{getattr(function, '__qualname__', type(function).__name__)}()"


def describe_crash(function: Callable[..., Any], crash: BaseException) -> str:
    """`polite() in scorers/tone.py:12 raised ValueError: …`; the line is the last one in the function's own file."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None) or getattr(
        getattr(inner, "__call__", None),  # noqa: B004  an object of a class with __call__ has its code there
        "__code__",
        None,
    )
    line = None
    trace = crash.__traceback__
    while trace is not None and code is not None:
        if trace.tb_frame.f_code.co_filename == code.co_filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    place = f" in {shown_path(code.co_filename)}:{line}" if code is not None and line is not None else ""
    try:
        message = " ".join(str(crash).split())
    except Exception:  # an exception whose own text cannot be made is still told by its type
        message = ""
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "…"
    said = f"{type(crash).__name__}: {message}" if message else type(crash).__name__
    return redact_message(f"{name_of(function)}{place} raised {said}")


def shown_path(filename: str) -> str:
    """A path as people know it: from the working folder on, else the file's name alone."""
    path = Path(filename)
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):  # elsewhere, or the working folder is gone
        return path.name
