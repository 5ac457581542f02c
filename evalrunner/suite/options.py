"""What the command line or Python code asks for on top of a suite, and how a run keeps it for its resume."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalrunner.domain import EMPTY
from evalrunner.errors import SuiteError
from evalrunner.redact import LOGIN, may_be_secret, redact

OF_THE_MOMENT = ("refresh", "resume", "retry_errors", "wait_scale", "output_dir", "debug")  # said anew each time
WITHHELD = "not_kept"
VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")  # names where a key is, and is none
STEPS = re.compile(r"[^.\[\]\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run differs from what its suite says. Every field left at its default changes nothing.

    `targets` are names of the suite's targets, or model strings. `where` maps a column to a value. `settings`
    are `key.path=value`, typed as YAML. `outputs` are paths whose extension says the format.
    `refresh` asks again for what is in the cache. `resume` names a run to go on with, and `retry_errors` runs again
    what ended in error there. `wait_scale` is real seconds for each second that is waited between calls: tests of
    people's own suites pass less than 1. `mlflow` is the address of the tracking server to send the run to, or "" for the
    one that the suite or the environment names; `mlflow_required` makes a run that could not be sent end with 3.
    """

    targets: tuple[str, ...] = ()
    base_url: str | None = None
    judge: str | None = None
    limit: int | None = None
    where: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    epochs: int | None = None
    concurrency: int | Literal["auto"] | None = None
    retries: int | None = None
    timeout: float | None = None
    max_cost: float | None = None
    fail_on_error: str | int | None = None
    cache: Literal["judges", "all", "off"] | None = None
    refresh: bool = False
    resume: str | None = None
    retry_errors: bool = False
    wait_scale: float = 1.0
    seed: int | None = None
    settings: tuple[str, ...] = ()
    output_dir: Path = Path("runs")
    outputs: tuple[str, ...] = ()
    gates: bool = True
    debug: bool = False
    mlflow: str | None = None
    mlflow_required: bool = False


def options_data(options: RunOptions) -> dict[str, Any]:
    """What a run was asked for, as JSON data for its `run.json`: the options that differ from their defaults.

    What may hold a key is left out and named under `not_kept`: it has to be given again at a resume.
    """
    data: dict[str, Any] = {}
    withheld: list[str] = []
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if item.name in OF_THE_MOMENT or value == _default(item):
            continue
        if item.name == "settings":
            withheld += [_setting_flag(setting) for setting in value if _holds_secret(setting)]
            value = [setting for setting in value if not _holds_secret(setting)]
        elif isinstance(value, str) and _is_withheld(value):
            withheld.append(_flag(item.name))
            continue
        data[item.name] = json.loads(json.dumps(value, default=str))
    return {**data, WITHHELD: withheld} if withheld else data


def options_from(data: Mapping[str, Any]) -> RunOptions:
    """The options in what `options_data` returned. Raises SuiteError where they are something else."""
    known = {item.name for item in dataclasses.fields(RunOptions)} - set(OF_THE_MOMENT)
    unknown = sorted(set(data) - known - {WITHHELD})
    if unknown:
        raise SuiteError(f"run.json: options.{unknown[0]} is not an option of this version of evalrun")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name in known
    }
    return RunOptions(**fields)


def merge_options(stored: RunOptions, given: RunOptions) -> RunOptions:
    """The options of a resume: what is given now goes over what the run was started with.

    Conditions, settings and outputs are added to the stored ones, the newer last, where they win. What is `given` at
    its default is as it was stored.
    """
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(RunOptions):
        old, new = getattr(stored, item.name), getattr(given, item.name)
        if item.name in OF_THE_MOMENT:
            continue
        if item.name == "where":
            changes[item.name] = {**old, **new} if new else old
        elif item.name in ("settings", "outputs"):
            changes[item.name] = (*(value for value in old if value not in new), *new)
        elif new == _default(item):
            changes[item.name] = old
    return dataclasses.replace(given, **changes)


def check_given_again(data: Mapping[str, Any], given: RunOptions) -> None:
    """None, if all that `options_data` could not keep is given again. Raises SuiteError that names what is not."""
    again = {_setting_flag(setting) for setting in given.settings}
    again |= {_flag(item.name) for item in dataclasses.fields(given) if getattr(given, item.name) != _default(item)}
    missing = [flag for flag in data.get(WITHHELD, ()) if flag not in again]
    if missing:
        several = len(missing) > 1
        raise SuiteError(
            f"the run was started with {' and '.join(missing)}, whose value{'s are' if several else ' is'} not kept; "
            f"give {'them' if several else 'it'} again"
        )


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _setting_flag(setting: str) -> str:
    return f"--set {redact(setting.partition('=')[0].strip())}"


def _holds_secret(setting: str) -> bool:
    """Whether a setting may hold a key: by the name of any of its steps, or by what its value has in it."""
    name, _, value = setting.partition("=")
    if VARIABLE.fullmatch(value.strip()):
        return False
    return any(map(may_be_secret, STEPS.findall(name))) or _is_withheld(value) or _has_secret_name(value)


def _has_secret_name(value: str) -> bool:
    """Whether a value that is a mapping, written as YAML or JSON, has a name in it that may be a secret's."""
    return any(map(may_be_secret, re.findall(r"([\w-]+)[\"']?\s*:", value)))


def _is_withheld(value: str) -> bool:
    return LOGIN.search(value) is not None or redact(value) != value
