"""The `tools` of a suite or a target: a file or a list, in the format of OpenAI's API afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from evalrunner.domain import EMPTY
from evalrunner.errors import SuiteError
from evalrunner.suite.schema import KeyPath, ToolsSpec
from evalrunner.suite.validate import SectionReader, describe_value, reads
from evalrunner.suite.yaml import load_document

NAME: Final = "tools"
SCHEMA_KEYS: Final = ("parameters", "input_schema", "inputSchema", "parametersJsonSchema")
"""The keys of the JSON Schema of the arguments: of OpenAI, Anthropic, MCP and Gemini."""
KEYS: Final = frozenset({"name", "description", "strict", "type", *SCHEMA_KEYS})
EXAMPLE: Final = "{name: get_weather, description: …, parameters: {type: object, properties: {city: {type: string}}}}"


@reads(ToolsSpec)
def read_tools(reader: SectionReader, data: Any, path: KeyPath) -> ToolsSpec | None:
    """The tools of a suite or target: a path, or a list of tools and paths. None and problems for anything else."""
    if not isinstance(data, str | list):
        reader.report(path, f"is {describe_value(data)}; it should be a file or a list of tools")
        return None
    before = len(reader.document.problems)
    tools: list[Mapping[str, Any]] = []
    names: set[str] = set()
    for place, tool in _tools(reader, data, path):
        name = tool["function"]["name"]
        if name in names:
            reader.report(place, f"has the tool {name!r} a second time")
        names.add(name)
        tools.append(tool)
    return ToolsSpec(tuple(tools)) if len(reader.document.problems) == before else None


def with_tools(
    reader: SectionReader, params: Mapping[str, Any], tools: ToolsSpec | None, path: KeyPath
) -> Mapping[str, Any]:
    """The parameters with the tools. An empty list means none, also of the suite."""
    if tools is None:
        return params
    if params.get(NAME) is not None:
        reader.report((*path, NAME), "cannot be combined with params.tools; keep one of them")
        return params
    return {**params, NAME: [dict(tool) for tool in tools.tools] or None}


def _tools(reader: SectionReader, data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    for number, item in enumerate(data if isinstance(data, list) else [data]):
        place = (*path, number) if isinstance(data, list) else path
        if isinstance(item, str):
            yield from ((place, tool) for tool in _tools_of_file(reader, item, place))
        else:
            try:
                yield place, as_tool(item)
            except ValueError as wrong:
                reader.report(place, str(wrong))


def _tools_of_file(reader: SectionReader, written: str, path: KeyPath) -> Iterator[Mapping[str, Any]]:
    """The tools in a JSON or YAML file: one, a list, or a list under the key `tools`."""
    name = reader.text(written, path, fill=True)
    if name is None:
        return
    allowed = None if reader.document.is_owners(path) else reader.document.restrictions
    if allowed is not None and (refusal := allowed.path_refusal(name, reader.folder)) is not None:
        reader.report(path, f"{name!r} {refusal}, which --untrusted refuses; copy it into the folder")
        return
    file = reader.folder / name
    if file.suffix.lower() not in (".json", ".yaml", ".yml"):
        reader.report(path, f"{name!r} should be a file that ends in .json, .yaml or .yml")
        return
    reader.document.files.append(file)
    try:
        data = load_document(Path(file), label=str(file), regular=True).data
    except SuiteError as broken:
        reader.document.problems.extend(broken.problems)
        return
    if isinstance(data, Mapping) and isinstance(data.get(NAME), list):
        data = data[NAME]
    for number, item in enumerate(items := data if isinstance(data, list) else [data], 1):
        try:
            yield as_tool(item)
        except ValueError as wrong:
            which = f" (tool {number})" if len(items) > 1 else ""
            reader.report(path, f"{name!r}{which} {wrong}")


def as_tool(item: Any) -> dict[str, Any]:
    """A tool in the format of OpenAI's API. Raises ValueError."""
    if not isinstance(item, Mapping):
        raise ValueError(f"is {describe_value(item)}; a tool looks like {EXAMPLE}")  # noqa: TRY004
    inner = item.get("function")
    tool = inner if isinstance(inner, Mapping) else item
    name = tool.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"has no name; a tool looks like {EXAMPLE}")
    kind = item.get("type", "function")
    if kind not in ("function", "custom") or (kind == "custom" and not any(key in tool for key in SCHEMA_KEYS)):
        raise ValueError(f"has the type {kind!r}; only functions can be sent. Write others under params.tools")
    if unknown := [str(key) for key in tool if key not in KEYS]:
        raise ValueError(f"has the key {unknown[0]!r}; a tool looks like {EXAMPLE}")
    schema = next((tool[key] for key in SCHEMA_KEYS if key in tool), {"type": "object", "properties": EMPTY})
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise ValueError(f"of the name {name!r} has parameters that are no JSON Schema of an object")
    _check_schema(name, schema)
    function: dict[str, Any] = {"name": name}
    function |= {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}
    return {"type": "function", "function": {**function, "parameters": {"type": "object", **schema}}}


def _check_schema(name: str, schema: Mapping[str, Any]) -> None:
    """Raises ValueError if the parameters are not valid JSON Schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as broken:
        where = ".".join(map(str, broken.absolute_path))
        raise ValueError(
            f"of the name {name!r} has parameters that are no JSON Schema: {where}: {broken.message}"
        ) from None
