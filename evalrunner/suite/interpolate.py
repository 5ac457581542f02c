"""`${VAR}` and `${VAR:-default}` in fields that may hold a key, an address or a path; `$$` is a dollar sign."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

VARIABLE = re.compile(r"\$(?:\$|\{([^}]*)\})")
NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class UnsetVariable(ValueError):
    """A variable that is not set, or is not spelled as one. The message names it."""


def interpolate(text: str, environ: Mapping[str, str] | None = None) -> str:
    """`text` with its variables filled in; an empty variable counts as unset, as in a shell's `:-`."""
    values = os.environ if environ is None else environ

    def fill(found: re.Match[str]) -> str:
        if found.group(0) == "$$":
            return "$"
        parts = NAME.fullmatch(found.group(1))
        if parts is None:
            raise UnsetVariable(
                f"{found.group(0)!r} is not ${{NAME}} or ${{NAME:-default}}; write $$ for a dollar sign"
            )
        name, default = parts.groups()
        value = values.get(name)
        if value:
            return value
        if default is not None:
            return default
        state = "is empty" if value is not None else "is not set"
        raise UnsetVariable(f"the variable {name} {state}; export {name}=… or write ${{{name}:-default}}")

    return VARIABLE.sub(fill, text)


def has_variable(text: str) -> bool:
    """Whether `interpolate` would fill in anything."""
    return any(found.group(0) != "$$" for found in VARIABLE.finditer(text))
