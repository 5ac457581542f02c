"""Tool calls in one form: those of OpenAI's API, its older `function_call`, Anthropic, Gemini, and short forms for suites."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ARGUMENT_KEYS: Final = ("arguments", "args", "input", "parameters")
WRAPPERS: Final = ("function", "functionCall", "function_call", "toolUse", "tool_use")
NAME_KEYS: Final = ("name", "toolName", "tool_name")
ABOUT_CALLS: Final = frozenset({*ARGUMENT_KEYS, *WRAPPERS, *NAME_KEYS, "id", "type", "index", "call_id", "toolUseId"})
MAX_WRAPPERS: Final = 3  # around a call
MAX_DEPTH: Final = 100  # of arguments


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. `arguments` is None where they are not stated; `problem` says why the arguments in `text` cannot be read."""

    name: str
    arguments: Mapping[str, Any] | None = None
    problem: str | None = None
    text: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            return f"{self.name}(unreadable)"
        text = f"{self.name}({json.dumps(self.arguments, ensure_ascii=False) if self.arguments else ''})"
        return text.encode("utf-8", "replace").decode()  # an escape in JSON can be half of a surrogate pair

    def as_reply(self) -> dict[str, Any]:
        """The call as OpenAI's API writes it."""
        arguments = self.text or json.dumps(dict(self.arguments or {}), ensure_ascii=False, default=str)
        return {"type": "function", "function": {"name": self.name, "arguments": arguments}}


def read_tool_calls(value: Any, *, strict: bool = True) -> tuple[ToolCall, ...]:
    """The calls in a list, one call, or either as JSON text. Raises ValueError for anything else.

    With `strict` a call has no other keys than those of calls: arguments that stand beside them would not be compared.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith(("[", "{")):
            return (read_tool_call(text),) if text else ()
        value = load_json_text(text)
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list | tuple):
        value = value["tool_calls"]  # a whole message
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(read_tool_call(item, strict=strict) for item in items)


def read_tool_call(item: Any, *, strict: bool = True) -> ToolCall:
    """One call: a mapping in the form of an API, `{NAME: ARGUMENTS}`, or the bare name. Raises ValueError."""
    if isinstance(item, str) and item.strip():
        return ToolCall(item.strip())
    if not isinstance(item, Mapping):
        raise ValueError(  # noqa: TRY004
            f"{short(item)} is no tool call; it should look like {{name: get_weather, arguments: {{city: Paris}}}}"
        )
    for _ in range(MAX_WRAPPERS):
        item = next((inner for key in WRAPPERS if isinstance(inner := item.get(key), Mapping)), item)
    name = next((item[key] for key in NAME_KEYS if isinstance(item.get(key), str)), None)
    if name is None and len(item) == 1 and not ABOUT_CALLS & set(item):
        (name, given), key = next(iter(item.items())), "arguments"
    else:
        key = next((key for key in ARGUMENT_KEYS if key in item), "")
        given = item.get(key)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{short(item)} names no tool; write {{name: get_weather, arguments: {{city: Paris}}}}")
    if strict and (others := [key for key in item if key not in ABOUT_CALLS and key != name]):
        raise ValueError(f"the call of {name!r} has the key {others[0]!r}; put arguments under 'arguments'")
    return ToolCall(name) if not key else with_arguments(name, given)


def tool_calls_text(calls: Sequence[Any]) -> str:
    """The calls of an answer on one line: `get_weather({"city": "Paris"}), get_time()`."""
    texts = []
    for call in calls:
        try:
            texts.append(str(read_tool_call(call, strict=False)))
        except ValueError:
            texts.append(short(call))
    return ", ".join(texts)


def with_arguments(name: str, given: Any) -> ToolCall:
    """The call with its arguments: a mapping, or its JSON text. None and empty text are no arguments."""
    text = given if isinstance(given, str) else None
    if given is None or (text is not None and not text.strip()):
        return ToolCall(name, {})
    try:
        arguments = given if text is None else load_json_text(text)
        if not isinstance(arguments, Mapping):
            raise ValueError(f"are {short(arguments)}, not a JSON object")  # noqa: TRY004
        if depth_exceeds(arguments, MAX_DEPTH):
            raise ValueError(f"are nested more than {MAX_DEPTH} levels deep")
    except ValueError as wrong:
        return ToolCall(name, problem=str(wrong), text=short(given) if text is None else text)
    return ToolCall(name, arguments)


def load_json_text(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for NaN, which JSON does not have."""
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("are nested too deeply") from None
    except json.JSONDecodeError as wrong:
        raise ValueError(f"are no JSON ({wrong.msg} at character {wrong.pos + 1})") from None


def refuse_constant(name: str) -> Any:
    raise ValueError(f"are no JSON ({name} is no number)")


def depth_exceeds(value: Any, levels: int) -> bool:
    """Whether mappings and lists are nested deeper than `levels`."""
    level: list[Any] = [value]
    for _ in range(levels + 1):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, Mapping) else item)
            if isinstance(inner, Mapping | list | tuple)
        ]
        if not level:
            return False
    return True


def equal_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, true is not 1, and the order of keys is irrelevant."""
    return contains_json(one, other, whole=True)


def contains_json(whole_value: Any, part: Any, *, whole: bool = False) -> bool:
    """Whether every key of `part` has its value in the first value, nested mappings alike; with `whole` there are no others."""
    if isinstance(part, Mapping):
        return (
            isinstance(whole_value, Mapping)
            and (not whole or len(part) == len(whole_value))
            and all(
                name in whole_value and contains_json(whole_value[name], value, whole=whole)
                for name, value in part.items()
            )
        )
    if isinstance(part, list | tuple):
        return (
            isinstance(whole_value, list | tuple)
            and len(part) == len(whole_value)
            and all(contains_json(mine, value, whole=whole) for mine, value in zip(whole_value, part, strict=True))
        )
    if isinstance(part, bool) or isinstance(whole_value, bool) or part is None:
        return part is whole_value
    if isinstance(part, int | float):
        return isinstance(whole_value, int | float) and part == whole_value
    return isinstance(whole_value, str) and str(part) == whole_value


def short(value: Any) -> str:
    """A value as JSON on one line, cut after 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:79] + "…"


def matching(
    wanted: Sequence[ToolCall], made: Sequence[ToolCall], fits: Callable[[ToolCall, ToolCall], bool]
) -> dict[int, int]:
    """The largest set of pairs of a wanted and a made call that fit, as place among `made` to place among `wanted`.

    By augmenting paths: a wanted call takes the place of another one that can move on.
    """
    options = [[place for place, call in enumerate(made) if fits(call, one)] for one in wanted]
    taken: dict[int, int] = {}

    def place_of(one: int, seen: set[int]) -> bool:
        for place in options[one]:
            if place in seen:
                continue
            seen.add(place)
            if place not in taken or place_of(taken[place], seen):
                taken[place] = one
                return True
        return False

    for one in range(len(wanted)):
        place_of(one, set())
    return taken
