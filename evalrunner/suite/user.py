"""The `user` of a suite, a model that plays the user of conversations, from data to its typed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalrunner.suite.schema import KeyPath, StopSpec, UserSpec
from evalrunner.suite.validate import SectionReader, describe_value, reads


@reads(UserSpec)
def read_user(reader: SectionReader, data: Any, path: KeyPath) -> UserSpec | None:
    """The simulated user; None and problems where it is wrong."""
    before = len(reader.document.problems)
    if not isinstance(data, Mapping):
        reader.report(path, f"is {describe_value(data)}; it should be a mapping: {{goal: …, model: …}}")
        return None
    if isinstance(data.get("model"), list):
        reader.report((*path, "model"), "is a list; one model plays the user")
        return None
    fields = reader.section(UserSpec, data, path, nulls=True)
    for name in ("goal", "persona"):
        if isinstance(data.get(name), str) and not data[name].strip():
            reader.report((*path, name), "is empty; write a text, or remove the key")
    if fields is None or len(reader.document.problems) > before:
        return None
    return UserSpec(**fields, key_path=path)


@reads(StopSpec)
def read_stop(reader: SectionReader, data: Any, path: KeyPath) -> StopSpec | None:
    """A condition as text, or `{phrase: text}`."""
    if isinstance(data, Mapping):
        fields = reader.section(StopSpec, data, path)
        phrase = (fields or {}).get("phrase")
        if "phrase" not in data:
            reader.report(path, "needs 'phrase', the text that ends the conversation")
        elif phrase is not None and not phrase.strip():
            reader.report((*path, "phrase"), "is empty; write the text that ends the conversation")
        return StopSpec(phrase=phrase)
    if not isinstance(data, str) or not data.strip():
        reader.report(path, f"is {describe_value(data)}; it should be a condition as text, or {{phrase: …}}")
        return None
    return StopSpec(condition=data)


def user_options(spec: UserSpec) -> dict[str, Any]:
    """What a simulated user plays, as plain data; its model is listed beside the judges."""
    stop = spec.stop_when
    given = {
        "goal": spec.goal,
        "persona": spec.persona,
        "max_turns": spec.max_turns,
        "stop_when": None if stop is None else {"phrase": stop.phrase} if stop.phrase is not None else stop.condition,
    }
    return {name: value for name, value in given.items() if value is not None}
