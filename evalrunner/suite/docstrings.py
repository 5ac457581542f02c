"""What the docstring of a factory says about it and its options, for editors and `evalrun list`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

OPTION = re.compile(r"^    (?P<name>\w+)(?: \([^)]*\))?: (?P<text>.*)$")


def first_line(factory: Callable[..., Any]) -> str:
    """The first line of the docstring, or nothing."""
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def option_docs(factory: Callable[..., Any]) -> dict[str, str]:
    """What the `Args:` section of the docstring says of each option, on one line."""
    _, args, rest = (inspect.getdoc(factory) or "").partition("Args:\n")
    docs: dict[str, str] = {}
    name = ""
    for line in rest.splitlines() if args else ():
        if line and not line.startswith("    "):
            break
        option = OPTION.match(line)
        if option is not None:
            name = option["name"]
            docs[name] = option["text"].strip()
        elif name and line.strip():
            docs[name] += " " + line.strip()
    return docs
