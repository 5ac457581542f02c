"""How options change a suite's data before it is read.

Precedence: options of their own, then `--set key.path=value`, then the suite, then the defaults.
"""

from __future__ import annotations

import re
from typing import Any

from evalrunner.errors import SuiteError
from evalrunner.suite.document import Document, dotted, parse_document
from evalrunner.suite.models import default_name
from evalrunner.suite.options import RunOptions
from evalrunner.suite.schema import KeyPath

STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def apply_options(document: Document, options: RunOptions) -> None:
    """Change the data of `document` as the options say; what they set is blamed on them, not on a line."""
    if not isinstance(document.data, dict):
        return
    for setting in options.settings:
        _apply_setting(document, setting)
    for path, value, flag in (
        (("dataset", "limit"), options.limit, "--limit"),
        (("run", "epochs"), options.epochs, "--epochs"),
        (("run", "concurrency"), options.concurrency, "--concurrency"),
        (("run", "seed"), options.seed, "--seed"),
        (("run", "retries"), options.retries, "--retries"),
        (("run", "timeout"), options.timeout, "--timeout"),
        (("run", "max_cost"), options.max_cost, "--max-cost"),
        (("run", "fail_on_error"), options.fail_on_error, "--fail-on-error"),
        (("judge",), options.judge, "--judge"),
        (("tracking", "mlflow", "uri"), _literal(options.mlflow), "--mlflow"),
    ):
        if value is not None:
            _set(document, path, value, flag)
    if options.cache is not None:
        _set_cache(document, options.cache)
    for column, wanted in options.where.items():
        _set(document, ("dataset", "where", column), wanted, "--where")
    if options.targets:
        _choose_targets(document, options.targets)
    if options.base_url is not None:
        _set_base_url(document, options.base_url)


def _literal(address: str | None) -> str | None:
    """An address of the command line as a suite would write it, where a dollar sign begins a variable."""
    return address.replace("$", "$$") if address else None


def _set_cache(document: Document, mode: str) -> None:
    """Change the mode wherever the suite has it, and keep its time to live."""
    flag = "--no-cache" if mode == "off" else "--cache"
    run = document.data.get("run")
    path: KeyPath = ("run", "cache") if isinstance(run, dict) and "cache" in run else ("cache",)
    given = run["cache"] if len(path) == 2 and isinstance(run, dict) else document.data.get("cache")
    _set(document, (*path, "mode") if isinstance(given, dict) else path, mode, flag)


def parse_condition(text: str) -> tuple[str, Any]:
    """Column and value of `--where column=value`; the value is typed as YAML, so `[a, b]` means any of both."""
    column, equals, value = text.partition("=")
    if not equals or not column.strip():
        raise SuiteError(f"--where {text!r}: should read column=value")
    return column.strip(), _yaml_value(value, f"--where {text!r}")


def _yaml_value(text: str, flag: str) -> Any:
    try:
        return parse_document(text, file=flag).data
    except SuiteError as broken:
        raise SuiteError(f"{flag}: {broken.problems[0].message}") from None


def _apply_setting(document: Document, setting: str) -> None:
    name, equals, value = setting.partition("=")
    flag = f"--set {setting!r}"
    steps = list(STEP.finditer(name.strip()))
    if not equals or not steps or "".join(step.group(0) for step in steps) != name.strip().replace(".", ""):
        raise SuiteError(f"{flag}: should read key.path=value, such as run.timeout=30")
    path = tuple(int(step.group(2)) if step.group(2) else step.group(1) for step in steps)
    _set(document, path, _yaml_value(value, flag), flag)


def _set(document: Document, path: KeyPath, value: Any, flag: str) -> None:
    if path[0] == "dataset" and len(path) > 1 and isinstance(document.data.get("dataset"), str):
        document.data["dataset"] = {"path": document.data["dataset"]}
    here: Any = document.data
    for depth, step in enumerate(path[:-1]):
        here = _step_into(here, step, path[: depth + 1], flag)
    last = path[-1]
    if isinstance(here, list):
        here[_place(here, last, path, flag)] = value
    elif isinstance(here, dict):
        here[str(last)] = value
    else:
        raise SuiteError(f"{flag}: {dotted(path[:-1])} is neither a mapping nor a list")
    document.overridden[path] = flag


def _step_into(here: Any, step: str | int, path: KeyPath, flag: str) -> Any:
    if isinstance(here, list):
        return here[_place(here, step, path, flag)]
    if not isinstance(here, dict):
        raise SuiteError(f"{flag}: {dotted(path[:-1])} is neither a mapping nor a list")
    if here.get(str(step)) is None:
        here[str(step)] = {}
    return here[str(step)]


def _place(items: list[Any], step: str | int, path: KeyPath, flag: str) -> int:
    place = int(step) if str(step).isdigit() else -1
    if not 0 <= place < len(items):
        raise SuiteError(f"{flag}: {dotted(path[:-1])} is a list of {len(items)}; {step!r} is not a place in it")
    return place


def _choose_targets(document: Document, wanted: tuple[str, ...]) -> None:
    data = document.data
    single = data.pop("target", None)
    known = data.get("targets") if isinstance(data.get("targets"), list) else []
    known = [*known, *([single] if single is not None else [])]
    names = {name: item for item in known if (name := target_name(item)) is not None}
    data["targets"] = [names.get(name, name) for name in wanted]
    document.overridden[("targets",)] = "--target"
    document.left_out.update(names.keys() - set(wanted))


def target_name(item: Any) -> str | None:
    """The name that a target of the suite will have."""
    if not isinstance(item, dict):
        return item if isinstance(item, str) else None
    name = item.get("name") or item.get("model") or default_name(item.get("type"), item)
    return name if isinstance(name, str) else None


def _set_base_url(document: Document, base_url: str) -> None:
    data = document.data
    for name in ("target", "targets"):
        items = data.get(name)
        places = items if isinstance(items, list) else [items]
        changed = []
        for item in places:
            if isinstance(item, str):
                changed.append({"model": item, "base_url": base_url})
            elif isinstance(item, dict) and "type" not in item:
                changed.append({**item, "base_url": base_url})
            else:
                changed.append(item)
        if items is not None:
            data[name] = changed if isinstance(items, list) else changed[0]
            document.overridden[(name,)] = "--base-url"
