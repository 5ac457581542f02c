"""The parts that a suite can name, as lines of text, read off their signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from evalrunner.plugins import Group, factory_options, known_names, resolve
from evalrunner.suite.json_schema import first_line, option_docs
from evalrunner.suite.validate import described

NOT_BY_TYPE = {
    "targets": ["a model string such as openai/gpt-5-mini or local/smollm2-135m-instruct, or {model, base_url, …}"],
    "datasets": ["a path whose ending says the reader; rows: […] inline; - for standard input"],
    "scorers": [],
}


def render_parts(group: Group) -> Iterator[str]:
    """Each part of a group with its first line and its options."""
    yield from NOT_BY_TYPE[group]
    for name, home in sorted(known_names(group).items()):
        factory = resolve(group, name, folder=Path())
        yield f"{name}: {first_line(factory)}"
        if not home.startswith("evalrunner."):
            yield f"    from {home}"
        docs = option_docs(factory)
        for option in factory_options(factory).values():
            default = "required" if option.default is inspect.Parameter.empty else f"default {option.default!r}"
            said = f": {docs[option.name]}" if option.name in docs else ""
            yield f"    {option.name} ({described(option.annotation)}, {default}){said}"
