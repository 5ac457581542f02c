"""Where a suite sends its runs: the `tracking:` section, from data to its typed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalrunner.redact import LOGIN, register_secret
from evalrunner.suite.interpolate import has_variable
from evalrunner.suite.reading import SectionReader
from evalrunner.suite.schema import KeyPath, MlflowSpec
from evalrunner.suite.values import shown

PATH: KeyPath = ("tracking", "mlflow")
MLFLOW_KEYS = ("uri", "experiment", "run_name", "tags", "log")


def read_tracking(reader: SectionReader, data: Any) -> MlflowSpec | None:
    """The `tracking:` of a suite's data, or None where it names no tracker."""
    mapping = reader.mapping(data, ("tracking",)) or {}
    reader.check_keys(mapping, ("tracking",), ("mlflow",))
    if "mlflow" not in mapping:
        return None
    given = {} if mapping["mlflow"] is None else reader.mapping(mapping["mlflow"], PATH) or {}
    reader.check_keys(given, PATH, MLFLOW_KEYS)
    plain = {name: item for name, item in given.items() if name != "tags" and item is not None}
    fields = reader.typed(MlflowSpec, plain, PATH)
    register_login(fields.get("uri"))
    return MlflowSpec(**fields, tags=_tags(reader, given.get("tags")))


def read_address(reader: SectionReader, data: Any) -> str | None:
    """The address alone that a `tracking:` names, its variables filled in; nothing else of it needs to be right."""
    given = data.get("mlflow") if isinstance(data, Mapping) else None
    if not isinstance(given, Mapping) or given.get("uri") is None:
        return None
    found = reader.text(given["uri"], (*PATH, "uri"), fill=True)
    register_login(found)
    return found


def _tags(reader: SectionReader, data: Any) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, item in (reader.mapping(data, (*PATH, "tags")) or {}).items() if data is not None else ():
        place = (*PATH, "tags", name)
        if isinstance(item, list | Mapping):
            reader.report(place, f"is {shown(item)}; it should be a plain value")
        elif (text := reader.text(item, place, fill=True) if isinstance(item, str) else shown(item)) is not None:
            found[str(name)] = text
    return found


def register_login(uri: str | None) -> None:
    """Keep the password in an address secret."""
    login = LOGIN.search(uri or "")
    if login is not None:
        register_secret(login.group(0)[len("://") : -1].partition(":")[2])


def shown_tracking(data: Any) -> Any:
    """The section as it may be written down."""
    given = data.get("mlflow") if isinstance(data, Mapping) else None
    return {**data, "mlflow": shown_address(given)} if isinstance(given, Mapping) else data


def shown_address(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Data as it may be written down, where its `uri` is an address: a login stays where its password is a variable."""
    uri = data.get("uri")
    if not isinstance(uri, str):
        return data
    return {**data, "uri": LOGIN.sub(lambda found: found.group(0) if has_variable(found.group(0)) else "://", uri)}
