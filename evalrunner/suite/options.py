"""The options of a run: what the command line or Python code asks for on top of a suite.

Each is declared once, as a field of `RunOptions`: the command line makes its flags from it, the loader the change of
the suite, and `run.json` keeps it for a resume.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalrunner.domain import EMPTY
from evalrunner.errors import SuiteError, listed
from evalrunner.redact import may_be_secret, redact
from evalrunner.secret_names import LOGIN
from evalrunner.spelling import exact_json, respell, spellings

REDACTED = "redacted"
SPELLING = "spelling"  # of numbers that JSON readers would read as other texts
VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")  # the name of a variable is not a secret
UNTRUSTED_VARIABLE = "EVALRUN_UNTRUSTED"
TRUSTED_VALUES = frozenset({"", "0", "false", "no", "off"})
WIDENING = frozenset(
    {
        "allow_env", "allow_hosts", "base_url", "cache", "env_files", "judge", "max_cost", "mlflow", "outputs",
        "settings", "targets",
    }
)  # fmt: skip
"""Options of a stored run by which an untrusted suite could do more than those of the command line allow."""
STEPS = re.compile(r"[^.\[\]\s]+")


def option(
    help: str,
    *flags: str,
    default: Any = None,
    metavar: str | None = None,
    minimum: int | None = None,
    values: tuple[Any, Any] | None = None,
    sets: str | None = None,
    commands: tuple[str, ...] = ("run",),
    stored: bool = True,
    adds: bool = False,
) -> Any:
    """A field of `RunOptions` that is an option of the command line.

    `flags` are its names there (default: the name of the field); `values` are what a pair such as `--cache/--no-cache`
    means; `sets` is the key of the suite that it overrides; `commands` have it, all if there are none. It is `stored`
    in `run.json` for a resume, where new values replace the stored ones, or are added to them (`adds`).
    """
    about = {
        "help": help,
        "flags": flags,
        "metavar": metavar,
        "minimum": minimum,
        "values": values,
        "sets": tuple(sets.split(".")) if sets else None,
        "commands": commands,
        "stored": stored,
        "adds": adds,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run differs from its suite. A field left at its default changes nothing.

    `targets` are names of the suite's targets, or model strings. `where` maps a column to a value. `settings` are
    `key.path=value`, typed as YAML. `outputs` are paths whose extension selects the format. `refresh` ignores cached
    answers. `env_files` are read for `${VAR}` in place of `.env`; without `env_file` no such file is. `resume` names a
    run to continue, and `retry_errors` runs its failed rows again. `failed_from` names a run whose failed samples are
    run again as a new run, without gates. `junit_rows` adds a test for each row to JUnit reports. `mlflow` is the
    address of the tracking server to send the run to, or "" for the one of the suite or the environment;
    `mlflow_required` ends a run that could not be sent with exit code 3. `wait_scale` is real seconds per second of
    waiting between calls; tests of your suites pass less than 1.
    """

    targets: tuple[str, ...] = option(
        "Only this target, or this model. Repeatable.",
        "--target",
        "-t",
        default=(),
        metavar="NAME|MODEL",
        commands=("run", "plan"),
    )
    base_url: str | None = option(
        "Base URL of the targets (OpenAI-compatible).", metavar="URL", commands=("run", "plan")
    )
    judge: str | None = option("Model of the judge.", metavar="MODEL", sets="judge", commands=("run", "plan", "score"))
    limit: int | None = option(
        "Maximum samples to run.", metavar="N", minimum=1, sets="dataset.limit", commands=("run", "plan")
    )
    offset: int | None = option(
        "Samples to leave out at the start.", metavar="N", minimum=0, sets="dataset.offset", commands=("run", "plan")
    )
    sample: int | None = option(
        "Size of a random sample.", metavar="N", minimum=1, sets="dataset.sample", commands=("run", "plan")
    )
    shard: str | None = option("Only this part of the samples, such as 2/8.", metavar="I/N", commands=("run", "plan"))
    rows: tuple[str, ...] = option(
        "Only the samples with these ids. Repeatable.", default=(), metavar="ID,ID", commands=("run", "plan"), adds=True
    )
    where: Mapping[str, Any] | None = option(
        "Only samples with this value (or !=, <, >). Repeatable.",
        metavar="COLUMN=VALUE",
        sets="dataset.where",
        commands=("run", "plan"),
        adds=True,
    )
    epochs: int | None = option(
        "Times to run each sample.", metavar="N", minimum=1, sets="run.epochs", commands=("run", "plan")
    )
    concurrency: int | Literal["auto"] | None = option(
        "Maximum in-flight requests, or auto.",
        "--concurrency",
        "-j",
        metavar="N|auto",
        sets="run.concurrency",
        commands=("run", "score"),
    )
    retries: int | None = option("Retries for transient failures.", metavar="N", minimum=0, sets="run.retries")
    timeout: float | None = option("Timeout of one call.", metavar="SECONDS", sets="run.timeout")
    max_cost: float | None = option(
        "Maximum cost of the run, judges included.", metavar="USD", sets="run.max_cost", commands=("run", "plan")
    )
    fail_on_error: str | int | None = option(
        "Abort after N (or P%) failed rows.", metavar="N|P%", sets="run.fail_on_error"
    )
    cache: Literal["judges", "all", "off"] | None = option(
        "Cache all answers, or none. Default: judge answers only.",
        "--cache/--no-cache",
        values=("all", "off"),
        commands=("run", "plan"),
    )
    refresh: bool = option(
        "Ignore cached answers, but cache the new ones.", default=False, commands=("run", "plan"), stored=False
    )
    env_files: Sequence[str | Path] = option(
        "Read ${VAR} from PATH, not from .env. Repeatable.",
        "--env-file",
        default=(),
        metavar="PATH",
        commands=("run", "plan", "validate", "score", "gate", "merge"),
    )
    env_file: bool = option(
        "Do not read .env files.",
        "--no-env-file",
        default=True,
        commands=("run", "plan", "validate", "score", "gate", "merge"),
    )
    untrusted: bool = option(
        "Restrict a suite that you do not trust.",
        default=False,
        commands=("run", "plan", "validate", "score", "gate", "merge"),
    )
    allow_env: tuple[str, ...] = option(
        "Let an untrusted suite read this variable. Repeatable.",
        "--allow-env",
        default=(),
        metavar="NAME",
        commands=("run", "plan", "validate", "score", "gate", "merge"),
        adds=True,
    )
    allow_hosts: tuple[str, ...] = option(
        "Contact only this host. Repeatable.",
        "--allow-host",
        default=(),
        metavar="HOST",
        commands=("run", "plan", "validate", "score"),
        adds=True,
    )
    resume: str | None = option("Resume a run: its id, prefix, path, or last.", metavar="RUN", stored=False)
    retry_errors: bool = option("With --resume: retry rows that failed.", default=False, stored=False)
    failed_from: str | None = option("Only samples with a failed row in this run.", metavar="RUN")
    wait_scale: float = field(default=1.0)
    seed: int | None = option("Random seed.", metavar="N", sets="run.seed")
    settings: tuple[str, ...] = option(
        "Set a key of the suite, as YAML. Repeatable.",
        "--set",
        default=(),
        metavar="KEY.PATH=VALUE",
        commands=("run", "plan", "score", "gate", "merge"),
        adds=True,
    )
    outputs: tuple[str, ...] = option(
        "Also write PATH; its extension selects the format. Repeatable.",
        "--output",
        "-o",
        default=(),
        metavar="PATH",
        commands=("run", "score", "merge"),
        adds=True,
    )
    junit_rows: bool = option("Add the rows to JUnit reports.", default=False, commands=("run", "score"))
    mlflow: str | None = option(
        "Send the run to MLflow, at URI if given.",
        metavar="[URI]",
        sets="tracking.mlflow.uri",
        commands=("run", "track"),
    )
    mlflow_required: bool = option("Exit with code 3 if MLflow fails.", default=False)
    gates: bool = option("Measure only; no verdict.", "--no-gates", default=True, commands=("run", "score", "merge"))
    debug: bool = option("Print requests and responses to stderr, keys redacted.", default=False, stored=False)
    output_dir: Path = option("Folder of the runs.", default=Path("runs"), metavar="DIR", commands=(), stored=False)

    def __post_init__(self) -> None:
        """Restrict every suite where the environment says so, such as that of a CI job."""
        if os.environ.get(UNTRUSTED_VARIABLE, "").strip().lower() not in TRUSTED_VALUES:
            object.__setattr__(self, "untrusted", True)


def options_of(command: str) -> list[dataclasses.Field[Any]]:
    """The fields of `RunOptions` that are options of a command."""
    declared = [item for item in dataclasses.fields(RunOptions) if "help" in item.metadata]
    return [item for item in declared if command in (item.metadata["commands"] or (command,))]


def flag_of(item: dataclasses.Field[Any]) -> str:
    """The name of an option on the command line, such as `--max-cost`."""
    flags = item.metadata.get("flags") or (f"--{item.name.replace('_', '-')}",)
    name: str = flags[0].partition("/")[0]
    return name


def is_stored(item: dataclasses.Field[Any]) -> bool:
    """Whether `run.json` keeps the option for a resume."""
    return bool(item.metadata.get("stored"))


def options_data(options: RunOptions) -> dict[str, Any]:
    """The options of a run that differ from their defaults, as JSON data for its `run.json`.

    Options that may hold a secret are left out and named under `redacted`: a resume has to pass them again.
    """
    data: dict[str, Any] = {}
    redacted: list[str] = []
    spelling: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        if not is_stored(item) or value == item.default:
            continue
        if item.name == "settings":
            redacted += [_setting_flag(setting) for setting in value if _holds_secret(setting)]
            value = [setting for setting in value if not _holds_secret(setting)]
        elif isinstance(value, str) and _is_secret(value):
            redacted.append(flag_of(item))
            continue
        data[item.name] = json.loads(exact_json(value, default=str))
        if (texts := spellings(value)) is not None:
            spelling[item.name] = texts
    if spelling:
        data[SPELLING] = spelling
    return {**data, REDACTED: redacted} if redacted else data


def options_from(data: Mapping[str, Any]) -> RunOptions:
    """The options in what `options_data` returned. Raises SuiteError for unknown ones."""
    known = {item.name for item in dataclasses.fields(RunOptions) if is_stored(item)}
    unknown = sorted(set(data) - known - {REDACTED, SPELLING})
    if unknown:
        raise SuiteError(f"run.json: options.{unknown[0]} is not an option of this version of evalrun")
    spelling = data.get(SPELLING, EMPTY)
    data = {name: respell(value, spelling.get(name)) for name, value in data.items() if name in known}
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return RunOptions(**fields)


def merge_options(stored: RunOptions, given: RunOptions) -> RunOptions:
    """The options of a resume: those given now over those the run was started with.

    Conditions, settings and outputs are added to the stored ones, the newer last, where they win. Options given at
    their default keep the stored value, unless a setting given now removes the same key: `dataset.limit=null`.
    """
    changes: dict[str, Any] = {}
    pairs = [setting.partition("=") for setting in given.settings]
    removed = {name.strip() for name, _, value in pairs if value.strip() == "null"}
    for item in dataclasses.fields(RunOptions):
        old, new = getattr(stored, item.name), getattr(given, item.name)
        if not is_stored(item):
            continue
        if ".".join(item.metadata["sets"] or ()) in removed:
            old = item.default
        if not item.metadata["adds"]:
            changes[item.name] = old if new == item.default else new
        elif isinstance(item.default, tuple):
            changes[item.name] = (*(value for value in old if value not in new), *new)
        else:
            changes[item.name] = {**(old or {}), **(new or {})} or None
    if given.env_files or not given.env_file:  # each replaces the other
        changes.update(env_files=given.env_files, env_file=given.env_file)
    return dataclasses.replace(given, **changes)


def with_trust_of(stored: Mapping[str, Any], options: RunOptions) -> RunOptions:
    """The options of a command on a stored run: what an untrusted suite may use stays as it was."""
    if not stored.get("untrusted"):
        return options
    variables = dict.fromkeys((*options.allow_env, *stored.get("allow_env", ())))
    hosts = dict.fromkeys((*options.allow_hosts, *stored.get("allow_hosts", ())))
    return dataclasses.replace(options, untrusted=True, allow_env=tuple(variables), allow_hosts=tuple(hosts))


def require_own_options(stored: RunOptions, given: RunOptions) -> None:
    """None, if every option of a run that could widen what an untrusted suite may do is given again. Raises SuiteError.

    With `--untrusted` the folder of the run may come from a stranger, too.
    """
    missing = []
    for item in dataclasses.fields(stored):
        old, new = getattr(stored, item.name), getattr(given, item.name)
        if item.name not in WIDENING or old == item.default:
            continue
        if not (set(old) <= set(new) if isinstance(old, tuple) else old == new):
            missing.append(flag_of(item))
    if missing:
        raise SuiteError(
            f"the run was started with {listed(missing, 'and')}; with --untrusted its folder is not trusted, so pass "
            f"{'them' if len(missing) > 1 else 'it'} again"
        )


def require_redacted_options(data: Mapping[str, Any], given: RunOptions) -> None:
    """None, if every option that `options_data` redacted is given again. Raises SuiteError that names the others."""
    again = {_setting_flag(setting) for setting in given.settings}
    again |= {flag_of(item) for item in dataclasses.fields(given) if getattr(given, item.name) != item.default}
    missing = [flag for flag in data.get(REDACTED, ()) if flag not in again]
    if missing:
        several = len(missing) > 1
        raise SuiteError(
            f"the run was started with {' and '.join(missing)}, whose value{'s are' if several else ' is'} not stored; "
            f"pass {'them' if several else 'it'} again"
        )


def _setting_flag(setting: str) -> str:
    return f"--set {redact(setting.partition('=')[0].strip())}"


def _holds_secret(setting: str) -> bool:
    """Whether a setting may hold a secret: by the name of any of its steps, or by its value."""
    name, _, value = setting.partition("=")
    if VARIABLE.fullmatch(value.strip()):
        return False
    return any(map(may_be_secret, STEPS.findall(name))) or _is_secret(value) or _has_secret_name(value)


def _has_secret_name(value: str) -> bool:
    """Whether a value that is a mapping, written as YAML or JSON, has the name of a secret in it."""
    return any(map(may_be_secret, re.findall(r"([\w-]+)[\"']?\s*:", value)))


def _is_secret(value: str) -> bool:
    return LOGIN.search(value) is not None or redact(value) != value
